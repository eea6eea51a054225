import type { OnReadOpts, Socket } from "node:net";

/** Bytes that one read may bring. */
const SIZE = 64 * 1024;
/** A read that brings less than this was woken for little. */
const SMALL = 8 * 1024;
/** So many small reads in a row are a stream, not a conversation. */
const BURST = 8;
/** Milliseconds that a stream of small pieces is left to gather. */
const REST_MS = 1;
/** If so many bytes have gathered, the engine had to wait for us: a socket holds hardly more. */
const FULL = 64 * 1024;
/** Then so many more small reads are needed before the next rest: it may be large pieces, each with a small one for its framing. */
const PATIENCE = 32;
/** Bytes that come so soon after a read, in milliseconds, belong to the same burst. */
const SOON_MS = 0.5;

/** What has become of the bytes that were handed out. */
export type Fate =
	/** They are written; their memory may be read into again. */
	| "written"
	/** They wait to be written, and will be when the receiver has drained. */
	| "waiting"
	/** They are needed for as long as anyone likes. */
	| "kept";

/**
 * What an engine's connection brings. Memory is used again from read to read, and a stream that
 * comes in small pieces, as logs do, is read a thousand times a second rather than once per line:
 * each read wakes two processes and costs more than its bytes.
 */
export class Inflow {
	readonly #take: (chunk: Buffer) => Fate;
	#socket: Socket | undefined;
	#bytes: Buffer = Buffer.allocUnsafeSlow(SIZE);
	#waiting: Buffer[] = [];
	#free: Buffer[] = [];
	#fate: Fate = "written";
	/** Another receiver is next, since the last bytes came. */
	#renewed = false;
	#held = false;
	#resting: NodeJS.Timeout | undefined;
	#small = 0;
	/** Bytes since it was last decided whether to rest. */
	#gathered = 0;
	#last = 0;

	/** @param take gets what came, and says what became of it */
	constructor(take: (chunk: Buffer) => Fate) {
		this.#take = take;
	}

	/** For the socket's `onread`. */
	get onread(): OnReadOpts {
		return {
			buffer: () => this.#next(),
			callback: (size, buffer) => {
				this.#renewed = false;
				const fate = this.#take((buffer as Buffer).subarray(0, size));
				// nobody will tell when the last receiver has it
				this.#fate = this.#renewed && fate === "waiting" ? "kept" : fate;
				this.#pace(size);
				return true;
			},
		};
	}

	/** @param socket that was made with `onread` */
	attach(socket: Socket): void {
		this.#socket = socket;
		socket.once("close", () => clearTimeout(this.#resting));
	}

	/** Brings no more until one of the following. */
	pause(): void {
		this.#held = true;
		this.#socket?.pause();
	}

	/** All that was handed out before is written. */
	written(): void {
		this.#free.push(...this.#waiting.splice(0));
	}

	/** The same, and more may come. */
	drained(): void {
		this.written();
		this.resume();
	}

	resume(): void {
		this.#held = false;
		if (!this.#resting) this.#socket?.resume();
	}

	/** Another receiver is next: what waits for the last one's is not waited for, and short answers in a row are no stream. */
	renew(): void {
		this.#renewed = true;
		this.#waiting = [];
		this.#free = [];
		this.#small = 0;
		this.#gathered = 0;
		this.resume();
	}

	/** What the next read reads into. */
	#next(): Buffer {
		if (this.#fate === "written") this.written();
		else {
			if (this.#fate === "waiting") this.#waiting.push(this.#bytes);
			this.#bytes = this.#free.pop() ?? Buffer.allocUnsafeSlow(SIZE);
		}
		this.#fate = "written";
		return this.#bytes;
	}

	#pace(size: number): void {
		const now = performance.now();
		const soon = now - this.#last < SOON_MS;
		this.#last = now;
		if (!soon) this.#small = 0;
		else if (size < SMALL) this.#small++;
		this.#gathered += size;
		if (this.#small < BURST || size === SIZE || this.#resting) return;
		if (this.#gathered >= FULL) this.#small = -PATIENCE;
		this.#gathered = 0;
		if (this.#small < 0) return;
		this.#socket?.pause();
		this.#resting = setTimeout(() => {
			this.#resting = undefined;
			this.#last = performance.now();
			if (!this.#held) this.#socket?.resume();
		}, REST_MS);
	}
}
