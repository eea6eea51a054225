import test from "ava";
import { startHosts } from "./hosts.ts";

const image = (Id: string, Containers: number) => ({ Id, Containers });

test("the disk usage of all hosts is one, before API 1.52 and since", async (t) => {
	const { route } = await startHosts(t, {
		one: () => ({
			LayersSize: 10,
			Images: [image("a", 1), image("b", 0)],
			Volumes: null,
			ImageUsage: { TotalCount: 2, TotalSize: 10, Items: [image("a", 1)] },
		}),
		two: () => ({
			LayersSize: 5,
			Images: [image("a", 2)],
			Volumes: [{ Name: "data" }],
			ImageUsage: { TotalCount: 1, TotalSize: 5, Items: [image("a", 2)] },
			VolumeUsage: { TotalCount: 1 },
		}),
	});
	t.deepEqual(await route("GET", "/system/df"), {
		LayersSize: 15,
		Images: [image("a", 3), image("b", 0)],
		Volumes: [{ Name: "data" }],
		ImageUsage: {
			...{ TotalCount: 3, TotalSize: 15 },
			Items: [image("a", 1), image("a", 2)],
		},
		VolumeUsage: { TotalCount: 1 },
	});
});

test("disk usage in API 1.53 has no list of images", async (t) => {
	const usage = () => ({ ImageUsage: { TotalCount: 1 } });
	const { route } = await startHosts(t, { one: usage, two: usage });
	t.deepEqual(await route("GET", "/system/df"), {
		ImageUsage: { TotalCount: 2 },
	});
});
