"""What a check sees: a study, perhaps a split, and views of both that are made once and shared by all checks.

Targets of rows that a split only ever tests on are left out of every view, so that no check can tell about them;
with cross-validation every row teaches in some fold, and none is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from workbench import units
from workbench.audits import _chance
from workbench.splits import Fold

if TYPE_CHECKING:
    from workbench.splits import Split
    from workbench.study import Study

LARGEST = 60_000_000  # cells of a modality that an audit holds in memory at once (float32: 240 MB)
END = r"(?:[_ ]?(?:id|name|number|no|nr))?$"
START = r"^(?:.*[_ ])?"
TECHNICAL = re.compile(
    START + r"(?:batch|plate|site|cent(?:re|er)|hospital|lab|laboratory|run|session|operator|chip|array|instrument|"
    r"scanner|source|screen)" + END,
    re.IGNORECASE,
)
PERSON = re.compile(
    START + r"(?:patient|donor|animal|individual|usubjid|person|host|mouse|rat|dog)" + END, re.IGNORECASE
)
HOUSING = re.compile(START + r"(?:litter|cage|family|cohort|pen|room|dam|sire)" + END, re.IGNORECASE)
DATED = re.compile(
    START + r"(?:date|day|session|run[_ ]order|order|visit|passage|acquired|measured|visit[_ ]?num)" + END,
    re.IGNORECASE,
)
ARM = re.compile(
    r"^(?:planned[_ ])?(?:arm|group|dose[_ ]?group|arm[_ ]dose|arm[_ ]code|set|armcd|setcd)" + END, re.IGNORECASE
)
COVARIATE = re.compile(
    r"^(?:tissue|sex|gender|species|strain|race|ethnic.*|age[_ ]?group|country|region|msi|supplier)$", re.I
)
CONTROL = re.compile(r"\b(?:vehicle|control|dmso|placebo|untreated|saline|sham|water)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Measured:
    """One endpoint as arrays, row by row.

    Attributes
    ----------
    frame : row, then the columns of OUTCOMES
    subjects, conditions : names behind the codes; a condition is treatment, dose and time together
    s, c : codes of subject and condition, int (n,)
    work : values on the scale they are compared on: log10 for positive quantities in linear units, else as they are
    log : whether that is log10
    """

    endpoint: str
    unit: str
    frame: pl.DataFrame
    subjects: list[str]
    conditions: pl.DataFrame
    s: np.ndarray
    c: np.ndarray
    work: np.ndarray
    log: bool

    def __len__(self) -> int:
        return len(self.work)

    @cached_property
    def rows(self) -> np.ndarray:
        """Row numbers in the study's outcomes, int64 (n,)."""
        return self.frame["row"].to_numpy()

    @cached_property
    def sound(self) -> np.ndarray:
        """Exact values with a place on the scale: not censored, and above 0 where it is a logarithm, bool (n,)."""
        exact = self.frame["censored"].to_numpy() == 0
        return exact & (self.frame["value"].to_numpy() > 0) if self.log else exact

    @cached_property
    def crossed(self) -> bool:
        """Does a typical subject meet at least three treatments (a screen), or one arm (animals)?"""
        per = self.frame.group_by("subject").agg(pl.col("treatment").n_unique())["treatment"]
        return bool(len(per) and float(per.median()) >= 3)  # type: ignore[arg-type]

    @cached_property
    def _fit(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Median polish (Tukey 1977): condition level, subject level, residual."""
        level = np.zeros(len(self.conditions))
        own = np.zeros(len(self.subjects))
        rest = self.work.copy()
        for _ in range(4):
            step = np.nan_to_num(_chance.group_medians(rest, self.c, len(level)))
            level += step
            rest -= step[self.c]
            step = np.nan_to_num(_chance.group_medians(rest, self.s, len(own)))
            own += step
            rest -= step[self.s]
        return level, own, rest

    @property
    def level(self) -> np.ndarray:
        """Level of each condition, float64 (conditions,)."""
        return self._fit[0]

    @property
    def own(self) -> np.ndarray:
        """What each subject adds to the level of its conditions, float64 (subjects,)."""
        return self._fit[1]

    @property
    def residual(self) -> np.ndarray:
        """What condition and subject leave unexplained, float64 (n,)."""
        return self._fit[2]

    @cached_property
    def from_condition(self) -> np.ndarray:
        """Value less the median of its condition, NaN where the condition has fewer than 5 rows."""
        level = _chance.group_medians(self.work, self.c, len(self.conditions))
        few = np.bincount(self.c, minlength=len(self.conditions)) < 5
        level[few] = np.nan
        return self.work - level[self.c]

    @cached_property
    def effect(self) -> float:
        """Robust standard deviation of what differs between subjects under one condition."""
        there = self.from_condition[np.isfinite(self.from_condition)]
        return _chance.scale(there) if len(there) >= 20 else _chance.scale(self.residual)

    def per_subject(self) -> pl.DataFrame:
        """subject, effect: what each subject adds to its conditions."""
        return pl.DataFrame({"subject": self.subjects, "effect": self.own})


@dataclass(frozen=True)
class Profile:
    """A modality of subjects as numbers: ``names``, ``features``, ``raw`` float32 (n, f), and columns as z-scores."""

    modality: str
    names: list[str]
    features: list[str]
    raw: np.ndarray
    unit: str

    @cached_property
    def z(self) -> np.ndarray:
        """Columns scaled to mean 0 and sd 1 (constant ones 0), missing values at the mean: float32 (n, f)."""
        x = self.raw
        if not np.isfinite(x).all():
            x = np.where(np.isfinite(x), x, np.nan)
            x = np.where(np.isnan(x), np.nan_to_num(np.nanmean(x, axis=0)), x)
        x = x - x.mean(axis=0)
        sd = x.std(axis=0)
        return (x / np.where(sd > 1e-12, sd, np.inf)).astype(np.float32)

    @cached_property
    def gram(self) -> np.ndarray:
        """z z', float64 (n, n)."""
        return (self.z @ self.z.T).astype(np.float64)

    @cached_property
    def points(self) -> np.ndarray:
        """Scores on up to 10 principal components, each at its own variance: float64 (n, k)."""
        value, vector = np.linalg.eigh(self.gram)
        k = max(1, min(10, len(self.names) - 1, self.z.shape[1]))
        return vector[:, ::-1][:, :k] * np.sqrt(np.maximum(value[::-1][:k], 0))

    def apart(self, grouping: pl.DataFrame) -> tuple[float, float, list[str]] | None:
        """Do groups of subjects lie apart in ``points``? p by permutation, share of variance, groups; None: too few.

        Groups of under three subjects are left out; asked for are two groups of three and twelve subjects in all.
        """
        here = pl.DataFrame({"subject": self.names}).with_row_index("i").join(grouping, on="subject").sort("i")
        label, names = codes(here["group"])
        count = np.bincount(label)
        keep = count[label] >= 3
        if keep.sum() < 12 or (count >= 3).sum() < 2:
            return None
        dense = np.unique(label[keep], return_inverse=True)[1]
        return (*_chance.separated(self.points[here["i"].to_numpy()[keep]], dense), names)


@dataclass
class Case:
    """A study, perhaps with a split, seen through views that are made once."""

    study: Study
    split: Split | None = None
    _kept: dict[str, object] = field(default_factory=dict, repr=False)

    @cached_property
    def outcomes(self) -> pl.DataFrame:
        """Outcomes with their row numbers (Int64 ``row``), names as text, without rows that are only ever tested on."""
        frame = self.study.outcomes.with_row_index("row").with_columns(
            pl.col("row").cast(pl.Int64),
            pl.col("subject", "treatment", "site", "endpoint", "unit", "source", "dose_unit").cast(pl.String),
        )
        if self.split is None:
            return frame
        taught = np.unique(np.concatenate([a for a, _ in self.split.folds]))
        tested = np.unique(np.concatenate([b for _, b in self.split.folds]))
        sealed = np.setdiff1d(tested, taught)
        return frame.filter(~pl.col("row").is_in(pl.Series(sealed).implode())) if len(sealed) else frame

    @property
    def level(self) -> float:
        """What a look at one endpoint may spend: the level of a check, shared out among the endpoints."""
        return _chance.LEVEL / max(1, len(self.measured))

    @property
    def subjects(self) -> pl.DataFrame:
        """SUBJECTS."""
        return self.study.subjects

    @property
    def treatments(self) -> pl.DataFrame:
        """TREATMENTS."""
        return self.study.treatments

    @cached_property
    def measured(self) -> list[Measured]:
        """Every endpoint, by name."""
        return [measure(frame) for _, frame in sorted(self.outcomes.group_by("endpoint", maintain_order=True))]

    @cached_property
    def grids(self) -> list[tuple[Measured, str]]:
        """One endpoint of those measured on exactly the same subjects and treatments, and the names of all of them."""
        alike: dict[bytes, list[Measured]] = {}
        for m in self.measured:
            if m.crossed:
                pairs = m.frame.select("subject", "treatment").unique().sort("subject", "treatment")
                alike.setdefault(pairs.hash_rows().to_numpy().tobytes(), []).append(m)
        return [(group[0], ", ".join(m.endpoint for m in group)) for group in alike.values()]

    @cached_property
    def folds(self) -> list[Fold]:
        """The folds of the split, test targets sealed."""
        return [] if self.split is None else [self.split.fold(k) for k in range(len(self.split.folds))]

    def columns(self, kind: re.Pattern[str]) -> list[str]:
        """Columns of SUBJECTS whose name is of a kind (``TECHNICAL``, ``PERSON`` ...)."""
        return [c for c in self.subjects.columns if c not in ("subject", "tissue") and kind.match(c)]

    @cached_property
    def groupings(self) -> dict[str, pl.DataFrame]:
        """Biological groupings of subjects: column -> (subject, group), 2 to 40 groups, empty cells dropped."""
        found: dict[str, pl.DataFrame] = {}
        seen = set()
        for column in self.subjects.columns:
            if column == "subject" or any(k.match(column) for k in (TECHNICAL, PERSON, HOUSING, DATED)):
                continue
            frame = self.grouping(column)
            groups = frame["group"].n_unique()
            if not 2 <= groups <= 40 or groups > 0.5 * frame.height:
                continue
            same = tuple(frame["subject"]), tuple(_division(frame["group"]))
            if same not in seen:  # an arm and its code are one grouping
                seen.add(same)
                found[column] = frame
        return found

    @cached_property
    def technical(self) -> dict[str, pl.DataFrame]:
        """Technical groupings of subjects: site and source of their outcomes where each has one, and columns."""
        found = {}
        for column in ("site", "source"):
            per = self.outcomes.group_by("subject").agg(pl.col(column).unique())
            if per[column].list.len().max() == 1:
                found[column] = per.select("subject", pl.col(column).list.first().alias("group")).sort("subject")
        for column in self.columns(TECHNICAL):
            found[column] = self.grouping(column)
        return {k: f for k, f in found.items() if 2 <= f["group"].n_unique() <= max(2, f.height // 3)}

    def grouping(self, column: str) -> pl.DataFrame:
        """(subject, group) of a column of SUBJECTS, as text, empty cells dropped."""
        kind = self.subjects.schema[column]
        if kind.is_float() and column != "arm_dose":
            return pl.DataFrame(schema={"subject": pl.String, "group": pl.String})
        return self.subjects.select(
            pl.col("subject").cast(pl.String), pl.col(column).cast(pl.String).alias("group")
        ).drop_nulls()

    @cached_property
    def profiles(self) -> dict[str, Profile]:
        """Modalities of subjects with at least 8 rows and 2 features that fit in memory, by name."""
        found = {}
        for name in self.study.modalities:
            told = self.study.manifest["files"][f"modalities/{name}.h5ad"]
            n, f = told["schema"]["shape"]
            if told["axis"] != "subject" or n * f > LARGEST or n < 8 or f < 2:
                continue
            found[name] = self.profile(name)
        return found

    def profile(self, name: str) -> Profile:
        """Modality ``name`` as numbers, whatever its axis."""
        data = self.study.modality(name)
        x = data.X.toarray() if hasattr(data.X, "toarray") else np.asarray(data.X)
        return Profile(
            name, list(data.obs_names), list(data.var_names), x.astype(np.float32), str(data.uns.get("unit", ""))
        )


def measure(frame: pl.DataFrame) -> Measured:
    """Rows of one endpoint as arrays."""
    endpoint, unit = str(frame["endpoint"][0]), str(frame["unit"][0])
    frame = frame.sort("row")
    subjects = frame["subject"].unique().sort()
    s = frame["subject"].cast(pl.Enum(subjects)).to_physical().to_numpy().astype(np.int64)
    by = ("treatment", "dose", "time_h")
    conditions = frame.select(by).unique().sort(by).with_row_index("condition")
    c = (
        frame.join(conditions, on=by, how="left", nulls_equal=True, maintain_order="left")["condition"]
        .to_numpy()
        .astype(np.int64)
    )
    value = frame["value"].to_numpy().astype(np.float64)
    log = positive(endpoint, unit, value)
    work = np.log10(np.where(value > 0, value, np.nan)) if log else value.copy()
    if log and np.isnan(work).any():  # zeros and below-range values count as half the least positive one
        work = np.where(np.isnan(work), np.nanmin(work) - 0.3, work)
    return Measured(endpoint, unit, frame, subjects.to_list(), conditions, s, c, work, log)


def positive(endpoint: str, unit: str, value: np.ndarray) -> bool:
    """Is this a positive quantity in a linear unit, to be compared on a log scale?"""
    try:
        parsed = units.parse(unit)
    except units.UnitError:
        spread = np.quantile(value, [0.01, 0.5, 0.99]) if len(value) else np.zeros(3)
        return bool(len(value) and (value > 0).all() and spread[2] / spread[1] > 2 * spread[1] / spread[0])
    linear = parsed.log is None and parsed.dimension not in ("fraction", "time")
    return bool(linear and len(value) and (value > 0).mean() > 0.9)


def _division(groups: pl.Series) -> list[int]:
    """Groups numbered as they appear, so that two names of one division give the same numbers."""
    first: dict[str, int] = {}
    return [first.setdefault(g, len(first)) for g in groups]


def codes(groups: pl.Series) -> tuple[np.ndarray, list[str]]:
    """Codes 0, 1, ... of a column of names, and the names in order."""
    names = groups.unique().sort().to_list()
    at = {name: i for i, name in enumerate(names)}
    return np.array([at[g] for g in groups], dtype=np.int64), names


def tissue_of(case: Case) -> dict[str, str]:
    """Tissue of each subject, where known."""
    known = case.subjects.select("subject", "tissue").drop_nulls()
    return dict(known.rows())
