import { createHash } from "node:crypto";
import {
	copyFile,
	mkdir,
	mkdtemp,
	readFile,
	rename,
	rm,
	stat,
	symlink,
	writeFile,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { cacheFolder, findBinary, runOk } from "./tools.ts";

/** The images made here, by the names that a Dockerfile or a fig.yml uses. */
export type BaseImage = "busybox" | "redis";

interface Recipe {
	/** Fills an empty folder with one layer's files. */
	layers: ((folder: string) => Promise<void>)[];
	/** The image's own configuration, in Docker's words. */
	config: {
		Cmd: string[];
		Env: string[];
		WorkingDir?: string;
		ExposedPorts?: Record<string, object>;
	};
}

const Env = [
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
];

const recipes: Record<BaseImage, Recipe> = {
	busybox: {
		layers: [busyboxLayer],
		config: { Cmd: ["sh"], Env },
	},
	redis: {
		layers: [busyboxLayer, redisLayer], // with a shell, for `docker exec`
		config: {
			Cmd: [
				"redis-server",
				"--protected-mode",
				"no",
				"--save",
				"",
				"--appendonly",
				"no",
			],
			Env,
			WorkingDir: "/data",
			ExposedPorts: { "6379/tcp": {} },
		},
	},
};

/**
 * Makes a tar that `docker load` takes, out of Debian's own programs: no registry is asked.
 * Made once and kept in `.cache/images`; made again when the programs or the recipes change.
 *
 * @param names the images that it is to hold
 * @returns the tar's path
 */
export async function baseImagesTar(
	names: readonly BaseImage[],
): Promise<string> {
	const wanted = [...new Set(names)].sort();
	const path = join(
		cacheFolder,
		"images",
		`${wanted.join("-")}-${await fingerprint()}.tar`,
	);
	const there = await stat(path).catch(() => undefined);
	if (there) return path;

	await mkdir(dirname(path), { recursive: true });
	const scratch = await mkdtemp(join(dirname(path), "making-"));
	try {
		const tree = join(scratch, "tree");
		await mkdir(tree);
		const manifest = [];
		for (const name of wanted) manifest.push(await writeImage(tree, name));
		await writeFile(join(tree, "manifest.json"), JSON.stringify(manifest));
		await tar(tree, join(scratch, "images.tar"));
		await rename(join(scratch, "images.tar"), path); // whole or not at all: two runs may make it at once
	} finally {
		await rm(scratch, { recursive: true, force: true });
	}
	return path;
}

/** Writes one image's layers and configuration into the tree of a `docker load` tar; gives its manifest entry. */
async function writeImage(tree: string, name: BaseImage) {
	const { layers, config } = recipes[name];
	const digests = [];
	for (const [index, fill] of layers.entries()) {
		const folder = join(tree, `${name}-${index}`);
		await mkdir(folder);
		await fill(folder);
		await tar(folder, `${folder}.tar`);
		await rm(folder, { recursive: true });
		const digest = sha256(await readFile(`${folder}.tar`));
		await rename(`${folder}.tar`, join(tree, `${digest}.tar`)); // a layer that two images share is there once
		digests.push(digest);
	}
	const image = JSON.stringify({
		architecture: process.arch === "x64" ? "amd64" : process.arch,
		os: "linux",
		created: "1970-01-01T00:00:00Z",
		config,
		rootfs: {
			type: "layers",
			diff_ids: digests.map((digest) => `sha256:${digest}`),
		},
		history: digests.map((_, index) => ({
			created: "1970-01-01T00:00:00Z",
			created_by: `${name} layer ${index}`,
		})),
	});
	const file = `${sha256(image)}.json`;
	await writeFile(join(tree, file), image);
	return {
		Config: file,
		RepoTags: [`${name}:latest`],
		Layers: digests.map((digest) => `${digest}.tar`),
	};
}

async function busyboxLayer(folder: string): Promise<void> {
	const busybox = findBinary("busybox");
	await folders(folder, [
		"bin",
		"etc",
		"root",
		"usr/bin",
		"usr/sbin",
		"var/run",
		"var/log",
	]);
	await mkdir(join(folder, "tmp"));
	await copyFile(busybox, join(folder, "bin/busybox"));
	const applets = (await runOk(busybox, ["--list"]))
		.split("\n")
		.filter((name) => name && name !== "busybox");
	await Promise.all(
		applets.map((name) => symlink("busybox", join(folder, "bin", name))),
	);
	await writeFile(
		join(folder, "etc/passwd"),
		"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
	);
	await writeFile(join(folder, "etc/group"), "root:x:0:\nnogroup:x:65534:\n");
	await runOk("chmod", ["1777", join(folder, "tmp")]);
}

async function redisLayer(folder: string): Promise<void> {
	const unpacked = join(cacheFolder, "redis");
	const libraries = await runOk("find", [
		join(unpacked, "usr/lib"),
		"-maxdepth",
		"1",
		"-name",
		"*-linux-*",
	]);
	const env = { ...process.env, LD_LIBRARY_PATH: libraries.trim() };
	await folders(folder, ["usr/bin", "data"]);
	for (const name of ["redis-server", "redis-cli"]) {
		const program = join(unpacked, "usr/bin", name);
		await copyFile(program, join(folder, "usr/bin", name)); // follows the link to redis-check-rdb
		const needed = await runOk("ldd", [program], { env });
		if (needed.includes("not found"))
			throw new Error(`redis image: ${program} lacks libraries\n${needed}`);
		for (const [, library = ""] of needed.matchAll(/(\/\S+) \(0x/g)) {
			// to where the loader inside the image looks for it
			const target = join(
				folder,
				library.startsWith(unpacked) ? library.slice(unpacked.length) : library,
			);
			await mkdir(dirname(target), { recursive: true });
			await copyFile(library, target);
		}
	}
}

/** Changes whenever an image would: with the recipes and with the programs put in. */
async function fingerprint(): Promise<string> {
	const files = [
		findBinary("busybox"),
		join(cacheFolder, "redis/usr/bin/redis-server"),
	];
	const parts = [];
	for (const file of files) {
		const found = await stat(file).catch(() => undefined);
		if (!found)
			throw new Error(`${file} is missing: run "bash scripts/setup.sh"`);
		parts.push([found.size, found.mtimeMs]);
	}
	return sha256(
		JSON.stringify([
			recipes,
			busyboxLayer.toString(),
			redisLayer.toString(),
			parts,
		]),
	).slice(0, 12);
}

/** Packs a folder's content: same content, same bytes, whoever packs it and when. */
async function tar(folder: string, into: string): Promise<void> {
	await runOk("tar", [
		"-C",
		folder,
		"--sort=name",
		"--mtime=@0",
		"--owner=0",
		"--group=0",
		"--numeric-owner",
		"-cf",
		into,
		".",
	]);
}

async function folders(root: string, paths: readonly string[]): Promise<void> {
	for (const path of paths) await mkdir(join(root, path), { recursive: true });
}

function sha256(data: string | Uint8Array): string {
	return createHash("sha256").update(data).digest("hex");
}
