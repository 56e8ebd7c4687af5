// Points with pickers, legend and lasso. What crosses from the kernel is described in embedding_explorer.py.
import { h, hue, listen, longList, pen, plain, put, rgb, stage, unpack, whole } from "./_parts.js";
import { css, inner, library, numbers, parts, points, ramp, rowsOf } from "./_plot.js";

const HEIGHT = 470;
const NOTHING = "nothing", RESPONSE = "response to a treatment\u2026", FEATURE = "a gene or test\u2026";
const CSS = `
.wb-embedding{container-type:inline-size;}
.wb-embedding .picks{display:flex;flex-wrap:wrap;gap:8px 14px;align-items:flex-end;margin:8px 0 12px;}
.wb-embedding label.pick{display:flex;flex-direction:column;gap:2px;min-width:0;}
.wb-embedding label.pick>span{font-size:12px;font-weight:600;color:var(--wb-soft);}
.wb-embedding input.find{font:inherit;color:var(--wb-ink);background:var(--wb-bg);border:1px solid var(--wb-line);border-radius:4px;padding:4px 9px;min-height:28px;width:170px;}
.wb-embedding .grid{display:grid;grid-template-columns:minmax(300px,1fr) 248px;gap:16px;}
.wb-embedding .grid>div{min-width:0;}
.wb-embedding .plot{position:relative;border:1px solid var(--wb-line);border-radius:4px;overflow:hidden;height:${HEIGHT + 2}px;}
.wb-embedding .plot canvas{touch-action:none;}
.wb-embedding .plot .none{position:absolute;inset:0;display:flex;align-items:center;justify-content:center;background:var(--wb-bg);}
.wb-embedding .axis{font-size:12px;color:var(--wb-soft);pointer-events:none;position:absolute;z-index:1;background:color-mix(in srgb,var(--wb-bg) 78%,transparent);padding:0 5px;border-radius:3px;}
.wb-embedding .axis.x{right:8px;bottom:6px;}
.wb-embedding .axis.y{left:5px;top:8px;writing-mode:vertical-rl;transform:rotate(180deg);padding:5px 0;}
.wb-embedding .tools{display:flex;flex-wrap:wrap;gap:6px 8px;align-items:center;margin-top:8px;}
.wb-embedding .tools .two{display:flex;}
.wb-embedding .two button:first-child{border-radius:4px 0 0 4px;}
.wb-embedding .two button:last-child{border-radius:0 4px 4px 0;margin-left:-1px;}
.wb-embedding .tools .end{flex:1 1 120px;text-align:right;font-variant-numeric:tabular-nums;}
.wb-embedding .tip{position:absolute;pointer-events:none;z-index:3;max-width:270px;padding:6px 9px;font-size:12px;border-radius:4px;
background:var(--wb-bg);border:1px solid var(--wb-line);box-shadow:0 2px 8px rgb(0 0 0/.22);overflow-wrap:anywhere;}
.wb-embedding .tip b,.wb-embedding .tip span{display:block;}
.wb.wb-embedding .legend{display:block;font-size:inherit;margin-bottom:14px;}
.wb-embedding .legend button.level{display:flex;gap:8px;align-items:center;width:100%;border:0;padding:1px 5px;min-height:24px;text-align:left;background:none;}
.wb-embedding .legend button.level:hover{background:var(--wb-hover);}
.wb-embedding .legend i{width:11px;height:11px;border-radius:50%;flex:none;border:1px solid color-mix(in srgb,var(--wb-ink) 25%,transparent);}
.wb-embedding .legend .name{flex:1 1 auto;}
.wb-embedding .legend .ends{display:flex;width:236px;max-width:100%;justify-content:space-between;font-variant-numeric:tabular-nums;font-size:12px;margin:2px 0 7px;}
.wb-embedding .legend .tenths{display:flex;gap:6px;margin-bottom:5px;}
.wb-embedding .legend .tenths button{flex:1;font-size:12px;padding:2px 4px;}
.wb-embedding .said{margin:9px 0 0;line-height:1.5;}
.wb-embedding details{margin-top:4px;}
.wb-embedding details p{max-height:96px;overflow:auto;overflow-wrap:anywhere;}
.wb-embedding summary{cursor:pointer;overflow-wrap:anywhere;}
.wb-embedding .alert{color:var(--wb-error);margin-top:8px;overflow-wrap:anywhere;}
@container (max-width:700px){.wb-embedding .grid{grid-template-columns:1fr;}}
`;

