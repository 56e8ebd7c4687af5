// A scatter plot on canvas: dots with whiskers while they can be told apart, a shaded density above that.
import { hue, pen, rgb, ticks, whole } from "./_parts.js";

const EDGE = { left: 58, right: 14, top: 12, bottom: 46 };
const SPARSE = 6000; // above this many points a shaded density says more than dots
const WHISKERS = 1500; // above this many intervals nothing can be told apart

/** Limits of both axes, [x0, x1, y0, y1]: alike for values against values, even about zero for residuals. */
export function limits(at, residual) {
  let x0 = Infinity, x1 = -Infinity, y0 = Infinity, y1 = -Infinity;
  for (let i = 0; i < at.n; i++) {
    x0 = Math.min(x0, at.x[i]);
    x1 = Math.max(x1, at.x[i]);
    y0 = Math.min(y0, at.y[i]);
    y1 = Math.max(y1, at.y[i]);
  }
  if (!at.n) [x0, x1, y0, y1] = [0, 1, 0, 1];
  if (residual) {
    y1 = Math.max(Math.abs(y0), Math.abs(y1));
    y0 = -y1;
  } else {
    x0 = y0 = Math.min(x0, y0);
    x1 = y1 = Math.max(x1, y1);
  }
  const pad = (a, b) => { const d = (b - a || 1) * 0.045; return [a - d, b + d]; };
  return [...pad(x0, x1), ...pad(y0, y1)];
}

/** Draws the points and returns the plot's geometry: limits, and the way from values to pixels and back. */
export function scatter(canvas, root, width, at, look) {
  const height = Math.max(300, Math.min(452, width));
  const [x0, x1, y0, y1] = limits(at, look.residual);
  const w = width - EDGE.left - EDGE.right, v = height - EDGE.top - EDGE.bottom;
  const area = {
    width, height, w, v, x0, x1, y0, y1,
    sx: (x) => EDGE.left + ((x - x0) / (x1 - x0)) * w,
    sy: (y) => EDGE.top + ((y1 - y) / (y1 - y0)) * v,
    ix: (px) => x0 + ((px - EDGE.left) / w) * (x1 - x0),
    iy: (py) => y1 - ((py - EDGE.top) / v) * (y1 - y0),
  };
  const c = pen(canvas, width, height), { sx, sy } = area;
  const colors = Object.fromEntries(["ink", "soft", "line", "accent", "mark", "bg"].map((name) => [name, hue(root, name)]));
  c.font = `12px ${getComputedStyle(root).fontFamily}`;
  axes(c, area, look, colors);
  c.save();
  c.beginPath();
  c.rect(EDGE.left, EDGE.top, w, v);
  c.clip();
  if (at.n > SPARSE) shade(c, area, at, colors);
  else dots(c, area, at, look, colors);
  c.fillStyle = colors.mark;
  c.globalAlpha = look.bright.length > SPARSE ? 0.25 : 0.85;
  const size = at.n > SPARSE ? 1.5 : 3.2;
  for (const i of look.bright) {
    c.beginPath();
    c.arc(sx(at.x[i]), sy(at.y[i]), size, 0, 7);
    c.fill();
  }
  c.globalAlpha = 1;
  c.strokeStyle = colors.ink;
  c.setLineDash([5, 4]);
  c.lineWidth = 1.2;
  c.beginPath();
  if (look.residual) {
    c.moveTo(EDGE.left, sy(0));
    c.lineTo(EDGE.left + w, sy(0));
  } else {
    c.moveTo(sx(x0), sy(x0));
    c.lineTo(sx(x1), sy(x1));
  }
  c.stroke();
  c.restore();
  return area;
}

function axes(c, area, look, colors) {
  const { sx, sy, w, v } = area;
  const number = (value) => String(value).replace("-", "\u2212");
  c.textBaseline = "middle";
  c.strokeStyle = colors.line;
  c.fillStyle = colors.soft;
  for (const value of ticks(area.x0, area.x1)) {
    rule(c, sx(value), EDGE.top, sx(value), EDGE.top + v);
    c.textAlign = "center";
    c.fillText(number(value), sx(value), EDGE.top + v + 14);
  }
  for (const value of ticks(area.y0, area.y1)) {
    rule(c, EDGE.left, sy(value), EDGE.left + w, sy(value));
    c.textAlign = "right";
    c.fillText(number(value), EDGE.left - 8, sy(value));
  }
  c.fillStyle = colors.ink;
  c.textAlign = "center";
  c.fillText(look.residual ? `Predicted ${look.what}` : `Observed ${look.what}`, EDGE.left + w / 2, area.height - 12);
  c.save();
  c.translate(14, EDGE.top + v / 2);
  c.rotate(-Math.PI / 2);
  c.fillText(look.residual ? `Observed \u2212 predicted, ${look.unit}` : `Predicted ${look.what}`, 0, 0);
  c.restore();
}

