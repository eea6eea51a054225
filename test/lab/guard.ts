/**
 * The lab's guard: a process beside the test that waits for the test to end, in whatever way (an exit, a signal,
 * kill -9), and then removes the lab, if the test has not done so.
 *
 *     node guard.js NUMBER      with standard input held open by the test
 */
import { Remains, remove } from "./clean.ts";

const remains = new Remains(Number(process.argv[2]));
process.stdin.resume().once("close", () => void remove(remains));
