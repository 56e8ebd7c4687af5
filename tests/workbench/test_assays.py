"""The value of a missing assay: what was planted is named, what is useless is worth nothing, promises are kept."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench import home, predict, predictors, score, tables, train
from workbench.planning import _subsets, assays, assays_command
from workbench.splits import Fold, Split
from workbench.study import Study, write_study

pytestmark = [pytest.mark.shared_home, toy.lightning_warnings]

LINES, DRUGS, FEATURES = 160, 8, 6
NAMES = ("expression", "mutation", "copy_number")
SECOND = "drug 2"


def write(name: str, *, seed: int = 0, missing: float = 0.0, lines: int = LINES) -> Study:
    """Drugs follow expression; drug 2 alone follows mutation, and it alone; copy number says nothing.

    ``missing``: share of lines that lack each modality, drawn for each modality on its own.
    """
    from anndata import AnnData

    draw = np.random.default_rng([4714, seed])
    told = {m: draw.normal(size=(lines, FEATURES)).astype(np.float32) for m in NAMES}
    names = [f"line {i:03d}" for i in range(lines)]
    rows = []
    for d in range(DRUGS):
        source = "mutation" if f"drug {d}" == SECOND else "expression"
        mean = d + told[source] @ draw.normal(0, 0.6, FEATURES)
        rows += [(names[i], f"drug {d}", mean[i] + draw.normal(0, 0.5)) for i in range(lines)]
    modalities = {}
    for m in NAMES:
        kept = np.flatnonzero(draw.random(lines) >= missing)
        modalities[m] = AnnData(told[m][kept])
        modalities[m].obs_names = [names[i] for i in kept]
        modalities[m].var_names = [f"{m} {j}" for j in range(FEATURES)]
        modalities[m].uns["axis"], modalities[m].uns["unit"] = "subject", "z-score"
    frame = pl.DataFrame(rows, schema=["subject", "treatment", "value"], orient="row")
    constant = {"site": "nowhere", "endpoint": "ln_ic50", "unit": "ln(uM)", "source": "synthetic"}
    return write_study(
        home.studies() / name,
        outcomes=tables.check(
            frame.with_columns(
                *(pl.lit(v).alias(k) for k, v in constant.items()),
                *(pl.lit(None, t).alias(c) for c, t in (("dose", pl.Float64), ("dose_unit", pl.String))),
                pl.lit(None, pl.Float64).alias("time_h"),
                pl.lit(0, pl.Int8).alias("censored"),
            ),
            tables.OUTCOMES,
        ),
        subjects=pl.DataFrame({"subject": names, "tissue": [f"t{i % 4}" for i in range(lines)]}),
        treatments=pl.DataFrame(
            {"treatment": [f"drug {d}" for d in range(DRUGS)], "compound": None, "smiles": None},
            schema=dict(tables.TREATMENTS.columns),
        ),
        modalities=modalities,
        provenance={"source": "synthetic numbers, planted truth", "seed": seed},
        event="made for a test",
    )


@cache
def judged() -> tuple[Fold, pl.DataFrame, pl.DataFrame]:
    """The fold, what was promised on its training rows, and what it really was on its test rows."""
    fold = Split.make(write("assays"), "unseen subject", endpoint="ln_ic50", folds=2).fold(0)
    data = _subsets.lines(fold.study, fold.train, fold.endpoint, NAMES)
    wanted = assays.steps(NAMES)
    made = assays.fits(data, wanted)
    return fold, assays.promised(data, made, wanted, fold.unit), assays.real(fold, data, made, wanted)


def one(values: pl.DataFrame, present: str, modality: str, treatment: str) -> dict[str, float]:
    return values.filter(present=present, modality=modality, treatment=treatment).row(0, named=True)


# --- planted truth ---------------------------------------------------------------------------------------------------


def test_the_modality_that_carries_a_drug_is_named_as_its_next_assay(_module_home: object) -> None:
    _, values, _ = judged()
    for present in ("expression", "expression + copy_number", "nothing", "copy_number"):
        assert assays.best(values, SECOND).filter(present=present)["modality"][0] == "mutation"
    for present in ("mutation", "mutation + copy_number", "nothing"):
        assert assays.best(values, "drug 3").filter(present=present)["modality"][0] == "expression"


def test_its_value_is_what_it_really_saves(_module_home: object) -> None:
    _, values, cost = judged()
    promise, found = one(values, "expression", "mutation", SECOND), one(cost, "expression", "mutation", SECOND)
    assert promise["value"] > 0.3 and promise["low"] > 0.2
    error = np.hypot((promise["high"] - promise["low"]) / 3.92, found["sd"])
    assert abs(found["value"] - promise["expected"]) < 1.96 * error
    # and without it the error is that of knowing nothing of the line
    assert promise["before"] == pytest.approx(one(values, "nothing", "mutation", SECOND)["before"], rel=0.05)


def test_a_useless_modality_is_worth_nothing(_module_home: object) -> None:
    _, values, cost = judged()
    for present in ("expression", "mutation", "expression + mutation"):
        for treatment in ("all drugs", SECOND, "drug 3"):
            row = one(values, present, "copy_number", treatment)
            assert row["expected"] < 0.02, (present, treatment, row)
            assert abs(row["expected"] - one(cost, present, "copy_number", treatment)["value"]) < 0.1
    row = one(values, "nothing", "copy_number", "all drugs")
    assert row["low"] <= 0.0 <= row["high"] or row["high"] < 0.01
    assert row["correlation"] < 0.1  # left-out predictions of noise lean below zero


def test_promises_are_kept_on_lines_never_seen(_module_home: object) -> None:
    _, values, cost = judged()
    table = assays.calibration(values, cost)
    assert table.height == 12
    assert table["within"].mean() >= 0.75 and table["drugs_within"].mean() >= 0.85
    step = table.filter(present="expression", modality="mutation").row(0, named=True)
    assert step["slope"] == pytest.approx(1.0, abs=0.3)
    assert cost["value"].to_numpy() == pytest.approx((cost["before"] - cost["after"]).to_numpy())


def test_noise_has_no_value() -> None:
    """Responses shuffled within each drug: whatever is measured, nothing is promised."""
    fold = Split.make(write("shuffled", seed=3), "unseen subject", endpoint="ln_ic50", folds=2).fold(0)
    train = fold.train.with_columns(pl.col("value").shuffle(seed=1).over("treatment"))
    data = _subsets.lines(fold.study, train, fold.endpoint, NAMES)
    wanted = assays.steps(NAMES, ())
    values = assays.promised(data, assays.fits(data, wanted), wanted, fold.unit)
    assert values["expected"].max() < 0.05 * values["before"].min()  # type: ignore[operator]
    assert (values["low"] <= 0).mean() >= 0.9


# --- the sums --------------------------------------------------------------------------------------------------------


def test_left_out_predictions_are_those_of_a_refit_without_the_line() -> None:
    fold = judged()[0]
    data = _subsets.lines(fold.study, fold.train, fold.endpoint, NAMES)
    mean = _subsets.fit(data, ()).left_out
    assert mean[3, 2] == pytest.approx(np.delete(data.y[:, 2], 3).mean())
    made = _subsets.fit(data, ("mutation",))
    penalty = _subsets.PENALTIES[
        np.argmin([abs(_refit(data, 3, 2, a) - made.left_out[3, 2]) for a in _subsets.PENALTIES])
    ]
    assert _refit(data, 3, 2, float(penalty)) == pytest.approx(made.left_out[3, 2], abs=1e-8)


def _refit(data: _subsets.Lines, line: int, drug: int, penalty: float) -> float:
    kernel = data.rotated["mutation"] @ data.rotated["mutation"].T
    rest = np.delete(np.arange(len(kernel)), line)
    inverse = np.linalg.inv(kernel[np.ix_(rest, rest)] + penalty * np.eye(len(rest)))
    y = data.y[rest, drug]
    shift = (inverse.sum(0) @ y) / inverse.sum()
    return float(shift + kernel[line, rest] @ inverse @ (y - shift))


def test_test_targets_are_not_looked_at_for_the_promise() -> None:
    fold, values, _ = judged()
    data = _subsets.lines(fold.study, fold.train, fold.endpoint, NAMES)
    assert not set(data.subjects) & set(fold.test["subject"])
    wanted = assays.steps(NAMES, ("expression",))
    again = assays.promised(data, assays.fits(data, wanted), wanted, fold.unit)
    assert again.equals(values.filter(present="expression").select(again.columns))


def test_values_are_drawn_to_the_mean_by_their_noise() -> None:
    draw = np.random.default_rng(0)
    truth, sd = draw.normal(0.2, 0.05, 2000), np.full(2000, 0.1)
    seen = truth + draw.normal(0, sd)
    expected, posterior = assays.shrunk(seen, sd)
    assert np.mean((expected - truth) ** 2) < 0.3 * np.mean((seen - truth) ** 2)
    assert np.mean(np.abs(expected - truth) < 1.96 * posterior) == pytest.approx(0.95, abs=0.02)
    exact, _ = assays.shrunk(truth, np.full(2000, 1e-9))
    assert exact == pytest.approx(truth)
    few, alone = assays.shrunk(seen[:2], sd[:2])
    assert few.tolist() == seen[:2].tolist() and alone.tolist() == sd[:2].tolist()


def test_what_cannot_be_said_is_refused() -> None:
    fold, values, _ = judged()
    with pytest.raises(ValueError, match=r"0 training lines have all of \['expression'\]; at least 20"):
        _subsets.lines(fold.study, fold.train.head(0), fold.endpoint, ["expression"])
    with pytest.raises(ValueError, match=r"no value for 'drug 99'"):
        assays.best(values, "drug 99")
    assert assays.steps(NAMES, NAMES) == []
    with pytest.raises(ValueError, match=r"'drug_structure' describes treatments"):
        _subsets.lines(fold.study, fold.train, fold.endpoint, ["drug_structure"])


# --- for one sample --------------------------------------------------------------------------------------------------


def some(study: Study, *present: str) -> str:
    """A sample that has exactly these modalities."""
    told = study.presence().with_columns(pl.concat_list(NAMES).alias("has"))
    want = [m in present for m in NAMES]
    return str(told.filter(pl.col("has").map_elements(lambda v: v.to_list() == want, return_dtype=bool))["subject"][0])


def test_a_sample_is_told_what_to_measure_next(capsys: pytest.CaptureFixture[str], tmp_path: object) -> None:
    study = write("gaps", missing=0.3, lines=240)
    sample = some(study, "expression")
    values = assays.for_sample(study, sample, "ln_ic50")
    assert set(values["modality"]) == {"mutation", "copy_number"} and set(values["present"]) == {"expression"}
    assert assays.best(values)["modality"][0] == assays.best(values, SECOND)["modality"][0] == "mutation"
    assert assays_command.main(["gaps", "--sample", sample, "--json", f"{tmp_path}/v.json"]) == 0
    told = capsys.readouterr().out
    assert "Measure next: mutation." in told and told.index("  drug 2 ") > told.index("Drugs that mutation helps most")
    assert told.split("helps most")[1].split("\n")[1].strip().startswith("drug 2")
    assert len(json.loads((Path(str(tmp_path)) / "v.json").read_text())) == values.height
    assert assays_command.main(["gaps", "--sample", some(study, *NAMES)]) == 0
    assert "lacks none of the modalities" in capsys.readouterr().out
    assert assays_command.main(["gaps", "--sample", some(study, "expression", "mutation")]) == 0
    told = capsys.readouterr().out
    assert "the interval of the best one includes zero" in told and "shown to help with any one drug" in told
    assert assays_command.main(["gaps", "--sample", sample, "--drugs", "drug 3"]) == 0
    told = capsys.readouterr().out
    assert "mutation is expected to help" in told and "  drug 3 " in told and "  drug 2 " not in told


def test_the_samples_own_responses_take_no_part() -> None:
    study = Study.open(home.studies() / "gaps")
    sample = some(study, "expression")
    frame = study.outcomes.with_columns(
        pl.when(pl.col("subject").cast(pl.String) == sample).then(1e6).otherwise("value").alias("value")
    )

    class Poisoned:
        """The study, the sample's responses made absurd."""

        outcomes = frame

        def __getattr__(self, name: str) -> object:
            return getattr(study, name)

    clean = assays.for_sample(study, sample, "ln_ic50", ["expression", "mutation"])
    assert assays.for_sample(Poisoned(), sample, "ln_ic50", ["expression", "mutation"]).equals(clean)


