// Coverage of intervals by group against what they promise, with what breaks said in words. The packed columns are described in coverage_monitor.py.
import { h, listen, longList, put, stage, unpack, whole } from "./_parts.js";
import { SHARED, short } from "./_axes.js";

const COVER_CSS = `
.wb-cover{container-type:inline-size;}
.wb-cover .says{margin:0 0 12px;padding:9px 12px;border:1px solid var(--wb-line);border-left-width:5px;border-radius:4px;max-width:110ch;}
.wb-cover .says.bad{border-left-color:var(--wb-mark);}
.wb-cover .says.wide{border-left-color:var(--wb-warn);}
.wb-cover .says.good{border-left-color:var(--wb-good);}
.wb-cover .says b{font-weight:600;}
.wb-cover .cols{display:grid;grid-template-columns:minmax(0,1.35fr) minmax(0,1fr);gap:16px 24px;align-items:start;}
.wb-cover .cols>div{min-width:0;}
.wb-cover .cols.alone{grid-template-columns:minmax(0,1fr);}
.wb-cover .cols .scroll{max-height:446px;}
.wb-cover .head,.wb-cover .row{display:grid!important;grid-template-columns:minmax(90px,178px) minmax(0,1fr) 58px;gap:10px;align-items:center;}
.wb-cover .head{padding:0 10px 3px;font-size:12px;color:var(--wb-soft);}
.wb-cover .scale,.wb-cover .lane{position:relative;height:18px;}
.wb-cover .scale span{position:absolute;transform:translateX(-50%);white-space:nowrap;}
.wb-cover .scale span.last{transform:translateX(-70%);}
.wb-cover .lane i{position:absolute;top:0;bottom:0;width:0;border-left:1px solid var(--wb-line);}
.wb-cover .lane i.promise{border-left:2px dashed var(--wb-ink);top:-5px;bottom:-5px;opacity:.6;}
.wb-cover .lane .span{position:absolute;top:8px;height:3px;border-radius:2px;background:var(--wb-accent);opacity:.5;}
.wb-cover .lane .span.beyond{mask-image:linear-gradient(to right,transparent,#000 40px);} /* it goes on below the scale */
.wb-cover .lane .dot,.wb-cover .lane .ring{position:absolute;top:4px;width:11px;height:11px;margin-left:-5.5px;border-radius:50%;}
.wb-cover .lane .dot{background:var(--wb-accent);}
.wb-cover .lane .ring{border:2px solid var(--wb-soft);}
.wb-cover .v0 .span,.wb-cover .v0 .dot{background:var(--wb-mark);}
.wb-cover .v1 .span,.wb-cover .v1 .dot{background:var(--wb-warn);}
.wb-cover .v4 .span,.wb-cover .v4 .dot{background:var(--wb-soft);}
.wb-cover .v0 .dot{border-radius:2px;}
.wb-cover .v0 .name{font-weight:600;}
.wb-cover .legend{margin:7px 0 0;}
.wb-cover .legend .mark{display:inline-block;width:11px;height:11px;border-radius:50%;margin-right:5px;vertical-align:-1px;}
.wb-cover .one{min-height:40px;margin-top:8px;}
.wb-cover table.plain tbody tr{cursor:pointer;}
.wb-cover table.plain tbody tr:hover{background:var(--wb-hover);}
.wb-cover table.plain tbody tr[aria-current=true]{background:var(--wb-tint);}
.wb-cover table.plain button{border:0;background:none;padding:0;min-height:22px;text-align:left;}
.wb-cover .bad-text{color:var(--wb-error);font-weight:600;}
@container (max-width:900px){.wb-cover .cols{grid-template-columns:1fr;}}
@container (max-width:520px){.wb-cover .head,.wb-cover .row{grid-template-columns:minmax(70px,110px) minmax(0,1fr) 52px;}}
`;
/** What a kind of group is called: as a choice, one of them, many of them. */
const KIND = {
  all: ["all rows", "row", "rows"], tissue: ["tissue", "tissue", "tissues"], treatment: ["drug", "drug", "drugs"],
  predicted: ["predicted response", "fifth", "fifths"], distance: ["distance to training lines", "fifth", "fifths"], fold: ["fold", "fold", "folds"],
};
const ORDERED = new Set(["predicted", "distance", "fold"]);
const UNIT = { subject: ["line", "lines"], treatment: ["drug", "drugs"] };
const LEGEND = [["var(--wb-mark)", "breaks: holds less than promised"], ["var(--wb-warn)", "wider than promised"], ["var(--wb-accent)", "no break shown"], ["var(--wb-soft)", "too few to judge"]];
const share = (x, digits = 1) => (Number.isFinite(x) ? `${(100 * x).toFixed(digits)} %` : "\u2013");
const bounds = (low, high) => (Number.isFinite(low) && Number.isFinite(high) ? `${(100 * low).toFixed(1)} to ${(100 * high).toFixed(1)} %` : "");
/** A drug is called what it is called; what a table of ours codes is read as words. */
const words = (name, kind) => (kind === "treatment" ? name : name.replaceAll("_", " "));
const list = (texts, most = 4) => (texts.length > most ? `${texts.slice(0, most).join(", ")} and ${whole(texts.length - most)} more` : texts.length > 1 ? `${texts.slice(0, -1).join(", ")} and ${texts.at(-1)}` : texts.join(""));

