"""How a subject responds to reference compounds, as a fingerprint of what it is sensitive to.

Source: fitted responses (ln IC50, AUC, activity area) to a fixed panel of compounds, as drug-sensitivity profiling uses
them (Yadav et al. 2014, Sci. Rep. 4:5193; Menden et al. 2019, Nat. Commun. 10:2674). Columns are treatments
(``var["treatment"]``, else the column's name). A compound is either a reference or something to predict: columns of a
compound that OUTCOMES hold a row of are left out, so a predictor cannot read its own target here, on any split.
``split_off`` makes such a modality from a study's outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from workbench.modalities import Block, from_anndata
from workbench.modalities._targets import never_predicted
from workbench.nn.scaling import Rotation, fit_rotation
from workbench.text import nearest

if TYPE_CHECKING:
    from anndata import AnnData

AXIS = "subject"
UNIT = "fitted response"
GAIN = 1.0


def read(study) -> Block:
    """Responses of every subject to compounds that are never predicted; gaps stay NaN."""
    data = study.modality("response_curves")
    named = data.var["treatment"].astype(str) if "treatment" in data.var.columns else data.var_names
    return never_predicted(study, from_anndata(data, UNIT, missing=True), [str(t) for t in named], "response_curves")


def prepare(matrix: np.ndarray, fit_rows: np.ndarray) -> Rotation:
    """Standardise per column and rotate onto the principal axes of ``fit_rows``; a gap is its column's mean there."""
    return fit_rotation(matrix, fit_rows)


def split_off(
    outcomes: pl.DataFrame, treatments: pl.DataFrame, reference: Sequence[str], endpoint: str
) -> tuple[AnnData, pl.DataFrame]:
    """The modality of the ``reference`` treatments' responses, and the outcomes that are left to predict.

    Every row of a reference compound leaves the outcomes, under whatever name and endpoint it stands there.

    Raises
    ------
    KeyError
        A reference has no row of ``endpoint``.
    """
    import anndata
    import pandas as pd

    rows = outcomes.filter(pl.col("endpoint") == endpoint)
    known = rows["treatment"].unique().to_list()
    for name in reference:
        if name not in known:
            raise KeyError(f"no {endpoint!r} of treatment {name!r}.{nearest(name, known)}")
    wide = rows.filter(pl.col("treatment").is_in(list(reference))).pivot(
        "treatment", index="subject", values="value", aggregate_function="mean"
    )
    data = anndata.AnnData(
        wide.select(list(reference)).cast(pl.Float32).to_numpy().copy(),
        obs=pd.DataFrame(index=wide["subject"].to_list()),
        var=pd.DataFrame({"treatment": list(reference)}, index=[f"{endpoint} {t}" for t in reference]),
    )
    data.uns["axis"], data.uns["unit"] = "subject", str(rows["unit"][0])
    key = next((c for c in ("compound_key", "compound") if c in treatments.columns), None)
    gone = set(reference)
    if key:
        of = dict(treatments.select("treatment", key).iter_rows())
        compounds = {of.get(t) for t in reference} - {None}
        gone |= {t for t, c in of.items() if c in compounds}
    return data, outcomes.filter(~pl.col("treatment").is_in(sorted(gone)))
