// A study of animals: arms, weights, a measure by dose, findings by organ and arm. Layouts: animal_study.py.
import { h, hue, listen, longList, plain, put, stage, unpack, whole } from "./_parts.js";
import { SHARED, at, band, choice, disc, inside, plane, segment, short, tone, tooltip, trace } from "./_axes.js";

const ANIMAL_CSS = `
.wb-animals{container-type:inline-size;}
.wb-animals .parts{display:flex;flex-wrap:wrap;gap:6px;margin-bottom:12px;}
.wb-animals .parts span{border:1px solid var(--wb-line);border-radius:12px;padding:1px 10px;font-size:12px;}
.wb-animals .parts .no{border-style:dashed;color:var(--wb-soft);}
.wb-animals .pictures{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:16px 24px;margin-top:16px;}
.wb-animals .pictures>div{min-width:0;}
.wb-animals .asks{display:flex;flex-wrap:wrap;gap:6px 10px;margin-bottom:4px;min-height:30px;}
.wb-animals .asks label{display:flex;gap:6px;align-items:center;min-width:0;}
.wb-animals .below{margin-top:18px;}
.wb-animals .heads,.wb-animals .finding{display:grid;grid-template-columns:var(--wb-columns);gap:0 4px;align-items:center;}
.wb-animals .heads{padding:0 10px 4px 10px;font-size:12px;color:var(--wb-soft);min-width:560px;}
.wb-animals .list{min-width:560px;}
.wb-animals .list .row.finding{display:grid;cursor:default;}
.wb-animals .cell{border:0;border-radius:3px;padding:1px 4px;min-height:22px;text-align:center;font-size:12px;font-variant-numeric:tabular-nums;white-space:nowrap;}
.wb-animals .cell.none{color:var(--wb-soft);cursor:default;}
.wb-animals .cell.on{outline:2px solid var(--wb-mark);}
.wb-animals .cell small{color:inherit;opacity:.8;}
.wb-animals .differs{font-weight:600;color:var(--wb-error);}
.wb-animals .gap{margin-top:8px;}
.wb-animals table.plain td,.wb-animals table.plain th{white-space:nowrap;}
.wb-animals h4.next{margin-top:16px;}
.wb-animals canvas{cursor:default;}
@container (max-width:840px){.wb-animals .pictures{grid-template-columns:1fr;}}
`;
const LAST_DAY = -1e9, SEX = { M: "males", F: "females", U: "sex not given" };

