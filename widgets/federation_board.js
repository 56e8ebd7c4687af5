// A federation site by site: arms with intervals beside the naive value, differences, verdicts, costs, and the rounds as they come. Bytes: _federation.py.
import { fixed, h, hue, listen, put, stage, ticks, unpack, whole } from "./_parts.js";
import { SHARED, cut, disc, plane, segment, short, tone, trace } from "./_axes.js";
import { figures, lines, progress, said, shared, signed, sitesOf, size, summary, within } from "./_federated.js";
import { askedNodes, attackNodes, cell, costNodes, faultNodes, howNodes, overallNodes } from "./_federation_tables.js";

const FED_CSS = `
.wb-fed{container-type:inline-size;}
.wb-fed .says{margin:0 0 14px;font-size:14px;max-width:110ch;overflow-wrap:anywhere;}
.wb-fed .tops select{min-width:0;max-width:340px;}
.wb-fed h4{font-size:13px;color:var(--wb-ink);margin:0 0 6px;}
.wb-fed section{min-width:0;margin-top:22px;}
.wb-fed .site,.wb-fed .axes,.wb-fed .heads{display:grid;grid-template-columns:minmax(120px,15%) minmax(0,1.15fr) 168px minmax(0,1fr) 132px;column-gap:14px;align-items:center;}
.wb-fed .heads{font-size:12px;color:var(--wb-soft);padding-bottom:4px;border-bottom:1px solid var(--wb-line);align-items:end;}
.wb-fed .site{padding:10px 0 11px;border-bottom:1px solid var(--wb-line);}
.wb-fed .who{overflow-wrap:anywhere;font-weight:600;}
.wb-fed .who small{display:block;font-weight:400;font-size:12px;color:var(--wb-soft);}
.wb-fed .lane{position:relative;align-self:stretch;}
.wb-fed .lane>i{position:absolute;top:-10px;bottom:-11px;width:1px;background:var(--wb-line);}
.wb-fed .lane>.naive,.wb-fed .key .naive{border-left:2px dashed var(--wb-mark);}
.wb-fed .lane>.naive{position:absolute;top:-4px;bottom:-4px;margin-left:-1px;}
.wb-fed .lane>.zero{position:absolute;top:-10px;bottom:-11px;border-left:1.5px solid var(--wb-ink);opacity:.65;}
.wb-fed .lane>.least,.wb-fed .key .least{background:color-mix(in srgb,var(--wb-soft) 17%,transparent);}
.wb-fed .lane>.least{position:absolute;top:-10px;bottom:-11px;}
.wb-fed .one{position:relative;height:21px;}
.wb-fed .one .span{position:absolute;top:9px;height:3px;border-radius:2px;background:currentColor;opacity:.55;}
.wb-fed .one .wide{position:absolute;top:10px;height:1px;background:currentColor;}
.wb-fed .dot,.wb-fed .key .dot{width:11px;height:11px;border-radius:50%;background:currentColor;}
.wb-fed .one .dot{position:absolute;top:5px;margin-left:-5.5px;}
.wb-fed .alone{color:var(--wb-soft);}
.wb-fed .alone .dot{background:var(--wb-bg);border:2.5px solid currentColor;}
.wb-fed .federated{color:var(--wb-accent);}
.wb-fed .personalised{color:var(--wb-good);}
.wb-fed .personalised .dot{border-radius:2px;}
.wb-fed .pretraining,.wb-fed .pretrained{color:var(--wb-good);}
.wb-fed .pretraining .dot{background:var(--wb-bg);border:2.5px solid currentColor;}
.wb-fed .pooled{color:var(--wb-c5);}
.wb-fed .pooled .dot{border-radius:2px;transform:rotate(45deg) scale(.86);}
.wb-fed .figs .num{height:21px;line-height:21px;text-align:left;}
.wb-fed .figs b{color:var(--wb-ink);}
.wb-fed .figs .arm{display:none;}
.wb-fed .ruler{position:relative;height:38px;font-size:12px;color:var(--wb-soft);}
.wb-fed .ruler span{position:absolute;top:4px;transform:translateX(-50%);white-space:nowrap;}
.wb-fed .ruler b{position:absolute;left:0;right:0;top:20px;text-align:center;font-weight:400;color:var(--wb-ink);line-height:1.25;}
.wb-fed .why{grid-column:1/-1;display:flex;flex-wrap:wrap;gap:5px 12px;align-items:baseline;margin-top:8px;max-width:130ch;}
.wb-fed .why p{flex:1 1 320px;overflow-wrap:anywhere;}
.wb-fed .chip{flex:none;padding:1px 10px 2px;border-radius:11px;font-weight:600;border:1.5px solid;white-space:nowrap;}
.wb-fed .chip.v0{border-color:var(--wb-good);background:color-mix(in srgb,var(--wb-good) 20%,transparent);}
.wb-fed .chip.v1{border-color:var(--wb-mark);background:color-mix(in srgb,var(--wb-mark) 20%,transparent);}
.wb-fed .chip.v2{border-color:var(--wb-soft);border-style:dashed;}
.wb-fed .flags{flex:1 1 100%;margin:0;padding:0;list-style:none;display:flex;flex-wrap:wrap;gap:5px 8px;}
.wb-fed .flags li{padding:1px 9px;border-left:4px solid var(--wb-warn);border-radius:3px;font-size:12px;overflow-wrap:anywhere;background:color-mix(in srgb,var(--wb-warn) 14%,transparent);}
.wb-fed .flags li.harm{border-left-color:var(--wb-mark);font-weight:600;}
.wb-fed .key{margin-top:8px;align-items:center;}
.wb-fed .key span.k{display:inline-block;vertical-align:-1px;margin-right:6px;}
.wb-fed .key .naive{height:13px;width:0;}
.wb-fed .key .least{height:13px;width:18px;}
.wb-fed .unknown{color:var(--wb-soft);font-style:italic;white-space:nowrap;}
.wb-fed td.text{min-width:210px;overflow-wrap:anywhere;}
.wb-fed td.keep{white-space:nowrap;}
.wb-fed td.whom{min-width:110px;overflow-wrap:anywhere;}
.wb-fed th small,.wb-fed td small{display:block;font-weight:400;font-size:12px;color:var(--wb-soft);max-width:52ch;}
.wb-fed table.stack th:has(small){min-width:300px;}
.wb-fed .strips{width:20%;min-width:130px;padding-right:18px!important;}
.wb-fed .strip{position:relative;height:18px;border-bottom:1px solid var(--wb-line);}
.wb-fed .strip .chance{position:absolute;top:0;bottom:0;border-left:2px dashed var(--wb-soft);margin-left:-1px;}
.wb-fed .strip .span{position:absolute;top:8px;height:3px;border-radius:2px;background:currentColor;opacity:.6;}
.wb-fed .strip .dot{position:absolute;top:4px;margin-left:-5.5px;}
.wb-fed .strip.m1{color:var(--wb-mark);}.wb-fed .strip.m0{color:var(--wb-accent);}.wb-fed .strip.m2{color:var(--wb-soft);}
.wb-fed td.keep.m1{font-weight:600;}.wb-fed td.keep.m2{color:var(--wb-soft);}
.wb-fed td.figure{min-width:150px;}
.wb-fed dl.how{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:3px 16px;margin:0;}
.wb-fed dl.how dt{color:var(--wb-soft);}.wb-fed dl.how dd{margin:0;overflow-wrap:anywhere;}
.wb-fed>ul.flags{margin-bottom:12px;}
.wb-fed h4+p.small{margin:0 0 6px;max-width:110ch;}
.wb-fed .plain tbody th{min-width:112px;}
.wb-fed .pair label{display:flex;gap:8px;align-items:center;}
.wb-fed .live{display:grid;grid-template-columns:minmax(0,1.5fr) minmax(0,1fr);gap:14px 24px;align-items:start;}
.wb-fed .gone td,.wb-fed .gone th{background:color-mix(in srgb,var(--wb-mark) 10%,transparent);}
.wb-fed .gap{padding:16px 14px;color:var(--wb-soft);border:1px dashed var(--wb-line);border-radius:4px;}
.wb-fed .pair{display:flex;flex-direction:column;align-items:flex-start;gap:8px;}
.wb-fed ul.remarks{padding-left:20px;margin:12px 0 0;}
@container (max-width:1000px){.wb-fed .live{grid-template-columns:minmax(0,1fr);}
.wb-fed .heads{display:none;}
.wb-fed .site,.wb-fed .axes{grid-template-columns:minmax(0,1fr) 168px;row-gap:21px;}
.wb-fed .lane::before{content:attr(data-label);position:absolute;top:-19px;font-size:11px;color:var(--wb-soft);}
.wb-fed .why{margin-top:-8px;}.wb-fed .axes{row-gap:0;}
.wb-fed .site .who{grid-column:1/-1;}.wb-fed .axes>:first-child,.wb-fed .axes .fill{display:none;}
.wb-fed .lane>i,.wb-fed .lane>.zero,.wb-fed .lane>.least{top:-3px;bottom:-4px;}
.wb-fed .axes .ruler{grid-column:1;}.wb-fed .site::before{content:none;}}
@container (max-width:640px){.wb-fed table.stack,.wb-fed table.stack tbody,.wb-fed table.stack tr,.wb-fed table.stack td,.wb-fed table.stack tbody th{display:block;width:auto;min-width:0;}
.wb-fed table.stack thead{display:none;}.wb-fed table.stack tr{padding:7px 0;border-bottom:1px solid var(--wb-line);}
.wb-fed table.stack td,.wb-fed table.stack tbody th{border:0;padding:1px 0!important;text-align:left!important;white-space:normal;}
.wb-fed table.stack tbody th{font-weight:600;}.wb-fed table.stack td[data-label]::before{content:attr(data-label) ": ";color:var(--wb-soft);font-weight:400;font-style:normal;}
.wb-fed table.stack td.strips{margin-right:20px;}.wb-fed dl.how{grid-template-columns:minmax(0,1fr);}.wb-fed dl.how dd{margin-bottom:5px;}}
@container (max-width:460px){.wb-fed .num.none{display:none;}.wb-fed .figs .arm{display:inline;}.wb-fed .site,.wb-fed .axes{grid-template-columns:minmax(0,1fr);}}
`;
const VERDICT = { join: ["v0", "\u2713 join"], "do not join": ["v1", "\u2715 do not join"], "cannot tell": ["v2", "? cannot tell"] };
const MARK = { better: "\u25b2 better", worse: "\u25bc worse", "no difference shown": "" };
const JOINED = { personalised: "a head of its own", "pretrained together": "its own head on a shared encoder" };
const GOOD = { higher: "higher is better", lower: "lower is better" };
const finite = (values) => values.filter((v) => v !== null && Number.isFinite(v));
const num = (x) => (x === null ? NaN : x);

