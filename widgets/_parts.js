// Parts that every widget uses. Names reach the page through textContent and nothing else.

/** An element: props are attributes, `text`, `class` and `on<event>`; children are elements or strings. */
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "text") node.textContent = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "style") Object.assign(node.style, value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

const ARRAYS = { f4: Float32Array, i4: Int32Array, i2: Int16Array, i1: Int8Array, u1: Uint8Array };

/** Header and typed arrays of a packed trait (DataView, ArrayBuffer or typed array); null when it is empty. */
export function unpack(value) {
  if (!value || !value.byteLength) return null;
  let bytes = value instanceof ArrayBuffer ? new Uint8Array(value)
    : new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  if (bytes.byteOffset % 8) bytes = bytes.slice(); // typed arrays need an aligned start
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const start = bytes.byteOffset + 4 + length;
  const columns = {};
  for (const [name, [kind, offset, count]] of Object.entries(header.columns)) {
    columns[name] = new ARRAYS[kind](bytes.buffer, start + offset, count);
  }
  return { header, columns };
}

/** A dictionary trait as a plain object: Panel hands maps over, Jupyter objects. */
export function plain(value) {
  if (value instanceof Map) return Object.fromEntries([...value].map(([k, v]) => [k, plain(v)]));
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === "object" && value.constructor === Object) {
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
  }
  return value;
}

/** Set traits and send them at once. */
export function put(model, values) {
  for (const [name, value] of Object.entries(values)) model.set(name, value);
  model.save_changes();
}

/** Call `heard[name]` on each change of trait `name`; returns the function that stops it. */
export function listen(model, heard) {
  const pairs = Object.entries(heard);
  for (const [name, call] of pairs) model.on(`change:${name}`, call);
  return () => { for (const [name, call] of pairs) model.off(`change:${name}`, call); };
}

/** Root element with the theme's style sheet, in a page that may change between light and dark. */
export function stage(el, name, theme, css, redraw) {
  // Lab's shortcuts must not fire while someone types or moves inside the widget.
  const root = h("div", { class: `wb ${name}`, "data-lm-suppress-shortcuts": "true" });
  root.append(h("style", { text: `${theme || ""}\n${css}` }));
  el.append(root);
  const look = () => {
    const [r, g, b] = (getComputedStyle(root).backgroundColor.match(/[\d.]+/g) || [255, 255, 255]).map(Number);
    root.dataset.dark = String(0.299 * r + 0.587 * g + 0.114 * b < 128);
    redraw();
  };
  const later = () => requestAnimationFrame(look);
  const watch = new MutationObserver(later);
  for (const node of [document.documentElement, document.body]) watch.observe(node, { attributes: true });
  const size = new ResizeObserver(later);
  size.observe(root);
  return { root, look, close() { watch.disconnect(); size.disconnect(); root.remove(); } };
}

/** Value of a colour variable where `node` stands. */
export const hue = (node, name) => getComputedStyle(node).getPropertyValue(`--wb-${name}`).trim() || "currentColor";

/** A colour as [r, g, b] from 0 to 255, whatever notation the page's theme uses. */
export function rgb(color) {
  const pen = new OffscreenCanvas(1, 1).getContext("2d");
  pen.fillStyle = color;
  pen.fillRect(0, 0, 1, 1);
  return [...pen.getImageData(0, 0, 1, 1).data.subarray(0, 3)];
}

/** Size a canvas in CSS pixels and return its cleared pen, sharp on dense screens. */
export function pen(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

/** Round tick values between two limits, about `count` of them. */
export function ticks(low, high, count = 6) {
  if (!(high > low)) return [low];
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((m) => m * power >= raw) * power;
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

export const whole = (n) => Math.round(n).toLocaleString("en-US");
export const fixed = (x, digits = 3) => {
  if (!Number.isFinite(x)) return "\u2013";
  const text = x.toFixed(digits);
  return text.replace("-", Number(text) === 0 ? "" : "\u2212"); // nothing is less than 0.000 by 0.000
};

/**
 * A list of any length of which only the rows in sight exist. Arrow keys, Home, End and Page keys move,
 * Enter and Space pick. `fill(row, index)` adds the children of one row.
 */
export function longList({ label, height, rowHeight = 26, fill, pick, picked = () => false, moved = () => {}, multiple = false }) {
  const rows = h("div", { class: "rows", role: "presentation" });
  const id = `wb${Math.random().toString(36).slice(2, 9)}`;
  const box = h("div", {
    class: "list", tabindex: "0", role: "listbox", "aria-label": label, "aria-multiselectable": multiple ? "true" : null,
    style: { height: `${height}px` },
  }, rows);
  let count = 0, active = 0;
  function draw() {
    rows.style.height = `${count * rowHeight}px`;
    const first = Math.max(0, Math.floor(box.scrollTop / rowHeight) - 3);
    const last = Math.min(count, Math.ceil((box.scrollTop + (box.clientHeight || height)) / rowHeight) + 3);
    const made = [];
    for (let i = first; i < last; i++) {
      const row = h("div", {
        class: i === active ? "row active" : "row", role: "option", id: `${id}-${i}`, "aria-selected": String(picked(i)),
        "aria-setsize": String(count), "aria-posinset": String(i + 1),
        style: { top: `${i * rowHeight}px`, height: `${rowHeight}px` },
        onclick: () => { active = i; pick(i); draw(); },
      });
      fill(row, i);
      made.push(row);
    }
    rows.replaceChildren(...made);
    if (count) box.setAttribute("aria-activedescendant", `${id}-${active}`);
    else box.removeAttribute("aria-activedescendant");
  }
  function show(index) {
    active = Math.max(0, Math.min(count - 1, index));
    const top = active * rowHeight;
    const seen = box.clientHeight || height;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + rowHeight > box.scrollTop + seen) box.scrollTop = top + rowHeight - seen;
    draw();
  }
  box.addEventListener("scroll", draw);
  box.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor((box.clientHeight || height) / rowHeight) - 1);
    const steps = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0, End: count - 1 };
    if (event.key in steps) { show(steps[event.key]); if (count) moved(active); }
    else if ((event.key === "Enter" || event.key === " ") && count) { pick(active); draw(); }
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  return { box, draw, show, set(n, keep = false) { count = n; if (!keep) { active = 0; box.scrollTop = 0; } active = Math.max(0, Math.min(active, n - 1)); draw(); } };
}
