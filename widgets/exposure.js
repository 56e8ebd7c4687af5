// Concentration by time and group, samples below the limit marked. The packed columns are described in exposure.py.
import { h, listen, plain, put, stage, unpack, whole } from "./_parts.js";
import { SHARED, at, choice, disc, inside, plane, segment, short, tone, tooltip, trace } from "./_axes.js";

const EXPOSURE_CSS = `
.wb-exposure{container-type:inline-size;}
.wb-exposure .body[aria-busy=true]{opacity:.45;}
.wb-exposure .legend{margin:2px 0 6px;min-height:20px;}
.wb-exposure .legend button,.wb-exposure tbody button{border:0;background:none;padding:0 2px;min-height:24px;font-size:inherit;text-align:left;overflow-wrap:anywhere;}
.wb-exposure select{max-width:min(420px,100%);}
.wb-exposure .say{display:flex;gap:10px;align-items:center;flex-wrap:wrap;min-height:30px;margin:4px 0 8px;}
.wb-exposure tbody tr.on{background:var(--wb-tint);}
.wb-exposure tbody th{min-width:190px;}
.wb-exposure table.plain tbody td{vertical-align:middle;}
`;

function render({ model, el }) {
  let frame = null, area = null, over = null, chosen = new Set(), log = true;
  const part = stage(el, "wb-exposure", model.get("theme"), `${SHARED}${EXPOSURE_CSS}`, () => { if (frame) draw(); });
  const heading = h("h3", {}), note = h("p", { class: "note" });
  const scale = choice("Concentration axis", [["log", "Log"], ["linear", "Linear"]], (value) => { log = value === "log"; draw(); });
  const pick = (name) => h("select", { "aria-label": name, onchange: (event) => { body.setAttribute("aria-busy", "true"); put(model, { choice: { [name]: event.target.value } }); } });
  const pickers = { compound: pick("compound"), matrix: pick("matrix"), occasion: pick("occasion") };
  const labels = Object.fromEntries(Object.entries(pickers).map(([name, select]) => [name, h("label", {}, h("span", { class: "soft", text: `${name[0].toUpperCase()}${name.slice(1)}` }), select)]));
  const legend = h("div", { class: "legend" });
  const canvas = h("canvas", { tabindex: "0", role: "application", "aria-roledescription": "line plot", "aria-label": "Concentration by time. Arrows go from subject to subject, Enter selects one, Shift and Enter adds it." });
  const plot = h("div", { class: "plot" }, canvas), tip = tooltip(plot);
  const said = h("span", { class: "soft small", role: "status" }), clear = h("button", { type: "button", text: "Clear selection", onclick: () => put(model, { selected: [] }) });
  const table = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Groups in figures" }), how = h("p", { class: "soft small" });
  const body = h("div", { class: "body" }, legend, plot, h("div", { class: "say" }, said, clear), table, how);
  const empty = h("div", { class: "empty", text: "No concentrations: this table has no endpoint that begins with concentration and has a time." });
  part.root.append(h("div", { class: "tops" }, heading, ...Object.values(labels), scale.box), note, body, empty);

  const groupOf = (k) => frame.columns.group_of[k];
  const membersOf = (g) => frame.header.subjects.filter((_, k) => groupOf(k) === g);
  function select(names, more) {
    const before = plain(model.get("selected"));
    const same = names.every((name) => before.includes(name));
    if (more) return put(model, { selected: same ? before.filter((name) => !names.includes(name)) : [...new Set([...before, ...names])] });
    return put(model, { selected: same && before.length === names.length ? [] : names });
  }

  function load() {
    const place = frame && over !== null ? frame.header.subjects[over] : null; // a reader's place outlives another day's curves
    frame = unpack(model.get("frame_bytes"));
    heading.textContent = model.get("title") || "Exposure";
    note.textContent = model.get("note");
    note.hidden = !model.get("note");
    body.removeAttribute("aria-busy");
    const some = Boolean(frame && frame.header.subjects.length), { compounds = [], matrices = [], occasions = [] } = plain(model.get("options")), now = plain(model.get("choice"));
    const offered = {
      compound: compounds.map(({ name, n }) => [name, `${name}, ${whole(n)} ${n === 1 ? "subject" : "subjects"}`]),
      matrix: matrices.map((name) => [name, name]),
      occasion: occasions.length > 1 ? [...occasions.map(({ value, label }) => [value, label]), ["all", "all days"]] : [],
    };
    for (const [name, options] of Object.entries(offered)) {
      pickers[name].replaceChildren(...options.map(([value, text]) => h("option", { value, text })));
      pickers[name].value = now[name];
      labels[name].hidden = options.length < 2;
    }
    body.hidden = scale.box.hidden = !some;
    empty.hidden = some;
    over = some && place !== null && frame.header.subjects.includes(place) ? frame.header.subjects.indexOf(place) : null;
    if (some) draw();
    else frame = null;
    if (over === null) tip.hide();
    else tip.show(area.left + 10, area.top + 14, ...told(over));
  }

  function draw() {
    chosen = new Set(plain(model.get("selected")));
    scale.set(log ? "log" : "linear");
    curves();
    words();
  }

  function curves() {
    const { header, columns } = frame, { start, time, value, below } = columns;
    let last = 0, first = 0, low = Infinity, high = 0;
    for (let i = 0; i < value.length; i++) {
      last = Math.max(last, time[i]);
      first = Math.min(first, time[i]);
      high = Math.max(high, value[i]);
      if (value[i] > 0) low = Math.min(low, value[i]);
    }
    if (!(high > 0)) [low, high] = [0.1, 1];
    low = Math.max(low, high / 1e7);
    area = plane(canvas, part.root, {
      width: Math.max(260, plot.clientWidth || 700), height: 400,
      x: { low: first, high: last > first ? last * 1.02 : first + 1, label: header.label },
      y: { low: log ? low / 1.8 : 0, high: log ? high * 1.5 : high * 1.05, log, label: `Concentration in ${plain(model.get("choice")).matrix}, ${header.unit}` },
    });
    const lit = header.subjects.some((name) => chosen.has(name));
    const floor = (v) => (log ? Math.max(v, low) : v);
    inside(area, (c) => {
      c.strokeStyle = area.colors.soft;
      c.setLineDash([5, 4]);
      c.lineWidth = 1.2;
      const limits = header.limits.length <= 3 ? header.limits : [];
      for (const limit of limits) segment(c, area.left, area.sy(floor(limit)), area.right, area.sy(floor(limit)));
      header.subjects.forEach((name, k) => {
        const t = tone(part.root, groupOf(k)), on = chosen.has(name) || k === over;
        c.globalAlpha = on ? 1 : lit ? 0.14 : 0.42;
        c.strokeStyle = c.fillStyle = k === over ? area.colors.ink : t.color;
        c.lineWidth = on ? 2 : 1;
        c.setLineDash(t.dash);
        const seen = [];
        for (let i = start[k]; i < start[k + 1]; i++) if (!below[i] && (value[i] > 0 || !log)) seen.push(i);
        trace(area, seen.map((i) => time[i]), seen.map((i) => floor(value[i])));
        c.setLineDash([]);
        for (let i = start[k]; i < start[k + 1]; i++) {
          if (below[i] || (log && !(value[i] > 0))) triangle(c, area.sx(time[i]), area.sy(floor(value[i])) + 7);
          else disc(c, area.sx(time[i]), area.sy(floor(value[i])), on ? 3.2 : 2.4);
        }
      });
      header.groups.forEach((_, g) => {
        const from = columns.mid_start[g], to = columns.mid_start[g + 1], t = tone(part.root, g);
        c.globalAlpha = lit ? 0.45 : 1;
        c.strokeStyle = t.color;
        c.lineWidth = 3;
        c.setLineDash(t.dash);
        trace(area, columns.mid_time.subarray(from, to), columns.mid.subarray(from, to));
      });
      c.setLineDash([]);
      c.globalAlpha = 1;
      c.fillStyle = area.colors.soft;
      c.textAlign = "left";
      for (const limit of limits) c.fillText(`LLOQ ${short(limit)} ${header.unit}`, area.left + 6, area.sy(floor(limit)) + 10);
    });
  }

  function triangle(c, px, py) {
    c.beginPath();
    c.moveTo(px - 3.5, py - 3);
    c.lineTo(px + 3.5, py - 3);
    c.lineTo(px, py + 3.5);
    c.closePath();
    c.stroke();
  }

  function words() {
    const { header } = frame;
    legend.replaceChildren(...header.groups.map((group, g) => h("button", { type: "button", title: "Select every subject of this group", onclick: (event) => select(membersOf(g), event.shiftKey) },
      h("span", { class: "swatch", style: { background: tone(part.root, g).color } }), group.name)));
    const here = header.subjects.filter((name) => chosen.has(name));
    said.textContent = here.length ? `${whole(here.length)} ${here.length === 1 ? "subject" : "subjects"} selected: ${here.slice(0, 5).join(", ")}${here.length > 5 ? " \u2026" : ""}`
      : "Click a curve or a group\u2019s name to select; Shift adds.";
    clear.hidden = !chosen.size;
    how.textContent = header.how;
    const range = (x) => (x ? `${short(x[0])}${x[3] > 1 ? ` (${short(x[1])} to ${short(x[2])})` : ""}` : "\u2013");
    const head = ["Group", "subjects", "samples", "below LLOQ", `Cmax, ${header.unit} (range)`, "Tmax, h (range)", `AUC to the last, h\u00b7${header.unit} (range)`];
    table.replaceChildren(h("table", { class: "plain" }, h("thead", {}, h("tr", {}, ...head.map((text, i) => h("th", { text, scope: "col", class: i ? "num" : null })))),
      h("tbody", {}, ...header.groups.map((group, g) => {
        const members = membersOf(g), on = members.every((name) => chosen.has(name));
        return h("tr", { class: on ? "on" : null }, h("th", { scope: "row" }, h("span", { class: "swatch", style: { background: tone(part.root, g).color } }),
          h("button", { type: "button", "aria-pressed": String(on), text: group.name, onclick: (event) => select(members, event.shiftKey) })),
        ...[whole(group.subjects), whole(group.samples), group.below ? whole(group.below) : "0", range(group.cmax), range(group.tmax), range(group.auc)].map((text) => h("td", { class: "num", text })));
      }))));
  }

  function nearest(px, py) {
    const { start, time, value } = frame.columns;
    let least = 16 ** 2, found = null; // pixels
    for (let k = 0; k + 1 < start.length; k++) for (let i = start[k]; i < start[k + 1]; i++) {
      const gap = (area.sx(time[i]) - px) ** 2 + (area.sy(Math.max(value[i], area.y.low)) - py) ** 2;
      if (gap < least) { least = gap; found = [k, i]; }
    }
    return found;
  }
  function told(k, i) {
    const { time, value, below } = frame.columns, { header } = frame;
    const sample = i === undefined ? [] : [h("div", { text: `${below[i] ? "below " : ""}${short(value[i])} ${header.unit} at ${short(time[i])} h` })];
    return [h("b", { text: header.subjects[k] }), h("span", { class: "soft", text: header.groups[groupOf(k)].name }), ...sample];
  }
  function point(k, px, py, i) {
    if (k !== over) { over = k; curves(); }
    if (k === null) tip.hide();
    else tip.show(px, py, ...told(k, i));
  }
  canvas.addEventListener("pointermove", (event) => {
    if (!frame) return;
    const [px, py] = at(event, canvas), found = nearest(px, py);
    point(found ? found[0] : null, px, py, found?.[1]);
  });
  canvas.addEventListener("pointerleave", () => { if (frame) point(null); });
  canvas.addEventListener("click", (event) => { const found = frame && nearest(...at(event, canvas)); if (found) select([frame.header.subjects[found[0]]], event.shiftKey); });
  canvas.addEventListener("keydown", (event) => {
    if (!frame) return;
    const last = frame.header.subjects.length - 1, now = over ?? -1;
    const next = { ArrowRight: Math.min(last, now + 1), ArrowDown: Math.min(last, now + 1), ArrowLeft: Math.max(0, now - 1), ArrowUp: Math.max(0, now - 1), Home: 0, End: last }[event.key];
    if (next !== undefined) {
      point(next, area.left + 10, area.top + 14);
      said.textContent = told(next).map((node) => node.textContent).join(", ");
    } else if ((event.key === "Enter" || event.key === " ") && over !== null) select([frame.header.subjects[over]], event.shiftKey);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  canvas.addEventListener("blur", () => { if (frame) { point(null); words(); } });

  const quiet = listen(model, { frame_bytes: load, options: load, choice: load, title: load, note: load, selected: () => { if (frame) draw(); } });
  part.look();
  load();
  return () => { quiet(); part.close(); };
}

export default { render };
