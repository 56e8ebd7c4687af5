// Runs with `node --test`: what a comparison says of one place and metric, against values written down by hand.
import assert from "node:assert/strict";
import test from "node:test";
import { csv, levels, ordered, ranking, view } from "../../widgets/_compared.js";

const frame = {
  header: {
    entries: [{ name: "a", naive: false }, { name: "b", naive: false }], metrics: [{ name: "RMSE", better: "lower" }, { name: "r", better: "higher" }],
    texts: ["", "better"], compared: [0], parameters: [{ place: 0, param: "rank", values: [[0, "4"]] }],
    groups: [{ place: 0, metric: 0, by: "Nemenyi", entries: [0, 1] }, { place: 0, metric: 0, by: "paired intervals", entries: [0, 1] }],
    critical: [{ place: 0, metric: 0, difference: 0.9 }],
  },
  columns: {
    "score.place": [0, 0, 0], "score.metric": [0, 0, 1], "score.entry": [0, 1, 0], "score.value": [1.2, 1.1, 0.5], "score.low": [1, 1, 0],
    "score.high": [2, 2, 1], "score.naive": [1.5, 1.5, 0], "score.naive_predictor": [0, 0, 0], "score.interval": [0, 0, 0],
    "score.folds": [5, 5, 5], "score.seeds": [1, 1, 1], "score.cost_s": [10, 20, 10],
    "pair.place": [0], "pair.metric": [0], "pair.a": [1], "pair.b": [0], "pair.difference": [-0.1], "pair.low": [-0.2], "pair.high": [-0.05],
    "pair.p": [0.01], "pair.p_holm": [0.02], "pair.verdict": [1], "pair.paired": [0],
    "rank.place": [0, 0], "rank.metric": [0, 0], "rank.entry": [0, 1], "rank.rank": [1.8, 1.2],
    "front.place": [0], "front.metric": [0], "front.entry": [1], "front.on": [1],
  },
};

test("one place and metric, best first, and the pair turned round", () => {
  const seen = view(frame, 0, 0);
  assert.deepEqual(seen.rows.map((r) => r.name), ["b", "a"]);
  assert.deepEqual([seen.pair(0, 1).difference, seen.pair(0, 1).low, seen.pair(0, 1).high, seen.pair(0, 1).verdict], [0.1, 0.05, 0.2, "worse"]);
  assert.equal(seen.pair(1, 0).verdict, "better");
  assert.deepEqual([[...seen.on], [...seen.paired].sort()], [[1], [0, 1]]);
  assert.deepEqual([seen.compared, view(frame, 0, 1).compared], [true, false]);
  assert.equal(seen.parameters[0].values.get(0), "4");
  assert.deepEqual(seen.sets, [[0, 1]]);
});

test("mean ranks, and the bars that join", () => {
  const { list, bars, critical } = ranking(frame, 0, 0);
  assert.deepEqual([list.map((r) => r.name), bars, critical.difference], [["b", "a"], [[1.2, 1.8]], 0.9]);
  assert.deepEqual(levels([[1, 3], [2, 4], [3.5, 5]]), [0, 1, 0]);
});

test("entries without a value come last whichever way is good", () => {
  const rows = [{ name: "x", value: NaN }, { name: "y", value: 1 }, { name: "z", value: 2 }];
  assert.deepEqual(ordered(rows, "higher").map((r) => r.name), ["z", "y", "x"]);
  assert.deepEqual(ordered(rows, "lower").map((r) => r.name), ["y", "z", "x"]);
});

test("csv keeps commas, quotes and gaps", () => {
  assert.equal(csv([["a,b", 'say "x"', NaN], [1.5, null, "plain"]]), '"a,b","say ""x""",\r\n1.5,,plain\r\n');
});
