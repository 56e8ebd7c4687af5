// The arithmetic of predictions: which rows, how near, beside what. Columns are those of prediction_explorer.py.

/** Rows [from, to) of one treatment in one series, or of all treatments when `t` is -1. */
export function span(frame, s, t) {
  const many = frame.header.treatments.length;
  const start = frame.columns.start;
  return t < 0 ? [start[s * many], start[(s + 1) * many]] : [start[s * many + t], start[s * many + t + 1]];
}

/** n, Pearson and RMSE of `predicted` over the rows where `also` (default: itself) is a number as well. */
export function measure(observed, predicted, from, to, also = predicted, removed = null) {
  let n = 0, mo = 0, mp = 0, oo = 0, pp = 0, op = 0, ss = 0;
  for (let i = from; i < to; i++) {
    const off = removed ? removed[i] : 0;
    const o = observed[i] - off, p = predicted[i] - off;
    if (!Number.isFinite(o) || !Number.isFinite(p) || !Number.isFinite(also[i])) continue;
    n++;
    const a = o - mo, b = p - mp;
    mo += a / n;
    mp += b / n;
    oo += a * (o - mo);
    pp += b * (p - mp);
    op += a * (p - mp);
    ss += (o - p) * (o - p);
  }
  const flat = n < 3 || oo <= 1e-10 * n || pp <= 1e-10 * n;
  return { n, pearson: flat ? NaN : op / Math.sqrt(oo * pp), rmse: n ? Math.sqrt(ss / n) : NaN };
}

/**
 * The best naive answer on the rows that predictor `k` answered: lowest RMSE, or highest Pearson where one is defined
 * (`by` is "rmse" or "pearson"). Without a naive predictor in the table its recorded baseline stands in; null without both.
 */
export function naive(frame, k, from, to, by = "rmse", removed = null) {
  const { observed, baseline, [`predicted.${k}`]: own } = frame.columns;
  const family = frame.header.predictors
    .map((p, j) => ({ ...p, self: j === k, values: frame.columns[`predicted.${j}`] }))
    .filter((p) => p.naive);
  if (!family.length) family.push({ name: "mean effects", self: false, values: baseline });
  const better = by === "rmse" ? (a, b) => a.rmse - b.rmse
    : (a, b) => Number.isFinite(b.pearson) - Number.isFinite(a.pearson) || b.pearson - a.pearson || 0;
  return family
    .map(({ name, self, values }) => ({ name, self, ...measure(observed, values, from, to, own, removed) }))
    .filter((f) => f.n)
    .sort(better)[0] || null;
}

/** Treatments of a series with n and Pearson of predictor `k`: best first, undefined last. */
export function perTreatment(frame, s, k) {
  const { observed, [`predicted.${k}`]: predicted } = frame.columns;
  return frame.header.treatments
    .map((name, t) => ({ name, t, ...measure(observed, predicted, ...span(frame, s, t)) }))
    .filter((row) => row.n)
    .sort((a, b) => (Number.isFinite(b.pearson) - Number.isFinite(a.pearson)) || (b.pearson - a.pearson) || (a.name < b.name ? -1 : 1));
}

/** Rows of [from, to) with an answer, with their places on the axes of `view`. */
export function places(frame, k, from, to, view) {
  const { observed, [`predicted.${k}`]: predicted } = frame.columns;
  const rows = new Int32Array(to - from), x = new Float64Array(to - from), y = new Float64Array(to - from);
  let n = 0;
  for (let i = from; i < to; i++) {
    if (!Number.isFinite(predicted[i])) continue;
    rows[n] = i;
    x[n] = view === "residuals" ? predicted[i] : observed[i];
    y[n] = view === "residuals" ? observed[i] - predicted[i] : predicted[i];
    n++;
  }
  return { n, rows: rows.subarray(0, n), x: x.subarray(0, n), y: y.subarray(0, n) };
}

/** Positions (into `at`) inside the brush [x0, x1, y0, y1]. */
export function inside(at, brush) {
  const [x0, x1, y0, y1] = brush;
  const found = [];
  for (let i = 0; i < at.n; i++) if (at.x[i] >= x0 && at.x[i] <= x1 && at.y[i] >= y0 && at.y[i] <= y1) found.push(i);
  return found;
}
