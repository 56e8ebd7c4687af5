// Subjects by modalities: a strip per modality, bars per tissue, a table of who passes the filters.
import { fixed, h, hue, listen, longList, pen, plain, put, rgb, stage, unpack, whole } from "./_parts.js";

/** The filters with every part present. */
export const complete = (filters) => ({ tissues: [], modalities: {}, search: "", ...plain(filters || {}) });

/** 1 for each subject that passes the filters; `skip` names a part ("tissues") to leave out. */
export function passing(frame, filters, skip = "") {
  const { header, columns } = frame, n = header.subjects.length;
  const pass = new Uint8Array(n).fill(1);
  if (filters.tissues.length && skip !== "tissues") {
    const wanted = new Set(filters.tissues.map((name) => header.tissues.indexOf(name)));
    for (let i = 0; i < n; i++) if (!wanted.has(columns.tissue_of[i])) pass[i] = 0;
  }
  header.modalities.forEach((name, k) => {
    const state = filters.modalities[name];
    if (!state || state === "any" || skip === name) return;
    const has = columns[`has.${k}`];
    for (let i = 0; i < n; i++) if (Boolean(has[i]) !== (state === "has")) pass[i] = 0;
  });
  const text = filters.search.trim().toLowerCase();
  if (text) for (let i = 0; i < n; i++) if (pass[i] && !header.subjects[i].toLowerCase().includes(text)) pass[i] = 0;
  return pass;
}

/** Subjects by tissue (most frequent first), then by what they have, then as given; with each tissue's [tissue, from, to]. */
export function arranged(frame) {
  const { header, columns } = frame, n = header.subjects.length;
  const size = new Map();
  for (const t of columns.tissue_of) size.set(t, (size.get(t) || 0) + 1);
  const tissues = [...size.keys()].sort((a, b) => (a < 0) - (b < 0) || size.get(b) - size.get(a) || a - b);
  const rank = new Map(tissues.map((t, i) => [t, i]));
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  const key = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    let code = rank.get(columns.tissue_of[i]);
    for (let k = 0; k < header.modalities.length; k++) code = code * 2 + (1 - columns[`has.${k}`][i]);
    key[i] = code;
  }
  order.sort((a, b) => key[a] - key[b] || a - b);
  let from = 0;
  const bands = tissues.map((t) => [t, from, (from += size.get(t))]);
  return { order, bands };
}

const CSS = `
.wb-study{container-type:inline-size;}
.wb-study .top{display:flex;flex-wrap:wrap;gap:6px 26px;align-items:flex-end;margin-bottom:14px;}
.wb-study .top>div:first-child{flex:1 1 240px;min-width:0;}
.wb-study .top b{font-size:17px;font-weight:600;font-variant-numeric:tabular-nums;}
.wb-study .top .sum{text-align:right;line-height:1.3;}
.wb-study .top .sum span{display:block;}
.wb-study .cols{display:grid;grid-template-columns:276px minmax(0,1fr);gap:20px;}
.wb-study .cols>div{min-width:0;}
.wb-study .strip{display:grid;grid-template-columns:minmax(112px,160px) minmax(80px,1fr) 212px;gap:0 12px;align-items:center;margin-bottom:5px;}
.wb-study .ask{display:grid;grid-template-columns:42px 1fr 1fr;}
.wb-study .ask button{border-radius:0;margin-left:-1px;padding:2px 6px;min-height:26px;font-size:12px;font-variant-numeric:tabular-nums;}
.wb-study .ask button:first-child{border-radius:4px 0 0 4px;margin-left:0;}
.wb-study .ask button:last-child{border-radius:0 4px 4px 0;}
.wb-study .ask button[aria-pressed=true]{position:relative;z-index:1;}
.wb-study .bands{margin:1px 0 14px;}
.wb-study .tissue .name{flex:1 1 auto;}
.wb-study .tissue .bar{flex:0 0 46px;}
.wb-study .tissue .num{flex:0 0 auto;min-width:34px;}
.wb-study .find{display:flex;gap:12px;align-items:center;margin-bottom:7px;}
.wb-study .find input{max-width:270px;}
.wb-study .heads{display:flex;gap:8px;padding:0 10px 4px 10px;align-items:flex-end;}
.wb-study .heads button{border:0;padding:2px 0;min-height:24px;font-size:12px;color:var(--wb-soft);background:none;text-align:left;overflow:hidden;text-overflow:ellipsis;}
.wb-study .heads button.on{color:var(--wb-accent);font-weight:600;}
.wb-study .c-name{flex:1 1 120px;}
.wb-study .c-tissue{flex:1 1 130px;}
.wb-study .c-mod{flex:0 1 104px;white-space:nowrap;min-width:34px;text-align:center!important;}
.wb-study .c-num{flex:0 0 82px;text-align:right!important;font-variant-numeric:tabular-nums;}
.wb-study .row .c-mod{color:var(--wb-accent);}
.wb-study .row .c-mod.no{color:var(--wb-soft);opacity:.55;}
.wb-study .find button{white-space:nowrap;flex:none;}
.wb-study .find span{white-space:nowrap;}
.wb-study .row.marked{box-shadow:inset 4px 0 0 var(--wb-mark);}
.wb-study .none{position:absolute;inset:auto 0 90px 0;}
@container (max-width:800px){.wb-study .cols{grid-template-columns:1fr;}.wb-study .strip{grid-template-columns:84px minmax(60px,1fr) 186px;}}
@container (max-width:460px){.wb-study .strip{grid-template-columns:84px minmax(0,1fr);}.wb-study .ask{grid-column:1/-1;margin:3px 0 6px;}.wb-study .c-tissue,.wb-study .c-num:last-child{display:none;}
.wb-study .c-name{min-width:92px;}.wb-study .c-mod{min-width:22px;}.wb-study .c-num{flex-basis:58px;}}
`;
const STATES = ["any", "has", "lacks"];
const SAY = { any: "any", has: "has", lacks: "lacks" };

