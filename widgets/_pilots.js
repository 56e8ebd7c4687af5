// Arithmetic of pilot measurements: exact conditioning of a Gaussian, greedy choice, random panels. No page, no names.
// The same formulas as workbench/planning; tests hold the two against each other.

/** Covariance (t * t) of measured residuals: loadings (t * q) times their transpose, noise (t) on the diagonal. */
export function covarianceOf(loadings, noise) {
  const t = noise.length, q = loadings.length / t, out = new Float64Array(t * t);
  for (let i = 0; i < t; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = i === j ? noise[i] : 0;
      for (let f = 0; f < q; f++) sum += loadings[i * q + f] * loadings[j * q + f];
      out[i * t + j] = out[j * t + i] = sum;
    }
  }
  return out;
}

/** Take treatment `j` as measured: the covariance that is left, in place. */
export function measure(c, t, j) {
  const pivot = Math.max(c[j * t + j], 1e-9), column = c.slice(j * t, j * t + t);
  for (let a = 0; a < t; a++) {
    const share = column[a] / pivot;
    if (share !== 0) for (let b = 0, at = a * t; b < t; b++) c[at + b] -= share * column[b];
  }
}

/** Mean (t) and covariance (t * t) once `values` ([number, value] pairs) are known. Each value moves all others. */
export function posterior(covariance, mean, values) {
  const t = mean.length, c = covariance.slice(), m = Float64Array.from(mean);
  for (const [j, value] of values) {
    const pivot = Math.max(c[j * t + j], 1e-9), error = value - m[j];
    for (let a = 0; a < t; a++) m[a] += (c[j * t + a] / pivot) * error;
    measure(c, t, j);
  }
  return { mean: m, covariance: c };
}

/** Mean weighted variance of the treatments that stay outside `panel` and are not `known`, after 0 .. k of it. */
export function leftAfter(covariance, weights, known, panel) {
  const t = weights.length, c = covariance.slice(), out = [];
  const outside = weights.map((w, d) => (known[d] || panel.includes(d) ? 0 : w));
  const total = Math.max(outside.reduce((a, b) => a + b, 0), 1e-9);
  const now = () => outside.reduce((sum, w, d) => sum + w * c[d * t + d], 0) / total;
  out.push(now());
  for (const j of panel) { measure(c, t, j); out.push(now()); }
  return out;
}

/**
 * The next `k` treatments by expected reduction of the summed variance of the others (over cost, where there is one).
 * `free`, `known`: one flag a treatment; `weights`: how much each matters; `own`: does a measured one count as known?
 */
export function greedy(covariance, k, { weights, free, known, cost = null, own = false }) {
  const t = weights.length, c = covariance.slice(), open = weights.map((_, d) => !known[d]), order = [];
  while (order.length < k) {
    let best = -1, most = 0;
    for (let j = 0; j < t; j++) {
      if (!open[j] || !free[j]) continue;
      let gain = 0;
      for (let d = 0, at = j * t; d < t; d++) if (open[d] && weights[d]) gain += weights[d] * c[at + d] * c[at + d];
      gain /= Math.max(c[j * t + j], 1e-9);
      if (!own) gain -= weights[j] * c[j * t + j];
      const rate = cost ? gain / cost[j] : gain;
      if (rate > most) { most = rate; best = j; }
    }
    if (best < 0) break; // nothing that is left can tell anything more
    measure(c, t, best);
    open[best] = false;
    order.push(best);
  }
  return order;
}

/** `draws` random panels of up to `k` treatments that are free: the same ones every time. */
export function randomPanels(free, known, k, draws) {
  let state = 20261122;
  const next = () => { state = (Math.imul(state, 1664525) + 1013904223) >>> 0; return state / 4294967296; };
  const pool = free.map((on, d) => (on && !known[d] ? d : -1)).filter((d) => d >= 0);
  return Array.from({ length: draws }, () => {
    const left = [...pool], panel = [];
    while (panel.length < k && left.length) panel.push(...left.splice(Math.floor(next() * left.length), 1));
    return panel;
  });
}

/** Linear between the points (x, y), level beyond them. */
export function between(x, y, at) {
  if (at <= x[0]) return y[0];
  for (let i = 1; i < x.length; i++) if (at <= x[i]) return y[i - 1] + ((y[i] - y[i - 1]) * (at - x[i - 1])) / (x[i] - x[i - 1]);
  return y[y.length - 1];
}
