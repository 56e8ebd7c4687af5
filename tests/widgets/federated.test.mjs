// Runs with `node --test`: what a federation's value and rounds say in words, against values written down by hand.
import assert from "node:assert/strict";
import test from "node:test";
import { attackRows, figures, lines, paid, progress, said, shared, sitesOf, size, some, summary } from "../../widgets/_federated.js";

const score = (site, arm, value) => ({ place: "p", site, arm, metric: "r", value });
const verdict = (site, verdict_, more = {}) => ({ place: "p", site, arm: "federated", verdict: verdict_, negative_transfer: "", flags: [], rows: null, epsilon: null, delta: null, bytes: null, messages: null, rounds: null, refusals: null, ...more });
const header = {
  scores: [score("a", "pooled", 0.6), score("a", "federated", 0.5), score("a", "alone", 0.4), score("b", "alone", 0.3), score("b", "federated", 0.2)],
  verdicts: [verdict("a", "join", { rows: 30, epsilon: 2.5, delta: 1e-5, bytes: 1_250_000, refusals: 0 }), verdict("b", "do not join", { rows: 10, negative_transfer: "r" })],
  overall: [{ place: "p", arm: "federated", metric: "r", sites: 2, gain: 0, low: -0.05, high: 0.05 }],
  attacks: [{ site: "a", attack: "membership inference", figure: "AUC", value: 0.7, chance: 0.5 }, { site: null, attack: "property inference", figure: "AUC", value: null, chance: 0.5 }],
};

test("sites with their arms in one order, and the whole in words", () => {
  const sites = sitesOf(header, "p", "r", "federated");
  assert.deepEqual(sites.map((s) => [s.site, s.arms.map((a) => a.arm), s.verdict.verdict]), [["a", ["alone", "federated", "pooled"], "join"], ["b", ["alone", "federated"], "do not join"]]);
  assert.equal(summary(header, sites, "p", "r", "federated"), "Join: a. Do not join: b. Mean gain over 2 sites in r: 0.000 (\u22120.050 to +0.050). Worse than alone in some metric: b.");
  assert.match(summary(header, [], "p", "r", "federated"), /^No verdict/);
});

test("what was not measured is said so and is no zero", () => {
  const [a, b] = header.verdicts;
  assert.deepEqual(paid(header, a, header.verdicts), ["30", "75 %", "2.5 at \u03b4 10\u207b\u2075", "1.25 MB", "not measured", "0"]);
  assert.deepEqual(paid(header, b, header.verdicts).slice(2), Array(4).fill("not measured"));
  assert.equal(paid({ ...header, limit: 8 }, a, header.verdicts)[2], "2.5 of 8 at \u03b4 10\u207b\u2075");
  assert.equal(paid({ ...header, exact: true }, b, header.verdicts)[2], "no bound: exact"); // why there is no figure
  assert.equal(paid(header, { ...b, rows: null }, [a, { ...b, rows: null }])[1], "not measured"); // a share of what is not known
  assert.deepEqual([size(0), size(999), size(104000), size(2.5e9), size(null)], ["0 B", "999 B", "104 kB", "2.5 GB", "not measured"]);
});

test("attacks beside their chance: the whole federation first, rates with their attack, what is hidden said to be", () => {
  const one = (site, attack, figure, value, low, chance, knows = "") => ({ site, attack, figure, value, low, high: low === null ? null : value, chance, knows });
  const attacks = [one(null, "inversion, one person", "correlation", 1, null, 0), one("a", "membership, LiRA", "AUC", 0.94, 0.9, 0.5), one("b", "membership, LiRA", "AUC", 0.52, 0.45, 0.5),
    one(null, "membership, LiRA", "AUC", 0.9, 0.88, 0.5), one(null, "membership, LiRA", "TPR at 1.0% FPR", 0.35, null, 0.011), one(null, "property", "AUC", null, null, 0.5)];
  const rows = attackRows({ attacks });
  assert.deepEqual(rows.map((a) => [a.attack, a.target, a.works]), [["inversion, one person", "the whole federation", "no interval"], ["membership, LiRA", "the whole federation", "works"],
    ["membership, LiRA", "a", "works"], ["membership, LiRA", "b", "not shown to work"], ["property", "the whole federation", "not measured"]]);
  assert.equal(rows[1].more, "35\u00a0% caught at 1\u00a0% false alarms, chance 1.1\u00a0%");
  assert.deepEqual(attackRows({ attacks: [] }), []);
});

