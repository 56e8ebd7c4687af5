"""What is missing, and whether its absence says something about what it would have been."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from workbench.audits import _chance
from workbench.audits._case import Case, Measured, codes
from workbench.audits._finding import NOTE, WARNING, Check, Finding, chance, figure, foremost, some

STRONG = 0.35  # rank correlation from which absence tells something worth acting on


def share(m: Measured) -> pl.DataFrame:
    """subject, missing: share of the endpoint's treatments that a subject was not measured with, and its effect."""
    total = m.frame["treatment"].n_unique()
    per = m.frame.group_by("subject").agg((1 - pl.col("treatment").n_unique() / total).alias("missing"))
    return per.join(m.per_subject(), on="subject").sort("subject")


def informative(case: Case) -> Iterator[Finding]:
    """Measurements missing more often from subjects or treatments with high (or low) values."""
    for m in case.measured:
        if not m.crossed or len(m.subjects) < 20:
            continue
        frame = share(m)
        rho, p = _chance.spearman(frame["missing"].to_numpy(), frame["effect"].to_numpy())
        if p < case.level and abs(rho) >= STRONG:
            worst = frame.sort("missing", descending=True).filter(pl.col("missing") > frame["missing"].median())
            yield Finding(
                WARNING,
                1 - p,
                f"Subjects with {'higher' if rho > 0 else 'lower'} {m.endpoint!r} were measured with fewer treatments "
                f"(Spearman {rho:.2f}, {chance(p)}, {frame.height} subjects).",
                m.endpoint,
                "The gaps are not at random: a mean over what is there is biased. Find out why those were not "
                "measured, and judge models on subjects that have all treatments.",
                names=worst["subject"],
            )
        per = m.frame.group_by("treatment").agg(pl.col("subject").n_unique().alias("n"))
        level = m.conditions.with_columns(pl.Series("level", m.level)).group_by("treatment").agg(pl.col("level").mean())
        per = per.join(level, on="treatment")
        rho, p = _chance.spearman(-per["n"].to_numpy().astype(float), per["level"].to_numpy())
        if p < case.level and abs(rho) >= 0.5 and per["n"].min() < 0.8 * per["n"].max():  # type: ignore[operator]
            yield Finding(
                NOTE,
                1 - p,
                f"Treatments with {'higher' if rho > 0 else 'lower'} {m.endpoint!r} were measured in fewer subjects "
                f"(Spearman {rho:.2f}, {chance(p)}, {per.height} treatments).",
                m.endpoint,
                "Compare treatments on the subjects they share.",
                names=per.sort("n")["treatment"].head(10),
            )


def by_group(case: Case) -> Iterator[Finding]:
    """Measurements missing more often in some tissues, sexes or other groups."""
    for m, endpoints in case.grids:
        if len(m.subjects) < 20:
            continue
        frame = share(m)
        tests = []
        for column, grouping in case.groupings.items():
            both = frame.join(grouping, on="subject")
            if both.height < 20:
                continue
            p, size = _chance.kruskal(both["missing"].to_numpy(), codes(both["group"])[0])
            means = both.group_by("group").agg(pl.col("missing").mean(), pl.len()).filter(pl.col("len") >= 3)
            tests.append((p, size, column, means.sort("missing")))
        found = []
        for p, size, column, means in tests:
            if p * len(tests) < case.level and size > 0.1 and means.height >= 2:
                low, high = means.row(0, named=True), means.row(-1, named=True)
                gap = high["missing"] - low["missing"]
                if gap < 0.1:
                    continue
                finding = Finding(
                    WARNING if size > 0.35 and gap > 0.25 else NOTE,
                    1 - p,
                    f"{high['missing']:.0%} of the treatments are missing for {endpoints} in {column} "
                    f"{high['group']!r}, {low['missing']:.0%} in {low['group']!r} ({chance(p)}, {size:.0%} of the "
                    "variance of gaps between groups).",
                    endpoints,
                    f"Compare within {column}, or on treatments that every group received.",
                    names=means.sort("missing", descending=True)["group"].head(5),
                )
                found.append((size, column, finding))
        yield from foremost(found)


