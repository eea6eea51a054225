/**
 * docker-compose 1.29's tests once more, on three hosts: each command goes through any of their gateways. Without `ALL_TESTS=1` the
 * most telling ones alone.
 */
process.env.STAGE_HOSTS = "3";
await import("./compose1.test.ts");

export {};
