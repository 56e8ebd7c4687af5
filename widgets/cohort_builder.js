// Select, save, split, train: four steps side by side. What crosses from the kernel is described in cohort_builder.py.
import { fixed, h, listen, longList, plain, put, stage, unpack, whole } from "./_parts.js";

const CSS = `
.wb-cohort{container-type:inline-size;}
.wb-cohort .steps{display:flex;flex-wrap:wrap;gap:4px 0;list-style:none;margin:10px 0 14px;padding:0;border-bottom:1px solid var(--wb-line);}
.wb-cohort .steps li{display:flex;gap:8px;align-items:center;padding:4px 18px 8px 2px;margin-right:14px;color:var(--wb-soft);border-bottom:3px solid transparent;margin-bottom:-1px;}
.wb-cohort .steps li i{display:inline-flex;width:20px;height:20px;border-radius:50%;align-items:center;justify-content:center;font-style:normal;font-size:11.5px;font-weight:600;border:1px solid currentColor;}
.wb-cohort .steps li.done{color:var(--wb-good);}
.wb-cohort .steps li[aria-current=step]{color:var(--wb-accent);border-bottom-color:var(--wb-accent);font-weight:600;}
.wb-cohort .cols{display:grid;grid-template-columns:minmax(0,1.15fr) minmax(0,1fr);gap:26px;}
.wb-cohort .cols>div{min-width:0;}
.wb-cohort section{margin-bottom:18px;}
.wb-cohort .big{font-size:22px;font-weight:600;font-variant-numeric:tabular-nums;line-height:1.2;}
.wb-cohort .line{display:flex;flex-wrap:wrap;gap:6px 8px;align-items:center;margin-top:8px;}
.wb-cohort .line .grow{flex:1 1 120px;min-width:0;}
.wb-cohort input[type=text]{font:inherit;color:var(--wb-ink);background:var(--wb-bg);border:1px solid var(--wb-line);border-radius:4px;padding:4px 9px;min-height:28px;width:100%;}
.wb-cohort label.field{display:block;margin-top:8px;}
.wb-cohort label.field>span{display:block;font-size:12px;font-weight:600;color:var(--wb-soft);margin-bottom:2px;}
.wb-cohort label.field select{width:100%;}
.wb-cohort .mods{display:grid;grid-template-columns:minmax(80px,auto) minmax(60px,1fr) auto auto;gap:5px 10px;align-items:center;margin-top:6px;}
.wb-cohort .mods .bar{height:12px;}
.wb-cohort .mods button,.wb-cohort .mini{min-height:22px;padding:0 7px;font-size:12px;}
.wb-cohort .line+.list,.wb-cohort .line+p{margin-top:7px;}
.wb-cohort .line h4{margin:0;}
.wb-cohort .level .name{flex:1 1 auto;}
.wb-cohort .level .bar{flex:0 0 90px;}
.wb-cohort .level .num{flex:0 0 78px;}
.wb-cohort .level button{flex:none;}
.wb-cohort .box{border:1px solid var(--wb-line);border-radius:5px;padding:10px 13px 12px;margin-bottom:12px;}
.wb-cohort .box[data-on=false]{opacity:.62;}
.wb-cohort .box h4{font-size:13px;color:var(--wb-ink);display:flex;gap:8px;align-items:baseline;margin-bottom:2px;}
.wb-cohort dl{display:grid;grid-template-columns:auto minmax(0,1fr);gap:2px 14px;margin:8px 0 0;font-size:12.5px;}
.wb-cohort dt{color:var(--wb-soft);font-weight:400;white-space:nowrap;width:auto;float:none;}
.wb-cohort dd{margin:0;padding:0;width:auto;overflow-wrap:anywhere;}
.wb-cohort code{font-family:var(--jp-code-font-family,ui-monospace,monospace);font-size:11.5px;}
.wb-cohort .error{margin:0 0 12px;padding:9px 12px;border-left:4px solid var(--wb-error);border-radius:3px;background:color-mix(in srgb,var(--wb-error) 10%,transparent);overflow-wrap:anywhere;}
.wb-cohort .sides{display:flex;height:16px;border-radius:3px;overflow:hidden;margin-top:9px;}
.wb-cohort .sides i{display:block;background:var(--wb-accent);}
.wb-cohort .sides i+i{background:var(--wb-c3);}
.wb-cohort .key{display:flex;flex-wrap:wrap;gap:2px 16px;margin-top:4px;font-size:12.5px;}
.wb-cohort .key span::before{content:"";display:inline-block;width:9px;height:9px;border-radius:2px;margin-right:6px;background:var(--wb-accent);}
.wb-cohort .key span+span::before{background:var(--wb-c3);}
.wb-cohort .finding{margin-top:5px;font-size:12.5px;overflow-wrap:anywhere;}
.wb-cohort .finding b{font-weight:600;}
.wb-cohort .run .bar{height:10px;border-radius:5px;margin-top:9px;}
.wb-cohort table{border-collapse:collapse;margin-top:9px;width:100%;font-size:12.5px;}
.wb-cohort th{font-size:12px;color:var(--wb-soft);font-weight:600;}
.wb-cohort th,.wb-cohort td{text-align:left;padding:2px 10px 2px 0;border-bottom:1px solid var(--wb-line);overflow-wrap:anywhere;}
.wb-cohort td.num,.wb-cohort th.num{text-align:right;}
.wb-cohort a{color:var(--wb-accent);font-weight:600;}
.wb-cohort .ticks{display:flex;flex-wrap:wrap;gap:2px 14px;margin-top:7px;}
.wb-cohort .ticks label{display:flex;gap:6px;align-items:center;}
.wb-cohort .ticks input{accent-color:var(--wb-accent);margin:0;}
@container (max-width:740px){.wb-cohort .cols{grid-template-columns:1fr;}}
`;
const STEPS = [["select", "Select"], ["save", "Save"], ["split", "Split"], ["train", "Train"]];
const SETS = [["union", "add all of"], ["intersection", "keep only those also in"], ["minus", "take away all of"], ["replace", "show instead"]];
const RUN = { idle: "Not started", running: "Training", stopping: "Stopping at the next safe moment", done: "Done", stopped: "Stopped", failed: "Failed" };

