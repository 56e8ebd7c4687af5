"""AuditBoard without a front end: order, filters, who is concerned, what is refused."""

from __future__ import annotations

import polars as pl
import pytest
import traitlets

from tests.widgets import planted, planted_study
from widgets import AuditBoard, Selection
from widgets._parts import unpack
from workbench import audits
from workbench.tables import FINDINGS, TableError, empty


def concerned(board: AuditBoard) -> list[list[str]]:
    header, columns = unpack(board.frame_bytes)
    start = columns["start"]
    return [
        [header["subjects"][s] for s in columns["concerned"][start[i] : start[i + 1]]]
        for i in range(len(header["findings"]))
    ]


def test_the_worst_come_first_with_what_to_do() -> None:
    header, _ = unpack(AuditBoard(planted_study.findings(), ["outliers", ("two names", "leakage")]).frame_bytes)
    assert [f["severity"] for f in header["findings"]] == ["error", "warning", "note"]
    assert header["findings"][0]["do"] == "Look at them." and header["findings"][0]["confidence"] == 0.97
    assert header["checks"] == [{"check": "outliers", "family": ""}, {"check": "two names", "family": "leakage"}]
    table = audits.checks()
    header, _ = unpack(AuditBoard(planted_study.findings(), table).frame_bytes)
    assert [c["check"] for c in header["checks"]] == table["check"].to_list()


def test_names_and_rows_become_subjects_of_the_study() -> None:
    study = planted_study.write(leave_out=("animals",))
    assert concerned(AuditBoard(planted_study.findings())) == [[], ["A549", "PC-9"], []]
    first = study.rows["subject"].cast(pl.String)[0]
    board = AuditBoard(planted_study.findings(("A549", "gene 7")), study=study)
    assert concerned(board) == [[first], ["A549"], []]  # a gene is no subject
    nouns = [unpack(b.frame_bytes)[0]["noun"] for b in (board, AuditBoard(planted_study.findings()))]
    assert nouns == ["subject", "name"]


def test_findings_are_filtered() -> None:
    board = AuditBoard(planted_study.findings())
    board.family = "quality"
    assert board.shown["check"].to_list() == ["outliers", "duplicates"]
    board.severity = "note"
    assert board.shown["check"].to_list() == ["duplicates"]
    with pytest.raises(traitlets.TraitError):
        board.severity = "fatal"


def test_nothing_found_is_an_answer_only_if_something_was_looked_for() -> None:
    header, _ = unpack(AuditBoard(empty(FINDINGS), ["outliers"] * 3).frame_bytes)
    assert (header["findings"], len(header["checks"])) == ([], 3)


def test_what_is_no_finding_is_refused() -> None:
    with pytest.raises(TableError, match=r"column 'severity' .* is missing"):
        AuditBoard(planted_study.findings().drop("severity"))
    with pytest.raises(TableError, match="severity 'fatal' is not known"):
        AuditBoard(planted_study.findings().with_columns(severity=pl.lit("fatal")))


def test_selection_and_hostile_names() -> None:
    selection = Selection()
    board = AuditBoard(planted_study.findings((planted.HOSTILE,), planted.HOSTILE), selection=selection)
    assert concerned(board)[1] == [planted.HOSTILE]
    board.selected = concerned(board)[1]
    assert (selection.subjects, selection.by) == ([planted.HOSTILE], "AuditBoard")
    selection.select(["A549"], by="lasso")
    assert board.selected == ["A549"]
