// Runs with a tick each: search, arrows, Space or Enter ticks. The packed header is described in _run_list.py.
import { h, listen, longList, plain, put, stage, unpack, whole } from "./_parts.js";
import { SHARED } from "./_axes.js";

const LIST_CSS = `
.wb-runs .tops input{flex:1 1 220px;width:auto;}
.wb-runs .row i{flex:none;width:15px;height:15px;border:1.5px solid var(--wb-soft);border-radius:3px;font:700 12px/13px system-ui;text-align:center;color:var(--wb-on-accent);}
.wb-runs .row[aria-selected=true] i{background:var(--wb-accent);border-color:var(--wb-accent);}
.wb-runs .row .more{margin-left:auto;flex:none;font-size:12px;color:var(--wb-soft);font-variant-numeric:tabular-nums;}
@container (max-width:520px){.wb-runs .row .more{display:none;}}
.wb-runs{container-type:inline-size;}
`;
const MOST = 200; // so many are ticked at once by the button

function render({ model, el }) {
  let runs = [], first = [], shown = [], ticks = new Set();
  const part = stage(el, "wb-runs", model.get("theme"), `${SHARED}${LIST_CSS}`, () => list?.draw());
  const send = () => put(model, { ticked: [...ticks].sort((a, b) => a - b) });
  const search = h("input", { type: "search", placeholder: "Find a run by name, date or id", "aria-label": "Find a run", oninput: () => filter() });
  const newest = h("button", { type: "button", text: "Newest of each experiment", onclick: () => { ticks = new Set(first); send(); } });
  const every = h("button", { type: "button", onclick: () => { ticks = new Set([...ticks, ...shown.slice(0, MOST)]); send(); } });
  const none = h("button", { type: "button", text: "None", onclick: () => { ticks = new Set(); send(); } });
  const said = h("span", { class: "soft small", role: "status" });
  const list = longList({
    label: "Runs; Space ticks", height: 164, multiple: true, picked: (i) => ticks.has(shown[i]),
    fill: (row, i) => { const run = runs[shown[i]]; row.title = run.name; row.append(h("i", { "aria-hidden": "true", text: ticks.has(shown[i]) ? "\u2713" : "" }), h("span", { class: "cut", text: run.name }), h("span", { class: "more", text: run.more })); },
    pick: (i) => { const run = shown[i]; if (ticks.has(run)) ticks.delete(run); else ticks.add(run); send(); },
  });
  part.root.append(h("div", { class: "tops" }, search, newest, every, none, said), list.box);

  function filter() {
    const words = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    shown = runs.map((_, i) => i).filter((i) => words.every((word) => `${runs[i].name} ${runs[i].more}`.toLowerCase().includes(word)));
    list.box.style.height = `${Math.max(32, Math.min(164, shown.length * 26 + 4))}px`;
    list.set(shown.length);
    tell();
  }
  function tell() {
    every.textContent = shown.length > MOST ? `The first ${MOST} listed` : `All ${whole(shown.length)} listed`;
    every.disabled = !shown.length;
    none.disabled = !ticks.size;
    newest.disabled = !first.length;
    said.textContent = runs.length ? `${whole(ticks.size)} of ${whole(runs.length)} ${runs.length === 1 ? "run" : "runs"} ticked${shown.length < runs.length ? `, ${whole(shown.length)} listed` : ""}` : "No runs here";
  }
  function load() {
    const header = unpack(model.get("frame_bytes"))?.header || { runs: [], first: [] };
    runs = header.runs;
    first = header.first;
    search.parentNode.hidden = !runs.length;
    follow();
    filter();
  }
  function follow() { ticks = new Set(plain(model.get("ticked"))); list.draw(); tell(); }

  const quiet = listen(model, { frame_bytes: load, ticked: follow });
  part.look();
  load();
  return () => { quiet(); part.close(); };
}

export default { render };
