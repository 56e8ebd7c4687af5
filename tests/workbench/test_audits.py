"""The audit as a whole: its checks, its table, what it may look at, how it is stopped, logged and asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests import toy
from tests.clean_studies import Draft, exposure, outcomes, screen
from tests.planted_faults import negative_concentration, site_offset, target_as_feature
from workbench import audits, cli, experiment, rooms, runs, tables
from workbench.audits import _chance
from workbench.audits._case import Case
from workbench.splits import Split


def test_every_family_lists_checks_that_say_what_they_look_for() -> None:
    known = audits.checks()
    assert set(known["family"]) == set(rooms.names("workbench.audits")) == set(audits.families())
    assert known["check"].is_unique().all()
    assert known["says"].str.ends_with(".").all() and (known["says"].str.len_chars() > 30).all()
    assert known.filter("split").height >= 8


def test_findings_are_a_table_errors_first() -> None:
    draft = exposure()
    negative_concentration(draft)
    found = audits.run(draft.write())
    assert found.schema == tables.empty(tables.FINDINGS).schema
    assert found["severity"][0] == "error" and found["family"][0] == "quality"
    assert (found["n"] >= found["rows"].list.len()).all()


def test_an_unknown_family_is_refused_with_the_nearest(workbench_home: Path) -> None:
    study = toy.write()
    with pytest.raises(ValueError, match=r"called 'leakages'.*Did you mean 'leakage'"):
        audits.run(study, families=["leakages"])
    with pytest.raises(ValueError, match="split is of study"):
        audits.run(study, Split.make(toy.write("other", seed=3), "unseen pair", endpoint="ln_ic50"))


def test_progress_is_told_and_a_stop_is_said() -> None:
    study, heard = toy.write(), []
    whole = audits.run(study, say=lambda done, what: heard.append((done, what)))
    assert heard[0][0] == 0 and heard[-1] == (1.0, "done")
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    assert len(heard) == audits.checks().filter(~pl.col("split")).height + 1
    left = iter([False] * 3 + [True] * 99)
    part = audits.run(study, stopped=lambda: next(left))
    assert part.filter(check="audit stopped")["n"].to_list() == [len(heard) - 1 - 3]
    assert part.height <= whole.height + 1


def test_a_check_that_breaks_is_a_warning_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(case: Case):
        """Breaks."""
        raise ValueError("planted")

    module = rooms.load("workbench.audits", "outliers")
    monkeypatch.setattr(module, "CHECKS", (audits.Check("broken", broken),))
    found = audits.run(toy.write(), families=["outliers"])
    assert found.select("check", "severity").rows() == [("broken", "warning")]
    assert "planted" in found["what"][0]


def test_targets_that_are_only_ever_tested_stay_unread() -> None:
    """A held-out cohort: whatever its values are, the audit says the same."""
    said = []
    for shift in (0.0, 1000.0):
        draft = screen()
        tested = draft.subjects["subject"][:9].to_list()
        rows = pl.col("subject").is_in(tested) & (pl.col("endpoint") == "ln_ic50")
        draft.change(rows, pl.col("value") + shift)
        study = draft.write()
        frame = study.rows.with_row_index("row").filter(pl.col("endpoint") == "ln_ic50")
        inside = pl.col("subject").is_in(tested)
        split = Split.custom(
            study,
            "unseen subject",
            endpoint="ln_ic50",
            folds=[(frame.filter(~inside)["row"].to_list(), frame.filter(inside)["row"].to_list())],
        )
        said.append(audits.run(study, split))
        assert Case(study, split).outcomes.filter(rows).is_empty()
    assert said[0].equals(said[1])


def test_a_copied_target_is_an_error_only_where_it_would_be_the_answer() -> None:
    draft = screen()
    expected = target_as_feature(draft)
    study = draft.write()
    alone = audits.run(study, families=["target_leakage"]).filter(check=expected.check)
    split = audits.run(study, expected.split(study), families=["target_leakage"]).filter(check=expected.check)  # type: ignore[misc]
    assert (alone["severity"].to_list(), split["severity"].to_list()) == (["warning"], ["error"])


# --- chance ----------------------------------------------------------------------------------------------------------


def test_rank_tests_agree_with_scipy() -> None:
    from scipy.stats import kruskal

    draw = np.random.default_rng(0)
    x, g = draw.normal(size=90) + np.repeat([0, 0.5, 1], 30), np.repeat([0, 1, 2], 30)
    p, size = _chance.kruskal(x, g)
    assert p == pytest.approx(kruskal(*(x[g == k] for k in range(3))).pvalue, rel=1e-12)
    assert 0.05 < size < 0.4


def test_adjusted_p_values_agree_with_scipy() -> None:
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(1).uniform(size=50) ** 3
    np.testing.assert_allclose(_chance.adjusted(p), false_discovery_control(p), rtol=1e-12)


def test_group_medians_are_medians() -> None:
    draw = np.random.default_rng(2)
    x, codes = draw.normal(size=200), draw.integers(0, 7, 200)
    expected = [np.median(x[codes == k]) for k in range(7)]
    np.testing.assert_allclose(_chance.group_medians(x, codes, 8), [*expected, np.nan])


@pytest.mark.parametrize("test", ["separated", "association"])
def test_permutation_tests_hold_their_level_without_an_effect(test: str) -> None:
    draw = np.random.default_rng(3)
    p = []
    for k in range(150):
        label = draw.integers(0, 3, 40)
        other = draw.normal(size=(40, 5)) if test == "separated" else draw.integers(0, 2, 40)
        p.append(getattr(_chance, test)(other, label, seed=k)[0])
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=0.08)
    assert min(p) > 1e-3


@pytest.mark.parametrize("shape", ["normal", "t3", "laplace"])
def test_a_tail_expects_its_own_values_and_not_a_gross_error(shape: str) -> None:
    draw = np.random.default_rng(4)
    make = {
        "normal": draw.normal,
        "t3": lambda size: draw.standard_t(3, size),
        "laplace": lambda size: draw.laplace(size=size),
    }
    alarms = 0
    for _ in range(40):
        z = make[shape](size=2000)
        z = z / _chance.scale(z)
        alarms += bool(((np.abs(z) > 6) & (_chance.improbable(z) < 0.05)).any())
    assert alarms <= 6
    z[:3] = 200
    assert (_chance.improbable(z)[:3] < 0.05).all()


def test_a_median_polish_takes_conditions_and_subjects_out() -> None:
    draw = np.random.default_rng(5)
    a, b = draw.normal(0, 2, 12), draw.normal(0, 1, 30)
    frame = outcomes(
        subject=[f"s{i:02d}" for i in range(30) for _ in range(12)],
        treatment=[f"t{j:02d}" for _ in range(30) for j in range(12)],
        endpoint="x", value=[b[i] + a[j] for i in range(30) for j in range(12)], unit="ln(uM)",
    )  # fmt: skip
    subjects = pl.DataFrame({"subject": [f"s{i:02d}" for i in range(30)], "tissue": ["lung"] * 30})
    treatments = pl.DataFrame(
        {"treatment": [f"t{j:02d}" for j in range(12)], "compound": None, "smiles": None},
        schema=dict(tables.TREATMENTS.columns),
    )
    m = Case(Draft(frame, subjects, treatments).write()).measured[0]
    assert m.crossed and not m.log
    assert np.abs(m.residual).max() < 1e-9
    assert np.corrcoef(m.own, b)[0, 1] == pytest.approx(1)


# --- asked for, and logged -------------------------------------------------------------------------------------------


@toy.lightning_warnings
def test_a_run_keeps_the_findings_of_its_study_and_split(workbench_home: Path) -> None:
    study = toy.write()
    spec = experiment.of(
        {
            "name": "toy", "study": "synthetic", "endpoint": "ln_ic50", "split": "unseen subject", "folds": 2,
            "predictors": ["global_mean"], "draws": 0,
        }
    )  # fmt: skip
    heard: list[str] = []
    run = experiment.run(spec, say=lambda done, what: heard.append(what))
    assert run.findings.equals(audits.run(study, spec.divide(study)))
    assert run.findings["check"][0] == "impossible values"  # the toy's AUC is no fraction
    assert heard[0].startswith("audit: ")
    assert runs.find(run.run_id).findings.height == run.findings.height


def test_the_verb_prints_and_writes_what_was_found(
    workbench_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draft = screen()
    site_offset(draft)
    draft.write("offset")
    out = tmp_path / "found.json"
    ask = ["audit", "offset", "--split", "unseen subject", "--endpoint", "ln_ic50", "--json", str(out)]
    assert cli.main(ask) == 0
    said = capsys.readouterr()
    assert "offset: 0 errors, 1 warnings" in said.out and "site or batch offset [ln_ic50]" in said.out
    assert "quality: impossible values" in said.err
    written = json.loads(out.read_text())
    assert written[0]["check"] == "site or batch offset" and written[0]["names"][0] in ("north", "south")
    assert cli.main([*ask, "--strict"]) == 1


def test_the_verb_takes_an_experiment_file_and_refuses_half_a_question(
    workbench_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.write()
    file = tmp_path / "one.toml"
    file.write_text(
        'name = "t"\nstudy = "synthetic"\nendpoint = "ln_ic50"\nsplit = "unseen subject"\npredictors = ["drug_mean"]\n'
    )
    assert cli.main(["audit", "--experiment", str(file)]) == 0
    assert "synthetic: 1 errors" in capsys.readouterr().out
    for wrong in (["audit"], ["audit", "synthetic", "--split", "unseen subject"]):
        assert cli.main(wrong) == 1
        assert "--endpoint" in capsys.readouterr().err


def test_a_hostile_name_cannot_move_the_cursor() -> None:
    found = pl.DataFrame(
        [("c", "f", "note", 1.0, "a \x1b[2J name", "w", [1], ["x"], 1, "look")],
        schema=dict(tables.FINDINGS.columns),
        orient="row",
    )
    assert "\x1b" not in audits.text(found, "study") and "\\x1b" in audits.text(found, "study")