test("what holds of every site is told once, and many names are counted", () => {
  const of = (...flags) => ({ flags });
  assert.deepEqual(shared([of("x", "y"), of("y"), of("y", "z")]), ["y"]);
  assert.deepEqual([shared([of("x")]), shared([])], [[], []]); // of one site nothing is shared
  assert.equal(some(["a", "b", "c"], 20), "a, b and c");
  assert.equal(some([..."abcdefgh"], 20), "8 of 20 sites (a, b, c and 5 more)");
});

const frame = {
  header: { sites: ["a", "b"], names: ["training", "loss"], reasons: ["sent NaN"], units: ["", ""] },
  columns: { // two folds of round 0, then round 1 that b has no part in
    round: [0, 0, 0, 0, 0, 0, 1, 1, 1, 1], site: [0, 1, 0, 1, 0, -1, 0, 1, 0, -1], name: [0, 0, 1, 1, 1, 1, 0, 0, 1, 1], lost: [-1, -1, -1, -1, -1, -1, -1, 0, -1, -1],
    value: [NaN, NaN, 2, 3, 4, 5, NaN, NaN, 1, 0.5], seconds: [1.5, 1.5, NaN, NaN, NaN, NaN, 2, 2, NaN, NaN], bytes: [100, 200, NaN, NaN, NaN, NaN, 50, NaN, NaN, NaN],
  },
};

test("lines by site, the federation's own first, folds as their mean", () => {
  assert.deepEqual(figures(frame), [{ name: "loss", index: 1, unit: "" }]);
  const once = { header: { names: ["count", "loss", "total"], units: ["", "", ""] }, columns: { round: [0, 0, 0, 1, 0, 1], site: [0, 1, 0, 0, -1, -1], name: [0, 0, 1, 1, 2, 2], value: [5, 5, 2, 1, 3, 2] } };
  assert.deepEqual(figures(once).map((f) => f.name), ["total", "loss"]); // one round is no curve; the federation's own come first
  const both = { header: { names: ["residual", "training RMSE"], units: ["", ""] }, columns: { round: [0, 1, 0, 1], site: [-1, -1, -1, -1], name: [0, 0, 1, 1], value: [1, 0, 3, 2] } };
  assert.deepEqual(figures(both).map((f) => f.name), ["training RMSE", "residual"]);
  assert.deepEqual(lines(frame, 1), [{ site: "", index: -1, x: [0, 1], y: [5, 0.5] }, { site: "a", index: 0, x: [0, 1], y: [3, 1] }, { site: "b", index: 1, x: [0], y: [3] }]);
});

test("how far it is, who is lost and why, and what was sent", () => {
  const p = progress(frame);
  assert.deepEqual([p.round, p.own, p.steps, p.bytes, p.seconds], [1, 1, 2, 350, 3.5]);
  assert.deepEqual(p.sites.map((s) => [s.site, s.rounds.size, s.bytes, s.gone]), [["a", 2, 150, false], ["b", 1, 200, true]]);
  assert.equal(said(p), "After round 1, 1 of 2 sites. 350 B left the sites so far. Without b (sent NaN).");
  assert.match(said(p, true), /350 B left the sites\. /);
  assert.match(said({ ...p, own: 8, round: 38, steps: 39, sites: [], bytes: NaN }), /^After 39 asks\. What was sent, and who was missing, is recorded when a fold ends\.$/);
  assert.equal(said(progress({ header: { sites: [], reasons: [] }, columns: { round: [], site: [], name: [], lost: [], value: [], seconds: [], bytes: [] } })), "No round has ended yet.");
});