/** Of each level of facet `k`: its index (-1 unknown), how many of the study and how many of the members; most members first. */
export function composition(frame, k, rows) {
  const codes = frame.columns[`facet.${k}`], all = new Map(), mine = new Map();
  for (const code of codes) all.set(code, (all.get(code) || 0) + 1);
  for (const i of rows) mine.set(codes[i], (mine.get(codes[i]) || 0) + 1);
  return [...all].map(([code, of]) => ({ code, of, n: mine.get(code) || 0, name: code < 0 ? "unknown" : frame.header.facets[k].levels[code] }))
    .sort((a, b) => b.n - a.n || b.of - a.of || a.code - b.code);
}

/** The facet to begin with: tissue, then arm, where they have several levels; else the first that has. */
export function opening(facets) {
  const several = (f) => f.levels.length > 1;
  return ["tissue", "arm"].map((name) => facets.findIndex((f) => f.name === name && several(f))).find((k) => k >= 0) ?? facets.findIndex(several);
}

/** "2026-11-22T00:46:56+00:00" as people write it. */
export const moment = (when) => String(when).replace(/^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*\+00:00$/, "$1 $2 UTC");

/** The address if a browser may open it as a link, else "". */
function address(url) {
  try { return ["http:", "https:"].includes(new URL(url).protocol) ? url : ""; } catch { return ""; }
}

