// Choose, start, watch, stop. The work is done elsewhere; this shows what it reports.
import { fixed, h, hue, listen, pen, plain, put, stage, ticks, unpack, whole } from "./_parts.js";

/** "about 2 min 5 s", "about 12 s": rounded as far as a guess deserves. */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s >= 5400) return `${fixed(s / 3600, 1)} h`;
  if (s >= 600) return `${Math.round(s / 60)} min`;
  return s >= 60 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${s} s`;
}

/** The address if a browser may open it as a link, else "". */
export function safe(url) {
  try { return ["http:", "https:"].includes(new URL(url).protocol) ? url : ""; } catch { return ""; }
}

/** Curves that share an axis: losses in one picture, everything else by its last word; a unit may follow a comma. */
export function pictures(names) {
  const found = new Map();
  names.forEach((name, k) => {
    const words = name.split(",")[0].trim().split(/\s+/), key = (words[words.length - 1] || "").toLowerCase();
    found.set(key, [...(found.get(key) || []), k]);
  });
  return [...found.values()].slice(0, 4);
}

const CSS = `
.wb-training{container-type:inline-size;}
.wb-training .cols{display:grid;grid-template-columns:270px minmax(0,1fr);gap:28px;margin-top:12px;}
.wb-training .cols>div{min-width:0;}
.wb-training label.field{display:block;margin-bottom:11px;}
.wb-training label.field span{display:block;font-size:12px;font-weight:600;color:var(--wb-soft);margin-bottom:3px;}
.wb-training label.field select{width:100%;}
.wb-training fieldset{border:0;margin:0 0 14px;padding:0;min-width:0;}
.wb-training legend{font-size:12px;font-weight:600;color:var(--wb-soft);padding:0;margin-bottom:3px;}
.wb-training label.tick{display:flex;gap:8px;align-items:center;min-height:26px;}
.wb-training label.tick.off{opacity:.5;}
.wb-training input[type=checkbox]{accent-color:var(--wb-accent);width:15px;height:15px;margin:0;flex:none;}
.wb-training .go{display:flex;gap:8px;}
.wb-training .go button{flex:1;min-height:32px;}
.wb-training .now{display:flex;flex-wrap:wrap;justify-content:space-between;gap:2px 16px;margin-bottom:6px;}
.wb-training .now b{font-weight:600;}
.wb-training .now span,.wb-training .now b{overflow-wrap:anywhere;min-width:0;}
.wb-training .bar{height:10px;border-radius:5px;}
.wb-training .bar>i{transition:width .25s;}
.wb-training .bar[data-state=failed]>i{background:var(--wb-error);}
.wb-training .bar[data-state=stopped]>i{background:var(--wb-soft);}
.wb-training .bar[data-state=done]>i{background:var(--wb-good);}
.wb-training .error{margin-top:12px;padding:9px 12px;border-left:4px solid var(--wb-error);border-radius:3px;background:color-mix(in srgb,var(--wb-error) 10%,transparent);
white-space:pre-wrap;overflow-wrap:anywhere;font-family:var(--jp-code-font-family,ui-monospace,monospace);font-size:12px;max-height:170px;overflow:auto;}
.wb-training .curves{display:flex;flex-wrap:wrap;gap:12px 22px;margin-top:14px;}
.wb-training .curves figure{margin:0;flex:1 1 280px;min-width:0;}
.wb-training figcaption{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:12px;margin-bottom:3px;}
.wb-training figcaption span{display:flex;gap:6px;align-items:center;min-width:0;overflow-wrap:anywhere;}
.wb-training figcaption i{width:14px;height:3px;border-radius:2px;flex:none;}
.wb-training table{border-collapse:collapse;margin-top:14px;width:100%;max-width:640px;}
.wb-training th{font-size:12px;color:var(--wb-soft);font-weight:600;}
.wb-training th,.wb-training td{text-align:left;padding:4px 14px 4px 0;border-bottom:1px solid var(--wb-line);overflow-wrap:anywhere;}
.wb-training td.num,.wb-training th.num{text-align:right;}
.wb-training td.value{font-weight:600;}
.wb-training .message{margin-top:5px;overflow-wrap:anywhere;}
.wb-training .link{margin-top:12px;overflow-wrap:anywhere;}
.wb-training a{color:var(--wb-accent);}
.wb-training .wait{padding:44px 20px;border:1px dashed var(--wb-line);border-radius:5px;margin-top:14px;}
@container (max-width:700px){.wb-training .cols{grid-template-columns:1fr;}}
`;
const SAY = {
  idle: "Ready", running: "Training", stopping: "Stopping at the next safe moment", done: "Done", stopped: "Stopped", failed: "Failed",
};

function render({ model, el }) {
  let curves = null, heard = performance.now();
  const part = stage(el, "wb-training", model.get("theme"), CSS, () => draw());
  const choice = () => plain(model.get("choice") || {}), options = () => plain(model.get("options") || {});
  const busy = () => ["running", "stopping"].includes(model.get("state"));
  const choose = (changed) => put(model, { choice: { ...choice(), ...changed } });
  const ask = (verb) => put(model, { request: { verb, n: Date.now() + Math.random() } });

  const heading = h("h3", {});
  const picks = [["study", "studies", "Study"], ["predictor", "predictors", "Predictor"], ["split", "splits", "Split: what the test has not seen"]].map(([name, plural, text]) => {
    const select = h("select", { onchange: () => choose(name === "predictor" ? { predictor: select.value, modalities: [...wanted] } : { [name]: select.value }) });
    return { name, plural, select, box: h("label", { class: "field" }, h("span", { text }), select) };
  });
  let wanted = null; // what is ticked, also while a predictor that cannot use it is picked
  const ticked = h("div", {});
  const fields = h("fieldset", {}, h("legend", { text: "Modalities" }), ticked);
  const start = h("button", { type: "button", class: "main", text: "Start", onclick: () => ask("start") });
  const stop = h("button", { type: "button", text: "Stop", onclick: () => ask("stop") });
  const said = h("b", { role: "status" }), left = h("span", { class: "soft num" }), message = h("p", { class: "soft message" });
  const fill = h("i", {});
  const bar = h("div", { class: "bar", role: "progressbar", "aria-label": "Progress of the training", "aria-valuemin": "0", "aria-valuemax": "100" }, fill);
  const error = h("div", { class: "error", role: "alert", hidden: true });
  const figures = h("div", { class: "curves" });
  const end = h("div", {});
  const wait = h("div", { class: "empty wait" });
  const empty = h("div", { class: "empty", hidden: true, text: "No predictor to train. The panel was given no predictors or no splits." });
  const cols = h("div", { class: "cols" }, h("div", {}, ...picks.map((p) => p.box), fields, h("div", { class: "go" }, start, stop)),
    h("div", {}, h("div", { class: "now" }, said, left), bar, message, error, wait, end, figures));
  part.root.append(heading, cols, empty);

  function form() {
    const offered = options(), picked = choice();
    heading.textContent = model.get("title") || "Train a predictor";
    const nothing = !offered.predictors?.length || !offered.splits?.length;
    cols.hidden = nothing;
    empty.hidden = !nothing;
    for (const p of picks) {
      const names = offered[p.plural] || [];
      p.box.hidden = !names.length;
      p.select.replaceChildren(...names.map((name) => h("option", { value: name, text: name })));
      p.select.value = picked[p.name] || "";
      p.select.disabled = busy();
    }
    const can = (offered.uses || {})[picked.predictor] || offered.modalities || [];
    fields.hidden = !(offered.modalities || []).length;
    wanted ??= new Set(offered.modalities || []);
    for (const name of can) if ((picked.modalities || []).includes(name)) wanted.add(name); else wanted.delete(name);
    const focused = ticked.contains(part.root.getRootNode().activeElement) ? part.root.getRootNode().activeElement.value : null;
    ticked.replaceChildren(...(offered.modalities || []).map((name) => {
      const usable = can.includes(name);
      const box = h("input", { type: "checkbox", value: name, onchange: () => {
        if (box.checked) wanted.add(name); else wanted.delete(name);
        choose({ modalities: [...wanted] });
      } });
      box.checked = (picked.modalities || []).includes(name);
      box.disabled = busy() || !usable;
      return h("label", { class: usable ? "tick" : "tick off" }, box, h("span", { text: usable ? name : `${name} (not used)` }));
    }));
    if (focused !== null) [...ticked.querySelectorAll("input")].find((box) => box.value === focused)?.focus();
    start.disabled = busy();
    stop.disabled = model.get("state") !== "running";
  }

  function clock() {
    const { seconds_left: guess, elapsed = 0 } = plain(model.get("progress") || {});
    const since = busy() ? (performance.now() - heard) / 1000 : 0;
    const parts = [];
    if (model.get("state") !== "idle") parts.push(busy() ? `${duration(elapsed + since)} so far` : `took ${duration(elapsed)}`);
    if (busy() && guess !== null && guess !== undefined) parts.push(guess - since > 1 ? `about ${duration(guess - since)} left` : "almost done");
    left.textContent = parts.join(", ");
  }

  function progress() {
    const { fraction = 0, message: text = "" } = plain(model.get("progress") || {}), state = model.get("state");
    heard = performance.now();
    const percent = Math.round(100 * fraction);
    fill.style.width = `${percent}%`;
    bar.dataset.state = state;
    bar.setAttribute("aria-valuenow", String(percent));
    said.textContent = busy() || state === "stopped" ? `${SAY[state]}, ${percent} %` : SAY[state];
    message.textContent = text;
    wait.hidden = Boolean(model.get("curve_bytes")?.byteLength) || ["done", "failed", "stopped"].includes(state);
    wait.textContent = busy() ? "Curves appear with the first reports." : "Choose on the left, then Start. Progress, learning curves and the score appear here.";
    clock();
  }

  function finish() {
    const result = plain(model.get("result") || {}), scores = result.scores || [];
    error.hidden = !model.get("error");
    error.textContent = model.get("error");
    end.replaceChildren();
    if (scores.length) {
      const head = ["Metric", "Value", "95 % interval", "Naive", "Best naive predictor"].map((text, i) => h("th", { scope: "col", class: i && i < 4 ? "num" : null, text }));
      const body = scores.map((s) => h("tr", {}, h("td", { text: s.unit ? `${s.metric}, ${s.unit.replace("uM", "\u00b5M")}` : s.metric }), h("td", { class: "num value", text: fixed(s.value ?? NaN, 3) }),
        h("td", { class: "num soft", text: s.low === null || s.high === null ? "\u2013" : `${fixed(s.low, 3)} to ${fixed(s.high, 3)}` }),
        h("td", { class: "num", text: fixed(s.naive ?? NaN, 3) }), h("td", { class: "soft", text: s.naive_predictor || "\u2013" })));
      end.append(h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...body)));
    }
    const address = safe(result.url), name = result.run || "this run";
    if (address) end.append(h("p", { class: "link" }, h("a", { href: address, target: "_blank", rel: "noopener noreferrer", text: `Open ${name} in MLflow` })));
    else if (result.run) end.append(h("p", { class: "link", text: `Run: ${result.run}` }));
  }

  function curve() {
    curves = unpack(model.get("curve_bytes"));
    draw();
  }

  function draw() {
    if (!curves) { figures.replaceChildren(); return; }
    const { header, columns } = curves, groups = pictures(header.names);
    while (figures.children.length > groups.length) figures.lastChild.remove();
    while (figures.children.length < groups.length) figures.append(h("figure", {}, h("figcaption", {}), h("canvas", { role: "img" })));
    groups.forEach((group, g) => {
      const figure = figures.children[g], [caption, canvas] = figure.children;
      const lines = group.map((k) => ({ name: header.names[k], color: hue(part.root, ["accent", "mark", "good", "c5", "c4", "c6"][k % 6]), x: columns[`step.${k}`], y: columns[`value.${k}`] }));
      caption.replaceChildren(...lines.map((l) => h("span", {}, h("i", { style: { background: l.color } }), h("span", { text: l.name }), h("b", { class: "num", text: fixed(l.y[l.y.length - 1], 3) }))));
      canvas.setAttribute("aria-label", lines.map((l) => `${l.name}: ${l.y.length} points, last ${fixed(l.y[l.y.length - 1], 3)}`).join("; "));
      plot(canvas, Math.max(220, figure.clientWidth), 210, lines);
    });
  }

  function plot(canvas, width, height, lines) {
    const c = pen(canvas, width, height), edge = { left: 46, right: 24, top: 8, bottom: 34 };
    const xs = lines.flatMap((l) => [l.x[0], l.x[l.x.length - 1]]);
    const ys = lines.flatMap((l) => [...l.y]).filter(Number.isFinite).sort((a, b) => a - b);
    if (!ys.length) return;
    const x0 = Math.min(...xs), x1 = Math.max(...xs, x0 + 1);
    // the first steps can be huge and would flatten all that follows
    const most = ys[Math.floor(0.98 * (ys.length - 1))];
    let y0 = ys[0], y1 = ys[ys.length - 1];
    if (ys.length > 30 && y1 - most > 2 * (most - y0)) y1 = most;
    const pad = (y1 - y0 || Math.abs(y1) || 1) * 0.06;
    y0 -= pad; y1 += pad;
    const w = width - edge.left - edge.right, v = height - edge.top - edge.bottom;
    const sx = (x) => edge.left + ((x - x0) / (x1 - x0)) * w, sy = (y) => edge.top + ((y1 - y) / (y1 - y0)) * v;
    c.font = `11px ${getComputedStyle(part.root).fontFamily}`;
    c.textBaseline = "middle"; c.fillStyle = hue(part.root, "soft"); c.strokeStyle = hue(part.root, "line"); c.lineWidth = 1;
    for (const value of ticks(y0, y1, 4)) {
      c.beginPath(); c.moveTo(edge.left, sy(value)); c.lineTo(edge.left + w, sy(value)); c.stroke();
      c.textAlign = "right"; c.fillText(String(value).replace("-", "\u2212"), edge.left - 7, sy(value));
    }
    c.textAlign = "center";
    for (const value of ticks(x0, x1, 5)) if (Number.isInteger(value)) c.fillText(whole(value), sx(value), edge.top + v + 11);
    c.fillStyle = hue(part.root, "ink"); c.fillText("step", edge.left + w / 2, height - 7);
    c.save(); c.beginPath(); c.rect(edge.left, edge.top, w, v); c.clip();
    c.lineWidth = 1.8; c.lineJoin = "round";
    for (const l of lines) {
      c.strokeStyle = c.fillStyle = l.color; c.beginPath();
      for (let i = 0; i < l.x.length; i++) if (i) c.lineTo(sx(l.x[i]), sy(l.y[i])); else c.moveTo(sx(l.x[i]), sy(l.y[i]));
      c.stroke();
      if (l.x.length <= 40) for (let i = 0; i < l.x.length; i++) { c.beginPath(); c.arc(sx(l.x[i]), sy(l.y[i]), 2.4, 0, 7); c.fill(); }
    }
    c.restore();
  }

  const all = () => { form(); progress(); finish(); };
  const quiet = listen(model, { title: form, options: form, choice: form, state: all, progress, curve_bytes: () => { curve(); progress(); }, result: finish, error: finish });
  const beat = setInterval(() => { if (busy()) clock(); }, 1000);
  part.look();
  all();
  curve();
  return () => { clearInterval(beat); quiet(); part.close(); };
}

export default { render };
