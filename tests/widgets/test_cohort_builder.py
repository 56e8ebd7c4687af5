"""CohortBuilder without a front end: sets, saving, splitting and training in that order, and what is refused."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests import toy
from tests.widgets.planted import HOSTILE
from widgets import CohortBuilder, Selection
from widgets._parts import unpack
from workbench import interactive, runs
from workbench.study import Study

FIRST = [f"subject {i:02d}" for i in range(12)]


@pytest.fixture
def study() -> Study:
    return toy.write()


def page(builder: CohortBuilder, verb: str, **more: Any) -> None:
    """As a button does."""
    page.n = getattr(page, "n", 0) + 1  # type: ignore[attr-defined]
    builder.request = {"verb": verb, "n": page.n, **more}  # type: ignore[attr-defined]


def test_the_selection_of_others_is_the_present_cohort_and_back(study: Study) -> None:
    selection = Selection()
    selection.select(["subject 07", "nobody"], by="lasso")
    builder = CohortBuilder(study, selection)
    assert builder.members == ["subject 07"] and builder.step == "save"
    assert builder.elsewhere == {"n": 1, "names": ["nobody"]}
    builder.members = ["subject 03", "subject 01"]
    assert selection.subjects == ["subject 01", "subject 03"] and builder.elsewhere["n"] == 0
    selection.clear("lasso")
    assert builder.members == [] and builder.step == "select"


def test_filters_and_set_operations(study: Study) -> None:
    study = study.save_cohort("early", FIRST).save_cohort("odd", [f"subject {i:02d}" for i in range(1, 60, 2)])
    builder = CohortBuilder(study)
    assert [(c["name"], c["n"]) for c in builder.cohorts] == [("early", 12), ("odd", 30)]
    page(builder, "combine", how="replace", name="early")
    assert builder.members == FIRST
    page(builder, "combine", how="intersection", name="odd")
    assert builder.members == FIRST[1::2]
    page(builder, "combine", how="union", name="early")
    page(builder, "combine", how="minus", name="odd")
    assert builder.members == FIRST[::2]
    page(builder, "keep", facet="tissue", levels=["tissue 0"])
    assert builder.members == FIRST[::4]
    page(builder, "keep", facet="copy_number", levels=["has"])
    assert builder.members == FIRST[4::4]
    page(builder, "undo")
    assert builder.members == FIRST[::4]
    page(builder, "keep", facet="tissue", levels=["tissue 0"], without=True)
    assert builder.members == []
    page(builder, "keep", facet="mutation", levels=["lacks"])  # nobody selected: the whole study is asked
    assert builder.members == [f"subject {i}" for i in range(52, 60)]
    page(builder, "add", facet="tissue", levels=["tissue 0"])
    assert builder.members == [f"subject {i:02d}" for i in range(60) if i >= 52 or i % 4 == 0]
    page(builder, "undo")
    page(builder, "complement")
    assert len(builder.members) == 52
    page(builder, "clear")
    assert builder.members == []


def test_the_page_gets_composition_and_presence(study: Study) -> None:
    header, columns = unpack(CohortBuilder(study).frame_bytes)
    assert header["facets"] == [{"name": "tissue", "levels": [f"tissue {i}" for i in range(4)]}]
    assert columns["facet.0"].tolist() == [i % 4 for i in range(60)]
    at = header["modalities"].index("mutation")
    assert columns[f"has.{at}"].sum() == 52 and columns["n_outcomes"].sum() == study.outcomes.height


def test_saving_writes_one_entry_and_leaves_the_digest(study: Study) -> None:
    builder = CohortBuilder(study)
    builder.members = FIRST
    before = len(study.journal)
    page(builder, "save", name="twelve", note="for a test")
    assert builder.step == "split" and builder.error == ""
    kept = Study.open(study.path)
    assert kept.cohorts["twelve"].members == tuple(FIRST) and kept.cohorts["twelve"].note == "for a test"
    assert len(kept.journal) == before + 1 and kept.digest == study.digest
    assert builder.saved["hash"] == kept.journal[-1]["hash"] and builder.saved["entry"] == before + 1
    builder.members = FIRST[:3]  # another selection has to be saved again
    assert builder.saved == {} and builder.step == "save"


def test_the_split_holds_the_cohort_out_is_checked_and_audited(study: Study) -> None:
    builder = CohortBuilder(study)
    builder.members = [*FIRST, toy.BARE]
    builder.save("twelve and one")
    builder.divide("ln_ic50")
    assert builder.split is not None and builder.step == "train"
    train, test = builder.split.folds[0]
    frame = study.outcomes.with_row_index("row")
    wanted = frame.filter(frame["subject"].is_in([*FIRST, toy.BARE]) & (frame["endpoint"] == "ln_ic50"))["row"]
    assert test.tolist() == wanted.to_list()
    assert builder.divided["test"] == {"rows": len(test), "subjects": 13}
    assert builder.divided["train"] == {"rows": len(train), "subjects": 47}
    builder.wait(60)
    audit = builder.divided["audit"]
    assert audit["state"] == "done", builder.traceback
    assert audit["asked"] > 0 and builder.divided["digest"] == builder.split.digest


def test_from_a_selection_to_a_recorded_run(study: Study) -> None:
    start = partial(interactive.start, base="http://127.0.0.1:9", draws=20)
    builder = CohortBuilder(study, None, interactive.options(), start)
    builder.members = FIRST
    page(builder, "save", name="twelve")
    page(builder, "split", endpoint="ln_ic50")
    assert builder._auditing is not None
    builder._auditing.join(60)  # filters of warnings belong to all threads: two at once make each other's errors
    builder.choice = {**builder.choice, "predictor": "ridge", "modalities": ["expression"]}
    page(builder, "train")
    assert builder.wait(120) == "done", builder._panel.traceback
    run = runs.find("latest")
    assert builder.training["result"]["url"] == run.ui_url("http://127.0.0.1:9")
    assert run.predictions.filter(predictor="ridge")["subject"].unique().sort().to_list() == FIRST
    assert run.params["cohort"] == "twelve" and run.study_digest == study.digest
    assert builder.training["result"]["scores"]


def test_steps_out_of_order_and_bad_names_are_said(study: Study) -> None:
    builder = CohortBuilder(study, None, interactive.options(), lambda *_: {})
    for verb, more, said in (
        ("train", {}, "split first"),
        ("split", {}, "save the cohort first"),
        ("save", {"name": "x"}, "has no members"),
        ("combine", {"how": "minus", "name": "nobody"}, "no saved cohort 'nobody'"),
        ("keep", {"facet": "tisue", "levels": ["a"]}, "Did you mean 'tissue'"),
    ):
        page(builder, verb, **more)
        assert said in builder.error, verb
    builder.members = study.subjects["subject"].to_list()
    page(builder, "save", name="everyone")
    page(builder, "split", endpoint="ln_ic50")
    assert "nothing to learn from" in builder.error and builder.divided == {}
    page(builder, "clear")
    assert builder.error == ""
    with pytest.raises(ValueError, match="no training was given"):
        CohortBuilder(study).train()


def test_a_hostile_name_is_saved_and_split_like_any_other(study: Study) -> None:
    builder = CohortBuilder(study, title=HOSTILE)
    builder.members = FIRST
    page(builder, "save", name=HOSTILE, note=HOSTILE)
    page(builder, "split", endpoint="ln_ic50")
    assert builder.saved["name"] == HOSTILE and builder.cohorts[0]["note"] == HOSTILE and builder.divided["test"]
    builder.wait(60)


def test_a_choice_with_a_cohort_is_an_experiment_that_holds_it_out(study: Study) -> None:
    study.save_cohort("early", FIRST)
    choice = {"study": "synthetic", "predictor": "ridge", "split": "unseen subject", "modalities": ["expression"]}
    spec = interactive.specify({**choice, "cohort": "early", "endpoint": "auc"}, draws=10)
    assert (spec.cohort, spec.split, spec.endpoint, spec.numbers) == ("early", "unseen subject", "auc", [0])
    plain = interactive.specify(choice)
    assert (plain.cohort, plain.endpoint, plain.folds, plain.only) == ("", "ln_ic50", 5, (0,))
