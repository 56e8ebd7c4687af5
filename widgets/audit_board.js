// Findings of the checks, worst first: what, where, how sure, what to do. The packed columns are described in audit_board.py.
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
.wb-audit .do b{font-weight:600;}
.wb-audit .clean{padding:26px 18px;text-align:center;border:1px solid var(--wb-good);border-radius:4px;}
.wb-audit .clean b{display:block;font-size:16px;}
@container (max-width:600px){.wb-audit .finding{grid-template-columns:1fr;}}
`;
const PAGE = 60; // findings drawn at once
/** Value, meaning and class; a page around the widget may have rules of its own for a class called "error". */
const KINDS = [["error", "do not train on it", "is-error"], ["warning", "look first", "is-warning"], ["note", "know it", "is-note"]];
const SORTS = {
  severity: () => 0, // as they came: worst first
  certainty: (a, b) => b.confidence - a.confidence,
  concerned: (a, b) => b.n - a.n,
};

function render({ model, el }) {
  let frame = null, sorting = "severity", most = PAGE;
  const part = stage(el, "wb-audit", model.get("theme"), `${SHARED}${AUDIT_CSS}`, () => {});
  const heading = h("h3", {}), note = h("p", { class: "note" });
  const families = h("select", { "aria-label": "Family of checks", onchange: () => put(model, { family: families.value }) });
  const familyLabel = h("label", {}, h("span", { class: "soft", text: "Family" }), families);
  const order = choice("Sort by", [["severity", "Worst first"], ["certainty", "Surest first"], ["concerned", "Most concerned first"]], (value) => { sorting = value; refresh(); });
  const tiles = KINDS.map(([value, meaning, kind]) => {
    const count = h("b", {}), words = h("span", {});
    const box = h("button", { type: "button", class: kind, onclick: () => put(model, { severity: model.get("severity") === value ? "" : value }) },
      count, words, h("span", { class: "soft small", text: meaning }));
    return { value, count, words, box };
  });
  const counts = h("div", { class: "counts", role: "group", "aria-label": "Severity: press one to see only it" }, ...tiles.map((tile) => tile.box));
  const said = h("p", { class: "soft small", role: "status", style: { marginBottom: "8px" } });
  const list = h("div", { role: "list" }), clean = h("div", { class: "clean" });
  const further = h("button", { type: "button", onclick: () => { most += 5 * PAGE; refresh(); } });
  const ran = h("details", {}), checks = h("p", { class: "soft small" });
  ran.append(h("summary", { class: "small" }), checks);
  part.root.append(h("div", { class: "tops" }, heading, familyLabel, order.box), note, counts, said, list, further, clean, ran);

  function load() {
    frame = unpack(model.get("frame_bytes"));
    heading.textContent = model.get("title") || "What the checks found";
    note.textContent = model.get("note");
    note.hidden = !model.get("note");
    if (!frame) return;
    const { findings, checks: run } = frame.header;
    const known = [...new Set(findings.map((f) => f.family))].sort();
    families.replaceChildren(h("option", { value: "", text: "all families" }), ...known.map((name) => h("option", { value: name, text: name })));
    familyLabel.hidden = known.length < 2;
    order.box.hidden = findings.length < 2;
    counts.hidden = !findings.length;
    clean.hidden = Boolean(findings.length);
    clean.replaceChildren(h("b", { text: run.length ? "Nothing found" : "Nothing was checked" }),
      h("span", { text: run.length ? `${whole(run.length)} ${run.length === 1 ? "check" : "checks"} run, none of them found anything.` : "No check has been run on this study yet." }));
    ran.hidden = !run.length;
    ran.firstChild.textContent = `${whole(run.length)} ${run.length === 1 ? "check" : "checks"} run`;
    checks.textContent = run.map((c) => (c.family ? `${c.family}: ${c.check}` : c.check)).join(" \u00b7 ");
    refresh();
  }

  function refresh() {
    if (!frame) return;
    const { findings } = frame.header, family = model.get("family"), severity = model.get("severity");
    families.value = family;
    order.set(sorting);
    const ours = findings.filter((f) => !family || f.family === family);
    for (const tile of tiles) {
      const n = ours.filter((f) => f.severity === tile.value).length;
      tile.count.textContent = whole(n);
      tile.words.textContent = n === 1 ? tile.value : `${tile.value}s`;
      tile.box.setAttribute("aria-pressed", String(severity === tile.value));
    }
    const shown = ours.filter((f) => !severity || f.severity === severity);
    if (sorting !== "severity") shown.sort(SORTS[sorting]);
    said.textContent = !findings.length ? "" : shown.length === findings.length ? `All ${whole(shown.length)} findings`
      : `${whole(shown.length)} of ${whole(findings.length)} findings${shown.length ? "" : ": loosen the family or the severity"}`;
    const holder = part.root.getRootNode().activeElement, held = [...list.querySelectorAll("button")].indexOf(holder);
    list.replaceChildren(...shown.slice(0, most).map((finding) => card(finding)));
    if (held >= 0) list.querySelectorAll("button")[held]?.focus(); // whoever pressed a key stays where they were
    further.hidden = shown.length <= most;
    further.textContent = `Show more: ${whole(shown.length - most)} are left`;
  }

  function subjects(finding) {
    const i = frame.header.findings.indexOf(finding), { start, concerned } = frame.columns;
    return [...concerned.subarray(start[i], start[i + 1])].map((s) => frame.header.subjects[s]);
  }

  function card(finding) {
    const kind = KINDS.find(([value]) => value === finding.severity)[2], sure = Math.round(100 * finding.confidence);
    const who = subjects(finding), chosen = new Set(plain(model.get("selected")));
    const on = who.length > 0 && who.length === chosen.size && who.every((name) => chosen.has(name));
    const names = finding.names.slice(0, 6).join(", ") + (finding.names.length > 6 ? " \u2026" : "");
    const pick = h("button", {
      type: "button", class: "who", "aria-pressed": String(on), disabled: !who.length,
      text: who.length ? `${on ? "Selected: " : "Select "}${whole(who.length)} ${who.length === 1 ? "subject" : "subjects"}` : "No subject named",
      onclick: () => put(model, { selected: on ? [] : who }),
    });
    return h("div", { class: `finding ${kind}${on ? " on" : ""}`, role: "listitem" },
      h("div", {}, h("h4", {}, h("span", { class: "kind", text: `${finding.severity[0].toUpperCase()}${finding.severity.slice(1)}: ` }), finding.check),
        h("p", { text: finding.what }),
        h("p", { class: "soft small", text: [finding.where, `family ${finding.family}`, names].filter(Boolean).join(" \u00b7 ") })),
      h("div", { class: "sure" }, h("span", { text: `${sure} % sure` }), h("span", { class: "soft", text: ` \u00b7 n = ${whole(finding.n)}` }),
        h("div", { class: "bar", role: "img", "aria-label": `${sure} % sure` }, h("i", { style: { width: `${sure}%` } })), pick),
      h("p", { class: "do" }, h("b", { text: "Do: " }), finding.do));
  }

  const quiet = listen(model, { frame_bytes: load, title: load, note: load, family: refresh, severity: refresh, selected: refresh });
  part.look();
  load();
  return () => { quiet(); part.close(); };
}

export default { render };
