"""Sums, ranks and scales of groups of rows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.assays._significance import t_tails
from workbench.text import nearest

DEPTH = 1e4  # counts per cell after normalisation


@dataclass(frozen=True)
class Labels:
    """Which rows have a group, its number, and the groups' names, sorted."""

    rows: np.ndarray
    codes: np.ndarray
    names: list[str]

    @classmethod
    def of(cls, obs: Any, column: str) -> Labels:
        if column not in obs.columns:
            raise KeyError(
                f"obs has no column {column!r}.{nearest(column, list(obs.columns))} It has: {list(obs.columns)}."
            )
        known = obs[column].notna().to_numpy()
        rows = np.flatnonzero(known)
        names, codes = np.unique(obs[column].to_numpy()[rows].astype(str), return_inverse=True)
        if not len(rows):
            raise ValueError(f"column {column!r} of obs is empty.")
        return cls(rows, codes.astype(np.int64), [str(n) for n in names])

    def sizes(self) -> dict[str, int]:
        return dict(zip(self.names, np.bincount(self.codes, minlength=len(self.names)).tolist(), strict=True))

    def count(self, name: str) -> int:
        return self.sizes()[name]

    def against(self, name: str, reference: str) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the groups inside, and of those compared with."""
        inside = np.array([self.names.index(name)])
        every = np.arange(len(self.names))
        return inside, every[every != inside[0]] if reference == "rest" else np.array([self.names.index(reference)])

    def n(self, which: np.ndarray) -> int:
        return int(np.isin(self.codes, which).sum())

    def pool(self, per_group: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Mean over the rows of several groups, from the groups' means (groups, features)."""
        weight = np.bincount(self.codes, minlength=len(self.names))[which].astype(np.float64)
        return weight @ per_group[which] / weight.sum()


@dataclass(frozen=True)
class Scaled:
    """Values ready to be compared, their unit, and how a ratio is read from them.

    ``scale``: "ln1p" (natural log of 1 + x), "log2", "log10", "linear" or "none" (no ratio exists).
    """

    values: Any
    unit: str
    scale: str

    def fold(self, a: np.ndarray, b: np.ndarray, linear_a: np.ndarray, linear_b: np.ndarray) -> np.ndarray:
        """log2 fold change from means (a, b) in the unit and on the linear scale; NaN where there is none."""
        if self.scale in ("log2", "log10"):  # the mean of logs: a ratio of geometric means
            return (a - b) * (1.0 if self.scale == "log2" else np.log2(10.0))
        if self.scale == "none":
            return np.full(len(a), np.nan)
        ok = (linear_a > 0) & (linear_b > 0)
        return np.where(ok, np.log2(np.where(ok, linear_a, 1.0)) - np.log2(np.where(ok, linear_b, 1.0)), np.nan)


def scaled(source: Any, unit: str | None, where: str, keep: bool = False) -> Scaled:
    """``source`` with the scale that ``unit`` says, after a look whether the values can be that.

    Raw counts are brought to log1p of 10,000 per row unless ``keep``.
    """
    from scipy import sparse

    if not isinstance(unit, str) or not unit:
        raise ValueError(
            f"{where}: expected uns['unit'] or `unit`, such as 'counts' or 'log1p(CP10k)'; found {unit!r}."
        )
    values: Any = sparse.csr_matrix(source) if sparse.issparse(source) else np.asarray(source)
    stored = values.data if sparse.issparse(values) else values.ravel()
    if stored.size and not np.isfinite(stored).all():
        raise ValueError(
            f"{where} in {unit!r}: {int((~np.isfinite(stored)).sum())} values are no numbers. Fill or drop them."
        )
    word = unit.lower().replace(" ", "")
    low, high = (float(stored.min()), float(stored.max())) if stored.size else (0.0, 0.0)
    scale = (
        "ln1p" if word.startswith(("log1p", "ln(1+", "ln1p")) or "log1p" in word
        else "log2" if "log2" in word
        else "log10" if "log10" in word
        else "none" if word.startswith("z-score") or "scaled" in word or "class" in word
        else "linear"
    )  # fmt: skip
    if scale in ("linear", "ln1p") and low < 0:
        raise ValueError(
            f"{where}: unit {unit!r} cannot be negative; found {low:.4g}. Scaled values have unit 'z-score'."
        )
    if scale == "ln1p" and high > 30:
        raise ValueError(f"{where}: {high:.4g} is no natural log of 1 + counts (unit {unit!r}). Were these counts?")
    if word in ("counts", "umicounts", "count") or word.startswith("counts"):
        if stored.size and not np.array_equal(stored, np.rint(stored)):
            raise ValueError(
                f"{where}: unit {unit!r} needs whole numbers; found {stored[stored != np.rint(stored)][0]:.4g}."
            )
        if not keep:
            depth = np.asarray(values.sum(1), dtype=np.float64).ravel()
            factor = DEPTH / np.where(depth > 0, depth, 1.0)
            if sparse.issparse(values):
                made = values.astype(np.float64)
                made.data = np.log1p(made.data * np.repeat(factor, np.diff(made.indptr)))
                return Scaled(made, "log1p(CP10k)", "ln1p")
            return Scaled(np.log1p(values * factor[:, None]), "log1p(CP10k)", "ln1p")
    return Scaled(values, unit, scale)


