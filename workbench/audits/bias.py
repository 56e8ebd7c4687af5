"""Who was measured and what goes together with what: imbalance, confounding, selection, proxies, shapes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import polars as pl

from workbench.audits import _chance
from workbench.audits._case import ARM, CONTROL, COVARIATE, HOUSING, PERSON, Case, Measured, codes
from workbench.audits._finding import NOTE, WARNING, Check, Finding, chance, figure, foremost, some

LARGE = 0.8  # share of one group from which the others hardly count
SAME = 0.95  # Cramer's V from which two labels are one


def imbalance(case: Case) -> Iterator[Finding]:
    """One tissue, sex, species or arm that makes up nearly all subjects."""
    covariates = {c: g for c, g in case.groupings.items() if COVARIATE.match(c)}
    for column, grouping in {**covariates, **case.technical}.items():
        counts = grouping.group_by("group").len().sort("len", descending=True)
        total = int(counts["len"].sum())
        if total < 20 or counts.height < 2 or counts["len"][0] < LARGE * total:
            continue
        one, rest = counts["group"][0], total - counts["len"][0]
        yield Finding(
            WARNING if column == "tissue" or column in case.technical else NOTE,
            1.0,
            f"{counts['len'][0]} of {total} subjects are of {column} {one!r}; the other {counts.height - 1} share "
            f"{rest}.",
            f"subjects, {column}",
            f"An overall score is a score on {one!r}: report each {column} apart, or weigh or sample them evenly.",
            names=[one],
            n=int(counts["len"][0]),
        )


def explained(case: Case) -> Iterator[Finding]:
    """How much of the difference between subjects their tissue, sex or species explains by itself."""
    for m in case.measured:
        if not m.crossed:
            continue
        kinds = {c: g for c, g in case.groupings.items() if not ARM.match(c)}
        found = []
        for column, grouping in kinds.items():
            both = m.per_subject().join(grouping, on="subject")
            p, size = _chance.kruskal(both["effect"].to_numpy(), codes(both["group"])[0])
            if p >= case.level or size < 0.1:
                continue
            most = both.group_by("group").agg(pl.col("effect").median(), pl.len()).filter(pl.col("len") >= 3)
            most = most.sort("effect")
            finding = Finding(
                WARNING if size > 0.5 else NOTE,
                1 - p,
                f"{column} explains {size:.0%} of how subjects differ in {m.endpoint!r} over all treatments "
                f"({chance(p)}): lowest {most['group'][0]!r}, highest {most['group'][-1]!r}.",
                m.endpoint,
                f"Compare every model with the mean per {column} and treatment, and judge it within {column}s.",
                names=most["group"],
            )
            found.append((size, column, finding))
        yield from foremost(found)


def assignment(case: Case) -> Iterator[Finding]:
    """Treatments or arms given to one sex, tissue or site more than to another."""
    arms: dict[str, pl.DataFrame] = {c: case.grouping(c) for c in case.subjects.columns if ARM.match(c)}
    per = case.outcomes.group_by("subject").agg(pl.col("treatment").unique())
    if per.height and per["treatment"].list.len().max() == 1:
        arms["treatment"] = per.select("subject", pl.col("treatment").list.first().alias("group"))
    covariates = {c: g for c, g in case.groupings.items() if COVARIATE.match(c)}
    others = {**covariates, **case.technical}
    for (arm, given), (column, grouping) in ((a, o) for a in arms.items() for o in others.items()):
        both = given.join(grouping, on="subject", suffix="_other").sort("subject")
        if both.height < 12 or both["group"].n_unique() > both.height / 2:
            continue
        a, _ = codes(both["group"])
        b, names = codes(both["group_other"])
        if _nested(a, b):
            continue
        p, v = _chance.association(a, b)
        if p <= 5e-4 and v > 0.4:
            table = both.group_by("group", "group_other").len().sort("len", descending=True)
            yield Finding(
                WARNING,
                1 - p,
                f"{arm} goes with {column} (Cramer's V {v:.2f}, p <= {p:.1g} by permutation): "
                f"{table['len'][0]} of {both.filter(pl.col('group') == table['group'][0]).height} subjects of "
                f"{arm} {table['group'][0]!r} are {table['group_other'][0]!r}.",
                f"subjects, {arm} and {column}",
                f"An effect of the {arm} cannot be told from one of {column}: compare within {column}, or repeat with "
                "random assignment.",
                names=names,
            )


def _nested(a: np.ndarray, b: np.ndarray) -> bool:
    """Is either labelling a finer or coarser name of the other (dose group and dose), so that it must go with it?"""
    pairs = len(np.unique(np.stack([a, b]), axis=1).T)
    return pairs == max(len(np.unique(a)), len(np.unique(b))) and len(np.unique(a)) != len(np.unique(b))


def selection(case: Case) -> Iterator[Finding]:
    """Treatments that were tried on subjects of some groups and not on others."""
    for m, endpoints in case.grids:
        if len(m.subjects) < 20:
            continue
        t, names = codes(m.frame["treatment"])
        tried = np.zeros((len(m.subjects), len(names)), dtype=bool)
        tried[m.s, t] = True
        found = []
        for column, grouping in case.groupings.items():
            both = pl.DataFrame({"subject": m.subjects}).with_row_index("i").join(grouping, on="subject").sort("i")
            if both.height < 20:
                continue
            label, groups = codes(both["group"])
            p, v = _independent(tried[both["i"].to_numpy()], label)
            q = _chance.adjusted(p)
            odd = np.flatnonzero((q < case.level) & (v > 0.4))
            if not len(odd):
                continue
            worst = odd[np.argmax(v[odd])]
            rate = [float(tried[both["i"].to_numpy()][label == g, worst].mean()) for g in range(len(groups))]
            finding = Finding(
                WARNING,
                1 - float(q[odd].max()),
                f"{len(odd)} of {len(names)} treatments were not tried evenly over {column}: {names[worst]!r} on "
                f"{max(rate):.0%} of {groups[int(np.argmax(rate))]!r} and {min(rate):.0%} of "
                f"{groups[int(np.argmin(rate))]!r} (Cramer's V {v[worst]:.2f}).",
                endpoints,
                f"Means of these treatments are means over other {column}s: compare within {column}, and do not read "
                "their ranking as potency.",
                names=[names[i] for i in odd],
            )
            found.append((float(v[odd].sum()), column, finding))
        yield from foremost(found)


def _independent(tried: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chi squared of each column against the label: p and Cramer's V without its bias, float64 (columns,)."""
    from scipy.stats import chi2

    n, k = len(label), int(label.max()) + 1
    size = np.bincount(label, minlength=k).astype(float)
    hit = np.stack([tried[label == g].sum(axis=0) for g in range(k)]).astype(float)
    rate = hit.sum(axis=0) / n
    variance = np.where((rate > 0) & (rate < 1), rate * (1 - rate), np.inf)
    statistic = ((hit - size[:, None] * rate) ** 2 / size[:, None]).sum(axis=0) / variance
    phi = np.maximum(0, statistic / n - (k - 1) / (n - 1))
    # a group of two or three follows no chi-squared law; halving the degrees it adds would be guessing, so be strict
    return chi2.sf(statistic * np.minimum(1.0, size.min() / 5), k - 1), np.sqrt(phi)


