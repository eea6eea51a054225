import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { inTime } from "../../pipeline/deadline.ts";

const late = () => new Error("late");

test("what comes in time is what it is", async (t) => {
	t.is(await inTime(Promise.resolve(7), 1_000, late), 7);
	const failing = Promise.reject(new Error("its own"));
	await t.throwsAsync(inTime(failing, 1_000, late), { message: "its own" });
});

test("what takes too long is an error, and may still fail later", async (t) => {
	const failing = sleep(40).then(() => Promise.reject(new Error("its own")));
	await t.throwsAsync(inTime(failing, 20, late), { message: "late" });
	await t.throwsAsync(failing, { message: "its own" });
});

test("what comes in time leaves no timer behind", async (t) => {
	let made = 0;
	const count = () => {
		made++;
		return late();
	};
	await inTime(Promise.resolve(), 20, count);
	await sleep(40);
	t.is(made, 0);
});
