"""Features that know the answer: copied from the outcome, made from it, or chosen by it on rows that test.

Only training targets of a split are read here (see ``Case``). A feature set chosen by the outcome is recognised from
the training rows: all features correlate with it, and none is left that does not, as no honest panel would have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

import numpy as np
import polars as pl

from workbench.audits._case import Case, Measured, Profile
from workbench.audits._finding import ERROR, NOTE, WARNING, Check, Finding, some

COPY = 0.99  # correlation from which a feature is the outcome itself
LEAST = 15  # subjects that both must share
FEWEST = 40  # features before their p-values have a shape to judge
TOLD = ("selected_on", "chosen_on", "scaled_on", "normalised_on", "imputed_on", "fitted_on", "corrected_on")
Response = tuple[list[str], list[str], np.ndarray]  # subjects, columns, values
SUPERVISED = ("selected_on", "chosen_on")


def copied(case: Case) -> Iterator[Finding]:
    """Features of a subject that are the outcome itself, or another endpoint of the same rows."""
    targets = {f.endpoint for f in case.folds}
    known = {m.endpoint: responses(m) for m in case.measured}
    for profile in case.profiles.values():
        told: dict[bool, list[tuple[str, str, str, float]]] = {
            True: [],
            False: [],
        }  # of the target (or its kin), or not
        many = len(np.unique(profile.raw[:50])) > 3
        for endpoint, (names, columns, values) in known.items():
            answer = endpoint in targets or any(_kin(known[t], known[endpoint]) for t in targets if t != endpoint)
            hits: dict[tuple[int, int], float] = {}
            for ranked in (False, True) if many else (False,):  # ranks of calls are the calls
                r = correlations(profile, names, values, ranked)
                hits |= {(int(f), int(t)): float(r[f, t]) for f, t in np.argwhere(np.abs(r) > COPY)[:5000]}
            told[answer] += [
                (profile.features[f], endpoint, columns[t], r)
                for (f, t), r in sorted(hits.items(), key=lambda h: -abs(h[1]))
                if spread(profile, f, names, values[:, t])
            ]
        for answer, found in told.items():
            if found:
                yield _copy(profile, found, answer, bool(targets))


def _copy(profile: Profile, found: list[tuple[str, str, str, float]], answer: bool, split: bool) -> Finding:
    features = sorted({f for f, _, _, _ in found})
    endpoints = list(dict.fromkeys(e for _, e, _, _ in found))
    feature, _, column, r = found[0]
    meant = all(f == e or f.startswith(e) for f, e, _, _ in found)  # laboratory values that are a modality as well
    severity = ERROR if answer else NOTE if split or meant else WARNING
    return Finding(
        severity,
        0.99,
        f"{len(features)} features of {profile.modality!r} are {some(endpoints)} or made from it: {feature!r} follows "
        f"{column} with |r| = {abs(r):.4f}{' over the training rows' if answer else ''}.",
        profile.modality,
        "Take these features out: the model would be handed the answer."
        if answer
        else f"Never use them to predict {some(endpoints)}, or what goes with it.",
        names=features,
    )


def spread(profile: Profile, feature: int, names: list[str], values: np.ndarray) -> bool:
    """Do feature and outcome vary enough that their agreement is no accident of one or two odd subjects?"""
    at = {n: i for i, n in enumerate(profile.names)}
    both = [(i, at[n]) for i, n in enumerate(names) if n in at and np.isfinite(values[i])]
    y, x = values[[i for i, _ in both]], profile.raw[[j for _, j in both], feature]
    there = np.isfinite(x)
    if there.sum() < LEAST:
        return False
    return all(np.unique(v[there], return_counts=True)[1].max() < 0.6 * there.sum() for v in (x, y))


def _kin(a: Response, b: Response) -> bool:
    """Do two endpoints rank subjects alike over all treatments (IC50 and AUC)?"""
    left, right = (pl.DataFrame({"subject": names, "v": values[:, -1]}) for names, _, values in (a, b))
    both = left.join(right, on="subject", suffix="_b")
    return both.height >= LEAST and abs(float(both.select(pl.corr("v", "v_b", method="spearman")).item() or 0)) > 0.7


def responses(m: Measured) -> Response:
    """Values by subject and treatment, the subject's effect last: names, columns, float64 (n, t + 1), gaps NaN."""
    frame = m.frame.select("row", "subject", "treatment").with_columns(
        pl.Series("v", m.work), pl.Series("c", m.work - m.level[m.c])
    )
    names = frame["subject"].unique().sort().to_list()
    grid = frame.group_by("subject", "treatment").agg(pl.col("v").mean())
    columns = grid.group_by("treatment").len().filter(pl.col("len") >= LEAST).sort("treatment")["treatment"].to_list()
    at, where = {n: i for i, n in enumerate(names)}, {c: i for i, c in enumerate(columns)}
    out = np.full((len(names), len(columns) + 1), np.nan)
    grid = grid.filter(pl.col("treatment").is_in(columns))
    i = np.array([at[s] for s in grid["subject"]], dtype=np.int64)
    j = np.array([where[t] for t in grid["treatment"]], dtype=np.int64)
    out[i, j] = grid["v"].to_numpy()
    own = frame.group_by("subject").agg(pl.col("c").median()).sort("subject")
    out[:, -1] = own["c"].to_numpy()
    return names, [*(f"{m.endpoint} of {c}" for c in columns), f"{m.endpoint} over all treatments"], out


