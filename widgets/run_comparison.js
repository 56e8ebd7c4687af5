// Runs compared: scores with intervals, score against time, paired differences, mean ranks, what differs, all figures. Columns: _comparison.py.
import { fixed, h, hue, listen, plain, put, stage, ticks, unpack, whole } from "./_parts.js";
import { SHARED, at, cut, disc, plane, segment, short, tooltip } from "./_axes.js";
import { csv, ranking, view } from "./_compared.js";
import { diagram } from "./_ranks.js";

const COMPARE_CSS = `
.wb-compare{container-type:inline-size;}
.wb-compare .parts{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:20px 30px;margin-top:14px;}
.wb-compare .parts>div{display:flex;flex-direction:column;gap:22px;min-width:0;}
.wb-compare section{min-width:0;}
.wb-compare .wide{margin-top:20px;}
.wb-compare h4{font-size:13px;color:var(--wb-ink);margin:0 0 3px;}
.wb-compare .lead-in{margin:2px 0 8px;font-size:14px;overflow-wrap:anywhere;}
.wb-compare .gap{padding:18px 14px;color:var(--wb-soft);border:1px dashed var(--wb-line);border-radius:4px;}
.wb-compare .forest .line{display:grid;grid-template-columns:minmax(90px,34%) minmax(0,1fr) 152px;grid-template-areas:"name track value";align-items:center;column-gap:12px;}
.wb-compare .forest .line>button{grid-area:name;justify-self:start;}
.wb-compare .forest .value{grid-area:value;}
.wb-compare .tops label{max-width:100%;}
.wb-compare .tops label .soft{flex:none;}
.wb-compare .tops select{min-width:0;flex:0 1 auto;}
.wb-compare .forest .track,.wb-compare .forest .scale{grid-area:track;}
.wb-compare .forest button,.wb-compare .plain th button{border-color:transparent;background:none;text-align:left;padding:2px 5px;min-height:27px;overflow-wrap:anywhere;line-height:1.3;}
.wb-compare .forest button:hover,.wb-compare .plain th button:hover{background:var(--wb-hover);}
.wb-compare button[aria-pressed=true]{background:var(--wb-tint)!important;border-color:var(--wb-accent)!important;}
.wb-compare .dim{color:var(--wb-soft);}
.wb-compare .track{position:relative;min-height:27px;align-self:stretch;}
.wb-compare .track i{position:absolute;top:0;bottom:0;width:1px;background:var(--wb-line);}
.wb-compare .track .span{position:absolute;top:calc(50% - 1.5px);height:3px;border-radius:2px;background:currentColor;}
.wb-compare .track .dot{position:absolute;top:calc(50% - 5.5px);width:11px;height:11px;margin-left:-5.5px;border-radius:50%;background:currentColor;}
.wb-compare .track .rule,.wb-compare .legend .rule{border-left:2px dashed var(--wb-mark);}
.wb-compare .track .rule{position:absolute;top:3px;bottom:3px;margin-left:-1px;}
.wb-compare .legend .rule{display:inline-block;height:13px;margin:0 7px 0 4px;vertical-align:middle;}
.wb-compare .track.model{color:var(--wb-accent);}
.wb-compare .track.naive{color:var(--wb-soft);}
.wb-compare .track.naive .dot{background:var(--wb-bg);border:2px solid currentColor;}
.wb-compare .scale{position:relative;height:36px;font-size:12px;color:var(--wb-soft);}
.wb-compare .scale span{position:absolute;transform:translateX(-50%);top:2px;}
.wb-compare .scale b{position:absolute;left:0;right:0;top:18px;text-align:center;font-weight:400;color:var(--wb-ink);white-space:nowrap;}
.wb-compare .matrix td{text-align:center;padding:4px 6px!important;white-space:nowrap;min-width:58px;border-left:1px solid var(--wb-line);}
.wb-compare .matrix thead th{text-align:center!important;padding:3px 6px!important;}
.wb-compare .matrix thead th:first-child,.wb-compare .matrix tbody th{position:sticky;left:0;background:var(--wb-bg);text-align:left!important;z-index:1;min-width:132px;max-width:190px;}
.wb-compare .matrix small{display:block;font-size:11px;color:var(--wb-soft);}
.wb-compare .is-better{background:color-mix(in srgb,var(--wb-c0) 17%,transparent);}
.wb-compare .is-worse{background:color-mix(in srgb,var(--wb-c3) 17%,transparent);}
.wb-compare .own{background:color-mix(in srgb,var(--wb-soft) 9%,transparent);}
.wb-compare tr.on>*{box-shadow:inset 0 2px 0 var(--wb-accent),inset 0 -2px 0 var(--wb-accent);}
.wb-compare svg.ranks{display:block;font-size:12px;}
.wb-compare svg text{fill:var(--wb-ink);}
.wb-compare svg .tick{fill:var(--wb-soft);}
.wb-compare svg .rank{fill:var(--wb-soft);}
.wb-compare svg .axis{stroke:var(--wb-ink);}
.wb-compare svg .ruler{stroke:var(--wb-mark);stroke-width:2;}
.wb-compare svg .joined{stroke:var(--wb-ink);stroke-width:4.5;stroke-linecap:round;}
.wb-compare svg .lead{fill:none;stroke:var(--wb-accent);}
.wb-compare svg .lead.naive{stroke:var(--wb-soft);stroke-dasharray:3 3;}
.wb-compare svg .lead.on{stroke-width:3;}
.wb-compare svg .at{fill:var(--wb-accent);}
.wb-compare svg .at.naive{fill:var(--wb-bg);stroke:var(--wb-soft);stroke-width:1.5;}
.wb-compare svg .name.on{font-weight:700;}
.wb-compare .plain thead button{font-weight:600;border-color:transparent;background:none;padding:2px 4px;color:inherit;}
.wb-compare .plain thead button:hover{background:var(--wb-hover);}
.wb-compare .plain td.text{overflow-wrap:anywhere;min-width:130px;}
.wb-compare .all tbody th,.wb-compare .all tbody td{vertical-align:middle!important;}
.wb-compare .all th:first-child{position:sticky;left:0;background:var(--wb-bg);min-width:150px;z-index:1;}
.wb-compare .wide .plain:not(.all) tbody th{min-width:130px;}
.wb-compare details{margin-top:8px;}
.wb-compare .pad{padding:10px 0 0;}
@container (max-width:860px){.wb-compare .parts{grid-template-columns:minmax(0,1fr);}}
@container (max-width:520px){.wb-compare .forest .line{grid-template-columns:minmax(0,1fr) max-content;grid-template-areas:"name value" "track track";}}
`;
const FEW = 24, SQUARE = 14, MANY = 400, NAMED = 30; // rows before one asks, cells, rows at most, names in the plot
const MARKS = { better: "\u25b2", worse: "\u25bc", "no difference shown": "=" };
const signed = (x, digits) => { const text = fixed(Math.abs(x), digits); return !Number.isFinite(x) ? text : `${Number(text) === 0 ? "" : x > 0 ? "+" : "\u2212"}${text}`; };
/** A difference to three digits after the point, four where it is small. */
const apartBy = (x) => signed(x, Math.abs(x) >= 10 ? 1 : Math.abs(x) >= 0.02 ? 3 : 4);
const bound = (low, high, say) => (Number.isFinite(low) && Number.isFinite(high) ? `${say(low)} to ${say(high)}` : "no interval");
const chance = (p) => (!Number.isFinite(p) ? "\u2013" : p < 0.001 ? "< 0.001" : fixed(p, 3));
const seconds = (s) => (Number.isFinite(s) ? short(s) : "\u2013");
const GOOD = { higher: "higher is better", lower: "lower is better", "": "" };
const titled = (kind) => [kind.name, kind.unit, GOOD[kind.better]].filter(Boolean).join(", ");

