/** `State` in the answer of `GET /containers/{id}/json`, as far as the words of a list depend on it. */
export interface State {
	Status: string;
	Running: boolean;
	Paused: boolean;
	Restarting: boolean;
	Dead: boolean;
	ExitCode: number;
	StartedAt: string;
	FinishedAt: string;
	Health?: { Status: string } | null;
}

/** What `Status` says of a container, less the time: `before` it and `after` it. `since`: milliseconds; none where no time is told. */
export interface Wording {
	before: string;
	since: number | undefined;
	after: string;
}

/** Go's zero time: it never happened. */
const NEVER = "0001-01-01T00:00:00Z";

/** What the engine's State.String() says of a container (moby, container/state.go). */
export function wordingOf(state: State): Wording {
	const started = Date.parse(state.StartedAt);
	const finished = Date.parse(state.FinishedAt);
	if (state.Running) {
		if (state.Paused) {
			return { before: "Up ", since: started, after: " (Paused)" };
		}
		if (state.Restarting) {
			return {
				before: `Restarting (${state.ExitCode}) `,
				since: finished,
				after: " ago",
			};
		}
		const health = state.Health?.Status;
		const words = health === "starting" ? "health: starting" : health;
		return { before: "Up ", since: started, after: words ? ` (${words})` : "" };
	}
	if (state.Status === "removing") return timeless("Removal In Progress");
	if (state.Dead) return timeless("Dead");
	if (state.StartedAt === NEVER) return timeless("Created");
	if (state.FinishedAt === NEVER) return timeless("");
	return {
		before: `Exited (${state.ExitCode}) `,
		since: finished,
		after: " ago",
	};
}

/** Words that stay as they are. */
export function timeless(words: string): Wording {
	return { before: words, since: undefined, after: "" };
}

/** @param now milliseconds, by the engine's clock */
export function statusAt(
	{ before, since, after }: Wording,
	now: number,
): string {
	if (since === undefined) return before;
	return before + humanDuration(now - since) + after;
}

/** How Docker says a time in words: go-units, HumanDuration. */
export function humanDuration(milliseconds: number): string {
	const seconds = Math.trunc(milliseconds / 1000);
	if (seconds < 1) return "Less than a second";
	if (seconds === 1) return "1 second";
	if (seconds < 60) return `${seconds} seconds`;
	const minutes = Math.floor(seconds / 60);
	if (minutes === 1) return "About a minute";
	if (minutes < 60) return `${minutes} minutes`;
	const hours = Math.floor(milliseconds / 3_600_000 + 0.5);
	if (hours === 1) return "About an hour";
	if (hours < 48) return `${hours} hours`;
	if (hours < 24 * 7 * 2) return `${Math.floor(hours / 24)} days`;
	if (hours < 24 * 30 * 2) return `${Math.floor(hours / 24 / 7)} weeks`;
	if (hours < 24 * 365 * 2) return `${Math.floor(hours / 24 / 30)} months`;
	return `${Math.floor(Math.floor(seconds / 3600) / 24 / 365)} years`;
}