def censoring(case: Case) -> Iterator[Finding]:
    """Endpoints that are mostly beyond what the assay could measure."""
    for m in case.measured:
        censored = m.frame["censored"].to_numpy() != 0
        rate = float(censored.mean())
        if len(m) < 20 or rate <= 0.2:
            continue
        by = m.frame.group_by("treatment").agg((pl.col("censored") != 0).mean().alias("rate"), pl.len())
        whole = by.filter(pl.col("rate") > 0.9, pl.col("len") >= 5).sort("treatment")["treatment"]
        yield Finding(
            WARNING if rate > 0.5 else NOTE,
            1.0,
            f"{rate:.0%} of {m.endpoint!r} is censored (the truth lies beyond the value); {len(whole)} of {by.height} "
            f"treatments nearly always{': ' + some(whole) if len(whole) else ''}.",
            m.endpoint,
            "Use a loss and scores that know censoring; a mean or a squared error on these values is biased.",
            rows=m.rows[censored],
            names=whole,
            n=int(censored.sum()),
        )


def normality(case: Case) -> Iterator[Finding]:
    """Residuals far from normal, and the transform that would help."""
    found = list(_shapes(case))
    if len(found) <= 4:
        yield from found
        return
    names = [f.where for f in found]
    yield Finding(
        NOTE,
        min(f.confidence for f in found),
        f"{len(found)} of {len(case.measured)} endpoints are not normal beside subject and condition: {some(names)}. "
        f"The first: {found[0].what}",
        "outcomes, endpoint",
        "Compare on a logarithm or by ranks, and use a loss that stands outliers.",
        names=names,
    )


