"""What the training panel calls: options, a real run of a choice, progress, stopping."""

from __future__ import annotations

import pytest

from tests import toy, toy_pairs
from widgets import TrainingPanel
from workbench import experiment, interactive, runs, train

SMALL = {"folds": 2, "draws": 30, "parameters": {"drug_response": {"members": 2, "width": 16, "rank": 8, "epochs": 2}}}


def test_a_choice_made_in_the_panel_is_trained_recorded_and_scored() -> None:
    toy.write()

    def start(choice, report, stopped):
        return interactive.start(choice, report, stopped, base="http://127.0.0.1:9", **SMALL)

    panel = TrainingPanel(interactive.options(), start)
    assert panel.choice["predictor"] == "drug_response" and panel.choice["study"] == "synthetic"
    panel.start()
    assert panel.wait() == "done", panel.traceback
    run = runs.find(panel.returned["run_id"])
    assert run.status == "FINISHED" and panel.result["url"] == run.ui_url("http://127.0.0.1:9")
    assert set(panel.curve["name"]) == {"training RMSE", "held-out RMSE"}
    shown = {row["metric"]: row["value"] for row in panel.result["scores"]}
    whole = run.metrics.filter(predictor="drug_response", fold="all")
    assert shown["RMSE"] == pytest.approx(whole.filter(metric="RMSE")["value"][0])


def test_stacked_kernels_take_the_modalities_they_have_kernels_for() -> None:
    toy.write()
    choice = {"study": "synthetic", "predictor": "stacked_kernels", "split": "unseen subject"}
    spec = interactive.specify(choice | {"modalities": ["expression", "mutation", "drug_structure"]})
    assert spec.parameters == {"stacked_kernels": {"modalities": ["expression", "mutation"]}}
    assert interactive.options()["predictors"][:2] == ["drug_response", "stacked_kernels"]
    with pytest.raises(experiment.ExperimentError, match=r"stacked_kernels needs at least one modality"):
        interactive.specify(choice | {"modalities": ["drug_structure"]})


def test_a_choice_without_modalities_is_refused_and_a_stopped_one_is_killed() -> None:
    toy.write()
    choice = {"study": "synthetic", "predictor": "drug_response", "split": "unseen subject", "modalities": []}
    with pytest.raises(experiment.ExperimentError, match=r"at least one modality; tick one"):
        interactive.specify(choice)
    with pytest.raises(train.Stopped):
        interactive.start(choice | {"predictor": "ridge"}, lambda news: None, lambda: True)
    assert runs.runs()["status"][0] == "KILLED"


def test_rules_for_drug_pairs_are_offered_where_a_study_has_pairs() -> None:
    toy.write()
    pairs = {"unseen combination", "unseen drug of a combination", "unseen drugs of a combination"}
    assert not pairs & set(interactive.options()["splits"])
    toy_pairs.write()
    assert interactive.options()["splits"][0] == "unseen subject" and pairs <= set(interactive.options()["splits"])
    spec = interactive.specify({"study": "pairs", "predictor": "pair_effects", "split": "unseen combination"})
    assert spec.split == "unseen combination"