/** Rows of `columns` of one predictor, split and kind of interval; of one kind of group where `kind` is given. */
export function rowsOf(frame, { predictor, split, interval, kind }) {
  const { columns: c, header: f } = frame, found = [];
  const want = [f.predictors.indexOf(predictor), f.splits.indexOf(split), f.intervals.indexOf(interval), f.kinds.indexOf(kind)];
  for (let i = 0; i < c.n.length; i++) {
    if (c.predictor[i] === want[0] && c.split[i] === want[1] && c.interval[i] === want[2] && (kind === undefined || c.kind[i] === want[3])) found.push(i);
  }
  return found;
}

/** Groups in the order in which they are read: those with an order by it, others from breaks to the widest. */
export function ranked(frame, rows, kind) {
  const { columns: c } = frame;
  return [...rows].sort((a, b) => (ORDERED.has(kind) ? c.position[a] - c.position[b] : 0) || (c.verdict[a] !== 0) - (c.verdict[b] !== 0) || (c.covered[a] - c.level[a]) - (c.covered[b] - c.level[b]));
}

/** In words: what was promised and found, and where it breaks. `total` is the row of all rows, or -1. */
export function sentence(frame, total, rows, kind) {
  const { columns: c, header: f } = frame, parts = [];
  const told = (i) => `${words(f.names[c.name[i]], kind)} (${share(c.covered[i])})`;
  if (total >= 0) {
    const unit = (UNIT[f.units[c.unit[total]]] || ["unit", "units"])[c.k[total] === 1 ? 0 : 1];
    const within = bounds(c.low[total], c.high[total]);
    parts.push(`${share(c.level[total], 0)} promised; ${share(c.covered[total])} of ${whole(c.n[total])} values of ${whole(c.k[total])} ${unit} lie within their interval${within ? ` (95 % interval ${within})` : ""}.`);
    if (c.unbounded[total] > 0) parts.push(`${c.unbounded[total] < 0.001 ? "Under 0.1 %" : share(c.unbounded[total])} of the intervals are unbounded: too little of the training data resembles these lines.`);
  }
  if (kind !== "all" && rows.length) {
    const [one, many] = KIND[kind].slice(1), noun = (n) => (n === 1 ? one : many);
    const bad = rows.filter((i) => c.verdict[i] === 0).sort((a, b) => c.covered[a] - c.covered[b]), wide = rows.filter((i) => c.verdict[i] === 1);
    const few = rows.filter((i) => c.verdict[i] === 4);
    if (bad.length) parts.push(`Broken in ${whole(bad.length)} of ${whole(rows.length)} ${noun(rows.length)}: ${list(bad.map(told))}.`);
    else parts.push(`No break shown in any of ${whole(rows.length)} ${noun(rows.length)}.`);
    if (wide.length) parts.push(`Wider than promised in ${whole(wide.length)}: ${list(wide.sort((a, b) => c.covered[b] - c.covered[a]).map(told), 3)}.`);
    if (few.length) parts.push(`${whole(few.length)} ${noun(few.length)} with too few lines to judge.`);
  }
  return parts.join(" ");
}

