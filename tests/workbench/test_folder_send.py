"""Animal studies from their folders: animals, arms, domains, rows and numbers agree with a second reading of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import transport
from tests.real import shared
from workbench import folders
from workbench.folders import _findings
from workbench.study import Study

STUDIES = {  # folder -> animals, arms (arm codes), sets
    "PDS": (124, 12, 20),
    "PointCross": (150, 8, 11),
    "CDISC-Safety-Pharmacology-POC": (4, 4, 4),
    "CBER-POC-Pilot-Study2-Vaccine": (40, 4, 4),
}
BUILT: dict[str, Study] = {}
pytestmark = pytest.mark.shared_home


def study(name: str) -> Study:
    if name not in BUILT:
        BUILT[name] = folders.build(shared("send") / name, replace=True)
    return BUILT[name]


def theirs(name: str, domain: str) -> pl.DataFrame:
    import pyreadstat

    frame, _ = pyreadstat.read_xport(
        str(shared("send") / name / f"{domain.lower()}.xpt"), disable_datetime_conversion=True
    )
    return pl.from_pandas(frame)


@pytest.mark.parametrize("name", STUDIES)
def test_animals_arms_sets_domains_and_rows_agree_with_the_files(name: str) -> None:
    built, (animals, arms, sets) = study(name), STUDIES[name]
    dm = theirs(name, "dm")
    assert built.subjects["subject"].to_list() == dm["USUBJID"].to_list()
    assert built.subjects.height == dm.height == animals
    assert built.subjects["arm_code"].to_list() == dm["ARMCD"].to_list()
    assert built.subjects["set_code"].to_list() == dm["SETCD"].to_list()
    assert (dm["ARMCD"].n_unique(), dm["SETCD"].n_unique()) == (arms, sets)
    assert built.subjects["sex"].to_list() == dm["SEX"].to_list()
    files = sorted(p.stem.upper() for p in (shared("send") / name).glob("*.xpt"))
    assert sorted(set(built.records) - {"unread", "notes", "terms", "columns", "define"}) == files
    for domain in files:
        frame, other = built.record(domain), theirs(name, domain)
        assert frame.height == other.height, domain
        assert frame.columns[: other.width] == other.columns
        for column in other.columns:
            if frame[column].dtype == pl.String:
                assert frame[column].to_list() == other[column].fill_null("").to_list(), (domain, column)
    assert built.provenance["domains"] == {d: theirs(name, d).height for d in files}
    assert built.record("unread").height == 0
    assert built.check() == []


@pytest.mark.parametrize(
    ("name", "domain", "endpoint"),
    [
        ("PDS", "BW", "body_weight"), ("PointCross", "BW", "body_weight"), ("PDS", "PC", "concentration plasma"),
        ("PointCross", "PC", "concentration plasma"), ("CBER-POC-Pilot-Study2-Vaccine", "BW", "body_weight"),
        ("CDISC-Safety-Pharmacology-POC", "EG", "QTCVAG"), ("PointCross", "FW", "food_consumption"),
    ],
)  # fmt: skip
def test_numbers_are_those_of_the_files(name: str, domain: str, endpoint: str) -> None:
    tests = {"body_weight": "BW", "concentration plasma": None, "food_consumption": "FC"}
    other = theirs(name, domain).filter(pl.col(f"{domain}STRESN").is_not_null())
    wanted = tests.get(endpoint, endpoint)
    if wanted:
        other = other.filter(pl.col(f"{domain}TESTCD") == wanted)
    ours = study(name).outcomes.filter((pl.col("endpoint") == endpoint) & (pl.col("censored") == 0))
    assert ours.height == other.height > 0
    assert sorted(ours["subject"]) == sorted(other["USUBJID"])
    np.testing.assert_allclose(sorted(ours["value"]), sorted(other[f"{domain}STRESN"]), rtol=1e-15)
    assert ours["unit"].unique().to_list() == other[f"{domain}STRESU"].unique().to_list()
    assert ours["source"].unique().to_list() == [f"{domain.lower()}.xpt"]


def test_arms_doses_and_flags_of_a_study_with_recovery_and_toxicokinetics():
    animals = study("PDS").subjects
    assert animals["species"].unique().to_list() == ["RAT"] and animals["strain"].unique().to_list() == [
        "SPRAGUE-DAWLEY"
    ]
    assert animals["sex_concept"].unique().sort().to_list() == [8507, 8532]
    assert animals.filter("recovery").height == 20 and animals.filter("toxicokinetic").height == 24
    assert animals.filter("control").height == 36 and animals.filter("control")["arm_dose"].unique().to_list() == [0]
    assert sorted(animals["arm_dose"].unique()) == [0, 20, 200, 400]
    assert animals["arm_dose_unit"].unique().to_list() == ["mg/kg"]
    assert animals.filter(pl.col("disposition") == "FOUND DEAD").height == 1
    assert study("PointCross").subjects.filter("recovery").height == 40
    assert study("PointCross").subjects.filter("toxicokinetic").height == 30


def test_treatments_are_the_article_and_its_control():
    table = study("PDS").treatments.select("treatment", "role", "source_term", "vehicle", "route")
    assert table.rows() == [
        ("PDS-FAKEDRUG-111", "test article", "PDS-FAKEDRUG-111", "methocell", "ORAL GAVAGE"),
        ("control", "control", "Vehicle Control", "methocell", "ORAL GAVAGE"),
    ]
    outcomes = study("PDS").outcomes
    controls = study("PDS").subjects.filter("control")["subject"].to_list()
    assert set(outcomes.filter(pl.col("treatment") == "control")["subject"]) <= set(controls)
    assert outcomes.filter(pl.col("treatment") == "control")["dose"].unique().to_list() == [0]


def test_a_dose_written_as_a_power_of_ten_is_a_number():
    built = study("CBER-POC-Pilot-Study2-Vaccine")
    assert sorted(built.subjects["arm_dose"].unique()) == [0, 1e11]
    assert built.subjects["arm_dose_unit"].unique().to_list() == ["vp/dose"]
    terminal = built.outcomes.filter(pl.col("endpoint") == "terminal_body_weight")
    assert (
        terminal["unit"].unique().to_list() == ["g"] and 2000 < terminal["value"].min() < terminal["value"].max() < 6000
    )


def test_a_latin_square_has_the_dose_of_each_period():
    built = study("CDISC-Safety-Pharmacology-POC")
    assert built.subjects["crossover"].all() and built.subjects["arm_dose"].null_count() == 4
    ex = theirs("CDISC-Safety-Pharmacology-POC", "ex")
    dog = built.outcomes.filter((pl.col("subject") == "CV01_P656") & (pl.col("endpoint") == "HR")).sort("time_h")
    for day, dose in ex.filter(pl.col("USUBJID") == "CV01_P656").select("EXSTDY", "EXDOSE").rows():
        start = (day - 1) * 24
        period = dog.filter(pl.col("time_h").is_between(start - 2, start + 26))
        assert period.height == 52 and period["dose"].unique().to_list() == [dose]
        assert period["treatment"].unique().to_list() == ["control" if dose == 0 else "CDISC Drug X"]
        assert period["time_h"][0] == start - 1.75 and period["time_h"][-1] == start + 24


def test_concentrations_below_the_limit_are_censored_at_it():
    for name, n in (("PDS", 20), ("PointCross", None)):
        below = study(name).outcomes.filter((pl.col("endpoint") == "concentration plasma") & (pl.col("censored") == -1))
        bql = theirs(name, "pc").filter(pl.col("PCSTRESC") == "BQL").height
        assert below.height == bql and (n is None or bql == n)
        assert below["value"].unique().to_list() == [20.0] and below["unit"].unique().to_list() == ["ng/mL"]
    low = study("PointCross").outcomes.filter((pl.col("endpoint") == "GGT serum") & (pl.col("censored") == -1))
    assert low.height == 105 and low["value"].unique().to_list() == [0.1]


def test_times_after_a_dose_belong_to_the_day_of_that_dose():
    rat = study("PDS").outcomes.filter(pl.col("endpoint") == "concentration plasma")
    times = sorted(rat.filter(pl.col("subject") == rat["subject"][0])["time_h"].unique())
    day29 = 28 * 24
    wanted = {
        0.5,
        1,
        2,
        4,
        7,
        24,
        day29,
        day29 + 0.5,
        day29 + 1,
        day29 + 2,
        day29 + 4,
        day29 + 7,
        day29 + 24,
        day29 + 48,
        day29 + 72,
    }
    assert set(times) <= wanted and len(times) >= 5
    other = study("PointCross").outcomes.filter(pl.col("endpoint") == "concentration plasma")
    assert sorted(other["time_h"].unique()) == [2160, 2160.5, 2162, 2164, 2184]


def test_pools_give_each_of_their_animals_the_value():
    built = study("PDS")
    pooled = built.outcomes.filter(pl.col("endpoint") == "food_consumption of the pool")
    fw, pool = theirs("PDS", "fw"), theirs("PDS", "pooldef")
    wanted = fw.filter(pl.col("FWTESTCD") == "FC").join(
        pool.select("POOLID", pl.col("USUBJID").alias("who")), on="POOLID"
    )
    ours = sorted((who, round(value, 6)) for who, value in pooled.select("subject", "value").rows())
    assert ours == sorted((who, round(value, 6)) for who, value in wanted.select("who", "FWSTRESN").rows())
    assert pooled["unit"].unique().to_list() == ["g"]
    notes = built.record("notes").filter(pl.col("file") == "fw.xpt")
    assert notes.height == 1 and "each value stands once for every animal of its pool" in notes["reason"][0]


def test_qualifiers_stand_beside_their_parents():
    mi, supp = study("PDS").record("MI"), theirs("PDS", "suppmi")
    assert (mi["MIRESMOD"] != "").sum() == supp.height == 263
    keys = {(u, float(v)): q for u, v, q in supp.select("USUBJID", "IDVARVAL", "QVAL").rows()}
    found = {(u, s): q for u, s, q in mi.filter(pl.col("MIRESMOD") != "").select("USUBJID", "MISEQ", "MIRESMOD").rows()}
    assert found == keys
    pp = study("PDS").record("PP")
    assert (pp["RSDSEXCL"] != "").sum() == 12


def test_pathology_is_graded_and_knows_what_was_not_examined():
    data = study("PointCross").modality("pathology")
    mi = theirs("PointCross", "mi")
    grades = {"MINIMAL": 1, "MILD": 2, "MODERATE": 3, "MARKED": 4, "SEVERE": 5}
    some = mi.filter((pl.col("MISPEC") == "LIVER") & (pl.col("MISEV") != ""))
    assert some.height > 5
    for animal, finding in some.select("USUBJID", "MISTRESC").unique().rows():
        rows = some.filter((pl.col("USUBJID") == animal) & (pl.col("MISTRESC") == finding))
        assert data[animal, f"LIVER | {finding}"].X[0, 0] == max(grades[s] for s in rows["MISEV"])
    seen = set(mi.filter((pl.col("MISPEC") == "UTERUS") & (pl.col("MISTAT") != "NOT DONE"))["USUBJID"])
    column = next(v for v in data.var_names if v.startswith("UTERUS | ") and not v.endswith("(gross)"))
    for animal, value in zip(data.obs_names, data[:, column].X[:, 0], strict=True):
        assert np.isnan(value) == (animal not in seen)
    assert data.uns["unit"] == "severity grade (0 none - 5 severe)" and np.nanmax(data.X) <= 5


def test_grades_of_five_are_grades():
    data = study("CBER-POC-Pilot-Study2-Vaccine").modality("pathology")
    mi = theirs("CBER-POC-Pilot-Study2-Vaccine", "mi").filter(pl.col("MISEV") != "")
    for animal, specimen, finding, severity in mi.select("USUBJID", "MISPEC", "MISTRESC", "MISEV").rows():
        column = f"{specimen} | {finding.upper()}"
        assert data[animal, column].X[0, 0] >= int(severity[0]) and data[animal, column].layers["graded"][0, 0] == 1


def test_clinical_chemistry_is_the_last_result_of_each_test():
    data = study("PointCross").modality("clinical_chemistry")
    lb = theirs("PointCross", "lb").filter((pl.col("LBTESTCD") == "ALT") & pl.col("LBSTRESN").is_not_null())
    last = dict(lb.sort("LBDY").group_by("USUBJID", maintain_order=True).last().select("USUBJID", "LBSTRESN").rows())
    ours = dict(zip(data.obs_names, data[:, "ALT serum"].X[:, 0], strict=True))
    assert {a: v for a, v in ours.items() if not np.isnan(v)} == pytest.approx(last)
    assert (
        data.var.loc["ALT serum", "unit"] == "U/L" and data.var.loc["ALT serum", "test"] == "Alanine Aminotransferase"
    )


def test_define_xml_is_compared_with_the_files():
    notes = study("PDS").record("notes")
    missing = notes.filter(pl.col("reason") == "is not in define.xml")["place"].to_list()
    assert missing == ["SE", "TA", "TE", "TX"]


# --- broken folders ----------------------------------------


def copy(name: str, to: Path) -> Path:
    shutil.copytree(shared("send") / name, to)
    for path in to.iterdir():
        path.chmod(0o644)
    to.chmod(0o755)
    return to


def test_a_truncated_domain_leaves_the_rest_and_is_listed(tmp_path: Path) -> None:
    folder = copy("CDISC-Safety-Pharmacology-POC", tmp_path / "cut")
    whole = (folder / "cv.xpt").read_bytes()
    (folder / "cv.xpt").write_bytes(whole[: len(whole) // 2])
    (folder / "eg.xpt").unlink()
    (folder / "define.xml").write_bytes((folder / "define.xml").read_bytes()[:5000])
    (folder / "report.pdf").write_bytes(b"%PDF-1.7")
    (folder / "evil.xpt").symlink_to(folder / "vs.xpt")
    built = folders.build(folder, tmp_path / "study")
    assert built.subjects.height == 4 and "VS" in built.records and "CV" not in built.records
    assert built.outcomes["endpoint"].unique().to_list() == ["TEMP"]
    unread = built.record("unread")
    assert unread.filter(pl.col("file") == "cv.xpt")["reason"][0].endswith("the file is cut or spliced")
    assert sorted(unread["file"]) == ["cv.xpt", "define.xml", "report.pdf"]
    assert built.provenance["unread"] == 3


def test_a_domain_that_define_xml_announces_and_is_missing_is_listed(tmp_path: Path) -> None:
    folder = copy("CDISC-Safety-Pharmacology-POC", tmp_path / "lost")
    (folder / "eg.xpt").unlink()
    built = folders.build(folder, tmp_path / "study")
    assert built.record("unread").rows() == [("eg.xpt", "EG", "define.xml announces it; it was not read")]


def test_upper_case_names_and_folders_within_are_the_same_study(tmp_path: Path) -> None:
    source = copy("CDISC-Safety-Pharmacology-POC", tmp_path / "lower")
    folder = tmp_path / "UPPER"
    (folder / "DATA").mkdir(parents=True)
    for path in source.iterdir():
        shutil.copy(path, folder / "DATA" / path.name.upper())
    built = folders.build(folder, tmp_path / "study")
    one = study("CDISC-Safety-Pharmacology-POC")
    assert built.subjects.equals(one.subjects) and built.record("unread").height == 0
    assert built.outcomes.drop("source").equals(one.outcomes.drop("source"))


def columns(**given: Any) -> list[transport.Column]:
    """Columns of a made domain: text, or numbers where the first value is one."""
    return [
        (name, "", -8 if isinstance(values[0], float) else 40, values) for name, values in given.items()
    ]  # fmt: skip


def made(folder: Path, **domains: list[transport.Column]) -> Path:
    folder.mkdir()
    for name, content in domains.items():
        (folder / f"{name}.xpt").write_bytes(transport.write({name.upper(): content}))
    return folder


DM = columns(
    USUBJID=["A", "B"],
    SEX=["M", "F"],
    ARMCD=["1", "2"],
    ARM=["Control", "High"],
    SETCD=["1", "2"],
    RFSTDTC=["2026-01-05"] * 2,
)


def test_units_are_converted_exactly_or_kept_apart(tmp_path: Path) -> None:
    bw = columns(
        USUBJID=["A", "A", "B"], BWTESTCD=["BW"] * 3, BWSTRESC=["300", "0.31", "0.25"], BWSTRESN=[300.0, 0.31, 0.25],
        BWSTRESU=["g", "kg", "kg"], BWDY=[-1.0, 1.0, 2.0],
    )  # fmt: skip
    lb = columns(
        USUBJID=["A", "A", "B", "B"], LBTESTCD=["GLUC"] * 4, LBSPEC=["SERUM"] * 4, LBSTRESC=["5", "90", ">600", "<1.5"],
        LBSTRESN=[5.0, 90.0, None, None], LBSTRESU=["mmol/L", "mg/dL", "mg/dL", ""], LBDY=[1.0] * 4,
    )  # fmt: skip
    built = folders.build(made(tmp_path / "units", dm=DM, bw=bw, lb=lb), tmp_path / "study", kind="send")
    weights = built.outcomes.filter(pl.col("endpoint") == "body_weight").sort("time_h")
    assert weights.select("value", "unit", "time_h").rows() == [(300, "g", -24), (310, "g", 0), (250, "g", 24)]
    glucose = built.outcomes.filter(pl.col("endpoint").str.starts_with("GLUC")).sort("value")
    assert glucose.select("endpoint", "value", "unit", "censored").rows() == [
        ("GLUC serum", 1.5, "mg/dL", -1), ("GLUC serum [mmol/L]", 5, "mmol/L", 0), ("GLUC serum", 90, "mg/dL", 0),
        ("GLUC serum", 600, "mg/dL", 1),
    ]  # fmt: skip
    said = " ".join(built.record("notes")["reason"])
    assert "2 values converted exactly from kg to g" in said and "1 values in mmol/L do not convert to mg/dL" in said


def test_strangers_excluded_results_and_lost_qualifiers_are_listed(tmp_path: Path) -> None:
    lb = columns(
        USUBJID=["A", "Z", "B"], LBSEQ=[1.0, 2.0, 3.0], LBTESTCD=["ALT"] * 3, LBSPEC=["SERUM"] * 3, LBSTRESC=["5"] * 3,
        LBSTRESN=[5.0] * 3, LBSTRESU=["U/L"] * 3, LBDY=[1.0] * 3, LBEXCLFL=["", "", "Y"],
    )  # fmt: skip
    supp = columns(
        RDOMAIN=["LB"] * 3, USUBJID=["A", "A", "B"], IDVAR=["LBSEQ"] * 3, IDVARVAL=["1", "1.0", "99"],
        QNAM=["NOTE"] * 3, QLABEL=["Note"] * 3, QVAL=["first", "second", "lost"],
    )  # fmt: skip
    built = folders.build(made(tmp_path / "odd", dm=DM, lb=lb, supplb=supp), tmp_path / "study", kind="send")
    assert built.outcomes.select("subject", "value").rows() == [("A", 5)]
    assert built.record("LB")["NOTE"].to_list() == ["first; second", "", ""]
    unread = built.record("unread")
    assert unread.filter(pl.col("file") == "supplb.xpt")["reason"].to_list() == [
        "NOTE of B, LBSEQ 99 has no row in LB; it stands in SUPPLB alone"
    ]
    assert "animals that DM does not have (Z)" in unread.filter(pl.col("file") == "lb.xpt")["reason"][0]
    assert "LBEXCLFL = Y" in " ".join(built.record("notes")["reason"])
    assert built.record("LB").height == 3, "all of it stands in the record"


def test_split_domains_become_one(tmp_path: Path) -> None:
    part = columns(
        USUBJID=["A"], DOMAIN=["LB"], LBTESTCD=["ALT"], LBSTRESC=["1"], LBSTRESN=[1.0], LBSTRESU=["U/L"], LBDY=[1.0]
    )
    other = columns(
        USUBJID=["B"], DOMAIN=["LB"], LBTESTCD=["AST"], LBSTRESC=["2"], LBSTRESN=[2.0], LBSTRESU=["U/L"], LBDY=[1.0]
    )
    built = folders.build(made(tmp_path / "split", dm=DM, lbch=part, lbhe=other), tmp_path / "study", kind="send")
    assert built.record("LB").height == 2 and sorted(built.outcomes["endpoint"]) == ["ALT", "AST"]


def test_a_copy_of_a_domain_is_left_out_and_listed(tmp_path: Path) -> None:
    lb = columns(
        USUBJID=["A"], DOMAIN=["LB"], LBSEQ=[1.0], LBTESTCD=["ALT"], LBSTRESC=["1"], LBSTRESN=[1.0], LBSTRESU=["U/L"],
        LBDY=[1.0],
    )  # fmt: skip
    folder = made(tmp_path / "copied", dm=DM, lb=lb, lb2=lb)
    (folder / "old").mkdir()
    shutil.copy(folder / "dm.xpt", folder / "old" / "dm.xpt")
    shutil.copy(folder / "lb.xpt", folder / "lb (copy).xpt")
    odd = transport.write({"A/B": columns(X=["x"]), "C": columns(X=["y"])})
    (folder / "odd.xpt").write_bytes(odd)
    built = folders.build(folder, tmp_path / "study", kind="send")
    assert built.record("LB").height == 1 and built.outcomes.height == 1 and built.subjects.height == 2
    assert built.record("C").height == 1, "what has a good name in the same file is kept"
    assert sorted(built.record("unread")["file"]) == ["lb (copy).xpt", "lb2.xpt", "odd.xpt", "old/dm.xpt"]


def test_a_folder_without_animals_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = made(tmp_path / "none", bw=columns(USUBJID=["A"], BWTESTCD=["BW"]))
    with pytest.raises(ValueError, match=r"dm\.xpt, DM: the demographics are missing"):
        folders.build(folder, tmp_path / "study")
    assert not (tmp_path / "study").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no kind of study recognises"):
        folders.build(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        folders.build(tmp_path / "nothing")
    with pytest.raises(ValueError, match="send has no option 'unit'"):
        folders.build(folder, tmp_path / "study", unit="g")
    with pytest.raises(KeyError, match="Did you mean 'send'"):
        folders.build(folder, tmp_path / "study", kind="sent")


@pytest.mark.parametrize(
    ("words", "hours"),
    [
        ("PT0.5H", 0.5), ("-PT1.75H", -1.75), ("P1D", 24), ("P1DT12H", 36), ("PT90M", 1.5), ("P2W", 336),
        ("PT30S", 1 / 120),
        ("P", None), ("PT", None), ("", None), ("1H", None), ("PT-1H", None),
    ],
)  # fmt: skip
def test_durations(words: str, hours: float | None) -> None:
    assert _findings.duration_h(words) == hours


@pytest.mark.parametrize(
    ("words", "hours"),
    [
        ("0.5H", 0.5), ("2 hrs postdose", 2), ("1 hr 45 min predose", -1.75), ("15 min predose", -0.25), ("24H", 24),
        ("30 min post-dose", 0.5), ("Predose", None), ("PostRx6", None), ("Day 3", None), ("", None),
        ("2 horses", None),
    ],
)  # fmt: skip
def test_planned_times_in_words(words: str, hours: float | None) -> None:
    assert _findings.planned_h(words) == hours
