"""The same thing twice: subjects, patients, compounds and measurements under two names, worst where a split parts them.

A pair is a note or a warning for the study by itself, and an error where one of it teaches and the other tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

import numpy as np
import polars as pl

from workbench.audits import _chance, _twins
from workbench.audits._case import ARM, DATED, HOUSING, Case, Measured, codes
from workbench.audits._finding import ERROR, NOTE, WARNING, Check, Finding, some
from workbench.audits._twins import Pair
from workbench.splits import Fold

APART = {"subject": ("subject", "tissue", "pair"), "treatment": ("compound", "pair")}  # rules that keep each apart


def same_subject(case: Case) -> Iterator[Finding]:
    """One line, animal or sample under two names."""
    pairs = _twins.subjects(case)
    if pairs:
        yield _study(case, pairs, "subject", WARNING)
        yield from _across(case, pairs, "subject", ERROR)


def mixed_up(case: Case) -> Iterator[Finding]:
    """Two subjects with one profile in a modality and unlike ones in another: a sample was mixed up."""
    pairs = _twins.mixed_up(case)
    for modality in sorted({m for m, _ in pairs}):
        here = [p for m, p in pairs if m == modality]
        best = here[0]
        yield Finding(
            WARNING,
            float(np.mean([p.sure for p in here])),
            f"{len(here)} pairs of subjects have one profile in {modality!r}, though another modality shows "
            f"two different samples: {best.a!r} and {best.b!r} ({best.why})"
            f"{', and ' + some(f'{p.a} = {p.b}' for p in here[1:]) if len(here) > 1 else ''}.",
            modality,
            f"One sample was profiled or copied under both names: take {modality!r} of these subjects out until the "
            "source is checked.",
            names=sorted({n for p in here for n in (p.a, p.b)}),
            n=len(here),
        )


def same_person(case: Case) -> Iterator[Finding]:
    """Subjects taken from one patient, donor or animal."""
    pairs = [Pair(a, b, f"the same {c}", 0.99) for a, b, c in _twins.by_column(case, _twins.people(case))]
    pairs += [Pair(a, b, "the names are visits of one", 0.8) for a, b in _twins.by_name(_names(case), _twins.VISIT)]
    if pairs:
        yield _study(case, pairs, "subject", NOTE)
        yield from _across(case, pairs, "subject", ERROR)


def _names(case: Case) -> list[str]:
    return case.subjects["subject"].to_list()


def same_compound(case: Case) -> Iterator[Finding]:
    """One drug under two structures, salts or spellings."""
    pairs = _twins.compounds(case)
    if not pairs:
        return
    keys = [c for c in ("compound_key", "compound") if c in case.treatments.columns]
    listed = dict(case.treatments.select("treatment", pl.coalesce(keys)).rows())
    unknown = [p for p in pairs if listed.get(p.a) is None or listed.get(p.a) != listed.get(p.b)]
    for part, severity in ((unknown, WARNING), ([p for p in pairs if p not in unknown], NOTE)):
        if part:
            yield _study(case, part, "treatment", severity)
    yield from _across(case, pairs, "treatment", ERROR)


def near_compound(case: Case) -> Iterator[Finding]:
    """Two drugs that no fingerprint tells apart, one in training and one in test."""
    yield from _across(case, _twins.alike(case), "treatment", WARNING)


def _study(case: Case, pairs: list[Pair], axis: str, severity: str) -> Finding:
    names = sorted({n for p in pairs for n in (p.a, p.b)})
    best = pairs[0]
    merge = "Merge them under one name" if severity != NOTE else "Keep both"
    return Finding(
        severity,
        float(np.mean([p.sure for p in pairs])),
        f"{len(pairs)} pairs of {axis}s seem to be one: {best.a!r} and {best.b!r} ({best.why})"
        f"{', and ' + some(f'{p.a} = {p.b}' for p in pairs[1:]) if len(pairs) > 1 else ''}.",
        f"{axis}s",
        f"{merge}, and never let a split part them: whole {'compounds' if axis == 'treatment' else 'persons or lines'} "
        "belong on one side.",
        names=names,
        n=len(pairs),
    )


def _across(case: Case, pairs: list[Pair], axis: str, severity: str) -> Iterator[Finding]:
    """Pairs parted by a fold whose rule promises that the axis (or the combination) is unseen."""
    for fold in case.folds:
        if fold.group not in APART[axis] or not pairs:
            continue
        a, b = _sides(fold, axis)
        parted = [p for p in pairs if (p.a in a and p.b in b) or (p.b in a and p.a in b)]
        if fold.group == "pair":
            parted = [p for p in parted if _meet(fold, axis, p)]
        if not parted:
            continue
        names = sorted({n for p in parted for n in (p.a, p.b)})
        rows = fold.test.filter(pl.col(axis).is_in(names))["row"]
        best = parted[0]
        yield Finding(
            severity,
            float(np.mean([p.sure for p in parted])),
            f"Fold {fold.number} claims {fold.rule!r}, but {len(parted)} pairs of {axis}s that seem to be one stand on "
            f"both sides: {best.a!r} and {best.b!r} ({best.why}).",
            f"fold {fold.number}",
            "Give both one name, or put them on one side (Split.custom); scores on these rows are of something seen.",
            rows=rows,
            names=names,
        )


def _sides(fold: Fold, axis: str) -> tuple[set[str], set[str]]:
    return set(fold.train[axis]), set(fold.test[axis])


def _meet(fold: Fold, axis: str, pair: Pair) -> bool:
    """In a split by pair: is there a partner that one name meets in training and the other in test?"""
    other = "treatment" if axis == "subject" else "subject"
    for one, two in ((pair.a, pair.b), (pair.b, pair.a)):
        taught = set(fold.train.filter(pl.col(axis) == one)[other])
        if taught & set(fold.test.filter(pl.col(axis) == two)[other]):
            return True
    return False


def replicates(case: Case) -> Iterator[Finding]:
    """Replicates of one measurement, some in training and some in test."""
    keys = ["subject", "treatment", "dose", "time_h"]
    frame = case.study.rows.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64)).select("row", *keys)
    for fold in case.folds:
        train, test = (frame.join(s.select("row"), on="row", how="semi") for s in (fold.train, fold.test))
        both = test.join(train.drop("row").unique(), on=keys, how="semi", nulls_equal=True)
        if both.height:
            yield Finding(
                ERROR,
                1.0,
                f"{both.height} of {test.height} test rows of fold {fold.number} repeat a measurement of the training "
                f"rows (same subject, treatment, dose and time), first {both['subject'][0]!r} with "
                f"{both['treatment'][0]!r}.",
                f"fold {fold.number}",
                "Keep all replicates of a measurement on one side.",
                rows=both["row"],
                names=both["subject"].unique().sort(),
            )


def two_arms(case: Case) -> Iterator[Finding]:
    """An animal that stands in two arms, sites or sources where each of the others stands in one."""
    for column in ("treatment", "source", "site"):
        per = case.outcomes.group_by("subject").agg(pl.col(column).unique().sort())
        many = per.filter(pl.col(column).list.len() > 1).sort("subject")
        if per.height < 10 or not 0 < many.height <= 0.1 * per.height or case.outcomes[column].n_unique() < 2:
            continue
        if column != "treatment" and any(m.crossed for m in case.measured) and many.height > 2:
            continue  # reference lines are measured everywhere on purpose
        names = many["subject"]
        yield Finding(
            WARNING,
            0.9,
            f"{many.height} of {per.height} subjects stand in more than one {column}, where all others stand in one: "
            f"{names[0]!r} in {some(many[column][0])}.",
            f"outcomes, {column}",
            "Two animals may carry one number: check the source, and keep all its rows on one side of a split.",
            rows=case.outcomes.filter(pl.col("subject").is_in(names.implode()))["row"],
            names=names,
        )
    arms = [c for c in case.subjects.columns if ARM.match(c)]
    for a, b, column in _twins.by_column(case, _twins.people(case)):
        there = case.subjects.filter(pl.col("subject").is_in([a, b]))
        for arm in arms:
            if there[arm].drop_nulls().n_unique() > 1:
                yield Finding(
                    ERROR,
                    0.9,
                    f"{column} of {a!r} and {b!r} is one, but they stand in two of {arm}: "
                    f"{some(there[arm].cast(pl.String))}.",
                    f"subjects, {arm}",
                    "Check which arm the animal was in, and drop the other record.",
                    names=[a, b],
                )
                break


def time(case: Case) -> Iterator[Finding]:
    """Later measurements of a subject or person that teach about earlier ones in test."""
    frame = case.study.rows.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    frame = frame.select("row", "time_h")
    for fold in case.folds:
        train, test = (s.join(frame, on="row").filter(pl.col("time_h").is_not_null()) for s in (fold.train, fold.test))
        last = train.group_by("subject", "treatment").agg(pl.col("time_h").max().alias("last"))
        early = test.join(last, on=["subject", "treatment"]).filter(pl.col("last") > pl.col("time_h"))
        if early.height:
            one = early.row(0, named=True)
            yield Finding(
                ERROR,
                1.0,
                f"{early.height} test rows of fold {fold.number} are earlier than training rows of the same subject "
                f"and treatment: {one['subject']!r} at {one['time_h']:g} h, training up to {one['last']:g} h.",
                f"fold {fold.number}",
                "Train on the past only: cut by time, or keep all times of a subject on one side.",
                rows=early["row"],
                names=early["subject"].unique().sort(),
            )
    dated = [
        c
        for c in case.columns(DATED)
        if (case.subjects.schema[c].is_numeric() or case.subjects.schema[c].is_temporal())
        and not re.search("order|session", c, re.IGNORECASE)  # when it was measured, not when it was taken
    ]
    pairs = [(a, b) for a, b, _ in _twins.by_column(case, _twins.people(case))]
    pairs += list(_twins.by_name(_names(case), _twins.VISIT))
    for fold, column in ((f, c) for f in case.folds for c in dated):
        when = dict(case.subjects.select("subject", column).rows())
        taught, tested = _sides(fold, "subject")
        late = [
            (a, b)
            for a, b in chain(pairs, ((b, a) for a, b in pairs))
            if a in taught and b in tested and when[a] is not None and when[b] is not None and when[a] > when[b]
        ]
        if late:
            yield Finding(
                ERROR,
                0.95,
                f"In fold {fold.number}, {len(late)} test subjects have a later record of the same person in training: "
                f"{late[0][1]!r} ({column} {when[late[0][1]]}) and {late[0][0]!r} ({when[late[0][0]]}).",
                f"fold {fold.number}",
                "Train on the past only, and keep a person on one side.",
                names=sorted({n for pair in late for n in pair}),
                n=len(late),
            )


def housing(case: Case) -> Iterator[Finding]:
    """Litters, cages, families or cohorts that answer alike and stand on both sides of a split."""
    columns = case.columns(HOUSING)
    for fold, column in ((f, c) for f in case.folds for c in columns):
        if fold.group != "subject":
            continue
        grouping = case.grouping(column)
        train, test = (set(grouping.filter(pl.col("subject").is_in(list(s)))["group"]) for s in _sides(fold, "subject"))
        shared = train & test
        m = next((m for m in case.measured if m.endpoint == fold.endpoint), None)
        if not shared or m is None:
            continue
        taught = m.per_subject().filter(pl.col("subject").is_in(fold.train["subject"].unique().implode()))
        both = taught.join(grouping, on="subject")
        p, size = like(both) if both.height >= 12 else (1.0, 0.0)
        if p < 1e-3 / max(1, len(case.folds) * len(columns)) and size > 0.25:
            yield Finding(
                WARNING,
                1 - p,
                f"{len(shared)} {column}s stand on both sides of fold {fold.number}, and subjects of one {column} "
                f"answer alike (it explains {size:.0%} of the training subjects' differences in {fold.endpoint!r}).",
                f"fold {fold.number}, {column}",
                f"Hold whole {column}s out: a test subject is otherwise known through its mates.",
                names=sorted(shared),
            )


def like(frame: pl.DataFrame) -> tuple[float, float]:
    """Do subjects of one group have like effects? p of an F test on ranks, and the intraclass correlation (ICC 1)."""
    from scipy.stats import f as fisher
    from scipy.stats import rankdata

    label, names = codes(frame["group"])
    x = rankdata(frame["effect"].to_numpy())
    n, k = len(x), len(names)
    if k < 2 or n <= k:
        return 1.0, 0.0
    size = np.bincount(label)
    mean = np.bincount(label, x) / size
    between = float((size * (mean - x.mean()) ** 2).sum()) / (k - 1)
    within = float(((x - mean[label]) ** 2).sum()) / (n - k)
    typical = (n - float((size**2).sum()) / n) / (k - 1)
    icc = (between - within) / (between + (typical - 1) * within) if within > 0 else 1.0
    return float(fisher.sf(between / max(within, 1e-12), k - 1, n - k)), max(0.0, icc)


def order(case: Case) -> Iterator[Finding]:
    """Subject numbers or the order of the table that give the outcome away."""
    for m in case.measured:
        effect = _within(case, m)
        place = {s: i for i, s in enumerate(case.subjects["subject"])}
        number = [_number(s) for s in m.subjects]
        for label, key in (
            ("the order of SUBJECTS", [place[s] for s in m.subjects]),
            ("the number in the name", number),
        ):
            known = [i for i, k in enumerate(key) if k is not None and np.isfinite(effect[i])]
            if len(known) < 20:
                continue
            rho, p = _chance.spearman(np.array([key[i] for i in known], dtype=float), effect[known])
            if abs(rho) > 0.7 and p < case.level:
                yield Finding(
                    WARNING,
                    1 - p,
                    f"Subjects are sorted by their outcome: {label} follows {m.endpoint!r} (Spearman {rho:.2f} over "
                    f"{len(known)} subjects).",
                    m.endpoint,
                    "Never feed row numbers or names to a model, and shuffle before folds are cut by position.",
                    names=[label],
                )
                break


def _within(case: Case, m: Measured) -> np.ndarray:
    """Effect of each subject less the median of its arm, sex, tissue and so on; NaN where fewer than 5 share these."""
    columns = [*case.groupings, *(c for c in case.subjects.columns if ARM.match(c) and c not in case.groupings)]
    told = case.subjects.select(
        "subject",
        pl.concat_str(pl.col(columns).cast(pl.String).fill_null("?"), separator="|").alias("cell")
        if columns
        else pl.lit("").alias("cell"),
    )
    frame = m.per_subject().join(told, on="subject", how="left", maintain_order="left")
    cell = pl.col("effect") - pl.col("effect").median().over("cell")
    return (
        frame.select(pl.when(pl.len().over("cell") >= 5).then(cell).otherwise(None).cast(pl.Float64))
        .to_series()
        .fill_null(float("nan"))
        .to_numpy()
    )


def _number(name: str) -> int | None:
    digits = "".join(c if c.isdigit() else " " for c in name).split()
    return int(digits[-1]) if digits and len(digits[-1]) < 16 else None


CHECKS = (
    Check("same subject under two names", same_subject),
    Check("mixed-up samples", mixed_up),
    Check("same person in two subjects", same_person),
    Check("same compound under two names", same_compound),
    Check("near-duplicate compounds across folds", near_compound, split=True),
    Check("replicates across folds", replicates, split=True),
    Check("one animal in two arms", two_arms),
    Check("time leakage", time, split=True),
    Check("cohort leakage", housing, split=True),
    Check("order leaks the outcome", order),
)
