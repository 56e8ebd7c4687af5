// What a federation's value and rounds say, as plain rows and words: nothing drawn. The bytes are described in _federation.py.
import { fixed, whole } from "./_parts.js";
import { short } from "./_axes.js";

export const UNKNOWN = "not measured";
export const ARM_ORDER = ["alone", "own pretraining", "pretrained together", "federated", "personalised", "pooled"];
export const signed = (x, digits = 3) => {
  if (!Number.isFinite(x)) return "\u2013";
  const text = Math.abs(x).toFixed(digits);
  return `${Number(text) === 0 ? "" : x > 0 ? "+" : "\u2212"}${text}`;
};
export const within = (low, high, say) => (Number.isFinite(low) && Number.isFinite(high) ? `${say(low)} to ${say(high)}` : "no interval");
export const listed = (texts) => (texts.length > 1 ? `${texts.slice(0, -1).join(", ")} and ${texts.at(-1)}` : texts.join(""));

/** At most six names; of more, the first three and how many others. */
export const some = (names, all) => (names.length > 6 ? `${names.length} of ${all} sites (${names.slice(0, 3).join(", ")} and ${names.length - 3} more)` : listed(names));

/** Bytes as people read them; null and NaN were not measured. */
export function size(n) {
  if (n === null || n === undefined || Number.isNaN(n)) return UNKNOWN;
  const step = [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]].find(([least]) => n >= least);
  return step ? `${short(n / step[0])} ${step[1]}` : `${whole(n)} B`;
}

/** Sites of one place, metric and arm in the order of the table: {site, verdict, arms: [score], at: score of the arm, alone}. */
export function sitesOf(header, place, metric, arm) {
  const rows = header.scores.filter((s) => s.place === place && s.metric === metric), found = new Map();
  for (const row of rows) found.set(row.site, [...(found.get(row.site) || []), row]);
  return [...found].map(([site, arms]) => ({
    site, arms: [...arms].sort((a, b) => ARM_ORDER.indexOf(a.arm) - ARM_ORDER.indexOf(b.arm)),
    at: arms.find((a) => a.arm === arm) || null, alone: arms.find((a) => a.arm === "alone") || null,
    verdict: header.verdicts.find((v) => v.place === place && v.site === site && v.arm === arm) || null,
  }));
}

/** In words: how many should join, who loses, and what the whole gains. */
export function summary(header, sites, place, metric, arm) {
  const told = sites.map((s) => s.verdict).filter(Boolean), by = (v) => told.filter((t) => t.verdict === v);
  if (!told.length) return "No verdict: no site has been compared with what it has alone.";
  const [join, stay, unsure] = ["join", "do not join", "cannot tell"].map(by), parts = [];
  for (const [words, found] of [["Join", join], ["Do not join", stay], ["Cannot tell", unsure]]) if (found.length) parts.push(`${words}: ${some(found.map((v) => v.site), told.length)}.`);
  const whole_ = header.overall.find((o) => o.place === place && o.metric === metric && o.arm === arm);
  const harmed = told.filter((v) => v.negative_transfer);
  const gain = whole_ && Number.isFinite(whole_.gain) ? ` Mean gain over ${whole_.sites} sites in ${metric}: ${signed(whole_.gain)} (${within(whole_.low, whole_.high, signed)}).` : "";
  return `${parts.join(" ")}${gain}${harmed.length ? ` Worse than alone in some metric: ${some(harmed.map((v) => v.site), told.length)}.` : ""}`;
}

/** Flags that every site of a place and arm has, which are told once; of one site none are. */
export function shared(verdicts) {
  const [first, ...rest] = verdicts;
  return rest.length ? first.flags.filter((text) => rest.every((v) => v.flags.includes(text))) : [];
}

export const WHOLE = "the whole federation";

/** Attacks in words, those on the whole federation first: {attack, target, knows, figure, value, low, high, chance, works, more}.
 *  Rates at few false alarms stand with the figure of their attack; a figure without an interval is of what the
 *  federation's rules hide from the attacker. */
export function attackRows(header) {
  const rate = (a) => a.figure.startsWith("TPR"), same = (a, b) => a.attack === b.attack && a.site === b.site && a.knows === b.knows;
  const rows = header.attacks.filter((a) => !rate(a)), rates = header.attacks.filter(rate);
  const per = (x) => `${short(100 * x, 2)}\u00a0%`;
  const told = [...rows, ...rates.filter((r) => !rows.some((a) => same(a, r)))].map((a) => ({
    attack: a.attack, target: a.site ?? WHOLE, knows: a.knows || "", figure: a.figure, value: a.value, low: a.low, high: a.high, chance: a.chance,
    works: !Number.isFinite(a.value) ? UNKNOWN : !Number.isFinite(a.low) || !Number.isFinite(a.chance) ? "no interval" : a.low > a.chance ? "works" : "not shown to work",
    more: rate(a) ? "" : rates.filter((r) => same(r, a) && Number.isFinite(r.value)).map((r) => `${per(r.value)} caught at ${r.figure.replace(/^TPR at /, "").replace(/\.0%/, "%").replace("%", "\u00a0%").replace("FPR", "false alarms")}, chance ${per(r.chance)}`).join("; "),
  }));
  const kind = (a) => a.attack.split(",")[0], kinds = [...new Set(told.map(kind))], names = [...new Set(told.map((a) => a.attack))];
  const order = (a) => [kinds.indexOf(kind(a)), names.indexOf(a.attack), a.target === WHOLE ? 0 : 1];
  return told.sort((a, b) => order(a).map((x, i) => x - order(b)[i]).find((x) => x) || 0); // a stable sort
}

