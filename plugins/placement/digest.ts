import type { ContainerCreate } from "../../pipeline/docker.ts";
import type { Services } from "../../pipeline/plugin.ts";

/**
 * Names an image that the client pins by its digest (`redis@sha256:…`) by its id, if its container goes where the image was not
 * pulled: a digest is not among what `docker save` carries there.
 */
export async function nameById(
	body: ContainerCreate,
	host: string,
	{ cluster }: Services,
): Promise<void> {
	const { Image } = body;
	if (cluster.alone || typeof Image !== "string" || !Image.includes("@")) {
		return;
	}
	const answers = await cluster.answers(`/images/${Image}/json`);
	const known = answers.filter(({ answer }) => answer !== undefined);
	if (known.some((each) => each.host === host)) return;
	const [first] = known;
	if (first) body.Image = (first.answer as { Id: string }).Id;
}
