"""Every planted fault is found by the check that is for it, with its rows and names; clean studies are left alone."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

from tests import toy
from tests.clean_studies import CLEAN, Draft
from tests.planted_faults import DATA, LEAKS, Fault
from workbench import audits, tables
from workbench.splits import RULES, Split
from workbench.study import Study

RANK = {"note": 0, "warning": 1, "error": 2}
MOST = 1  # false alarms over all clean studies and splits


def alarms(findings: pl.DataFrame) -> list[str]:
    """Errors and warnings, one line each."""
    loud = findings.filter(pl.col("severity") != "note")
    return [f"{check}: {what}" for check, what in loud.select("check", "what").rows()]


def test_there_are_enough_plants_and_each_is_of_its_own() -> None:
    assert len(LEAKS) >= 12 and len(DATA) >= 13
    assert len({str(f) for f in [*DATA, *LEAKS]}) == len(DATA) + len(LEAKS)


@pytest.mark.parametrize("fault", [*DATA, *LEAKS], ids=str)
def test_a_planted_fault_is_found_with_its_rows_and_names(fault: Fault) -> None:
    draft = fault.clean()
    expected = fault.plant(draft)
    study = draft.write()
    found = audits.run(study, expected.split(study) if expected.split else None)
    hits = found.filter(
        pl.col("check") == expected.check, pl.col("severity").replace_strict(RANK) >= RANK[expected.severity]
    )
    assert hits.height, f"{expected.check} says nothing; found were {found['check'].to_list()}"
    assert set(expected.names) <= {n for names in hits["names"] for n in names}
    if expected.rows is not None:
        planted = set(study.outcomes.with_row_index("row").filter(expected.rows)["row"])
        given = {r for rows in hits["rows"] for r in rows}
        assert planted and planted <= given
        assert given == planted or not expected.exact
    assert (hits["confidence"] > 0.6).all()
    other = found.filter(~pl.col("check").is_in([expected.check, *fault.also]))
    assert alarms(other) == [], "nothing else may be accused of it"


def test_a_fault_that_a_split_does_not_part_is_no_leak() -> None:
    """The same two names on one side of the fold: a warning of the study, not an error of the split."""
    from tests.clean_studies import screen
    from tests.planted_faults import apart, same_line_by_profile

    draft = screen()
    pair = list(same_line_by_profile(draft).names)
    study = draft.write()
    found = audits.run(study, apart("unseen subject", *pair)(study), families=["leakage"])
    assert found.filter(check="same subject under two names")["severity"].to_list() == ["warning"]


def clean(make: Callable[[], Draft]) -> list[str]:
    study = make().write("clean")
    endpoint = sorted(study.rows["endpoint"].unique())[-1]
    found = alarms(audits.run(study))
    second = "unseen treatment" if study.treatments.height > 4 else "unseen pair"
    for rule in ("unseen subject", second):
        found += alarms(audits.run(study, Split.make(study, rule, endpoint=endpoint, folds=3), families=SPLIT))
    return found


SPLIT = ["shift", "leakage", "target_leakage"]  # the families with checks of a split


def test_clean_studies_of_every_design_are_left_alone() -> None:
    found = {name: said for name, make in CLEAN.items() if (said := clean(make))}
    assert sum(len(said) for said in found.values()) <= MOST, found


def graded(frame: pl.DataFrame) -> pl.DataFrame:
    """The toy's AUC copies its IC50 as a fraction, which no AUC can be; here it is one."""
    share = 1 / (1 + (-0.4 * pl.col("value")).exp())
    return frame.with_columns(pl.when(endpoint="auc").then(share).otherwise("value").alias("value"))


def toys() -> list[tuple[Study, list[Split | None]]]:
    made = []
    for seed in (0, 1, 2):
        study = toy.write(f"toy {seed}", seed=seed, outcomes=graded)
        splits = [Split.make(study, rule, endpoint="ln_ic50", folds=4, seed=seed) for rule in RULES]
        made.append((study, [None, *splits]))
    return made


def test_the_toy_study_and_all_its_splits_are_left_alone() -> None:
    found = [said for study, splits in toys() for split in splits for said in alarms(audits.run(study, split))]
    assert found == []


def test_no_check_breaks_on_a_study_with_nothing_to_look_at() -> None:
    study = Draft(
        tables.empty(tables.OUTCOMES),
        pl.DataFrame({"subject": ["a", "b"], "tissue": [None, "liver"]}),
        tables.empty(tables.TREATMENTS),
    ).write("bare")
    assert audits.run(study).is_empty()
