"""Which assay to run next: what each missing modality is expected to take off the error, from training rows alone.

    value(m | A) = RMSE with modalities A  -  RMSE with A and m,       of lines left out of the fit

A is what the sample has already. Both errors are of the same lines and responses, so their difference is paired; its
sampling variance comes from a bootstrap over lines. The values of single drugs are noisy and the best of many looks
better than it is, so each is drawn towards the mean over drugs by what the noise allows:

    expected_d = g + (v_d - g) t^2 / (t^2 + s_d^2)       s_d: bootstrap sd, t^2: variance of values beyond that noise

Source of the shrinkage: Efron and Morris 1973, JASA 68:117-130. ``promised`` gives the values, ``real`` what dropping
the modality costs on test rows, ``calibration`` holds the one against the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

import numpy as np
import polars as pl

from workbench import modalities, rooms, tables
from workbench.planning import _subsets
from workbench.planning._subsets import Fit, Lines, Subset
from workbench.predictors._pairs import matrix, positions
from workbench.score import weights
from workbench.splits import Fold, rows
from workbench.text import nearest

ALL = "all drugs"
NOTHING = "nothing"
LEVEL_Z = 1.959963984540054  # two-sided 95 %
FEWEST = 20  # lines a drug needs for a value of its own
Say = Callable[[float, str], None]


def steps(names: Sequence[str], present: Iterable[str] | None = None) -> list[tuple[Subset, str]]:
    """Every (what is there, what is added); with ``present`` only the additions to that."""
    if present is not None:
        there = tuple(m for m in names if m in set(present))
        return [(there, m) for m in names if m not in there]
    sets = [s for k in range(len(names)) for s in combinations(names, k)]
    return [(s, m) for s in sets for m in names if m not in s]


def fits(data: Lines, wanted: Sequence[tuple[Subset, str]], say: Say | None = None) -> dict[Subset, Fit]:
    """A fit of every set of modalities that ``wanted`` steps start from or lead to."""
    names = list(data.rotated)
    sets = sorted({s for a, m in wanted for s in (a, _with(names, a, m))}, key=lambda s: (len(s), s))
    made = {}
    for i, subset in enumerate(sets):
        report = None if say is None else (lambda done, i=i, s=subset: say((i + done) / len(sets), told(s)))
        made[subset] = _subsets.fit(data, subset, report)
    return made


def promised(
    data: Lines,
    made: dict[Subset, Fit],
    wanted: Sequence[tuple[Subset, str]],
    unit: str,
    draws: int = 500,
    seed: int = 0,
) -> pl.DataFrame:
    """``tables.ASSAY_VALUES`` of every wanted step, from left-out predictions of the training lines."""
    left_out = {s: f.left_out for s, f in made.items()}
    return _values(data.y, left_out, left_out[()] if () in left_out else _subsets.fit(data, ()).left_out, wanted,
                   list(data.rotated), data.treatments, unit, draws, seed)  # fmt: skip


def real(
    fold: Fold,
    data: Lines,
    made: dict[Subset, Fit],
    wanted: Sequence[tuple[Subset, str]],
    draws: int = 500,
    seed: int = 0,
) -> pl.DataFrame:
    """The same of the test rows of ``fold``, whose targets this opens: call it once."""
    subjects = sorted(fold.test["subject"].unique())
    planes = {s: _subsets.apply(data, f, fold.study, subjects) for s, f in made.items()}
    return measured(fold, data, subjects, planes, wanted, draws, seed)


def measured(
    fold: Fold,
    data: Lines,
    subjects: list[str],
    planes: dict[Subset, np.ndarray],
    wanted: Sequence[tuple[Subset, str]],
    draws: int = 500,
    seed: int = 0,
) -> pl.DataFrame:
    """``tables.ASSAY_VALUES`` of predictions (subjects, ``data.treatments``) by any predictor, on the test rows.

    Lines that lack one of the modalities take no part, so that every step is of the same lines.
    """
    whole = np.all([np.isfinite(p).any(1) for p in planes.values()], axis=0)
    at, drug = positions(fold.test["subject"], subjects), positions(fold.test["treatment"], data.treatments)
    fullest = planes[max(planes, key=len)]
    answers = fold.test.select("row").with_columns(
        pl.Series("predicted", np.where(drug >= 0, fullest[at, np.maximum(drug, 0)], np.nan)).fill_nan(None),
    )
    answers = answers.with_columns(
        pl.when(pl.col("predicted").is_null()).then(pl.lit("not judged: drug or modality missing")).alias("abstained")
    )
    targets = fold.observed(answers)
    pairs = fold.test.join(targets, on="row", how="left", maintain_order="left").rename({"observed": "value"})
    pairs = pairs.filter(pl.col("treatment").is_in(data.treatments))
    y = matrix(pairs, subjects, data.treatments)[whole]
    base = np.repeat(_subsets.fit(data, ()).intercept[None, :], len(y), axis=0)
    kept = {s: p[whole] for s, p in planes.items()}
    return _values(y, kept, base, wanted, list(data.rotated), data.treatments, fold.unit, draws, seed)


def _values(y, planes, base, wanted, names, treatments, unit, draws, seed) -> pl.DataFrame:
    w = weights(len(y), draws, seed)
    there = np.isfinite(y) & np.all([np.isfinite(p) for p in planes.values()], axis=0) & np.isfinite(base)
    n = w @ there
    mean = np.where(there, y - base, 0.0)
    squared: dict[Subset, np.ndarray] = {}
    together: dict[Subset, np.ndarray] = {}
    for subset, plane in planes.items():
        squared[subset] = w @ np.where(there, (y - plane) ** 2, 0.0)
        together[subset] = _correlation(w, mean, np.where(there, plane - base, 0.0), there)
    counted = there.sum(0)
    frames = []
    for subset, modality in wanted:
        after = _with(names, subset, modality)
        with np.errstate(invalid="ignore", divide="ignore"):
            each = [np.sqrt(squared[s] / n) for s in (subset, after)]
            pooled = [np.sqrt(squared[s].sum(1) / n.sum(1)) for s in (subset, after)]
        value, sd = _paired(each[0] - each[1])
        use = (counted >= FEWEST) & np.isfinite(value) & np.isfinite(sd)
        expected, posterior = shrunk(value[use], sd[use])
        frames.append(
            _frame(subset, modality, [treatments[j] for j in np.flatnonzero(use)], counted[use], unit).with_columns(
                pl.Series("before", each[0][0][use]),
                pl.Series("after", each[1][0][use]),
                pl.Series("value", value[use]),
                pl.Series("sd", sd[use]),
                pl.Series("expected", expected),
                pl.Series("low", expected - LEVEL_Z * posterior),
                pl.Series("high", expected + LEVEL_Z * posterior),
                pl.lit(None, pl.Float64).alias("correlation"),
                pl.lit(None, pl.Float64).alias("correlation_low"),
                pl.lit(None, pl.Float64).alias("correlation_high"),
            )
        )
        total, spread = _paired((pooled[0] - pooled[1])[:, None])
        gain = together[after] - together[subset]
        low, high = np.quantile(gain[1:], [0.025, 0.975]) if len(gain) > 1 else (np.nan, np.nan)
        frames.append(
            _frame(subset, modality, [ALL], np.array([there.any(1).sum()]), unit).with_columns(
                pl.lit(float(pooled[0][0])).alias("before"),
                pl.lit(float(pooled[1][0])).alias("after"),
                pl.lit(float(total[0])).alias("value"),
                pl.lit(float(spread[0])).alias("sd"),
                pl.lit(float(total[0])).alias("expected"),
                pl.lit(float(total[0] - LEVEL_Z * spread[0])).alias("low"),
                pl.lit(float(total[0] + LEVEL_Z * spread[0])).alias("high"),
                pl.lit(float(gain[0])).alias("correlation"),
                pl.lit(float(low)).alias("correlation_low"),
                pl.lit(float(high)).alias("correlation_high"),
            )
        )
    return tables.check(pl.concat(frames), tables.ASSAY_VALUES)


def shrunk(value: np.ndarray, sd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Expected values (n,) and their sd (n,): each value drawn to the mean by its noise (see the module)."""
    if len(value) < 3:
        return value, sd
    noise = np.maximum(sd, 1e-12) ** 2
    spread = float(np.var(value, ddof=1))
    beyond = max(spread - float(noise.mean()), 0.0)
    share = 1.0 / (beyond + noise)
    centre = float((share * value).sum() / share.sum())
    keep = beyond / (beyond + noise)
    # the centre is known from many drugs, and its own uncertainty is added for what is drawn to it
    return centre + keep * (value - centre), np.sqrt(keep * noise + (1 - keep) ** 2 / share.sum())


