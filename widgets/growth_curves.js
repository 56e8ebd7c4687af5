// Tumour volume by day and arm, best responses as a waterfall, calls by arm. The packed columns are described in growth_curves.py.
import { h, hue, listen, longList, plain, put, stage, unpack, whole } from "./_parts.js";
import { SHARED, at, band, choice, disc, inside, plane, segment, short, tone, tooltip, trace } from "./_axes.js";

const GROWTH_CSS = `
.wb-growth{container-type:inline-size;}
.wb-growth .cols{display:grid;grid-template-columns:236px minmax(0,1fr);gap:16px 20px;}
.wb-growth .cols>div{min-width:0;}
.wb-growth .cols[aria-busy=true]{opacity:.45;}
.wb-growth .pictures{display:grid;grid-template-columns:minmax(0,1.25fr) minmax(0,1fr);gap:14px 20px;}
.wb-growth .pictures>div{min-width:0;}
.wb-growth .row .name{flex:1 1 auto;}
.wb-growth .legend{margin:4px 0 8px;min-height:20px;}
.wb-growth .legend button{border:0;background:none;padding:0 2px;min-height:22px;font-size:12px;}
.wb-growth .table{margin-top:14px;}
.wb-growth tbody th{min-width:110px;}
.wb-growth .calls{display:inline-flex;width:110px;height:11px;border-radius:2px;overflow:hidden;vertical-align:middle;}
.wb-growth .say{display:flex;gap:10px;align-items:center;flex-wrap:wrap;min-height:30px;margin-top:6px;}
@container (max-width:1000px){.wb-growth .pictures{grid-template-columns:1fr;}}
@container (max-width:640px){.wb-growth .cols{grid-template-columns:1fr;}.wb-growth .list{max-height:190px;}}
`;
/** Colour variable and words of each mRECIST call, best first. */
const CALLS = [["CR", "c0", "complete response"], ["PR", "c4", "partial response"], ["SD", "c1", "stable disease"], ["PD", "c3", "progressive disease"]];
const TOP = 100; // per cent: longer bars are cut, with a mark