def correlations(profile: Profile, names: list[str], values: np.ndarray, ranked: bool = False) -> np.ndarray:
    """Pearson's r of each feature with each column over the subjects both have (0 for fewer than 15): (f, t).

    Three matrix products instead of a loop: sums, squares and cross products over the pairs that are there.
    """
    at = {n: i for i, n in enumerate(profile.names)}
    both = [(i, at[n]) for i, n in enumerate(names) if n in at]
    if len(both) < LEAST:
        return np.zeros((len(profile.features), values.shape[1]))
    y, x = values[[i for i, _ in both]], profile.z[[j for _, j in both]]
    there = np.isfinite(y).astype(np.float32)
    if ranked:
        x, y = _ranks(x), np.where(there > 0, _ranks(np.where(there > 0, y, np.inf)), np.nan)
    filled = np.nan_to_num(y)
    n = there.sum(axis=0)
    y = np.where(there > 0, filled - filled.sum(axis=0) / np.maximum(n, 1), 0).astype(np.float32)
    sx, sxx = x.T @ there, (x * x).T @ there
    sy, syy = y.sum(axis=0), (y * y).sum(axis=0)
    safe = np.maximum(n, 1)
    vx, vy = sxx - sx * sx / safe, syy - sy * sy / safe
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (x.T @ y - sx * sy / safe) / np.sqrt(vx * vy)
    # a feature that hardly varies over the subjects of a treatment correlates by accident
    return np.where((n >= LEAST) & (vx > 1e-3 * safe) & (vy > 1e-6 * safe) & np.isfinite(r), r, 0.0)


def _ranks(x: np.ndarray) -> np.ndarray:
    """Ranks down each column, centred and scaled so that single precision suffices."""
    place = np.empty(x.shape, dtype=np.float32)
    np.put_along_axis(place, np.argsort(x, axis=0), np.arange(len(x), dtype=np.float32)[:, None], axis=0)
    return place / len(x) - 0.5


def chosen(case: Case) -> Iterator[Finding]:
    """A modality whose features were chosen by their correlation with the outcome, on all rows at once."""
    from scipy.stats import t as student

    endpoints = {f.endpoint for f in case.folds} or {m.endpoint for m in case.measured}
    for profile in case.profiles.values():
        varying = np.ptp(profile.z, axis=0) > 0
        if varying.sum() < FEWEST:
            continue
        for m in (m for m in case.measured if m.endpoint in endpoints):
            names, columns, values = responses(m)
            for target in {len(columns) - 1, *np.argsort(-np.isfinite(values).sum(axis=0))[:12]}:
                r = correlations(profile, names, values[:, [target]])[varying, 0]
                n = int(np.isfinite(values[:, target]).sum())
                if n < 2 * LEAST or not r.any():
                    continue
                p = 2 * student.sf(np.abs(r) * np.sqrt((n - 2) / np.maximum(1e-12, 1 - r * r)), n - 2)
                if (p > 0.2).mean() > 0.005 or np.max(np.abs(r)) < 0.2:
                    continue
                yield Finding(
                    ERROR if case.folds else WARNING,
                    0.9,
                    f"Every one of the {len(p)} features of {profile.modality!r} correlates with {columns[target]} "
                    f"(least |r| {np.abs(r).min():.2f}, largest p {p.max():.2g}, {n} subjects); among features not "
                    "chosen by it some would not.",
                    profile.modality,
                    "The features were probably chosen by the outcome on all rows, test rows too: choose them anew "
                    "within the training rows of each fold.",
                    names=[columns[target]],
                    n=len(p),
                )
                break


def told(case: Case) -> Iterator[Finding]:
    """A modality that says of itself that it was selected, scaled or filled on subjects which a fold tests."""
    for name in case.study.modalities:
        file = case.study.manifest["files"][f"modalities/{name}.h5ad"]
        n, f = file["schema"]["shape"]
        if file["axis"] != "subject" or n * f > 60_000_000:
            continue
        uns = case.study.modality(name).uns
        for key in (k for k in TOLD if k in uns):
            named = _named(uns[key])
            for fold in case.folds:
                tested = set(fold.test["subject"]) - set(fold.train["subject"])
                used = sorted(tested if named is None else tested & named)
                if not used:
                    continue
                yield Finding(
                    ERROR if key in SUPERVISED else WARNING,
                    1.0 if named is not None else 0.9,
                    f"{name!r} says {key} = {'all subjects' if named is None else f'{len(named)} subjects'}; "
                    f"{len(used)} of them are tested in fold {fold.number}: {some(used)}.",
                    f"fold {fold.number}, {name}",
                    "Repeat that step within the training subjects of each fold.",
                    names=used,
                )


