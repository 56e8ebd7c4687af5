"""A site's own rows in the forms in which a message could hold them: what ``leaks`` compares with.

A view is one table of rows over a list of columns: a modality (persons over features) or the outcomes (persons over
treatments). Of every row two forms are kept, with what rows share taken away, so that a mean of many rows is like none:

    raw          r_i = (x_i - span{1, mean over all, mean over training}) / norm
    standardised r_i = (z_i - span{1, mean / sd, ...}) / norm        z_i = (x_i - mean) / sd
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from workbench import rooms

if TYPE_CHECKING:
    from workbench.federated.site import Site

SHORTEST = 12  # columns: shorter rows cannot be told from chance
NOTHING = 1e-6  # share of a row's norm that counts as rounding
ENOUGH = 24.0  # columns that rows have to amount to for a likeness of 0.95 to be no chance
LEAST = 10.0  # to which the rest has to amount without their strongest directions, to be compared
SOME = 400  # rows by which it is judged to how many columns all of them amount


@dataclass(frozen=True)
class Form:
    """One form of a view: unit rows (n, f) float32, orthonormal basis (b, f) of what rows share, rows by number.

    ``plain`` (n, f): the rows in their own unit, less the columns' means; whether neighbours go together shows there.
    ``free``: how many independent columns the rows amount to; of few factors it is few, however many columns there are.
    ``main`` (k, f): their strongest directions, as many as have to be taken away for the rest to amount to ENOUGH,
    or to most; ``rest``: to how many it then amounts (0: to fewer than LEAST).
    """

    rows: np.ndarray
    shared: np.ndarray
    plain: np.ndarray
    free: float
    main: np.ndarray
    rest: float


@dataclass(frozen=True)
class View:
    """One table of own rows; ``values`` (n, f) float32 without gaps, ``forms`` as at the top."""

    name: str
    values: np.ndarray
    forms: tuple[Form, ...]
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)  # made once by ``likeness``

    @property
    def width(self) -> int:
        return self.values.shape[1]


@dataclass
class Own:
    """All that a message is compared with.

    Attributes
    ----------
    views : tables of rows
    numbers : measured values as they stand in the files, float64, without whole numbers and frequent ones
    texts : names of subjects and persons
    sizes : numbers of rows, subjects and persons, which no array's size may follow
    fixed : lengths that do not depend on how many rows the site has: features, treatments
    persons : number of subjects
    """

    views: list[View]
    numbers: np.ndarray
    texts: list[str]
    sizes: set[int]
    fixed: set[int]
    persons: int = 1000


def of(site: Site) -> Own:
    """Everything of ``site``: features of training and test subjects, outcomes of training rows."""
    fold = site.fold
    train = fold.train
    mine = sorted({*train["subject"], *fold.test["subject"], *site.unlabelled})
    in_training = np.isin(mine, train["subject"].unique().to_list())
    views, numbers, sizes = (
        [],
        [train["value"].drop_nulls().to_numpy()],
        {train.height, train.height + fold.test.height},
    )
    fixed = {len(fold.study.treatments)}
    for name in fold.study.modalities:
        if rooms.load("workbench.modalities", name).AXIS != "subject":
            fixed.add(len(fold.study.treatments))
            continue
        values, there, features = site.block(name, mine)
        fixed.add(len(features))
        if there.any():
            held = np.asarray(values, dtype=np.float64)[there]
            views += _view(name, held, in_training[there])
            numbers.append(held.ravel())
            sizes |= {int(there.sum()), int((there & in_training).sum())}
    treatments = sorted({*train["treatment"], *fold.test["treatment"]})
    fixed.add(len(treatments))
    views += _outcomes(train, treatments)
    texts = sorted({*mine, *train["person"], *fold.test["person"]})
    sizes |= {len(mine), int(in_training.sum()), train["person"].n_unique(), fold.test.height}
    return Own(views, _rare(np.concatenate(numbers)), texts, sizes, fixed, len(mine))


def added(name: str, values: np.ndarray) -> list[View]:
    """Views of rows that a site made of its own for a computation (turned features, say)."""
    held = np.asarray(values, dtype=np.float64)
    return _view(name, held, np.ones(len(held), dtype=bool))


def _outcomes(train: pl.DataFrame, treatments: list[str]) -> list[View]:
    table = train.group_by("subject", "treatment").agg(pl.col("value").mean()).drop_nulls()
    subjects = table["subject"].unique().sort().to_list()
    at, of = ({k: i for i, k in enumerate(names)} for names in (subjects, treatments))
    y = np.full((len(subjects), len(treatments)), np.nan)
    y[[at[s] for s in table["subject"]], [of[t] for t in table["treatment"]]] = table["value"].to_numpy()
    known = np.isfinite(y)
    mean = np.where(known, y, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    whole = _view("outcomes", np.where(known, y, mean), np.ones(len(y), dtype=bool))
    column = train.sort("row")["value"].drop_nulls().to_numpy()  # all outcomes, in the order of the study
    return whole + _view("outcomes in a column", column[None, :], np.zeros(1, dtype=bool))


def _view(name: str, values: np.ndarray, training: np.ndarray) -> list[View]:
    if values.shape[1] < SHORTEST:
        return []
    values = np.where(np.isfinite(values), values, 0.0)
    means = [values.mean(0)] if len(values) > 1 else []
    means += [values[training].mean(0)] if 1 < training.sum() < len(values) else []
    forms = [form_of(values, means)]
    if len(values) > 2:
        sd = values.std(0)
        sd[sd < 1e-9] = 1.0
        turned = [m / sd for m in means] + [(m - means[0]) / sd for m in means]
        forms.append(form_of((values - values.mean(0)) / sd, turned, forms[0].plain))
    return [View(name, values.astype(np.float32), tuple(forms))]


def form_of(rows: np.ndarray, means: list[np.ndarray], plain: np.ndarray | None = None) -> Form:
    """Rows (n, f) without what the constant and ``means`` explain, at length one; rows of nothing else become zeros."""
    shared = basis([np.ones(rows.shape[1]), *means])
    left = rows - (rows @ shared.T) @ shared
    norm = np.linalg.norm(left, axis=1)
    kept = norm > NOTHING * np.maximum(np.linalg.norm(rows, axis=1), 1e-30)
    unit = np.where(kept[:, None], left / np.where(kept, norm, 1.0)[:, None], 0.0)
    if plain is None:
        plain = (rows - rows.mean(axis=0) if len(rows) > 1 else rows).astype(np.float32)
    unit = unit.astype(np.float32)
    return Form(unit, shared.astype(np.float32), plain, *amount(unit))


def amount(unit: np.ndarray) -> tuple[float, np.ndarray, float]:
    """``free``, ``main`` and ``rest`` (see ``Form``) of unit rows (n, f).

    Any two of n rows that amount to d equal columns have a mean squared correlation of 1 / d, so d is told by the rows
    that are there, and by no more than there are: (sum of variances)^2 / sum of their squares along principal
    directions. Source: Satterthwaite 1946, Biometrics Bulletin 2:110.
    """
    there = unit[np.einsum("ij,ij->i", unit, unit) > 0.5]
    there = there[:: max(1, -(-len(there) // SOME))].astype(np.float64)
    spread = np.square(there).mean(axis=0) if len(there) else np.zeros(unit.shape[1])
    loud = float(spread.sum() ** 2 / max(float((spread**2).sum()), 1e-300))
    none = np.zeros((0, unit.shape[1]), dtype=np.float32)
    if len(there) < 3:
        return loud, none, loud
    gram = there @ there.T
    free = min(_columns(gram), loud)
    if free >= ENOUGH:
        return free, none, free
    values, vectors = np.linalg.eigh(gram)
    best, rest = 0, 0.0
    for k in range(1, len(there) // 2):
        gram = gram - values[-k] * np.outer(vectors[:, -k], vectors[:, -k])
        if (now := _columns(gram)) > rest:
            best, rest = k, now
        if rest >= ENOUGH or now < rest / 2:
            break
    if rest < LEAST:
        return free, none, 0.0
    main = (vectors[:, -best:] / np.sqrt(values[-best:])).T @ there
    return free, main.astype(np.float32), rest


def _columns(gram: np.ndarray) -> float:
    """1 / mean squared correlation of two rows, from their products (n, n); 0 where little but rounding is left."""
    size = np.sqrt(np.maximum(np.diag(gram), 0.0))
    kept = size > 1e-3
    if (n := int(kept.sum())) < 3:
        return 0.0
    square = (gram[np.ix_(kept, kept)] / np.outer(size[kept], size[kept])) ** 2
    return n * (n - 1) / max(float(square.sum() - np.trace(square)), 1e-12)


def basis(vectors: list[np.ndarray]) -> np.ndarray:
    """Orthonormal rows that span ``vectors`` (Gram-Schmidt, twice); what is no new direction is left out."""
    out: list[np.ndarray] = []
    for v in vectors:
        u = np.asarray(v, dtype=np.float64)
        size = float(np.linalg.norm(u))
        for _ in range(2):
            for b in out:
                u = u - (u @ b) * b
        if np.linalg.norm(u) > 1e-9 * max(size, 1e-30):
            out.append(u / np.linalg.norm(u))
    return np.stack(out)


def _rare(values: np.ndarray) -> np.ndarray:
    """Distinct values with decimals, less those that more than one in a thousand entries has."""
    found, count = np.unique(values[np.isfinite(values) & (values != np.round(values))], return_counts=True)
    return found[count <= max(3, len(values) // 1000)]
