"""Compound folders: structures as treatments, tables whole, failures listed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real import shared
from tests.samples import ETHANOL, SAMPLES
from workbench import folders
from workbench.folders import compounds
from workbench.formats import FormatError


def test_sdf_and_tables_meet_in_one_list_of_compounds(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "first.sdf").write_bytes(SAMPLES["sdf"]() + ETHANOL.replace(" O   0", " Xx  0").encode())
    (folder / "second_compounds.csv").write_text(
        "name,smiles,pKi\nethyl alcohol,OCC,5\nsodium acetate,CC(=O)[O-].[Na+],6\nbad,C(,7\n"
    )
    (folder / "third.sdf").write_bytes(SAMPLES["xlsx"]())
    study = folders.build(folder, tmp_path / "study")
    rows = {n: (c, s) for n, c, s in study.treatments.rows()}
    assert rows["ethanol"] == ("LFQSCWFLJHTTHZ", "CCO"), "one compound of two files is one treatment"
    assert rows["sodium acetate"][0] == "QTBSBXVTEAMEQO", "the salt's parent"
    assert len(rows) == 3
    assert study.modality("drug_structure").shape == (3, 1024)
    assert study.record("second_compounds").columns[:3] == ["name", "smiles", "pKi"]
    assert study.record("first")["id"].to_list() == ["7", "8"]
    unread = study.record("unread").rows()
    assert [f for f, _, _ in unread] == ["first.sdf", "second_compounds.csv", "third.sdf"]
    assert "cannot be parsed: 'C('" in unread[1][2] and "found a zip archive" in unread[2][2]
    assert study.check() == []


def test_a_table_of_liver_injury_keeps_every_row(tmp_path: Path) -> None:
    path = shared("tox/DILIst.csv")
    found: list[folders.Unread] = []
    content = compounds.read(path, found.append)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert content.records["DILIst"].height == len(lines) - 1 == 1275
    assert content.records["DILIst"]["smiles_r"].to_list()[:2] == [
        lines[1].rsplit(",", 1)[0],
        lines[2].rsplit(",", 1)[0],
    ]
    assert content.treatments["compound"].n_unique() == content.treatments.height
    assert content.treatments.height + len(found) <= 1275


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.sdf").write_bytes(b"\x80\x04.")
    with pytest.raises(FormatError, match="not one table of structures"):
        compounds.read(tmp_path, lambda _: None)