function render({ model, el }) {
  let frame = null, listed = [], arms = [], curves = [], area = null, bars = null, over = null, chosen = new Set(), log = true, middle = "median";
  const part = stage(el, "wb-growth", model.get("theme"), `${SHARED}${GROWTH_CSS}`, () => { if (frame) draw(); });
  const heading = h("h3", {}), note = h("p", { class: "note" });
  const scale = choice("Volume axis", [["log", "Log"], ["linear", "Linear"]], (value) => { log = value === "log"; draw(); });
  const centre = choice("Middle of an arm", [["median", "Median, quartiles"], ["mean", "Geometric mean, 95 % interval"]], (value) => { middle = value; draw(); });
  const tissues = h("select", { "aria-label": "Tissue", onchange: () => { body.setAttribute("aria-busy", "true"); put(model, { tissue: tissues.value }); } });
  const tissueLabel = h("label", {}, h("span", { class: "soft", text: "Tissue" }), tissues);
  const search = h("input", { type: "search", placeholder: "Find an arm", "aria-label": "Find an arm", oninput: () => list() });
  const armList = longList({
    label: "Arms; Enter adds or removes one", height: 380, rowHeight: 27, multiple: true,
    picked: (i) => listed[i] && arms.includes(listed[i].a),
    pick: (i) => toggle(listed[i].a),
    fill: (row, i) => {
      const { a, name, n } = listed[i], k = arms.indexOf(a);
      row.append(h("span", { class: "swatch square", style: { background: k < 0 ? "transparent" : tone(part.root, k).color, border: "1px solid var(--wb-line)" } }),
        h("span", { class: "name cut", text: name, title: name }), h("span", { class: "num soft small", text: whole(n) }));
    },
  });
  const base = h("canvas", { "aria-hidden": "true" }), plot = h("div", { class: "plot" }, base), tip = tooltip(plot);
  const fall = h("canvas", { tabindex: "0", role: "application", "aria-roledescription": "waterfall plot", "aria-label": "Best responses, worst to best. Arrows go from bar to bar, Enter selects the model, Shift and Enter adds it." }), waterfall = h("div", { class: "plot" }, fall), fallTip = tooltip(waterfall);
  const legend = h("div", { class: "legend" }), calls = h("div", { class: "legend" });
  const said = h("span", { class: "soft small", role: "status" });
  const bring = h("button", { type: "button", onclick: () => put(model, { arms: absent().map((a) => frame.header.arms[a].name) }) });
  const clear = h("button", { type: "button", text: "Clear selection", onclick: () => put(model, { selected: [] }) });
  const how = h("p", { class: "soft small" }), table = h("div", { class: "scroll table", tabindex: "0", role: "region", "aria-label": "Arms in figures" });
  const body = h("div", { class: "cols" },
    h("div", {}, h("h4", { text: "Arm, and how many curves" }), search, h("div", { style: { height: "6px" } }), armList.box),
    h("div", {}, h("div", { class: "pictures" },
      h("div", {}, h("h4", { text: "Tumour volume" }), legend, plot), h("div", {}, h("h4", { text: "Best response of each model" }), calls, waterfall)),
    how, h("div", { class: "say" }, said, bring, clear), table));
  const empty = h("div", { class: "empty", text: "No tumour volumes: this table has no endpoint tumour_volume with a time." });
  part.root.append(h("div", { class: "tops" }, heading, tissueLabel, scale.box, centre.box), note, body, empty);

  const nameOf = (k) => frame.header.subjects[frame.columns.subject_of[k]];
  const armOf = (k) => frame.header.arms[frame.columns.arm_of[k]].name;
  const callOf = (k) => CALLS[frame.columns.call[k]]?.[0];
  const toggle = (a) => put(model, { arms: (arms.includes(a) ? arms.filter((x) => x !== a) : [...arms, a]).map((x) => frame.header.arms[x].name) });
  function select(names, more) {
    const before = plain(model.get("selected"));
    if (!more) return put(model, { selected: before.length === names.length && names.every((x) => before.includes(x)) ? [] : names });
    return put(model, { selected: names.every((x) => before.includes(x)) ? before.filter((x) => !names.includes(x)) : [...new Set([...before, ...names])] });
  }

  /** Arms that are not shown though a selected model is in them. */
  function absent() {
    const { arm_of: of } = frame.columns, found = new Set();
    for (let k = 0; k < of.length; k++) if (!arms.includes(of[k]) && chosen.has(nameOf(k))) found.add(of[k]);
    return [...found].sort((a, b) => a - b);
  }

  function load() {
    frame = unpack(model.get("frame_bytes"));
    heading.textContent = model.get("title") || "Tumour growth";
    note.textContent = model.get("note");
    note.hidden = !model.get("note");
    const some = Boolean(frame && frame.header.arms.length);
    body.removeAttribute("aria-busy");
    const { tissues: known = [], total = 0 } = frame?.header || {};
    tissueLabel.hidden = known.length < 2;
    tissues.replaceChildren(h("option", { value: "", text: `all, ${whole(total)} curves` }), ...known.map(({ name, n }) => h("option", { value: name, text: `${name}, ${whole(n)}` })));
    tissues.value = model.get("tissue");
    body.hidden = scale.box.hidden = centre.box.hidden = !some;
    empty.hidden = some;
    if (!some) { frame = null; return; }
    search.hidden = frame.header.arms.length < 8;
    refresh();
  }

  function list() {
    const wanted = search.value.trim().toLowerCase();
    listed = frame.header.arms.map((arm, a) => ({ ...arm, a })).filter((arm) => arm.name.toLowerCase().includes(wanted));
    armList.box.style.height = `${Math.max(60, Math.min(400, frame.header.arms.length * 27 + 4))}px`;
    armList.set(listed.length, true);
  }

  function refresh() {
    if (!frame) return;
    const { header, columns } = frame;
    const names = new Map(header.arms.map((arm, a) => [arm.name, a]));
    arms = plain(model.get("arms")).filter((name) => names.has(name)).map((name) => names.get(name));
    curves = [];
    for (let k = 0; k < columns.arm_of.length; k++) if (arms.includes(columns.arm_of[k])) curves.push(k);
    list();
    draw();
  }

  function draw() {
    chosen = new Set(plain(model.get("selected")));
    scale.set(log ? "log" : "linear");
    centre.set(middle);
    volumes();
    responses();
    words();
  }

  function volumes() {
    const { header, columns } = frame, { start, day, volume } = columns, width = Math.max(240, plot.clientWidth || 420);
    let low = Infinity, high = 0, last = 1, first = 0;
    for (const k of curves) for (let i = start[k]; i < start[k + 1]; i++) {
      if (volume[i] > 0) low = Math.min(low, volume[i]);
      high = Math.max(high, volume[i]);
      last = Math.max(last, day[i]);
      first = Math.min(first, day[i]);
    }
    if (!(high > 0)) [low, high] = [10, 1000];
    low = Math.max(low, high / 1e5); // a volume near zero, of a tumour that is gone, lies on the floor
    area = plane(base, part.root, {
      width, height: 380, x: { low: first, high: last, label: "Days from the start" },
      y: { low: log ? low / 1.15 : 0, high: log ? high * 1.15 : high * 1.03, log, label: `Tumour volume, ${header.unit}` },
    });
    const lit = curves.some((k) => chosen.has(nameOf(k)));
    const floor = (v) => (log ? Math.max(v, low) : v);
    inside(area, (c) => {
      const line = (k) => trace(area, day.subarray(start[k], start[k + 1]), [...volume.subarray(start[k], start[k + 1])].map(floor));
      c.lineWidth = 1;
      for (const k of curves) {
        const t = tone(part.root, arms.indexOf(columns.arm_of[k]));
        c.strokeStyle = t.color;
        c.setLineDash(t.dash);
        c.globalAlpha = (lit ? 0.12 : 0.34) * Math.min(1, 120 / curves.length + 0.25);
        line(k);
      }
      arms.forEach((a, i) => {
        const from = columns.grid_start[a], to = columns.grid_start[a + 1], t = tone(part.root, i);
        const part_of = (name) => [...columns[name].subarray(from, to)].map(floor), x = columns.grid_day.subarray(from, to);
        const [mid, lower, upper] = (middle === "median" ? ["median", "q25", "q75"] : ["mean", "low", "high"]).map(part_of);
        c.fillStyle = c.strokeStyle = t.color;
        c.globalAlpha = 0.17;
        band(area, x, lower, upper);
        c.globalAlpha = 1;
        c.setLineDash(t.dash);
        c.lineWidth = 2.6;
        trace(area, x, mid);
      });
      c.setLineDash([]);
      for (const k of curves) {
        if (!chosen.has(nameOf(k)) && k !== over) continue;
        c.globalAlpha = 1;
        c.strokeStyle = k === over ? area.colors.ink : tone(part.root, arms.indexOf(columns.arm_of[k])).color;
        c.lineWidth = 2;
        line(k);
        c.fillStyle = c.strokeStyle;
        for (let i = start[k]; i < start[k + 1]; i++) disc(c, area.sx(day[i]), area.sy(floor(volume[i])), 2.4);
      }
    });
    if (!arms.length) blank(area, "Pick an arm on the left");
  }

  const blank = (on, text) => { const { c } = on; c.fillStyle = on.colors.soft; c.textAlign = "center"; c.fillText(text, on.left + on.w / 2, on.top + on.v / 2); };

  function responses() {
    const { columns } = frame, { best, call } = columns, width = Math.max(220, waterfall.clientWidth || 360);
    const order = curves.filter((k) => Number.isFinite(best[k])).sort((a, b) => best[b] - best[a]);
    const steps = [-100, -50, 0, 50, 100].map((v) => [v, `${v > 0 ? "+" : ""}${short(v)}`]);
    const on = plane(fall, part.root, { width, height: 380, x: { low: 0, high: Math.max(1, order.length), ticks: [], label: `${whole(order.length)} curves, worst to best` }, y: { low: -104, high: TOP + 6, ticks: steps, label: "Best change from day 0, %" } });
    const { c } = on, step = on.w / Math.max(1, order.length), zero = on.sy(0);
    const lit = order.some((k) => chosen.has(nameOf(k)));
    order.forEach((k, i) => {
      const name = CALLS[call[k]];
      c.fillStyle = hue(part.root, name ? name[1] : "soft");
      c.globalAlpha = !lit || chosen.has(nameOf(k)) ? 1 : 0.25;
      const y = on.sy(Math.min(TOP, best[k])), x = on.left + i * step, gap = step > 4 ? 1 : 0;
      c.fillRect(x, Math.min(y, zero), Math.max(0.7, step - gap), Math.max(1.5, Math.abs(y - zero)));
      if (best[k] > TOP && step > 3) { c.fillStyle = on.colors.bg; c.fillRect(x, on.sy(TOP) + 4, step, 2); }
      if (arms.length > 1) { c.fillStyle = tone(part.root, arms.indexOf(columns.arm_of[k])).color; c.fillRect(x, on.bottom + 3, Math.max(0.7, step - gap), 6); }
      if (k === over) { c.globalAlpha = 1; c.strokeStyle = on.colors.ink; c.lineWidth = 1.5; c.strokeRect(x, Math.min(y, zero), step, Math.max(2, Math.abs(y - zero))); }
    });
    c.globalAlpha = 1;
    c.strokeStyle = on.colors.ink;
    c.lineWidth = 1;
    segment(c, on.left, zero, on.right, zero);
    if (!order.length) blank(on, arms.length ? "No curve is long enough to judge" : "");
    bars = { ...on, order, step };
  }

  function words() {
    const { header, columns } = frame;
    legend.replaceChildren(...arms.map((a, i) => h("button", { type: "button", title: "Select every model of this arm",
      onclick: (e) => select([...new Set(curves.filter((k) => columns.arm_of[k] === a).map(nameOf))], e.shiftKey) },
    h("span", { class: "swatch", style: { background: tone(part.root, i).color } }), header.arms[a].name)));
    const seen = new Set(curves.map((k) => columns.call[k]));
    calls.replaceChildren(...CALLS.map(([name, color, meaning], i) => (seen.has(i)
      ? h("span", {}, h("span", { class: "swatch square", style: { background: `var(--wb-${color})` } }), `${name}, ${meaning}`) : "")).filter(Boolean));
    if ([...seen].some((i) => i < 0)) calls.append(h("span", {}, h("span", { class: "swatch square", style: { background: "var(--wb-soft)" } }), "not called"));
    how.textContent = `${header.how} ${arms.length > 1 ? "The strip below the bars is the arm. " : ""}Bars beyond +${TOP} % are cut.`;
    const here = chosen.size ? [...new Set(curves.map(nameOf))].filter((name) => chosen.has(name)) : [];
    said.textContent = here.length ? `${whole(here.length)} ${here.length === 1 ? "model" : "models"} selected: ${here.slice(0, 5).join(", ")}${here.length > 5 ? " \u2026" : ""}`
      : "Click a curve, a bar or an arm\u2019s name to select; Shift adds.";
    clear.hidden = !chosen.size;
    const away = chosen.size ? absent().length : 0;
    bring.hidden = !away;
    bring.textContent = away === 1 ? "Show the 1 other arm with selected models" : `Show the ${whole(away)} other arms with selected models`;
    const count = (a, i) => curves.filter((k) => columns.arm_of[k] === a && columns.call[k] === i).length;
    const tgi = header.arms.some((arm) => arm.tgi !== null);
    const called = [...seen].some((i) => i >= 0);
    const head = ["Arm", "curves", ...(called ? [...CALLS.map(([name]) => name), "calls"] : []), ...(tgi ? [`TGI at day ${short(header.day)}, % (95 % interval)`] : [])];
    table.hidden = !arms.length;
    table.replaceChildren(h("table", { class: "plain" },
      h("thead", {}, h("tr", {}, ...head.map((text, i) => h("th", { text, scope: "col", class: i && text !== "calls" ? "num" : null })))),
      h("tbody", {}, ...arms.map((a) => {
        const arm = header.arms[a], counts = CALLS.map((_, i) => count(a, i)), all = counts.reduce((x, y) => x + y, 0);
        const strip = h("span", { class: "calls", "aria-hidden": "true" }, ...counts.map((n, i) => h("i", { style: { width: `${(100 * n) / Math.max(1, all)}%`, background: `var(--wb-${CALLS[i][1]})` } })));
        return h("tr", {}, h("th", { scope: "row", text: arm.name }), h("td", { class: "num", text: whole(arm.n) }),
          ...(called ? [...counts.map((n) => h("td", { class: "num", text: whole(n) })), h("td", {}, strip)] : []),
          ...(tgi ? [h("td", { class: "num", text: arm.tgi === null ? (arm.name === header.control ? "control" : "\u2013") : `${short(arm.tgi)}${arm.tgi_low === null ? "" : ` (${short(arm.tgi_low)} to ${short(arm.tgi_high)})`}` })] : []));
      }))));
  }

  function nearest(px, py) {
    const { start, day, volume } = frame.columns;
    let least = 12 ** 2, found = null; // pixels
    for (const k of curves) for (let i = start[k]; i + 1 < start[k + 1]; i++) {
      const x0 = area.sx(day[i]), x1 = area.sx(day[i + 1]);
      if (px < x0 - 12 || px > x1 + 12) continue;
      const y0 = area.sy(Math.max(volume[i], area.y.low)), y1 = area.sy(Math.max(volume[i + 1], area.y.low));
      const f = Math.max(0, Math.min(1, ((px - x0) * (x1 - x0) + (py - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2 || 1)));
      const gap = (x0 + f * (x1 - x0) - px) ** 2 + (y0 + f * (y1 - y0) - py) ** 2;
      if (gap < least) { least = gap; found = k; }
    }
    return found;
  }
  function told(k) {
    const best = frame.columns.best[k];
    return [h("b", { text: nameOf(k) }), h("span", { class: "soft", text: armOf(k) }),
      h("div", { text: [Number.isFinite(best) ? `best change ${best > 0 ? "+" : ""}${short(best)} %` : "too short to judge", callOf(k)].filter(Boolean).join(", ") })];
  }
  function point(k, on, px, py) {
    if (k !== over) { over = k; volumes(); responses(); }
    (on === tip ? fallTip : tip).hide();
    if (k === null || k === undefined) on.hide();
    else on.show(px, py, ...told(k));
  }
  const bar = (px, py) => (py >= bars.top && px >= bars.left && px < bars.right ? bars.order[Math.floor((px - bars.left) / bars.step)] ?? null : null);
  for (const [canvas, find, hint] of [[base, nearest, tip], [fall, bar, fallTip]]) {
    canvas.addEventListener("pointermove", (event) => { if (!frame) return; const [px, py] = at(event, canvas); point(find(px, py), hint, px, py); });
    canvas.addEventListener("pointerleave", () => { if (frame) point(null, hint); });
    canvas.addEventListener("click", (event) => { const k = frame ? find(...at(event, canvas)) : null; if (k !== null && k !== undefined) select([nameOf(k)], event.shiftKey); });
  }

  fall.addEventListener("keydown", (event) => {
    if (!frame || !bars.order.length) return;
    const i = bars.order.indexOf(over), last = bars.order.length - 1;
    const next = { ArrowRight: Math.min(last, i + 1), ArrowLeft: Math.max(0, i - 1), Home: 0, End: last }[event.key];
    if (next !== undefined) {
      point(bars.order[next], fallTip, bars.left + (next + 0.5) * bars.step, bars.sy(0));
      said.textContent = told(over).map((node) => node.textContent).join(", ");
    } else if ((event.key === "Enter" || event.key === " ") && i >= 0) select([nameOf(over)], event.shiftKey);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  fall.addEventListener("blur", () => { if (frame) { point(null, fallTip); words(); } });

  const quiet = listen(model, { frame_bytes: load, title: load, note: load, arms: refresh, tissue: () => { tissues.value = model.get("tissue"); }, selected: () => { if (frame) draw(); } });
  part.look();
  load();
  return () => { quiet(); part.close(); };
}

export default { render };
