"""The fitting benchmark, on a few curves: both sides solve the same problem, and its rows say what they compare."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.benches import curves


def test_both_sides_fit_the_same_curves_and_ours_is_never_worse() -> None:
    y = curves.planted(40)
    _, mine = curves.ours(y)
    _, theirs = curves.peer(y)
    assert np.isfinite(mine).all()
    known = np.isfinite(theirs)
    assert known.mean() > 0.9
    assert (mine[known] <= curves.WITHIN * theirs[known]).mean() >= 0.995
    assert np.median(mine[known] / theirs[known]) == pytest.approx(1, abs=1e-3)


def test_the_model_and_its_slopes_agree() -> None:
    point, step = np.array([1.0, 0.2, 1.5, -1.0]), 1e-6
    exact = curves.slopes(curves.LOG_DOSES, *point)
    for k in range(4):
        up, down = point.copy(), point.copy()
        up[k] += step
        down[k] -= step
        change = (curves.model(curves.LOG_DOSES, *up) - curves.model(curves.LOG_DOSES, *down)) / (2 * step)
        assert exact[:, k] == pytest.approx(change, abs=1e-6)


def test_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "CURVES", 25)
    monkeypatch.setattr(curves, "MANY", 2000)
    monkeypatch.setattr(curves, "ROUNDS", 1)
    rows = curves.run()
    assert all(set(row) == {"name", "ours", "peer", "unit", "ratio", "note"} for row in rows)
    default, jacobian, many, agreement = rows
    assert default["name"].startswith("25 curves") and many["name"].startswith("2,000 curves")
    assert default["ratio"] > 20 and many["ratio"] > 100 and jacobian["ratio"] > 10
    assert agreement["ours"] >= 0.99 and "ours failed on 0" in agreement["note"]
