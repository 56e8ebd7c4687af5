// Choose pilots, enter what was measured, see every other prediction move. The packed columns are described in pilot_planner.py.
import { fixed, h, listen, plain, put, stage, unpack, whole } from "./_parts.js";
import { SHARED, at, band, choice, disc, inside, plane, short, tooltip, trace } from "./_axes.js";
import { between, covarianceOf, greedy, leftAfter, posterior, randomPanels } from "./_pilots.js";

const PILOT_CSS = `
.wb-pilots{container-type:inline-size;}
.wb-pilots .two{display:grid;grid-template-columns:minmax(330px,1fr) minmax(330px,1fr);gap:18px 26px;}
@container (max-width:760px){.wb-pilots .two{grid-template-columns:minmax(0,1fr);}}
.wb-pilots h4{margin:14px 0 6px;}
.wb-pilots .start{margin-bottom:12px;}
.wb-pilots .two h4{margin-top:0;}
.wb-pilots input[type=number]{font:inherit;color:var(--wb-ink);background:var(--wb-bg);border:1px solid var(--wb-line);border-radius:4px;padding:3px 6px;width:92px;min-height:28px;text-align:right;}
.wb-pilots .enter{display:flex;flex-wrap:wrap;gap:8px;align-items:center;margin:6px 0;}
.wb-pilots .enter input[type=search]{width:190px;}
.wb-pilots .panel{max-height:372px;}
.wb-pilots tbody th{min-width:112px;}
.wb-pilots .all{max-height:420px;}
.wb-pilots thead th{position:sticky;top:0;background:var(--wb-bg);z-index:1;}
.wb-pilots table.plain tbody td,.wb-pilots table.plain tbody th{vertical-align:middle;}
.wb-pilots td.act{width:1%;white-space:nowrap;text-align:right;padding-right:2px;}
.wb-pilots td.act button{min-height:26px;padding:2px 8px;font-size:12px;}
.wb-pilots .range{display:block;position:relative;height:16px;min-width:120px;}
.wb-pilots .range i{position:absolute;top:6px;height:4px;border-radius:2px;background:color-mix(in srgb,var(--wb-accent) 38%,transparent);}
.wb-pilots .range b{position:absolute;top:2px;width:3px;height:12px;margin-left:-1px;border-radius:1px;background:var(--wb-accent);}
.wb-pilots .range u{position:absolute;top:4px;width:2px;height:8px;margin-left:-1px;background:var(--wb-soft);opacity:.7;}
.wb-pilots .say{margin:4px 0 8px;}
.wb-pilots .wrong{color:var(--wb-error);}
`;
const DRAWS = 16;

