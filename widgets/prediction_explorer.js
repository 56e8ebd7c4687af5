// Predicted against observed: lists, scores, brush. The packed columns are described in prediction_explorer.py.
import { fixed, h, hue, listen, longList, pen, put, stage, unpack, whole } from "./_parts.js";
import { inside, measure, naive, perTreatment, places, span } from "./_pairs.js";
import { scatter } from "./_scatter.js";

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
.wb-explorer .heads{display:flex;gap:8px;padding:0 10px 3px 10px;font-size:12px;color:var(--wb-soft);}
.wb-explorer .heads span:not(.num){flex:1 1 0;}
.wb-explorer .heads .num{flex:0 0 39px;}
.wb-explorer .lower{padding-top:12px;}
.wb-explorer .say{display:flex;justify-content:space-between;align-items:center;gap:8px;min-height:28px;margin-bottom:6px;}
.wb-explorer .keys{margin-top:6px;}
@container (max-width:930px){.wb-explorer .grid{grid-template-columns:190px minmax(260px,1fr);}.wb-explorer .side{grid-column:1/-1;columns:2;column-gap:18px;}
.wb-explorer .side>div{break-inside:avoid;}}
@container (max-width:560px){.wb-explorer .grid{grid-template-columns:1fr;}}
`;

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

  const kOf = () => Math.max(0, frame.header.predictors.findIndex((p) => p.name === model.get("predictor")));
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
    predictors.value = frame.header.predictors[k].name;
    kinds.value = frame.header.series[s].key;
    for (const b of views) b.setAttribute("aria-pressed", String(b.value === model.get("view")));
    if (stamp !== `${s}/${k}`) { stamp = `${s}/${k}`; ranking = perTreatment(frame, s, k); list(); } else list(true);
    at = places(frame, k, ...span(frame, s, tOf()), model.get("view"));
    ring = -1;
    score();
    rebrush();
  }

  function score() {
    const s = sOf(), k = kOf(), [from, to] = span(frame, s, tOf());
    const { columns, header } = frame, predicted = columns[`predicted.${k}`];
    const own = measure(columns.observed, predicted, from, to);
    const beside = (other, value) => (!other ? "no naive value here" : other.self ? "the naive one itself"
      : Number.isFinite(value) ? `naive ${fixed(value, 3)} (${other.name})` : "naive: constant, undefined");
    const byError = naive(frame, k, from, to), byOrder = naive(frame, k, from, to, "pearson");
    const items = [["Pairs", whole(own.n), tOf() < 0 ? "all treatments" : "this treatment"],
      ["Pearson", fixed(own.pearson, 3), beside(byOrder, byOrder?.pearson)],
      [`RMSE, ${header.series[s].unit}`, fixed(own.rmse, 3), beside(byError, byError?.rmse)]];
    const normal = measure(columns.observed, predicted, from, to, predicted, columns.baseline);
    if (tOf() < 0 && normal.n) { // mean effects of drug and line removed: what is left is what biology must explain
      const other = naive(frame, k, from, to, "pearson", columns.baseline);
      items.splice(2, 0, ["Pearson, normalised", fixed(normal.pearson, 3), Number.isFinite(other?.pearson) ? beside(other, other.pearson) : "naive 0, mean effects removed"]);
    }
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
      : !picked.length ? "No pair lies in the rectangle" : `${whole(picked.length)} of ${whole(at.n)} pairs, ${whole(subjects)} lines`;
    heads.replaceChildren(h("span", { text: "Line" }), ...(model.get("treatment") ? [] : [h("span", { text: "Treatment" })]),
      ...["observed", "predicted", "residual"].map((text) => h("span", { class: "num", text: { observed: "obs.", predicted: "pred.", residual: "resid." }[text], title: text })));
    tissueList.set(tissues.length);
    lineList.set(lines.length);
  }

  function draw() {
    heads.style.paddingRight = `${lineList.box.offsetWidth - lineList.box.clientWidth + 9}px`;
    const tissue = (i) => frame.columns.tissue_of[frame.columns.subject[at.rows[i]]];
    const named = new Set(model.get("marked") || []), mine = (i) => named.has(frame.header.subjects[frame.columns.subject[at.rows[i]]]);
    const all = lit === -1 && !named.size ? [] : Array.from({ length: at.n }, (_, i) => i).filter((i) => !named.size || lit !== -1 || mine(i));
    const series = frame.header.series[sOf()], k = kOf(), { observed, censored, [`low.${k}`]: low, [`high.${k}`]: high } = frame.columns;
    area = scatter(base, part.root, Math.max(260, plot.clientWidth || 460), at, {
      residual: model.get("view") === "residuals", what: `${series.label}, ${series.unit}`, unit: series.unit,
      bright: (picked || all).filter((i) => lit === -1 || tissue(i) === lit), observed, censored, low: tOf() < 0 ? null : low, high,
    });
    overlay();
  }

  function overlay() {
    if (!area) return;
    const c = pen(over, area.width, area.height), { sx, sy } = area;
    if (box) {
      const [x0, x1, y0, y1] = [Math.max(box[0], area.x0), Math.min(box[1], area.x1), Math.max(box[2], area.y0), Math.min(box[3], area.y1)];
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

  const quiet = listen(model, { frame_bytes: () => { stamp = 0; load(); }, title: load, series: refresh, predictor: refresh, treatment: refresh, view: refresh, brush: rebrush, marked: () => { if (frame) draw(); } });
  part.look();
  load();
  return () => { quiet(); part.close(); };
}

export default { render };
