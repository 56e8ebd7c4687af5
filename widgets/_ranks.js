// The critical-difference diagram of Demsar (2006), JMLR 7:1-30: entries at their mean ranks, bars join those not told apart.
import { cut } from "./_axes.js";
import { levels } from "./_compared.js";

let space = ""; // SVG's namespace, asked of the browser: no address stands in these scripts
const svg = (tag, props = {}, ...children) => {
  space ||= new DOMParser().parseFromString("<svg></svg>", "text/html").body.firstChild.namespaceURI;
  const node = document.createElementNS(space, tag);
  for (const [key, value] of Object.entries(props)) {
    if (key === "text") node.textContent = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
};
const STEP = 21, BAR = 9; // pixels from label to label, from bar to bar

/**
 * The diagram as an element, `width` pixels wide. `list` is [{name, rank, naive, entry}] best first, `bars` [[low, high]] in ranks,
 * `difference` the critical one or null; `mark(entry)` says what stands out.
 */
export function diagram({ root, width, list, bars, difference, marked, told }) {
  const pen = new OffscreenCanvas(1, 1).getContext("2d");
  pen.font = `600 12px ${getComputedStyle(root).fontFamily}`;
  const narrow = width < 560, most = list.length, worst = Math.max(most, Math.ceil(Math.max(2, ...list.map((r) => r.rank))));
  const split = narrow ? most : Math.ceil(most / 2);
  const needs = (some) => Math.min(narrow ? width * 0.52 : width * 0.37, Math.max(40, ...some.map((r) => pen.measureText(r.name).width + 52)));
  const room = needs(list.slice(0, split)), beyond = narrow ? 4 : needs(list.slice(split));
  const x0 = room + 12, x1 = width - beyond - 12, sx = (rank) => x0 + ((rank - 1) / Math.max(1, worst - 1)) * (x1 - x0);
  const axis = 52, high = levels(bars, 0.02), first = axis + 22 + BAR * (bars.length ? Math.max(...high) + 1 : 0);
  const rows = Math.max(split, most - split), height = first + STEP * rows + 4;
  const out = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": told, class: "ranks" });
  const every = Math.ceil((worst - 1) / Math.max(2, Math.floor((x1 - x0) / 34)));
  out.append(svg("line", { x1: x0, x2: x1, y1: axis, y2: axis, class: "axis" }));
  for (let rank = 1; rank <= worst; rank++) {
    const named = (rank - 1) % every === 0;
    out.append(svg("line", { x1: sx(rank), x2: sx(rank), y1: axis - (named ? 6 : 3), y2: axis, class: "axis" }));
    if (named) out.append(svg("text", { x: sx(rank), y: axis - 10, "text-anchor": "middle", class: "tick", text: String(rank) }));
  }
  if (difference) {
    const end = Math.min(sx(1 + difference), x1), cutOff = sx(1 + difference) > x1;
    for (const [a, b, c, d] of [[x0, 16, end, 16], [x0, 11, x0, 21], ...(cutOff ? [] : [[end, 11, end, 21]])]) out.append(svg("line", { x1: a, y1: b, x2: c, y2: d, class: "ruler" }));
    const say = `critical difference ${difference.toFixed(2)}`, beside = end + 8 + pen.measureText(say).width < width;
    out.append(svg("text", { x: beside ? end + 8 : width, y: beside ? 20 : 10, "text-anchor": beside ? "start" : "end", class: "tick", text: say }));
  }
  bars.forEach(([low, top], i) => {
    const y = axis + 12 + BAR * high[i];
    out.append(svg("line", { x1: sx(low) - 4, x2: sx(top) + 4, y1: y, y2: y, class: "joined" }));
  });
  list.forEach((row, i) => {
    const left = i < split, y = first + STEP * (left ? i : most - 1 - i) + STEP / 2, x = sx(row.rank), kind = `${row.naive ? "naive" : "model"}${marked.has(row.name) ? " on" : ""}`;
    const edge = left ? room : width - beyond, text = row.rank.toFixed(2);
    out.append(svg("polyline", { points: `${x},${axis} ${x},${y} ${edge},${y}`, class: `lead ${kind}` }), svg("circle", { cx: x, cy: axis, r: 3.5, class: `at ${kind}` }));
    const free = (left ? room : beyond) - pen.measureText(text).width - 16;
    const label = svg("text", { x: left ? room - 6 : width - beyond + 6, y: y + 4, "text-anchor": left ? "end" : "start", class: `name ${kind}` });
    const number = svg("tspan", { class: "rank", text }), name = svg("tspan", { text: cut(pen, row.name, free) });
    label.append(svg("title", { text: `${row.name}: mean rank ${text}` }), ...(left ? [name, " ", number] : [number, " ", name]));
    out.append(label);
  });
  return out;
}
