"""Plate folders: viability against the controls of the same plate, by hand-made plates whose answer is known."""

from __future__ import annotations

import io
from pathlib import Path

import openpyxl
import pytest

from workbench import folders
from workbench.folders import plates
from workbench.formats import FormatError

LETTERS = "ABCDEFGH"
COMPOUND = [["DMSO", "blank", *["A"] * 5, *["B"] * 5] for _ in LETTERS]
DOSE = [[None, None, *[0.1, 1, 3, 10, 30] * 2] for _ in LETTERS]


def signal(scale: float) -> list[list[float]]:
    """Vehicle 1000, blank 100; A falls by 90 and B by 180 a dose; all times ``scale``."""
    falls = [0, 90, 180, 270, 360], [0, 180, 360, 540, 720]
    return [
        [scale * v for v in (1000, 100, *(1000 - f for f in falls[0]), *(1000 - f for f in falls[1]))] for _ in LETTERS
    ]


def block(title: str, values: list[list]) -> list[list]:
    return [[title], ["", *range(1, 13)], *([letter, *row] for letter, row in zip(LETTERS, values, strict=True)), []]


def text(rows: list[list], mark: str = ",") -> str:
    return "\n".join(mark.join("" if c is None else str(c) for c in row) for row in rows) + "\n"


def book(sheets: dict[str, list[list]]) -> bytes:
    made = openpyxl.Workbook()
    made.remove(made.active)
    for name, rows in sheets.items():
        sheet = made.create_sheet(name)
        for row in rows:
            sheet.append(row)
    buffer = io.BytesIO()
    made.save(buffer)
    return buffer.getvalue()


EXPECTED = {
    **{("A", d): 1 - 0.1 * i for i, d in enumerate((0.1, 1.0, 3.0, 10.0, 30.0))},
    **{("B", d): 1 - 0.2 * i for i, d in enumerate((0.1, 1.0, 3.0, 10.0, 30.0))},
}


def answers(content: folders.Content | object) -> dict:
    frame = content.outcomes.select("treatment", "dose", "value").rows()  # type: ignore[attr-defined]
    out: dict = {}
    for treatment, dose, value in frame:
        assert out.setdefault((treatment, dose), pytest.approx(value)) == value
    return {k: v.expected for k, v in out.items()}


def test_matrix_text_and_a_block_map(tmp_path: Path) -> None:
    folder = tmp_path / "assay"
    folder.mkdir()
    (folder / "plate_map.csv").write_text(text(block("Compound", COMPOUND) + block("Dose (uM)", DOSE)))
    exported = [["Reader", "X"], *block("Plate 1", signal(1)), *block("Plate 2", signal(7))]
    (folder / "plates_raw.txt").write_text(text(exported, "\t"))
    study = folders.build(folder, tmp_path / "study", line="HeLa", time_h=72.0)
    assert answers(study) == pytest.approx(EXPECTED), "each plate against its own controls: the scale goes away"
    assert study.outcomes.height == 2 * 80
    facts = study.outcomes.select("subject", "dose_unit", "time_h", "endpoint", "unit", "censored").unique().rows()
    assert facts == [("HeLa", "uM", 72.0, "viability", "fraction", 0)]
    wells = study.record("wells")
    assert wells.height == 192 and wells.filter(plate="Plate 2", well="A01")["signal"].item() == 7000
    assert study.record("controls").select("plate", "vehicle", "vehicles", "blank", "blanks").rows() == [
        ("Plate 1", 1000.0, 8, 100.0, 8),
        ("Plate 2", 7000.0, 8, 700.0, 8),
    ]
    assert study.record("unread").height == 0 and study.check() == []


def test_workbooks_with_one_sheet_a_plate_and_one_a_field(tmp_path: Path) -> None:
    (tmp_path / "layout.xlsx").write_bytes(book({"Compound": block("", COMPOUND), "Dose (nM)": block("", DOSE)}))
    (tmp_path / "raw.xlsx").write_bytes(
        book({"P1": block("", signal(1)), "P2": block("", signal(2)), "Notes": [["hello"]]})
    )
    found: list[folders.Unread] = []
    content = plates.read(tmp_path, found.append, line="HeLa")
    assert answers(content) == pytest.approx(EXPECTED)
    assert content.outcomes["dose_unit"].unique().to_list() == ["nM"]
    assert content.records["controls"]["plate"].to_list() == ["P1", "P2"]
    assert [(n.file, n.place) for n in found] == [("raw.xlsx", "sheet 'Notes'")]


