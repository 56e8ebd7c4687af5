"""The page of a study as Python holds it: picker, tabs made when looked at, gaps in words, one selection for all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import panel as pn
import panel_material_ui as pmui
import polars as pl
import pytest

from tests.dashboards import planted
from tests.widgets import planted_study
from widgets._study import audit
from widgets._study.contents import flat, grouped, moment, spelled
from widgets._study.tabs import TABS
from widgets.dashboards import serving
from widgets.dashboards.study import StudyPage, page
from widgets.linked import Selection
from workbench import home

pytestmark = pytest.mark.shared_home
NAMES = list(TABS)


@pytest.fixture(scope="module", autouse=True)
def studies(_module_home: Path) -> None:
    planted_study.write("everything")
    planted_study.write("only tumours", leave_out=("viability", "animals"))


@pytest.fixture
def whole() -> Iterator[StudyPage]:
    made = StudyPage("everything")
    yield made
    made.close()


def said(viewer: StudyPage) -> str:
    return "".join(str(p.object) for p in viewer._whole.select(pn.pane.HTML))


def tabs(viewer: StudyPage) -> pmui.Tabs:
    return viewer._body.select(pmui.Tabs)[0]


def look(viewer: StudyPage, name: str) -> Any:
    book = tabs(viewer)
    book.active = NAMES.index(name)
    return book[NAMES.index(name)][0]


def test_the_picker_lists_the_studies_of_the_home_and_opens_them() -> None:
    viewer = StudyPage()
    assert viewer._picker.options == ["everything", "only tumours"]
    assert "<h1>everything</h1>" in said(viewer) and "digest" in said(viewer)
    viewer.name_shown = "only tumours"
    assert "<h1>only tumours</h1>" in said(viewer) and "18 subjects" in said(viewer)
    viewer.open("nowhere")
    assert "no study called &#x27;nowhere&#x27;" in said(viewer) and "only tumours" in said(viewer)
    viewer.open(str(home.studies() / "everything"))  # an address is no way to look about on the server
    assert "There is no study called" in said(viewer)
    planted_study.write("new one", leave_out=("viability", "animals"))
    viewer.refresh()
    assert "new one" in viewer._picker.options


def test_a_tab_is_made_when_it_is_first_looked_at(whole: StudyPage) -> None:
    book = tabs(whole)
    assert [bool(room.objects) for room in book] == [name == "Overview" for name in NAMES]
    growth = look(whole, "Growth")
    assert [bool(room.objects) for room in book] == [name in ("Overview", "Growth") for name in NAMES]
    book.active = 0
    assert look(whole, "Growth") is growth


def test_every_tab_shows_what_the_study_holds(whole: StudyPage) -> None:
    assert "expression" in said(whole) and "z-score" in said(whole) and "tumour_volume" in said(whole)
    assert look(whole, "Growth").arms[0] == "vehicle"  # the control, by its name
    curves = look(whole, "Dose response")
    assert curves.one in ("Erlotinib", "Gefitinib") and len(curves.others) == 4
    assert {"ALT serum", "WEIGHT liver"} >= {look(whole, "Animals").measure}
    look(whole, "Provenance")
    assert whole.opened is not None and whole.opened.study.digest in said(whole)
    assert "synthetic numbers, planted truth" in said(whole) and "made for a test" in said(whole)
    for name in ("Growth", "Dose response", "Animals"):
        assert look(whole, name).note.startswith("Synthetic data")


@pytest.mark.parametrize(
    ("tab", "words"),
    [
        ("Dose response", "This study has no dose-response points: no endpoint viability with doses."),
        ("Animals", "This study has no arms of animals"),
    ],
)
def test_what_a_study_lacks_is_said(tab: str, words: str) -> None:
    viewer = StudyPage("only tumours")
    assert words in look(viewer, tab).object
    assert look(viewer, "Growth").arms  # the control: what it has is shown


def test_a_study_without_tumours_or_doses_says_so_and_names_what_it_has() -> None:
    from tests import toy

    viewer = StudyPage(toy.write("a screen", leave_out=("expression", "mutation", "copy_number", "drug_structure")))
    assert "This study has no tumour growth" in look(viewer, "Growth").object
    assert "It holds what was derived from such points: auc, ln_ic50." in look(viewer, "Dose response").object
    assert "This study has no modality" in look(viewer, "Embedding").object


def test_one_part_that_fails_does_not_take_the_others_with_it(
    whole: StudyPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(opened: Any) -> None:
        raise ValueError(f"broken by {planted.HOSTILE}")

    monkeypatch.setitem(TABS, "Growth", broken)
    viewer = StudyPage("everything")
    assert "This part cannot be shown: ValueError: broken by &lt;img" in look(viewer, "Growth").object
    assert look(viewer, "Dose response").one


def test_what_is_selected_in_one_tab_is_selected_in_all() -> None:
    selection = Selection()
    viewer = StudyPage("everything", selection)
    growth, animals = look(viewer, "Growth"), look(viewer, "Animals")
    growth.selected = ["works 0", "works 1"]
    assert selection.subjects == ["works 0", "works 1"] and animals.selected == ["works 0", "works 1"]
    assert "2 subjects selected: works 0, works 1" in said(viewer) and viewer._clear.visible
    viewer._clear.clicks += 1
    assert (selection.subjects, growth.selected, viewer._clear.visible) == ([], [], False)
    animals.selected = ["rat 30"]
    viewer.close()
    selection.select(["rat 31"], by="test")
    assert animals.selected == ["rat 30"], "a closed page hears nothing more"


def test_the_audit_runs_beside_the_page_once_for_all_visitors(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def run(study: Any, say: Any) -> pl.DataFrame:
        calls.append(study.name)
        say(0.5, "quality: outliers")
        return planted_study.findings()

    monkeypatch.setattr("workbench.audits.run", run)
    monkeypatch.setattr(audit, "_KNOWN", {})
    for _ in range(2):
        viewer = StudyPage("everything")
        assert viewer.opened is not None
        assert audit.of(viewer.opened.study).wait(20)
        board = look(viewer, "Audit")[0]
        assert "outliers" in str(board.frame_bytes) and b'"checks":' in board.frame_bytes
    assert calls == ["everything"]


def test_an_audit_that_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(study: Any, say: Any) -> pl.DataFrame:
        raise ValueError("no such thing")

    monkeypatch.setattr("workbench.audits.run", run)
    monkeypatch.setattr(audit, "_KNOWN", {})
    viewer = StudyPage("everything")
    assert viewer.opened is not None and audit.of(viewer.opened.study).wait(20)
    assert "The checks ended early: ValueError: no such thing" in look(viewer, "Audit")[0].object


def test_cohorts_are_listed_and_a_new_one_appears() -> None:
    study = planted_study.write("with cohorts", leave_out=("viability", "animals"))
    study = study.save_cohort("shrinkers", ["works 0", "works 1"], note=planted.HOSTILE)
    viewer = StudyPage(study)
    look(viewer, "Cohorts")
    assert "shrinkers" in said(viewer) and "&lt;img" in said(viewer) and "<img" not in said(viewer)
    assert viewer.opened is not None
    builder = viewer.opened.widgets[-1]
    builder.members = ["slows 2"]
    builder.save("third", note="")
    assert "third" in said(viewer)


def test_an_empty_home_says_how_to_build_a_study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(home, "studies", lambda: tmp_path / "none")
    assert "workbench study build gdsc2" in said(StudyPage())


def test_hostile_names_are_text(tmp_path: Path) -> None:
    viewer = StudyPage(planted_study.write(planted.HOSTILE, hostile=True))
    for name in NAMES:
        if name != "Audit":
            look(viewer, name)
    together = said(viewer)
    assert "<img" not in together and "&lt;img src=x onerror=" in together


def test_subjects_without_a_tissue_are_told_apart_by_arm_or_species() -> None:
    from tests.widgets import planted_exposure

    study = planted_exposure.write("exposed")
    presence, word = grouped(study)
    assert word == "arm" and presence["tissue"].value_counts().sort("tissue").rows()[1:] == [
        ("arm high", 3),
        ("arm low", 3),
    ]
    plain = study.subjects.select("subject", "tissue", species=pl.lit("rat"), subtype=pl.Series(["a", "b", "b"] * 8))
    alike = SimpleNamespace(presence=study.presence, subjects=plain)
    assert grouped(alike)[1] == "subtype"  # one species tells nobody apart
    assert grouped(planted_study.write("no tissue", leave_out=("animals", "viability")))[1] == "tissue"
    viewer = StudyPage(study)
    assert "This study has no modality" in said(viewer) and "concentration plasma" in said(viewer)
    assert look(viewer, "Exposure").choice["matrix"] == "plasma"
    assert look(viewer, "Growth").tissue == "" and b'"lung"' in look(viewer, "Growth").frame_bytes


def test_times_and_codes_are_written_as_people_do() -> None:
    assert moment("2026-11-22T00:38:24+00:00") == "2026-11-22 00:38 UTC" and moment("long ago") == "long ago"
    assert spelled("trial_summary > STITLE") == "study: title" and spelled("archive_sha256") == "archive sha256"
    assert flat({"domains": {"BW": 4075, "CL": 7340, "DM": 1, "DS": 2}}) == [
        ("domains", "BW 4,075, CL 7,340, DM 1, DS 2")
    ]


def test_nested_provenance_is_laid_flat() -> None:
    assert flat({"a": {"b": 1, "c": [1, 2]}, "d": [{"e": "x"}]}) == [
        ("a > b", "1"),
        ("a > c", "1, 2"),
        ("d > 1 > e", "x"),
    ]
    many = flat({str(i): i for i in range(100)})
    assert len(many) == 61 and many[-1] == ("further", "40 more entries")


def test_the_page_is_served_with_the_others() -> None:
    made = page()
    assert made.title.startswith("Study")
    assert "study.py" in [Path(word).name for word in serving(5123)[0]]