def _shapes(case: Case) -> Iterator[Finding]:
    from scipy.stats import kurtosistest, skewtest

    for m in case.measured:
        raw = m.frame["value"].to_numpy()
        rest = _residual(m, raw)
        if len(rest) < 50 or np.ptp(rest) == 0:
            continue
        lean, tail = skewness(rest), tails(rest)
        p = float(min(skewtest(rest).pvalue, kurtosistest(rest).pvalue))
        if p > case.level or (abs(lean) < 0.3 and tail < 1.6):
            continue
        advice = "Use a loss that stands outliers (Huber), and judge by ranks as well."
        if m.log and lean > 0.3:
            logged = skewness(_residual(m, m.work))
            if abs(logged) < 0.5 * lean:
                advice = f"Take the logarithm: it brings the skewness to {figure(logged)}."
        elif raw.min() >= 0 and raw.max() <= 1 and abs(lean) > 0.3:
            advice = "Values pile up at an end of 0 to 1: a logit, or a model of ranks, fits them better."
        yield Finding(
            NOTE,
            1 - p,
            f"What subject and condition leave of {m.endpoint!r} is not normal: quartile skewness {lean:.2f}, "
            f"tails {tail:.1f} times a normal's ({chance(p)}, {len(rest)} values).",
            m.endpoint,
            advice,
            n=len(rest),
        )


def _residual(m: Measured, values: np.ndarray) -> np.ndarray:
    rest = values - _chance.group_medians(values, m.c, len(m.conditions))[m.c]
    if m.crossed:
        rest = rest - _chance.group_medians(rest, m.s, len(m.subjects))[m.s]
    return rest[np.bincount(m.c)[m.c] >= 5]


def skewness(x: np.ndarray) -> float:
    """Octile skewness, -1 to 1: robust, so that a few outliers do not make it (Hinkley 1975)."""
    low, middle, high = np.quantile(x, [0.125, 0.5, 0.875])
    return float((high + low - 2 * middle) / (high - low)) if high > low else 0.0


def tails(x: np.ndarray) -> float:
    """Width from the 1st to the 99th percentile over that of the quartiles, against a normal's (1 is normal)."""
    a, b, c, d = np.quantile(x, [0.01, 0.25, 0.75, 0.99])
    return float((d - a) / (c - b) / 3.449) if c > b else 0.0