def test_long_tables_with_a_map_for_each_plate(tmp_path: Path) -> None:
    (tmp_path / "platemap.csv").write_text(
        "plate,well,compound,dose,dose_unit,cell_line\n"
        "P1,A1,DMSO,,,L1\nP1,A2,drug,1,uM,L1\nP2,A1,DMSO,,,L2\nP2,A2,drug,500,nM,L2\nP2,A3,drug,1,stones,L2\n"
    )
    (tmp_path / "reader_export.csv").write_text(
        "plate,well,rlu\nP1,A01,10\nP1,A02,5\nP2,A01,8\nP2,A02,2\nP2,A03,1\nP3,A01,9\n"
    )
    found: list[folders.Unread] = []
    content = plates.read(tmp_path, found.append)
    assert content.outcomes.select("subject", "dose", "dose_unit", "value").rows() == [
        ("L1", 1.0, "uM", 0.5),
        ("L2", 500.0, "nM", 0.25),
    ]
    said = [n.reason for n in found if n.kind == "unread"]
    assert said == [
        "'stones' is no unit that is known: its doses are left out",
        "has no map (the map knows ['P1', 'P2']): its wells are left out",
        "1 wells lack a dose or its unit (first A03)",
    ]
    assert [n.reason for n in found if n.kind == "note"] == ["no well is blank: nothing is taken off the signals"]


def test_controls_of_each_line_where_the_map_names_lines_for_them(tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_text("well,compound,dose_uM,line\nA1,DMSO,,L1\nA2,DMSO,,L2\nB1,x,1,L1\nB2,x,1,L2\n")
    (tmp_path / "raw.csv").write_text("well,signal\nA1,100\nA2,10\nB1,50\nB2,5\n")
    content = plates.read(tmp_path, lambda _: None, blank=0.0)
    assert content.outcomes.select("subject", "value").rows() == [("L1", 0.5), ("L2", 0.5)]


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("well,compound,dose,line\nA1,DMSO,,L\nB1,x,1,L\n", "column 'dose': declares no unit"),
        ("well,compound,dose_uM,line\nA1,y,2,L\nB1,x,1,L\n", "no plate has a vehicle control"),
        ("well,compound,dose_uM,line\nA1,DMSO,,L\nA1,x,1,L\n", "stands in more than one row"),
        ("a,b\n1,2\n", "not one can be read"),
    ],
)
def test_what_cannot_be_normalised_is_refused(tmp_path: Path, layout: str, message: str) -> None:
    (tmp_path / "map.csv").write_text(layout)
    (tmp_path / "raw.csv").write_text("well,signal\nA1,100\nB1,50\n")
    with pytest.raises(FormatError, match=message):
        plates.read(tmp_path, lambda _: None)


def test_a_dead_plate_and_a_broken_export_are_listed(tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_text("well,compound,dose_uM,line\nA1,DMSO,,L\nA2,blank,,\nB1,x,1,L\nB2,x,2,\n")
    (tmp_path / "raw_one.csv").write_text("well,signal\nA1,100\nA2,0\nB1,50\nB2,40\n")
    (tmp_path / "raw_two.csv").write_text("well,signal\nA1,5\nA2,9\nB1,overflow\n")
    (tmp_path / "raw_three.xlsx").write_bytes(b"\x89HDF\r\n\x1a\n")
    found: list[folders.Unread] = []
    content = plates.read(tmp_path, found.append)
    assert content.outcomes.select("value", "source").rows() == [(0.5, "raw_one.csv")]
    said = {(n.file, n.place): n.reason for n in found}
    assert "vehicle controls (5) do not lie above the blank (9)" in said["raw_two.csv", "plate 'raw_two'"] or any(
        "do not lie above" in n.reason for n in found
    )
    assert said["raw_two.csv", "row 3 below the header, column 'signal'"] == "'overflow' is no number"
    assert "found HDF5" in said["raw_three.xlsx", "start"]
    assert any("lack a line; the map must name it" in n.reason for n in found)


def test_recognised_by_a_map_beside_an_export() -> None:
    assert plates.recognises(["Plate_Map.xlsx", "RAW_data.csv"])
    assert not plates.recognises(["plate_map.csv"]) and not plates.recognises(["dm.xpt", "map.csv"])
