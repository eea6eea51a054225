import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import { stringify } from "yaml";
import {
	projectRoot,
	type Result,
	type RunOptions,
	run,
} from "../../examples/images/tools.ts";
import { arpanetProgram } from "../lab/arpanet.ts";

/** Runs the `arpanet` command to its end on this machine, in a folder without a powerstrip.yml unless told. */
export function arpanet(
	args: readonly string[],
	options: RunOptions = {},
): Promise<Result> {
	return run(process.execPath, [arpanetProgram, ...args], {
		cwd: tmpdir(),
		...options,
	});
}

/** Folder of the plugins that are there to be copied. */
export const samples = join(projectRoot, "examples/plugins");

/**
 * A folder with a powerstrip.yml, the sample package installed beside it, and the files that a
 * test wants there. It goes with the test.
 * @param arpanetSection what stands under `arpanet:`
 * @returns path of the powerstrip.yml
 */
export async function configured(
	t: ExecutionContext,
	arpanetSection: object,
	files: Record<string, string> = {},
): Promise<string> {
	const folder = await mkdtemp(join(tmpdir(), "arpanet-cli-"));
	t.teardown(() => rm(folder, { recursive: true }));
	await installSample(folder);
	for (const [name, text] of Object.entries(files)) {
		await writeFile(join(folder, name), text);
	}
	const file = join(folder, "powerstrip.yml");
	const config = { endpoints: {}, adapters: {}, arpanet: arpanetSection };
	await writeFile(file, stringify(config));
	return file;
}

/** What `npm install` of the sample package would do in a folder. */
export async function installSample(folder: string): Promise<void> {
	await mkdir(join(folder, "node_modules"), { recursive: true });
	const name = "arpanet-plugin-quiet-hosts";
	await symlink(join(samples, name), join(folder, "node_modules", name));
}
