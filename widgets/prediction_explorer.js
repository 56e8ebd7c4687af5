// Predicted against observed. All arithmetic is done here, from the packed columns described in prediction_explorer.py.
import { fixed, h, hue, listen, longList, pen, put, rgb, stage, ticks, unpack, whole } from "./_parts.js";

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

/** The best naive answer (lowest RMSE) on the rows that predictor `k` answered; null when the table holds none. */
export function naive(frame, k, from, to) {
  const { observed, baseline, [`predicted.${k}`]: own } = frame.columns;
  const family = frame.header.predictors
    .map((p, j) => ({ ...p, j }))
    .filter((p) => p.naive)
    .map((p) => ({ name: p.name, self: p.j === k, ...measure(observed, frame.columns[`predicted.${p.j}`], from, to, own) }));
  if (!family.length) family.push({ name: "mean effects", self: false, ...measure(observed, baseline, from, to, own) });
  return family.filter((f) => f.n).sort((a, b) => a.rmse - b.rmse)[0] || null;
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

const CSS = `
.wb-explorer{container-type:inline-size;}
.wb-explorer .top{display:flex;flex-wrap:wrap;gap:8px 18px;align-items:center;margin-bottom:12px;}
.wb-explorer .top h3{flex:1 1 220px;}
.wb-explorer label.pick{display:flex;gap:7px;align-items:center;min-width:0;}
.wb-explorer .views{display:flex;}
.wb-explorer .views button:first-child{border-radius:4px 0 0 4px;}
.wb-explorer .views button:last-child{border-radius:0 4px 4px 0;margin-left:-1px;}
.wb-explorer .grid{display:grid;grid-template-columns:212px minmax(300px,1fr) 312px;gap:16px 18px;}
.wb-explorer .grid>div{min-width:0;}
.wb-explorer .stats{display:flex;flex-wrap:wrap;gap:6px 18px;min-height:43px;margin-bottom:4px;line-height:1.35;}
.wb-explorer .stats .small{font-size:11.5px;}
.wb-explorer .stats b{display:block;font-size:16px;font-weight:600;line-height:1.3;font-variant-numeric:tabular-nums;}
.wb-explorer .plot{position:relative;}
.wb-explorer .plot canvas{border-radius:4px;touch-action:none;}
.wb-explorer .plot canvas.over{position:absolute;left:0;top:0;cursor:crosshair;}
.wb-explorer .tip{position:absolute;pointer-events:none;z-index:2;max-width:250px;padding:6px 9px;font-size:12px;border-radius:4px;
background:var(--wb-bg);border:1px solid var(--wb-line);box-shadow:0 2px 8px rgb(0 0 0/.22);overflow-wrap:anywhere;}
.wb-explorer .tip b{display:block;}
.wb-explorer .row .name{flex:1 1 auto;}
.wb-explorer .tissue .name{flex:0 0 44%;}
.wb-explorer .tissue .bar{flex:1 1 auto;}
.wb-explorer .tissue .num{flex:0 0 74px;}
.wb-explorer .line .name{flex:1 1 0;}
.wb-explorer .line .num{flex:0 0 39px;}
.wb-explorer .heads{display:flex;gap:8px;padding:0 19px 3px 10px;font-size:12px;color:var(--wb-soft);}
.wb-explorer .heads span:not(.num){flex:1 1 0;}
.wb-explorer .heads .num{flex:0 0 39px;}
.wb-explorer .lower{padding-top:12px;}
.wb-explorer .say{display:flex;justify-content:space-between;align-items:center;gap:8px;min-height:28px;margin-bottom:6px;}
.wb-explorer .keys{margin-top:6px;}
@container (max-width:930px){.wb-explorer .grid{grid-template-columns:190px minmax(260px,1fr);}.wb-explorer .side{grid-column:1/-1;columns:2;column-gap:18px;}
.wb-explorer .side>div{break-inside:avoid;}}
@container (max-width:560px){.wb-explorer .grid{grid-template-columns:1fr;}}
`;
const EDGE = { left: 58, right: 14, top: 12, bottom: 46 };
const SPARSE = 6000; // above this many points a shaded density says more than dots
const WHISKERS = 1500; // above this many intervals nothing can be told apart

function render({ model, el }) {
  let frame = null, at = { n: 0, rows: [], x: [], y: [] }, picked = [], ranking = [], listed = [], lines = [], tissues = [];
  let lit = -1, ring = -1, area = null, drag = null, box = null, stamp = 0;
  const part = stage(el, "wb-explorer", model.get("theme"), CSS, () => { if (frame) draw(); });

  const heading = h("h3", {});
  const predictors = h("select", { "aria-label": "Predictor", onchange: () => put(model, { predictor: predictors.value }) });
  const kinds = h("select", { "aria-label": "Endpoint and split", onchange: () => put(model, { series: kinds.value }) });
  const kindsLabel = h("label", { class: "pick" }, h("span", { class: "soft", text: "Endpoint" }), kinds);
  const views = [["observed", "Predicted vs observed"], ["residuals", "Residuals"]].map(([value, text]) =>
    h("button", { type: "button", text, value, onclick: () => put(model, { brush: [], view: value }) }));
  const search = h("input", { type: "search", placeholder: "Find a treatment", "aria-label": "Find a treatment", oninput: () => list() });
  const treatments = longList({
    label: "Treatments, by per-treatment Pearson", height: 470, rowHeight: 27,
    picked: (i) => listed[i] && listed[i].name === model.get("treatment"),
    pick: (i) => put(model, { treatment: listed[i].name }),
    fill: (row, i) => {
      const { name, t, pearson, n } = listed[i];
      row.append(h("span", { class: "name cut", text: t < 0 ? "All treatments" : name, title: t < 0 ? null : `${name}: n = ${n}` }),
        h("span", { class: "num soft", text: t < 0 ? `${whole(listed.total)}` : fixed(pearson, 2) }));
    },
  });
  search.addEventListener("keydown", (e) => { if (e.key === "ArrowDown") { treatments.box.focus(); e.preventDefault(); } });
  const stats = h("div", { class: "stats", role: "status" });
  const base = h("canvas", { "aria-hidden": "true" });
  const over = h("canvas", {
    class: "over", tabindex: "0", role: "application", "aria-roledescription": "scatter plot",
    "aria-label": "Scatter plot. Enter draws a rectangle, arrows move it, Shift and arrows resize it, Escape removes it.",
  });
  const tip = h("div", { class: "tip", hidden: true });
  const plot = h("div", { class: "plot" }, base, over, tip);
  const keys = h("p", { class: "soft small keys", text: "Drag a rectangle to see which lines lie in it. Keyboard: Enter draws one, arrows move it, Shift + arrows resize it, Esc removes it." });
  const said = h("h4", { style: { margin: "0" }, role: "status" });
  const clear = h("button", { type: "button", text: "Clear", "aria-label": "Clear the rectangle", onclick: () => put(model, { brush: [] }) });
  const tissueList = longList({
    label: "Tissues", height: 196, rowHeight: 24, picked: (i) => tissues[i].t === lit,
    pick: (i) => { lit = tissues[i].t === lit ? -1 : tissues[i].t; table(); draw(); },
    fill: (row, i) => {
      const { t, name, count, of } = tissues[i];
      row.classList.add("tissue");
      const bar = h("span", { class: "bar" }, h("i", { style: { width: `${(100 * count) / Math.max(1, tissues.top)}%`, background: t === lit ? "var(--wb-mark)" : null } }));
      row.append(h("span", { class: "name cut", text: name, title: name }), bar,
        h("span", { class: "num soft small", text: box ? `${whole(count)} of ${whole(of)}` : whole(of) }));
    },
  });
  const heads = h("div", { class: "heads", "aria-hidden": "true" });
  const lineList = longList({
    label: "Lines, largest residual first", height: 196, rowHeight: 24,
    picked: (i) => lines[i] === ring, pick: (i) => { ring = lines[i]; overlay(); }, moved: (i) => { ring = lines[i]; overlay(); },
    fill: (row, i) => {
      const p = point(lines[i]);
      row.classList.add("line");
      row.append(h("span", { class: "name cut", text: p.subject, title: `${p.subject}, ${p.tissue}` }));
      if (!model.get("treatment")) row.append(h("span", { class: "name cut", text: p.treatment, title: p.treatment }));
      for (const v of [p.observed, p.predicted, p.observed - p.predicted]) row.append(h("span", { class: "num small", text: fixed(v, 2) }));
    },
  });
  const body = h("div", { class: "grid" },
    h("div", {}, h("h4", { text: "Treatment, by Pearson" }), search, h("div", { style: { height: "6px" } }), treatments.box),
    h("div", {}, stats, plot, keys),
    h("div", { class: "side" }, h("div", {}, h("div", { class: "say" }, said, clear), tissueList.box),
      h("div", { class: "lower" }, h("h4", { text: "Lines, largest residual first" }), heads, lineList.box)));
  const empty = h("div", { class: "empty", hidden: true });
  part.root.append(h("div", { class: "top" }, heading, kindsLabel,
    h("label", { class: "pick" }, h("span", { class: "soft", text: "Predictor" }), predictors),
    h("div", { class: "views", role: "group", "aria-label": "View" }, ...views)), body, empty);

  const kOf = () => frame.header.predictors.findIndex((p) => p.name === model.get("predictor"));
  const sOf = () => Math.max(0, frame.header.series.findIndex((s) => s.key === model.get("series")));
  const tOf = () => frame.header.treatments.indexOf(model.get("treatment"));
  function point(i) {
    const { header, columns } = frame, row = at.rows[i], k = kOf(), many = header.treatments.length;
    const subject = columns.subject[row], tissue = columns.tissue_of[subject];
    let t = tOf();
    if (t < 0) { // rows are sorted by treatment: the last start that is not beyond the row
      let low = sOf() * many, high = low + many - 1;
      while (low < high) { const mid = (low + high + 1) >> 1; if (columns.start[mid] <= row) low = mid; else high = mid - 1; }
      t = low % many;
    }
    return {
      subject: header.subjects[subject], tissue: tissue < 0 ? "tissue unknown" : header.tissues[tissue], treatment: header.treatments[t],
      observed: columns.observed[row], predicted: columns[`predicted.${k}`][row], censored: columns.censored[row],
      low: columns[`low.${k}`]?.[row], high: columns[`high.${k}`]?.[row],
    };
  }

  function load() {
    frame = unpack(model.get("frame_bytes"));
    const pairs = frame ? frame.header.pairs : 0;
    heading.textContent = model.get("title") || "Predicted against observed";
    body.hidden = !pairs;
    empty.hidden = Boolean(pairs);
    empty.textContent = "No scored predictions to show. The table is empty, or its observed values are still sealed: score the run first.";
    if (!pairs) { frame = null; predictors.replaceChildren(); kindsLabel.hidden = true; return; }
    const { header } = frame;
    predictors.replaceChildren(...header.predictors.map((p) => h("option", { value: p.name, text: p.naive ? `${p.name} (naive)` : p.name })));
    kinds.replaceChildren(...header.series.map((s) => h("option", { value: s.key, text: `${s.label}, ${s.unit}, ${s.split}` })));
    kindsLabel.hidden = header.series.length < 2;
    refresh();
  }

  function list(keep = false) {
    const wanted = search.value.trim().toLowerCase();
    listed = ranking.filter((row) => row.name.toLowerCase().includes(wanted));
    if (!wanted) listed.unshift({ name: "", t: -1 });
    listed.total = ranking.length;
    treatments.set(listed.length, keep);
    const mine = listed.findIndex((row) => row.name === model.get("treatment"));
    if (mine >= 0 && !wanted) treatments.show(mine);
  }

  function refresh() {
    if (!frame) return;
    const s = sOf(), k = kOf();
    predictors.value = model.get("predictor");
    kinds.value = model.get("series");
    for (const b of views) b.setAttribute("aria-pressed", String(b.value === model.get("view")));
    if (k < 0) return;
    if (stamp !== `${s}/${k}`) { stamp = `${s}/${k}`; ranking = perTreatment(frame, s, k); list(); } else list(true);
    at = places(frame, k, ...span(frame, s, tOf()), model.get("view"));
    ring = -1;
    score();
    rebrush();
  }

  function score() {
    const s = sOf(), k = kOf(), [from, to] = span(frame, s, tOf());
    const { columns, header } = frame, predicted = columns[`predicted.${k}`];
    const own = measure(columns.observed, predicted, from, to), other = naive(frame, k, from, to);
    const beside = (value, digits) => (!other ? "no naive value here" : other.self ? "the naive one itself"
      : Number.isFinite(value) ? `naive ${fixed(value, digits)} (${other.name})` : "naive: constant, undefined");
    const items = [["Pairs", whole(own.n), tOf() < 0 ? "all treatments" : "this treatment"],
      ["Pearson", fixed(own.pearson, 3), beside(other?.pearson, 3)],
      [`RMSE, ${header.series[s].unit}`, fixed(own.rmse, 3), beside(other?.rmse, 3)]];
    const normal = measure(columns.observed, predicted, from, to, predicted, columns.baseline);
    if (tOf() < 0 && normal.n) items.splice(2, 0, ["Pearson, normalised", fixed(normal.pearson, 3), "naive 0, mean effects removed"]);
    const low = columns[`low.${k}`], high = columns[`high.${k}`];
    let held = 0, asked = 0, censored = 0;
    for (let i = from; i < to; i++) {
      if (!Number.isFinite(predicted[i])) continue;
      if (columns.censored[i]) censored++;
      if (low && Number.isFinite(low[i]) && Number.isFinite(high[i])) { asked++; if (columns.observed[i] >= low[i] && columns.observed[i] <= high[i]) held++; }
    }
    const { level } = header.predictors[k];
    if (asked) items.push(["Inside the interval", `${fixed((100 * held) / asked, 1)} %`, level ? `meant: ${fixed(100 * level, 0)} %` : ""]);
    if (censored) items.push(["Censored", whole(censored), "hollow; scored at their limit"]);
    stats.replaceChildren(...items.map(([name, value, note]) => h("div", {}, h("span", { class: "soft small", text: name }), h("b", { text: value }), h("span", { class: "soft small", text: note }))));
  }

  function rebrush() {
    if (!frame) return;
    const brush = model.get("brush") || [];
    box = brush.length === 4 ? [...brush] : null;
    picked = box ? inside(at, box) : null;
    clear.hidden = !box;
    table();
    draw();
  }

  function table() {
    const { header, columns } = frame;
    const of = new Map(), counts = new Map();
    const tissue = (i) => columns.tissue_of[columns.subject[at.rows[i]]];
    for (let i = 0; i < at.n; i++) of.set(tissue(i), (of.get(tissue(i)) || 0) + 1);
    const chosen = picked || Array.from({ length: at.n }, (_, i) => i);
    for (const i of chosen) counts.set(tissue(i), (counts.get(tissue(i)) || 0) + 1);
    tissues = [...counts].map(([t, count]) => ({ t, count, of: of.get(t), name: t < 0 ? "tissue unknown" : header.tissues[t] }))
      .sort((a, b) => b.count - a.count || (a.name < b.name ? -1 : 1));
    tissues.top = tissues.length ? tissues[0].count : 0;
    if (lit !== -1 && !counts.has(lit)) lit = -1;
    const gap = (i) => Math.abs(at.y[i] - (model.get("view") === "residuals" ? 0 : at.x[i]));
    const sized = chosen.filter((i) => lit === -1 || tissue(i) === lit).map((i) => [gap(i), i]).sort((a, b) => b[0] - a[0]);
    lines = sized.map(([, i]) => i);
    const subjects = new Set(chosen.map((i) => columns.subject[at.rows[i]])).size;
    said.textContent = !picked ? `All ${whole(at.n)} pairs shown, by tissue`
      : !picked.length ? "No pair lies in the rectangle" : `${whole(picked.length)} of ${whole(at.n)} pairs, ${whole(subjects)} lines, by tissue`;
    heads.replaceChildren(h("span", { text: "Line" }), ...(model.get("treatment") ? [] : [h("span", { text: "Treatment" })]),
      ...["observed", "predicted", "residual"].map((text) => h("span", { class: "num", text: { observed: "obs.", predicted: "pred.", residual: "resid." }[text], title: text })));
    tissueList.set(tissues.length);
    lineList.set(lines.length);
  }

  function limits() {
    let x0 = Infinity, x1 = -Infinity, y0 = Infinity, y1 = -Infinity;
    for (let i = 0; i < at.n; i++) { x0 = Math.min(x0, at.x[i]); x1 = Math.max(x1, at.x[i]); y0 = Math.min(y0, at.y[i]); y1 = Math.max(y1, at.y[i]); }
    if (!at.n) [x0, x1, y0, y1] = [0, 1, 0, 1];
    if (model.get("view") === "residuals") { y1 = Math.max(Math.abs(y0), Math.abs(y1)); y0 = -y1; } else { x0 = y0 = Math.min(x0, y0); x1 = y1 = Math.max(x1, y1); }
    const pad = (a, b) => { const d = (b - a || 1) * 0.045; return [a - d, b + d]; };
    return [...pad(x0, x1), ...pad(y0, y1)];
  }

  function draw() {
    const width = Math.max(260, plot.clientWidth || 460), height = Math.max(300, Math.min(452, width));
    const [x0, x1, y0, y1] = limits();
    const w = width - EDGE.left - EDGE.right, v = height - EDGE.top - EDGE.bottom;
    area = { width, height, w, v, x0, x1, y0, y1, sx: (x) => EDGE.left + ((x - x0) / (x1 - x0)) * w, sy: (y) => EDGE.top + ((y1 - y) / (y1 - y0)) * v,
      ix: (px) => x0 + ((px - EDGE.left) / w) * (x1 - x0), iy: (py) => y1 - ((py - EDGE.top) / v) * (y1 - y0) };
    const c = pen(base, width, height), { sx, sy } = area;
    const ink = hue(part.root, "ink"), soft = hue(part.root, "soft"), line = hue(part.root, "line"), accent = hue(part.root, "accent"), mark = hue(part.root, "mark");
    c.font = `12px ${getComputedStyle(part.root).fontFamily}`;
    c.textBaseline = "middle";
    for (const [axis, found] of [["x", ticks(x0, x1)], ["y", ticks(y0, y1)]]) {
      for (const value of found) {
        c.strokeStyle = line; c.globalAlpha = 0.7; c.lineWidth = 1;
        c.beginPath();
        if (axis === "x") { c.moveTo(sx(value), EDGE.top); c.lineTo(sx(value), EDGE.top + v); } else { c.moveTo(EDGE.left, sy(value)); c.lineTo(EDGE.left + w, sy(value)); }
        c.stroke();
        c.globalAlpha = 1; c.fillStyle = soft;
        const text = String(value).replace("-", "\u2212");
        if (axis === "x") { c.textAlign = "center"; c.fillText(text, sx(value), EDGE.top + v + 14); } else { c.textAlign = "right"; c.fillText(text, EDGE.left - 8, sy(value)); }
      }
    }
    const series = frame.header.series[sOf()], what = `${series.label}, ${series.unit}`, residual = model.get("view") === "residuals";
    c.fillStyle = ink; c.textAlign = "center";
    c.fillText(residual ? `Predicted ${what}` : `Observed ${what}`, EDGE.left + w / 2, height - 12);
    c.save(); c.translate(14, EDGE.top + v / 2); c.rotate(-Math.PI / 2);
    c.fillText(residual ? `Observed \u2212 predicted, ${series.unit}` : `Predicted ${what}`, 0, 0); c.restore();
    c.save(); c.beginPath(); c.rect(EDGE.left, EDGE.top, w, v); c.clip();
    const tissue = (i) => frame.columns.tissue_of[frame.columns.subject[at.rows[i]]];
    if (at.n > SPARSE) shade(c, accent); else dots(c, accent, ink);
    const bright = picked || (lit !== -1 ? Array.from({ length: at.n }, (_, i) => i) : []);
    c.fillStyle = mark; c.globalAlpha = bright.length > SPARSE ? 0.25 : 0.85;
    const size = at.n > SPARSE ? 1.5 : 3.2;
    for (const i of bright) if (lit === -1 || tissue(i) === lit) { c.beginPath(); c.arc(sx(at.x[i]), sy(at.y[i]), size, 0, 7); c.fill(); }
    c.globalAlpha = 1; c.strokeStyle = ink; c.setLineDash([5, 4]); c.lineWidth = 1.2; c.beginPath();
    if (residual) { c.moveTo(EDGE.left, sy(0)); c.lineTo(EDGE.left + w, sy(0)); } else { c.moveTo(sx(x0), sy(x0)); c.lineTo(sx(x1), sy(x1)); }
    c.stroke(); c.restore(); c.setLineDash([]);
    overlay();
  }

  function dots(c, accent) {
    const k = kOf(), { sx, sy } = area, low = frame.columns[`low.${k}`], high = frame.columns[`high.${k}`], { observed, censored } = frame.columns;
    c.lineWidth = 1; c.strokeStyle = accent; c.fillStyle = accent;
    if (low && tOf() >= 0 && at.n <= WHISKERS) {
      c.globalAlpha = at.n > 300 ? 0.16 : 0.32;
      c.beginPath();
      for (let i = 0; i < at.n; i++) {
        const row = at.rows[i];
        if (!Number.isFinite(low[row]) || !Number.isFinite(high[row])) continue;
        const [a, b] = model.get("view") === "residuals" ? [observed[row] - high[row], observed[row] - low[row]] : [low[row], high[row]];
        c.moveTo(sx(at.x[i]), sy(a)); c.lineTo(sx(at.x[i]), sy(b));
      }
      c.stroke();
    }
    c.globalAlpha = at.n > 2000 ? 0.4 : 0.72;
    for (let i = 0; i < at.n; i++) {
      c.beginPath(); c.arc(sx(at.x[i]), sy(at.y[i]), 2.8, 0, 7);
      if (censored[at.rows[i]]) c.stroke(); else c.fill();
    }
    c.globalAlpha = 1;
  }

  function shade(c, accent) {
    const cell = 2, across = Math.ceil(area.w / cell), down = Math.ceil(area.v / cell), counts = new Uint32Array(across * down);
    const fx = across / (area.x1 - area.x0), fy = down / (area.y1 - area.y0);
    let top = 1;
    for (let i = 0; i < at.n; i++) {
      const cx = Math.floor((at.x[i] - area.x0) * fx), cy = Math.floor((area.y1 - at.y[i]) * fy);
      if (cx < 0 || cy < 0 || cx >= across || cy >= down) continue;
      const n = ++counts[cy * across + cx];
      if (n > top) top = n;
    }
    const ground = rgb(hue(part.root, "bg")), full = rgb(accent), deep = rgb(hue(part.root, "ink"));
    const mix = (a, b, f) => a.map((v, i) => v + (b[i] - v) * f);
    const color = (f) => (f < 0.6 ? mix(mix(ground, full, 0.28), full, f / 0.6) : mix(full, mix(full, deep, 0.75), (f - 0.6) / 0.4));
    const ramp = Array.from({ length: 256 }, (_, i) => color(i / 255));
    const image = new ImageData(across, down);
    for (let i = 0; i < counts.length; i++) {
      if (!counts[i]) continue;
      image.data.set(ramp[Math.round((255 * Math.log(counts[i])) / Math.log(top + 0.001 * (top === 1)))] || ramp[0], 4 * i);
      image.data[4 * i + 3] = 255;
    }
    const small = new OffscreenCanvas(across, down);
    small.getContext("2d").putImageData(image, 0, 0);
    c.imageSmoothingEnabled = false;
    c.drawImage(small, EDGE.left, EDGE.top, across * cell, down * cell);
    const bar = 84, left = EDGE.left + area.w - bar - 12, up = EDGE.top + area.v - 22;
    for (let i = 0; i < bar; i++) { c.fillStyle = `rgb(${ramp[Math.round((255 * i) / bar)].join(" ")})`; c.fillRect(left + i, up, 1.5, 7); }
    c.fillStyle = hue(part.root, "soft"); c.textAlign = "left"; c.fillText("1", left, up + 15); c.textAlign = "right"; c.fillText(`${whole(top)} pairs`, left + bar, up + 15);
  }

  function overlay() {
    if (!area) return;
    const c = pen(over, area.width, area.height), { sx, sy } = area;
    if (box) {
      const [x0, x1, y0, y1] = box;
      c.strokeStyle = hue(part.root, "mark"); c.fillStyle = c.strokeStyle;
      c.globalAlpha = 0.09; c.fillRect(sx(x0), sy(y1), sx(x1) - sx(x0), sy(y0) - sy(y1));
      c.globalAlpha = 1; c.lineWidth = 1.5; c.strokeRect(sx(x0), sy(y1), sx(x1) - sx(x0), sy(y0) - sy(y1));
    }
    tip.hidden = !(ring >= 0 && ring < at.n);
    if (tip.hidden) return;
    const p = point(ring), unit = frame.header.series[sOf()].unit, px = sx(at.x[ring]), py = sy(at.y[ring]);
    c.strokeStyle = hue(part.root, "ink"); c.lineWidth = 2; c.beginPath(); c.arc(px, py, 6, 0, 7); c.stroke();
    const range = Number.isFinite(p.low) && Number.isFinite(p.high) ? ` [${fixed(p.low, 2)}, ${fixed(p.high, 2)}]` : "";
    tip.replaceChildren(h("b", { text: p.subject }), h("span", { class: "soft", text: `${p.tissue} \u00b7 ${p.treatment}` }),
      h("div", { text: `observed ${p.censored > 0 ? "> " : p.censored < 0 ? "< " : ""}${fixed(p.observed, 2)} ${unit}` }), h("div", { text: `predicted ${fixed(p.predicted, 2)}${range}` }));
    tip.style.left = px > area.width / 2 ? "auto" : `${px + 12}px`;
    tip.style.right = px > area.width / 2 ? `${plot.clientWidth - px + 12}px` : "auto";
    tip.style.top = `${Math.max(2, Math.min(area.height - 92, py - 20))}px`;
  }

  const spot = (event) => { const r = over.getBoundingClientRect(); return [event.clientX - r.left, event.clientY - r.top]; };
  const ordered = (a, b, c, d) => [Math.min(a, b), Math.max(a, b), Math.min(c, d), Math.max(c, d)];
  over.addEventListener("pointerdown", (event) => {
    if (event.button || !area) return;
    const [px, py] = spot(event), x = area.ix(px), y = area.iy(py);
    const within = box && x >= box[0] && x <= box[1] && y >= box[2] && y <= box[3];
    drag = { px, py, x, y, from: within ? [...box] : null, moved: false };
    over.setPointerCapture(event.pointerId);
  });
  over.addEventListener("pointermove", (event) => {
    if (!area) return;
    const [px, py] = spot(event);
    if (drag) {
      if (Math.hypot(px - drag.px, py - drag.py) > 3) drag.moved = true;
      if (!drag.moved) return;
      const dx = area.ix(px) - drag.x, dy = area.iy(py) - drag.y;
      box = drag.from ? [drag.from[0] + dx, drag.from[1] + dx, drag.from[2] + dy, drag.from[3] + dy] : ordered(drag.x, area.ix(px), drag.y, area.iy(py));
      ring = -1;
      overlay();
      return;
    }
    let best = 100, near = -1; // within 10 pixels
    for (let i = 0; i < at.n; i++) { const d = (area.sx(at.x[i]) - px) ** 2 + (area.sy(at.y[i]) - py) ** 2; if (d < best) { best = d; near = i; } }
    if (near !== ring) { ring = near; overlay(); }
  });
  over.addEventListener("pointerup", () => {
    const done = drag;
    drag = null;
    if (done) put(model, { brush: done.moved ? box : [] });
  });
  over.addEventListener("pointercancel", () => { drag = null; rebrush(); });
  over.addEventListener("pointerleave", () => { if (!drag && ring >= 0) { ring = -1; overlay(); } });
  over.addEventListener("keydown", (event) => {
    if (!area) return;
    const { x0, x1, y0, y1 } = area, dx = (x1 - x0) / 40, dy = (y1 - y0) / 40;
    const arrow = { ArrowLeft: [-dx, 0], ArrowRight: [dx, 0], ArrowUp: [0, dy], ArrowDown: [0, -dy] }[event.key];
    let next = null;
    if (event.key === "Enter" && !box) next = [x0 + 15 * dx, x1 - 15 * dx, y0 + 15 * dy, y1 - 15 * dy];
    else if (event.key === "Escape" && box) next = [];
    else if (arrow && box && event.shiftKey) next = [box[0], Math.max(box[0] + dx, box[1] + arrow[0]), box[2], Math.max(box[2] + dy, box[3] + arrow[1])];
    else if (arrow && box) next = [box[0] + arrow[0], box[1] + arrow[0], box[2] + arrow[1], box[3] + arrow[1]];
    if (next) put(model, { brush: next });
    if (next || arrow) { event.preventDefault(); event.stopPropagation(); }
  });

  const quiet = listen(model, { frame_bytes: () => { stamp = 0; load(); }, title: load, series: refresh, predictor: refresh, treatment: refresh, view: refresh, brush: rebrush });
  part.look();
  load();
  return () => { quiet(); part.close(); };
}

export default { render };