/** Epsilon that a site spent, of what was agreed; where there is none, why. */
export function privacy(header, verdict) {
  if (!Number.isFinite(verdict.epsilon)) return header.exact ? "no bound: exact" : UNKNOWN;
  const of = Number.isFinite(header.limit) ? ` of ${short(header.limit)}` : "", at = Number.isFinite(verdict.delta) ? ` at \u03b4 ${short(verdict.delta, 1)}` : "";
  return `${short(verdict.epsilon)}${of}${at}`;
}

/** What a site paid: texts in the order of COSTS. */
export const COSTS = ["Training rows", "Share of rows", "Epsilon spent", "Bytes sent", "Messages sent", "Asks without its answer"];
export function paid(header, verdict, all) {
  const count = (x) => (x === null || x === undefined ? UNKNOWN : whole(x)), total = all.reduce((sum, v) => sum + (v.rows ?? NaN), 0);
  return [
    count(verdict.rows), Number.isFinite(total) && total > 0 ? `${fixed((100 * verdict.rows) / total, 0)} %` : UNKNOWN,
    privacy(header, verdict), size(verdict.bytes), count(verdict.messages), count(verdict.refusals),
  ];
}

/** Figures told in at least two rounds: [{name, unit, index}], the federation's own first. One point is no curve. */
export function figures({ header, columns: c }) {
  const seen = new Map(), own = new Set();
  for (let i = 0; i < c.round.length; i++) {
    if (!Number.isFinite(c.value[i])) continue;
    seen.set(c.name[i], (seen.get(c.name[i]) || new Set()).add(c.round[i]));
    if (c.site[i] < 0) own.add(c.name[i]);
  }
  const all = header.names.map((name, index) => ({ name, index, unit: header.units[index] })).filter((f) => seen.get(f.index)?.size > 1);
  const rank = (f) => (own.has(f.index) ? 0 : 2) + (/RMSE|loss/.test(f.name) ? 0 : 1); // what training is after comes before its means
  return all.sort((a, b) => rank(a) - rank(b));
}

/** Lines of one figure: [{site, x, y}] by round; the federation's own is called "" and comes first. */
export function lines({ header, columns: c }, name) {
  const found = new Map();
  for (let i = 0; i < c.round.length; i++) {
    if (c.name[i] !== name || !Number.isFinite(c.value[i])) continue;
    const line = found.get(c.site[i]) || [];
    line.push([c.round[i], c.value[i]]);
    found.set(c.site[i], line);
  }
  return [...found].sort(([a], [b]) => a - b).map(([site, points]) => {
    const at = new Map(); // folds have the same rounds: their mean
    for (const [x, y] of points) at.set(x, [...(at.get(x) || []), y]);
    const x = [...at.keys()].sort((a, b) => a - b), mean = (ys) => ys.reduce((a, b) => a + b, 0) / ys.length;
    return { site: site < 0 ? "" : header.sites[site], index: site, x, y: x.map((r) => mean(at.get(r))) };
  });
}

/** By site: rounds with a part in them, bytes, the last round, and why it was lost when; plus how far the whole is. */
export function progress({ header, columns: c }) {
  const by = header.sites.map((site) => ({ site, rounds: new Set(), bytes: NaN, lost: new Map(), last: -1 })), asks = new Map(), steps = new Set();
  let round = -1, own = -1; // of asks; of figures of the federation's own, which count rounds of training
  for (let i = 0; i < c.round.length; i++) {
    if (c.site[i] < 0) { own = Math.max(own, c.round[i]); continue; }
    round = Math.max(round, c.round[i]);
    steps.add(c.round[i]);
    if (Number.isFinite(c.seconds[i])) { const key = `${c.round[i]} ${c.name[i]}`; asks.set(key, Math.max(asks.get(key) ?? 0, c.seconds[i])); }
    const one = by[c.site[i]];
    if (Number.isFinite(c.bytes[i])) one.bytes = (Number.isFinite(one.bytes) ? one.bytes : 0) + c.bytes[i];
    if (c.lost[i] >= 0) one.lost.set(c.round[i], header.reasons[c.lost[i]]);
    else { one.rounds.add(c.round[i]); one.last = Math.max(one.last, c.round[i]); }
  }
  for (const one of by) one.gone = one.lost.has(round);
  const known = by.filter((s) => Number.isFinite(s.bytes));
  return { round: Math.max(round, own), own, steps: steps.size, sites: by, bytes: known.length ? known.reduce((sum, s) => sum + s.bytes, 0) : NaN, seconds: asks.size ? [...asks.values()].reduce((a, b) => a + b, 0) : NaN };
}

/** In words: how far, with whom, how much was sent, who is missing. */
export function said(p, ended = false) {
  if (p.round < 0) return "No round has ended yet.";
  const here = p.sites.filter((s) => !s.gone), gone = p.sites.filter((s) => s.gone);
  const sent = Number.isFinite(p.bytes) ? ` ${size(p.bytes)} left the sites${ended ? "" : " so far"}.` : p.sites.length ? " Bytes not measured." : " What was sent, and who was missing, is recorded when a fold ends.";
  const missing = gone.length ? ` Without ${gone.map((s) => `${s.site} (${s.lost.get(p.round)})`).join("; ")}.` : "";
  const few = p.sites.length ? `, ${here.length} of ${p.sites.length} sites` : "";
  const counted = p.own >= 0 && p.steps && p.own !== p.round ? `After ${p.steps} asks` : `After round ${p.round}`; // figures count rounds of training
  return `${counted}${few}.${sent}${missing}`;
}
