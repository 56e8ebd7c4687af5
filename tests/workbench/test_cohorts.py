"""Cohorts: saved in the journal, never overwritten, held out by a split, trained on by an experiment."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from tests import toy
from workbench import experiment
from workbench.cohorts import Cohort, CohortError
from workbench.experiment import ExperimentError
from workbench.splits import LeakError, Split
from workbench.study import Study, StudyError, write_study

HTML = "<img src=x onerror=alert(1)>"
LUNG = ["subject 03", "subject 01", "subject 02", "subject 02"]


@pytest.fixture
def study() -> Study:
    return toy.write()


def test_a_cohort_is_saved_and_nothing_else_changes(study: Study) -> None:
    before = {p.name: p.read_bytes() for p in study.path.iterdir() if p.is_file()}
    after = study.save_cohort("lung", LUNG, note=HTML)
    cohort = after.cohorts["lung"]
    assert (cohort.members, cohort.axis, cohort.note) == (("subject 01", "subject 02", "subject 03"), "subject", HTML)
    assert after.digest == study.digest and after.check() == []
    changed = {p.name for p in study.path.iterdir() if p.is_file() and p.read_bytes() != before[p.name]}
    assert changed == {"journal.jsonl", "manifest.sha256"}
    assert [e["event"] for e in after.journal][-1] == "cohort saved: lung"
    assert after.outcomes.equals(study.outcomes) and study.cohorts == {}


def test_the_newest_of_a_name_counts_and_the_older_stays(study: Study) -> None:
    study.save_cohort("a", ["subject 01"])
    study.save_cohort(HTML, ["subject 05"])
    last = study.save_cohort("a", ["subject 02"])
    assert {n: c.members for n, c in last.cohorts.items()} == {"a": ("subject 02",), HTML: ("subject 05",)}
    assert next(e["cohort"]["members"] for e in last.journal if "cohort" in e) == ["subject 01"]


def test_treatments_can_be_a_cohort_but_not_a_split(study: Study) -> None:
    saved = study.save_cohort("analgesics", ["aspirin", "ibuprofen"], axis="treatment")
    assert isinstance(saved.cohorts["analgesics"], Cohort)
    with pytest.raises(CohortError, match="one of treatments; a split holds out subjects"):
        Split.cohort(saved, "analgesics", endpoint="ln_ic50")


@pytest.mark.parametrize(
    ("name", "members", "axis", "message"),
    [
        ("x", ["subject 1"], "subject", "first 'subject 1'. Did you mean"),
        ("x", [], "subject", "has no members"),
        (" ", ["subject 01"], "subject", "needs a name"),
        ("a\nb", ["subject 01"], "subject", "needs a name"),
        ("x", ["subject 01"], "plate", "axis is one of"),
        ("x", ["aspirin"], "subject", "no subjects of this study"),
    ],
)
def test_what_cannot_be_a_cohort_is_refused(
    study: Study, name: str, members: list[str], axis: str, message: str
) -> None:
    with pytest.raises(CohortError, match=message):
        study.save_cohort(name, members, axis=axis)
    assert Study.open(study.path).journal == study.journal


def test_a_changed_cohort_is_refused(study: Study) -> None:
    saved = study.save_cohort("lung", LUNG)
    path = saved.path / "journal.jsonl"
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    entries[-1]["cohort"]["members"] = ["subject 09"]
    os.chmod(path, 0o644)
    path.write_text("".join(json.dumps(e, sort_keys=True, separators=(",", ":")) + "\n" for e in entries))
    with pytest.raises(StudyError, match="entry 2: expected hash"):
        Study.open(saved.path)


def test_many_savers_lose_nothing(study: Study) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: Study.open(study.path).save_cohort(f"c{k}", [f"subject {k:02d}"]), range(16)))
    final = Study.open(study.path)
    assert sorted(final.cohorts) == sorted(f"c{k}" for k in range(16))
    assert final.check() == []


def test_a_study_replaced_meanwhile_takes_no_cohort_of_the_old(study: Study) -> None:
    other = toy.write("other", seed=1)
    facts = {"outcomes": other.outcomes, "subjects": other.subjects, "treatments": other.treatments}
    write_study(study.path, **facts, modalities={}, provenance={}, event="replaced", replace=True)
    with pytest.raises(StudyError, match="replaced since it was opened"):
        study.save_cohort("lung", LUNG)


def test_a_cohort_is_held_out_whole(study: Study) -> None:
    saved = study.save_cohort("lung", LUNG)
    split = Split.cohort(saved, "lung", endpoint="ln_ic50")
    ((train, test),) = split.folds
    who = saved.outcomes.with_row_index("row")
    assert set(who.filter(pl.col("row").is_in(test.tolist()))["subject"]) == set(LUNG)
    assert not set(who.filter(pl.col("row").is_in(train.tolist()))["subject"]) & set(LUNG)
    assert len(train) + len(test) == (saved.outcomes["endpoint"] == "ln_ic50").sum()
    assert (split.rule, split.digest) == ("unseen subject", Split.cohort(saved, "lung", endpoint="ln_ic50").digest)


def test_a_cohort_of_everybody_or_nobody_is_no_split(study: Study) -> None:
    saved = study.save_cohort("all", study.subjects["subject"].to_list())
    with pytest.raises(ValueError, match=r"all of the .* nothing to learn from"):
        Split.cohort(saved, "all", endpoint="ln_ic50")
    with pytest.raises(CohortError, match=r"no cohort 'al'\. Did you mean 'all'"):
        Split.cohort(saved, "al", endpoint="ln_ic50")


def spec(**changes: object) -> experiment.Experiment:
    plain = {"name": "x", "study": "synthetic", "endpoint": "ln_ic50", "split": "unseen subject", "draws": 20,
             "predictors": ["drug_mean", "mean_effects"], "cohort": "lung"}  # fmt: skip
    return experiment.of({**plain, **changes})


@toy.lightning_warnings
def test_an_experiment_holds_the_cohort_out(study: Study) -> None:
    study.save_cohort("lung", LUNG)
    run = experiment.run(spec())
    assert set(run.predictions["subject"]) == set(LUNG)
    assert run.predictions["fold"].unique().to_list() == [0]
    assert run.predictions["observed"].null_count() == 0


def test_a_cohort_goes_with_unseen_subject_alone() -> None:
    with pytest.raises(ExperimentError, match='as split "unseen subject"; found'):
        spec(split="unseen tissue")
    with pytest.raises(ExperimentError, match="makes one fold, 0"):
        spec(only=[1])


def patients(study: Study) -> Study:
    """The same study, where each three subjects that follow each other come from one patient."""
    facts = study.subjects.with_columns(patient=pl.format("patient {}", pl.int_range(pl.len()) // 3))
    return write_study(
        study.path, outcomes=study.outcomes, subjects=facts, treatments=study.treatments, modalities={},
        provenance={}, event="patients named", replace=True,
    )  # fmt: skip


def test_subjects_of_one_patient_are_never_parted(study: Study) -> None:
    named = patients(study)
    of = dict(named.subjects.select("subject", "patient").rows())
    for train, test in Split.make(named, "unseen subject", endpoint="ln_ic50", folds=4).folds:
        sides = [{of[s] for s in named.outcomes["subject"].gather(rows.tolist())} for rows in (train, test)]
        assert not sides[0] & sides[1]
    saved = named.save_cohort("torn", ["subject 00", "subject 01"])
    with pytest.raises(LeakError, match="patient 'patient 0' is in training"):
        Split.cohort(saved, "torn", endpoint="ln_ic50")
    whole = named.save_cohort("whole", ["subject 00", "subject 01", "subject 02"])
    assert len(Split.cohort(whole, "whole", endpoint="ln_ic50").folds) == 1
