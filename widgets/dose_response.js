// Dose-response curves side by side, and a dose line that reads them. The packed columns are described in dose_response.py.
import { h, listen, longList, plain, put, stage, unpack, whole } from "./_parts.js";
import { SHARED, apart, at, band, choice, cut, disc, inside, plane, segment, short, tone, tooltip, trace } from "./_axes.js";

const DOSE_CSS = `
.wb-dose{container-type:inline-size;}
.wb-dose .cols{display:grid;grid-template-columns:248px minmax(0,1fr);gap:16px 20px;}
.wb-dose .cols>div{min-width:0;}
.wb-dose .pair{display:grid;gap:10px;align-content:start;}
.wb-dose .pair .list+button{margin-top:6px;}
.wb-dose .row .name{flex:1 1 auto;}
.wb-dose .row.some{font-weight:600;}
.wb-dose canvas.over{cursor:ew-resize;touch-action:pan-y;}
.wb-dose .read{display:flex;flex-wrap:wrap;gap:6px 14px;align-items:center;margin:6px 0 8px;}
.wb-dose td.flags{min-width:170px;}
.wb-dose td.flags .bad{color:var(--wb-error);}
.wb-dose tbody th{min-width:130px;}
.wb-dose tbody td{vertical-align:middle;}
.wb-dose tbody button{border:0;background:none;padding:0 2px;min-height:22px;text-align:left;overflow-wrap:anywhere;}
.wb-dose tbody tr.on{background:var(--wb-tint);}
.wb-dose tbody tr.flat{color:var(--wb-soft);}
@container (max-width:700px){.wb-dose .cols{grid-template-columns:1fr;}.wb-dose .pair{grid-template-columns:1fr 1fr;}}
@container (max-width:430px){.wb-dose .pair{grid-template-columns:1fr;}}
`;
const NOUN = { treatment: ["drug", "line", "Drug", "Lines"], subject: ["line", "drug", "Line", "Drugs"] };

