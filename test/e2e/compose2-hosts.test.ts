/**
 * Compose v2's tests once more, on three hosts: each command goes through any of their gateways. Without `ALL_TESTS=1` the
 * most telling ones alone.
 */
process.env.STAGE_HOSTS = "3";
await import("./compose2.test.ts");

export {};
