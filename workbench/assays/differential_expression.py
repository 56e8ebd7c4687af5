"""Which features differ between groups of cells or samples?

Wilcoxon's rank-sum test (Mann and Whitney 1947, Ann. Math. Stat. 18:50-60; normal approximation with ties corrected and
no continuity correction, which is scanpy's ``rank_genes_groups(method="wilcoxon", tie_correct=True)``), or Welch's t
(1947, Biometrika 34:28-35), by feature; q by Benjamini and Hochberg within a group.

Cells of one donor are not replicates (Squair et al. 2021, Nat. Commun. 12:5692): where donors are known,
``pseudo_bulk`` adds their cells up and donors are compared instead; where they are not, or all cells of a group come
from one, a finding says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from workbench import tables
from workbench.assays._groups import Labels, moments, ranks, scaled, welch
from workbench.assays._significance import benjamini_hochberg
from workbench.text import nearest

if TYPE_CHECKING:
    from anndata import AnnData

TESTS = ("wilcoxon", "t-test")
REST = "rest"


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes
    ----------
    table : one row per group and feature, sorted by group, then p:
        group, reference, feature, n_group, n_reference
        difference : mean of the group minus mean of the reference, in ``unit``
        log2_fold_change : log2 of the ratio of the means on the linear scale; null where a mean is 0 (see the pct
            columns) and where the unit has no ratio (z-scores)
        pct_group, pct_reference : per cent of rows above 0 (counts and log1p only, else null)
        statistic : z of the rank sum, or Welch's t; p; q
    findings : ``tables.FINDINGS``: groups refused, donors that carry a group alone
    unit : of what was compared
    test : in words
    """

    table: pl.DataFrame
    findings: pl.DataFrame
    unit: str
    test: str

    def top(self, group: str, n: int = 20, *, up: bool = True) -> pl.DataFrame:
        """The ``n`` strongest features of ``group``, higher in it (``up``) or in either direction."""
        known = self.table["group"].unique().to_list()
        if group not in known:
            raise KeyError(f"group {group!r} was not compared.{nearest(group, known)} Compared: {sorted(known)}.")
        kept = self.table.filter((pl.col("group") == group) & pl.col("p").is_not_null())
        kept = kept.filter(pl.col("statistic") > 0) if up else kept
        return kept.sort("p", -pl.col("statistic").abs()).head(n)