function render({ model, el }) {
  let frame = null, rows = new Int32Array(0), facet = 0, levels = [];
  const part = stage(el, "wb-cohort", model.get("theme"), CSS, () => {});
  const get = (name) => plain(model.get(name) || {});
  const ask = (verb, more = {}) => put(model, { request: { verb, n: Date.now() + Math.random(), ...more } });
  const button = (text, onclick, kind = "") => h("button", { type: "button", class: kind || null, text, onclick });

  const heading = h("h3", {}), error = h("div", { class: "error", role: "alert", hidden: true });
  const steps = h("ol", { class: "steps", "aria-label": "From a selection to a run" });
  // 1
  const count = h("span", { class: "big", role: "status" }), of = h("span", { class: "soft" }), gone = h("p", { class: "soft small" });
  const clear = button("Clear", () => ask("clear")), undo = button("Undo", () => ask("undo")), invert = button("Everyone else", () => ask("complement"));
  const facetPick = h("select", { "aria-label": "Composition by", onchange: () => { facet = Number(facetPick.value); show(); } });
  const list = longList({
    label: "Composition; Enter keeps only this one", height: 206, rowHeight: 27,
    pick: (i) => ask("keep", { facet: frame.header.facets[facet].name, levels: [levels[i].name] }),
    fill: (row, i) => {
      const l = levels[i], top = Math.max(1, levels.top), field = frame.header.facets[facet].name;
      row.classList.add("level");
      // what can be done with a level: those of it leave, or, where none of it is in, they come
      const [verb, word] = l.n ? ["keep", "drop"] : ["add", "add"];
      const change = h("button", { type: "button", class: "mini", tabindex: "-1", text: word, "aria-label": `${l.n ? "Drop" : "Add"} ${l.name}`, onclick: (event) => { event.stopPropagation(); ask(verb, { facet: field, levels: [l.name], ...(verb === "keep" ? { without: true } : {}) }); } });
      row.title = rows.length ? `Keep only ${l.name}` : `Begin with ${l.name}`;
      row.append(h("span", { class: "name cut", text: l.name }),
        h("span", { class: "bar" }, h("i", { class: "faint", style: { width: `${(100 * l.of) / top}%` } }), h("i", { style: { width: `${(100 * l.n) / top}%` } })),
        h("span", { class: "num small soft", text: `${whole(l.n)} of ${whole(l.of)}` }), change);
    },
  });
  const mods = h("div", { class: "mods" });
  const how = h("select", { "aria-label": "How to combine" }, ...SETS.map(([value, text]) => h("option", { value, text })));
  const other = h("select", { "aria-label": "Saved cohort", class: "grow" });
  const apply = button("Apply", () => ask("combine", { how: how.value, name: other.value }));
  const sets = h("div", {}, h("h4", { text: "With a saved cohort" }), h("div", { class: "line" }, how, other, apply), h("p", { class: "soft small" }));
  // 2
  const name = h("input", { type: "text", maxlength: "200", placeholder: "such as: resistant melanoma", oninput: () => able(), onkeydown: (e) => { if (e.key === "Enter" && !save.disabled) save.click(); } });
  const note = h("input", { type: "text", placeholder: "Why these? (kept with the cohort)" });
  const save = button("Save cohort", () => ask("save", { name: name.value, note: note.value }), "main");
  const kept = h("div", {});
  // 3
  const endpoint = h("select", { onchange: () => put(model, { choice: { ...get("choice"), endpoint: endpoint.value } }) });
  const split = button("Split on it", () => ask("split", { endpoint: endpoint.value }), "main");
  const sides = h("div", { role: "status" });
  // 4
  const predictor = h("select", { onchange: () => put(model, { choice: { ...get("choice"), predictor: predictor.value, modalities: usable(predictor.value) } }) });
  const ticks = h("div", { class: "ticks", role: "group", "aria-label": "Modalities" });
  const train = button("Train", () => ask("train"), "main"), stop = button("Stop", () => ask("stop"));
  const run = h("div", { class: "run", role: "status" });
  const box = (n, title, ...inside) => h("section", { class: "box", "aria-label": title }, h("h4", {}, `${n}. ${title}`), ...inside);
  const field = (text, inside) => h("label", { class: "field" }, h("span", { text }), inside);
  const two = box(2, "Save in the study\u2019s journal", field("Name", name), field("Note", note), h("div", { class: "line" }, save), kept);
  const three = box(3, "Split: the cohort tests, the others teach", field("What is predicted", endpoint), h("div", { class: "line" }, split), sides);
  const four = box(4, "Train and land on the run", field("Predictor", predictor), ticks, h("div", { class: "line" }, train, stop), run);
  part.root.append(heading, steps, error, h("div", { class: "cols" },
    h("div", {},
      h("section", {}, h("div", { class: "line" }, count, of), gone, h("div", { class: "line" }, clear, invert, undo)),
      h("section", {}, h("div", { class: "line" }, h("h4", { text: "Composition by" }), facetPick), list.box),
      h("section", {}, h("h4", { text: "Modalities: how many of them have it" }), mods),
      h("section", {}, sets)),
    h("div", {}, two, three, four)));

  const usable = (p) => (get("options").uses || {})[p] || get("options").modalities || [];
  const picked = () => {
    const value = model.get("picked_bytes");
    if (!value || !value.byteLength) return new Int32Array(0);
    const bytes = value instanceof ArrayBuffer ? new Uint8Array(value) : new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    return new Int32Array(bytes.slice().buffer);
  };

  function load() {
    frame = unpack(model.get("frame_bytes"));
    heading.textContent = model.get("title") || "Cohort: from a selection to a run";
    facetPick.replaceChildren(...frame.header.facets.map((f, k) => h("option", { value: String(k), text: f.name })));
    facetPick.parentElement.parentElement.hidden = !frame.header.facets.length;
    facet = Math.max(0, opening(frame.header.facets));
    facetPick.value = String(facet);
    show();
  }

  function show() {
    rows = picked();
    const { header, columns } = frame, n = header.subjects.length;
    let outcomes = 0;
    for (const i of rows) outcomes += columns.n_outcomes[i];
    count.textContent = `${whole(rows.length)} selected`;
    of.textContent = `of ${whole(n)} subjects \u00b7 ${whole(outcomes)} measured values`;
    const away = get("elsewhere");
    gone.hidden = rows.length > 0 && !away.n;
    gone.textContent = away.n ? `${whole(away.n)} selected elsewhere are no subjects here: ${(away.names || []).slice(0, 5).join(", ")}` : "Draw a lasso in another view, or add some below.";
    clear.disabled = !rows.length;
    undo.disabled = !model.get("undoable");
    if (header.facets.length) {
      levels = composition(frame, facet, rows);
      levels.top = Math.max(...levels.map((l) => l.of));
      list.box.style.height = `${Math.min(7.6, levels.length) * 27 + 3}px`;
      list.set(levels.length, true);
    }
    mods.replaceChildren(...header.modalities.flatMap((m, k) => {
      const asked = rows.length ? rows : header.subjects.keys(), of = rows.length || n; // nobody selected: of the study
      let has = 0;
      for (const i of asked) has += columns[`has.${k}`][i];
      const part = of ? (100 * has) / of : 0, lacks = of - has;
      const keep = h("button", { type: "button", text: rows.length ? "keep these" : "add these", "aria-label": `${rows.length ? "Keep" : "Add"} those with ${m}`, disabled: !lacks || !has, onclick: () => ask("keep", { facet: m, levels: ["has"] }) });
      return [h("span", { class: "cut", text: m, title: m }), h("span", { class: "bar", role: "img", "aria-label": `${whole(has)} of ${whole(of)} have ${m}` }, h("i", { class: rows.length ? null : "faint", style: { width: `${part}%` } })),
        h("span", { class: "num small soft", text: lacks ? `${whole(has)}, ${whole(lacks)} lack it` : of ? "all" : "\u2013" }), keep];
    }));
    able();
  }

  function saves() {
    const known = plain(model.get("cohorts") || []), before = other.value, saved = get("saved");
    other.replaceChildren(...known.map((c) => h("option", { value: c.name, text: `${c.name} (${whole(c.n)})` })));
    if (known.some((c) => c.name === before)) other.value = before;
    sets.hidden = !known.length;
    const chosen = known.find((c) => c.name === other.value);
    sets.lastChild.textContent = chosen ? [chosen.note, `saved ${moment(chosen.when)} by ${chosen.who}`].filter(Boolean).join(" \u00b7 ") : "";
    kept.replaceChildren();
    if (saved.name) {
      const facts = [["Saved", `${saved.name}, ${whole(saved.n)} subjects`], ["Journal", `entry ${saved.entry}, ${moment(saved.when)}, ${saved.who}`], ["Entry\u2019s hash", saved.hash], ["Study digest", saved.digest, " (unchanged)"]];
      kept.append(h("dl", { role: "status" }, ...facts.flatMap(([k, v, after = ""]) => [h("dt", { text: k }), h("dd", { title: v, text: (/^[0-9a-f]{64}$/.test(v) ? `${v.slice(0, 16)}\u2026` : v) + after })])));
    }
    able();
  }
  other.addEventListener("change", saves);

  function parts() {
    const d = get("divided"), options = get("options"), choice = get("choice");
    if (endpoint.children.length !== (options.endpoints || []).length) endpoint.replaceChildren(...(options.endpoints || []).map(([value, text]) => h("option", { value, text })));
    endpoint.value = choice.endpoint || "";
    sides.replaceChildren();
    if (d.digest) {
      const share = (100 * d.train.rows) / (d.train.rows + d.test.rows);
      sides.append(h("div", { class: "sides", role: "img", "aria-label": `${fixed(share, 0)} % of rows train` }, h("i", { style: { width: `${share}%` } }), h("i", { style: { flex: "1" } })),
        h("div", { class: "key" }, h("span", { text: `train: ${whole(d.train.rows)} rows, ${whole(d.train.subjects)} subjects` }), h("span", { text: `test: ${whole(d.test.rows)} rows, ${whole(d.test.subjects)} subjects` })),
        h("p", { class: "finding", text: `\u2713 Checked: ${d.rule}, no subject and no row stands on both sides. Split ${d.digest.slice(0, 12)}` }));
      if (d.without.n) sides.append(h("p", { class: "finding", text: `${whole(d.without.n)} of the cohort have no ${d.label}, so they test nothing: ${d.without.names.slice(0, 4).join(", ")}${d.without.n > 4 ? "\u2026" : ""}` }));
      const a = d.audit || {};
      sides.append(h("p", { class: "finding" }, h("b", { text: "Audit: " }), a.state === "running" ? "looking for leaks and shifts\u2026" : a.state === "failed" ? `could not be done: ${a.message}` : a.n ? `${whole(a.by)} of ${whole(a.asked)} checks found something` : `${whole(a.asked)} checks of the split found nothing`));
      for (const f of a.findings || []) sides.append(h("p", { class: "finding" }, h("b", { text: `${f.severity}, ${f.check}: ` }), f.what));
    }
    able();
  }

  function pick() {
    const options = get("options"), choice = get("choice"), busy = ["running", "stopping"].includes(get("training").state);
    four.hidden = !options.trains;
    predictor.replaceChildren(...(options.predictors || []).map((p) => h("option", { value: p, text: p })));
    predictor.value = choice.predictor || "";
    ticks.replaceChildren(...usable(choice.predictor).map((m) => {
      const box = h("input", { type: "checkbox", disabled: busy, onchange: () => {
        const on = new Set(choice.modalities);
        if (box.checked) on.add(m); else on.delete(m);
        put(model, { choice: { ...choice, modalities: [...on] } });
      } });
      box.checked = (choice.modalities || []).includes(m);
      return h("label", {}, box, h("span", { text: m }));
    }));
    parts();
  }

  function progress() {
    const now = get("training"), { fraction = 0, message = "", seconds_left: left } = now.progress || {}, result = now.result || {};
    run.replaceChildren();
    if (now.state && now.state !== "idle") {
      const percent = Math.round(100 * fraction);
      const guess = now.state === "running" && left !== null && left !== undefined ? `, about ${whole(Math.max(1, left))} s left` : "";
      run.append(h("div", { class: "bar", role: "progressbar", "aria-valuenow": String(percent), "aria-valuemin": "0", "aria-valuemax": "100" }, h("i", { style: { width: `${percent}%` } })),
        h("p", { class: "finding" }, h("b", { text: `${RUN[now.state]}${now.state === "done" ? "" : `, ${percent} %`}` }), `${guess}${message && now.state !== "done" ? ` \u00b7 ${message}` : ""}`));
      if (now.error) run.append(h("div", { class: "error", text: now.error }));
      if ((result.scores || []).length) run.append(h("table", {}, h("thead", {}, h("tr", {}, ...["Metric", "Value", "95 % interval", "Naive"].map((text, i) => h("th", { scope: "col", class: i ? "num" : null, text })))),
        h("tbody", {}, ...result.scores.map((s) => h("tr", {}, h("td", { text: s.unit ? `${s.metric}, ${s.unit.replace("uM", "\u00b5M")}` : s.metric }), h("td", { class: "num", text: fixed(s.value ?? NaN, 3) }),
          h("td", { class: "num soft", text: s.low === null || s.high === null ? "\u2013" : `${fixed(s.low, 3)} to ${fixed(s.high, 3)}` }), h("td", { class: "num", text: fixed(s.naive ?? NaN, 3) }))))));
      const link = address(result.url);
      if (link) run.append(h("p", { class: "finding" }, h("a", { href: link, target: "_blank", rel: "noopener noreferrer", text: `Open the run ${result.run} in MLflow` })));
    }
    able();
  }

  function able() {
    const offered = STEPS.filter(([id]) => id !== "train" || get("options").trains), step = model.get("step"), at = offered.findIndex(([id]) => id === step), state = get("training").state, busy = ["running", "stopping"].includes(state);
    steps.replaceChildren(...offered.map(([id, text], i) => h("li", { class: i < at || at < 0 || (id === "train" && state === "done") ? "done" : null, "aria-current": i === at ? "step" : null }, h("i", { text: i < at || at < 0 || (id === "train" && state === "done") ? "\u2713" : String(i + 1) }), h("span", { text }))));
    two.dataset.on = String(rows.length > 0);
    three.dataset.on = String(Boolean(get("saved").name));
    four.dataset.on = String(Boolean(get("divided").digest));
    save.disabled = !rows.length || !name.value.trim();
    split.disabled = !get("saved").name || busy;
    train.disabled = !get("divided").digest || busy;
    stop.disabled = state !== "running";
    stop.hidden = !busy;
    error.hidden = !model.get("error");
    error.textContent = model.get("error");
  }

  const quiet = listen(model, {
    frame_bytes: load, picked_bytes: show, elsewhere: show, undoable: show, title: load, cohorts: saves, saved: saves, divided: parts,
    options: pick, choice: pick, training: () => { progress(); pick(); }, step: able, error: able,
  });
  part.look();
  load();
  saves();
  pick();
  progress();
  return () => { quiet(); part.close(); };
}

export default { render };
