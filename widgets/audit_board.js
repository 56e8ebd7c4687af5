// Findings of the checks, worst first, those of one check together: what, where, how sure, what to do. The packed columns are described in audit_board.py.
import { h, listen, plain, put, stage, unpack, whole } from "./_parts.js";
import { SHARED, choice } from "./_axes.js";

const AUDIT_CSS = `
.wb-audit{container-type:inline-size;}
.wb-audit .counts{display:flex;flex-wrap:wrap;gap:8px;margin-bottom:12px;}
.wb-audit .counts button{display:flex;flex-direction:column;align-items:flex-start;flex:1 1 130px;padding:8px 12px;border-left-width:5px;text-align:left;}
.wb-audit .counts b{font-size:22px;font-weight:600;line-height:1.15;font-variant-numeric:tabular-nums;}
.wb-audit .is-error{border-left-color:var(--wb-mark)!important;}
.wb-audit .is-warning{border-left-color:var(--wb-warn)!important;}
.wb-audit .is-note{border-left-color:var(--wb-accent)!important;}
.wb-audit .finding{border:1px solid var(--wb-line);border-left-width:5px;border-radius:4px;padding:9px 12px;margin-bottom:8px;
display:grid;grid-template-columns:minmax(0,1fr) 190px;gap:4px 20px;}
.wb-audit .finding.on{background:var(--wb-tint);}
.wb-audit .finding h4{font-size:13px;color:var(--wb-ink);margin:0;overflow-wrap:anywhere;}
.wb-audit .finding p{overflow-wrap:anywhere;max-width:90ch;}
.wb-audit .kind{font-weight:600;}
.wb-audit .sure{font-size:12px;}
.wb-audit .who{margin-top:6px;width:100%;}
.wb-audit .do{grid-column:1/-1;}
.wb-audit .group{border:1px solid var(--wb-line);border-left-width:5px;border-radius:4px;margin-bottom:8px;}
.wb-audit .group>.lead{display:grid;grid-template-columns:minmax(0,1fr) 190px;gap:4px 20px;padding:9px 12px;align-items:start;}
.wb-audit .group.on>.lead{background:var(--wb-tint);}
.wb-audit .group .fold{border:0;background:none;padding:0;min-height:24px;text-align:left;font-weight:600;overflow-wrap:anywhere;}
.wb-audit .group .fold i{display:inline-block;width:16px;font-style:normal;color:var(--wb-soft);}
.wb-audit .group .inner{padding:0 12px 6px 22px;}
.wb-audit .group .lead p{padding-left:16px;}
.wb-audit .do b{font-weight:600;}
.wb-audit .clean{padding:26px 18px;text-align:center;border:1px solid var(--wb-good);border-radius:4px;}
.wb-audit .clean b{display:block;font-size:16px;}
@container (max-width:600px){.wb-audit .finding,.wb-audit .group>.lead{grid-template-columns:1fr;}}
`;
const PAGE = 60; // findings drawn at once
const FEW = 6; // so many findings are read without folding
/** Value, meaning and class; a page around the widget may have rules of its own for a class called "error". */
const KINDS = [["error", "do not train on it", "is-error"], ["warning", "look first", "is-warning"], ["note", "know it", "is-note"]];
const SORTS = {
  severity: () => 0, // as they came: worst first
  certainty: (a, b) => b.confidence - a.confidence,
  concerned: (a, b) => b.n - a.n,
};
const words = (name) => name.replaceAll("_", " ");
const count = (n, one) => `${whole(n)} ${one}${n === 1 ? "" : "s"}`;

/** Findings of one check and severity together, in the order in which the first of each comes. */
export function grouped(findings) {
  const groups = new Map();
  for (const finding of findings) {
    const key = JSON.stringify([finding.severity, finding.check]);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(finding);
  }
  return [...groups].map(([key, members]) => ({ key, members }));
}

