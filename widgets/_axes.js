// Axes on canvas, marks, tooltips and what surrounds a plot: shared by every widget that draws values against values.
import { h, hue, pen, ticks } from "./_parts.js";

export const SHARED = `
.wb .tops{display:flex;flex-wrap:wrap;gap:8px 14px;align-items:center;margin-bottom:10px;}
.wb .tops h3{flex:1 1 200px;}
.wb .tops label{display:flex;gap:7px;align-items:center;min-width:0;}
.wb .switch{display:flex;}
.wb .switch button{border-radius:0;margin-left:-1px;}
.wb .switch button:first-child{border-radius:4px 0 0 4px;margin-left:0;}
.wb .switch button:last-child{border-radius:0 4px 4px 0;}
.wb .switch button[aria-pressed=true]{position:relative;z-index:1;}
.wb .note{margin:0 0 10px;padding:5px 10px;border-left:4px solid var(--wb-warn);border-radius:3px;overflow-wrap:anywhere;
background:color-mix(in srgb,var(--wb-warn) 14%,transparent);}
.wb .plot{position:relative;min-width:0;}
.wb .plot canvas.over{position:absolute;left:0;top:0;}
.wb .tip{position:absolute;pointer-events:none;z-index:3;max-width:min(270px,80%);padding:6px 9px;font-size:12px;border-radius:4px;
background:var(--wb-bg);border:1px solid var(--wb-line);box-shadow:0 2px 8px rgb(0 0 0/.22);overflow-wrap:anywhere;}
.wb .tip b{display:block;}
.wb .swatch{flex:none;display:inline-block;width:16px;height:4px;border-radius:2px;vertical-align:middle;margin-right:7px;}
.wb .swatch.square{width:11px;height:11px;margin-right:5px;}
.wb .legend{display:flex;flex-wrap:wrap;gap:3px 14px;font-size:12px;}
.wb .legend span{overflow-wrap:anywhere;}
.wb .scroll{overflow:auto;max-width:100%;}
.wb table.plain{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;}
.wb table.plain th,.wb table.plain td{padding:4px 9px 4px 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--wb-line);}
.wb table.plain thead th{font-size:12px;font-weight:600;color:var(--wb-soft);vertical-align:bottom;white-space:nowrap;}
.wb table.plain tbody th{font-weight:400;overflow-wrap:anywhere;}
.wb table.plain th.num,.wb table.plain td.num{text-align:right;padding-right:14px;}
`;

const SUPER = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079";
const power = (k) => (k < 0 ? "\u207b" : "") + [...String(Math.abs(k))].map((d) => SUPER[d]).join("");

/** A number for people: `digits` significant ones, a true minus, powers of ten only where zeros would have to be counted. */
export function short(x, digits = 3) {
  if (x === null || x === undefined || Number.isNaN(x)) return "\u2013";
  if (!Number.isFinite(x)) return x > 0 ? "\u221e" : "\u2212\u221e";
  if (x === 0) return "0";
  const size = Math.floor(Math.log10(Math.abs(x)));
  if (size >= 6 || size < -4) {
    const front = Number((x / 10 ** size).toPrecision(digits));
    return `${front === 1 ? "" : `${String(front).replace("-", "\u2212")}\u00d7`}10${power(size)}`;
  }
  const rounded = Number(x.toPrecision(Math.max(digits, size + 1)));
  return (Math.abs(rounded) >= 10000 ? rounded.toLocaleString("en-US") : String(rounded)).replace("-", "\u2212");
}

/** Ticks [value, text] of a logarithmic axis: decades, with 2 and 5 between them where there are few; text "" is a mark only. */
export function logTicks(low, high, most = 8) {
  const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
  const step = Math.max(1, Math.ceil((last - first + 1) / most)), found = [];
  const between = last - first < 2 ? [1, 2, 5] : [1];
  for (let k = first - 1; k <= last; k++) {
    for (const m of [1, 2, 3, 4, 5, 6, 7, 8, 9]) {
      const value = Number((m * 10 ** k).toPrecision(12));
      if (value < low * (1 - 1e-9) || value > high * (1 + 1e-9)) continue;
      const told = between.includes(m) && (k - first) % step === 0;
      if (told || (m > 1 && step === 1)) found.push([value, told ? short(value) : ""]);
    }
  }
  return found;
}

