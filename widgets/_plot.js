// jupyter-scatter driven from here: its script comes as bytes, its model is an object of ours, so Lab and Panel are alike.
import { unpack } from "./_parts.js";

const loaded = globalThis.__workbenchScatter ??= new Map(); // one script, however many widgets

/** The module of jupyter-scatter out of the packed trait `plot_bytes`, with its style and the defaults of its traits. */
export function library(value) {
  const { header, columns } = unpack(value);
  if (!loaded.has(header.digest)) {
    loaded.set(header.digest, (async () => {
      const text = await new Response(new Blob([columns.gz]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
      const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
      try { return (await import(/* @vite-ignore */ address)).default; } finally { URL.revokeObjectURL(address); }
    })());
  }
  return { css: header.css, traits: header.traits, module: loaded.get(header.digest) };
}

/** A model as jupyter-scatter expects one, of which the page is the only end; `told(name, value)` hears what it sets. */
export function inner(traits, told) {
  const values = { ...traits }, calls = new Map();
  const fire = (name) => { for (const call of [...(calls.get(`change:${name}`) || [])]) call(); };
  return {
    get: (name) => values[name],
    set(name, value) { values[name] = value; fire(name); told(name, value); },
    on(event, call) { calls.set(event, [...(calls.get(event) || []), call]); },
    off(event, call) { calls.set(event, (calls.get(event) || []).filter((other) => other !== call)); },
    save_changes() {},
    send() {},
    put(changed) { Object.assign(values, changed); for (const name of Object.keys(changed)) fire(name); },
  };
}

const boxed = (array, shape, dtype) => ({ view: new DataView(array.buffer), dtype, shape });

/** Points as jupyter-scatter takes them: x and y about the centre of a plot `wide` times as wide as high, and a colour's number. */
export function points(x, y, code, top, wide) {
  let x0 = Infinity, x1 = -Infinity, y0 = Infinity, y1 = -Infinity;
  for (let i = 0; i < x.length; i++) {
    if (x[i] < x0) x0 = x[i];
    if (x[i] > x1) x1 = x[i];
    if (y[i] < y0) y0 = y[i];
    if (y[i] > y1) y1 = y[i];
  }
  const cx = (x0 + x1) / 2, cy = (y0 + y1) / 2; // one unit of x is as long as one of y: distances can be compared
  const scale = 0.94 * Math.min((2 * wide) / (x1 - x0 || 1), 2 / (y1 - y0 || 1));
  const flat = new Float32Array(x.length * 4);
  for (let i = 0; i < x.length; i++) {
    flat[4 * i] = (x[i] - cx) * scale;
    flat[4 * i + 1] = (y[i] - cy) * scale;
    flat[4 * i + 2] = code[i] < 0 ? top : code[i]; // no value: the last colour, grey
  }
  return boxed(flat, [x.length, 4], "float32");
}

export const numbers = (list) => boxed(Uint32Array.from(list), [list.length], "uint32");

/** Row numbers that jupyter-scatter has set, as an Int32Array. */
export function rowsOf(value) {
  if (!value || !value.view) return Int32Array.from(value || []);
  return Int32Array.from(new Uint32Array(value.view.buffer, value.view.byteOffset, value.view.byteLength / 4));
}

/** `count` colours between the given ones, as [r, g, b, 1] from 0 to 1. */
export function ramp(stops, count) {
  const known = stops.map(parts);
  return Array.from({ length: count }, (_, i) => {
    const at = (i / (count - 1)) * (known.length - 1), k = Math.min(known.length - 2, Math.floor(at)), f = at - k;
    return known[k].map((v, c) => v + (known[k + 1][c] - v) * f);
  });
}

/** "#0072B2" as [r, g, b, 1] from 0 to 1. */
export const parts = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255).concat(1);
export const css = (color) => `rgb(${color.slice(0, 3).map((v) => Math.round(255 * v)).join(" ")})`;
