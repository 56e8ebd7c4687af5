"""Growth folders: curves in mm3 and hours, agreeing with a second reading; broken parts listed, units never guessed."""

from __future__ import annotations

import csv
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.real import shared
from workbench import folders
from workbench.folders import growth
from workbench.formats import FormatError

CURVES = "model.id,drug,day,volume_mm3\nm1,A,0,100\nm1,A,7,150\nm2,untreated,0,110.5\nm2,untreated,7,400\n"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_pdx_curves_agree_with_a_second_reading(tmp_path: Path) -> None:
    folder = shared("pdx")
    study = folders.build(folder, tmp_path / "pdx", volume_unit="mm3", time_unit="day")
    truth = [r | {"file": p.name} for p in sorted(folder.glob("growthData_*.csv")) for r in rows(p)]
    assert study.outcomes.height == len(truth) == 67_445
    assert study.outcomes["endpoint"].unique().to_list() == ["tumour_volume"]
    assert study.outcomes["unit"].unique().to_list() == ["mm3"]
    wanted = sorted((r["model.id"], r["drug.join.name"], 24.0 * float(r["time"]), float(r["volume"])) for r in truth)
    assert sorted(study.outcomes.select("subject", "treatment", "time_h", "value").rows()) == wanted
    with (folder / "modelInfo.csv").open(newline="", encoding="utf-8") as stream:
        lines = list(csv.reader(stream))[1:]  # its header is one field short
    info = {fields[1]: (fields[4], fields[2]) for fields in lines}
    subjects = {s: (p, t) for s, p, t in study.subjects.select("subject", "patient", "tissue").rows()}
    assert len(subjects) == 4706 and all(info[s] == facts for s, facts in subjects.items())
    assert study.record("unread").height == 0
    assert study.record("mrecist").filter(treatment="BGJ398", patient="X-1004")["call"].item() == "PR"
    assert study.record("growth").height == 67_445 and "volume.normal" in study.record("growth").columns

    mutation, copies = study.modality("mutation"), study.modality("copy_number")
    truth_cnv = {r[""]: r for r in rows(folder / "cnv_Non-smallCellLungCarcinoma.csv")}
    model = next(s for s, (p, _) in subjects.items() if p == "X-1156")
    assert float(copies[model, "A1BG"].X.item()) == pytest.approx(float(truth_cnv["A1BG"]["X-1156"]))
    assert "FOCALCNSCORE" not in copies.var_names
    assert copies.obs.loc[model, "FOCALCNSCORE"] == pytest.approx(0.2)
    truth_mut = {r[""]: r for r in rows(folder / "mutation_BreastCancer.csv")}
    model = next(s for s, (p, _) in subjects.items() if p == "X-1004")
    called = {g: int("Mut" in r["X-1004"]) for g, r in truth_mut.items()}
    found = dict(zip(mutation.var_names, np.asarray(mutation[model].X).ravel().tolist(), strict=True))
    assert found == called and called["ABCA4"] == 1 and called["A2LD1"] == 0, "an amplification is no mutation"


def test_units_are_declared_or_stated_never_guessed(tmp_path: Path) -> None:
    (tmp_path / "growth.csv").write_text("model,drug,time,volume\nm1,A,0,100\n")
    with pytest.raises(FormatError, match=r"growth.csv, column 'volume': declares no unit; state volume_unit="):
        growth.read(tmp_path, print)
    with pytest.raises(FormatError, match="state time_unit="):
        growth.read(tmp_path, print, volume_unit="cm3")
    content = growth.read(tmp_path, print, volume_unit="cm3", time_unit="week")
    assert content.outcomes.select("value", "unit", "time_h").rows() == [(100_000.0, "mm3", 0.0)]
    (tmp_path / "growth.csv").write_text(CURVES)
    with pytest.raises(FormatError, match="declares 'mm3', but volume_unit='cm3' was stated"):
        growth.read(tmp_path, print, volume_unit="cm3")


def test_a_partly_broken_folder_gives_what_is_readable_and_lists_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "mice"
    folder.mkdir()
    (folder / "growth_one.csv").write_text(CURVES + "m3,A,0,many\nm3,A,7,-5\nm3,,7,5\nm3,A\n")
    with zipfile.ZipFile(folder / "growth_two.csv", "w") as archive:
        archive.writestr("x", "y")
    (folder / "modelInfo.csv").write_bytes(pickle.dumps({"m1": "p1"}))
    (folder / "growth_linked.csv").symlink_to("/etc/hostname")
    (folder / "notes.docx").write_bytes(b"PK\x03\x04")
    study = folders.build(folder, tmp_path / "study")
    assert study.outcomes.height == 4
    unread = {(f, p): r for f, p, r in study.record("unread").rows()}
    assert "'many' is no number" in unread["growth_one.csv", "row 5 below the header, column 'volume_mm3'"]
    assert "a volume of -5.0 is none" in unread["growth_one.csv", "row 6 below the header, column 'volume_mm3'"]
    assert "lacks its model or treatment" in unread["growth_one.csv", "row 7 below the header"]
    assert unread["growth_one.csv", "line 9"] == "expected 4 fields, found 2: left out"
    assert "found a zip archive" in unread["growth_two.csv", "start"]
    assert "found a pickle" in unread["modelInfo.csv", "start"]
    assert ("notes.docx", "file") in unread
    assert study.outcomes["source"].unique().to_list() == ["growth_one.csv"], "a link is not followed"
    assert study.check() == []


def test_a_folder_of_nothing_readable_is_refused(tmp_path: Path) -> None:
    (tmp_path / "growth.csv").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(FormatError, match="not one can be read"):
        growth.read(tmp_path, print, volume_unit="mm3", time_unit="day")


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("pdx", "growth"),
        ("rat_liver", "omics"),
        ("breast_tumour", "omics"),
        ("cell_lines", "responses"),
        ("synergy", "responses"),
        ("pk", "concentrations"),
        ("single_cell", "cells"),
        ("tox", "compounds"),
    ],
)
def test_each_real_folder_is_recognised_by_one_kind(place: str, kind: str) -> None:
    assert folders.recognise(shared(place)) == kind
