"""Clinical trials from their folders: patients, arms, data sets and rows agree with a second reading of the files."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests import transport
from tests.real import shared
from workbench import cli, folders
from workbench.study import Study

pytestmark = pytest.mark.shared_home


@pytest.fixture(scope="module")
def built(_module_home: object, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return folders.build(shared("clinical"), tmp_path_factory.mktemp("clinical") / "study")


def theirs(place: str) -> pl.DataFrame:
    import pyreadstat

    frame, _ = pyreadstat.read_xport(str(shared("clinical") / f"{place}.xpt"), disable_datetime_conversion=True)
    return pl.from_pandas(frame)


def test_patients_arms_data_sets_and_rows_agree_with_the_files(built: Study) -> None:
    dm = theirs("sdtm/dm")
    assert built.subjects.height == 306 and built.subjects["subject"].to_list() == dm["USUBJID"].to_list()
    for ours, other in (
        ("arm", "ARM"),
        ("arm_code", "ARMCD"),
        ("actual_arm", "ACTARM"),
        ("sex", "SEX"),
        ("site", "SITEID"),
    ):
        assert built.subjects[ours].to_list() == dm[other].to_list()
    files = {p.stem.upper(): p for folder in ("sdtm", "adam") for p in (shared("clinical") / folder).glob("*.xpt")}
    assert sorted(set(built.records) - {"unread", "notes", "terms", "columns"}) == sorted(files)
    for name, path in files.items():
        frame, other = built.record(name), theirs(f"{path.parent.name}/{path.stem}")
        assert (frame.height, frame.columns) == (other.height, other.columns), name
        for column in other.columns:
            if frame[column].dtype == pl.String:
                assert frame[column].to_list() == other[column].fill_null("").to_list(), (name, column)
    assert built.record("unread").height == 0 and built.check() == []


def test_what_adsl_adds_to_a_patient(built: Study) -> None:
    adsl = theirs("adam/adsl").sort("USUBJID")
    analysed = built.subjects.filter("analysed").sort("subject")
    assert analysed.height == adsl.height == 254
    assert analysed["bmibl"].to_list() == pytest.approx(adsl["BMIBL"].to_list(), nan_ok=True)
    assert built.subjects.filter(~pl.col("analysed"))["arm"].unique().to_list() == ["Screen Failure"]
    assert built.subjects.filter("control").height == 86
    assert built.subjects["species"].unique().to_list() == ["HUMAN"]


def test_times_to_an_event_are_days_and_censored_above(built: Study) -> None:
    other = theirs("adam/adtte").sort("USUBJID")
    ours = built.outcomes.filter(pl.col("endpoint") == "ttde").sort("subject")
    assert ours.height == 254 and ours["value"].to_list() == other["AVAL"].to_list()
    assert ours["unit"].unique().to_list() == ["day"] and ours["time_h"].null_count() == 254
    assert (ours["censored"] == 1).sum() == 102 and set(ours["censored"]) == {0, 1}


def test_scores_are_the_observed_ones_at_their_day(built: Study) -> None:
    other = theirs("adam/adqscibc").filter(pl.col("DTYPE").fill_null("") == "")
    ours = built.outcomes.filter(pl.col("endpoint") == "cibicval")
    assert ours.height == other.height == 562
    wanted = sorted((u, v, (d - 1) * 24) for u, v, d in other.select("USUBJID", "AVAL", "ADY").rows())
    assert sorted(ours.select("subject", "value", "time_h").rows()) == wanted
    assert "168 rows" in built.record("notes").filter(pl.col("file") == "adam/adqscibc.xpt")["place"].to_list()


def test_the_treatment_is_what_was_given_up_to_that_day(built: Study) -> None:
    assert built.treatments.select("treatment", "role", "source_term").rows() == [
        ("XANOMELINE", "test article", "XANOMELINE"), ("control", "control", "PLACEBO"),
    ]  # fmt: skip
    titrated = built.outcomes.filter((pl.col("subject") == "01-701-1028") & (pl.col("endpoint") == "cibicval")).sort(
        "time_h"
    )
    assert titrated["dose"].unique().to_list() == [81.0]  # 54 mg until day 14, 81 mg until day 172
    placebo = built.subjects.filter("control")["subject"].to_list()
    assert set(built.outcomes.filter(pl.col("treatment") == "control")["subject"]) <= set(placebo)
    assert built.outcomes.filter(pl.col("treatment") == "control")["dose"].unique().to_list() == [0.0]


def test_a_trial_of_adam_alone_and_a_broken_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "trial"
    folder.mkdir()
    adsl = [
        ("USUBJID", "", 8, ["P1", "P2"]), ("ARM", "", 20, ["Placebo", "Drug 5 mg"]), ("SEX", "", 1, ["F", "M"]),
        ("AGE", "", -8, [50, 60]),
    ]  # fmt: skip
    adlb = [
        ("USUBJID", "", 8, ["P1", "P2", "P9"]), ("PARAMCD", "", 8, ["ALT"] * 3),
        ("PARAM", "", 40, ["Alanine (U/L)"] * 3),
        ("AVAL", "", -8, [20, 30, 40]), ("ADY", "", -8, [-3, 1, 1]),
    ]  # fmt: skip
    (folder / "ADSL.XPT").write_bytes(transport.write({"ADSL": adsl}))
    (folder / "ADLB.XPT").write_bytes(transport.write({"ADLB": adlb}))
    (folder / "ADAE.XPT").write_bytes(transport.write({"ADAE": adlb})[:-80])
    built = folders.build(folder, tmp_path / "study")
    assert built.provenance["kind"] == "clinical"
    rows = built.outcomes.sort("subject").select("subject", "treatment", "endpoint", "value", "unit", "time_h").rows()
    assert rows == [("P1", "control", "alt", 20, "U/L", -72), ("P2", "Drug 5 mg", "alt", 30, "U/L", 0)]
    unread = built.record("unread")
    assert unread["file"].to_list() == ["ADAE.XPT", "ADLB.XPT"] and "the file is cut" in unread["reason"][0]
    for name in ("ADSL.XPT", "ADLB.XPT"):
        (folder / name).write_bytes(b"not what it says")
    with pytest.raises(ValueError, match="no patient of the trial is known"):
        folders.build(folder, tmp_path / "other")


def test_animals_and_patients_are_told_apart_by_their_files() -> None:
    from workbench.folders import clinical, send

    for files, animal, patient in (
        (["dm.xpt", "BW.XPT"], True, False),
        (["adam/ADSL.xpt"], False, True),
        (["dm.xpt", "ae.xpt", "ex.xpt"], False, True),
        (["dm.xpt", "lb.xpt"], True, False),
        (["ae.xpt", "bw.xpt"], False, False),
        (["dm.csv", "bw.csv"], False, False),
    ):
        assert (send.recognises(files), clinical.recognises(files)) == (animal, patient), files


def test_the_command_line_builds_a_folder(
    tmp_path: Path, workbench_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "Trial A"
    folder.mkdir()
    people = [("USUBJID", "", 8, ["P1"]), ("ARM", "", 20, ["Placebo"]), ("SEX", "", 1, ["F"])]
    (folder / "adsl.xpt").write_bytes(transport.write({"ADSL": people}))
    (folder / "notes.txt").write_text("hello")
    words = ["study", "build", str(folder), "--name", "trial-a", "--replace"]
    assert cli.main(words) == 0
    said = capsys.readouterr()
    assert "clinical: 1 subjects, 0 values" in said.out and "ADSL 1" in said.out and "1  Placebo" in said.out
    assert "not read: 1 (record 'unread')" in said.out and "notes.txt" in said.out
    assert (workbench_home / "studies" / "trial-a" / "manifest.json").is_file()
    assert cli.main([*words[:5]]) == 1 and "exists" in capsys.readouterr().err
    for bad, words_said in (
        (["--kind", "sendd"], "Did you mean 'send'"),
        (["--option", "x"], "KEY=VALUE"),
        (["--option", "unit=g"], "clinical has no option 'unit'"),
        (["--name", "../out"], "without a folder in it"),
    ):
        assert cli.main(["study", "build", str(folder), "--path", str(tmp_path / "s"), *bad]) == 1
        assert words_said in capsys.readouterr().err
    assert cli.main(["study", "build", "gdsc2", "--kind", "send"]) == 1 and "are for folders" in capsys.readouterr().err
