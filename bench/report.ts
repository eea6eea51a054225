/** What shared/performance.md allows, and what was measured against it. */
interface Verdict {
	what: string;
	measured: number;
	limit: number;
	unit: string;
	most: boolean;
	stretch: number | undefined;
}

export interface Budget {
	/** At most so much, or at least. */
	most?: number;
	least?: number;
	stretch?: number;
	/** ` ms`, ` x`. */
	unit?: string;
}

/** Prints figures as they come, and in the end all budgets in one list. */
export class Report {
	readonly #verdicts: Verdict[] = [];

	section(title: string): void {
		console.log(`\n${title}`);
	}

	/** A line of plain text. */
	note(text: string): void {
		console.log(`  ${text}`);
	}

	/** Rows under a head, columns as wide as they need. */
	table(head: string[], rows: (string | number)[][]): void {
		const lines = [head, ...rows.map((row) => row.map(cell))];
		const widths = head.map((_, column) =>
			Math.max(...lines.map((line) => line[column]?.length ?? 0)),
		);
		for (const line of lines) {
			const cells = line.map((text, column) =>
				column === 0
					? text.padEnd(widths[column] ?? 0)
					: text.padStart(widths[column] ?? 0),
			);
			console.log(`  ${cells.join("   ")}`.trimEnd());
		}
	}

	/** Compares a figure with its budget. */
	budget(
		what: string,
		measured: number,
		{ most, least, stretch, unit = "" }: Budget,
	): void {
		const verdict: Verdict = {
			what,
			measured,
			limit: most ?? least ?? Number.NaN,
			unit,
			most: most !== undefined,
			stretch,
		};
		this.#verdicts.push(verdict);
		this.note(`budget: ${inWords(verdict)}`);
	}

	/** All budgets once more, together. */
	summary(): void {
		this.section("Budgets");
		this.table(
			["what", "measured", "budget", ""],
			this.#verdicts.map((verdict) => [
				verdict.what,
				`${figure(verdict.measured)}${verdict.unit}`,
				limitOf(verdict),
				judge(verdict),
			]),
		);
	}
}

/** A figure with as many digits as it can be trusted to have. */
export function figure(value: number): string {
	if (!Number.isFinite(value)) return "–";
	const size = Math.abs(value);
	if (size >= 100 || Number.isInteger(value)) {
		return Math.round(value).toLocaleString("en");
	}
	return value.toFixed(size >= 10 ? 1 : 2);
}

function cell(value: string | number): string {
	return typeof value === "number" ? figure(value) : value;
}

function inWords(verdict: Verdict): string {
	const { what, measured, unit } = verdict;
	return `${what}: ${figure(measured)}${unit} (${limitOf(verdict)}) ${judge(verdict)}`;
}

function limitOf({ most, limit, unit, stretch }: Verdict): string {
	const sign = most ? "<=" : ">=";
	const more =
		stretch === undefined ? "" : `, stretch ${figure(stretch)}${unit}`;
	return `${sign} ${figure(limit)}${unit}${more}`;
}

function judge({ most, measured, limit, stretch }: Verdict): string {
	const holds = (bound: number) =>
		most ? measured <= bound : measured >= bound;
	if (!holds(limit)) return "over";
	return stretch !== undefined && holds(stretch) ? "within stretch" : "within";
}
