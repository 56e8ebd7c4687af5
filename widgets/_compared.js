// What a comparison of runs says of one place and metric: plain rows, nothing drawn. The columns are described in _comparison.py.

const rowsOf = (columns, name, place, metric) => {
  const where = columns[`${name}.place`], what = columns[`${name}.metric`], found = [];
  for (let i = 0; i < where.length; i++) if (where[i] === place && what[i] === metric) found.push(i);
  return found;
};
const turned = { better: "worse", worse: "better" };

/** Entries by value, best first, those without one last. */
export function ordered(rows, better) {
  const sign = better === "lower" ? 1 : -1, at = (row) => (Number.isFinite(row.value) ? sign * row.value : Infinity);
  return [...rows].sort((a, b) => at(a) - at(b) || a.name.localeCompare(b.name));
}

/** Scores, pairs, front and parameters of one place (index) and metric (index). */
export function view({ header, columns }, place, metric) {
  const { entries, texts } = header, kind = header.metrics[metric];
  const rows = ordered(rowsOf(columns, "score", place, metric).map((i) => {
    const of = (name) => columns[`score.${name}`][i];
    return {
      ...entries[of("entry")], entry: of("entry"), value: of("value"), low: of("low"), high: of("high"), naiveValue: of("naive"),
      naivePredictor: texts[of("naive_predictor")], interval: texts[of("interval")], folds: of("folds"), seeds: of("seeds"), cost: of("cost_s"),
    };
  }), kind?.better);
  const between = new Map();
  for (const i of rowsOf(columns, "pair", place, metric)) {
    const of = (name) => columns[`pair.${name}`][i], verdict = texts[of("verdict")];
    const pair = { difference: of("difference"), low: of("low"), high: of("high"), p: of("p"), holm: of("p_holm"), verdict, paired: texts[of("paired")] };
    between.set(`${of("a")} ${of("b")}`, pair);
    const back = `${of("b")} ${of("a")}`;
    if (!between.has(back)) between.set(back, { ...pair, difference: -pair.difference, low: -pair.high, high: -pair.low, verdict: turned[verdict] || verdict });
  }
  const front = rowsOf(columns, "front", place, metric).map((i) => ({ entry: columns["front.entry"][i], on: columns["front.on"][i] === 1 }));
  return {
    kind, rows, between, paired: new Set([...between.keys()].flatMap((key) => key.split(" ").map(Number))), pair: (a, b) => between.get(`${a} ${b}`) || null, compared: header.compared.includes(metric),
    on: new Set(front.filter((f) => f.on).map((f) => f.entry)), fronted: front.length > 0,
    sets: header.groups.filter((g) => g.place === place && g.metric === metric && g.by !== "Nemenyi").map((g) => g.entries),
    parameters: header.parameters.filter((p) => p.place === place).map((p) => ({ param: p.param, values: new Map(p.values) })),
  };
}

/** Mean ranks of a place (index) and metric (index), best first, with the critical difference and the bars that join entries. */
export function ranking({ header, columns }, place, metric) {
  const list = rowsOf(columns, "rank", place, metric).map((i) => ({ ...header.entries[columns["rank.entry"][i]], entry: columns["rank.entry"][i], rank: columns["rank.rank"][i] }))
    .filter((r) => Number.isFinite(r.rank)).sort((a, b) => a.rank - b.rank);
  const rank = new Map(list.map((r) => [r.entry, r.rank]));
  const bars = header.groups.filter((g) => g.place === place && g.metric === metric && g.by === "Nemenyi")
    .map((g) => g.entries.filter((e) => rank.has(e)).map((e) => rank.get(e))).filter((r) => r.length > 1).map((r) => [Math.min(...r), Math.max(...r)]);
  return { list, bars, critical: header.critical.find((c) => c.place === place && c.metric === metric) || null };
}

/** On which level each bar lies so that no two of a level touch; the number of levels is the largest + 1. */
export function levels(bars, gap = 0) {
  const ends = [];
  return bars.map(([low, high]) => {
    let level = ends.findIndex((end) => low > end + gap);
    if (level < 0) level = ends.length;
    ends[level] = high;
    return level;
  });
}

const cell = (value) => {
  const text = value === null || value === undefined || Number.isNaN(value) ? "" : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
/** Rows as csv (RFC 4180), the first of them the names of the columns. */
export const csv = (rows) => rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
