// The arithmetic of the explorer's and the cohort's pages against values computed by hand.
import assert from "node:assert/strict";
import { test } from "node:test";
import { inner, numbers, points, ramp, rowsOf } from "../../widgets/_plot.js";
import { coded, looks, short, tenth } from "../../widgets/embedding_explorer.js";
import { composition, moment, opening } from "../../widgets/cohort_builder.js";

test("points keep their proportions and fill the plot; no value takes the last colour", () => {
  const made = points([0, 10, 10], [0, 0, 5], [0, -1, 2], 7, 2);
  assert.deepEqual(made.shape, [3, 4]);
  const flat = [...new Float32Array(made.view.buffer)];
  assert.ok(Math.abs(flat[0] + 1.88) < 1e-6 && Math.abs(flat[4] - 1.88) < 1e-6); // 0.94 of a plot twice as wide as high
  assert.ok(Math.abs(flat[9] - flat[1] - 1.88) < 1e-6); // five units of y are half as long as ten of x
  assert.deepEqual([flat[2], flat[6], flat[10]], [0, 7, 2]);
});

test("rows of a level, and the outermost tenth", () => {
  const codes = Int16Array.from([3, -1, 200, 0, 3, 255, 1, 2, 4, 5, 6]);
  assert.deepEqual([...coded(codes, 3)], [0, 4]);
  assert.deepEqual([...tenth(codes, false)], [3]);
  assert.deepEqual([...tenth(codes, true)], [5]);
});

test("colours between the given ones; numbers as people write them", () => {
  assert.deepEqual(ramp(["#000000", "#ffffff"], 3).map((c) => c[0]), [0, 0.5, 1]);
  assert.equal(short(-1234.5), "\u22121230");
  assert.ok(looks(1000000)[1] < looks(100)[1]);
  assert.equal(moment("2026-11-22T00:46:56+00:00"), "2026-11-22 00:46 UTC");
});

test("a cohort's composition begins with what tells subjects apart", () => {
  const facet = (name, ...levels) => ({ name, levels });
  assert.equal(opening([facet("species", "RAT"), facet("sex", "F", "M"), facet("arm", "Low", "High")]), 2);
  assert.equal(opening([facet("species", "RAT"), facet("sex", "F", "M"), facet("tissue", "skin")]), 1);
  assert.equal(opening([facet("species", "RAT")]), -1);
});

test("the inner model tells what it is set and hears what is put", () => {
  const told = [], heard = [];
  const model = inner({ selection: null }, (name, value) => told.push([name, [...rowsOf(value)]]));
  model.on("change:selection", () => heard.push(model.get("selection")));
  model.set("selection", numbers([4, 2]));
  model.put({ selection: numbers([1]) });
  assert.deepEqual(told, [["selection", [4, 2]]]);
  assert.equal(heard.length, 2);
});

test("composition counts members within levels, most members first", () => {
  const frame = { header: { facets: [{ name: "tissue", levels: ["bone", "lung"] }] }, columns: { "facet.0": Int16Array.from([0, 1, 1, -1, 0]) } };
  assert.deepEqual(composition(frame, 0, Int32Array.from([1, 2, 3])).map((l) => [l.name, l.n, l.of]), [["lung", 2, 2], ["unknown", 1, 1], ["bone", 0, 2]]);
});
