// The report's own half: unpacks the predictions, runs the explorer on them, and fills the page of one drug.
// The explorer's module stands above this text in the same script; its default export is `explorer`.
// Names reach the page through textContent and nothing else.

const SIZES = { f4: 4, i4: 4, i2: 2, i1: 1, u1: 1 };
const VIEWS = { i4: Int32Array, i2: Int16Array, i1: Int8Array, u1: Uint8Array };

/** Bytes of a column that was laid out plane by plane, high bytes first. */
function unplane(bytes, count, size) {
  const out = new Uint8Array(count * size);
  for (let plane = 0; plane < size; plane++) {
    const at = plane * count;
    for (let i = 0; i < count; i++) out[i * size + size - 1 - plane] = bytes[at + i];
  }
  return out.buffer;
}

/** One squeezed column as a typed array. */
function column(bytes, count, [, kind, coding, low, step, from], made) {
  if (coding === "steps") {
    const steps = new Uint16Array(unplane(bytes, count, 2));
    const base = from ? made[from] : null;
    const out = new Float32Array(count);
    for (let i = 0; i < count; i++) out[i] = steps[i] === 65535 ? NaN : low + steps[i] * step + (base ? base[i] : 0);
    return out;
  }
  const out = new VIEWS[kind](unplane(bytes, count, SIZES[kind]));
  if (coding === "differences") for (let i = 1; i < count; i++) out[i] += out[i - 1];
  return out;
}

