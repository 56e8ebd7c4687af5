"""AnimalStudy without a front end: arms, what rises above the control, incidence, and what a study lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import traitlets
from scipy import stats

from tests.real import shared
from tests.widgets import planted, planted_study
from widgets import AnimalStudy, Selection
from widgets import _animals as animals
from widgets import _measures as measures
from widgets._parts import unpack


@pytest.fixture(scope="module")
def rats() -> planted_study.Animals:
    return planted_study.animals()


def head(widget: AnimalStudy) -> dict[str, Any]:
    return unpack(widget.frame_bytes)[0]


def test_arms_that_differ_by_sex_alone_are_one_and_the_control_leads(rats: planted_study.Animals) -> None:
    arms = head(AnimalStudy(rats))["arms"]
    assert [(a["arm"], a["dose"], a["males"], a["females"]) for a in arms] == [
        ("Vehicle", 0.0, 5, 5), ("Low", 10.0, 5, 5), ("Mid", 30.0, 5, 5), ("High", 100.0, 5, 5),
    ]  # fmt: skip
    assert [a["against"] for a in arms] == [0, 0, 0, 0]


def test_recovery_arms_stand_against_their_own_control(rats: planted_study.Animals) -> None:
    later = rats.subjects.with_columns(
        recovery=pl.col("subject").str.ends_with("8") | pl.col("subject").str.ends_with("9")
    )
    arms = head(AnimalStudy(planted_study.Animals(later, rats.outcomes)))["arms"]
    assert [(a["dose"], a["kind"], a["n"], a["against"]) for a in arms][:3] == [
        (0, "", 8, 0),
        (0, "R", 2, 1),
        (10, "", 8, 0),
    ]
    assert [a["against"] for a in arms if a["kind"] == "R"] == [1, 1, 1, 1]
    without = later.filter((pl.col("arm_dose") > 0) | ~pl.col("recovery"))
    arms = head(AnimalStudy(planted_study.Animals(without, rats.outcomes)))["arms"]
    assert {a["against"] for a in arms} == {0}, "where no control recovers, all stand against the main one"


def test_the_planted_rise_is_found_and_nothing_else(rats: planted_study.Animals) -> None:
    widget = AnimalStudy(rats)
    widget.measure = "ALT serum"
    found = widget.compared
    assert found.filter(verdict="higher").select("sex", "arm").rows() == [("F", "High"), ("M", "High")]
    assert found.filter(pl.col("verdict") == "lower").is_empty()
    assert found.filter(arm="High")["fold"].to_list() == pytest.approx([4, 4], rel=0.15)
    values = widget.values.filter(sex="F").sort("group")
    groups = [part["value"].to_numpy() for part in values.partition_by("group", maintain_order=True)]
    want = stats.dunnett(*groups[1:], control=groups[0]).pvalue
    assert found.filter(sex="F")["p"].to_list()[1:] == pytest.approx(want.tolist(), abs=2e-3)
    widget.measure = "WEIGHT liver"  # the control: nothing was planted in it
    assert set(widget.compared["verdict"]) == {None, "no difference shown"}
    both = widget.compare()
    assert both.equals(widget.compare(["ALT serum", "WEIGHT liver"]))
    first = both.filter(measure="ALT serum").drop("measure", "label", "unit")
    assert first.equals(found) and both.height == 2 * found.height
    with pytest.raises(traitlets.TraitError, match="Did you mean 'ALT serum'"):
        widget.compare(["ALT serun"])


def test_incidence_counts_animals_looked_at(rats: planted_study.Animals) -> None:
    widget = AnimalStudy(rats)
    assert widget.findings.select("organ", "finding", "arm", "n", "of", "severity").rows() == [
        ("LIVER", "HYPERTROPHY", "Vehicle", 1, 10, 1.0),
        ("LIVER", "HYPERTROPHY", "Low", 0, 10, None),
        ("LIVER", "HYPERTROPHY", "Mid", 0, 10, None),
        ("LIVER", "HYPERTROPHY", "High", 10, 10, 3.0),
    ]
    header, columns = unpack(widget.frame_bytes)
    assert [header["subjects"][i] for i in columns["hit"]] == ["rat 00", *(f"rat 3{k}" for k in range(10))]
    assert columns["hit_start"].tolist() == [0, 1, 1, 1, 11]


def test_where_no_normal_organ_is_written_down_all_examined_animals_count(rats: planted_study.Animals) -> None:
    record = rats.tables["MI"].filter((pl.col("MISTRESC") != "NORMAL") | (pl.col("MISPEC") == "KIDNEY"))
    found = AnimalStudy(planted_study.Animals(rats.subjects, rats.outcomes, {"mi": record})).findings
    assert found["of"].to_list() == [10, 10, 10, 10]
    pooled = pl.concat([record, record.head(1).with_columns(USUBJID=pl.lit("a pool of rats"))])
    assert AnimalStudy(planted_study.Animals(rats.subjects, rats.outcomes, {"mi": pooled})).findings.equals(found)


def test_what_is_missing_is_said(rats: planted_study.Animals) -> None:
    parts = {p["name"]: p["there"] for p in head(AnimalStudy(rats))["parts"]}
    assert parts == {
        "Body weight": True, "Laboratory and other values": True, "Organ weights": True, "Exposure": False,
        "Microscopic (MI)": True, "Macroscopic (MA)": False, "Clinical signs (CL)": False,
    }  # fmt: skip
    bare = planted_study.Animals(rats.subjects.select("subject"), rats.outcomes.clear())
    header = head(AnimalStudy(bare))
    assert [p["there"] for p in header["parts"]] == [False] * 7
    assert (header["arms"][0]["arm"], header["arms"][0]["against"]) == ("no arm given", None)


def test_weights_are_means_by_arm_and_sex(rats: planted_study.Animals) -> None:
    _, columns = unpack(AnimalStudy(rats).frame_bytes)
    assert len(columns["weight_day"]) == 4 * 2 * 5 and set(columns["weight_n"]) == {5}
    own = rats.outcomes.join(rats.subjects, on="subject").filter(
        (pl.col("endpoint") == "body_weight")
        & (pl.col("sex") == "M")
        & (pl.col("arm_dose") == 0)
        & (pl.col("time_h") == 24)
    )["value"]
    at = (columns["weight_group"] == 0) & (columns["weight_sex"] == 0) & (columns["weight_day"] == 2)
    assert columns["weight_mean"][at][0] == pytest.approx(own.mean(), rel=1e-6)
    half = stats.t.ppf(0.975, 4) * own.std() / 5**0.5
    assert columns["weight_high"][at][0] == pytest.approx(own.mean() + half, rel=1e-5)


def test_a_day_and_a_measure_are_picked(rats: planted_study.Animals) -> None:
    widget = AnimalStudy(rats)
    widget.measure = "ALT serum"
    assert len(widget.values) == 40
    widget.day = 30.0  # hour 24 * 29: the first dose was on day 1
    assert unpack(widget.detail_bytes)[0]["days"] == [[30.0, "30"]] and len(widget.values) == 40
    widget.day = 9.0
    assert widget.values.is_empty()
    with pytest.raises(traitlets.TraitError, match="Did you mean 'ALT serum'"):
        widget.measure = "ALT serun"


def test_selection_and_hostile_names() -> None:
    selection = Selection()
    widget = AnimalStudy(planted_study.animals(hostile=True), selection=selection, note=planted.HOSTILE)
    assert head(widget)["arms"][3]["arm"] == planted.HOSTILE and head(widget)["findings"][0]["organ"] == planted.HOSTILE
    widget.selected = ["rat 30"]
    assert (selection.subjects, selection.by) == (["rat 30"], "AnimalStudy")


@pytest.mark.parametrize("name", ["PDS", "PointCross", "CBER-POC-Pilot-Study2-Vaccine"])
def test_published_animal_studies_are_drawn(name: str, tmp_path: Path) -> None:
    from workbench import folders

    study = folders.build(shared(f"send/{name}"), tmp_path / name)
    widget = AnimalStudy(study)
    header = head(widget)
    assert header["arms"][0]["dose"] == 0 and sum(a["n"] for a in header["arms"]) == study.subjects.height
    assert [p["there"] for p in header["parts"] if "MI" in p["name"]] == [True]
    found = widget.findings
    assert (found["n"] <= found["of"]).all() and found["n"].sum() > 0


def test_what_a_cage_ate_counts_once() -> None:
    """Twelve animals in four cages a group are four values: counted twelve times, any difference would be sure."""
    rows = [
        (f"a{g}{c}{k}", "M", g, "food of the pool", "g", 7.0, 20.0 + g + c, 0)
        for g in (0, 1)
        for c in range(4)
        for k in range(3)
    ]
    names = ["subject", "sex", "group", "endpoint", "unit", "day", "value", "censored"]
    values = pl.DataFrame(rows, schema=names, orient="row")
    pooldef = pl.DataFrame({"POOLID": [f"P{s[1:3]}" for s in values["subject"]], "USUBJID": values["subject"]})
    for cage_of in (measures.cages(pooldef), {}):
        once = measures.one_a_cage(values, cage_of)
        assert once.columns == [*names, "cage", "members"] and once["members"].list.len().to_list() == [3] * 8
        assert once["value"].to_list() == [20.0, 21, 22, 23, 21, 22, 23, 24]
        found = animals.compared(once, [None, 0])
        assert found["n"].to_list() == [4, 4] and found["verdict"].to_list() == [None, "no difference shown"]
    assert animals.compared(values, [None, 0])["verdict"].to_list() == [None, "higher"]


def test_values_that_are_all_the_same_are_not_tested() -> None:
    values = pl.DataFrame(
        {
            "subject": list("abcdef"),
            "sex": "M",
            "group": [0, 0, 0, 1, 1, 1],
            "value": [1.0, 1.0, 1.0, 1.0, 1.0, 1 + 1e-15],
        }
    )
    assert animals.compared(values, [None, 0])["p"].to_list() == [None, None]
    assert animals.compared(values, [None, 0])["verdict"].to_list() == [None, "all the same"]
    apart = values.with_columns(value=pl.col("value") + pl.col("group"))
    assert animals.compared(apart, [None, 0])["verdict"].to_list() == [None, "no spread"]


def test_a_placebo_is_a_control_and_people_are_no_animals() -> None:
    subjects = pl.DataFrame(
        {"subject": list("abcd"), "species": "HUMAN", "arm": ["Placebo", "Drug"] * 2, "control": [True, False] * 2}
    )
    widget = AnimalStudy(planted_study.Animals(subjects, planted_study.animals().outcomes.clear()))
    header = head(widget)
    assert [(a["arm"], a["against"]) for a in header["arms"]] == [("Placebo", 0), ("Drug", 0)]
    assert header["noun"] == ["participant", "participants"] and header["parts"][0]["said"] == "0 participants"


def test_sequences_of_doses_are_not_compared(rats: planted_study.Animals) -> None:
    widget = AnimalStudy(planted_study.Animals(rats.subjects.with_columns(crossover=True), rats.outcomes))
    assert widget.compared["p"].null_count() == widget.compared.height
    assert "several doses" in unpack(widget.detail_bytes)[0]["said"]


def test_tests_are_named_in_words(rats: planted_study.Animals) -> None:
    lab = pl.DataFrame({"LBTESTCD": ["ALT", "AST"], "LBTEST": ["Alanine Aminotransferase", planted.HOSTILE]})
    tables = {**rats.tables, "LB": lab}
    widget = AnimalStudy(planted_study.Animals(rats.subjects, rats.outcomes, tables))
    assert [(m["endpoint"], m["label"], m["code"]) for m in head(widget)["measures"]] == [
        ("ALT serum", "Alanine Aminotransferase, serum", "ALT"),
        ("WEIGHT liver", "WEIGHT liver", ""),
    ]
    assert measures.in_words("food_consumption of the pool", {}) == "Food consumption, by cage"
    assert [measures.day_text(d) for d in (-4, 1, 8 + 2 / 24, -1.75 / 24)] == [
        "-4", "1", "8, 2 h", "1.75 h before the first dose",
    ]  # fmt: skip
