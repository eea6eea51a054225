import test from "ava";
import fc from "fast-check";
import { stringify } from "../../pipeline/json.ts";

const MAX = "9223372036854775807";

for (const [what, text] of [
	["the largest of 64 bits", `{"Hard":${MAX},"Soft":${MAX}}`],
	["the smallest", '{"a":[-9223372036854775808,1]}'],
	["the largest without a sign", '{"Rate":18446744073709551615}'],
	["two that JavaScript takes for one", `[9223372036854775806,${MAX}]`],
	["what is no number", `{"${MAX}":"${MAX}","a":"\\"${MAX}\\\\"}`],
	["what JavaScript can hold", "[9007199254740991,0.1234567890123456,1e+21]"],
] as const) {
	test(`integers of 64 bits stay what they were: ${what}`, (t) => {
		t.is(stringify(JSON.parse(text), text), text);
	});
}

test("what was taken out, put in or moved does not change that", (t) => {
	const text = `{"a":9007199254740993,"b":{"c":${MAX}},"d":1}`;
	const { b, d } = JSON.parse(text);
	t.is(stringify({ d, new: 2, b }, text), `{"d":1,"new":2,"b":{"c":${MAX}}}`);
});

test("without the text it is one that Docker takes", (t) => {
	t.is(stringify(JSON.parse(`[${MAX}]`)), `[${MAX}]`);
	t.is(stringify([2 ** 64]), "[18446744073709551615]");
	t.is(stringify([2 ** 60 + 2 ** 9]), `[${2n ** 60n + 2n ** 9n}]`);
});

test("of anything else it is what JSON.stringify makes", (t) => {
	fc.assert(
		fc.property(fc.json(), (text) => {
			const value = JSON.parse(text);
			return (
				JSON.stringify(JSON.parse(stringify(value, text))) ===
				JSON.stringify(value)
			);
		}),
	);
	t.pass();
});
