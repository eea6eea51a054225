/**
 * The docker CLI's tests once more, on three hosts: each command goes through any of their gateways.
 */
process.env.STAGE_HOSTS = "3";
await import("./docker-cli.test.ts");

export {};
