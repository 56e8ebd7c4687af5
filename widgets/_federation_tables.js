// What surrounds a federation's verdicts: how it was trained, what each site gives, attacks, faults, what left. Nodes only; the words are _federated.js's.
import { fixed, h, whole } from "./_parts.js";
import { COSTS, UNKNOWN, WHOLE, attackRows, paid, signed, size, within } from "./_federated.js";

const missing = (text) => text === UNKNOWN || text.startsWith("no bound");
export const cell = (text, right) => h("td", { class: `${right ? "num" : "text"}${missing(text) ? " unknown" : ""}`, text });

/** A heading and a table that scrolls by itself; a column named with a leading ">" holds numbers. */
function tabled(title, columns, rows, note = "") {
  const bare = columns.map((name) => name.replace(/^>/, ""));
  const head = columns.map((name, i) => h("th", { scope: "col", role: "columnheader", class: name.startsWith(">") ? "num" : null, text: bare[i] }));
  for (const cells of rows) cells.forEach((node, i) => { node.setAttribute("role", i ? "cell" : "rowheader"); if (i && bare[i]) node.dataset.label = bare[i]; }); // roles stay when rows are stacked
  const row = (cells) => h("tr", { role: "row" }, ...cells);
  const table = h("table", { class: "plain stack", role: "table" }, h("thead", { role: "rowgroup" }, row(head)), h("tbody", { role: "rowgroup" }, ...rows.map(row)));
  return [h("h4", { text: title }), ...(note ? [h("p", { class: "soft small", text: note })] : []), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, table)];
}
const named = (text) => h("th", { scope: "row", text });

/** How it was trained, and what was compared with what. */
export function howNodes(value, arms) {
  const facts = [...value.facts, ...(arms.length ? [["Compared", `${arms.join(", ")}${arms.includes("pooled") ? "" : "; not pooled: it was not trained"}`]] : [])];
  return facts.length ? [h("h4", { text: "How it was trained" }), h("dl", { class: "how" }, ...facts.flatMap(([what, how]) => [h("dt", { text: what }), h("dd", { text: how })]))] : [];
}

export function costNodes(value, told) {
  const rows = told.map((v) => [named(v.site), h("td", { class: "keep", text: v.verdict }), ...paid(value, v, told).map((text) => cell(text, true))]);
  return tabled("What each site gives", ["Site", "Verdict", ...COSTS.map((name) => `>${name}`)], rows);
}

const MARKS = { works: ["m1", "! works"], "not shown to work": ["m0", "not shown to work"], "no interval": ["m2", "hidden here"], [UNKNOWN]: ["m2", UNKNOWN] };

/** Each attack on a line of its own: chance, interval, figure. Correlations run from -1, AUCs and rates from 0. */
export function attackNodes(value) {
  if (!value.attacks.length) return [h("h4", { text: "Attacks" }), h("p", { class: "soft", text: "Not measured: nobody attacked this federation. \u201cworkbench federate attack RUN\u201d does, and records how far it gets." })];
  const rows = attackRows(value).map((a, i, all) => {
    const low = a.figure === "correlation" ? -1 : 0, at = (v) => `${(100 * (Math.min(1, Math.max(low, v)) - low)) / (1 - low)}%`, [style, words] = MARKS[a.works];
    const lane = h("div", { class: `strip ${style}`, "aria-hidden": "true" }, ...(Number.isFinite(a.chance) ? [h("span", { class: "chance", style: { left: at(a.chance) } })] : []),
      ...(Number.isFinite(a.low) && Number.isFinite(a.high) ? [h("span", { class: "span", style: { left: at(a.low), width: `calc(${at(a.high)} - ${at(a.low)})` } })] : []), ...(Number.isFinite(a.value) ? [h("span", { class: "dot", style: { left: at(a.value) } })] : []));
    const interval = Number.isFinite(a.low) ? ` (${fixed(a.low, 2)} to ${fixed(a.high, 2)})` : "";
    return [h("th", { scope: "row" }, a.attack, h("small", { text: a.knows && all[i - 1]?.attack === a.attack && all[i - 1].knows === a.knows ? "as above" : a.knows && `has ${a.knows}` })), h("td", { class: a.target === WHOLE ? "keep" : "whom", text: a.target }), h("td", { class: "strips" }, lane),
      h("td", { class: "figure" }, h("b", { text: Number.isFinite(a.value) ? `${a.figure} ${fixed(a.value, 2)}` : `${a.figure} ${UNKNOWN}` }), h("span", { text: interval }), ...(a.more ? [h("small", { text: a.more })] : [])),
      h("td", { class: "num", text: Number.isFinite(a.chance) ? fixed(a.chance, 2) : "\u2013" }), h("td", { class: `keep ${style}`, text: words })];
  });
  const note = "Dot: how far the attack gets; bar: 95 % interval; dashed: who knows nothing. An attack works where the whole interval lies above chance; \u201chidden here\u201d is of what this federation never shows anybody.";
  return tabled("Attacks", ["Attack", "Against", "", "Figure, 95 % interval", ">Chance", ""], rows, note);
}

export function overallNodes(rows) {
  const num = (x) => (x === null ? NaN : x), ends = (name, gain) => (name === null ? "\u2013" : `${name} ${signed(num(gain))}`);
  const lines = rows.map((o) => [named(o.metric), cell(`${signed(num(o.gain))} (${within(num(o.low), num(o.high), signed)})`, true), cell(o.by_rows === null ? UNKNOWN : signed(o.by_rows), true), h("td", { text: ends(o.best_site, o.best) }), h("td", { text: ends(o.worst_site, o.worst) }), cell(fixed(num(o.gap_alone)), true), cell(fixed(num(o.gap)), true)]);
  return tabled("What the federation gains, and how evenly (positive is good)", ["Metric", ">Mean gain over sites", ">By training rows", "Gains most", "Gains least", ">Best to worst site, alone", ">Best to worst site, joined"], lines);
}

/** Who was flagged, dropped, set aside, or did not answer: by name, when and why. */
export function faultNodes(incidents) {
  const title = "Flagged, set aside or without an answer";
  if (!incidents.length) return [h("h4", { text: title }), h("p", { class: "soft", text: "Nobody: every site answered every ask, and no check found fault." })];
  const rows = incidents.map((i) => [named(i.site), h("td", { text: i.kind }), h("td", { text: i.what }), h("td", { class: "text", text: `${i.why}${i.others ? `; ${i.others} more worded alike` : ""}` })]);
  return tabled(title, ["Site", "What happened", "When", "Why"], rows);
}

export function askedNodes(asked) {
  const rows = asked.map((a) => [named(a.name.replaceAll("_", " ")), h("td", { class: "num", text: whole(a.times) }), cell(size(a.bytes), true), h("td", { class: "text", text: a.plain || "\u2013" })]);
  return asked.length ? tabled("What left the sites", ["Answer", ">Times asked", ">Bytes, all sites", "What it is"], rows) : [];
}
