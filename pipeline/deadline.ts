/**
 * What a promise comes to, if it does in time. What it stands for is not ended: nobody hears of it any more.
 * @param ms milliseconds
 * @param late makes the error for one that takes longer
 * @throws what the promise is rejected with, or that error
 */
export async function inTime<T>(
	promise: PromiseLike<T>,
	ms: number,
	late: () => Error,
): Promise<T> {
	let timer: NodeJS.Timeout | undefined;
	const over = new Promise<never>((_, reject) => {
		timer = setTimeout(() => reject(late()), ms);
	});
	try {
		return await Promise.race([promise, over]);
	} finally {
		clearTimeout(timer);
	}
}