def for_sample(
    study,
    sample: str,
    endpoint: str,
    names: Sequence[str] | None = None,
    draws: int = 500,
    seed: int = 0,
    say: Say | None = None,
) -> pl.DataFrame:
    """``tables.ASSAY_VALUES`` of each modality that ``sample`` lacks, given those it has; empty where it lacks none.

    The sample's own responses, and those of its person's other samples, take no part. Every step is of the lines that
    have what it needs, so two modalities may be judged on different lines.

    Parameters
    ----------
    names : the modalities in question; by default all of samples that the study has

    Raises
    ------
    ValueError
        The study has no such sample, modality or endpoint, or too few lines to say anything.
    """
    known = study.subjects["subject"].cast(pl.String).to_list()
    if sample not in known:
        raise ValueError(f"study {study.name!r} has no sample {sample!r}.{nearest(sample, known)}")
    if names is None:
        offered = set(rooms.names("workbench.modalities"))
        of = [m for m in study.modalities if m in offered]
        names = [m for m in of if rooms.load("workbench.modalities", m).AXIS == "subject"]
    for m in names:
        if m not in study.modalities:
            raise ValueError(f"study {study.name!r} has no modality {m!r}.{nearest(m, study.modalities)}")
    frame = rows(study, endpoint)
    own = frame.filter(pl.col("subject") == sample)["person"].unique().to_list()
    train = frame.filter((pl.col("subject") != sample) & ~pl.col("person").is_in(own))
    there = tuple(m for m in names if sample in set(modalities.read(study, m, endpoint=endpoint).names))
    missing = [m for m in names if m not in there]
    found = []
    for i, m in enumerate(missing):
        data = _subsets.lines(study, train, endpoint, _with(names, there, m))
        step = [(there, m)]
        part = None if say is None else (lambda done, what, i=i: say((i + done) / len(missing), what))
        found.append(promised(data, fits(data, step, part), step, frame["unit"][0], draws, seed))
    return pl.concat(found) if found else tables.empty(tables.ASSAY_VALUES)