/** Values as words of a row of the table: the same on the screen and in the file. */
export const HEAD = ["Entry", "Score", "Low", "High", "Best naive", "Better than naive by", "Naive predictor", "Folds", "Seeds", "Seconds a fold", "Interval"];
export const figures = (row, better) => [row.name, row.value, row.low, row.high, row.naiveValue,
  (better === "lower" ? -1 : 1) * (row.value - row.naiveValue), row.naivePredictor, row.folds, row.seeds, row.cost, row.interval];

function render({ model, el }) {
  let frame = null, seen = null, sorted = null, all = false, pooled = false, over = -1, spots = [], area = null, drawn = 0;
  const part = stage(el, "wb-compare", model.get("theme"), `${SHARED}${COMPARE_CSS}`, () => {
    const width = part?.root.clientWidth || 0;
    if (frame && width !== drawn) { drawn = width; pictures(); } else if (frame) front();
  });
  const heading = h("h3", {}), note = h("p", { class: "note" });
  const pick = (label, name) => {
    const box = h("select", { onchange: () => put(model, { [name]: box.value }) });
    return { box, label: h("label", {}, h("span", { class: "soft", text: label }), box) };
  };
  const where = pick("Study and split", "place"), what = pick("Metric", "metric");
  const clear = h("button", { type: "button", text: "Clear marks", onclick: () => put(model, { marked: [] }) });
  const lead = h("p", { class: "lead-in", role: "status" });
  const forest = h("div", { class: "forest", role: "group" }), forestHead = h("h4", {}), more = h("button", { type: "button", onclick: () => { all = !all; refresh(); } });
  const forestKey = h("div", { class: "legend soft pad" });
  const cloud = h("canvas", { tabindex: "0", role: "application", "aria-roledescription": "scatter plot" }), plot = h("div", { class: "plot" }, cloud), tip = tooltip(plot);
  const cost = h("section", {}), matrix = h("section", {}), ranks = h("section", {}), params = h("section", { class: "wide" }), table = h("section", { class: "wide" });
  const remarks = h("ul", { class: "soft small" });
  const body = h("div", {}, lead, h("div", { class: "parts" }, h("div", {}, h("section", {}, forestHead, forest, more, forestKey), matrix), h("div", {}, cost, ranks)), params, table, remarks);
  const empty = h("div", { class: "empty" });
  const said = h("span", { class: "soft small", role: "status" });
  part.root.append(h("div", { class: "tops" }, heading, where.label, what.label, clear), note, body, empty);
  const gap = (text) => h("div", { class: "gap", text });
  const mark = (name) => { const now = plain(model.get("marked")); put(model, { marked: now.includes(name) ? now.filter((n) => n !== name) : [...now, name] }); };
  const marked = () => new Set(plain(model.get("marked")));
  const named = (row, key) => h("button", { type: "button", "data-key": `${key} ${row.name}`, "aria-pressed": String(marked().has(row.name)), class: row.naive ? "dim" : null,
    title: "Mark it in every plot and table", text: row.name, onclick: () => mark(row.name) });

  function load() {
    frame = unpack(model.get("frame_bytes"));
    heading.textContent = model.get("title") || "Runs compared";
    note.textContent = model.get("note");
    note.hidden = !model.get("note");
    const { places = [], metrics = [], notes = [] } = frame?.header || {}, split = places.filter((p) => !p.pooled);
    where.box.replaceChildren(...split.map((p) => h("option", { value: p.key, text: p.key })));
    what.box.replaceChildren(...metrics.map((m) => h("option", { value: m.name, text: m.unit ? `${m.name}, ${m.unit}` : m.name })));
    where.label.hidden = split.length < 2;
    const some = Boolean(split.length && metrics.length);
    what.label.hidden = body.hidden = !some;
    empty.hidden = some;
    empty.textContent = notes.length ? `Nothing to compare. ${notes.join(" ")}` : "Nothing to compare: none of these runs holds a score. Record one with \u201cworkbench run\u201d and a file of experiments.";
    if (some) refresh();
    else { frame = null; clear.hidden = true; }
  }

  function refresh() {
    if (!frame) return;
    const { places, metrics, notes } = frame.header;
    where.box.value = model.get("place");
    what.box.value = model.get("metric");
    const place = places.findIndex((p) => p.key === model.get("place")), metric = metrics.findIndex((m) => m.name === model.get("metric"));
    seen = { place, metric, ...view(frame, place, metric), own: ranking(frame, place, metric), pool: ranking(frame, places.findIndex((p) => p.pooled), metric) };
    clear.hidden = !marked().size;
    lead.textContent = leading();
    const held = part.root.getRootNode().activeElement?.dataset?.key;
    for (const section of [cost, ranks, params]) section.hidden = seen.rows.length < 2;
    points();
    differing();
    listed();
    pictures();
    remarks.replaceChildren(...notes.map((text) => h("li", { text })));
    // whoever pressed a key stays where they were
    if (held) [...part.root.querySelectorAll("button")].find((button) => button.dataset.key === held)?.focus();
  }

  function leading() {
    const { rows, kind, pair } = seen, first = rows.find((r) => Number.isFinite(r.value) && !r.naive) || rows[0];
    if (!first) return `No run here was scored by ${kind.name}.`;
    const value = `${first.name} leads with ${fixed(first.value)} (${bound(first.low, first.high, fixed)})`;
    const naive = Number.isFinite(first.naiveValue) ? `; the best naive predictor has ${fixed(first.naiveValue)}` : "";
    const next = rows.find((r) => r.entry !== first.entry && !r.naive && Number.isFinite(r.value)), between = next && pair(first.entry, next.entry);
    if (!next) return rows.length < 2 ? `One entry only, ${first.name} with ${fixed(first.value)}${naive}: nothing to compare.` : `${value}${naive}.`;
    const told = between ? `: ${between.verdict}, difference ${apartBy(between.difference)} (${bound(between.low, between.high, apartBy)})` : "";
    return `${value}${naive}. Next is ${next.name}${told}.`;
  }

  function points() {
    const { rows, kind } = seen, valued = rows.filter((r) => Number.isFinite(r.value)), shown = rows.slice(0, all ? MANY : FEW);
    const ends = valued.flatMap((r) => [r.value, r.low, r.high, r.naiveValue]).filter(Number.isFinite), least = Math.min(...ends), most = Math.max(...ends);
    const pad = (most - least) * 0.05 || Math.abs(most) * 0.05 || 1, low = least - pad, high = most + pad, x = (v) => `${(100 * (v - low)) / (high - low)}%`;
    const steps = valued.length ? ticks(low, high, 5) : [];
    forestHead.textContent = "Score with its 95 % interval, beside the best naive one";
    forest.setAttribute("aria-label", `${titled(kind)}, best first; press a name to mark it everywhere`);
    forest.replaceChildren(...shown.map((r) => h("div", { class: "line" },
      named(r, "forest"),
      h("div", { class: `track ${r.naive ? "naive" : "model"}`, role: "img", "aria-label": `${r.name}: ${fixed(r.value)}, ${bound(r.low, r.high, fixed)}; best naive ${fixed(r.naiveValue)}`, title: r.interval },
        ...steps.map((v) => h("i", { style: { left: x(v) } })),
        ...(Number.isFinite(r.naiveValue) ? [h("span", { class: "rule", style: { left: x(r.naiveValue) } })] : []),
        ...(Number.isFinite(r.low) && Number.isFinite(r.high) ? [h("span", { class: "span", style: { left: x(r.low), width: `${(100 * (r.high - r.low)) / (high - low)}%` } })] : []),
        ...(Number.isFinite(r.value) ? [h("span", { class: "dot", style: { left: x(r.value) } })] : [])),
      h("span", { class: "num small value" }, h("b", { text: fixed(r.value) }), h("span", { class: "soft", text: Number.isFinite(r.low) ? `  ${fixed(r.low)} to ${fixed(r.high)}` : "" })))), h("div", { class: "line" }, h("div", { class: "scale", "aria-hidden": "true" }, ...steps.map((v) => h("span", { style: { left: x(v) }, text: short(v) })), h("b", { text: titled(kind) }))));
    more.hidden = rows.length <= FEW;
    more.textContent = all ? `Show the best ${FEW} only` : rows.length > MANY ? `Show the best ${MANY} of ${whole(rows.length)}` : `Show all ${rows.length} entries`;
    forestKey.replaceChildren(h("span", {}, h("span", { class: "rule" }), "best naive predictor on the same folds"), ...(rows.some((r) => r.naive) ? [h("span", { text: "hollow: a naive predictor itself" })] : []));
  }

  const alone = () => (seen.rows.length < 2 ? "One run only: nothing to compare." : "");
  const uncompared = () => (!seen.kind.better ? `${seen.kind.name} is no merit by itself: it is neither paired nor ranked.` : seen.compared ? "" : `Compared by ${frame.header.compared.map((m) => frame.header.metrics[m].name).join(", ") || "no metric"} so far; choose that metric, or compare again by ${seen.kind.name}.`);

  function differences() {
    const { rows, pair, sets, between } = seen, why = alone() || uncompared() || (between.size ? "" : "No pair of these runs shares rows or folds: no difference can be had.");
    const head = h("h4", { text: "Paired differences: row minus column" }), paired = rows.filter((r) => seen.paired.has(r.entry));
    if (why) return matrix.replaceChildren(head, gap(why));
    const some = paired.slice(0, SQUARE), say = apartBy, on = marked(), longest = Math.max(...[...between.values()].map((d) => bound(d.low, d.high, say).length));
    const wordy = (matrix.clientWidth || 500) - 134 >= (14 + 6.1 * longest) * some.length; // is there room for intervals?
    const cells = (a) => some.map((b) => {
      if (a.entry === b.entry) return h("td", { class: "own", "aria-label": "itself" });
      const d = pair(a.entry, b.entry);
      if (!d) return h("td", { class: "dim", text: "\u2013", title: "not compared" });
      const told = `${a.name} against ${b.name}: ${d.verdict}, ${say(d.difference)} (${bound(d.low, d.high, say)}), p ${chance(d.p)}`;
      return h("td", { class: d.verdict === "better" ? "is-better" : d.verdict === "worse" ? "is-worse" : null, title: told, "aria-label": told },
        `${MARKS[d.verdict] || "\u00b7"} ${say(d.difference)}`, ...(wordy ? [h("small", { text: bound(d.low, d.high, say) })] : []));
    });
    matrix.replaceChildren(head,
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Paired differences" }, h("table", { class: "plain matrix" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col", text: "best first" }), ...some.map((b, i) => h("th", { scope: "col", title: b.name, "aria-label": b.name, text: String(i + 1) })))),
        h("tbody", {}, ...some.map((a, i) => h("tr", { class: on.has(a.name) ? "on" : null }, h("th", { scope: "row", class: a.naive ? "dim" : null, text: `${i + 1}. ${a.name}` }), ...cells(a)))))),
      h("p", { class: "soft small pad", text: `\u25b2 row better, \u25bc row worse, = no difference shown; 95 % intervals${[...between.values()][0].paired ? `, ${[...between.values()][0].paired}` : ""}.${paired.length > SQUARE ? ` The best ${SQUARE} of ${paired.length}; all pairs are in the list.` : ""}` }),
      ...(sets.length ? [h("p", { class: "soft small", text: `Not told apart: ${sets.map((set) => set.map((e) => frame.header.entries[e].name).join(" = ")).join("; ")}.` })] : []), pairsInWords());
  }

  function pairsInWords() {
    const { rows, pair } = seen, box = h("details", {}, h("summary", { class: "small", text: "All pairs with p values" })), inner = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "All pairs" });
    box.append(inner);
    box.addEventListener("toggle", () => {
      if (!box.open || inner.childNodes.length) return;
      const some = rows.filter((r) => seen.paired.has(r.entry)), found = some.flatMap((a, i) => some.slice(i + 1).map((b) => [a, b, pair(a.entry, b.entry)])).filter(([, , d]) => d);
      inner.append(h("table", { class: "plain" }, h("thead", {}, h("tr", {}, ...["Entry", "against", "Difference", "95 % interval", "p", "p, Holm", "Verdict"].map((text, i) => h("th", { scope: "col", text, class: i > 1 && i < 6 ? "num" : null })))),
        h("tbody", {}, ...found.slice(0, 2000).map(([a, b, d]) => h("tr", {}, h("th", { scope: "row", text: a.name }), h("td", { class: "text", text: b.name }),
          ...[apartBy(d.difference), bound(d.low, d.high, apartBy), chance(d.p), chance(d.holm)].map((text) => h("td", { class: "num", text })), h("td", { text: d.verdict }))))));
    });
    return box;
  }

  function differing() {
    const { rows, parameters } = seen, head = h("h4", { text: "Parameters that differ" });
    if (alone()) return params.replaceChildren();
    if (!parameters.length) return params.replaceChildren(head, gap("These runs have the same parameters; they differ in the predictor alone."));
    const has = rows.filter((r) => parameters.some((p) => p.values.has(r.entry))).slice(0, MANY), on = marked();
    params.replaceChildren(head, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Parameters that differ" }, h("table", { class: "plain" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col", text: "Entry" }), ...parameters.map((p) => h("th", { scope: "col", text: p.param })))),
      h("tbody", {}, ...has.map((r) => h("tr", { class: on.has(r.name) ? "on" : null }, h("th", { scope: "row", text: r.name }), ...parameters.map((p) => h("td", { class: "text", text: p.values.get(r.entry) ?? "\u2013" })))))))); 
  }

  /** Column and whether it falls; at first by score, best first. */
  const sorting = () => sorted || [1, seen.kind.better !== "lower"];
  function arranged() {
    const [column, falling] = sorting(), value = (r) => figures(r, seen.kind.better)[column];
    const missing = (v) => v === null || v === "" || Number.isNaN(v);
    return [...seen.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (missing(x) || missing(y)) return Number(missing(x)) - Number(missing(y));
      return (falling ? -1 : 1) * (typeof x === "string" ? x.localeCompare(y) : x - y);
    });
  }

  function listed() {
    const { kind } = seen, rows = arranged(), on = marked(), words = [0, 6, 10];
    const shows = HEAD.map((_, i) => i).filter((i) => i !== 10 || rows.some((r) => r.interval));
    const say = (v, i) => (words.includes(i) ? v || "\u2013" : i === 5 ? signed(v, 3) : i === 9 ? seconds(v) : i === 7 || i === 8 ? String(v) : fixed(v, 3));
    const head = shows.map((i) => {
      const [column, falls] = sorting(), here = column === i, falling = here && falls, next = here ? !falls : i === 1 ? kind.better !== "lower" : !words.includes(i);
      return h("th", { scope: "col", class: words.includes(i) ? null : "num", "aria-sort": here ? (falling ? "descending" : "ascending") : null },
        h("button", { type: "button", "data-key": `sort ${i}`, onclick: () => { sorted = [i, next]; refresh(); }, text: `${HEAD[i]}${here ? (falling ? " \u25be" : " \u25b4") : ""}` }));
    });
    const text = () => csv([[...["study", "split", "metric", "unit"], ...HEAD.map((n) => n.toLowerCase())], ...rows.map((r) => {
      const { study, split } = frame.header.places[seen.place];
      return [study, split, kind.name, kind.unit, ...figures(r, kind.better).map((v) => (typeof v === "number" && !Number.isInteger(v) ? Number(v.toPrecision(7)) : v))];
    })]);
    const save = h("button", { type: "button", text: "Save this table as csv", onclick: () => {
      const address = URL.createObjectURL(new Blob([text()], { type: "text/csv" })), link = h("a", { href: address, download: "comparison.csv" });
      part.root.append(link);
      link.click();
      link.remove();
      setTimeout(() => URL.revokeObjectURL(address), 10000);
    } });
    const copy = h("button", { type: "button", text: "Copy it", onclick: () => {
      const done = (yes) => { said.textContent = yes ? "Copied." : "The browser does not allow copying here; save it instead."; };
      (navigator.clipboard?.writeText(text()) ?? Promise.reject()).then(() => done(true), () => done(false));
    } });
    table.replaceChildren(h("h4", { text: `All figures: ${titled(kind)}` }), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "All figures" }, h("table", { class: "plain all" },
      h("thead", {}, h("tr", {}, ...head)),
      h("tbody", {}, ...rows.slice(0, MANY).map((r) => { const values = figures(r, kind.better); return h("tr", { class: on.has(r.name) ? "on" : null }, h("th", { scope: "row" }, named(r, "table")),
        ...shows.slice(1).map((i) => h("td", { class: words.includes(i) ? "text" : "num", text: say(values[i], i) }))); })))),
    h("div", { class: "tops pad" }, save, copy, h("span", { class: "soft small", text: rows.length > MANY ? `The first ${MANY} of ${whole(rows.length)} rows; the file has all.` : "" }), said));
  }

  /** What depends on the width. */
  function pictures() {
    if (!seen) return;
    front();
    differences();
    const some = pooled && seen.pool.list.length ? seen.pool : seen.own.list.length ? seen.own : seen.pool, { list, bars, critical } = some;
    const head = h("h4", { text: "Mean ranks: entries under one bar are not told apart" });
    if (alone()) return ranks.replaceChildren();
    const why = uncompared() || (list.length ? "" : "No mean ranks: they need two entries with scores on the same folds.");
    if (why) return ranks.replaceChildren(head, gap(why));
    const both = seen.pool.list.length && seen.own.list.length, cap = list.slice(0, FEW);
    const how = critical ? [`Rank 1 is best, mean over ${critical.blocks} blocks of fold and seed${some === seen.pool ? ", all splits together" : ""}.`, Number.isFinite(critical.p) ? `Are all alike? p ${chance(critical.p)} (Friedman, Iman and Davenport).` : "",
      Number.isFinite(critical.difference) ? `Critical difference by Nemenyi at 5 %: ${critical.difference.toFixed(2)}.` : "", critical.note, cap.length < list.length ? `The best ${FEW} of ${list.length}.` : ""].filter(Boolean).join(" ") : "";
    const told = `Mean ranks, 1 is best: ${cap.map((r) => `${r.name} ${r.rank.toFixed(2)}`).join(", ")}. ${how}`;
    const width = Math.max(240, ranks.clientWidth || 480), worst = cap.length ? cap[cap.length - 1].rank : 1;
    ranks.replaceChildren(head, ...(both ? [h("button", { type: "button", "data-key": "pool", "aria-pressed": String(pooled), text: "All splits together", onclick: () => { pooled = !pooled; refresh(); } })] : []),
      diagram({ root: part.root, width, list: cap, bars: bars.filter(([low]) => low <= worst).map(([low, high]) => [low, Math.min(high, worst)]), difference: critical?.difference ?? null, marked: marked(), told }),
      h("p", { class: "soft small pad", text: how }));
  }

  function front() {
    if (!seen) return;
    const { rows, kind, on: best } = seen, list = rows.filter((r) => r.cost > 0 && Number.isFinite(r.value)), head = h("h4", { text: "Score against time" });
    if (alone()) return cost.replaceChildren();
    const why = list.length ? "" : "No time was recorded with these runs.";
    if (why) return cost.replaceChildren(head, gap(why));
    if (plot.parentNode !== cost) cost.replaceChildren(head, plot, h("p", { class: "soft small pad" }));
    cost.lastChild.textContent = seen.fronted ? "Filled and joined: nothing else is at least as good in less time. Dashed: the best naive score. Arrows go from point to point, Enter marks." : "Arrows go from point to point, Enter marks.";
    const costs = list.map((r) => r.cost), ends = list.flatMap((r) => [r.value, r.naiveValue]).filter(Number.isFinite);
    const pad = (Math.max(...ends) - Math.min(...ends)) * 0.13 || 0.1, width = Math.max(240, plot.clientWidth || cost.clientWidth || 480), log = Math.max(...costs) > 8 * Math.min(...costs);
    area = plane(cloud, part.root, { width, height: 320, right: 20,
      x: { low: log ? Math.min(...costs) / 1.8 : 0, high: Math.max(...costs) * (log ? 1.8 : 1.1), log, label: "Seconds a fold: fit, predict and record" },
      y: { low: Math.min(...ends) - pad, high: Math.max(...ends) + pad, label: titled(kind) } });
    const { c } = area, model_ = hue(part.root, "accent"), soft = area.colors.soft, on = marked();
    const naive = list.map((r) => r.naiveValue).find(Number.isFinite);
    c.lineWidth = 1.5;
    if (naive !== undefined) { c.strokeStyle = area.colors.mark; c.setLineDash([5, 4]); segment(c, area.left, area.sy(naive), area.right, area.sy(naive)); c.setLineDash([]); }
    const joined = list.filter((r) => best.has(r.entry)).sort((a, b) => a.cost - b.cost);
    c.strokeStyle = model_;
    joined.slice(1).forEach((r, i) => { const a = joined[i]; segment(c, area.sx(a.cost), area.sy(a.value), area.sx(r.cost), area.sy(a.value)); segment(c, area.sx(r.cost), area.sy(a.value), area.sx(r.cost), area.sy(r.value)); });
    spots = list.map((r) => ({ ...r, x: area.sx(r.cost), y: area.sy(r.value) })).sort((a, b) => a.x - b.x);
    const taken = spots.map((s) => [s.x - 6, s.y - 6, s.x + 6, s.y + 6]);
    let names = 0;
    for (const s of [...spots].sort((a, b) => Number(on.has(b.name)) - Number(on.has(a.name)) || Number(best.has(b.entry)) - Number(best.has(a.entry)))) {
      c.strokeStyle = c.fillStyle = s.naive ? soft : model_;
      c.lineWidth = 2;
      c.fillStyle = best.has(s.entry) ? c.strokeStyle : area.colors.bg;
      disc(c, s.x, s.y, on.has(s.name) ? 7 : 5);
      disc(c, s.x, s.y, on.has(s.name) ? 7 : 5, false);
      if (names++ >= NAMED) continue;
      c.fillStyle = s.naive ? soft : area.colors.ink;
      const text = cut(c, s.name, Math.min(210, area.w * 0.6)), wide = c.measureText(text).width;
      const rooms = [[s.x - wide / 2, s.y - 14], [s.x + 9, s.y - 13], [s.x - wide / 2, s.y + 14], [s.x + 9, s.y], [s.x - 9 - wide, s.y], [s.x + 9, s.y + 13], [s.x - 9 - wide, s.y + 13], [s.x - 9 - wide, s.y - 13], [s.x - 9 - wide, s.y + 28], [s.x - wide / 2, s.y + 28], [s.x + 9, s.y + 28], [s.x - 9 - wide, s.y - 28], [s.x + 9, s.y - 28]];
      const free = rooms.map(([x, y]) => [x, y - 7, x + wide, y + 7]).findIndex(([a, b, d, e]) => a > area.left && d < width - 2 && b > area.top - 6 && e < area.bottom && !taken.some(([p, q, r, t]) => a < r && d > p && b < t && e > q));
      if (free < 0) continue; // its name is in the list and under the pointer
      const [x, y] = rooms[free];
      taken.push([x, y - 7, x + wide, y + 7]);
      c.strokeStyle = area.colors.bg;
      c.lineWidth = 4;
      c.strokeText(text, x, y);
      c.fillText(text, x, y);
    }
    cloud.setAttribute("aria-label", `${titled(kind)} against seconds a fold, ${list.length} entries. Arrows go from point to point, Enter marks.`);
    if (over >= 0 && spots[over]) { c.strokeStyle = area.colors.ink; c.lineWidth = 2; disc(c, spots[over].x, spots[over].y, 9, false); }
  }
  function point(i) {
    over = i;
    front();
    const s = spots[i];
    if (!s) return tip.hide();
    tip.show(s.x, s.y, h("b", { text: s.name }), h("div", { text: `${fixed(s.value)} (${bound(s.low, s.high, fixed)}), ${seconds(s.cost)} s a fold${seen.on.has(s.entry) ? ", on the front" : ""}` }));
    cloud.setAttribute("aria-valuetext", `${s.name}, ${fixed(s.value)}, ${seconds(s.cost)} seconds`);
  }
  cloud.addEventListener("pointermove", (event) => {
    const [px, py] = at(event, cloud), near = spots.map((s, i) => [(s.x - px) ** 2 + (s.y - py) ** 2, i]).sort((a, b) => a[0] - b[0])[0];
    const found = near && near[0] < 200 ? near[1] : -1;
    if (found !== over) point(found);
  });
  cloud.addEventListener("pointerleave", () => point(-1));
  cloud.addEventListener("blur", () => point(-1));
  cloud.addEventListener("click", () => { if (spots[over]) mark(spots[over].name); });
  cloud.addEventListener("keydown", (event) => {
    const last = spots.length - 1, next = { ArrowRight: Math.min(last, over + 1), ArrowLeft: Math.max(0, over - 1), Home: 0, End: last }[event.key];
    if (next !== undefined) point(next);
    else if ((event.key === "Enter" || event.key === " ") && spots[over]) mark(spots[over].name);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  const quiet = listen(model, { frame_bytes: load, title: load, note: load, place: refresh, metric: refresh, marked: refresh });
  part.look();
  load();
  return () => { quiet(); part.close(); };
}

export default { render };
