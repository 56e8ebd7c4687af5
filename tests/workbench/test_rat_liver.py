"""Rats dosed with paracetamol, end to end: the folder opens, the picture shows dose and time, a liver enzyme rises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from tests.real import shared
from workbench import audits, folders
from workbench.embedding import coordinates
from workbench.study import Study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return folders.build(shared("rat_liver"), tmp_path / "rats")


def explained(places: np.ndarray, group: np.ndarray) -> float:
    """Share of the picture's variance that lies between the groups (PERMANOVA's R2, Anderson 2001)."""
    whole = ((places - places.mean(0)) ** 2).sum()
    within = sum(((places[group == g] - places[group == g].mean(0)) ** 2).sum() for g in np.unique(group))
    return float(1 - within / whole)


@pytest.mark.parametrize(("column", "least"), [("arm_dose", 0.35), ("time_h", 0.30)])
def test_the_picture_separates_dose_and_time(study: Study, column: str, least: float) -> None:
    frame = coordinates(study.modality("expression")).frame.join(study.subjects, left_on="name", right_on="subject")
    places, group = frame.select("x", "y").to_numpy(), frame[column].to_numpy()
    draw = np.random.default_rng(0)
    by_chance = [explained(places, draw.permutation(group)) for _ in range(999)]
    found = explained(places, group)
    assert found > least and found > max(by_chance), (found, max(by_chance))


def test_alanine_aminotransferase_rises_with_dose(study: Study) -> None:
    alt = study.outcomes.filter(pl.col("endpoint") == "ALT")
    assert alt["unit"].unique().to_list() == ["IU/L"] and alt.height == 64
    late = alt.filter(pl.col("time_h") >= 18)
    rho, p = stats.spearmanr(late["dose"], late["value"])
    assert rho > 0.7 and p < 1e-6, (rho, p)
    medians = alt.filter(pl.col("time_h") == 24).group_by("dose").agg(pl.col("value").median()).sort("dose")
    assert medians["value"].to_list() == [58.0, 69.5, 5666.0, 9425.0]


def test_the_audit_finds_nothing_wrong_that_is_not(study: Study) -> None:
    """The design is balanced and the values are those published: whatever is called an error or a warning is false."""
    found = audits.run(study).filter(pl.col("severity") != "note")
    assert found.select("check", "what").rows() == []
