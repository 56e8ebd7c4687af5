"""What AnimalStudy shows of published studies against a second reading of their files by pyreadstat and pandas."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from tests.real import shared
from widgets import AnimalStudy
from widgets._parts import unpack
from workbench import folders

pyreadstat = pytest.importorskip("pyreadstat")
STUDIES = pytest.mark.parametrize("name", ["PDS", "PointCross"])


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The widget of a study, and its domains joined with sex, dose and kind of each animal."""
    made: dict[str, Any] = {}

    def one(name: str) -> Any:
        if name not in made:
            folder = shared(f"send/{name}")
            load = {d: pyreadstat.read_xport(str(folder / f"{d}.xpt"))[0] for d in ("dm", "tx", "lb", "om", "bw", "mi")}
            sets = load["tx"].pivot_table(index="SETCD", columns="TXPARMCD", values="TXVAL", aggfunc="first")
            who = load["dm"][["USUBJID", "SEX", "SETCD", "ARM"]].copy()
            who["dose"] = who["SETCD"].map(sets["TRTDOS"]).astype(float)
            tk = who["SETCD"].map(sets["TKDESC"]).str.upper() == "TK"
            who["kind"] = np.where(who["ARM"].str.contains("recovery"), "R", np.where(tk, "TK", ""))
            joined = {d: frame.merge(who, on="USUBJID") for d, frame in load.items() if d not in ("dm", "tx")}
            study = folders.build(folder, tmp_path_factory.mktemp("study") / name)
            made[name] = AnimalStudy(study), who, joined
        return made[name]

    return one


def groups(widget: AnimalStudy) -> dict[tuple[float, str], int]:
    arms = unpack(widget.frame_bytes)[0]["arms"]
    return {(arm["dose"], arm["kind"]): g for g, arm in enumerate(arms)}


@STUDIES
def test_animals_of_each_arm(read: Any, name: str) -> None:
    widget, who, _ = read(name)
    arms, of = unpack(widget.frame_bytes)[0]["arms"], groups(widget)
    for (dose, kind), own in who.groupby(["dose", "kind"]):
        arm = arms[of[dose, kind]]
        want = (len(own), (own["SEX"] == "M").sum(), (own["SEX"] == "F").sum())
        assert (arm["n"], arm["males"], arm["females"]) == want
    assert len(of) == who.groupby(["dose", "kind"]).ngroups


@STUDIES
@pytest.mark.parametrize(("domain", "test", "specimen"), [
    ("lb", "ALT", "SERUM"), ("lb", "AST", "SERUM"), ("om", "WEIGHT", "LIVER"), ("om", "WEIGHT", "GLAND, ADRENAL"),
])  # fmt: skip
def test_means_and_intervals_of_a_measure(read: Any, name: str, domain: str, test: str, specimen: str) -> None:
    widget, _, frames = read(name)
    column, of = domain.upper(), groups(widget)
    frame = frames[domain]
    own = frame[(frame[f"{column}TESTCD"] == test) & (frame[f"{column}SPEC"] == specimen)]
    own = own.dropna(subset=[f"{column}STRESN"]).sort_values(f"{column}DY").drop_duplicates("USUBJID", keep="last")
    widget.measure = f"{test} {specimen.lower()}"
    found = {(row["sex"], row["group"]): row for row in widget.compared.to_dicts()}
    cells = own.groupby(["SEX", "dose", "kind"])[f"{column}STRESN"]
    assert len(found) == cells.ngroups
    for (sex, dose, kind), values in cells:
        row = found[sex, of[dose, kind]]
        half = stats.t.ppf(0.975, len(values) - 1) * values.std() / len(values) ** 0.5
        assert row["n"] == len(values)
        assert [row["mean"], row["high"]] == pytest.approx([values.mean(), values.mean() + half], rel=1e-9)


@STUDIES
def test_body_weights_stand_on_their_study_day(read: Any, name: str) -> None:
    widget, _, frames = read(name)
    header, columns = unpack(widget.frame_bytes)
    of, own = groups(widget), frames["bw"][frames["bw"]["BWTESTCD"] == "BW"]
    each = own.groupby(["USUBJID", "SEX", "dose", "kind", "BWDY"], as_index=False)["BWSTRESN"].mean()
    cells = 0
    for (sex, dose, kind, day), values in each.groupby(["SEX", "dose", "kind", "BWDY"])["BWSTRESN"]:
        if len(values) < 2:
            continue
        cells += 1
        at = (columns["weight_group"] == of[dose, kind]) & (columns["weight_sex"] == header["sexes"].index(sex))
        at &= np.abs(columns["weight_day"] - day) < 1e-4
        assert columns["weight_n"][at].tolist() == [len(values)], (sex, dose, kind, day)
        assert columns["weight_mean"][at][0] == pytest.approx(values.mean(), rel=1e-6)
    assert cells == len(columns["weight_day"]) > 200


@STUDIES
def test_incidence_by_arm_and_sex(read: Any, name: str) -> None:
    widget, _, frames = read(name)
    header, columns = unpack(widget.frame_bytes)
    of, frame = groups(widget), frames["mi"][frames["mi"]["MISTAT"] != "NOT DONE"]
    grade = {"MINIMAL": 1, "MILD": 2, "MODERATE": 3, "MARKED": 4, "SEVERE": 5}
    total = widget.findings.filter(domain="mi").group_by("organ", "finding").agg(pl.col("n").sum())
    asked = [("GLAND, ADRENAL", "VACUOLIZATION"), *total.sort("n", descending=True).rows()[:5]]
    for organ, finding, *_ in asked:
        places = [(f["domain"], f["organ"], f["finding"].upper()) for f in header["findings"]]
        i = places.index(("mi", organ, finding.upper()))
        for (dose, kind), g in of.items():
            cell, of_arm = i * len(of) + g, frame[(frame["dose"] == dose) & (frame["kind"] == kind)]
            own = of_arm[of_arm["MISPEC"] == organ]
            hit = own[own["MISTRESC"].str.upper() == finding.upper()]
            who = [header["subjects"][k] for k in columns["hit"][slice(*columns["hit_start"][cell : cell + 2])]]
            assert sorted(who) == sorted(hit["USUBJID"].unique())
            for s, sex in enumerate(header["sexes"]):
                assert columns["looked"][3 * cell + s] == own[own["SEX"] == sex]["USUBJID"].nunique()
            worst = hit.assign(grade=hit["MISEV"].map(grade)).groupby("USUBJID")["grade"].max()
            found = columns["grade"][slice(*columns["hit_start"][cell : cell + 2])]
            assert np.nansum(found) == np.nansum(worst)