function render({ model, el }) {
  let frame = null, base = null, state = null, area = null, order = "shift", words = "";
  const part = stage(el, "wb-pilots", model.get("theme"), `${SHARED}${PILOT_CSS}`, () => { if (state) curve(); });
  const heading = h("h3", {}), note = h("p", { class: "note" }), start = h("p", { class: "soft small start" });
  const size = choice("How many to choose", [["5", "5"], ["10", "10"], ["20", "20"]], (value) => { put(model, { k: Number(value) }); });
  const group = h("select", { "aria-label": "Class to know well", onchange: (event) => put(model, { interest: event.target.value }) });
  const groupLabel = h("label", {}, h("span", { class: "soft", text: "Know well" }), group);
  const costly = h("input", { type: "checkbox", onchange: (event) => put(model, { by_cost: event.target.checked }) });
  const costLabel = h("label", {}, costly, h("span", { text: "gain per cost" }));
  const next = h("div", { class: "scroll panel", tabindex: "0", role: "region", "aria-label": "What to measure next" });
  const said = h("p", { class: "say", role: "status" });
  const names = h("datalist", { id: `wb${Math.random().toString(36).slice(2, 9)}` });
  const who = h("input", { type: "search", list: names.id, placeholder: "drug", "aria-label": "Measured drug" });
  const what = h("input", { type: "number", step: "any", "aria-label": "Measured value" });
  const unit = h("span", { class: "soft" }), wrong = h("span", { class: "wrong small", role: "alert" });
  const add = h("button", { type: "button", class: "main", text: "Add", onclick: enter });
  for (const field of [who, what]) field.addEventListener("keydown", (event) => { if (event.key === "Enter") enter(); });
  const measured = h("div", {}), cannot = h("p", { class: "soft small" });
  const canvas = h("canvas", { role: "img", "aria-label": "Expected error against the number of measurements, chosen and random" });
  const plot = h("div", { class: "plot" }, canvas), tip = tooltip(plot);
  const legend = h("div", { class: "legend" });
  const find = h("input", { type: "search", placeholder: "find a drug", "aria-label": "Find a drug", oninput: (event) => { words = event.target.value.toLowerCase(); table(); }, style: { width: "190px" } });
  const sorted = choice("Order of predictions", [["shift", "most changed"], ["low", "most sensitive"], ["name", "name"]], (value) => { order = value; table(); });
  const all = h("div", { class: "scroll all", tabindex: "0", role: "region", "aria-label": "Predictions" }), counted = h("p", { class: "soft small" });
  const body = h("div", {},
    h("div", { class: "two" },
      h("div", {}, h("h4", { text: "Measure next" }), next, cannot),
      h("div", {}, h("h4", { text: "What it is expected to bring" }), said, plot, legend)),
    h("h4", { text: "Measured" }), h("div", { class: "enter" }, who, what, unit, add, names, wrong), measured,
    h("h4", { text: "All other drugs" }), h("div", { class: "enter" }, find, sorted.box), all, counted);
  const empty = h("div", { class: "empty", text: "No plan: give the widget a fitted plan of pilot measurements." });
  part.root.append(h("div", { class: "tops" }, heading, groupLabel, costLabel, h("label", {}, h("span", { class: "soft", text: "Choose" }), size.box)), note, start, body, empty);

  const values = () => plain(model.get("values")), named = (i) => frame.header.treatments[i];
  function enter() {
    const known = frame.header.treatments, name = who.value.trim();
    const i = known.findIndex((n) => n.toLowerCase() === name.toLowerCase());
    const value = Number(what.value);
    wrong.textContent = i < 0 ? (name ? `${name} is not a drug of this plan` : "which drug?") : what.value === "" || !Number.isFinite(value) ? `a number in ${frame.header.unit} is needed` : "";
    if (wrong.textContent) return;
    who.value = what.value = "";
    put(model, { values: { ...values(), [known[i]]: value } });
    who.focus();
  }

  function load() {
    frame = unpack(model.get("frame_bytes"));
    const some = Boolean(frame && frame.header.treatments.length);
    heading.textContent = model.get("title") || (some && frame.header.sample ? `Pilot measurements on ${frame.header.sample}` : "Pilot measurements");
    note.textContent = model.get("note");
    note.hidden = !model.get("note");
    body.hidden = size.box.hidden = start.hidden = !some;
    empty.hidden = some;
    groupLabel.hidden = costLabel.hidden = true;
    if (!some) { frame = state = null; return; }
    const { header, columns } = frame, classes = [...new Set(header.classes)].filter(Boolean).sort();
    base = covarianceOf(columns.loadings, columns.noise);
    start.textContent = `Start: ${header.start}. Values are ${header.label} in ${header.unit}; a lower value is a more sensitive sample.`;
    unit.textContent = header.unit;
    names.replaceChildren(...header.treatments.map((name) => h("option", { value: name })));
    groupLabel.hidden = !classes.length;
    group.replaceChildren(h("option", { value: "", text: "all drugs" }), ...classes.map((name) => h("option", { value: name, text: name })));
    costLabel.hidden = !columns.cost.some(Number.isFinite);
    work();
  }

  /** Everything that follows from the values, worked out anew. */
  function work() {
    if (!frame) return;
    const { header, columns } = frame, t = header.treatments.length, told = values(), k = model.get("k");
    const kind = model.get("interest"), without = new Set(plain(model.get("without")));
    const mean = Array.from(columns.mean), usable = mean.map(Number.isFinite);
    const pairs = Object.entries(told).map(([name, value]) => [header.treatments.indexOf(name), value]).filter(([i]) => i >= 0);
    const after = posterior(base, mean.map((m) => (Number.isFinite(m) ? m : 0)), pairs.filter(([i]) => usable[i]));
    const known = Array(t).fill(false);
    for (const [i] of pairs) known[i] = true;
    const priced = columns.cost.some(Number.isFinite);
    const weights = header.classes.map((c) => (!kind || c === kind ? 1 : 0));
    const free = header.treatments.map((name, i) => !without.has(name) && (!priced || Number.isFinite(columns.cost[i])));
    const cost = priced && model.get("by_cost") ? columns.cost : null;
    const panel = greedy(after.covariance, k, { weights, free, known, cost, own: Boolean(kind) });
    const n = pairs.filter(([i]) => usable[i]).length;
    const error = (v, step) => Math.sqrt(Math.max(v, 0)) * between(columns.ks, columns.rms, n + step);
    const left = leftAfter(after.covariance, weights, known, panel).map(error);
    const random = randomPanels(free, known, panel.length, DRAWS).map((p) => leftAfter(after.covariance, weights, known, p).map(error));
    const outside = weights.map((w, d) => (known[d] || panel.includes(d) ? 0 : w));
    const total = Math.max(outside.reduce((a, b) => a + b, 0), 1e-9);
    const spread = outside.reduce((sum, w, d) => sum + w * columns.spread[d], 0) / total;
    const scale = between(columns.ks, columns.scale, n);
    const half = header.treatments.map((_, d) => Math.sqrt(Math.max(after.covariance[d * t + d], 0)) * scale * columns.factor[d]);
    state = { told, pairs, known, panel, left, random, spread, mean, now: after.mean, half, usable, n, priced, total };
    size.set(String(k));
    group.value = kind;
    costly.checked = model.get("by_cost");
    recommend();
    list();
    table();
    curve();
  }

  function recommend() {
    const { header, columns } = frame, { panel, left, priced } = state;
    const head = ["", "Drug", "Expected RMSE", priced ? "Cost" : null, ""].filter((text) => text !== null);
    const rows = panel.map((i, step) => h("tr", {},
      h("td", { class: "num soft", text: String(step + 1) }), h("th", { scope: "row", text: named(i) }),
      h("td", { class: "num", text: fixed(left[step + 1], 2), title: `${fixed(left[step], 3)} before it` }),
      ...(priced ? [h("td", { class: "num", text: Number.isFinite(columns.cost[i]) ? short(columns.cost[i]) : "\u2013" })] : []),
      h("td", { class: "act" },
        h("button", { type: "button", text: "Enter", "aria-label": `Enter a value of ${named(i)}`, onclick: () => { who.value = named(i); what.focus(); } }), " ",
        h("button", { type: "button", text: "Not here", "aria-label": `${named(i)} cannot be measured here`, title: "cannot be measured here", onclick: () => put(model, { without: [...plain(model.get("without")), named(i)] }) }))));
    next.replaceChildren(panel.length
      ? h("table", { class: "plain" }, h("thead", {}, h("tr", {}, ...head.map((text) => h("th", { scope: "col", class: text.startsWith("Exp") || text === "Cost" ? "num" : null, text })))), h("tbody", {}, ...rows))
      : h("div", { class: "empty", text: "Nothing is left to choose: no drug that can be measured says anything more of the others." }));
    const out = plain(model.get("without"));
    cannot.replaceChildren(...(out.length ? [`Cannot be measured here: ${out.join(", ")}. `, h("button", { type: "button", text: "Offer all again", onclick: () => put(model, { without: [] }) })] : []));
    const k = panel.length, last = left[k], share = (v) => Math.sqrt(Math.max(0, Math.min(1, 1 - (v * v) / state.spread)));
    const chance = state.random.reduce((sum, line) => sum + line[line.length - 1], 0) / state.random.length;
    const low = between(columns.ks, columns.least, state.n + k) * last, high = between(columns.ks, columns.most, state.n + k) * last;
    // the spread from line to line was learnt over many drugs; of a few it would be too narrow
    const spread = state.total >= 20 ? ` (9 of 10 lines: ${fixed(low, 2)} to ${fixed(high, 2)})` : "";
    const after = `RMSE ${fixed(left[0], 2)} now, ${fixed(last, 2)} after these ${k}${spread}, `;
    said.textContent = k ? `${after}${fixed(chance, 2)} after ${k} at random. Normalised correlation ${fixed(share(left[0]), 2)} now, `
      + `${fixed(share(last), 2)} after. Of the ${whole(state.total)} drugs that stay unmeasured, in ${header.unit}.` : "";
  }

  function list() {
    const { told, mean } = state, { header } = frame, entries = Object.entries(told);
    measured.replaceChildren(entries.length
      ? h("div", { class: "scroll panel" }, h("table", { class: "plain" },
        h("thead", {}, h("tr", {}, ...["Drug", `Measured, ${header.unit}`, "Expected before", ""].map((text, i) => h("th", { scope: "col", class: i === 1 || i === 2 ? "num" : null, text })))),
        h("tbody", {}, ...entries.map(([name, value]) => h("tr", {}, h("th", { scope: "row", text: name }),
          h("td", { class: "num", text: fixed(value, 2) }), h("td", { class: "num soft", text: fixed(mean[header.treatments.indexOf(name)], 2) }),
          h("td", { class: "act" }, h("button", { type: "button", text: "Remove", "aria-label": `Remove ${name}`, onclick: () => { const rest = { ...values() }; delete rest[name]; put(model, { values: rest }); } })))))))
      : h("p", { class: "soft", text: "Nothing yet. Enter a value and every prediction below follows." }));
  }

  function table() {
    if (!state) return;
    const { header } = frame, { mean, now, half, known, usable } = state;
    const rest = header.treatments.map((_, i) => i).filter((i) => !known[i] && usable[i]);
    const kept = rest.filter((i) => named(i).toLowerCase().includes(words) || header.classes[i].toLowerCase().includes(words));
    const by = { shift: (i) => -Math.abs(now[i] - mean[i]), low: (i) => now[i], name: () => 0 }[order];
    kept.sort((a, b) => by(a) - by(b) || named(a).localeCompare(named(b)));
    sorted.set(order);
    const shown = kept.slice(0, 60);
    const low = Math.min(...shown.map((i) => now[i] - half[i])), high = Math.max(...shown.map((i) => now[i] + half[i]));
    const place = (v) => `${((v - low) / (high - low || 1)) * 100}%`;
    const conc = header.label === "ln IC50";
    const head = ["Drug", `Before, ${header.unit}`, "Now", `${Math.round(header.level * 100)} % interval`, "", ...(conc ? ["IC50, \u00b5M"] : [])];
    all.replaceChildren(shown.length ? h("table", { class: "plain" },
      h("thead", {}, h("tr", {}, ...head.map((text, i) => h("th", { scope: "col", class: [1, 2, 3, 5].includes(i) ? "num" : null, text })))),
      h("tbody", {}, ...shown.map((i) => h("tr", {},
        h("th", { scope: "row", text: named(i) }), h("td", { class: "num soft", text: fixed(mean[i], 2) }), h("td", { class: "num", text: fixed(now[i], 2) }),
        h("td", { class: "num", text: `${fixed(now[i] - half[i], 2)} to ${fixed(now[i] + half[i], 2)}` }),
        h("td", {}, h("span", { class: "range", "aria-hidden": "true" },
          h("i", { style: { left: place(now[i] - half[i]), width: `${((2 * half[i]) / (high - low || 1)) * 100}%` } }),
          h("u", { style: { left: place(Math.max(low, Math.min(high, mean[i]))) } }), h("b", { style: { left: place(now[i]) } }))),
        ...(conc ? [h("td", { class: "num", text: short(Math.exp(now[i]), 2) })] : [])))))
      : h("div", { class: "empty", text: `No drug is called ${words}.` }));
    const many = shown.length < kept.length ? `${shown.length} of ${whole(kept.length)} drugs; find one by name or order them differently.` : `${whole(kept.length)} ${kept.length === 1 ? "drug" : "drugs"}.`;
    counted.textContent = `${many} The grey mark is the prediction before any measurement.`;
  }

  function curve() {
    const { left, random, panel } = state, x = left.map((_, i) => i), { header } = frame;
    const sums = x.map((i) => random.map((line) => line[Math.min(i, line.length - 1)]).sort((a, b) => a - b));
    const mid = sums.map((s) => s.reduce((a, b) => a + b, 0) / s.length), least = sums.map((s) => s[0]), most = sums.map((s) => s[s.length - 1]);
    const top = Math.max(...most, ...left), bottom = Math.min(...least, ...left), gap = (top - bottom) * 0.12 || 0.1;
    area = plane(canvas, part.root, {
      width: Math.max(260, plot.clientWidth || 420), height: 240, x: { low: 0, high: Math.max(1, panel.length), label: "Further measurements" },
      y: { low: Math.max(0, bottom - gap), high: top + gap, label: `Expected RMSE of the others, ${header.unit}` },
    });
    const { c, colors } = area;
    inside(area, () => {
      c.fillStyle = colors.soft;
      c.globalAlpha = 0.16;
      band(area, x, least, most);
      c.globalAlpha = 1;
      c.lineWidth = 1.6;
      c.strokeStyle = colors.soft;
      c.setLineDash([5, 4]);
      trace(area, x, mid);
      c.setLineDash([]);
      c.lineWidth = 2;
      c.strokeStyle = c.fillStyle = colors.accent;
      trace(area, x, left);
      x.forEach((i) => disc(c, area.sx(i), area.sy(left[i]), 3));
    });
    const key = (color, text) => h("span", {}, h("i", { class: "swatch", style: { background: color } }), text);
    legend.replaceChildren(key("var(--wb-accent)", "chosen"), key("var(--wb-soft)", `at random (mean and range of ${DRAWS} panels)`));
  }
  canvas.addEventListener("pointermove", (event) => {
    if (!state || !area) return;
    const [px, py] = at(event, canvas), i = Math.max(0, Math.min(state.panel.length, Math.round(area.ix(px))));
    tip.show(px, py, h("b", { text: i ? `after ${named(state.panel[i - 1])}` : "now" }), `${i} further: expected RMSE ${fixed(state.left[i], 2)}`);
  });
  canvas.addEventListener("pointerleave", () => tip.hide());

  const deaf = listen(model, { frame_bytes: load, title: load, note: load, values: work, without: work, interest: work, by_cost: work, k: work });
  load();
  part.look();
  return () => { deaf(); part.close(); };
}

export default { render };