/** The header and the columns of the report's data. */
async function open(text) {
  const binary = Uint8Array.from(atob(text.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([binary]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const columns = {};
  let at = 4 + length;
  for (const entry of header.squeezed) {
    const [name, kind, coding] = entry;
    const count = header.counts[name];
    const size = count * (coding === "steps" ? 2 : SIZES[kind]);
    columns[name] = column(bytes.subarray(at, at + size), count, entry, columns);
    at += size;
  }
  return { header, columns };
}

/** The bytes that the explorer reads (layout: widgets/_parts.py). */
function frame({ header, columns }) {
  const places = {};
  let offset = 0;
  for (const [name, kind] of header.squeezed) {
    places[name] = [kind, offset, columns[name].length];
    offset += Math.ceil(columns[name].byteLength / 8) * 8;
  }
  const { squeezed, counts, drugs, ...own } = header;
  let head = new TextEncoder().encode(JSON.stringify({ ...own, columns: places }));
  const padded = new Uint8Array(Math.ceil((head.length + 4) / 8) * 8 - 4).fill(32);
  padded.set(head);
  const out = new Uint8Array(4 + padded.length + offset);
  new DataView(out.buffer).setUint32(0, padded.length, true);
  out.set(padded, 4);
  for (const [name, [, at]] of Object.entries(places)) {
    const c = columns[name];
    out.set(new Uint8Array(c.buffer, c.byteOffset, c.byteLength), 4 + padded.length + at);
  }
  return new DataView(out.buffer);
}

/** What an anywidget module expects of its kernel, without one. */
class Model {
  constructor(values) { this.values = values; this.pending = {}; this.heard = {}; }
  get(name) { return name in this.pending ? this.pending[name] : this.values[name]; }
  set(name, value) { this.pending[name] = value; }
  save_changes() {
    const changed = Object.keys(this.pending).filter((k) => this.pending[k] !== this.values[k]);
    Object.assign(this.values, this.pending);
    this.pending = {};
    for (const name of changed) for (const call of [...(this.heard[`change:${name}`] || [])]) call();
  }
  on(event, call) { (this.heard[event] ||= []).push(call); }
  off(event, call) { this.heard[event] = (this.heard[event] || []).filter((c) => c !== call); }
  send() {}
}

const node = (tag, text, ...children) => {
  const made = document.createElement(tag);
  if (text !== null && text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
};
const show = (x) => {
  if (x === null || x === undefined || !Number.isFinite(x)) return "–";
  const size = Math.abs(x);
  const text = x.toFixed(size < 10 ? 3 : size < 100 ? 2 : 0);
  return text.replace("-", "\u2212");
};

const weight = (x) => ((x >= 0 ? "+" : "") + Number(x.toPrecision(3))).replaceAll("-", "\u2212");

/** A table of cells (text or elements), the first of each row as its heading. */
function table(caption, head, rows, kind) {
  const made = node("table", null, node("caption", caption),
    node("thead", null, node("tr", null, ...head.map((t) => { const th = node("th", t); th.scope = "col"; return th; }))),
    node("tbody", null, ...rows.map((cells) => node("tr", null, ...cells.map((cell, i) => {
      const made = node(i ? "td" : "th", null, cell instanceof Node ? cell : String(cell));
      if (!i) made.scope = "row";
      return made;
    })))));
  made.className = kind;
  const box = node("div", null, made);
  box.className = "scroll";
  box.tabIndex = 0;
  return box;
}

function named(name, naive) {
  const made = node("span", name, node("small", naive ? "naive" : "model"));
  made.className = naive ? "naive" : "model";
  return made;
}

/** Scores, tissues and features of one drug with one predictor. */
function drug(place, data, treatment, predictor) {
  const { header, columns } = data;
  const { drugs } = header;
  const t = drugs.names.indexOf(treatment);
  if (t < 0) { place.replaceChildren(node("p", "Pick a drug to see its scores, tissues and genes.")); return; }
  const unit = drugs.unit;
  const scores = drugs.scores[t].map(([p, n, pearson, spearman, rmse, inside]) =>
    [named(drugs.predictors[p], drugs.naive[p]), show(pearson), show(spearman), show(rmse), show(inside), n]);
  const left = table("Within this drug, all predictors (correlations: mean over folds)",
    ["Predictor", "Pearson", "Spearman", `RMSE [${unit}]`, "in interval", "lines"], scores, "compact");
  const genes = features(drugs, t, predictor);
  const right = tissues(header, columns, treatment, predictor, unit);
  const pair = node("div", null, node("div", null, left, right), node("div", null, genes));
  pair.className = "pair";
  place.replaceChildren(node("h3", treatment), pair);
}

function tissues(header, columns, treatment, predictor, unit) {
  const k = header.predictors.findIndex((p) => p.name === predictor);
  const t = header.treatments.indexOf(treatment);
  if (k < 0 || t < 0) return node("p", `Rows of ${predictor} are not in this report.`);
  const sums = new Map();
  const predicted = columns[`predicted.${k}`];
  for (let s = 0; s < header.series.length; s++) {
    const cell = s * header.treatments.length + t;
    for (let i = columns.start[cell]; i < columns.start[cell + 1]; i++) {
      if (!Number.isFinite(predicted[i])) continue;
      const where = columns.tissue_of[columns.subject[i]];
      const sum = sums.get(where) || [0, 0, 0, 0];
      sum[0] += 1; sum[1] += columns.observed[i]; sum[2] += predicted[i]; sum[3] += (predicted[i] - columns.observed[i]) ** 2;
      sums.set(where, sum);
    }
  }
  const rows = [...sums].sort((a, b) => b[1][0] - a[1][0]).map(([where, [n, o, p, e]]) =>
    [where < 0 ? "unknown" : header.tissues[where], n, show(o / n), show(p / n), show(Math.sqrt(e / n))]);
  return table(`By tissue, ${predictor} (means over lines)`,
    ["Tissue", "lines", `observed [${unit}]`, `predicted [${unit}]`, `RMSE [${unit}]`], rows, "compact");
}

function features(drugs, t, predictor) {
  const found = (drugs.features[t] || {})[predictor];
  if (!found || !found.length) {
    const note = node("p", `No attributions were recorded for ${predictor} and this drug.`);
    note.className = "note";
    return note;
  }
  const most = Math.max(...found.map(([, , value]) => Math.abs(value))) || 1;
  const rows = found.map(([f, m, value]) => {
    const track = node("span"), fill = node("span"), share = 50 * Math.abs(value) / most;
    track.className = "track";
    fill.className = value >= 0 ? "fill up" : "fill down";
    fill.style.left = `${value >= 0 ? 50 : 50 - share}%`;
    fill.style.width = `${share}%`;
    track.append(fill);
    return [drugs.feature_names[f], drugs.modalities[m], track, weight(value)];
  });
  const { unit, method } = drugs.attribution[predictor];
  const signs = found.some(([, , value]) => value < 0) ? "right raises the prediction, left lowers it" : "size only";
  return table(`What ${predictor} leans on here (${method}; ${signs})`,
    ["Feature", "modality", "weight", `[${unit}]`], rows, "compact genes");
}

function fillSelect(select, names, value) {
  select.replaceChildren(...names.map((name) => { const made = node("option", name); made.value = name; return made; }));
  select.value = value;
}

async function main() {
  const place = document.getElementById("explorer"), panel = document.getElementById("drug");
  const pickDrug = document.getElementById("pick-drug"), pickPredictor = document.getElementById("pick-predictor");
  try {
    const data = await open(document.getElementById("data").textContent);
    const { header } = data;
    const first = header.predictors[0] ? header.drugs.first : "";
    const model = new Model({
      frame_bytes: frame(data), theme: document.getElementById("theme").textContent, title: "",
      series: header.series[0] ? header.series[0].key : "", predictor: first, treatment: header.drugs.names[0] || "",
      view: "observed", brush: [],
    });
    fillSelect(pickDrug, header.drugs.names, model.get("treatment"));
    fillSelect(pickPredictor, header.predictors.map((p) => p.name), first);
    const redraw = () => {
      if (model.get("treatment")) pickDrug.value = model.get("treatment");
      pickPredictor.value = model.get("predictor");
      drug(panel, data, pickDrug.value, pickPredictor.value);
    };
    const tell = (name, value) => { model.set(name, value); model.save_changes(); };
    pickDrug.addEventListener("change", () => tell("treatment", pickDrug.value));
    pickPredictor.addEventListener("change", () => tell("predictor", pickPredictor.value));
    model.on("change:treatment", redraw);
    model.on("change:predictor", redraw);
    redraw();
    place.replaceChildren();
    explorer.render({ model, el: place });
    document.documentElement.dataset.ready = "true";
  } catch (error) {
    const said = node("p", `The interactive part could not start (${error.message}). The tables are complete without it.`);
    said.className = "problem";
    place.replaceChildren(said);
    throw error;
  }
}
// two frames later: what can be read without the data is painted first
requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(main)));
