import { whoHas } from "../../pipeline/answers.ts";
import { type ContainerCreate, imagePath } from "../../pipeline/docker.ts";
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
	const path = imagePath(Image);
	const [own] = await cluster.answers(path, [host]);
	if (own?.answer !== undefined) return;
	const [known] = whoHas(await cluster.answers<{ Id: string }>(path));
	if (known) body.Image = known.answer.Id;
}
