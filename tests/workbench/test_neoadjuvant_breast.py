"""The source neoadjuvant_breast: a tiny archive of the same shape with planted values, and the real one."""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workbench import cli, packages
from workbench.formats import FormatError
from workbench.sources import neoadjuvant_breast as source
from workbench.study import Study, find

TABLE = """Sample,pcr,MKI67,HLA.A,X2.Sep,X1.Mar,SILENT
brightness_1,1,3.5,7.25,1.0,0.5,0
brightness_2,0,2.0,0,1.5,0.25,0
brightness_3,1,4.0,6.5,0,0.125,0
"""


def archive(folder: Path, table: str = TABLE, member: str = source.MEMBER) -> tuple[Path, packages.Package]:
    """A wheel with ``table`` in it, and the package that pins it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        wheel.writestr(member, table)
    data = buffer.getvalue()
    path = folder / source.PACKAGE.file
    path.write_bytes(data)
    return path, replace(source.PACKAGE, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def built(folder: Path, table: str = TABLE) -> Study:
    path, package = archive(folder, table)
    return source.build(archive=path, package=package, progress=False, notify=lambda text: None)


def test_every_planted_value_arrives(tmp_path: Path) -> None:
    study = built(tmp_path)
    assert study.path == find("neoadjuvant_breast") and study.check() == []
    assert study.subjects["tissue"].to_list() == ["breast"] * 3
    assert study.subjects["diagnosis"].unique().to_list() == ["triple-negative breast cancer"]
    outcomes = dict(study.outcomes.select("subject", "value").iter_rows())
    assert outcomes == {"brightness_1": 1.0, "brightness_2": 0.0, "brightness_3": 1.0}
    assert study.outcomes["endpoint"].unique().to_list() == ["pathological_complete_response"]
    expression = study.modality("expression")
    assert list(expression.var_names) == ["MKI67", "HLA.A", "SEPT2", "X1.Mar"]  # the silent gene is gone
    assert np.array_equal(expression.X[0], np.array([3.5, 7.25, 1.0, 0.5], dtype=np.float32))
    assert expression.uns["unit"] == "log2(abundance + 1)"
    told = study.provenance
    assert told["symbols_restored_from_dates"] == {"X2.Sep": "SEPT2"}  # X1.Mar may be MARCH1 or MARC1: it stays
    assert told["dropped"] == {"genes_silent_in_every_patient": 1}
    assert told["regimen"]["Paclitaxel"] == "every patient" and told["regimen"]["Carboplatin"] == "some arms"
    assert "arm" in told["not_told"] and "NCT02032277" in told["licence"]


def test_the_response_is_no_feature(tmp_path: Path) -> None:
    study = built(tmp_path)
    assert "pcr" not in {str(g).casefold() for g in study.modality("expression").var_names}
    assert not {"pcr", "response", source.ENDPOINT} & set(study.subjects.columns)


@pytest.mark.parametrize(
    ("column", "leaks"),
    [("RCB.class", True), ("pCR", True), ("treatment_arm", True), ("NTPCR", False), ("ARMC1", False)],
)
def test_a_column_that_may_tell_the_response_is_refused_and_a_gene_is_not(
    tmp_path: Path, column: str, leaks: bool
) -> None:
    table = TABLE.replace("SILENT", column)
    if leaks:
        with pytest.raises(FormatError, match=rf"column '{column}'.*may tell the response"):
            built(tmp_path, table)
    else:
        assert built(tmp_path, table).outcomes.height == 3


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Sample,pcr", "Sample,outcome", "expected Sample, pcr and genes"),
        ("brightness_2,0", "brightness_1,0", "a name of its own"),
        ("brightness_2,0", "brightness_2,2", "expected 0 or 1, found '2'"),
        ("7.25", "1450.5", "row 1 below the header, column 'HLA.A': expected a log2 abundance"),
        ("7.25", "-1", "expected a log2 abundance"),
        ("7.25", "n/a", "found 'n/a'"),
    ],
)
def test_a_damaged_table_is_refused_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        built(tmp_path, TABLE.replace(old, new))


def test_an_archive_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    path, _ = archive(tmp_path)
    with pytest.raises(packages.FetchError, match="expected SHA-256"):
        source.build(archive=path, progress=False)


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    path, package = archive(tmp_path, member="other.csv")
    with pytest.raises(FormatError, match="is missing from the archive"):
        source.build(archive=path, package=package, progress=False, notify=lambda text: None)


def test_the_notice_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, package = archive(tmp_path)
    with caplog.at_level(logging.WARNING, "workbench"):
        source.build(archive=path, package=package, progress=False)
        source.build(archive=path, package=package, progress=False, replace=True)
    assert [r.message for r in caplog.records] == [source.NOTICE]


def test_an_existing_study_is_kept_unless_replaced(tmp_path: Path) -> None:
    built(tmp_path)
    with pytest.raises(FileExistsError, match="replace=True"):
        built(tmp_path)


def test_the_command_line_offers_it(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    path, package = archive(tmp_path)
    monkeypatch.setattr(source.fetch, "__kwdefaults__", {**source.fetch.__kwdefaults__, "package": package})
    monkeypatch.setattr(source.build, "__kwdefaults__", {**source.build.__kwdefaults__, "package": package})
    assert cli.main(["study", "build", "neoadjuvant_breast", "--archive", str(path)]) == 0
    assert "pathological_complete_response" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["study", "build", "neoadjuvant_brest"])
    assert "Did you mean 'neoadjuvant_breast'?" in capsys.readouterr().err


@pytest.mark.index
def test_the_real_archive_gives_fifty_patients(tmp_path: Path) -> None:
    study = source.build(tmp_path / "study", progress=False, notify=lambda text: None)
    assert study.subjects.height == 50 and study.outcomes["value"].sum() == 24
    assert study.modality("expression").shape == (50, 23453)
    assert study.provenance["dropped"] == {"genes_silent_in_every_patient": 1160}
    assert study.provenance["symbols_restored_from_dates"]["X9.Sep"] == "SEPT9"
    values = study.modality("expression").X
    assert values.min() == 0 and 13 < values.max() < 14