/** From values to per cent of a lane, with its ticks; `always` lies within. */
function scaleOf(values, always = []) {
  const all = finite([...values, ...always]), least = Math.min(...all), most = Math.max(...all), pad = (most - least) * 0.06 || Math.abs(most) * 0.1 || 0.1;
  const low = least - pad, high = most + pad;
  return { at: (v) => `${(100 * (v - low)) / (high - low)}%`, wide: (a, b) => `${(100 * (b - a)) / (high - low)}%`, steps: all.length ? ticks(low, high, 5) : [] };
}

function render({ model, el }) {
  let value = null, rounds = null, figure = null, drawn = 0;
  const part = stage(el, "wb-fed", model.get("theme"), `${SHARED}${FED_CSS}`, () => { const width = part?.root.clientWidth || 0; if (width !== drawn || part.root.dataset.dark !== part.was) { drawn = width; part.was = part.root.dataset.dark; curve(); } });
  const heading = h("h3", {}), note = h("p", { class: "note" });
  const pick = (text, name, change) => {
    const select = h("select", { onchange: () => change(select.value) });
    return { select, label: h("label", {}, h("span", { class: "soft", text }), select) };
  };
  const set = (name) => (chosen) => put(model, { [name]: chosen });
  const where = pick("Predictor and split", "place", set("place")), what = pick("Metric", "metric", set("metric")), arm = pick("Joining for", "arm", set("arm"));
  const says = h("p", { class: "says", role: "status" }), board = h("section", {}), costs = h("section", {}), attacks = h("section", {}), whole_ = h("section", {}), how = h("section", {}), live = h("section", {}), faults = h("section", {}), left = h("section", {}), everyone = h("ul", { class: "flags", "aria-label": "Of every site" }), remarks = h("ul", { class: "soft small remarks" });
  const shown = pick("Figure", "figure", (chosen) => { figure = chosen; curve(); });
  const state = h("p", { role: "status", class: "says" }), canvas = h("canvas", { role: "img" }), plot = h("div", { class: "plot" }, canvas), key = h("div", { class: "legend" }), table = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Sites by round" });
  const nothing = h("div", { class: "gap", text: "No figure was told in more than one round." });
  live.append(h("h4", { text: "Rounds" }), state, h("div", { class: "live" }, h("div", { class: "pair" }, shown.label, nothing, plot, key), table));
  plot.style.width = "100%";
  const empty = h("div", { class: "empty" });
  part.root.append(h("div", { class: "tops" }, heading, where.label, arm.label, what.label), note, says, everyone, empty, board, remarks, whole_, costs, attacks, live, faults, left, how);

  function load() {
    value = unpack(model.get("frame_bytes"))?.header || null;
    heading.textContent = model.get("title") || "Should a site join?";
    note.textContent = model.get("note");
    note.hidden = !model.get("note");
    refresh();
    listen_();
  }

  function refresh() {
    const some = Boolean(value?.scores.length), begun = Boolean(rounds?.columns.round.length);
    for (const node of [says, everyone, board, costs, attacks, whole_, remarks, what.label]) node.hidden = !some;
    how.replaceChildren(...(value ? howNodes(value, []) : []));
    how.hidden = !how.childNodes.length;
    empty.hidden = some;
    empty.textContent = value?.alone === false ? "No verdict: what each site has alone is not trained here, so that there is nothing to compare with." : begun ? "No verdict yet: it is made on each site\u2019s own test rows, once the training has ended." : "Nothing to show: no federation was judged, and no round has ended. Train one with \u201cworkbench federate simulate\u201d and a file of experiments.";
    if (!some) { where.label.hidden = arm.label.hidden = true; return; }
    const arms = [...new Set(value.verdicts.map((v) => v.arm))];
    const fill = (picker, options, name, say) => {
      picker.select.replaceChildren(...options.map((o) => h("option", { value: o, text: say(o) })));
      picker.select.value = model.get(name);
      picker.label.hidden = options.length < 2;
    };
    const unit = (name) => value.metrics.find((m) => m.name === name)?.unit;
    fill(where, value.places, "place", (x) => x);
    fill(arm, arms, "arm", (x) => `${x}: ${JOINED[x] || "the shared model"}`);
    fill(what, value.metrics.map((m) => m.name), "metric", (x) => (unit(x) ? `${x}, ${unit(x)}` : x));
    const kind = value.metrics.find((m) => m.name === model.get("metric"));
    const sites = kind ? sitesOf(value, model.get("place"), kind.name, model.get("arm")) : [];
    says.textContent = summary(value, sites, model.get("place"), kind?.name, model.get("arm"));
    const common = shared(sites.map((s) => s.verdict).filter(Boolean));
    everyone.replaceChildren(...common.map((text) => h("li", {}, h("b", { text: "Every site: " }), text)));
    everyone.hidden = !common.length;
    lanes(sites, kind, common);
    around(sites);
    remarks.replaceChildren(...value.notes.map((text) => h("li", { text })));
  }

  function lanes(sites, kind, common) {
    const titled = [kind.name, kind.unit, GOOD[kind.better]].filter(Boolean).join(", "), joined = model.get("arm");
    const scores = sites.flatMap((s) => s.arms), others = scores.filter((a) => a.arm !== "alone");
    const x = scaleOf(scores.flatMap((a) => [a.value, a.low, a.high, a.naive]));
    const d = scaleOf(others.flatMap((a) => [a.difference, a.difference_low, a.difference_high, a.together_low, a.together_high]), [0]);
    const lane = (scale, label, ...more) => h("div", { class: "lane", "aria-hidden": "true", "data-label": label }, ...scale.steps.map((v) => h("i", { style: { left: scale.at(v) } })), ...more);
    const span = (scale, low, high, name) => (low !== null && high !== null && Number.isFinite(low + high) ? [h("span", { class: name, style: { left: scale.at(low), width: scale.wide(low, high) } })] : []);
    const dot = (scale, v) => (v !== null && Number.isFinite(v) ? [h("span", { class: "dot", style: { left: scale.at(v) } })] : []);
    const inUnit = kind.unit ? `, ${kind.unit}` : "";
    board.replaceChildren(
      h("div", { class: "heads" }, h("span", { text: "Site" }), h("span", { text: "Score on its own test rows, 95 % interval" }), h("span", {}), h("span", { text: "Difference from alone, 95 % interval" }), h("span", {})),
      ...sites.map((s) => {
        const least = s.alone?.least, naive = s.arms.map((a) => a.naive).find((v) => v !== null && Number.isFinite(v)), [style, words] = VERDICT[s.verdict?.verdict] || ["v2", "? not compared"];
        const harmed = s.verdict?.negative_transfer, flags = (s.verdict?.flags || []).filter((text) => !common.includes(text));
        return h("article", { class: "site", "aria-label": `${s.site}: ${s.verdict?.verdict || "not compared"}` },
          h("div", { class: "who" }, s.site, h("small", { text: s.alone ? `${whole(s.alone.units)} ${s.alone.resampled}s, ${whole(s.alone.n)} rows` : "" })),
          lane(x, "Score on its own test rows", ...(naive === undefined ? [] : [h("span", { class: "naive", style: { left: x.at(naive) } })]), ...s.arms.map((a) => h("div", { class: `one ${a.arm}`, title: a.arm }, ...span(x, a.low, a.high, "span"), ...dot(x, a.value)))),
          h("div", { class: "figs small" }, ...s.arms.map((a) => h("div", { class: "num" }, h("b", { text: fixed(num(a.value)) }), h("span", { class: "soft", text: ` ${a.arm}` })))),
          lane(d, "Difference from alone", ...(Number.isFinite(least) && least > 0 ? [h("span", { class: "least", style: { left: d.at(-least), width: d.wide(-least, least) } })] : []), h("span", { class: "zero", style: { left: d.at(0) } }),
            ...s.arms.map((a) => h("div", { class: `one ${a.arm}`, title: a.arm }, ...(a.arm === "alone" ? [] : [...span(d, a.together_low, a.together_high, "wide"), ...span(d, a.difference_low, a.difference_high, "span"), ...dot(d, a.difference)])))),
          h("div", { class: "figs small" }, ...s.arms.map((a) => (a.arm === "alone" ? h("div", { class: "num none" }) : h("div", { class: "num", title: Number.isFinite(a.difference_low) ? `${within(num(a.difference_low), num(a.difference_high), signed)}${a.p_holm === null ? "" : `, Holm p ${a.p_holm < 0.001 ? "< 0.001" : fixed(a.p_holm)}`}` : a.verdict },
            h("b", { text: signed(num(a.difference)) }), h("span", { text: MARK[a.verdict] ? ` ${MARK[a.verdict]}` : "" }), a.verdict in MARK ? "" : h("span", { class: "soft", text: " not paired" }), h("span", { class: "soft arm", text: ` ${a.arm}` }))))),
          h("div", { class: "why" }, h("span", { class: `chip ${style}`, text: words }), h("p", { text: s.verdict ? `${s.verdict.reason.charAt(0).toUpperCase()}${s.verdict.reason.slice(1)}` : `There is no ${joined} model for this site.` }),
            ...(harmed || flags.length ? [h("ul", { class: "flags", "aria-label": "What else to know" }, ...(harmed ? [h("li", { class: "harm", text: `Negative transfer: ${harmed}` })] : []), ...flags.map((text) => h("li", { text })))] : [])));
      }),
      h("div", { class: "axes", "aria-hidden": "true" }, h("span", {}), h("div", { class: "ruler" }, ...x.steps.map((v) => h("span", { style: { left: x.at(v) }, text: short(v) })), h("b", { text: titled })), h("span", { class: "fill" }),
        h("div", { class: "ruler" }, ...d.steps.map((v) => h("span", { style: { left: d.at(v) }, text: v > 0 ? `+${short(v)}` : short(v) })), h("b", { text: `Minus alone${inUnit}, ${kind.better === "lower" ? "left" : "right"} of 0 is better` })), h("span", { class: "fill" })),
      h("div", { class: "legend soft key" }, ...[...new Set(scores.map((a) => a.arm))].map((name) => h("span", { class: name }, h("span", { class: "k dot" }), h("span", { class: "soft", text: name }))),
        h("span", {}, h("span", { class: "k naive" }), "best naive value"), h("span", {}, h("span", { class: "k least" }), "less than matters to the site"), h("span", { text: "thin line: 95 % for all sites at once" })));
  }

  /** Everything that is no verdict; what there is nothing of is left out. */
  function around(sites) {
    const told = sites.map((s) => s.verdict).filter(Boolean), gains = value.overall.filter((o) => o.place === model.get("place") && o.arm === model.get("arm"));
    costs.replaceChildren(...(told.length ? costNodes(value, told) : []));
    attacks.replaceChildren(...attackNodes(value));
    whole_.replaceChildren(...(gains.length && gains[0].sites > 1 ? overallNodes(gains) : []));
    how.replaceChildren(...howNodes(value, [...new Set(sites.flatMap((s) => s.arms).map((a) => a.arm))]));
    for (const node of [costs, attacks, whole_, how]) node.hidden = !node.childNodes.length;
  }

  function listen_() {
    rounds = unpack(model.get("rounds_bytes"));
    live.hidden = !rounds?.columns.round.length;
    refresh();
    faults.hidden = left.hidden = live.hidden || !rounds.header.sites.length;
    if (live.hidden) return;
    faults.replaceChildren(...faultNodes(rounds.header.incidents));
    left.replaceChildren(...askedNodes(rounds.header.asked));
    const p = progress(rounds), known = figures(rounds);
    state.textContent = said(p, Boolean(value?.verdicts.length));
    if (!known.some((f) => String(f.index) === figure)) figure = known.length ? String(known[0].index) : null;
    shown.select.replaceChildren(...known.map((f) => h("option", { value: String(f.index), text: f.unit ? `${f.name}, ${f.unit}` : f.name })));
    if (figure !== null) shown.select.value = figure;
    shown.label.hidden = known.length < 2;
    plot.hidden = key.hidden = !known.length;
    nothing.hidden = Boolean(known.length);
    table.replaceChildren(h("table", { class: "plain" }, h("thead", {}, h("tr", {}, ...["Site", "Answered", "Missed", "Bytes sent"].map((text, i) => h("th", { scope: "col", class: i ? "num" : null, text })))),
      h("tbody", {}, ...p.sites.map((s) => h("tr", { class: s.gone ? "gone" : null }, h("th", { scope: "row" }, s.site, s.gone ? h("small", { text: "without a part in the last ask" }) : ""), cell(whole(s.rounds.size), true), cell(whole(s.lost.size), true), cell(size(s.bytes), true))))));
    table.hidden = !p.sites.length || Boolean(value?.verdicts.length); // what each site gives tells it then
    curve();
  }

  function curve() {
    if (!rounds || live.hidden || figure === null) return;
    const index = Number(figure), found = lines(rounds, index), name = rounds.header.names[index], unit = rounds.header.units[index];
    const xs = found.flatMap((l) => l.x), ys = found.flatMap((l) => l.y), pad = (Math.max(...ys) - Math.min(...ys)) * 0.06 || 0.1, width = Math.max(240, plot.clientWidth || 480);
    const x0 = Math.min(...xs), x1 = Math.max(...xs, x0 + 1), steps = ticks(x0, x1, Math.max(4, Math.min(8, Math.floor(width / 80)))).filter(Number.isInteger);
    const area = plane(canvas, part.root, { width, height: 260, x: { low: x0 - (x1 - x0) * 0.02, high: x1 + (x1 - x0) * 0.02, label: "Round", ticks: steps.map((v) => [v, short(v)]) }, y: { low: Math.min(...ys) - pad, high: Math.max(...ys) + pad, label: unit ? `${name}, ${unit}` : name }, right: 18 });
    const { c } = area, style = (l, i) => (l.index < 0 ? { color: hue(part.root, "ink"), dash: [], wide: 3 } : { ...tone(part.root, l.index), wide: 1.8 });
    for (const l of [...found].reverse()) {
      const { color, dash, wide } = style(l);
      c.strokeStyle = c.fillStyle = color;
      c.lineWidth = wide;
      c.setLineDash(dash);
      trace(area, l.x, l.y);
      c.setLineDash([]);
      if (l.x.length <= 40) l.x.forEach((x, i) => disc(c, area.sx(x), area.sy(l.y[i]), 2.6));
    }
    key.replaceChildren(...found.map((l) => {
      const { color, dash } = style(l), back = dash.length ? `repeating-linear-gradient(90deg,${color} 0 4px,transparent 4px 6px)` : color;
      return h("span", {}, h("span", { class: "swatch", style: { background: back } }), h("span", { text: `${l.site || "the federation"} ${short(l.y.at(-1))}` }));
    }));
    canvas.setAttribute("aria-label", `${name} by round: ${found.map((l) => `${l.site || "the federation"}, last ${short(l.y.at(-1))} in round ${l.x.at(-1)}`).join("; ")}`);
  }

  const stop = listen(model, { frame_bytes: load, rounds_bytes: listen_, title: load, note: load, place: refresh, metric: refresh, arm: refresh });
  load();
  part.look();
  return () => { stop(); part.close(); };
}

export default { render };
