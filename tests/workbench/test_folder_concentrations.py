"""Concentration-time folders: exact units, doses as declared, values below quantification censored."""

from __future__ import annotations

import csv
from fractions import Fraction
from pathlib import Path

import pytest

from tests.real import shared
from workbench import folders
from workbench.folders import concentrations
from workbench.formats import FormatError

TO_NG_ML = {"ug/L": 1, "ug/mL": 1000, "ng/mL": 1, "mg/L": 1000, "ug/ml": 1000, "pg/mL": 0.001}
TO_H = {"min": Fraction(1, 60), "h": 1, "hr": 1, "hours": 1}


def quiet(_: folders.Unread) -> None:
    """Nobody listens."""


def test_cvtdb_agrees_with_a_second_reading(tmp_path: Path) -> None:
    folder = shared("pk")
    study = folders.build(folder, tmp_path / "pk")
    with (folder / "cvtdb_conc_time_7918.csv").open(newline="", encoding="utf-8") as stream:
        rows = [r for r in csv.DictReader(stream) if r["conc_units_original"] in TO_NG_ML]
    assert study.outcomes.height == len(rows) == 7582
    exact = study.outcomes.filter(censored=0)
    key = lambda s, t, c: (s, round(t, 9), float(f"{c:.9g}"))  # noqa: E731
    found = sorted(key(*r) for r in exact.select("subject", "time_h", "value").rows())
    told = []
    for r in rows:
        value = float(r["conc_original"]) * TO_NG_ML[r["conc_units_original"]]
        limit = float(r["invivPK_loq"]) * 1000 if r["invivPK_loq"] else 0.0
        if not value < limit:
            told.append(
                key(r["fk_series_id"], float(float(r["time_original"]) * TO_H[r["time_units_original"]]), value)
            )
    assert found == sorted(told)
    assert study.outcomes.filter(censored=-1).height == len(rows) - len(told) > 0
    assert set(study.outcomes["unit"]) == {"ng/mL"}
    assert set(study.outcomes["endpoint"]) == {"concentration plasma", "concentration blood"}
    dose = study.outcomes.filter(subject="23350").select("dose", "dose_unit").unique().rows()
    assert dose == [(1.0, "mg/kg")]
    showa = next(r for r in rows if r["dose_level_units_original"] == "ug per 250 g rat body weight")
    given = study.outcomes.filter(subject=showa["fk_series_id"])["dose"].unique().item()
    assert given == pytest.approx(float(showa["dose_level_original"]) * 4 / 1000)
    assert dict(study.subjects.select("species").to_series().value_counts().rows()).keys() == {"rat", "mouse", "human"}
    refused = [p for f, p, _ in study.record("unread").rows() if f.startswith("cvtdb") and "conc_original" in p]
    assert sum(int(p.split(", ")[1].split()[0]) for p in refused) == 7918 - 7582
    assert study.record("cvtdb_conc_time_7918").height == 7918


def test_below_quantification_is_left_censored_at_the_limit(tmp_path: Path) -> None:
    (tmp_path / "pk_time.csv").write_text(
        "animal,drug,time_h,conc_ng_mL,LLOQ_ng_mL,dose_mg_kg,matrix\n"
        "a1,x,0,BLQ,5,10,plasma\na1,x,1,50,5,10,plasma\na1,x,2,<2,5,10,plasma\na1,x,3,4,5,10,plasma\na1,x,4,high,5,10,plasma\n"
        "a2,x,1,nd,,10,plasma\n"
    )
    found: list[folders.Unread] = []
    content = concentrations.read(tmp_path, found.append)
    assert content.outcomes.select("time_h", "value", "censored", "dose", "dose_unit").rows() == [
        (0.0, 5.0, -1, 10.0, "mg/kg"),
        (1.0, 50.0, 0, 10.0, "mg/kg"),
        (2.0, 2.0, -1, 10.0, "mg/kg"),
        (3.0, 5.0, -1, 10.0, "mg/kg"),
    ]
    said = [(n.place, n.reason) for n in found]
    assert ("row 5 below the header, column 'conc_ng_mL'", "'high' is no number") in said
    assert ("1 rows", "below the limit of quantification, which the file does not give: left out") in said


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("animal,drug,time_h,conc,matrix", "column 'conc': declares no unit"),
        ("animal,drug,time,conc_ng_mL,matrix", "column 'time': declares no unit"),
        ("animal,drug,time_h,conc_ng_mL,note", "state matrix="),
        ("beast,drug,time_h,conc_ng_mL,matrix", "no column for"),
    ],
)
def test_what_is_not_declared_must_be_stated(tmp_path: Path, header: str, message: str) -> None:
    (tmp_path / "pk_time.csv").write_text(f"{header}\na1,x,1,50,plasma\n")
    with pytest.raises(FormatError, match=message):
        concentrations.read(tmp_path, quiet)
    if "state" not in message and "beast" not in header:
        content = concentrations.read(tmp_path, quiet, concentration_unit="ug/mL", time_unit="min")
        assert content.outcomes["unit"].item() == "ng/mL"


def test_molar_and_per_mass_concentrations_are_left_out_and_said(tmp_path: Path) -> None:
    (tmp_path / "pk_time.csv").write_text(
        "animal,drug,time,time_unit,conc,conc_unit,matrix\na,x,60,min,1,mg/L,plasma\na,x,1,h,1,nM,plasma\na,x,1,h,1,ng/g,liver\n"
    )
    found: list[folders.Unread] = []
    content = concentrations.read(tmp_path, found.append)
    assert content.outcomes.select("time_h", "value", "endpoint").rows() == [(1.0, 1000.0, "concentration plasma")]
    assert sorted(n.place for n in found) == ["column 'conc', 1 rows in 'nM'", "column 'conc', 1 rows in 'ng/g'"]
    assert any("molar_mass" in n.reason for n in found)