function rule(c, x0, y0, x1, y1) {
  c.save();
  c.globalAlpha = 0.7;
  c.lineWidth = 1;
  c.beginPath();
  c.moveTo(x0, y0);
  c.lineTo(x1, y1);
  c.stroke();
  c.restore();
}

/** Filled dots, hollow where censored, with interval whiskers when `look.low` is given and they are few enough. */
function dots(c, area, at, look, colors) {
  const { sx, sy } = area, { low, high, observed, censored } = look;
  c.lineWidth = 1;
  c.strokeStyle = c.fillStyle = colors.accent;
  if (low && at.n <= WHISKERS) {
    c.globalAlpha = at.n > 300 ? 0.16 : 0.32;
    c.beginPath();
    for (let i = 0; i < at.n; i++) {
      const row = at.rows[i];
      if (!Number.isFinite(low[row]) || !Number.isFinite(high[row])) continue;
      const [a, b] = look.residual ? [observed[row] - high[row], observed[row] - low[row]] : [low[row], high[row]];
      c.moveTo(sx(at.x[i]), sy(a));
      c.lineTo(sx(at.x[i]), sy(b));
    }
    c.stroke();
  }
  c.globalAlpha = at.n > 2000 ? 0.4 : 0.72;
  for (let i = 0; i < at.n; i++) {
    c.beginPath();
    c.arc(sx(at.x[i]), sy(at.y[i]), 2.8, 0, 7);
    if (censored[at.rows[i]]) c.stroke();
    else c.fill();
  }
  c.globalAlpha = 1;
}

/** How many points fall into each cell of two by two pixels, on a logarithmic scale, with its legend. */
function shade(c, area, at, colors) {
  const cell = 2, across = Math.ceil(area.w / cell), down = Math.ceil(area.v / cell);
  const counts = new Uint32Array(across * down);
  const fx = across / (area.x1 - area.x0), fy = down / (area.y1 - area.y0);
  let top = 2;
  for (let i = 0; i < at.n; i++) {
    const cx = Math.floor((at.x[i] - area.x0) * fx), cy = Math.floor((area.y1 - at.y[i]) * fy);
    if (cx < 0 || cy < 0 || cx >= across || cy >= down) continue;
    top = Math.max(top, ++counts[cy * across + cx]);
  }
  const ground = rgb(colors.bg), full = rgb(colors.accent), deep = rgb(colors.ink);
  const mix = (a, b, f) => a.map((from, i) => from + (b[i] - from) * f);
  const pale = mix(ground, full, 0.28), dark = mix(full, deep, 0.75);
  const ramp = Array.from({ length: 256 }, (_, i) => (i < 153 ? mix(pale, full, i / 153) : mix(full, dark, (i - 153) / 102)));
  const image = new ImageData(across, down);
  for (let i = 0; i < counts.length; i++) {
    if (!counts[i]) continue;
    image.data.set(ramp[Math.round((255 * Math.log(counts[i])) / Math.log(top))], 4 * i);
    image.data[4 * i + 3] = 255;
  }
  const small = new OffscreenCanvas(across, down);
  small.getContext("2d").putImageData(image, 0, 0);
  c.imageSmoothingEnabled = false;
  c.drawImage(small, EDGE.left, EDGE.top, across * cell, down * cell);
  const bar = 84, left = EDGE.left + area.w - bar - 12, up = EDGE.top + area.v - 30;
  for (let i = 0; i < bar; i++) {
    c.fillStyle = `rgb(${ramp[Math.round((255 * i) / bar)].map(Math.round).join(" ")})`;
    c.fillRect(left + i, up, 1.5, 7);
  }
  c.fillStyle = colors.soft;
  c.textAlign = "left";
  c.fillText("1", left, up + 17);
  c.textAlign = "right";
  c.fillText(`${whole(top)} pairs`, left + bar, up + 17);
}
