// Coverage of intervals in order and in words, by hand.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ranked, rowsOf, sentence } from "../../widgets/coverage_monitor.js";

const header = {
  predictors: ["ridge"], splits: ["unseen subject"], intervals: ["as recorded", "weighted"], kinds: ["all", "tissue", "treatment", "predicted", "distance", "fold"],
  names: ["all rows", "lung", "bone_marrow", "skin"], units: ["subject"], verdicts: ["breaks", "wider than promised", "in doubt", "holds", "too few to judge"],
};
const columns = {
  predictor: [0, 0, 0, 0], split: [0, 0, 0, 0], interval: [0, 0, 0, 0], kind: [0, 1, 1, 1], name: [0, 1, 2, 3], position: [0, 0, 0, 0], unit: [0, 0, 0, 0],
  verdict: [3, 3, 0, 1], n: [1200, 400, 400, 400], k: [90, 30, 30, 30], level: [0.9, 0.9, 0.9, 0.9], covered: [0.9, 0.91, 0.72, 0.97],
  low: [0.88, 0.87, 0.66, 0.95], high: [0.92, 0.94, 0.78, 0.99], unbounded: [0, 0, 0, 0],
};
const frame = { header, columns };
const of = { predictor: "ridge", split: "unseen subject", interval: "as recorded" };

test("rows of a kind are found, and those that break come first", () => {
  const rows = rowsOf(frame, { ...of, kind: "tissue" });
  assert.deepEqual(rows, [1, 2, 3]);
  assert.deepEqual(ranked(frame, rows, "tissue"), [2, 1, 3]);
  assert.deepEqual(rowsOf(frame, { ...of, interval: "weighted", kind: "tissue" }), []);
});

test("what breaks is said in words, and so is that nothing does", () => {
  const said = sentence(frame, 0, [1, 2, 3], "tissue");
  assert.equal(said, "90 % promised; 90.0 % of 1,200 values of 90 lines lie within their interval (95 % interval 88.0 to 92.0 %). "
    + "Broken in 1 of 3 tissues: bone marrow (72.0 %). Wider than promised in 1: skin (97.0 %).");
  assert.match(sentence(frame, 0, [1], "tissue"), /No break shown in any of 1 tissue\./);
  const unbounded = { header, columns: { ...columns, unbounded: [0.25, 0, 0, 0] } };
  assert.match(sentence(unbounded, 0, [], "tissue"), /25\.0 % of the intervals are unbounded/);
});
