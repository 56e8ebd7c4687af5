"""Domain shift: groups of subjects that differ in a modality, and test subjects unlike the training ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from workbench.audits import _chance
from workbench.audits._case import DATED, PERSON, Case, codes
from workbench.audits._finding import NOTE, WARNING, Check, Finding, figure


def groups(case: Case) -> Iterator[Finding]:
    """Groups of subjects (tissue, sex, species ...) that lie apart in a modality."""
    for profile in case.profiles.values():
        for column, grouping in case.groupings.items():
            found = profile.apart(grouping)
            if found is None:
                continue
            p, size, names = found
            if p <= 1e-3 and size > 0.1:
                yield Finding(
                    NOTE,
                    1 - p,
                    f"{column} explains {size:.0%} of the variance of {profile.modality!r} (first 10 principal "
                    f"components, p <= {p:.1g} by permutation).",
                    profile.modality,
                    f"A model may recognise the {column} and answer its mean: compare with the mean per {column} and "
                    "treatment, and judge on an unseen one.",
                    names=names,
                )


def modalities(case: Case) -> Iterator[Finding]:
    """Test subjects that lie apart from the training subjects in a modality."""
    looks = max(1, len(case.folds) * len(case.profiles))
    for fold in case.folds:
        if fold.group not in ("subject", "tissue"):
            continue
        train, test = set(fold.train["subject"]), set(fold.test["subject"])
        for profile in case.profiles.values():
            side = np.array([1 if s in test else 0 if s in train else -1 for s in profile.names])
            used = side >= 0
            if min((side == 0).sum(), (side == 1).sum()) < 5:
                continue
            p, size = _chance.separated(profile.points[used], side[used], seed=fold.number)
            if p > max(5.1e-4, 1e-3 / looks) or size < 0.01:
                continue
            meant = fold.group == "tissue"
            yield Finding(
                NOTE if meant else WARNING,
                1 - p,
                f"The {(side == 1).sum()} test subjects of fold {fold.number} lie apart from the {(side == 0).sum()} "
                f"training subjects in {profile.modality!r}: the side explains {size:.1%} of its variance (first 10 "
                f"principal components, p <= {p:.1g} by permutation).",
                f"fold {fold.number}, {profile.modality}",
                "Meant by this split; expect wider errors than within tissues."
                if meant
                else "Intervals learnt on the training subjects will be too narrow; find what differs (site? tissue? "
                "batch?) and split by it, or say that the test is on another population.",
                names=sorted(test),
            )


def covariates(case: Case) -> Iterator[Finding]:
    """Test subjects of another tissue, sex, site or age than the training subjects."""
    kinds = {**case.groupings, **case.technical}
    numeric = [
        c
        for c, t in case.subjects.schema.items()
        if t.is_float() and not PERSON.match(c) and not DATED.match(c) and case.subjects[c].n_unique() > 5
    ]
    looks = max(1, len(case.folds) * (len(kinds) + len(numeric)))
    for fold in case.folds:
        if fold.group != "subject":
            continue
        side = pl.concat(
            [
                fold.train.select("subject").unique().with_columns(pl.lit(0).alias("side")),
                fold.test.select("subject").unique().with_columns(pl.lit(1).alias("side")),
            ]
        ).sort("subject")
        for column, grouping in kinds.items():
            both = side.join(grouping, on="subject").sort("subject")
            if both.height < 20 or both["side"].n_unique() < 2:
                continue
            a, names = codes(both["group"])
            b = both["side"].to_numpy().astype(np.int64)
            p, v = _chance.association(a, b, seed=fold.number)
            if p > max(6e-5, 1e-3 / looks) or v < 0.25:
                continue
            share = {n: (float((a[b == 0] == i).mean()), float((a[b == 1] == i).mean())) for i, n in enumerate(names)}
            worst = max(share, key=lambda n: abs(share[n][0] - share[n][1]))
            yield Finding(
                WARNING,
                1 - p,
                f"{column} {worst!r} is {share[worst][1]:.0%} of the test subjects of fold {fold.number} and "
                f"{share[worst][0]:.0%} of the training subjects (p <= {p:.1g} by permutation, Cramer's V {v:.2f}).",
                f"fold {fold.number}, {column}",
                f"Balance {column} over the folds, or hold out a whole {column} and call it that.",
                names=[worst],
            )
        for column in numeric:
            both = side.join(case.subjects.select("subject", pl.col(column).alias("x")).drop_nulls(), on="subject")
            p, size = _chance.kruskal(both["x"].to_numpy(), both["side"].to_numpy().astype(np.int64))
            if p < case.level / looks and size > 0.05:
                middle = dict(both.group_by("side").agg(pl.col("x").median()).rows())
                yield Finding(
                    WARNING,
                    1 - p,
                    f"{column} is {figure(middle[1])} in the test subjects of fold {fold.number} and "
                    f"{figure(middle[0])} in the training subjects (medians, p = {p:.1g}).",
                    f"fold {fold.number}, {column}",
                    f"Balance {column} over the folds, or say that the test is on another population.",
                    names=[column],
                )


def beyond(case: Case) -> Iterator[Finding]:
    """Test rows at doses or times beyond any training row of their treatment."""
    frame = case.study.rows.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    for fold in case.folds:
        if fold.group == "compound":
            continue
        train, test = (frame.filter(pl.col("row").is_in(s["row"].implode())) for s in (fold.train, fold.test))
        for column, what in (("dose", "doses"), ("time_h", "times")):
            seen = train.group_by("treatment").agg(
                pl.col(column).min().alias("low"), pl.col(column).max().alias("high"), pl.col(column).count().alias("k")
            )
            out = test.join(seen.filter(pl.col("k") > 0), on="treatment").filter(
                (pl.col(column) > pl.col("high") * 1.001) | (pl.col(column) < pl.col("low") * 0.999)
            )
            if out.height > 0.1 * test.height:
                yield Finding(
                    WARNING,
                    1.0,
                    f"{out.height} of {test.height} test rows of fold {fold.number} are at {what} beyond any training "
                    f"row of their treatment, such as {figure(out[column][0])} for {out['treatment'][0]!r} (training "
                    f"{figure(out['low'][0])} to {figure(out['high'][0])}).",
                    f"fold {fold.number}, {column}",
                    "This asks for extrapolation: train on the whole range, or report such rows apart.",
                    rows=out["row"],
                    n=out.height,
                )


CHECKS = (
    Check("groups apart in a modality", groups),
    Check("train and test apart in a modality", modalities, split=True),
    Check("train and test of other groups", covariates, split=True),
    Check("test beyond the training range", beyond, split=True),
)
