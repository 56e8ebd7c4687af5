// Runs with `node --test`: the arithmetic that the page does, against values computed by hand.
import assert from "node:assert/strict";
import test from "node:test";
import { inside, measure, naive, perTreatment, places, span } from "../../widgets/_pairs.js";
import { plain, ticks, unpack } from "../../widgets/_parts.js";
import { limits } from "../../widgets/_scatter.js";
import { arranged, complete, passing } from "../../widgets/study_browser.js";
import { duration, pictures, safe } from "../../widgets/training_panel.js";

const near = (a, b, e = 1e-6) => assert.ok(Math.abs(a - b) < e, `${a} is not ${b}`);
const frame = {
  header: { treatments: ["A", "B"], predictors: [{ name: "ridge", naive: false }, { name: "drug_mean", naive: true }] },
  columns: {
    start: Int32Array.of(0, 4, 7),
    observed: Float32Array.of(1, 2, 3, 4, 10, 10, 13),
    baseline: Float32Array.of(2.5, 2.5, 2.5, 2.5, 11, 11, 11),
    "predicted.0": Float32Array.of(1, 3, 2, NaN, 10, 11, 12),
    "predicted.1": Float32Array.of(2.5, 2.5, 2.5, 2.5, 11, 11, 11),
  },
};

test("rows of one treatment and of all", () => {
  assert.deepEqual(span(frame, 0, 1), [4, 7]);
  assert.deepEqual(span(frame, 0, -1), [0, 7]);
});

test("Pearson and RMSE leave out what was not answered", () => {
  const m = measure(frame.columns.observed, frame.columns["predicted.0"], 0, 4);
  assert.equal(m.n, 3);
  near(m.pearson, 0.5);
  near(m.rmse, Math.sqrt(2 / 3));
});

test("a constant prediction has an error and no correlation", () => {
  const m = measure(frame.columns.observed, frame.columns["predicted.1"], 4, 7);
  assert.ok(Number.isNaN(m.pearson));
  near(m.rmse, Math.sqrt(6 / 3));
});

test("the naive value is on the rows that the predictor answered", () => {
  const best = naive(frame, 0, 0, 4);
  assert.equal(best.name, "drug_mean");
  assert.equal(best.n, 3);
  near(best.rmse, Math.sqrt((2.25 + 0.25 + 0.25) / 3));
  assert.equal(naive(frame, 1, 0, 4).self, true);
  const two = { ...frame, header: { ...frame.header, predictors: [...frame.header.predictors, { name: "cell_mean", naive: true }] },
    columns: { ...frame.columns, "predicted.2": Float32Array.of(9, 8, 9, 9, 9, 9, 9) } };
  assert.equal(naive(two, 0, 0, 4).name, "drug_mean"); // the lower error
  assert.equal(naive(two, 0, 0, 4, "pearson").name, "cell_mean"); // the only one with a correlation
});

test("without a naive predictor the recorded baseline stands in", () => {
  const bare = { ...frame, header: { ...frame.header, predictors: [{ name: "ridge", naive: false }] } };
  assert.equal(naive(bare, 0, 0, 4).name, "mean effects");
});

test("treatments come best first", () => {
  const ranked = perTreatment(frame, 0, 0);
  assert.deepEqual(ranked.map((r) => r.name), ["B", "A"]);
  near(ranked[0].pearson, Math.sqrt(3) / 2);
});

test("places and the rectangle, in both views", () => {
  const at = places(frame, 0, 0, 7, "observed");
  assert.deepEqual([...at.rows], [0, 1, 2, 4, 5, 6]);
  assert.deepEqual(inside(at, [1.5, 3.5, 0, 2.5]), [2]);
  const off = places(frame, 0, 0, 7, "residuals");
  assert.deepEqual([...off.y], [0, -1, 1, 0, -1, 1]);
  assert.equal(limits(off, true)[2], -limits(off, true)[3]);
});

test("ticks are round and inside", () => {
  assert.deepEqual(ticks(-1.2, 6.1, 6), [0, 2, 4, 6]);
  assert.deepEqual(ticks(0, 0.5, 5), [0, 0.1, 0.2, 0.3, 0.4, 0.5]);
});

test("unpack reads any view of the bytes, aligned or not; nothing is null", () => {
  const head = new TextEncoder().encode('{"columns":{"x":["f4",0,2]},"n":2}'.padEnd(36));
  const bytes = new Uint8Array(3 + 4 + head.length + 8);
  const view = new DataView(bytes.buffer, 3);
  view.setUint32(0, head.length, true);
  bytes.set(head, 7);
  view.setFloat32(4 + head.length, 1.5, true);
  view.setFloat32(8 + head.length, -2, true);
  assert.deepEqual([...unpack(view).columns.x], [1.5, -2]);
  assert.deepEqual([...unpack(bytes.slice(3).buffer).columns.x], [1.5, -2]);
  assert.equal(unpack(new DataView(new ArrayBuffer(0))), null);
  assert.deepEqual(plain(new Map([["a", new Map([["b", [1]]])]])), { a: { b: [1] } });
});

test("filters of the study browser", () => {
  const study = {
    header: { subjects: ["A549", "MCF7", "HeLa", "x"], tissues: ["breast", "lung"], modalities: ["rna"] },
    columns: { tissue_of: Int16Array.of(1, 0, 1, -1), "has.0": Uint8Array.of(0, 1, 1, 1) },
  };
  const pass = (f, skip) => [...passing(study, complete(f), skip)];
  assert.deepEqual(pass({}), [1, 1, 1, 1]);
  assert.deepEqual(pass({ tissues: ["lung"] }), [1, 0, 1, 0]);
  assert.deepEqual(pass({ tissues: ["lung"], modalities: { rna: "has" } }), [0, 0, 1, 0]);
  assert.deepEqual(pass({ tissues: ["lung"], modalities: { rna: "has" } }, "tissues"), [0, 1, 1, 1]);
  assert.deepEqual(pass({ search: "a5" }), [1, 0, 0, 0]);
  const { order, bands } = arranged(study);
  assert.deepEqual([...order], [2, 0, 1, 3]); // the larger tissue first, whoever has more first, no tissue last
  assert.deepEqual(bands, [[1, 0, 2], [0, 2, 3], [-1, 3, 4]]);
});

test("times, links and pictures of the training panel", () => {
  assert.equal(duration(125), "2 min 5 s");
  assert.equal(duration(7200), "2.0 h");
  assert.equal(safe("javascript:alert(1)"), "");
  assert.equal(safe("nonsense"), "");
  assert.equal(safe("http://127.0.0.1:5000/#/x"), "http://127.0.0.1:5000/#/x");
  assert.deepEqual(pictures(["training loss", "validation RMSE, ln(uM)", "validation loss"]), [[0, 2], [1]]);
});