/**
 * Draws both axes and returns the plane: its pen `c`, the way from values to pixels (`sx`, `sy`) and back (`ix`, `iy`),
 * its edges and colours. An axis is {low, high, label, log, ticks: [[value, text]]}; the label of y stands above it.
 */
export function plane(canvas, root, { width, height, x, y, top = 34, right = 14 }) {
  const c = pen(canvas, width, height);
  c.font = `12px ${getComputedStyle(root).fontFamily}`;
  const marks = (axis, count) => axis.ticks
    || (axis.log ? logTicks(axis.low, axis.high, count) : ticks(axis.low, axis.high, count).map((v) => [v, short(v)]));
  const up = marks(y, Math.max(3, Math.round((height - 80) / 46)));
  const left = Math.ceil(Math.max(20, ...up.map(([, text]) => c.measureText(text).width))) + 14;
  const bottom = height - (x.label ? 42 : 24), w = Math.max(10, width - left - right), v = Math.max(10, bottom - top);
  const to = (axis) => (axis.log ? (value) => Math.log10(Math.max(value, 1e-300)) : (value) => value);
  const [fx, fy] = [to(x), to(y)], x0 = fx(x.low), x1 = fx(x.high), y0 = fy(y.low), y1 = fy(y.high);
  const back = (axis, value) => (axis.log ? 10 ** value : value);
  const area = {
    c, root, width, height, left, top, bottom, w, v, right: left + w, x, y,
    sx: (value) => left + ((fx(value) - x0) / (x1 - x0 || 1)) * w,
    sy: (value) => bottom - ((fy(value) - y0) / (y1 - y0 || 1)) * v,
    ix: (px) => back(x, x0 + ((px - left) / w) * (x1 - x0)),
    iy: (py) => back(y, y0 + ((bottom - py) / v) * (y1 - y0)),
    colors: Object.fromEntries(["ink", "soft", "line", "accent", "mark", "bg"].map((name) => [name, hue(root, name)])),
  };
  c.textBaseline = "middle";
  c.lineWidth = 1;
  c.strokeStyle = area.colors.line;
  c.fillStyle = area.colors.soft;
  c.textAlign = "right";
  for (const [value, text] of up) {
    c.globalAlpha = text ? 0.75 : 0.25;
    segment(c, left, area.sy(value), left + w, area.sy(value));
    c.globalAlpha = 1;
    if (text) c.fillText(text, left - 8, area.sy(value));
  }
  c.textAlign = "center";
  let end = -Infinity;
  for (const [value, text] of marks(x, Math.max(3, Math.round(w / 80)))) {
    const px = area.sx(value);
    if (!x.ticks) {
      c.globalAlpha = text ? 0.75 : 0.25;
      segment(c, px, top, px, bottom);
      c.globalAlpha = 1;
    }
    const shown = x.ticks ? cut(c, text, w / x.ticks.length - 4) : text, half = c.measureText(shown).width / 2;
    if (!shown || px - half < end + 4) continue; // a label that would touch the one before it
    c.fillText(shown, px, bottom + 14);
    end = px + half;
  }
  c.fillStyle = area.colors.ink;
  if (x.label) c.fillText(cut(c, x.label, width - 8), Math.min(left + w / 2, width - c.measureText(x.label).width / 2 - 4), height - 10);
  c.textAlign = "left";
  if (y.label) c.fillText(cut(c, y.label, width - 8), 2, 11);
  return area;
}

export function segment(c, x0, y0, x1, y1) {
  c.beginPath();
  c.moveTo(x0, y0);
  c.lineTo(x1, y1);
  c.stroke();
}

/** Text that fits into `room` pixels, shortened with an ellipsis. */
export function cut(c, text, room) {
  if (c.measureText(text).width <= room) return text;
  let shown = text;
  while (shown.length > 1 && c.measureText(`${shown}\u2026`).width > room) shown = shown.slice(0, -1);
  return shown.length > 1 ? `${shown}\u2026` : "";
}