def moments(s: Scaled, labels: Labels) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Per group (groups, features): mean, mean on the linear scale, mean square about a centre, share above 0 or None.

    The centre (features,) comes third: 0 for sparse values, the mean of all rows for dense ones, so that a small
    spread beside a large mean keeps its digits.
    """
    from scipy import sparse

    k, n = len(labels.names), len(labels.codes)
    size = np.bincount(labels.codes, minlength=k)
    weight = sparse.csr_matrix((1.0 / size[labels.codes], (labels.codes, np.arange(n))), shape=(k, n))

    def mean(values: Any) -> np.ndarray:
        out = weight @ values
        return np.asarray(out.toarray() if sparse.issparse(out) else out, dtype=np.float64)

    x = s.values.astype(np.float64)
    linear = (x.expm1() if sparse.issparse(x) else np.expm1(x)) if s.scale == "ln1p" else x
    above = mean((x > 0).astype(np.float64)) if s.scale in ("ln1p", "linear") else None
    if sparse.issparse(x):
        return mean(x), mean(linear), np.zeros(x.shape[1]), mean(x.multiply(x)), above
    centre = x.mean(0)
    return mean(x), mean(linear), centre, mean((x - centre) ** 2), above


def welch(
    mean_a: np.ndarray, square_a: np.ndarray, n_a: int, mean_b: np.ndarray, square_b: np.ndarray, n_b: int
) -> tuple[np.ndarray, np.ndarray]:
    """Welch's t and two-sided p from means and mean squares; NaN where neither side varies.

    t = (a - b) / sqrt(va + vb),  df = (va + vb)^2 / (va^2/(na - 1) + vb^2/(nb - 1)),  v = s^2 / n
    """
    if min(n_a, n_b) < 2:
        return np.full(len(mean_a), np.nan), np.full(len(mean_a), np.nan)
    parts = []
    for m, square, n in ((mean_a, square_a, n_a), (mean_b, square_b, n_b)):
        variance = square - m * m
        variance = np.where(variance > 1e-12 * square, variance, 0.0)  # what is left of a constant is rounding
        parts.append(variance / (n - 1))
    va, vb = parts
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(va + vb > 0, (mean_a - mean_b) / np.sqrt(va + vb), np.nan)
        df = (va + vb) ** 2 / (va**2 / (n_a - 1) + vb**2 / (n_b - 1))
        return t, t_tails(t, df)


def ranks(
    values: Any, labels: Labels, tested: list[str], reference: str, say: Callable[[float, str], None] | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """z and two-sided p of the rank sum of each tested group, by illico; NaN where all values are the same."""
    import anndata
    import pandas as pd
    from scipy import sparse, special

    if sparse.issparse(values):
        values = values.tocsc()
        values.sort_indices()
    obs = pd.DataFrame({"group": pd.Categorical.from_codes(labels.codes, labels.names)})
    obs.index = obs.index.astype(str)
    data = anndata.AnnData(values, obs=obs)
    with _quiet(say):
        from illico import asymptotic_wilcoxon

        frame = asymptotic_wilcoxon(
            data,
            is_log1p=False,
            group_keys="group",
            reference=None if reference == "rest" else reference,
            groups=tested,
            use_continuity=False,
            tie_correct=True,
        )
    if sparse.issparse(values):
        flat = np.asarray(values.max(0).toarray() == values.min(0).toarray()).ravel()
    else:
        flat = values.max(0) == values.min(0)
    out = []
    for name in tested:
        z = frame.loc[name]["z_score"].to_numpy(dtype=np.float64).copy()
        z[flat] = np.nan
        out.append((z, 2.0 * np.exp(special.log_ndtr(-np.abs(z)))))  # exact into the tail
    return out


@contextmanager
def _quiet(say: Callable[[float, str], None] | None) -> Iterator[None]:
    """illico logs and draws its own bar: hush the one, and hand the other to ``say``."""
    import illico
    from loguru import logger

    module = sys.modules[illico.asymptotic_wilcoxon.__module__]

    class Bar:
        def __init__(self, total: int = 0, **_: Any) -> None:
            self.total, self.n = max(total, 1), 0

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def update(self, n: int = 1) -> None:
            self.n += n
            if say:
                say(min(self.n / self.total, 1.0), "rank sums")

    before = vars(module)["tqdm"]
    logger.disable("illico")
    vars(module)["tqdm"] = Bar
    try:
        yield
    finally:
        vars(module)["tqdm"] = before
        logger.enable("illico")