def compare(
    data: AnnData,
    group: str,
    *,
    groups: Iterable[str] | None = None,
    reference: str = REST,
    test: str = "wilcoxon",
    unit: str | None = None,
    layer: str | None = None,
    donor: str | None = None,
    least: int = 10,
    say: Callable[[float, str], None] | None = None,
) -> Comparison:
    """Compare groups of rows of ``data``, each with ``reference`` or with all the rest.

    Parameters
    ----------
    data : rows are cells or samples; never changed
    group : column of ``data.obs``; rows without a value take no part
    groups : which to test (default: all with enough rows)
    reference : another group, or "rest": every other row that has a group
    test : "wilcoxon" or "t-test" (Welch)
    unit : of the values; default ``data.uns["unit"]``. Raw counts of cells are brought to log1p(CP10k) before the test,
        or the deeper sequenced group would win everywhere
    layer : instead of X
    donor : column of ``data.obs`` that says whose a cell is; default "subject" where there is one
    least : a group of fewer rows is refused

    Raises
    ------
    KeyError, ValueError
        Unknown group, column or unit; values that contradict the unit; a named group is too small.
    """
    if test not in TESTS:
        raise ValueError(f"expected a test of {TESTS}, found {test!r}.{nearest(test, TESTS)}")
    labels = Labels.of(data.obs, group)
    reported = []
    asked = list(groups) if groups is not None else [g for g in labels.names if g != reference]
    for name in [*asked, *([reference] if reference != REST else [])]:
        if name not in labels.names:
            raise KeyError(
                f"column {group!r} has no group {name!r}.{nearest(name, labels.names)} It has: {labels.names}."
            )
        if (n := labels.count(name)) < least:
            if groups is not None or name == reference:
                raise ValueError(
                    f"group {name!r} has {n} rows; a test needs at least {least}. Merge it or lower `least`."
                )
            reported.append(
                _finding(
                    "group too small",
                    "note",
                    1.0,
                    f"{name!r} has {n} rows, fewer than {least}: not tested",
                    group,
                    [name],
                    n,
                    "Merge it with another group.",
                )
            )
    tested = [g for g in asked if labels.count(g) >= least]
    if not tested:
        raise ValueError(f"column {group!r}: no group has {least} rows; found {labels.sizes()}.")
    if reference == REST and len(labels.names) < 2:
        raise ValueError(f"column {group!r} has one group, {labels.names[0]!r}: there is no rest to compare it with.")
    source = data.X if layer is None else data.layers[layer]
    values = scaled(source[labels.rows], unit if unit is not None else data.uns.get("unit"), "this modality")
    reported += donors(data, group, donor, [*tested, *([reference] if reference != REST else [])])
    mean, linear, centre, squared, above = moments(values, labels)
    pieces = []
    z = ranks(values.values, labels, tested, reference, say) if test == "wilcoxon" else None
    for i, name in enumerate(tested):
        inside, outside = labels.against(name, reference)  # group numbers
        a, b = labels.pool(mean, inside), labels.pool(mean, outside)
        if z is not None:
            statistic, p = z[i]
        else:
            spread = [labels.pool(squared, s) for s in (inside, outside)]
            statistic, p = welch(a - centre, spread[0], labels.n(inside), b - centre, spread[1], labels.n(outside))
        pieces.append(
            pl.DataFrame(
                {
                    "group": name,
                    "reference": reference,
                    "feature": [str(v) for v in data.var_names],
                    "n_group": labels.n(inside),
                    "n_reference": labels.n(outside),
                    "difference": a - b,
                    "log2_fold_change": values.fold(a, b, labels.pool(linear, inside), labels.pool(linear, outside)),
                    "pct_group": _percent(above, labels, inside, len(a)),
                    "pct_reference": _percent(above, labels, outside, len(a)),
                    "statistic": statistic,
                    "p": p,
                    "q": benjamini_hochberg(p),
                }
            ).sort("p", pl.col("statistic").abs(), descending=[False, True], nulls_last=True)
        )
    table = pl.concat(pieces)
    floats = [c for c, kind in table.schema.items() if kind == pl.Float64]
    words = {"wilcoxon": "Wilcoxon rank sum, ties corrected", "t-test": "Welch's t"}[test]
    findings = tables.check(pl.concat([tables.empty(tables.FINDINGS), *reported]), tables.FINDINGS)
    return Comparison(table.with_columns(pl.col(floats).fill_nan(None)), findings, values.unit, words)


def donors(data: AnnData, group: str, donor: str | None, tested: list[str]) -> list[pl.DataFrame]:
    """Findings: whose cells make a group? One donor is one replicate, however many cells."""
    if donor is None:
        donor = "subject" if "subject" in data.obs.columns else None
    elif donor not in data.obs.columns:
        raise KeyError(f"obs has no column {donor!r}.{nearest(donor, list(data.obs.columns))}")
    if data.uns.get("axis", "cell") != "cell":
        return []  # rows are subjects: each is its own replicate
    advice = "Read p and q as a ranking of genes; for a claim about people or animals, compare donors (pseudo_bulk)."
    if donor is None:
        text = "nothing says which donor a cell comes from: cells are taken as replicates, and p is far too small"
        return [_finding("cells as replicates", "warning", 0.9, text, group, [], data.n_obs, advice)]
    found = []
    for name in tested:
        rows = (data.obs[group].astype(str) == name).to_numpy()
        whose = sorted({str(w) for w in data.obs[donor].astype(str).to_numpy()[rows]})
        if len(whose) == 1:
            text = (
                f"all {int(rows.sum())} cells of {name!r} come from {whose[0]!r}: group and donor cannot be told apart"
            )
            found.append(_finding("one donor", "warning", 1.0, text, group, [name, *whose], int(rows.sum()), advice))
    if not found:
        n = data.obs[donor].nunique()
        text = f"cells of {n} donors are taken as replicates; p is smaller than donors allow"
        found.append(_finding("cells as replicates", "note", 0.9, text, group, [], data.n_obs, advice))
    return found