/** Runs `draw` with everything outside the plane cut off. */
export function inside(area, draw) {
  const { c } = area;
  c.save();
  c.beginPath();
  c.rect(area.left, area.top - 4, area.w, area.v + 8);
  c.clip();
  draw(c);
  c.restore();
}

/** A line through the points (x[i], y[i]); it breaks where one is not finite. */
export function trace(area, x, y) {
  const { c } = area;
  let on = false;
  c.beginPath();
  for (let i = 0; i < x.length; i++) {
    if (!Number.isFinite(x[i]) || !Number.isFinite(y[i])) { on = false; continue; }
    if (on) c.lineTo(area.sx(x[i]), area.sy(y[i]));
    else c.moveTo(area.sx(x[i]), area.sy(y[i]));
    on = true;
  }
  c.stroke();
}

/** The band between low[i] and high[i], in runs of finite values. */
export function band(area, x, low, high) {
  const { c } = area;
  const whole = (i) => Number.isFinite(low[i]) && Number.isFinite(high[i]);
  for (let from = 0; from < x.length; from++) {
    if (!whole(from)) continue;
    let to = from;
    while (to + 1 < x.length && whole(to + 1)) to++;
    c.beginPath();
    for (let i = from; i <= to; i++) c.lineTo(area.sx(x[i]), area.sy(high[i]));
    for (let i = to; i >= from; i--) c.lineTo(area.sx(x[i]), area.sy(low[i]));
    c.fill();
    from = to;
  }
}

export function disc(c, px, py, r, filled = true) {
  c.beginPath();
  c.arc(px, py, r, 0, 7);
  if (filled) c.fill();
  else c.stroke();
}

const ORDER = [0, 1, 2, 3, 4, 5, 7, 6];
/** Colour and dashes of the i-th series: Okabe and Ito's, yellow last, black as the ink of the page; then dashed again. */
export function tone(root, i) {
  const k = ORDER[i % 8];
  return { color: k === 7 ? hue(root, "ink") : hue(root, `c${k}`), dash: [[], [7, 4], [2, 3]][Math.floor(i / 8) % 3] };
}

/** Heights near the wanted ones, at least `gap` apart and within [low, high]; the order of `wanted` is kept. */
export function apart(wanted, gap, low, high) {
  const order = wanted.map((_, i) => i).sort((a, b) => wanted[a] - wanted[b]);
  const placed = [...wanted];
  let least = low;
  for (const i of order) { placed[i] = Math.max(least, Math.min(wanted[i], high)); least = placed[i] + gap; }
  let most = high;
  for (const i of [...order].reverse()) { placed[i] = Math.min(most, placed[i]); most = placed[i] - gap; }
  return placed;
}

/** A tooltip of the plot: `show(px, py, ...children)` and `hide()`. */
export function tooltip(plot) {
  const box = h("div", { class: "tip", hidden: true });
  plot.append(box);
  return {
    show(px, py, ...children) {
      box.replaceChildren(...children);
      box.hidden = false;
      const beyond = px > plot.clientWidth / 2;
      box.style.left = beyond ? "auto" : `${px + 14}px`;
      box.style.right = beyond ? `${plot.clientWidth - px + 14}px` : "auto";
      box.style.top = `${Math.max(2, Math.min(plot.clientHeight - box.offsetHeight - 2, py - 18))}px`;
    },
    hide() { box.hidden = true; },
  };
}

/** Where in `canvas` an event happened, in CSS pixels. */
export function at(event, canvas) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

/** Buttons of which one is pressed: `set(value)` marks it. */
export function choice(label, options, pick) {
  const buttons = options.map(([value, text, title]) => h("button", { type: "button", value, text, title, onclick: () => pick(value) }));
  const box = h("div", { class: "switch", role: "group", "aria-label": label }, ...buttons);
  return { box, set(value) { for (const b of buttons) b.setAttribute("aria-pressed", String(b.value === value)); } };
}
