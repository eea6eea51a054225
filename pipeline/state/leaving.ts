/** Kept from just before Docker signals a container until it has stopped: nobody shall register it meanwhile. */
export const LEAVING = "arpanet/leaving/";

/** What stands under `arpanet/leaving/<id>`. */
export interface Leaving {
	host: string;
	/** Milliseconds that the stop may take: if the container still runs then, it is not leaving after all. */
	grace: number;
	/** Docker's time of the start that is about to end: after another start the mark means nothing. */
	startedAt: string;
}