function render({ model, el }) {
  let index = null, frame = null, ones = [], partners = [], shown = [], area = null, line = NaN, drag = false, near = null;
  const part = stage(el, "wb-dose", model.get("theme"), `${SHARED}${DOSE_CSS}`, () => { if (frame) draw(); });
  const heading = h("h3", {}), note = h("p", { class: "note" });
  const sides = choice("Compare", [["treatment", "One drug, several lines"], ["subject", "One line, several drugs"]], (value) => put(model, { by: value }));
  const search = h("input", { type: "search", oninput: () => fillOnes() }), seek = h("input", { type: "search", oninput: () => fillPartners() });
  const oneHead = h("h4", {}), partnerHead = h("h4", {});
  const oneList = longList({
    label: "The one that is kept", height: 176, rowHeight: 26, picked: (i) => ones[i]?.name === model.get("one"), pick: (i) => put(model, { one: ones[i].name }),
    fill: (row, i) => row.append(h("span", { class: "name cut", text: ones[i].name, title: ones[i].name }), h("span", { class: "num soft small", text: whole(ones[i].n) })),
  });
  const partnerList = longList({
    label: "Compared; Enter adds or removes one", height: 240, rowHeight: 26, multiple: true,
    picked: (i) => partners[i] && others().includes(partners[i].name), pick: (i) => toggle(partners[i].name),
    fill: (row, i) => {
      const p = partners[i], k = others().indexOf(p.name);
      if (model.get("by") === "treatment" && plain(model.get("selected")).includes(p.name)) row.classList.add("some");
      row.append(h("span", { class: "swatch square", style: { background: k < 0 ? "transparent" : tone(part.root, k).color, border: "1px solid var(--wb-line)" } }),
        h("span", { class: "name cut", text: p.name, title: p.name }), h("span", { class: "num soft small", text: ic50(p.state, p.ic50) }));
    },
  });
  const follow = h("button", { type: "button", text: "Show the selected lines", onclick: () => put(model, { others: chosenHere().slice(0, model.get("most")) }) });
  const base = h("canvas", { "aria-hidden": "true" });
  const over = h("canvas", { class: "over", tabindex: "0", role: "slider", "aria-label": "Dose that is read; arrow keys move it, Home and End go to the tested ends" });
  const plot = h("div", { class: "plot" }, base, over), tip = tooltip(plot);
  const reading = h("b", { role: "status" }), hint = h("span", { class: "soft small", text: "Drag the vertical line, or use the arrow keys, to read every curve at a dose." });
  const table = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Curves in figures" }), how = h("p", { class: "soft small" });
  const body = h("div", { class: "cols" },
    h("div", { class: "pair" }, h("div", {}, oneHead, search, h("div", { style: { height: "6px" } }), oneList.box),
      h("div", {}, partnerHead, seek, h("div", { style: { height: "6px" } }), partnerList.box, follow)),
    h("div", {}, plot, h("div", { class: "read" }, reading, hint), table, how));
  const empty = h("div", { class: "empty", text: "No dose-response points: this table has no endpoint viability with a dose." });
  part.root.append(h("div", { class: "tops" }, heading, sides.box), note, body, empty);

  const others = () => plain(model.get("others"));
  const toggle = (name) => put(model, { others: others().includes(name) ? others().filter((x) => x !== name) : [...others(), name].slice(-model.get("most")) });
  const dose = (x) => `${short(x)} ${index.header.dose_unit}`;
  const ic50 = (state, value) => (state === 2 ? "flat" : !Number.isFinite(value) ? "\u2013" : `${state > 0 ? "> " : state < 0 ? "< " : ""}${short(value)}`);
  const chosenHere = () => { const s = new Set(plain(model.get("selected"))); return partners.filter((p) => s.has(p.name)).map((p) => p.name); };

  function load() {
    index = unpack(model.get("index_bytes"));
    heading.textContent = model.get("title") || "Dose response";
    note.textContent = model.get("note");
    note.hidden = !model.get("note");
    const some = Boolean(index && index.columns.subject_of.length);
    body.hidden = sides.box.hidden = !some;
    empty.hidden = some;
    if (some) arrange(); else index = null;
  }

  /** Lists of both sides, for the side that is kept and the one of it that is picked. */
  function arrange() {
    if (!index) return;
    const by = model.get("by"), { header, columns } = index, kept = by === "treatment" ? "treatment_of" : "subject_of", other = by === "treatment" ? "subject_of" : "treatment_of";
    const names = by === "treatment" ? header.treatments : header.subjects, mates = by === "treatment" ? header.subjects : header.treatments;
    const words = NOUN[by], mine = names.indexOf(model.get("one")), counts = new Int32Array(names.length), found = [];
    for (let i = 0; i < columns[kept].length; i++) {
      counts[columns[kept][i]]++;
      if (columns[kept][i] === mine) found.push({ name: mates[columns[other][i]], ic50: columns.ic50[i], state: columns.state[i] });
    }
    oneList.all = names.map((name, i) => ({ name, n: counts[i] })).filter((row) => row.n);
    const size = (p) => (p.state === 2 || !Number.isFinite(p.ic50) ? Infinity : p.ic50 * (p.state > 0 ? 1.001 : 1));
    partnerList.all = found.sort((a, b) => size(a) - size(b) || (a.name < b.name ? -1 : 1));
    sides.set(by);
    oneHead.textContent = `${words[2]}, and how many curves`;
    partnerHead.textContent = `${words[3]} by IC50, ${header.dose_unit} (up to ${model.get("most")})`;
    for (const [input, word] of [[search, words[0]], [seek, words[1]]]) { input.placeholder = `Find a ${word}`; input.setAttribute("aria-label", `Find a ${word}`); }
    fillOnes();
    fillPartners();
    receive();
  }
  function fillOnes() {
    ones = oneList.all.filter((row) => row.name.toLowerCase().includes(search.value.trim().toLowerCase()));
    oneList.set(ones.length, true);
    const mine = ones.findIndex((row) => row.name === model.get("one"));
    if (mine >= 0 && !search.value) oneList.show(mine);
  }
  function fillPartners() {
    partners = partnerList.all.filter((row) => row.name.toLowerCase().includes(seek.value.trim().toLowerCase()));
    partnerList.set(partners.length, true);
  }

  function receive() {
    frame = unpack(model.get("frame_bytes"));
    shown = frame ? frame.header.curves : [];
    if (!frame || !index) return;
    const { low, high } = frame.header;
    line = model.get("dose") > 0 ? Math.min(Math.max(model.get("dose"), low), high) : NaN;
    if (!Number.isFinite(line)) line = Math.sqrt(low * high);
    partnerList.draw();
    draw();
  }

  /** [middle, low, high] of curve k at a dose, between the grid's points. */
  function read(k, x) {
    const { grid, mid, lower, upper } = frame.columns, n = grid.length, from = k * n;
    const place = ((Math.log10(x) - grid[0]) / (grid[n - 1] - grid[0])) * (n - 1);
    const i = Math.max(0, Math.min(n - 2, Math.floor(place))), f = Math.max(0, Math.min(1, place - i));
    return [mid, lower, upper].map((column) => column[from + i] + f * (column[from + i + 1] - column[from + i]));
  }
  const flat = (curve) => curve.state === 2;
  const paint = (k) => (flat(shown[k]) ? { color: `color-mix(in srgb, ${area.colors.soft} 65%, ${area.colors.bg})`, dash: tone(part.root, k).dash } : tone(part.root, k));
  const label = (curve) => (model.get("by") === "treatment" ? curve.subject : curve.treatment);

  function draw() {
    const { header, columns } = frame, width = Math.max(240, plot.clientWidth || 480), height = Math.max(300, Math.min(430, width * 0.7));
    const half = header.full / 2, room = shown.length > 1 && width > 420 ? 118 : 16;
    let least = 0, most = header.full * 1.08;
    for (const v of columns.value) { least = Math.min(least, v); most = Math.max(most, v); }
    area = plane(base, part.root, {
      width, height, right: room, x: { low: header.low / 1.4, high: header.high * 1.4, log: true, label: `Dose, ${header.dose_unit} (log scale)` },
      y: { low: least, high: Math.min(most, header.full * 2) * 1.02, label: `${header.label}, ${header.unit}` },
    });
    const x = [...columns.grid].map((v) => 10 ** v), n = x.length;
    inside(area, (c) => {
      c.strokeStyle = area.colors.soft;
      c.setLineDash([4, 4]);
      segment(c, area.left, area.sy(half), area.right, area.sy(half));
      shown.forEach((curve, k) => {
        const t = paint(k), piece = (name, only) => [...columns[name].subarray(k * n, (k + 1) * n)].map((v, i) => (only && (x[i] < curve.from * 0.999 || x[i] > curve.to * 1.001) ? NaN : v));
        c.fillStyle = c.strokeStyle = t.color;
        c.setLineDash([]);
        c.globalAlpha = 0.16;
        band(area, x, piece("lower", true), piece("upper", true));
        c.globalAlpha = shown.length > 4 ? 0.4 : 0.6;
        for (let i = columns.start[k]; i < columns.start[k + 1]; i++) disc(c, area.sx(columns.dose[i]), area.sy(columns.value[i]), 2.2, false);
        c.globalAlpha = 1;
        for (let i = columns.mean_start[k]; i < columns.mean_start[k + 1]; i++) disc(c, area.sx(columns.mean_dose[i]), area.sy(columns.mean[i]), 3.6);
        c.lineWidth = 1.2;
        c.setLineDash([2, 4]); // beyond the doses tested
        trace(area, x, piece("mid", false));
        c.lineWidth = 2.4;
        c.setLineDash(t.dash);
        trace(area, x, piece("mid", true));
      });
      c.setLineDash([]);
    });
    const taken = []; // intervals that would lie upon each other are drawn on rows of their own
    shown.forEach((curve, k) => {
      if (flat(curve) || curve.ic50 === null) return;
      const wide = (v, d) => area.sx(v ?? curve.ic50) + d, a = wide(curve.state ? null : curve.ic50_low, -9), b = wide(curve.state ? null : curve.ic50_high, curve.state ? 26 : 9);
      const row = [0, 1, -1, 2, -2, 3, -3, 4].find((r) => !taken.some((t) => t.r === r && t.a < b && a < t.b)) ?? 0;
      taken.push({ r: row, a, b });
      mark(curve, k, area.sy(half) - row * 11);
    });
    if (room > 16) names();
    overlay();
    figures();
  }

  /** IC50 with its interval, or an arrow out of the tested range. */
  function mark(curve, k, up) {
    const { c } = area, t = paint(k);
    c.strokeStyle = c.fillStyle = t.color;
    c.lineWidth = 2;
    const clip = (v) => Math.max(area.left, Math.min(area.right, area.sx(v)));
    if (curve.state) {
      const px = clip(curve.state > 0 ? curve.to : curve.from), way = 20 * curve.state;
      segment(c, px - way * 0.2, up, px + way * 0.8, up);
      c.beginPath();
      c.moveTo(px + way, up);
      c.lineTo(px + way * 0.6, up - 5);
      c.lineTo(px + way * 0.6, up + 5);
      c.fill();
      return;
    }
    if (curve.ic50_low !== null && curve.ic50_high !== null) {
      const [a, b] = [clip(curve.ic50_low), clip(curve.ic50_high)];
      segment(c, a, up, b, up);
      for (const end of [a, b]) segment(c, end, up - 4, end, up + 4);
    }
    c.save();
    c.translate(clip(curve.ic50), up);
    c.rotate(Math.PI / 4);
    c.fillRect(-4.5, -4.5, 9, 9);
    c.strokeStyle = area.colors.bg;
    c.lineWidth = 1.5;
    c.strokeRect(-4.5, -4.5, 9, 9);
    c.restore();
  }

  function names() {
    const { c } = area, n = frame.columns.grid.length;
    const ends = shown.map((_, k) => area.sy(frame.columns.mid[(k + 1) * n - 1])), places = apart(ends, 14, area.top, area.bottom);
    c.textAlign = "left";
    shown.forEach((curve, k) => {
      c.fillStyle = c.strokeStyle = paint(k).color;
      c.lineWidth = 1;
      segment(c, area.right + 1, Math.max(area.top, Math.min(area.bottom, ends[k])), area.right + 9, places[k]);
      c.fillStyle = flat(curve) ? area.colors.soft : area.colors.ink;
      c.fillText(cut(c, flat(curve) ? `${label(curve)} (flat)` : label(curve), 102), area.right + 12, places[k]);
    });
  }

  function overlay() {
    over.width = over.height = 0; // a new size clears it
    const ratio = window.devicePixelRatio || 1, { width, height } = area;
    Object.assign(over, { width: width * ratio, height: height * ratio });
    Object.assign(over.style, { width: `${width}px`, height: `${height}px` });
    const c = over.getContext("2d"), px = area.sx(line);
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.strokeStyle = c.fillStyle = area.colors.ink;
    c.lineWidth = 1.5;
    segment(c, px, area.top, px, area.bottom);
    c.beginPath();
    c.moveTo(px - 6, area.top - 8); c.lineTo(px + 6, area.top - 8); c.lineTo(px, area.top);
    c.fill();
    c.font = area.c.font;
    c.textAlign = px > area.left + area.w / 2 ? "right" : "left";
    c.textBaseline = "middle";
    const text = dose(line), wide = c.measureText(text).width, tx = px + (c.textAlign === "right" ? -9 : 9);
    c.fillStyle = area.colors.bg; c.globalAlpha = 0.85;
    c.fillRect(c.textAlign === "right" ? tx - wide - 3 : tx - 3, area.top - 13, wide + 6, 15);
    c.globalAlpha = 1; c.fillStyle = area.colors.ink;
    c.fillText(text, tx, area.top - 5);
    shown.forEach((_, k) => {
      const [mid, low, high] = read(k, line);
      c.strokeStyle = c.fillStyle = paint(k).color;
      c.lineWidth = 2;
      if (Number.isFinite(low)) segment(c, px, area.sy(Math.max(low, area.y.low)), px, area.sy(Math.min(high, area.y.high)));
      disc(c, px, area.sy(mid), 4.5);
      c.strokeStyle = area.colors.bg;
      c.lineWidth = 1.5;
      disc(c, px, area.sy(mid), 4.5, false);
    });
  }

  const said = (k, x) => {
    const [mid, low, high] = read(k, x), curve = shown[k], outside = x < curve.from * 0.999 || x > curve.to * 1.001;
    return `${short(mid)}${Number.isFinite(low) && !outside ? ` (${short(low)} to ${short(high)})` : ""}${outside ? ", beyond its doses" : ""}`;
  };

  function figures() {
    const { header } = frame, selected = new Set(plain(model.get("selected"))), by = model.get("by");
    reading.textContent = shown.length ? `At ${dose(line)}` : "";
    over.setAttribute("aria-valuemin", String(Math.log10(header.low)));
    over.setAttribute("aria-valuemax", String(Math.log10(header.high)));
    over.setAttribute("aria-valuenow", String(Math.log10(line)));
    over.setAttribute("aria-valuetext", `${dose(line)}: ${shown.map((curve, k) => `${label(curve)} ${said(k, line)}`).join("; ")}`);
    hint.hidden = !shown.length;
    how.textContent = shown.length ? header.how : `Pick one or more ${by === "treatment" ? "lines" : "drugs"} on the left.`;
    const level = header.level ? `${Math.round(100 * header.level)} % interval` : "no interval";
    const head = [by === "treatment" ? "Line" : "Drug", `IC50, ${header.dose_unit} (${level})`, `${header.label} at ${dose(line)}, ${header.unit}`, "Quality"];
    table.hidden = !shown.length;
    table.replaceChildren(h("table", { class: "plain" }, h("thead", {}, h("tr", {}, ...head.map((text) => h("th", { text, scope: "col" })))),
      h("tbody", {}, ...shown.map((curve, k) => {
        const range = !curve.state && curve.ic50_low !== null && curve.ic50_high !== null ? ` (${short(curve.ic50_low)} to ${short(curve.ic50_high)})` : "";
        const value = flat(curve) ? "none: the curve is flat" : curve.ic50 === null ? "not reached by the curve"
          : curve.state > 0 ? `above ${short(curve.ic50)}, beyond the doses tested` : curve.state < 0 ? `below ${short(curve.ic50)}, beyond the doses tested` : `${short(curve.ic50)}${range}`;
        const on = selected.has(curve.subject);
        return h("tr", { class: `${flat(curve) ? "flat" : ""}${on ? " on" : ""}` }, h("th", { scope: "row" }, h("span", { class: "swatch", style: { background: paint(k).color } }),
          h("button", { type: "button", "aria-pressed": String(on), title: `Select ${curve.subject}`, text: label(curve),
            onclick: () => { const before = plain(model.get("selected")); put(model, { selected: on ? before.filter((s) => s !== curve.subject) : [...before, curve.subject] }); } })),
        h("td", { text: value }), h("td", { text: said(k, line) }),
        h("td", { class: "flags" }, curve.flags.length ? h("span", { class: "bad", text: curve.flags.join("; ") }) : h("span", { class: "soft", text: "no flag" })));
      }))));
    const here = chosenHere();
    follow.hidden = by !== "treatment" || !here.length || (here.length === others().length && here.every((name) => others().includes(name)));
    follow.textContent = `Show ${here.length > model.get("most") ? `the first ${model.get("most")} of ${whole(here.length)}` : `the ${whole(here.length)}`} selected`;
  }

  function move(x, done) {
    line = Math.max(frame.header.low, Math.min(frame.header.high, x));
    overlay();
    if (done) { put(model, { dose: line }); figures(); } else reading.textContent = `At ${dose(line)}`;
  }
  over.addEventListener("pointerdown", (event) => { if (event.button || !area) return; drag = true; tip.hide(); over.setPointerCapture(event.pointerId); move(area.ix(at(event, over)[0]), false); });
  over.addEventListener("pointermove", (event) => {
    if (!area || !frame) return;
    const [px, py] = at(event, over);
    if (drag) { move(area.ix(px), false); figures(); return; }
    const { start, dose: doses, value } = frame.columns;
    let least = 81;
    near = null;
    shown.forEach((curve, k) => { for (let i = start[k]; i < start[k + 1]; i++) { const gap = (area.sx(doses[i]) - px) ** 2 + (area.sy(value[i]) - py) ** 2; if (gap < least) { least = gap; near = [curve, i]; } } });
    if (!near) return tip.hide();
    tip.show(px, py, h("b", { text: near[0].subject }), h("span", { class: "soft", text: near[0].treatment }),
      h("div", { text: `${short(value[near[1]])} ${frame.header.unit} at ${dose(doses[near[1]])}` }));
  });
  const stop = () => { if (drag) { drag = false; move(line, true); } };
  over.addEventListener("pointerup", stop);
  over.addEventListener("pointercancel", stop);
  over.addEventListener("pointerleave", () => tip.hide());
  over.addEventListener("keydown", (event) => {
    if (!frame || !shown.length) return;
    const step = (frame.header.high / frame.header.low) ** (event.shiftKey ? 0.1 : 0.02);
    const next = { ArrowRight: line * step, ArrowUp: line * step, ArrowLeft: line / step, ArrowDown: line / step, Home: frame.header.low, End: frame.header.high }[event.key];
    if (next === undefined) return;
    move(next, true);
    event.preventDefault();
    event.stopPropagation();
  });

  const quiet = listen(model, { index_bytes: load, title: load, note: load, by: arrange, one: arrange, others: receive, frame_bytes: receive,
    dose: () => { if (frame && model.get("dose") > 0 && Math.abs(model.get("dose") / line - 1) > 1e-9) receive(); }, selected: () => { if (frame) { partnerList.draw(); figures(); } } });
  part.look();
  load();
  return () => { quiet(); part.close(); };
}

export default { render };
