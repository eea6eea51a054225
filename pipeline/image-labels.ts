import { LABEL_PREFIX, withoutForged } from "./facts.ts";

interface ImageInspect {
	Config?: { Labels?: Record<string, string> | null } | null;
}

/** No two containers that went through the chain have the same. */
const MADE = `${LABEL_PREFIX}made`;

/**
 * What an engine's images say of arpanet. Docker gives a container the labels of its image, too, be that made of a container, or by
 * somebody who would have his containers taken for others'.
 */
export class ImageLabels {
	readonly #inspect: (
		image: string,
		timeout?: number,
	) => Promise<{ status: number; text: string }>;
	/** By the image's id, what `#madeBy` gives. */
	readonly #known = new Map<string, Promise<string | undefined>>();

	/** @param inspect asks the engine for an image's inspect, and gives its answer whatever it is */
	constructor(
		inspect: (
			image: string,
			timeout?: number,
		) => Promise<{ status: number; text: string }>,
	) {
		this.#inspect = inspect;
	}

	/**
	 * A container's labels without those of arpanet's own that it has from its image alone: what went through the chain says itself when it was made.
	 * @param image its id
	 * @param timeout milliseconds without a byte
	 */
	async without(
		labels: Record<string, string>,
		image: string | undefined,
		timeout?: number,
	): Promise<Record<string, string>> {
		const others = withoutForged({ Labels: labels })?.Labels;
		if (!others || !image) return labels;
		const said = await this.#madeBy(image, timeout);
		return said === (labels[MADE] ?? "") ? others : labels;
	}

	/**
	 * What an image, which never changes, says of when a container was made; undefined for one that says nothing of arpanet's. One that is
	 * not there any more, or has lost its layers, says nothing: its containers live on, and a look at all of them must not end with it.
	 */
	#madeBy(image: string, timeout?: number): Promise<string | undefined> {
		const known = this.#known.get(image);
		if (known) return known;
		const asking = async () => {
			const { status, text } = await this.#inspect(image, timeout);
			if (status !== 200) {
				this.#known.delete(image);
				return undefined;
			}
			const Labels = (JSON.parse(text) as ImageInspect).Config?.Labels ?? {};
			return withoutForged({ Labels }) && (Labels[MADE] ?? "");
		};
		const saying = asking();
		this.#known.set(image, saying);
		saying.catch(() => this.#known.delete(image));
		return saying;
	}
}