def pseudo_bulk(
    data: AnnData, group: str | None = None, *, donor: str = "subject", layer: str | None = "counts", least: int = 10
) -> AnnData:
    """Add up raw counts over the cells of each donor (and group): one row per sample, log2(CPM + 1).

    Parameters
    ----------
    layer : where the raw counts are; X where there is no such layer
    least : a donor with fewer cells (in a group) makes no sample

    Returns
    -------
    AnnData of samples: X log2 of counts per million plus 1, ``layers["counts"]`` the sums, obs: donor, group, cells;
    ``uns["axis"]`` "sample". ``compare(it, group, test="t-test", least=2)`` compares donors.

    Raises
    ------
    ValueError
        The values are not raw counts, or no donor has ``least`` cells.
    """
    import anndata
    import pandas as pd
    from scipy import sparse

    for column in (donor, *([group] if group else [])):
        if column not in data.obs.columns:
            raise KeyError(f"obs has no column {column!r}.{nearest(column, list(data.obs.columns))}")
    source = data.layers[layer] if layer is not None and layer in data.layers else data.X
    counts = scaled(source, "counts", "the layer to add up", keep=True).values
    keys = pd.DataFrame({"donor": data.obs[donor].astype("string").to_numpy(dtype=object, na_value=None)})
    keys["group"] = data.obs[group].astype("string").to_numpy(dtype=object, na_value=None) if group else ""
    number = keys.groupby(["donor", "group"], sort=True, dropna=True).ngroup().to_numpy()
    samples = keys.assign(number=number)[number >= 0].drop_duplicates("number").sort_values("number")
    size = np.bincount(number[number >= 0], minlength=len(samples))
    which = np.flatnonzero(number >= 0)
    indicator = sparse.csr_matrix((np.ones(len(which)), (number[which], which)), shape=(len(samples), data.n_obs))
    total = indicator @ counts
    total = np.asarray(total.toarray() if sparse.issparse(total) else total)
    keep = size >= least
    if not keep.any():
        raise ValueError(f"no donor has {least} cells; the largest sample has {size.max() if len(size) else 0}.")
    total, samples, size = total[keep], samples[keep], size[keep]
    depth = total.sum(1, keepdims=True)
    obs = pd.DataFrame({donor: samples["donor"].to_numpy(), "cells": size})
    if group:
        obs[group] = samples["group"].to_numpy()
    obs.index = pd.Index([f"{d} {g}".strip() for d, g in zip(samples["donor"], samples["group"], strict=True)])
    made = anndata.AnnData(np.log2(total / np.maximum(depth, 1) * 1e6 + 1), obs=obs, var=data.var[[]].copy())
    made.layers["counts"] = total
    made.uns["axis"], made.uns["unit"] = "sample", "log2(CPM + 1)"
    return made


def _percent(above: np.ndarray | None, labels: Labels, which: np.ndarray, features: int) -> np.ndarray:
    return np.full(features, np.nan) if above is None else 100.0 * labels.pool(above, which)


def _finding(
    check: str, severity: str, confidence: float, what: str, where: str, names: list[str], n: int, do: str
) -> pl.DataFrame:
    row = {
        "check": check, "family": "differential_expression", "severity": severity, "confidence": confidence,
        "what": what, "where": where, "rows": [], "names": names, "n": n, "do": do,
    }  # fmt: skip
    return pl.DataFrame([row], schema=dict(tables.FINDINGS.columns))
