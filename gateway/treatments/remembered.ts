import type { Listed } from "../view/host-view.ts";
import { matches } from "./query.ts";

/** A row of the list, as far as filters ask of it. */
interface Remembered {
	Id: string;
	Names: string[];
	Image: string;
	ImageID: string;
	NetworkSettings?: { Networks?: Record<string, { NetworkID?: string }> };
	Mounts?: { Name?: string; Destination?: string }[];
}

/** What filters of the engine's own ask of a container. */
const FILTERS: Record<string, (row: Remembered, values: string[]) => boolean> =
	{
		id: ({ Id }, values) => matches(Id, values),
		name: ({ Names }, values) =>
			Names.some(
				(name) => matches(name, values) || matches(name.slice(1), values),
			),
		ancestor: ({ Image, ImageID }, values) =>
			[Image, ImageID].some((image) => values.includes(image)),
		network: ({ NetworkSettings }, values) =>
			Object.entries(NetworkSettings?.Networks ?? {}).some(
				([name, { NetworkID = "" }]) =>
					values.includes(name) || values.includes(NetworkID),
			),
		volume: ({ Mounts }, values) =>
			(Mounts ?? []).some(({ Name = "", Destination = "" }) =>
				[Name, Destination].some((each) => values.includes(each)),
			),
	};

/** Whether a silent host's container passes the filters that its engine would apply; one that is not in FILTERS passes none. */
export function isMeant(
	{ head, tail }: Listed,
	filters: Record<string, string[]>,
): boolean {
	const row = JSON.parse(`${head}${tail}`) as Remembered;
	return Object.entries(filters).every(([key, values]) =>
		Object.hasOwn(FILTERS, key) ? FILTERS[key]?.(row, values) : false,
	);
}