function render({ model, el }) {
  let frame = null, sorting = "severity";
  const turned = new Map(), most = new Map(); // of a group: was it opened or closed by hand, how many of it are drawn
  const part = stage(el, "wb-audit", model.get("theme"), `${SHARED}${AUDIT_CSS}`, () => {});
  const heading = h("h3", {}), note = h("p", { class: "note" });
  const families = h("select", { "aria-label": "Family of checks", onchange: () => put(model, { family: families.value }) });
  const familyLabel = h("label", {}, h("span", { class: "soft", text: "Family" }), families);
  const order = choice("Sort by", [["severity", "Worst first"], ["certainty", "Surest first"], ["concerned", "Most concerned first"]], (value) => { sorting = value; refresh(); });
  const tiles = KINDS.map(([value, meaning, kind]) => {
    const number = h("b", {}), noun = h("span", {});
    const box = h("button", { type: "button", class: kind, onclick: () => put(model, { severity: model.get("severity") === value ? "" : value }) },
      number, noun, h("span", { class: "soft small", text: meaning }));
    return { value, number, noun, box };
  });
  const counts = h("div", { class: "counts", role: "group", "aria-label": "Severity: press one to see only it" }, ...tiles.map((tile) => tile.box));
  const said = h("p", { class: "soft small", role: "status", style: { flex: "1 1 200px" } });
  const list = h("div", { role: "list" }), clean = h("div", { class: "clean" });
  const all = h("button", { type: "button", onclick: () => { const open = all.value === "open"; for (const { key } of groups()) turned.set(key, open); refresh(); } });
  const ran = h("details", {}), checks = h("p", { class: "soft small" });
  ran.append(h("summary", { class: "small" }), checks);
  part.root.append(h("div", { class: "tops" }, heading, familyLabel, order.box), note, counts, h("div", { class: "tops" }, said, all), list, clean, ran);

  function load() {
    frame = unpack(model.get("frame_bytes"));
    heading.textContent = model.get("title") || "What the checks found";
    note.textContent = model.get("note");
    note.hidden = !model.get("note");
    if (!frame) return;
    const { findings, checks: run } = frame.header;
    const known = [...new Set(findings.map((f) => f.family))].sort();
    families.replaceChildren(h("option", { value: "", text: "all families" }), ...known.map((name) => h("option", { value: name, text: words(name) })));
    familyLabel.hidden = known.length < 2;
    order.box.hidden = findings.length < 2;
    counts.hidden = !findings.length;
    clean.hidden = Boolean(findings.length);
    clean.replaceChildren(h("b", { text: run.length ? "Nothing found" : "Nothing was checked" }),
      h("span", { text: run.length ? `${count(run.length, "check")} run, none of them found anything.` : "No check has been run on this study yet." }));
    ran.hidden = !run.length;
    ran.firstChild.textContent = `${count(run.length, "check")} run`;
    checks.textContent = run.map((c) => (c.family ? `${words(c.family)}: ${c.check}` : c.check)).join(" \u00b7 ");
    refresh();
  }

  function passing() {
    const family = model.get("family"), severity = model.get("severity");
    const shown = frame.header.findings.filter((f) => (!family || f.family === family) && (!severity || f.severity === severity));
    return sorting === "severity" ? shown : shown.sort(SORTS[sorting]);
  }
  const groups = () => grouped(passing());
  const isOpen = (key) => turned.get(key) ?? frame.header.findings.length <= FEW;

  function refresh() {
    if (!frame) return;
    const { findings } = frame.header, family = model.get("family"), severity = model.get("severity");
    families.value = family;
    order.set(sorting);
    for (const tile of tiles) {
      const n = findings.filter((f) => f.severity === tile.value && (!family || f.family === family)).length;
      tile.number.textContent = whole(n);
      tile.noun.textContent = n === 1 ? tile.value : `${tile.value}s`;
      tile.box.setAttribute("aria-pressed", String(severity === tile.value));
    }
    const shown = passing(), heaps = grouped(shown), folded = heaps.filter(({ members }) => members.length > 1);
    const told = shown.length === findings.length ? `All ${count(shown.length, "finding")}` : `${whole(shown.length)} of ${count(findings.length, "finding")}`;
    said.textContent = !findings.length ? "" : !shown.length ? `${told}: loosen the family or the severity`
      : folded.length ? `${told}, under ${count(heaps.length, "heading")}` : told;
    const closed = folded.some(({ key }) => !isOpen(key));
    Object.assign(all, { hidden: !folded.length, value: closed ? "open" : "close", textContent: closed ? "Open all" : "Close all" });
    const holder = part.root.getRootNode().activeElement, held = holder?.dataset?.key;
    list.replaceChildren(...heaps.map((heap) => (heap.members.length > 1 ? group(heap) : card(heap.members[0]))));
    // whoever pressed a key stays where they were
    if (held) [...list.querySelectorAll("button")].find((button) => button.dataset.key === held)?.focus();
  }

  function subjects(finding) {
    const i = frame.header.findings.indexOf(finding), { start, concerned } = frame.columns;
    return [...concerned.subarray(start[i], start[i + 1])].map((s) => frame.header.subjects[s]);
  }
  const title = (finding) => h("span", { class: "kind", text: `${finding.severity[0].toUpperCase()}${finding.severity.slice(1)}: ` });
  const kindOf = (finding) => KINDS.find(([value]) => value === finding.severity)[2];

  /** The button that selects who is concerned, or nothing where nobody is; and whether they are selected. */
  function picker(who, key) {
    const chosen = new Set(plain(model.get("selected")));
    const on = who.length > 0 && who.length === chosen.size && who.every((name) => chosen.has(name));
    return { on, button: who.length ? h("button", {
      type: "button", class: "who", "aria-pressed": String(on), "data-key": key,
      text: `${on ? "Selected: " : "Select "}${count(who.length, frame.header.noun || "subject")}`,
      onclick: () => put(model, { selected: on ? [] : who }),
    }) : "" };
  }

  function group({ key, members }) {
    const open = isOpen(key), limit = most.get(key) || PAGE, first = members[0];
    const pick = picker([...new Set(members.flatMap(subjects))], `who ${key}`);
    const fold = h("button", { type: "button", class: "fold", "aria-expanded": String(open), "data-key": `fold ${key}`, onclick: () => { turned.set(key, !open); refresh(); } },
      h("i", { "aria-hidden": "true", text: open ? "\u25be" : "\u25b8" }), title(first), `${first.check}, ${count(members.length, "finding")}`);
    const inner = h("div", { class: "inner", role: "list" }, ...(open ? members.slice(0, limit).map(card) : []));
    if (open && members.length > limit) {
      inner.append(h("button", { type: "button", "data-key": `more ${key}`, text: `Show more: ${whole(members.length - limit)} are left`,
        onclick: () => { most.set(key, limit + 5 * PAGE); refresh(); } }));
    }
    const sure = members.map((f) => Math.round(100 * f.confidence)), [low, high] = [Math.min(...sure), Math.max(...sure)];
    return h("div", { class: `group ${kindOf(first)}${pick.on ? " on" : ""}`, role: "listitem" },
      h("div", { class: "lead" }, h("div", {}, fold, open ? "" : h("p", {}, h("span", { class: "soft", text: "Such as: " }), first.what)),
        h("div", { class: "sure" }, h("span", { text: low === high ? `${low} % sure` : `${low} to ${high} % sure` }), pick.button)),
      inner);
  }

  function card(finding) {
    const sure = Math.round(100 * finding.confidence);
    const pick = picker(subjects(finding), `finding ${frame.header.findings.indexOf(finding)}`);
    const names = finding.names.slice(0, 6).join(", ") + (finding.names.length > 6 ? " \u2026" : "");
    return h("div", { class: `finding ${kindOf(finding)}${pick.on ? " on" : ""}`, role: "listitem" },
      h("div", {}, h("h4", {}, title(finding), finding.check),
        h("p", { text: finding.what }),
        h("p", { class: "soft small", text: [finding.where, `family ${words(finding.family)}`, names].filter(Boolean).join(" \u00b7 ") })),
      h("div", { class: "sure" }, h("span", { text: `${sure} % sure` }), h("span", { class: "soft", text: ` \u00b7 ${whole(finding.n)} concerned` }),
        h("div", { class: "bar", role: "img", "aria-label": `${sure} % sure` }, h("i", { style: { width: `${sure}%` } })), pick.button),
      h("p", { class: "do" }, h("b", { text: "Do: " }), finding.do));
  }

  const quiet = listen(model, { frame_bytes: load, title: load, note: load, family: refresh, severity: refresh, selected: refresh });
  part.look();
  load();
  return () => { quiet(); part.close(); };
}

export default { render };