def calibration(promise: pl.DataFrame, cost: pl.DataFrame) -> pl.DataFrame:
    """One row a step: what was promised, what it really was, and whether single drugs agree.

    Columns: present, modality, promised, low, high, real, real_sd, within (does the difference lie within 95 % of both
    errors?), drugs, rank_agreement (Spearman over drugs), slope (of real on expected), drugs_within (share of drugs).
    """
    both = promise.join(
        cost.select("present", "modality", "treatment", pl.col("value").alias("real"), pl.col("sd").alias("real_sd")),
        on=["present", "modality", "treatment"],
        maintain_order="left",
    ).with_columns(posterior=(pl.col("high") - pl.col("low")) / (2 * LEVEL_Z))
    both = both.with_columns(
        within=(pl.col("real") - pl.col("expected")).abs()
        <= LEVEL_Z * (pl.col("posterior") ** 2 + pl.col("real_sd") ** 2).sqrt()
    )
    out = []
    for (present, modality), part in both.group_by("present", "modality", maintain_order=True):
        whole, each = part.filter(pl.col("treatment") == ALL), part.filter(pl.col("treatment") != ALL)
        expected, found = each["expected"].to_numpy(), each["real"].to_numpy()
        varies = each.height > 2 and expected.std() > 1e-6 * max(abs(expected).max(), 1e-12)
        out.append(
            {
                "present": present,
                "modality": modality,
                "promised": whole["expected"].item(),
                "low": whole["low"].item(),
                "high": whole["high"].item(),
                "real": whole["real"].item(),
                "real_sd": whole["real_sd"].item(),
                "within": whole["within"].item(),
                "drugs": each.height,
                "rank_agreement": each.select(pl.corr("value", "real", method="spearman")).item()
                if each.height > 2
                else None,
                "slope": float(np.polyfit(expected, found, 1)[0]) if varies else None,
                "drugs_within": each["within"].mean(),
            }
        )
    return pl.DataFrame(out)


def best(values: pl.DataFrame, treatment: str = ALL) -> pl.DataFrame:
    """For each set of modalities present, the additions in order of expected value, the best first."""
    chosen = values.filter(pl.col("treatment") == treatment)
    if not chosen.height:
        raise ValueError(f"no value for {treatment!r}: it is no drug of these values, or too few lines have it.")
    return chosen.sort("present", "expected", descending=[False, True])


def told(subset: Subset) -> str:
    """A set of modalities in words."""
    return " + ".join(subset) or NOTHING


def _with(names: Sequence[str], subset: Subset, modality: str) -> Subset:
    return tuple(m for m in names if m in subset or m == modality)


def _paired(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value (first row) and bootstrap sd (others) of each column."""
    with np.errstate(invalid="ignore"):
        return draws[0], np.nanstd(draws[1:], axis=0, ddof=1)


def _correlation(w: np.ndarray, a: np.ndarray, b: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Correlation over all cells that are there, under every row of ``w``: (B + 1,); 0 for a constant."""
    n, sa, sb = (w @ v.sum(1) for v in (there.astype(float), a, b))
    saa, sbb, sab = (w @ v.sum(1) for v in (a * a, b * b, a * b))
    va, vb = saa - sa * sa / n, sbb - sb * sb / n
    return np.where((va > 1e-9) & (vb > 1e-9), (sab - sa * sb / n) / np.sqrt(np.maximum(va * vb, 1e-18)), 0.0)


def _frame(subset: Subset, modality: str, treatments: list[str], n, unit: str) -> pl.DataFrame:
    return pl.DataFrame(
        {"treatment": treatments, "lines": n}, schema={"treatment": pl.String, "lines": pl.Int64}
    ).select(
        pl.lit(told(subset)).alias("present"),
        pl.lit(modality).alias("modality"),
        "treatment",
        "lines",
        pl.lit(unit).alias("unit"),
    )