def proxies(case: Case) -> Iterator[Finding]:
    """Labels that stand for one another (site and tissue), and features that give a site or batch away."""
    labels = {c: g for c, g in {**case.groupings, **case.technical}.items() if not ARM.match(c)}
    for (a, left), (b, right) in combinations(labels.items(), 2):
        if (a in case.technical) == (b in case.technical):
            continue  # two names of one tissue are no fault; a tissue that is a site is
        both = left.join(right, on="subject", suffix="_other").sort("subject")
        if both.height < 12:
            continue
        first, second = codes(both["group"])[0], codes(both["group_other"])[0]
        p, v = _chance.association(first, second)
        if p <= 5e-4 and v >= SAME:
            yield Finding(
                WARNING,
                1 - p,
                f"{a} and {b} are the same division of the subjects (Cramer's V {v:.2f} over {both.height}).",
                f"subjects, {a} and {b}",
                f"Whatever differs between {a}s may be due to {b}: nothing in this study can tell them apart.",
                names=[a, b],
            )
    for profile in case.profiles.values():
        for column, grouping in case.technical.items():
            yield from _giveaway(profile, column, grouping)


def _giveaway(profile, column: str, grouping: pl.DataFrame) -> Iterator[Finding]:
    """Features that separate one group of ``column`` from all others without overlap."""
    here = pl.DataFrame({"subject": profile.names}).with_row_index("i").join(grouping, on="subject").sort("i")
    if here.height < 20:
        return
    x, (label, names) = profile.raw[here["i"].to_numpy()], codes(here["group"])
    told: dict[int, str] = {}
    for group in range(len(names)):
        inside = label == group
        if min(inside.sum(), (~inside).sum()) < 6:
            continue
        apart = (x[inside].min(axis=0) > x[~inside].max(axis=0)) | (x[inside].max(axis=0) < x[~inside].min(axis=0))
        told |= {int(i): names[group] for i in np.flatnonzero(apart)}
    if told:
        features = [profile.features[i] for i in told]
        yield Finding(
            WARNING,
            0.99,
            f"{len(features)} features of {profile.modality!r} tell the {column} without error: {some(features)} "
            f"({column} {next(iter(told.values()))!r} does not overlap with the others).",
            profile.modality,
            f"They stand for the {column}: leave them out, or correct them, before a model reads them as biology.",
            names=features,
        )


def lookalikes(case: Case) -> Iterator[Finding]:
    """Columns of SUBJECTS that follow the outcome so closely that they must have been made from it."""
    skip = {"subject", *(c for c in case.subjects.columns if PERSON.match(c) or HOUSING.match(c))}
    numeric = [c for c, t in case.subjects.schema.items() if t.is_numeric() and c not in skip and not ARM.match(c)]
    for m in case.measured:
        if len(m.subjects) < 20 or CONTROL.search(m.endpoint):
            continue
        mean = np.bincount(m.s, m.work - m.level[m.c]) / np.bincount(m.s)
        effects = m.per_subject().with_columns(pl.Series("mean", mean))
        for column in numeric:
            told = case.subjects.select("subject", pl.col(column).cast(pl.Float64).alias("x"))
            both = effects.join(told, on="subject").filter(pl.col("x").is_not_null(), pl.col("x").is_finite())
            x = both["x"].to_numpy()
            rho, p = max((_chance.spearman(x, both[e].to_numpy()) for e in ("effect", "mean")), key=lambda r: abs(r[0]))
            if both.height >= 20 and abs(rho) > 0.9 and p < case.level:
                yield Finding(
                    WARNING,
                    1 - p,
                    f"{column} of SUBJECTS follows {m.endpoint!r} almost exactly (Spearman {rho:.3f} over "
                    f"{both.height} subjects).",
                    f"subjects, {column}",
                    "If it was computed from the outcome or written down after it, it must not be a feature.",
                    names=[column],
                )


CHECKS = (
    Check("group imbalance", imbalance),
    Check("confounding", explained),
    Check("assignment not at random", assignment),
    Check("selection bias", selection),
    Check("censoring", censoring),
    Check("non-normality", normality),
    Check("proxy variables", proxies),
    Check("column made from the outcome", lookalikes),
)