def test_what_is_asked_wrongly_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for more, said in (
        (["--sample", "line 00"], "no sample 'line 00'. Did you mean 'line "),
        (["--sample", "line 001", "--modalities", "mutatoin"], "no modality 'mutatoin'. Did you mean 'mutation'"),
        (["--sample", "line 001", "--endpoint", "auc"], "no endpoint 'auc'"),
    ):
        assert assays_command.main(["gaps", *more]) == 1
        assert said in capsys.readouterr().err
    assert assays_command.main(["gaps"]) == 2


# --- any subset of modalities, at training and at use ----------------------------------------------------------------


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_drug_response_learns_from_lines_that_each_lack_something(missing: float) -> None:
    """Three lines of ten lack each modality, each its own: the answers stay better than the drug's mean."""
    study = write(f"each lacks {missing}", missing=missing, lines=240)
    fold = Split.make(study, "unseen subject", endpoint="ln_ic50", folds=4).fold(0)
    made: Any = predictors.make("drug_response", members=3, width=32, rank=16, epochs=8, subjects=32)
    train.fit(made, fold, accelerator="cpu")
    tables_ = [score.unseal(predict.predictions(p, fold), fold) for p in (made, predictors.make("drug_mean").fit(fold))]
    scored = pl.concat(tables_).filter(pl.col("predicted").is_not_null())
    told = scored.join(study.presence(), on="subject").with_columns(
        informed=pl.when(pl.col("treatment") == SECOND).then(pl.col("mutation")).otherwise(pl.col("expression"))
    )
    error = {
        (row["predictor"], row["informed"]): row["rmse"]
        for row in told.group_by("predictor", "informed")
        .agg(rmse=(pl.col("predicted") - pl.col("observed")).pow(2).mean().sqrt())
        .iter_rows(named=True)
    }
    # a line that lacks what carries the drug's signal is answered by the drug's mean or nearly; the others are better
    assert error["drug_response", True] < 0.8 * error["drug_mean", True]
    if missing:
        assert error["drug_response", False] < 1.15 * error["drug_mean", False]
        lacking = set(fold.test["subject"]) - set(scored["subject"])
        there = study.presence().filter(pl.any_horizontal(NAMES))["subject"].to_list()
        assert not lacking & set(there), "one modality is enough for an answer"
        coverage = told.filter(predictor="drug_response").select((pl.col("observed").is_between("low", "high")).mean())
        assert 0.8 <= coverage.item() <= 0.99
