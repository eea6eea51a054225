import { CHUNKED, Malformed, UNTIL_CLOSE } from "./http1.ts";

const DATA = 0;
const DATA_CR = 1;
const DATA_LF = 2;
const SIZE = 3;
const EXTENSION = 4;
const SIZE_LF = 5;
const TRAILER_START = 6;
const TRAILER = 7;
const TRAILER_LF = 8;
const FINAL_LF = 9;

const CR = 13;
const LF = 10;

/** Most bytes of chunk extension or trailers, which nobody sends. */
const MAX_OVERHEAD = 16_384;

/** Follows a body through the pieces it comes in, and tells where it ends. */
export class BodyReader {
	done: boolean;
	#state: number;
	#left: number;
	#digits = 0;
	#overhead = 0;
	readonly #chunked: boolean;

	/** @param length bytes, `CHUNKED` or `UNTIL_CLOSE` */
	constructor(length: number) {
		this.done = length === 0;
		this.#chunked = length === CHUNKED;
		this.#state = this.#chunked ? SIZE : DATA;
		this.#left = length === UNTIL_CLOSE ? Number.POSITIVE_INFINITY : length;
		if (this.#chunked) this.#left = 0;
	}

	/**
	 * @param from where in `bytes` the body goes on
	 * @param payload gets the body's own bytes, without chunk framing (not copied)
	 * @returns the index just after the last byte that belongs to this body
	 * @throws Malformed bad chunk framing
	 */
	read(bytes: Buffer, from: number, payload?: Buffer[]): number {
		let at = from;
		while (at < bytes.length && !this.done) {
			if (this.#state !== DATA) {
				this.#framing(bytes[at++] as number);
				continue;
			}
			const end = Math.min(bytes.length, at + this.#left);
			payload?.push(bytes.subarray(at, end));
			this.#left -= end - at;
			at = end;
			if (this.#left > 0) break;
			if (this.#chunked) this.#state = DATA_CR;
			else this.done = true;
		}
		return at;
	}

	#framing(byte: number): void {
		switch (this.#state) {
			case SIZE: {
				const digit = hexDigit(byte);
				if (digit >= 0) {
					this.#left = this.#left * 16 + digit;
					if (++this.#digits > 12) throw new Malformed("a chunk is too large");
				} else if (this.#digits === 0) {
					throw new Malformed("a chunk has no size");
				} else if (byte === CR) this.#state = SIZE_LF;
				else if (byte === 0x3b || byte === 0x20 || byte === 0x09) {
					this.#state = EXTENSION;
				} else throw new Malformed("a chunk's size is not hexadecimal");
				return;
			}
			case EXTENSION:
			case TRAILER:
				if (byte === CR) {
					this.#state = this.#state === TRAILER ? TRAILER_LF : SIZE_LF;
				} else this.#count(byte);
				return;
			case SIZE_LF:
				this.#digits = this.#overhead = 0;
				this.#expect(byte, LF, this.#left === 0 ? TRAILER_START : DATA);
				return;
			case DATA_CR:
				this.#expect(byte, CR, DATA_LF);
				return;
			case DATA_LF:
				this.#expect(byte, LF, SIZE);
				return;
			case TRAILER_START:
				if (byte !== CR) this.#count(byte);
				this.#state = byte === CR ? FINAL_LF : TRAILER;
				return;
			case TRAILER_LF:
				this.#expect(byte, LF, TRAILER_START);
				return;
			default:
				this.#expect(byte, LF, DATA);
				this.done = true;
		}
	}

	#expect(byte: number, wanted: number, next: number): void {
		if (byte !== wanted)
			throw new Malformed("a chunk does not end where it says");
		this.#state = next;
	}

	#count(byte: number): void {
		if ((byte < 0x20 && byte !== 0x09) || ++this.#overhead > MAX_OVERHEAD) {
			throw new Malformed("a chunk's extension or trailer is malformed");
		}
	}
}

function hexDigit(byte: number): number {
	if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
	const lower = byte | 0x20;
	return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
