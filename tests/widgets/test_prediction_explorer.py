"""PredictionExplorer without a front end: what is packed, what is shown, what the brush holds, what is refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import traitlets

from tests.widgets import planted
from widgets import PredictionExplorer
from widgets._parts import unpack
from widgets.prediction_explorer import ESM, pack_predictions
from workbench.tables import TableError


def test_packed_columns_give_back_every_number_and_name() -> None:
    frame = planted.predictions()
    header, columns = unpack(pack_predictions(frame))
    assert header["pairs"] == 90
    assert [p["name"] for p in header["predictors"]] == ["ridge", "drug_mean"]
    assert [p["naive"] for p in header["predictors"]] == [False, True]
    assert header["series"] == [
        {
            "key": "ln_ic50 \u00b7 ln(uM) \u00b7 unseen subject",
            "endpoint": "ln_ic50",
            "label": "ln IC50",
            "unit": "ln(\u00b5M)",
            "split": "unseen subject",
        }
    ]
    assert columns["start"].tolist() == [0, 30, 60, 90]
    row = columns["start"][1] + 7  # any row of Gefitinib
    subject = header["subjects"][columns["subject"][row]]
    wanted = frame.filter(
        (pl.col("predictor") == "ridge") & (pl.col("treatment") == "Gefitinib") & (pl.col("subject") == subject)
    ).row(0, named=True)
    for packed, column in (
        ("observed", "observed"),
        ("predicted.0", "predicted"),
        ("low.0", "low"),
        ("high.0", "high"),
    ):
        assert columns[packed][row] == np.float32(wanted[column])
    assert columns["fold"][row] == wanted["fold"]
    assert header["tissues"][columns["tissue_of"][columns["subject"][row]]] == wanted["tissue"]


def test_a_predictor_that_abstained_leaves_a_gap_and_not_a_zero() -> None:
    frame = planted.predictions()
    silent = (pl.col("predictor") == "ridge") & (pl.col("row") == 0)
    frame = frame.with_columns(pl.when(silent).then(None).otherwise("predicted").alias("predicted"))
    header, columns = unpack(pack_predictions(frame))
    assert header["pairs"] == 90
    assert np.isnan(columns["predicted.0"]).sum() == 1
    assert np.isnan(columns["predicted.1"]).sum() == 0


def test_per_treatment_pearson_is_numpys_and_sorted() -> None:
    frame = planted.predictions()
    found = PredictionExplorer(frame).per_treatment
    assert found["Pearson"].to_list() == sorted(found["Pearson"].to_list(), reverse=True)
    for name, n, pearson, rmse in found.iter_rows():
        own = frame.filter((pl.col("predictor") == "ridge") & (pl.col("treatment") == name))
        assert n == 30
        assert pearson == pytest.approx(np.corrcoef(own["observed"], own["predicted"])[0, 1], abs=1e-12)
        assert rmse == pytest.approx(float(np.sqrt(((own["observed"] - own["predicted"]) ** 2).mean())), abs=1e-12)


def test_a_constant_prediction_has_no_pearson() -> None:
    explorer = PredictionExplorer(planted.predictions())
    explorer.predictor = "drug_mean"
    assert explorer.per_treatment["Pearson"].to_list() == [None, None, None]


def test_the_brush_holds_exactly_the_rows_inside_in_both_views() -> None:
    explorer = PredictionExplorer(planted.predictions())
    assert len(explorer.brushed) == 0
    explorer.treatment = "Gefitinib"
    explorer.brush = [3.0, 1.0, 0.5, 2.5]  # any corner first
    assert explorer.brush == [1.0, 3.0, 0.5, 2.5]
    shown = explorer.shown.to_dicts()
    wanted = {r["subject"] for r in shown if 1.0 <= r["observed"] <= 3.0 and 0.5 <= r["predicted"] <= 2.5}
    assert 0 < len(wanted) < 30
    assert set(explorer.brushed["subject"]) == wanted
    explorer.view = "residuals"
    assert explorer.brush == []
    explorer.brush = [-9.0, 9.0, 0.5, 9.0]
    assert set(explorer.brushed["subject"]) == {r["subject"] for r in shown if r["observed"] - r["predicted"] >= 0.5}


def test_unknown_names_and_bad_rectangles_are_refused_with_a_hint() -> None:
    explorer = PredictionExplorer(planted.predictions())
    with pytest.raises(traitlets.TraitError, match="Did you mean 'Erlotinib'"):
        explorer.treatment = "Erlotinb"
    with pytest.raises(traitlets.TraitError, match=r"\[x0, x1, y0, y1\]"):
        explorer.brush = [1.0, 2.0]
    assert (explorer.treatment, explorer.brush) == ("", [])


def test_tissues_come_from_subjects_where_the_predictions_have_none() -> None:
    frame = planted.predictions().with_columns(tissue=pl.lit(None, dtype=pl.String))
    assert unpack(pack_predictions(frame))[1]["tissue_of"].tolist() == [-1] * 30
    subjects = pl.DataFrame({"subject": ["line 0"], "tissue": ["bone"]})
    header, columns = unpack(pack_predictions(frame, subjects))
    assert header["tissues"] == ["bone"]
    assert columns["tissue_of"][header["subjects"].index("line 0")] == 0
    assert (columns["tissue_of"] == -1).sum() == 29


def test_one_answer_per_row_or_a_refusal() -> None:
    frame = planted.predictions()
    with pytest.raises(TableError, match="'ridge' answers row 0 of fold 0 more than once"):
        PredictionExplorer(pl.concat([frame, frame.head(1)]))


def test_a_frame_of_other_columns_is_refused() -> None:
    with pytest.raises(TableError, match="'predicted'"):
        PredictionExplorer(planted.predictions().drop("predicted"))


def test_empty_and_unscored_tables_make_an_empty_widget() -> None:
    frame = planted.predictions()
    for nothing in (frame.clear(), frame.with_columns(observed=pl.lit(None, dtype=pl.Float64))):
        explorer = PredictionExplorer(nothing)
        assert unpack(explorer.frame_bytes)[0]["pairs"] == 0
        assert len(explorer.shown) == len(explorer.brushed) == len(explorer.per_treatment) == 0


def test_hostile_names_stay_names() -> None:
    frame = planted.predictions(drugs=(planted.HOSTILE, "Gefitinib")).with_columns(
        subject=pl.lit(planted.HOSTILE) + pl.col("subject")
    )
    explorer = PredictionExplorer(frame, title=planted.HOSTILE)
    explorer.treatment = planted.HOSTILE
    assert explorer.shown["treatment"].unique().to_list() == [planted.HOSTILE]
    assert planted.HOSTILE in unpack(explorer.frame_bytes)[0]["treatments"]


def test_categorical_names_are_accepted() -> None:
    names = pl.col("predictor", "subject", "treatment", "tissue").cast(pl.Categorical)
    assert pack_predictions(planted.predictions().with_columns(names)) == pack_predictions(planted.predictions())


def test_the_module_is_complete_and_asks_nobody() -> None:
    assert 'from "./' not in ESM
    assert "http" not in ESM
    assert "innerHTML" not in ESM
    assert ESM.count("export default") == 1