function render({ model, el }) {
  let frame = null, detail = null, area = null, spots = [], sex = "", domain = "", rows = [], columns = [];
  const part = stage(el, "wb-animals", model.get("theme"), `${SHARED}${ANIMAL_CSS}`, () => { if (frame) draw(); });
  const heading = h("h3", {}), note = h("p", { class: "note" }), parts = h("div", { class: "parts", role: "list", "aria-label": "What this study has" });
  const sexes = choice("Sex", [["", "Both sexes"], ["M", "Males"], ["F", "Females"]], (value) => { sex = value; draw(); });
  const clear = h("button", { type: "button", text: "Clear selection", onclick: () => put(model, { selected: [] }) });
  const arms = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Arms" });
  const weightCanvas = h("canvas", { "aria-hidden": "true" }), weightPlot = h("div", { class: "plot" }, weightCanvas);
  const weightSaid = h("p", { class: "soft small" });
  const measures = h("select", { "aria-label": "Measure", onchange: () => put(model, { day: LAST_DAY, measure: measures.value }) });
  const days = h("select", { "aria-label": "Study day", onchange: () => put(model, { day: Number(days.value) }) });
  const scale = h("input", { type: "checkbox", onchange: () => measured() });
  const dots = h("canvas", { "aria-hidden": "true" }), dotPlot = h("div", { class: "plot" }, dots), tip = tooltip(dotPlot);
  const compared = h("div", { class: "scroll gap", tabindex: "0", role: "region", "aria-label": "Arms against the control" }), measureSaid = h("p", { class: "soft small gap" });
  const measureBox = h("div", {}), said = h("span", { class: "soft small", role: "status" });
  measureBox.append(h("h4", { text: "One measure by dose" }), h("div", { class: "asks" }, measures, h("label", {}, h("span", { class: "soft", text: "Study day" }), days), h("label", {}, scale, "Log axis")), dotPlot, measureSaid, compared);
  const domains = h("div", {}), search = h("input", { type: "search", placeholder: "Find an organ or a finding", "aria-label": "Find an organ or a finding", oninput: () => table() });
  const heads = h("div", { class: "heads", "aria-hidden": "true" });
  const list = longList({ label: "Findings, those that rise most surely above their control first", height: 330, rowHeight: 27, pick: () => {}, fill: (row, i) => fillFinding(row, rows[i]) });
  const matrix = h("div", { class: "below" }, h("h4", { text: "Findings by organ and arm" }), h("div", { class: "asks" }, domains, h("div", { style: { flex: "0 1 260px" } }, search), said),
    h("div", { class: "scroll" }, heads, list.box), h("p", { class: "soft small gap", text: "Most surely above its control first (both sexes, Fisher\u2019s exact test, one-sided, not corrected). Animals with the finding of those looked at, in brackets the mean severity, 1 minimal to 5 severe; pale where few were looked at. An arm in which nobody was looked at is left out. Click a cell to select its animals; Shift adds." }));
  const noFindings = h("p", { class: "empty", text: "No findings: this study has no records of microscopic, macroscopic or clinical observations." });
  const body = h("div", {}, h("div", { class: "pictures" }, h("div", {}, h("h4", { text: "Arms" }), arms, h("h4", { class: "next", text: "Body weight" }), weightPlot, weightSaid), measureBox), matrix, noFindings);
  const empty = h("div", { class: "empty", text: "No animals: this study has no subjects." });
  part.root.append(h("div", { class: "tops" }, heading, clear, sexes.box), note, parts, body, empty);

  const isControl = (g) => frame.header.arms[g].against === g;
  /** One colour a dose, pale for recovery and satellite arms; controls are grey. */
  function paint(g) {
    const { arms: all } = frame.header, arm = all[g], doses = [...new Set(all.filter((a, k) => a.dose !== 0 && !isControl(k)).map((a) => a.dose ?? a.arm))];
    const color = arm.dose === 0 || isControl(g) ? hue(part.root, "soft") : tone(part.root, doses.indexOf(arm.dose ?? arm.arm)).color;
    return arm.kind ? `color-mix(in srgb, ${color} 50%, ${hue(part.root, "bg")})` : color;
  }
  const doseText = (arm) => (arm.dose === null ? arm.arm : `${short(arm.dose)}${arm.unit ? ` ${arm.unit}` : ""}${arm.kind ? ` ${arm.kind}` : ""}`);
  /** The dose of an arm, or its name where another of `shown` has the same dose. */
  const axisText = (arm, shown) => (arm.dose === null || shown.some((other) => other !== arm && other.dose === arm.dose && other.kind === arm.kind) ? arm.arm : `${short(arm.dose)}${arm.kind ? ` ${arm.kind}` : ""}`);
  const doseUnit = () => [...new Set(frame.header.arms.map((arm) => arm.unit).filter(Boolean))].join(", ");
  const shownSexes = () => frame.header.sexes.map((name, s) => [name, s]).filter(([name]) => !sex || name === sex);
  /** Who stands behind the i-th value: an animal, or those of a cage. */
  const members = (i) => { const at = detail.columns.subject[i], cage = detail.header.cages[at]; return (cage ? cage.subjects : [at]).map((k) => frame.header.subjects[k]); };
  const selected = () => new Set(plain(model.get("selected")));
  function select(names, more) {
    const before = plain(model.get("selected")), all = names.every((x) => before.includes(x));
    if (!more) return put(model, { selected: all && before.length === names.length ? [] : names });
    return put(model, { selected: all ? before.filter((x) => !names.includes(x)) : [...new Set([...before, ...names])] });
  }

  function load() {
    frame = unpack(model.get("frame_bytes"));
    const noun = (frame?.header.noun || ["animal", "animals"])[1];
    heading.textContent = model.get("title") || noun[0].toUpperCase() + noun.slice(1);
    note.textContent = model.get("note");
    note.hidden = !model.get("note");
    const some = Boolean(frame && frame.header.subjects.length);
    body.hidden = sexes.box.hidden = !some;
    empty.hidden = some;
    if (!some) { frame = null; parts.replaceChildren(); clear.hidden = true; return; }
    const { header } = frame;
    parts.replaceChildren(...header.parts.map((p) => h("span", { role: "listitem", class: p.there ? null : "no", text: p.there ? `${p.name}: ${p.said}` : `${p.name}: missing` })));
    sexes.box.hidden = !header.arms.some((arm) => arm.males) || !header.arms.some((arm) => arm.females);
    const kinds = [...new Set(header.measures.map((m) => m.kind))];
    measures.replaceChildren(...kinds.map((kind) => {
      const group = h("optgroup", { label: kind });
      group.append(...header.measures.filter((m) => m.kind === kind).map((m) => h("option", { value: m.endpoint, text: [m.code ? `${m.label} (${m.code})` : m.label, m.unit].filter(Boolean).join(", ") })));
      return group;
    }));
    measureBox.hidden = !header.measures.length;
    const has = [...new Set(header.findings.map((f) => f.domain))];
    if (!has.includes(domain)) domain = has[0] || "";
    const pick = choice("Kind of finding", has.map((name) => [name, header.domains[name]]), (value) => { domain = value; pick.set(value); table(); });
    pick.set(domain);
    domains.replaceChildren(...(has.length > 1 ? [pick.box] : []));
    matrix.hidden = !has.length;
    noFindings.hidden = has.length > 0;
    receive();
    table();
  }

  function receive() {
    detail = unpack(model.get("detail_bytes"));
    if (!frame) return;
    measures.value = model.get("measure");
    if (detail) {
      days.replaceChildren(h("option", { value: String(LAST_DAY), text: `last of each ${detail.header.cages.length ? "cage" : frame.header.noun[0]}` }), ...detail.header.days.map(([day, text]) => h("option", { value: String(day), text })));
      days.value = String(model.get("day"));
    }
    draw();
  }

  function draw() {
    sexes.set(sex);
    clear.hidden = !plain(model.get("selected")).length;
    const { header } = frame;
    const told = header.arms.some((arm) => arm.males || arm.females), counts = (arm) => (told ? [arm.n, arm.males, arm.females] : [arm.n]);
    arms.replaceChildren(h("table", { class: "plain" }, h("thead", {}, h("tr", {}, ...["Arm", "Dose", header.noun[1], ...(told ? ["males", "females"] : [])].map((text, i) => h("th", { text, scope: "col", class: i > 1 ? "num" : null })))),
      h("tbody", {}, ...header.arms.map((arm, g) => h("tr", {}, h("th", { scope: "row" }, h("span", { class: "swatch", style: { background: paint(g) } }), arm.arm + (isControl(g) ? " (control)" : "")),
        h("td", { text: arm.dose === null ? "not given" : doseText(arm) }), ...counts(arm).map((n) => h("td", { class: "num", text: whole(n) })))))));
    if (!told) arms.append(h("p", { class: "soft small", text: `The sex of these ${header.noun[1]} is not stated.` }));
    const kinds = new Set(header.arms.map((arm) => arm.kind));
    if (kinds.has("R") || kinds.has("TK")) arms.append(h("p", { class: "soft small", text: [kinds.has("R") ? "R: animals for recovery" : "", kinds.has("TK") ? "TK: animals for toxicokinetics" : ""].filter(Boolean).join("; ") }));
    weights();
    measured();
    table();
  }

  function weights() {
    const { header, columns } = frame, { weight_group: g, weight_sex: s, weight_day: day, weight_mean: mean, weight_low: low, weight_high: high } = columns;
    const shown = shownSexes().map(([, i]) => i), keep = [...g.keys()].filter((i) => shown.includes(s[i]));
    weightPlot.hidden = !keep.length;
    const sets = new Set(keep.map((i) => s[i]));
    weightSaid.textContent = !g.length ? "No body weights: this study lacks them." : !keep.length ? "No body weights of this sex."
      : `Means by arm with 95 % t intervals where three or more were weighed${sets.size > 1 ? "; males solid, females dashed" : ""}. Colours as in the table above.`;
    if (!keep.length) return;
    const least = Math.min(...keep.map((i) => (Number.isFinite(low[i]) ? low[i] : mean[i]))), most = Math.max(...keep.map((i) => (Number.isFinite(high[i]) ? high[i] : mean[i])));
    const on = plane(weightCanvas, part.root, { width: Math.max(240, weightPlot.clientWidth || 420), height: 330,
      x: { low: Math.min(...keep.map((i) => day[i])), high: Math.max(...keep.map((i) => day[i])) + 1, label: "Study day" },
      y: { low: least - (most - least) * 0.05, high: most + (most - least) * 0.05, label: `Body weight, ${header.weight_unit}` } });
    inside(on, (c) => {
      for (let from = 0; from < g.length;) {
        let to = from;
        while (to < g.length && g[to] === g[from] && s[to] === s[from]) to++;
        if (shown.includes(s[from])) {
          c.fillStyle = c.strokeStyle = paint(g[from]);
          c.globalAlpha = shown.length > 1 && sets.size > 1 ? 0.1 : 0.15;
          band(on, day.subarray(from, to), low.subarray(from, to), high.subarray(from, to));
          c.globalAlpha = 1;
          c.lineWidth = 2;
          c.setLineDash(header.sexes[s[from]] === "F" ? [5, 3] : []);
          trace(on, day.subarray(from, to), mean.subarray(from, to));
        }
        from = to;
      }
    });
  }

  /** Dots by arm, the sexes side by side: squares males, discs females. */
  function measured() {
    spots = [];
    tip.hide();
    if (!detail) return;
    const { header } = detail, { group, sex: s, value, censored } = detail.columns;
    const shown = shownSexes().filter(([, i]) => s.includes(i)), slot = new Map(shown.map(([, i], k) => [i, (k + 0.5) / shown.length - 0.5]));
    const keep = [...group.keys()].filter((i) => slot.has(s[i])), means = header.compared.filter((m) => shown.some(([name]) => name === m.sex));
    const there = [...new Set(keep.map((i) => group[i]))].sort((a, b) => a - b), place = new Map(there.map((g, k) => [g, k])), many = there.length, kept = there.map((g) => frame.header.arms[g]);
    dotPlot.hidden = !keep.length;
    measureSaid.textContent = keep.length ? `${shown.length > 1 ? "Squares are males, discs females. " : ""}${header.said}` : "No value of this sex on this day.";
    const all = [...keep.map((i) => value[i]), ...means.flatMap((m) => [m.low, m.high].filter((v) => v !== null))], positive = keep.every((i) => value[i] > 0);
    scale.disabled = !positive;
    const log = scale.checked && positive, low = Math.min(...(log ? all.filter((v) => v > 0) : all)), high = Math.max(...all), pad = (high - low || Math.abs(high) || 1) * 0.06;
    const crowded = kept.some((arm) => axisText(arm, kept).length * 7 > (dotPlot.clientWidth || 420) / many) && kept.every((arm) => arm.dose !== null); // names of arms would be cut
    if (keep.length) {
      area = plane(dots, part.root, { width: Math.max(240, dotPlot.clientWidth || 420), height: 330,
        x: { low: -0.5, high: many - 0.5, label: `${doseUnit() ? `Arm, dose in ${doseUnit()}` : "Arm"}${crowded ? "; arms of one dose in the order of the table" : ""}`, ticks: kept.map((arm, k) => [k, crowded ? (kept[k - 1]?.dose === arm.dose ? "" : short(arm.dose)) : axisText(arm, kept)]).filter(([, text]) => text) },
        y: { low: log ? low / 1.1 : low - pad, high: log ? high * 1.1 : high + pad, log, label: `${header.label}${header.unit ? `, ${header.unit}` : ""}` } });
      const { c } = area, width = area.w / many / shown.length, chosen = selected(), isLit = (i) => members(i).some((name) => chosen.has(name)), lit = keep.some(isLit), seen = new Map();
      for (const i of [...keep].sort((a, b) => value[a] - value[b])) {
        const key = `${group[i]}/${s[i]}`, nth = seen.get(key) || 0;
        seen.set(key, nth + 1);
        const px = area.sx(place.get(group[i]) + slot.get(s[i]) * 0.86) + (((nth * 0.618 + 0.5) % 1) - 0.5) * Math.min(26, width * 0.5), py = area.sy(value[i]);
        spots.push({ px, py, i });
        c.fillStyle = c.strokeStyle = paint(group[i]);
        c.globalAlpha = lit && !isLit(i) ? 0.22 : 0.8;
        c.lineWidth = 1.5;
        if (frame.header.sexes[s[i]] === "M") { if (censored[i]) c.strokeRect(px - 3, py - 3, 6, 6); else c.fillRect(px - 3, py - 3, 6, 6); }
        else disc(c, px, py, 3.4, !censored[i]);
      }
      c.globalAlpha = 1;
      for (const m of means) {
        const px = area.sx(place.get(m.group) + slot.get(frame.header.sexes.indexOf(m.sex)) * 0.86), half = Math.min(22, width * 0.34);
        c.strokeStyle = area.colors.ink;
        c.lineWidth = 2.2;
        segment(c, px - half, area.sy(m.mean), px + half, area.sy(m.mean));
        c.lineWidth = 1.2;
        if (m.low !== null && m.high !== null) segment(c, px, area.sy(log ? Math.max(m.low, area.y.low) : m.low), px, area.sy(m.high));
        if (m.verdict === "higher" || m.verdict === "lower") { c.fillStyle = hue(part.root, "mark"); c.textAlign = "center"; c.font = `bold ${c.font}`; c.fillText(m.verdict === "higher" ? "\u25b2" : "\u25bc", px, area.top + 4); c.font = c.font.replace("bold ", ""); }
      }
    }
    const control = frame.header.arms.some((arm) => arm.against !== null), sexed = means.some((m) => m.sex !== "U");
    const rowText = (g) => { const arm = frame.header.arms[g]; return kept.some((other) => other !== arm && doseText(other) === doseText(arm)) ? arm.arm : doseText(arm); };
    compared.replaceChildren(h("table", { class: "plain" }, h("thead", {}, h("tr", {}, ...["Arm", ...(sexed ? ["sex"] : []), header.cages.length ? "cages" : "n", `mean (95 % interval)${header.unit ? `, ${header.unit}` : ""}`, ...(control ? ["fold", "against control"] : [])].map((text) => h("th", { text, scope: "col", class: ["n", "cages", "fold"].includes(text) ? "num" : null })))),
      h("tbody", {}, ...means.map((m) => h("tr", {}, h("th", { scope: "row", text: rowText(m.group) }), ...(sexed ? [h("td", { text: m.sex })] : []), h("td", { class: "num", text: whole(m.n) }),
        h("td", { text: `${short(m.mean)}${m.low === null ? "" : ` (${short(m.low)} to ${short(m.high)})`}` }),
        ...(control ? [h("td", { class: "num", text: m.fold === null ? "\u2013" : m.fold.toFixed(2) }),
          h("td", { class: m.verdict === "higher" || m.verdict === "lower" ? "differs" : "soft", text: isControl(m.group) ? "control" : m.verdict === null ? "too few to test" : m.p === null ? m.verdict : `${m.verdict === "higher" ? "\u25b2 higher, " : m.verdict === "lower" ? "\u25bc lower, " : ""}p ${m.p < 0.001 ? "< 0.001" : `= ${m.p.toFixed(3)}`}` })] : []))))));
  }

  /** Animals of the sexes that are shown: those with the finding, how many were looked at, mean severity. */
  function cell(i, g) {
    const { hit_start: start, hit, grade, looked, subject_sex: of } = frame.columns, at = i * frame.header.arms.length + g, sexes = shownSexes().map(([, k]) => k);
    const own = [...Array(start[at + 1] - start[at]).keys()].map((k) => start[at] + k).filter((k) => sexes.includes(of[hit[k]])), grades = own.map((k) => grade[k]).filter(Number.isFinite);
    return { who: own.map((k) => frame.header.subjects[hit[k]]), of: sexes.reduce((sum, k) => sum + looked[at * frame.header.sexes.length + k], 0), severity: grades.length ? grades.reduce((a, b) => a + b, 0) / grades.length : null };
  }

  function table() {
    if (!frame) return;
    const wanted = search.value.trim().toLowerCase(), all = frame.header.arms, own = frame.header.findings.map((f, i) => ({ ...f, i })).filter((f) => f.domain === domain);
    columns = all.map((_, g) => g).filter((g) => own.some((f) => cell(f.i, g).of));
    rows = own.filter((f) => `${f.organ} ${f.finding}`.toLowerCase().includes(wanted) && (!sex || columns.some((g) => cell(f.i, g).who.length)));
    said.textContent = `${whole(rows.length)} ${rows.length === 1 ? "finding" : "findings"}${sex ? ` in ${SEX[sex]}` : ""}`;
    part.root.style.setProperty("--wb-columns", `minmax(90px,1.1fr) minmax(110px,1.6fr) repeat(${columns.length},minmax(58px,.7fr))`);
    const kept = columns.map((g) => all[g]);
    heads.replaceChildren(h("span", { text: "Organ" }), h("span", { text: "Finding" }), ...kept.map((arm) => h("span", { class: "cut", style: { textAlign: "center" }, text: axisText(arm, kept) === arm.arm ? arm.arm : doseText(arm), title: `${arm.arm}, ${doseText(arm)}` })));
    list.box.style.height = `${Math.max(60, Math.min(330, rows.length * 27 + 4))}px`;
    list.set(rows.length, true);
    heads.style.paddingRight = `${list.box.offsetWidth - list.box.clientWidth + 9}px`;
  }

  function fillFinding(row, finding) {
    const chosen = selected();
    row.classList.add("finding");
    row.append(h("span", { class: "cut", text: finding.organ || "whole animal", title: finding.organ }), h("span", { class: "cut", text: finding.finding, title: finding.finding }),
      ...columns.map((g) => {
        const { who, of, severity } = cell(finding.i, g), n = who.length;
        const share = of ? n / (of + 2) : 0, on = n > 0 && who.every((name) => chosen.has(name)); // 1 of 1 says less than 19 of 20
        const title = of ? `${finding.finding}, ${finding.organ || "whole animal"}, ${frame.header.arms[g].arm}: ${n} of ${of}${severity === null ? "" : `, mean severity ${short(severity, 2)}`}` : "nobody looked";
        return h("button", { type: "button", class: `cell${n ? "" : " none"}${on ? " on" : ""}`, title, "aria-label": title, "aria-pressed": String(on), disabled: !n,
          style: { background: n ? `color-mix(in srgb, var(--wb-mark) ${Math.round(12 + 58 * share)}%, var(--wb-bg))` : "transparent" },
          onclick: (event) => { event.stopPropagation(); select(who, event.shiftKey); } },
        of ? `${n}/${of}` : "\u2013", ...(severity === null || !n ? [] : [h("small", { text: ` (${short(severity, 2)})` })]));
      }));
  }

  const nearest = (event) => { const [px, py] = at(event, dots); return spots.map((spot) => [(spot.px - px) ** 2 + (spot.py - py) ** 2, spot]).filter(([d]) => d < 100).sort((a, b) => a[0] - b[0])[0]?.[1]; };
  dots.addEventListener("pointermove", (event) => {
    const spot = detail && nearest(event);
    if (!spot) return tip.hide();
    const { group, sex: s, value, subject, censored } = detail.columns, i = spot.i, cage = detail.header.cages[subject[i]];
    tip.show(spot.px, spot.py, h("b", { text: cage ? `${cage.name}: ${whole(cage.subjects.length)} ${frame.header.noun[1]}` : frame.header.subjects[subject[i]] }), h("span", { class: "soft", text: `${frame.header.arms[group[i]].arm}, ${SEX[frame.header.sexes[s[i]]]}` }),
      h("div", { text: `${detail.header.label} ${censored[i] < 0 ? "below " : censored[i] > 0 ? "above " : ""}${short(value[i], 4)} ${detail.header.unit}` }));
  });
  dots.addEventListener("pointerleave", () => tip.hide());
  dots.addEventListener("click", (event) => { const spot = detail && nearest(event); if (spot) select(members(spot.i), event.shiftKey); });

  const quiet = listen(model, { frame_bytes: load, title: load, note: load, detail_bytes: receive, selected: () => { if (frame) draw(); } });
  part.look();
  load();
  return () => { quiet(); part.close(); };
}

export default { render };
