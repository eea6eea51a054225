import {
	type BaseImage,
	baseImagesTar,
} from "../../examples/images/base-images.ts";
import { runOk } from "../../examples/images/tools.ts";
import { dockerCli } from "./clients.ts";

/**
 * Puts the offline base images into a host's engine, in about a second.
 *
 * @param host anything with a `docker` address, such as a lab's host
 */
export async function loadImages(
	host: { docker: string },
	names: readonly BaseImage[] = ["busybox", "redis"],
): Promise<void> {
	await runOk(dockerCli(), [
		"--host",
		host.docker,
		"load",
		"--quiet",
		"--input",
		await baseImagesTar(names),
	]);
}