/** A number for a legend: four digits at most, a true minus. */
export const short = (x) => (Number.isFinite(x) ? String(Number(x.toPrecision(3))).replace("-", "\u2212") : "\u2013");

/** The points whose code is `code`. */
export function coded(codes, code) {
  const found = [];
  for (let i = 0; i < codes.length; i++) if (codes[i] === code) found.push(i);
  return Int32Array.from(found);
}

/** The tenth of the points with a value whose codes are lowest (or highest). */
export function tenth(codes, highest) {
  const known = [];
  for (let i = 0; i < codes.length; i++) if (codes[i] >= 0) known.push(i);
  known.sort((a, b) => (highest ? codes[b] - codes[a] : codes[a] - codes[b]) || a - b);
  return Int32Array.from(known.slice(0, Math.max(1, Math.round(known.length / 10)))).sort();
}

/** How large a point is drawn, in pixels, and how opaque, when there are `n`. */
export const looks = (n) => [[300, 10, 0.9], [3000, 7, 0.85], [30000, 4.5, 0.7], [300000, 2.6, 0.5]].find(([most]) => n <= most) || [n, 1.6, 0.3];

function render({ model, el }) {
  let frame = null, colour = null, drawn = null, view = null, gone = false, mode = "lasso", ink = "", sent = "";
  const part = stage(el, "wb-embedding", model.get("theme"), CSS, () => recolour());
  const choice = () => plain(model.get("choice") || {}), options = () => plain(model.get("options") || {});
  const choose = (changed) => put(model, { choice: { ...choice(), ...changed } });

  // --- pickers ---
  const heading = h("h3", {});
  const pick = (text, ...inside) => h("label", { class: "pick" }, h("span", { text }), ...inside);
  const modality = h("select", { onchange: () => choose({ modality: modality.value }) });
  const method = h("select", { onchange: () => choose({ method: method.value }) });
  const by = h("select", { onchange: () => {
    wanted = by.value;
    if (by.value === "none") choose({ colour: { kind: "none" } });
    else if (by.value.startsWith("column:")) choose({ colour: { kind: "column", name: by.value.slice(7) } });
    form();
    if (by.value === "response") treatment.focus();
    if (by.value === "feature") feature.focus();
  } });
  let wanted = null;
  const id = `wb${Math.random().toString(36).slice(2, 9)}`;
  const endpoint = h("select", { onchange: () => respond() });
  const treatments = h("datalist", { id: `${id}t` }), features = h("datalist", { id: `${id}f` });
  const treatment = h("input", { class: "find", list: `${id}t`, placeholder: "Treatment", onchange: () => respond(), oninput: () => respond() });
  const respond = () => {
    if (options().treatments.includes(treatment.value)) choose({ colour: { kind: "response", treatment: treatment.value, endpoint: endpoint.value } });
  };
  const of = h("select", { onchange: () => ask() });
  const feature = h("input", { class: "find", list: `${id}f`, placeholder: "Gene or test", oninput: () => ask(), onchange: () => take() });
  const ask = () => { if (!take()) put(model, { search: { modality: of.value, text: feature.value } }); };
  const take = () => {
    if (!(model.get("found") || []).includes(feature.value)) return false;
    choose({ colour: { kind: "feature", modality: of.value, name: feature.value } });
    return true;
  };
  const modalityBox = pick("Modality", modality), methodBox = pick("Laid out by", method), byBox = pick("Colour by", by);
  const endpointBox = pick("Endpoint", endpoint), treatmentBox = pick("Treatment", treatment, treatments);
  const ofBox = pick("Of", of), featureBox = pick("Gene or test", feature, features);

  // --- plot ---
  const place = h("div", { style: { height: `${HEIGHT}px` } });
  const tip = h("div", { class: "tip", hidden: true }), wait = h("div", { class: "none soft", text: "Preparing the plot" });
  const axisX = h("div", { class: "axis x" }), axisY = h("div", { class: "axis y" });
  const plot = h("div", { class: "plot", role: "group", "aria-label": "Points; to select without a mouse use the legend's buttons" }, place, axisX, axisY, tip, wait);
  const modes = [["lasso", "Lasso"], ["panZoom", "Move"]].map(([value, text]) => h("button", { type: "button", value, text, onclick: () => { mode = value; view?.put({ mouse_mode: mode }); press(); } }));
  const press = () => { for (const b of modes) b.setAttribute("aria-pressed", String(b.value === mode)); };
  const home = h("button", { type: "button", text: "Whole picture", onclick: () => api()?.zoomToOrigin({ transition: true, transitionDuration: 300 }) });
  const clear = h("button", { type: "button", text: "Clear selection", onclick: () => choosePoints(new Int32Array(0)) });
  const stop = h("button", { type: "button", text: "Stop", hidden: true, onclick: () => put(model, { halt: (model.get("halt") || 0) + 1 }) });
  const said = h("span", { class: "end", role: "status" });
  const hint = h("p", { class: "soft small said" });
  const alert = h("p", { class: "alert small", role: "alert", hidden: true });
  const legend = h("div", { class: "legend" });
  const listTitle = h("h4", {}), absent = h("div", { class: "small said" }), elsewhere = h("div", { class: "small said" }), notes = h("p", { class: "soft small said" });
  const names = longList({
    label: "Selected", height: 150, rowHeight: 24,
    fill: (row, i) => row.append(h("span", { class: "cut", text: model.get("picked_names")[i], title: model.get("picked_names")[i] })), pick: () => {},
  });
  part.root.append(heading, h("div", { class: "picks" }, modalityBox, methodBox, byBox, endpointBox, treatmentBox, ofBox, featureBox),
    h("div", { class: "grid" },
      h("div", {}, plot, h("div", { class: "tools" }, h("div", { class: "two", role: "group", "aria-label": "What a drag does" }, ...modes), home, clear, stop, said), hint, alert),
      h("div", {}, legend, listTitle, names.box, elsewhere, absent, notes)));
  press();
  // a lasso that ends where it began is no click: jupyter-scatter would take the point below it instead
  let way = 0;
  place.addEventListener("pointerdown", () => { way = 0; }, true);
  place.addEventListener("pointermove", (event) => { if (event.buttons) way += Math.abs(event.movementX) + Math.abs(event.movementY); }, true);
  place.addEventListener("click", (event) => { if (way > 6) event.stopPropagation(); }, true);
  part.root.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !picked().length) return;
    choosePoints(new Int32Array(0));
    event.stopPropagation();
  });
  const api = () => place.querySelector("canvas")?.parentElement?.parentElement?.api;

  function form() {
    const offered = options(), now = choice(), kind = now.colour?.kind || "none";
    heading.textContent = model.get("title") || "Who is near whom";
    const fill = (select, list, value) => { select.replaceChildren(...list.map((name) => h("option", { value: name, text: name }))); select.value = value; };
    fill(modality, offered.modalities || [], now.modality);
    fill(method, offered.methods || [], now.method);
    modalityBox.hidden = (offered.modalities || []).length < 2;
    methodBox.hidden = (offered.methods || []).length < 2;
    const columns = (offered.columns || {})[now.modality] || [];
    const group = (label, list) => { const g = h("optgroup", { label }); g.append(...list.map(([value, text]) => h("option", { value, text }))); return g; };
    const more = [...((offered.treatments || []).length ? [["response", RESPONSE]] : []), ...(offered.methods?.length > 1 ? [["feature", FEATURE]] : [])];
    by.replaceChildren(h("option", { value: "none", text: NOTHING }), ...(columns.length ? [group("Facts", columns.map((c) => [`column:${c}`, c]))] : []), ...(more.length ? [group("Measured", more)] : []));
    const shown = wanted ?? (kind === "column" ? `column:${now.colour.name}` : kind);
    by.value = shown;
    endpointBox.hidden = treatmentBox.hidden = shown !== "response";
    ofBox.hidden = featureBox.hidden = shown !== "feature";
    fill(endpoint, offered.endpoints || [], now.colour?.endpoint || (offered.endpoints || [])[0]);
    endpointBox.hidden ||= (offered.endpoints || []).length < 2;
    if (treatments.children.length !== (offered.treatments || []).length) treatments.replaceChildren(...(offered.treatments || []).map((value) => h("option", { value })));
    fill(of, offered.modalities || [], now.colour?.modality || of.value || now.modality);
    const active = part.root.getRootNode().activeElement;
    if (kind === "response" && active !== treatment) treatment.value = now.colour.treatment;
    if (kind === "feature" && active !== feature) feature.value = now.colour.name;
    const busy = model.get("progress_state") === "working";
    alert.hidden = model.get("progress_state") !== "failed";
    alert.textContent = model.get("message");
    stop.hidden = !busy;
    if (!frame) wait.textContent = model.get("message") || "Preparing the plot";
    hint.textContent = busy ? `${model.get("message")}\u2026 The first layout takes a while.` : "Drag round points to select them (with Shift: add, with Alt: take away). The wheel zooms. Escape clears.";
    part.root.setAttribute("aria-busy", String(busy));
  }

  // --- colours ---
  function palette() {
    // mixed here, since a page's own grey may be a black that is half transparent
    const ink = rgb(hue(part.root, "ink")).map((v) => v / 255), ground = rgb(hue(part.root, "bg")).map((v) => v / 255);
    const mixed = (share) => ink.map((v, i) => v + (ground[i] - v) * share);
    const grey = mixed(0.5), faint = mixed(0.78).concat(1), dark = part.root.dataset.dark === "true";
    const { header } = colour;
    if (header.kind === "scale") return [...ramp(header.scale, 256), faint];
    if (header.kind === "none") return [parts("#0072B2"), faint].map((c, i) => (i || !dark ? c : parts("#56B4E9")));
    const known = header.levels.map((_, i) => {
      if (header.other && i === header.levels.length - 1) return grey.concat(1);
      const hex = hue(part.root, `c${i}`);
      return i === 7 && dark ? [1, 1, 1, 1] : parts(hex); // black cannot be seen on black
    });
    return [...known, faint];
  }

  function recolour() {
    if (!colour) return;
    const list = palette(), mark = list.map(css).join();
    const ground = rgb(hue(part.root, "bg")).map((v) => v / 255).concat(1), now = `${mark}${css(ground)}`;
    if (ink !== now) {
      ink = now;
      view?.put({ background_color: ground, color: list, color_selected: list, color_hover: parts("#D55E00"), lasso_color: parts("#D55E00") });
      key(list);
    }
  }

  function key(list) {
    const { header, columns } = colour, title = header.unit ? `${header.title}, ${header.unit.replace("uM", "\u00b5M")}` : header.title;
    const made = [h("h4", { text: header.kind === "none" ? "One colour: nothing picked" : title })];
    const level = (name, n, color, code, note = "") => h("button", { type: "button", class: "level", title: `Select ${name}`, "aria-label": `Select ${name}, ${whole(n)}`, onclick: () => choosePoints(coded(columns.code, code)) },
      h("i", { style: { background: css(color) } }), h("span", { class: "name cut", text: name + note }), h("span", { class: "num small soft", text: whole(n) }));
    if (header.kind === "levels") header.levels.forEach((l, i) => made.push(level(l.name, l.n, list[i], i)));
    if (header.kind === "scale") {
      const bar = h("canvas", { role: "img", "aria-label": `${title} from ${short(header.low)} to ${short(header.high)}` }), c = pen(bar, 236, 12);
      for (let i = 0; i < 236; i++) { c.fillStyle = css(list[Math.round((i * 255) / 235)]); c.fillRect(i, 0, 1.5, 12); }
      const ends = [`${header.below ? "\u2264 " : ""}${short(header.low)}`, short((header.low + header.high) / 2), `${header.above ? "\u2265 " : ""}${short(header.high)}`];
      made.push(bar, h("div", { class: "ends" }, ...ends.map((text) => h("span", { text }))),
        h("div", { class: "tenths" }, h("button", { type: "button", text: "Lowest tenth", onclick: () => choosePoints(tenth(columns.code, false)) }),
          h("button", { type: "button", text: "Highest tenth", onclick: () => choosePoints(tenth(columns.code, true)) })));
    }
    if (header.absent) made.push(level("no value", header.absent, list[list.length - 1], -1));
    legend.replaceChildren(...made);
  }

  // --- points ---
  const picked = () => {
    const value = model.get("picked_bytes");
    if (!value || !value.byteLength) return new Int32Array(0);
    const bytes = value instanceof ArrayBuffer ? new Uint8Array(value) : new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    return new Int32Array(bytes.slice().buffer);
  };
  const choosePoints = (rows) => { sent = ""; put(model, { picked_bytes: rows.slice().sort().buffer }); };

  function load() {
    const nextFrame = unpack(model.get("frame_bytes")), nextColour = unpack(model.get("colour_bytes"));
    if (!nextFrame || !nextColour || nextFrame.columns.x.length !== nextColour.columns.code.length) return; // the other half is on its way
    const moved = !frame || model.get("frame_bytes") !== frame.raw;
    frame = Object.assign(nextFrame, { raw: model.get("frame_bytes") });
    colour = nextColour;
    const { header, columns } = frame, wide = Math.max(300, plot.clientWidth || 600) / HEIGHT;
    [axisX.textContent, axisY.textContent] = header.axes;
    notes.textContent = header.notes.length ? `${header.notes.join("; ")}.` : "";
    gaps(absent, header.absent.n, header.absent.names, (n) => `${whole(n)} of ${whole(header.absent.of)} ${header.absent.noun} have no ${header.absent.modality} profile`);
    const list = palette(), [, size, opacity] = looks(columns.x.length);
    const data = points(columns.x, columns.y, colour.columns.code, list.length - 1, wide);
    const many = columns.x.length > 200000; // sorting so many for the order of drawing takes seconds
    const order = many ? null : [...colour.columns.code.keys()].sort((a, b) => rank(colour.columns.code[a]) - rank(colour.columns.code[b]));
    const ground = rgb(hue(part.root, "bg")).map((v) => v / 255).concat(1);
    ink = "";
    const look = {
      points: data, color: list, color_selected: list, color_hover: parts("#D55E00"), color_by: "valueA", color_scale: "categorical", color_domain: {}, background_color: ground,
      size, opacity, point_order: many ? null : numbers(order), non_spatial_points_update: !moved,
    };
    const crowd = columns.x.length > 20000; // rings round so many selected points would hide them
    look.regl_scatterplot_options = { actionKeyMap: { merge: "shift", remove: "alt" }, pointSizeSelected: crowd ? 0 : 2, pointOutlineWidth: crowd ? 0 : 2 };
    if (!view) begin(look);
    else { view.put(look); highlight(); }
    recolour();
    tell();
  }
  const rank = (code) => (code < 0 ? -1 : colour.header.other && code === colour.header.levels.length - 1 ? 0 : 1);

  async function begin(look) {
    const found = library(model.get("plot_bytes"));
    view = inner({ ...found.traits, ...Object.fromEntries(Object.keys(found.traits).filter((n) => n.startsWith("connection_") || n.startsWith("camera_") || n.startsWith("reticle")).map((n) => [n, null])),
      ...look, width: "auto", height: HEIGHT, mouse_mode: mode, selection: numbers(picked()), opacity_unselected: 0.16, lasso_color: parts("#D55E00"), lasso_min_delay: 8, lasso_min_dist: 2,
      x_scale: "linear", y_scale: "linear", x_scale_domain: [-1, 1], y_scale_domain: [-1, 1], x_domain: [-1, 1], y_domain: [-1, 1], toolbar_buttons: [], tooltip_enable: false, tooltip_properties: [],
      size_scale_function: "constant", camera_is_fixed: false, reticle: false }, heard);
    if (!document.createElement("canvas").getContext("webgl")) {
      wait.textContent = "This browser draws no WebGL, so no points. The legend still selects.";
      return;
    }
    try {
      const module = await found.module;
      if (gone) return;
      drawn = await module.render({ model: view, el: place });
      wait.hidden = true;
    } catch (error) {
      wait.textContent = `The plot could not be drawn: ${error.message}`;
      throw error;
    }
  }

  function heard(name, value) {
    if (name === "hovering") put(model, { hovered: value ?? -1 });
    if (name === "selection") {
      const rows = rowsOf(value).sort();
      sent = rows.join();
      put(model, { picked_bytes: rows.buffer });
      tell();
    }
  }

  function highlight() {
    const rows = picked();
    if (rows.join() !== sent) view?.put({ selection: numbers(rows) });
    sent = "";
    tell();
  }

  function gaps(box, n, list, say) {
    box.hidden = !n;
    if (!n) return;
    box.replaceChildren(h("details", {}, h("summary", { text: say(n) }), h("p", { class: "soft", text: list.join(", ") + (n > list.length ? ` and ${whole(n - list.length)} more` : "") })));
  }

  function tell() {
    if (!frame) return;
    const n = picked().length, { noun } = frame.header, all = frame.columns.x.length, list = model.get("picked_names") || [];
    said.textContent = n ? `${whole(n)} of ${whole(all)} ${noun[1]} selected` : `${whole(all)} ${all === 1 ? noun[0] : noun[1]}`;
    clear.disabled = !n;
    listTitle.textContent = n ? `Selected${n > list.length ? `, the first ${whole(list.length)}` : ""}` : "Selected: none yet";
    names.box.hidden = !n;
    names.set(list.length, true);
    const other = plain(model.get("elsewhere") || {});
    gaps(elsewhere, other.n || 0, other.names || [], (m) => `${whole(m)} selected ${m === 1 ? "subject has" : "subjects have"} no point here`);
  }

  function hover() {
    const lines = model.get("tip") || [], at = model.get("hovered");
    tip.hidden = !lines.length || at < 0;
    if (tip.hidden) return;
    tip.replaceChildren(h("b", { text: lines[0] }), ...lines.slice(1).map((text) => h("span", { text })));
    const [x, y] = api()?.getScreenPosition(at) || [20, 20], right = x > plot.clientWidth / 2;
    tip.style.left = right ? "auto" : `${x + 14}px`;
    tip.style.right = right ? `${plot.clientWidth - x + 14}px` : "auto";
    tip.style.top = `${Math.max(4, Math.min(HEIGHT - 100, y - 16))}px`;
  }

  const quiet = listen(model, {
    frame_bytes: load, colour_bytes: load, picked_bytes: highlight, picked_names: tell, elsewhere: tell, tip: hover, hovered: hover, title: form, options: form,
    choice: () => { wanted = null; form(); }, progress_state: form, message: form,
    found: () => { features.replaceChildren(...(model.get("found") || []).map((value) => h("option", { value }))); },
  });
  part.look();
  form();
  load();
  return () => { gone = true; quiet(); drawn?.(); part.close(); };
}

export default { render };
