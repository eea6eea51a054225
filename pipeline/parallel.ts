/**
 * Does work for each item, so many at once, the last item first.
 * @throws the first error; work that is under way goes on, and so does what others have left to do
 */
export async function inParallel<T>(
	items: readonly T[],
	atOnce: number,
	work: (item: T) => Promise<void>,
): Promise<void> {
	const left = [...items];
	const worker = async () => {
		while (left.length > 0) await work(left.pop() as T);
	};
	await Promise.all(Array.from({ length: atOnce }, worker));
}