def modality(case: Case) -> Iterator[Finding]:
    """Subjects without a modality that respond otherwise than those with it."""
    from scipy.stats import mannwhitneyu

    tests = []
    for name in case.study.modalities:
        told = case.study.manifest["files"][f"modalities/{name}.h5ad"]
        if told["axis"] != "subject":
            continue
        there = set(case.study.presence().filter(pl.col(name))["subject"])
        for m in case.measured:
            if len(m.subjects) < 20 or (not m.crossed and m.frame["treatment"].n_unique() > len(m.subjects) / 3):
                continue
            has = np.array([s in there for s in m.subjects])
            if min(has.sum(), (~has).sum()) < 5:
                continue
            p = float(mannwhitneyu(m.own[has], m.own[~has]).pvalue)
            sd = _chance.scale(m.own)
            size = float(np.median(m.own[~has]) - np.median(m.own[has])) / sd if sd else 0.0
            tests.append((p, size, name, m, [s for s, h in zip(m.subjects, has, strict=True) if not h]))
    for p, size, name, m, without in tests:
        if p * len(tests) < case.level * 10 and abs(size) > 0.5:
            yield Finding(
                WARNING,
                1 - p,
                f"The {len(without)} subjects without {name!r} have {'higher' if size > 0 else 'lower'} "
                f"{m.endpoint!r} by {figure(abs(size))} standard deviations ({chance(p)}).",
                name,
                f"A model that needs {name!r} learns and is judged on other subjects than it will meet; say so, or use "
                "one that takes any subset of modalities.",
                names=without,
            )


def cells(case: Case) -> Iterator[Finding]:
    """Empty cells inside a modality, and the features or subjects that lack many."""
    for profile in case.profiles.values():
        empty = np.isnan(profile.raw)
        if not empty.any():
            continue
        by_subject, by_feature = empty.mean(axis=1), empty.mean(axis=0)
        bad = [profile.features[i] for i in np.flatnonzero(by_feature > 0.2)]
        rows = [profile.names[i] for i in np.flatnonzero(by_subject > 0.2)]
        yield Finding(
            WARNING if (bad or rows) and empty.mean() < 0.05 else NOTE,  # much: not looked for, rather than lost
            1.0,
            f"{empty.mean():.1%} of the cells of {profile.modality!r} are empty; {len(bad)} features and {len(rows)} "
            f"subjects lack over a fifth{': ' + some([*bad, *rows]) if bad or rows else ''}.",
            profile.modality,
            "Drop those features or subjects, or fill the cells on training subjects alone, before a model sees them.",
            names=[*rows, *bad] or [profile.names[i] for i in np.flatnonzero(empty.any(axis=1))],
            n=int(empty.sum()),
        )


def dropout(case: Case) -> Iterator[Finding]:
    """Subjects followed over time that leave early, more so with some treatments or after high values."""
    for m in case.measured:
        timed = m.frame.with_columns(pl.Series("work", m.work)).filter(pl.col("time_h").is_not_null())
        per = timed.group_by("subject").agg(
            pl.col("time_h").max().alias("last"),
            pl.col("time_h").n_unique().alias("times"),
            pl.col("treatment").first(),
            pl.col("treatment").n_unique().alias("arms"),
            pl.col("dose").max(),
        )
        per = per.filter(pl.col("times") >= 3, pl.col("arms") == 1).sort("subject")
        if per.height < 12 or per["last"].n_unique() < 2:
            continue
        whole = float(per["last"].quantile(0.9))  # type: ignore[arg-type]
        early = (per["last"] < 0.8 * whole).to_numpy()
        if min(early.sum(), (~early).sum()) < 4:
            continue
        arm = per.select(pl.concat_str("treatment", pl.col("dose").cast(pl.String).fill_null(""), separator=" "))
        a, names = codes(arm["treatment"])
        p, v = _chance.association(a, early.astype(np.int64))
        if p <= 5e-4 and v > 0.4:
            rate = {n: float(early[a == i].mean()) for i, n in enumerate(names)}
            worst = max(rate, key=lambda n: rate[n])
            yield Finding(
                WARNING,
                1 - p,
                f"{int(early.sum())} of {per.height} subjects leave {m.endpoint!r} before {figure(0.8 * whole)} h, and "
                f"how many depends on the arm: {rate[worst]:.0%} in {worst.strip()!r}, {min(rate.values()):.0%} in the "
                f"least ({chance(p)}).",
                m.endpoint,
                "Late values are of survivors only: compare arms at the last time all are there, or model the dropout.",
                names=per.filter(pl.Series(early))["subject"],
            )


CHECKS = (
    Check("informative missingness", informative),
    Check("missingness by group", by_group),
    Check("informative missing modality", modality),
    Check("empty cells in a modality", cells),
    Check("informative dropout", dropout),
)