function render({ model, el }) {
  let frame = null, order = [], other = new Map(), low = 0.5;
  const part = stage(el, "wb-cover", model.get("theme"), `${SHARED}${COVER_CSS}`, () => {});
  const heading = h("h3", {}), note = h("p", { class: "note" });
  const pickers = [["predictor", "Predictor"], ["split", "Unseen"], ["by", "Coverage by"], ["intervals", "Intervals"], ["beside", "Beside"]].map(([trait, text]) => {
    const select = h("select", { "aria-label": text, onchange: () => put(model, { [trait]: select.value }) });
    return { trait, select, label: h("label", {}, h("span", { class: "soft", text }), select) };
  });
  const says = h("p", { class: "says", role: "status" });
  const scale = h("div", { class: "scale" }), what = h("span", {}), head = h("div", { class: "head" }, what, scale, h("span", { class: "num", text: "covered" }));
  const groups = longList({
    label: "Groups, worst first; arrows move, Enter says more", height: 430, rowHeight: 27,
    picked: () => false, pick: (i) => tell(i), moved: (i) => tell(i), fill: (row, i) => fill(row, order[i]),
  });
  const legend = h("div", { class: "legend" }, ...LEGEND.map(([color, text], i) => h("span", {}, h("span", { class: "mark", style: { background: color, borderRadius: i ? "50%" : "2px" } }), text)),
    h("span", {}, h("span", { class: "mark", style: { width: "0", height: "14px", borderRadius: "0", borderLeft: "2px dashed var(--wb-ink)", opacity: "0.6" } }), "promised"));
  const ringSaid = h("span", {}, h("span", { class: "mark", style: { border: "2px solid var(--wb-soft)" } }), h("span", {}));
  legend.append(ringSaid);
  const one = h("p", { class: "soft small one", role: "status" });
  const table = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "All kinds of interval in figures" });
  const tableHead = h("h4", { text: "Which intervals" });
  const aside = h("div", {}, tableHead, table);
  const body = h("div", { class: "cols" }, h("div", {}, head, groups.box, legend, one), aside);
  const empty = h("div", { class: "empty", text: "No coverage to show: the table is empty. It needs predictions with intervals whose targets were opened." });
  part.root.append(h("div", { class: "tops" }, heading, ...pickers.map((p) => p.label)), note, says, body, empty);

  const chosen = () => ({ predictor: model.get("predictor"), split: model.get("split"), interval: model.get("intervals") });
  const px = (x) => `${(100 * (Math.min(1, Math.max(low, x)) - low)) / (1 - low)}%`;

  function load() {
    frame = unpack(model.get("frame_bytes"));
    heading.textContent = model.get("title") || "Do the intervals hold?";
    note.textContent = model.get("note");
    note.hidden = !model.get("note");
    const some = Boolean(frame && frame.columns.n.length);
    body.hidden = says.hidden = !some;
    empty.hidden = some;
    for (const { label } of pickers) label.hidden = !some;
    if (some) refresh();
  }

  /** What can be chosen, given what is chosen before it. */
  function options() {
    const { columns: c, header: f } = frame, { predictor, split } = chosen();
    const here = [...c.n.keys()].filter((i) => f.predictors[c.predictor[i]] === predictor && f.splits[c.split[i]] === split);
    const of = (column, names) => names.filter((_, k) => here.some((i) => c[column][i] === k));
    return { predictor: f.predictors, split: f.splits, by: of("kind", f.kinds), intervals: of("interval", f.intervals), beside: ["", ...of("interval", f.intervals).filter((x) => x !== model.get("intervals"))] };
  }

  function refresh() {
    if (!frame || !frame.columns.n.length) return;
    const { columns: c } = frame, known = options(), kind = model.get("by");
    for (const { trait, select, label } of pickers) {
      select.replaceChildren(...known[trait].map((value) => h("option", { value, text: trait === "by" ? KIND[value][0] : value || "nothing" })));
      select.value = model.get(trait);
      label.hidden = known[trait].length < 2 || (trait === "intervals" && known.intervals.length < 2);
    }
    const rows = rowsOf(frame, { ...chosen(), kind }), total = rowsOf(frame, { ...chosen(), kind: "all" })[0] ?? -1;
    order = ranked(frame, rows, kind);
    other = new Map(model.get("beside") ? rowsOf(frame, { ...chosen(), interval: model.get("beside"), kind }).map((i) => [c.name[i], i]) : []);
    ringSaid.hidden = !other.size;
    ringSaid.lastChild.textContent = model.get("beside");
    const worst = Math.min(...[...rows, ...other.values()].map((i) => c.covered[i]), ...rows.map((i) => c.level[i] - 0.1));
    low = Math.max(0, Math.floor((worst - 0.04) * 10) / 10);
    says.textContent = rows.length || total >= 0 ? sentence(frame, total, rows, kind) : "These intervals were not counted in this way. Choose other groups or other intervals.";
    const bad = rows.some((i) => c.verdict[i] === 0), wide = rows.some((i) => c.verdict[i] === 1);
    says.className = `says ${bad ? "bad" : wide ? "wide" : "good"}`;
    what.textContent = KIND[kind]?.[1] === "row" ? "" : KIND[kind]?.[0] || "";
    const steps = low < 0.45 ? 0.2 : 0.1, marks = [];
    for (let x = 1; x >= low - 1e-9; x -= steps) marks.push(x);
    scale.replaceChildren(...marks.map((x) => h("span", { class: x === 1 ? "last" : null, text: `${Math.round(100 * x)}${x === 1 ? " %" : ""}`, style: { left: px(x) } })));
    groups.box.style.height = `${Math.max(60, Math.min(446, order.length * 27 + 4))}px`;
    groups.set(order.length);
    groups.marks = marks;
    drawTable(known.intervals, kind);
    one.textContent = order.length > 1 ? "Click a group to read it in words." : "";
    groups.draw();
  }

  function fill(row, i) {
    const { columns: c, header: f } = frame, name = f.names[c.name[i]], before = other.get(c.name[i]);
    row.classList.add(`v${c.verdict[i]}`);
    const lane = h("span", { class: "lane", "aria-hidden": "true" }, ...(groups.marks || []).map((x) => h("i", { style: { left: px(x) } })),
      h("i", { class: "promise", style: { left: px(c.level[i]) } }));
    if (Number.isFinite(c.low[i])) lane.append(h("span", { class: c.low[i] < low ? "span beyond" : "span", style: { left: px(c.low[i]), right: `calc(100% - ${px(c.high[i])})` } }));
    if (before !== undefined) lane.append(h("span", { class: "ring", style: { left: px(c.covered[before]) } }));
    lane.append(h("span", { class: "dot", style: { left: px(c.covered[i]) } }));
    row.append(h("span", { class: "name cut", text: words(name, model.get("by")), title: name }), lane, h("span", { class: "num", text: share(c.covered[i]) }));
    row.setAttribute("aria-label", `${name}: ${share(c.covered[i])} covered, ${f.verdicts[c.verdict[i]]}`);
  }

  function tell(k) {
    const { columns: c, header: f } = frame, i = order[k];
    if (i === undefined) return;
    const unit = (UNIT[f.units[c.unit[i]]] || ["unit", "units"])[c.k[i] === 1 ? 0 : 1], within = bounds(c.low[i], c.high[i]), before = other.get(c.name[i]);
    one.textContent = [
      `${words(f.names[c.name[i]], model.get("by"))}: ${share(c.covered[i])} of ${whole(c.n[i])} values of ${whole(c.k[i])} ${unit} lie within${within ? ` (95 % interval ${within})` : ""}; ${share(c.below[i])} below, ${share(c.above[i])} above.`,
      Number.isFinite(c.width[i]) ? `Mean width ${short(c.width[i])}.` : "No interval is finite.",
      c.unbounded[i] > 0 ? `${share(c.unbounded[i])} unbounded.` : "",
      `Verdict: ${f.verdicts[c.verdict[i]]}${f.verdicts[c.verdict[i]] === "in doubt" ? ": it would be called if it were the only one looked at" : ""}.`,
      before !== undefined ? `With \u201c${model.get("beside")}\u201d: ${share(c.covered[before])}, mean width ${short(c.width[before])}.` : "",
    ].filter(Boolean).join(" ");
  }

  function drawTable(names, kind) {
    const { columns: c } = frame, many = KIND[kind][2];
    aside.hidden = names.length < 2;
    body.classList.toggle("alone", aside.hidden);
    const lines = names.map((interval) => {
      const total = rowsOf(frame, { ...chosen(), interval, kind: "all" })[0], rows = rowsOf(frame, { ...chosen(), interval, kind });
      const bad = rows.filter((i) => c.verdict[i] === 0).length, on = interval === model.get("intervals");
      const figure = (text, marked) => h("td", { class: `num${marked ? " bad-text" : ""}`, text });
      return h("tr", { "aria-current": String(on), onclick: () => put(model, { intervals: interval, ...(model.get("beside") === interval ? { beside: "" } : {}) }) },
        h("th", { scope: "row" }, h("button", { type: "button", text: interval })),
        figure(total === undefined ? "\u2013" : share(c.covered[total]), total !== undefined && c.verdict[total] === 0), figure(total === undefined ? "\u2013" : short(c.width[total])),
        ...(kind === "all" ? [] : [figure(rows.length ? `${whole(bad)} of ${whole(rows.length)}` : "\u2013", bad > 0)]));
    });
    table.replaceChildren(h("table", { class: "plain" }, h("thead", {}, h("tr", {}, ...["Intervals", "covered", "mean width", ...(kind === "all" ? [] : [`${many} broken`])].map((text, i) => h("th", { text, scope: "col", class: i ? "num" : null })))), h("tbody", {}, ...lines)));
  }

  const redraw = () => refresh();
  const stop = listen(model, { frame_bytes: load, title: load, note: load, predictor: redraw, split: redraw, intervals: redraw, beside: redraw, by: redraw });
  load();
  part.look();
  return () => { stop(); part.close(); };
}

export default { render };
