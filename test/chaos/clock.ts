/**
 * Loaded into a process of arpanet before all else (`node --import`): with each SIGUSR2 its time of day jumps, to an hour ahead
 * of the machine's and to an hour behind in turn.
 */
const HOUR_MS = 3_600_000;
const MachineDate = Date;
let shift = 0;

class JumpingDate extends MachineDate {
	constructor(...args: [] | [value: number | string | Date]) {
		if (args.length === 0) super(JumpingDate.now());
		else super(...args);
	}

	static override now(): number {
		return MachineDate.now() + shift;
	}
}

globalThis.Date = JumpingDate as DateConstructor;
process.on("SIGUSR2", () => {
	shift = shift > 0 ? -HOUR_MS : HOUR_MS;
});
