// Conditioning and choice by hand; the numbers against Python's are in test_pilot_planner.py.
import assert from "node:assert/strict";
import { test } from "node:test";
import { between, covarianceOf, greedy, leftAfter, posterior, randomPanels } from "../../widgets/_pilots.js";

const near = (a, b) => assert.ok(Math.abs(a - b) < 1e-12, `${a} is not ${b}`);
const c = covarianceOf([0.8, 1, 0, 0, 0, 2].slice(0, 3), [0.36, 1, 4]); // one factor: 0.8, 1, 0

test("a covariance is loadings times their transpose with the noise on the diagonal", () => {
  [1, 0.8, 0, 0.8, 2, 0, 0, 0, 4].forEach((v, i) => near(c[i], v));
});

test("a measured value moves what goes with it, as far as its noise lets it, and leaves the rest", () => {
  const { mean, covariance } = posterior(c, [1, 5, 7], [[0, 3]]);
  near(mean[0], 3);
  near(mean[1], 5 + 0.8 * 2);
  near(mean[2], 7);
  near(covariance[4], 2 - 0.64);
  near(covariance[8], 4);
  const both = posterior(c, [1, 5, 7], [[0, 3], [1, 4]]), turned = posterior(c, [1, 5, 7], [[1, 4], [0, 3]]);
  both.mean.forEach((m, i) => near(m, turned.mean[i])); // the order does not matter
});

test("the choice is the largest gain among what is free, and ends where nothing tells anything", () => {
  const all = { weights: [1, 1, 1], free: [true, true, true], known: [false, false, false] };
  assert.deepEqual(greedy(c, 3, all), [0]); // 0.64 of drug 1's variance for 0.32 the other way round; the third is alone
  assert.deepEqual(greedy(c, 3, { ...all, free: [false, true, true] }), [1]);
  assert.deepEqual(greedy(c, 3, { ...all, free: [false, false, true] }), []);
  assert.deepEqual(greedy(c, 3, { ...all, weights: [1, 0, 0], free: [false, true, true] }), [1]);
  assert.deepEqual(greedy(c, 1, { ...all, own: true }), [2]); // its own variance is the largest
  assert.deepEqual(greedy(c, 1, { ...all, cost: [10, 1, 1] }), [1]);
});

test("what is left is of the same treatments at every step; random panels hold no measured one", () => {
  const left = leftAfter(c, [1, 1, 1], [false, false, false], [0]);
  near(left[0], 3);
  near(left[1], (2 - 0.64 + 4) / 2);
  const panels = randomPanels([true, true, true, true], [false, true, false, false], 2, 5);
  assert.ok(panels.length === 5 && panels.every((p) => p.length === 2 && !p.includes(1) && new Set(p).size === 2));
  assert.deepEqual(panels, randomPanels([true, true, true, true], [false, true, false, false], 2, 5));
});

test("between points it is linear, beyond them level", () => {
  assert.deepEqual([-1, 0, 2.5, 5, 9].map((x) => between([0, 5], [1, 2], x)), [1, 1, 1.5, 2, 2]);
});
