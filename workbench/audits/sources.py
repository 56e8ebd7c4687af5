"""Where the numbers come from: sources, sites and batches that disagree, drift, and studies that fall into pieces."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import polars as pl

from workbench.audits import _chance
from workbench.audits._case import DATED, Case, Measured, codes
from workbench.audits._finding import NOTE, WARNING, Check, Finding, chance, figure, some

KEYS = ("subject", "treatment", "dose", "time_h")
OFFSET = 0.5  # of the spread between subjects: from here a source cannot be pooled with another unadjusted


def disagree(case: Case) -> Iterator[Finding]:
    """Two sources or sites that measured the same subjects with the same treatments and do not agree."""
    from scipy.stats import wilcoxon

    for m in case.measured:
        frame = m.frame.select("row", *KEYS, "site", "source").with_columns(pl.Series("v", m.work))
        for column in ("source", "site"):
            names = frame[column].unique().sort().to_list()
            if not 2 <= len(names) <= 30:
                continue
            mean = {n: f.group_by(KEYS).agg(pl.col("v").mean()) for (n,), f in frame.group_by(column)}
            for a, b in combinations(names, 2):
                both = mean[a].join(mean[b], on=KEYS, nulls_equal=True, suffix="_other")
                if both.height < 20 or m.effect == 0:
                    continue
                difference = (both["v"] - both["v_other"]).to_numpy()
                middle = float(np.median(difference))
                p = float(wilcoxon(difference).pvalue) if np.any(difference) else 1.0
                rho, _ = _chance.spearman(both["v"].to_numpy(), both["v_other"].to_numpy())
                off, unlike = p < case.level and abs(middle) > OFFSET * m.effect, rho < 0.3
                if not (off or unlike):
                    continue
                unit = "decades" if m.log else m.unit
                yield Finding(
                    WARNING,
                    1 - p if off else 0.9,
                    f"{column} {a!r} and {b!r} measured {both.height} of the same subjects and treatments; {a!r} is "
                    f"{figure(abs(middle))} {unit} {'higher' if middle > 0 else 'lower'} on the median ({chance(p)}), "
                    f"and they agree with a rank correlation of {rho:.2f}.",
                    m.endpoint,
                    f"Do not pool them as they are: model the {column}, bring them to one scale, or keep one.",
                    rows=frame.filter(pl.col(column).is_in([a, b])).join(both, on=KEYS, nulls_equal=True)["row"].sort(),
                    names=[a, b],
                )


def offsets(case: Case) -> Iterator[Finding]:
    """A site, source or batch whose subjects all lie higher or lower, treatment for treatment."""
    for m in case.measured:
        tests = []
        for column, grouping in case.technical.items():
            both = m.per_subject().join(grouping, on="subject")
            if both.height < 12:
                continue
            p, size = _chance.kruskal(both["effect"].to_numpy(), codes(both["group"])[0])
            tests.append((p, size, column, both))
        for p, size, column, both in tests:
            if p * len(tests) >= case.level or size < 0.15:
                continue
            middle = both.group_by("group").agg(pl.col("effect").median(), pl.len()).sort("effect")
            overall = float(both["effect"].median())  # type: ignore[arg-type]
            odd = middle.sort((pl.col("effect") - overall).abs(), descending=True)
            yield Finding(
                WARNING,
                1 - p,
                f"{column} explains {size:.0%} of how subjects differ in {m.endpoint!r} ({chance(p)}): {column} "
                f"{odd['group'][0]!r} lies {figure(odd['effect'][0] - overall)} "
                f"{'decades' if m.log else m.unit} from the median subject.",
                m.endpoint,
                f"Adjust for {column} with controls that every {column} ran; hold whole {column}s out when judging.",
                names=odd["group"],
            )


def batches(case: Case) -> Iterator[Finding]:
    """A modality in which subjects of one batch, site or source cluster together."""
    found = [(p, c, g) for p in case.profiles.values() for c, g in case.technical.items()]
    for profile, column, grouping in found:
        apart = profile.apart(grouping)
        if apart is None:
            continue
        p, size, names = apart
        if p <= 1e-3 and size > 0.1:
            yield Finding(
                WARNING,
                1 - p,
                f"{column} explains {size:.0%} of the variance of {profile.modality!r} (first 10 principal components, "
                f"p <= {p:.1g} by permutation), over {len(names)} {column}s.",
                profile.modality,
                f"A model can tell the {column} and may learn it in place of biology: correct for it on training "
                f"subjects, and hold whole {column}s out when judging.",
                names=names,
            )


def drift(case: Case) -> Iterator[Finding]:
    """Responses that climb or sink with the date, session or order in which subjects were measured."""
    for m in case.measured:
        for column in case.columns(DATED):
            order = case.subjects.select("subject", pl.col(column).alias("when")).drop_nulls()
            if not (order.schema["when"].is_numeric() or order.schema["when"].is_temporal()):
                parsed = order["when"].cast(pl.String).str.to_date(strict=False)
                if parsed.null_count():
                    continue
                order = order.with_columns(parsed.alias("when"))
            both = m.per_subject().join(order, on="subject").with_columns(pl.col("when").to_physical())
            if both.height < 20:
                continue
            rho, p = _chance.spearman(both["when"].to_numpy().astype(float), both["effect"].to_numpy())
            if p < case.level and abs(rho) > 0.3:
                ends = both.sort("when")["effect"].to_numpy()
                tenth = max(3, len(ends) // 5)
                change = float(np.median(ends[-tenth:]) - np.median(ends[:tenth]))
                yield Finding(
                    WARNING,
                    1 - p,
                    f"{m.endpoint!r} {'rises' if rho > 0 else 'falls'} with {column} (Spearman {rho:.2f}, {chance(p)}) "
                    f"by {figure(abs(change))} {'decades' if m.log else m.unit} from the first fifth of the subjects "
                    "to the last.",
                    m.endpoint,
                    f"Look at the controls over {column}; adjust for it, and judge on the latest subjects.",
                    names=[column],
                )


def pieces(case: Case) -> Iterator[Finding]:
    """Studies in pieces: treatments and subjects that no comparison connects, groups of one or two, endpoints apart."""
    for m in case.measured:
        if not m.crossed:
            continue
        parts = components(m)
        if len(parts) < 2:
            continue
        small = sorted(parts, key=lambda part: len(part[0]))[:-1]
        subjects = sorted(s for part in small for s in part[0])
        treatments = sorted(t for part in small for t in part[1])
        yield Finding(
            WARNING,
            1.0,
            f"{m.endpoint!r} falls into {len(parts)} parts that share neither subject nor treatment; outside the "
            f"largest are {len(subjects)} subjects ({some(subjects)}) and {len(treatments)} treatments "
            f"({some(treatments)}).",
            m.endpoint,
            "Levels cannot be compared between the parts: take one, or measure a treatment that links them.",
            rows=m.frame.filter(pl.col("subject").is_in(subjects))["row"],
            names=[*subjects, *treatments],
        )
    yield from _disjoint(case)
    for column, grouping in case.groupings.items():
        if column != "tissue":
            continue
        few = grouping.group_by("group").len().filter(pl.col("len") < 3).sort("group")
        if few.height:
            yield Finding(
                NOTE,
                1.0,
                f"{few.height} of {grouping['group'].n_unique()} {column}s have fewer than 3 subjects: "
                f"{some(few['group'])}.",
                f"subjects, {column}",
                "Nothing can be learnt or judged about them by themselves; pool or leave them out.",
                names=few["group"],
            )


def _disjoint(case: Case) -> Iterator[Finding]:
    """One note of all endpoints that no subject has together."""
    owners: dict[frozenset[str], list[str]] = {}
    for m in case.measured:
        if len(m.subjects) >= 3:
            owners.setdefault(frozenset(m.subjects), []).append(m.endpoint)
    for a, b in combinations(sorted(owners, key=lambda s: (-len(s), owners[s])), 2):
        if not a & b:
            yield Finding(
                NOTE,
                1.0,
                f"{some(owners[a])} ({len(a)} subjects) and {some(owners[b])} ({len(b)}) were never measured on one "
                "subject.",
                "outcomes, endpoint",
                "They cannot be related subject by subject (satellite animals, or a split screen).",
                names=[*owners[a], *owners[b]],
            )
            return


def components(m: Measured) -> list[tuple[list[str], list[str]]]:
    """Connected parts of the graph subject - treatment: names of both, for each part."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    t, names = codes(m.frame["treatment"])
    n, k = len(m.subjects), len(names)
    graph = coo_matrix((np.ones(len(t)), (m.s, n + t)), shape=(n + k, n + k))
    count, label = connected_components(graph, directed=False)
    return [
        (
            [m.subjects[i] for i in np.flatnonzero(label[:n] == part)],
            [names[i] for i in np.flatnonzero(label[n:] == part)],
        )
        for part in range(count)
    ]


CHECKS = (
    Check("inconsistent sources", disagree),
    Check("site or batch offset", offsets),
    Check("batch clusters", batches),
    Check("drift", drift),
    Check("fragmentation", pieces),
)
