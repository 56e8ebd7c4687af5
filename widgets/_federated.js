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
  for (const [words, some] of [["Join", join], ["Do not join", stay], ["Cannot tell", unsure]]) if (some.length) parts.push(`${words}: ${listed(some.map((v) => v.site))}.`);
  const whole_ = header.overall.find((o) => o.place === place && o.metric === metric && o.arm === arm);
  const harmed = told.filter((v) => v.negative_transfer);
  const gain = whole_ && Number.isFinite(whole_.gain) ? ` Mean gain over ${whole_.sites} sites in ${metric}: ${signed(whole_.gain)} (${within(whole_.low, whole_.high, signed)}).` : "";
  return `${parts.join(" ")}${gain}${harmed.length ? ` Worse than alone in some metric: ${listed(harmed.map((v) => v.site))}.` : ""}`;
}

/** Of each kind of attack on a site, or on the federation, the one that got furthest, in words; without any: not measured.
 *  A figure without an interval is of what secure sums or noise hide: told only where there is no other. */
export function attacksOn(header, site) {
  const kinds = new Map();
  for (const a of header.attacks) {
    if (a.site !== site && a.site !== null) continue;
    const kind = a.attack.split(",")[0], found = kinds.get(kind) || [];
    kinds.set(kind, [...found, a]);
  }
  if (!kinds.size) return UNKNOWN;
  const far = (a) => (Number.isFinite(a.value) ? Math.abs(a.value - (a.chance ?? 0)) : -1), first = (all, some) => (some.length ? some : all);
  return [...kinds.values()].map((all) => {
    const whole_ = first(all, all.filter((a) => !a.figure.startsWith("TPR"))), seen = first(whole_, whole_.filter((a) => Number.isFinite(a.low)));
    const a = seen.reduce((best, one) => (far(one) > far(best) ? one : best));
    return `${a.attack}: ${a.figure} ${Number.isFinite(a.value) ? fixed(a.value, 2) : UNKNOWN}${Number.isFinite(a.chance) ? `, chance ${fixed(a.chance, 2)}` : ""}${a.site === null ? " (the shared model)" : ""}`;
  }).join("; ");
}

/** What a site paid: texts in the order of COSTS. */
export const COSTS = ["Training rows", "Share", "Epsilon", "Bytes sent", "Messages", "Rounds", "Refused", "Attacks"];
export function paid(header, verdict, all) {
  const count = (x) => (x === null || x === undefined ? UNKNOWN : whole(x)), total = all.reduce((sum, v) => sum + (v.rows ?? NaN), 0);
  return [
    count(verdict.rows), Number.isFinite(total) && total > 0 ? `${fixed((100 * verdict.rows) / total, 0)} %` : UNKNOWN,
    Number.isFinite(verdict.epsilon) ? `${short(verdict.epsilon)}${Number.isFinite(verdict.delta) ? ` at \u03b4 ${short(verdict.delta, 1)}` : ""}` : UNKNOWN,
    size(verdict.bytes), count(verdict.messages), count(verdict.rounds), count(verdict.refusals), attacksOn(header, verdict.site),
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
  return [...all.filter((f) => own.has(f.index)), ...all.filter((f) => !own.has(f.index))];
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
  const by = header.sites.map((site) => ({ site, rounds: new Set(), bytes: NaN, lost: new Map(), last: -1 })), asks = new Map();
  let round = -1;
  for (let i = 0; i < c.round.length; i++) {
    round = Math.max(round, c.round[i]);
    if (Number.isFinite(c.seconds[i])) { const key = `${c.round[i]} ${c.name[i]}`; asks.set(key, Math.max(asks.get(key) ?? 0, c.seconds[i])); }
    if (c.site[i] < 0) continue;
    const one = by[c.site[i]];
    if (Number.isFinite(c.bytes[i])) one.bytes = (Number.isFinite(one.bytes) ? one.bytes : 0) + c.bytes[i];
    if (c.lost[i] >= 0) one.lost.set(c.round[i], header.reasons[c.lost[i]]);
    else { one.rounds.add(c.round[i]); one.last = Math.max(one.last, c.round[i]); }
  }
  for (const one of by) one.gone = one.lost.has(round);
  const known = by.filter((s) => Number.isFinite(s.bytes));
  return { round, sites: by, bytes: known.length ? known.reduce((sum, s) => sum + s.bytes, 0) : NaN, seconds: asks.size ? [...asks.values()].reduce((a, b) => a + b, 0) : NaN };
}

/** In words: how far, with whom, how much was sent, who is missing. */
export function said(p, ended = false) {
  if (p.round < 0) return "No round has ended yet.";
  const here = p.sites.filter((s) => !s.gone), gone = p.sites.filter((s) => s.gone);
  const sent = Number.isFinite(p.bytes) ? ` ${size(p.bytes)} left the sites${ended ? "" : " so far"}.` : " Bytes not measured.";
  const missing = gone.length ? ` Without ${gone.map((s) => `${s.site} (${s.lost.get(p.round)})`).join("; ")}.` : "";
  const few = p.sites.length ? `, ${here.length} of ${p.sites.length} sites` : "";
  return `After round ${p.round}${few}.${sent}${missing}`;
}
