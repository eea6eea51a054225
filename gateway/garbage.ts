/**
 * Bytes that may be read before their memory is collected. V8 counts what is not collected yet, and what the collection
 * before this one has not freed yet, against a limit that a small heap has 16 MB above what it needs; a quarter of that is safe.
 */
const YOUNG = 2 * 2 ** 20;

let read = 0;

/**
 * Tells of bytes that a client has sent and that nobody needs once they are written. Node reads each piece into memory
 * of its own; V8 counts that against the whole heap and, when it is over the heap's limit, walks all that lives to find it,
 * which took three quarters of the processor time of an upload. A look at what is young finds the same.
 * It is there only under `--expose-gc`, with which the arpanet command runs itself.
 */
export function readAndWritten(bytes: number): void {
	read += bytes;
	if (read < YOUNG) return;
	read = 0;
	globalThis.gc?.({ type: "minor", execution: "sync" });
}