def _named(value: object) -> set[str] | None:
    """Names that a note lists, None where it says all."""
    if isinstance(value, str):
        return None if value.casefold() in ("all", "everything", "all subjects", "all rows") else {value}
    if isinstance(value, Iterable):
        return {str(v) for v in value}
    return None


def scaled(case: Case) -> Iterator[Finding]:
    """A modality scaled to mean 0 and sd 1 over training and test subjects together."""
    for profile in case.profiles.values():
        tested = {s for f in case.folds for s in f.test["subject"]} & set(profile.names)
        if not tested or len(profile.names) < 10 or not all(f.group in ("subject", "tissue") for f in case.folds):
            continue
        x = profile.raw.astype(np.float64)
        varying = np.ptp(x, axis=0) > 0
        sd = [x.std(axis=0, ddof=d)[varying] for d in (0, 1)]
        centred = np.abs(x.mean(axis=0)[varying]) < 1e-4
        unit = np.minimum(*(np.abs(s - 1) for s in sd)) < 1e-4
        if varying.sum() >= 5 and (centred & unit).mean() > 0.95:
            yield Finding(
                NOTE,
                0.99,
                f"All {int(varying.sum())} features of {profile.modality!r} have mean 0 and sd 1 over all "
                f"{len(profile.names)} subjects, {len(tested)} of whom are tested in some fold.",
                profile.modality,
                "A small leak without targets: scale within the training subjects where the figure matters.",
                names=[profile.modality],
                n=len(tested),
            )


def derived(case: Case) -> Iterator[Finding]:
    """Two endpoints that say the same thing, so that neither may be a feature for the other."""
    found = list(_alike(case))
    if not found:
        return
    a, b, rho, n = found[0]
    more = f"; so do {some((f'{x} and {y}' for x, y, _, _ in found[1:]))}" if len(found) > 1 else ""
    yield Finding(
        NOTE,
        0.99,
        f"{a!r} and {b!r} rank subjects alike within a condition (Spearman {rho:.2f} over {n} rows){more}: they are "
        "readings of one experiment.",
        "outcomes, endpoint",
        "Never use one as a feature for the other, and do not count them as two confirmations.",
        names=list(dict.fromkeys(e for x, y, _, _ in found for e in (x, y))),
        n=len(found),
    )


def _alike(case: Case) -> Iterator[tuple[str, str, float, int]]:
    """Pairs of endpoints with their rank correlation within conditions, and the rows it is over."""
    keys = ["subject", "treatment", "dose", "time_h"]
    left = [
        (m.endpoint, m.frame.select(keys).with_columns(pl.Series("v", m.from_condition)))
        for m in case.measured
        if len(m) >= 30
    ]
    left = [(e, f.filter(pl.col("v").is_finite()).unique(keys, maintain_order=True)) for e, f in left]
    for (a, one), (b, two) in combinations(left, 2):
        both = one.join(two, on=keys, nulls_equal=True, suffix="_b")
        if both.height >= 30:
            rho = float(both.select(pl.corr("v", "v_b", method="spearman")).item() or 0.0)
            if abs(rho) > 0.9:
                yield a, b, rho, both.height


def treatment_columns(case: Case) -> Iterator[Finding]:
    """Columns of TREATMENTS, or features of a compound, that follow the treatment's mean outcome exactly."""
    numeric = [c for c, t in case.treatments.schema.items() if t.is_numeric()]
    for m in case.measured:
        level = m.conditions.with_columns(pl.Series("level", m.level)).group_by("treatment").agg(pl.col("level").mean())
        for column in numeric:
            both = level.join(
                case.treatments.select("treatment", pl.col(column).alias("x")), on="treatment"
            ).drop_nulls()
            if both.height < 8 or both["x"].n_unique() < 8:
                continue
            r = float(both.select(pl.corr("x", "level")).item() or 0.0)
            if abs(r) > COPY and m.crossed:
                yield Finding(
                    ERROR if case.folds else WARNING,
                    0.98,
                    f"{column} of TREATMENTS is the mean {m.endpoint!r} of each treatment (|r| = {abs(r):.4f} over "
                    f"{both.height}).",
                    f"treatments, {column}",
                    "It was computed from the outcomes: never a feature where treatments are unseen.",
                    names=[column],
                )


CHECKS = (
    Check("target copied into a feature", copied),
    Check("features chosen by the outcome", chosen),
    Check("steps fitted on test subjects", told, split=True),
    Check("scaled over training and test", scaled, split=True),
    Check("endpoints that say the same", derived),
    Check("treatment column made from the outcome", treatment_columns),
)