const plural = (word) => (word.endsWith("s") ? word : `${word}s`);

function render({ model, el }) {
  let frame = null, filters = complete(), shape = null, pass = null, rows = [], tissues = [], strips = [], spot = -1;
  let sorting = { by: "given", down: false }, marked = new Set(), only = false;
  const part = stage(el, "wb-study", model.get("theme"), CSS, () => { if (frame) draw(); });

  const heading = h("h3", {}), about = h("p", { class: "soft small" });
  const sums = ["subjects", "tissues", "outcomes"].map((name) => {
    const value = h("b", {}), note = h("span", { class: "soft small" });
    return { name, value, note, box: h("div", { class: "sum" }, value, note) };
  });
  const clear = h("button", { type: "button", text: "Clear filters", onclick: () => set({ tissues: [], modalities: {}, search: "" }) });
  const tissueList = longList({
    label: "Groups; Enter adds or removes one", height: 474, rowHeight: 25, multiple: true,
    picked: (i) => filters.tissues.includes(tissues[i].name),
    pick: (i) => {
      const { name, t } = tissues[i];
      if (t < 0) return;
      set({ tissues: filters.tissues.includes(name) ? filters.tissues.filter((x) => x !== name) : [...filters.tissues, name] });
    },
    fill: (row, i) => {
      const { name, kept, all } = tissues[i], top = Math.max(1, tissues.top);
      row.classList.add("tissue");
      row.append(h("span", { class: "name cut", text: name, title: name }),
        h("span", { class: "bar" }, h("i", { class: "faint", style: { width: `${(100 * all) / top}%` } }), h("i", { style: { width: `${(100 * kept) / top}%` } })),
        h("span", { class: "num small soft", text: kept === all ? whole(all) : `${whole(kept)} of ${whole(all)}` }));
    },
  });
  const matrix = h("div", {}), bands = h("canvas", { "aria-hidden": "true" });
  const said = h("span", { class: "soft small", role: "status" });
  const search = h("input", { type: "search", placeholder: "Find a subject by name", "aria-label": "Find a subject by name", oninput: () => set({ search: search.value }) });
  const marks = h("button", { type: "button", hidden: true, onclick: () => { only = !only; refresh(); } });
  const heads = h("div", { class: "heads", role: "group", "aria-label": "Columns: sort, or ask for a modality" });
  const table = longList({
    label: "Subjects that pass the filters", height: 268, rowHeight: 25,
    picked: (i) => frame.header.subjects[rows[i]] === model.get("subject"),
    pick: (i) => put(model, { subject: frame.header.subjects[rows[i]] }),
    fill: (row, i) => {
      const { header, columns } = frame, s = rows[i], t = columns.tissue_of[s];
      if (marked.has(s)) row.classList.add("marked");
      row.append(h("span", { class: "c-name cut", text: header.subjects[s], title: header.subjects[s] }),
        h("span", { class: "c-tissue cut soft", text: t < 0 ? "unknown" : header.tissues[t], title: t < 0 ? null : header.tissues[t] }));
      header.modalities.forEach((name, k) => {
        const has = columns[`has.${k}`][s];
        row.append(h("span", { class: has ? "c-mod" : "c-mod no", role: "img", "aria-label": `${has ? "has" : "lacks"} ${name}`, text: has ? "\u25cf" : "\u25cb" }));
      });
      if (columns.n_treatments) row.append(h("span", { class: "c-num", text: whole(columns.n_treatments[s]) }));
      row.append(h("span", { class: "c-num", text: whole(columns.n_outcomes[s]) }));
    },
  });
  search.addEventListener("keydown", (e) => { if (e.key === "ArrowDown") { table.box.focus(); e.preventDefault(); } });
  const nobody = h("div", { class: "empty none", hidden: true, text: "No subject passes these filters. Loosen or clear one of them." });
  const groupHead = h("h4", {}), unknown = () => `${frame.header.group} unknown`;
  const body = h("div", { class: "cols" }, h("div", {}, groupHead, tissueList.box),
    h("div", { style: { position: "relative" } }, h("h4", { text: "Modality: there or missing, subject by subject" }), matrix,
      h("div", { class: "find" }, search, said, marks), heads, table.box, nobody));
  const empty = h("div", { class: "empty", hidden: true, text: "This study has no subjects yet. Build it from a source, then open it again." });
  part.root.append(h("div", { class: "top" }, h("div", {}, heading, about), ...sums.map((s) => s.box), clear), body, empty);

  const set = (changed) => put(model, { filters: { ...filters, ...changed } });
  const ask = (name, state) => {
    const { [name]: _, ...others } = filters.modalities;
    set({ modalities: state === "any" ? others : { ...others, [name]: state } });
  };

  function load() {
    frame = unpack(model.get("frame_bytes"));
    const n = frame ? frame.header.subjects.length : 0;
    heading.textContent = model.get("title") || "What this study holds";
    body.hidden = clear.hidden = !n;
    empty.hidden = Boolean(n);
    for (const s of sums) s.box.hidden = !n;
    about.textContent = "";
    if (!n) { frame = null; return; }
    const { header, columns } = frame;
    about.textContent = [...header.endpoints.slice(0, 8).map((e) => `${e.label}, ${e.unit}: ${whole(e.n)} values`), ...(header.endpoints.length > 8 ? [`${whole(header.endpoints.length - 8)} more endpoints`] : []), ...(header.treatments === null ? [] : [`${whole(header.treatments)} treatments`])].join(" \u00b7 ");
    shape = arranged(frame);
    const group = header.group[0].toUpperCase() + header.group.slice(1);
    groupHead.textContent = group;
    tissueList.box.setAttribute("aria-label", `${plural(group)}; Enter adds or removes one`);
    tissueList.box.style.height = `${Math.max(30, Math.min(474, shape.bands.length * 25 + 4))}px`;
    sums[1].box.hidden = !header.tissues.length;
    strips = header.modalities.map((name, k) => {
      const canvas = h("canvas", { "aria-hidden": "true" });
      const buttons = STATES.map((state) => h("button", { type: "button", value: state, onclick: () => ask(name, state) }));
      const box = h("div", { class: "strip" }, h("span", { class: "cut", text: name, title: name }), canvas, h("div", { class: "ask", role: "group", "aria-label": `Modality ${name}` }, ...buttons));
      canvas.addEventListener("pointermove", (e) => hover(e, canvas));
      canvas.addEventListener("pointerleave", () => { canvas.title = ""; });
      canvas.addEventListener("click", () => { if (spot >= 0) put(model, { subject: header.subjects[spot] }); });
      return { name, k, canvas, buttons, box };
    });
    if (!strips.length) matrix.replaceChildren(h("p", { class: "soft small bands", text: "No modality: this study holds outcomes alone." }));
    else matrix.replaceChildren(...strips.map((s) => s.box), h("div", { class: "strip bands" }, h("span", { class: "soft small", text: header.group }), bands, h("span", {})));
    const column = (text, kind, by) => h("button", { type: "button", class: kind, value: by, onclick: () => { sorting = { by, down: sorting.by === by ? !sorting.down : kind === "c-num" }; refresh(); } }, text);
    heads.replaceChildren(column("subject", "c-name", "subject"), column(header.group, "c-tissue", "tissue"),
      ...header.modalities.map((name) => h("button", { type: "button", class: "c-mod", value: name, "data-ask": "1", onclick: () => ask(name, STATES[(STATES.indexOf(filters.modalities[name] || "any") + 1) % 3]) })),
      ...(columns.n_treatments ? [column("treatments", "c-num", "n_treatments")] : []), column("outcomes", "c-num", "n_outcomes"));
    refresh();
  }

  function refresh() {
    if (!frame) return;
    const { header, columns } = frame, n = header.subjects.length;
    filters = complete(model.get("filters"));
    pass = passing(frame, filters);
    if (search.value !== filters.search) search.value = filters.search;
    // each count shows what a click would give: everyone who passes the other filters
    const open = passing(frame, filters, "tissues"), all = new Map(), kept = new Map();
    let chosen = 0, outcomes = 0, total = 0;
    const seen = new Set();
    for (let i = 0; i < n; i++) {
      const t = columns.tissue_of[i];
      all.set(t, (all.get(t) || 0) + 1);
      if (open[i]) kept.set(t, (kept.get(t) || 0) + 1);
      total += columns.n_outcomes[i];
      if (pass[i]) { chosen++; outcomes += columns.n_outcomes[i]; seen.add(t); }
    }
    tissues = shape.bands.map(([t]) => ({ t, name: t < 0 ? unknown() : header.tissues[t], all: all.get(t), kept: kept.get(t) || 0 }));
    tissues.top = Math.max(...tissues.map((t) => t.all));
    tissueList.set(tissues.length, true);
    for (const strip of strips) {
      const state = filters.modalities[strip.name] || "any", others = passing(frame, filters, strip.name), has = columns[`has.${strip.k}`];
      let there = 0, missing = 0;
      for (let i = 0; i < n; i++) if (others[i]) { if (has[i]) there++; else missing++; }
      const counts = { any: "", has: ` ${whole(there)}`, lacks: ` ${whole(missing)}` };
      for (const b of strip.buttons) {
        b.textContent = SAY[b.value] + counts[b.value];
        b.setAttribute("aria-pressed", String(b.value === state));
      }
    }
    for (const b of heads.children) {
      if (b.dataset.ask) {
        const state = filters.modalities[b.value] || "any";
        b.textContent = state === "any" ? b.value : `${state === "has" ? "\u25cf" : "\u25cb"} ${b.value}`;
        b.title = `${b.value}: ${state}. Click for ${STATES[(STATES.indexOf(state) + 1) % 3]}.`;
        b.setAttribute("aria-label", b.title);
        b.classList.toggle("on", state !== "any");
      } else {
        const mine = sorting.by === b.value;
        b.textContent = { n_outcomes: "outcomes", n_treatments: "treatments", tissue: header.group }[b.value] || b.value;
        if (mine) b.textContent += sorting.down ? " \u2193" : " \u2191";
        b.classList.toggle("on", mine);
        b.setAttribute("aria-label", `Sort by ${b.textContent}`);
      }
    }
    marked = new Set();
    const named = new Set(model.get("marked") || []);
    if (named.size) header.subjects.forEach((name, i) => { if (named.has(name)) marked.add(i); });
    only &&= marked.size > 0;
    marks.hidden = !named.size;
    marks.textContent = `${whole(marked.size)} selected elsewhere${only ? ": show all" : ": show only these"}`;
    marks.setAttribute("aria-pressed", String(only));
    rows = [...shape.order].filter((i) => pass[i] && (!only || marked.has(i)));
    sort();
    table.set(rows.length);
    const at = rows.findIndex((i) => header.subjects[i] === model.get("subject"));
    if (at >= 0) table.show(at);
    nobody.hidden = rows.length > 0;
    const free = chosen === n;
    sums[0].value.textContent = whole(chosen);
    sums[0].note.textContent = free ? "subjects" : `of ${whole(n)} subjects`;
    sums[1].value.textContent = whole([...seen].filter((t) => t >= 0).length);
    sums[1].note.textContent = free ? plural(header.group) : `of ${whole(header.tissues.length)} ${plural(header.group)}`;
    sums[2].value.textContent = whole(outcomes);
    sums[2].note.textContent = free ? "outcomes" : `of ${whole(total)} outcomes`;
    said.textContent = free ? `All ${whole(n)} subjects` : `${whole(chosen)} of ${whole(n)} subjects selected (${fixed((100 * chosen) / n, 1)} %)`;
    clear.disabled = !(filters.tissues.length || Object.keys(filters.modalities).length || filters.search);
    draw();
  }

  function sort() {
    const { header, columns } = frame, sign = sorting.down ? -1 : 1;
    const names = new Intl.Collator("en", { numeric: true });
    const tissue = (i) => header.tissues[columns.tissue_of[i]] || "\uffff";
    if (sorting.by === "subject") rows.sort((a, b) => sign * names.compare(header.subjects[a], header.subjects[b]));
    else if (sorting.by === "tissue") rows.sort((a, b) => sign * names.compare(tissue(a), tissue(b)));
    else if (sorting.by !== "given") rows.sort((a, b) => sign * (columns[sorting.by][a] - columns[sorting.by][b]));
  }

  // One pixel column stands for one subject or a share of a subject or many: colour is the share that has the modality.
  function draw() {
    heads.style.paddingRight = `${table.box.offsetWidth - table.box.clientWidth + 8}px`;
    if (!strips.length) return;
    const [first, ask] = [strips[0].box.firstChild, strips[0].box.lastChild], beside = ask.offsetTop < first.offsetTop + first.offsetHeight; // else below
    const width = Math.max(60, strips[0].box.clientWidth - first.clientWidth - (beside ? ask.clientWidth + 24 : 12));
    const { header, columns } = frame, n = header.subjects.length, height = 24;
    const accent = rgb(hue(part.root, "accent")), ground = rgb(hue(part.root, "bg")), soft = rgb(hue(part.root, "soft"));
    const gap = ground.map((v, i) => v + (soft[i] - v) * 0.14), faint = ground.map((v, i) => v + (accent[i] - v) * 0.3);
    const me = header.subjects.indexOf(model.get("subject")), mine = me < 0 ? -1 : shape.order.indexOf(me);
    for (const strip of strips) {
      const c = pen(strip.canvas, width, height), across = strip.canvas.width, has = columns[`has.${strip.k}`];
      const line = c.createImageData(across, 1);
      for (let x = 0; x < across; x++) {
        const from = Math.floor((x * n) / across), to = Math.max(from + 1, Math.floor(((x + 1) * n) / across));
        let there = 0, lit = 0;
        for (let i = from; i < to; i++) { const s = shape.order[i]; if (has[s]) { there++; if (pass[s]) lit++; } }
        const p = there / (to - from), q = there ? lit / there : 0;
        for (let i = 0; i < 3; i++) line.data[4 * x + i] = gap[i] + (faint[i] + (accent[i] - faint[i]) * q - gap[i]) * p;
        line.data[4 * x + 3] = 255;
      }
      const small = new OffscreenCanvas(across, 1);
      small.getContext("2d").putImageData(line, 0, 0);
      c.imageSmoothingEnabled = false;
      c.drawImage(small, 0, 0, width, height);
      c.fillStyle = hue(part.root, "mark");
      if (marked.size) shape.order.forEach((s, i) => { if (marked.has(s)) c.fillRect((i * width) / n, 0, Math.max(1, width / n), 6); });
      if (mine >= 0) { c.fillRect(((mine + 0.5) * width) / n - 1, 0, 2, height); }
    }
    const c = pen(bands, width, 30);
    c.font = `10.5px ${getComputedStyle(part.root).fontFamily}`;
    c.textBaseline = "middle";
    shape.bands.forEach(([t, from, to], i) => {
      const x = (from * width) / n, w = ((to - from) * width) / n, name = t < 0 ? "unknown" : header.tissues[t];
      c.fillStyle = hue(part.root, "soft"); c.globalAlpha = i % 2 ? 0.18 : 0.42; c.fillRect(x, 0, Math.max(1, w - 0.5), 5);
      c.globalAlpha = 1; c.fillStyle = hue(part.root, "soft");
      let text = name; // shortened where the band is narrow, left out where nothing readable would remain
      while (text.length > 3 && c.measureText(text).width > w - 2) text = `${text.replace("\u2026", "").slice(0, -1)}\u2026`;
      if ((text.length > 3 || text === name) && c.measureText(text).width <= w - 2) c.fillText(text, x + 1, 15);
    });
  }

  function hover(event, canvas) {
    const { header, columns } = frame, n = header.subjects.length, r = canvas.getBoundingClientRect();
    spot = shape.order[Math.max(0, Math.min(n - 1, Math.floor(((event.clientX - r.left) / r.width) * n)))];
    const t = columns.tissue_of[spot];
    canvas.title = `${header.subjects[spot]}, ${t < 0 ? unknown() : header.tissues[t]}`;
  }

  const quiet = listen(model, { frame_bytes: load, title: load, filters: refresh, marked: refresh, subject: () => { if (frame) { table.draw(); draw(); } } });
  part.look();
  load();
  return () => { quiet(); part.close(); };
}

export default { render };
