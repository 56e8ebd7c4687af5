"""The planner without a front end: what it holds, what it refuses, and that the page computes what Python computes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import traitlets

from tests.widgets import planted_plan
from widgets import PilotPlanner
from widgets._parts import unpack

ROOT = Path(__file__).resolve().parents[2]

PAGE = """
import { readFileSync } from "node:fs";
import { unpack } from "ROOT/widgets/_parts.js";
import { between, covarianceOf, greedy, leftAfter, posterior } from "ROOT/widgets/_pilots.js";
const { header, columns } = unpack(new Uint8Array(readFileSync(process.argv[2])));
const t = header.treatments.length, values = JSON.parse(process.argv[3]);
const pairs = Object.entries(values).map(([name, v]) => [header.treatments.indexOf(name), v]);
const after = posterior(covarianceOf(columns.loadings, columns.noise), Array.from(columns.mean), pairs);
const known = header.treatments.map((name) => name in values), weights = Array(t).fill(1);
const order = greedy(after.covariance, 6, { weights, free: Array(t).fill(true), known });
const left = leftAfter(after.covariance, weights, known, order);
const scale = between(columns.ks, columns.scale, pairs.length);
const half = weights.map((_, d) => Math.sqrt(Math.max(after.covariance[d * t + d], 0)) * scale * columns.factor[d]);
const rmse = left.map((v, i) => Math.sqrt(v) * between(columns.ks, columns.rms, pairs.length + i));
console.log(JSON.stringify({ mean: [...after.mean], half, order: order.map((i) => header.treatments[i]), rmse }));
"""


def test_the_page_computes_what_python_computes(tmp_path: Path) -> None:
    node = shutil.which("node")
    if not node:
        pytest.skip("no node on this machine: the browser tests cover the same code")
    values = {"drug 03": 1.5, planted_plan.HOSTILE: -2.0, "drug 11": 0.25}
    widget = PilotPlanner(planted_plan.plan(), "line 0", measured=values, k=6)
    (tmp_path / "frame").write_bytes(widget.frame_bytes)
    (tmp_path / "page.mjs").write_text(PAGE.replace("ROOT", ROOT.as_posix()))
    said = subprocess.run(
        [node, str(tmp_path / "page.mjs"), str(tmp_path / "frame"), json.dumps(values)],
        capture_output=True,
        text=True,
        check=True,
    )
    page, here, next_ = json.loads(said.stdout), widget.predictions, widget.recommended
    np.testing.assert_allclose(page["mean"], here["predicted"].to_numpy(), atol=2e-6)
    np.testing.assert_allclose(page["half"], (here["high"] - here["predicted"]).to_numpy(), atol=2e-6)
    assert page["order"] == next_["treatment"].to_list()[1:]
    np.testing.assert_allclose(page["rmse"], next_["rmse"].to_numpy(), atol=2e-6)


def test_it_holds_the_plan_of_the_line_and_follows_values() -> None:
    plan = planted_plan.plan()
    widget = PilotPlanner(plan, "line 0", classes={"drug 01": "MEK"}, cost={"drug 01": 5.0, "drug 02": 7.0})
    header, columns = unpack(widget.frame_bytes)
    assert header["sample"] == "line 0" and header["unit"] == "ln(\u00b5M)" and header["classes"][1] == "MEK"
    np.testing.assert_allclose(columns["mean"], plan.mean("line 0"), atol=1e-6)
    assert np.isfinite(columns["cost"]).sum() == 2
    assert set(widget.recommended["treatment"].drop_nulls()) <= {"drug 01", "drug 02"}
    before = widget.predictions["predicted"].to_numpy()
    widget.values = {"drug 03": 4}
    after = widget.predictions
    assert after["measured"][3] == 4 and np.abs(after["predicted"].to_numpy() - before).max() > 0.1


def test_a_sample_that_nobody_knows_starts_at_the_means() -> None:
    plan = planted_plan.plan(predictor="drug_mean")
    header, columns = unpack(PilotPlanner(plan).frame_bytes)
    assert "nothing is known of its omics" in header["start"] and header["sample"] == ""
    np.testing.assert_allclose(columns["mean"], plan.average + plan.factors.offset, atol=1e-6)


def test_a_treatment_without_prediction_does_not_spoil_the_others() -> None:
    widget = PilotPlanner(planted_plan.plan(), "line 1", measured={"drug 04": 1.0, "drug 05": 1.0})
    found = widget.predictions
    assert found["predicted"].null_count() == 1 and found["predicted"][4] is None


@pytest.mark.parametrize(
    ("trait", "value", "told"),
    [
        ("values", {"drug 3": 1.0}, "Did you mean 'drug"),
        ("values", {"drug 03": "high"}, "could not convert"),
        ("values", {"drug 03": float("nan")}, "no number"),
        ("without", ["drug99"], "not a treatment"),
        ("interest", "MEKK", "Did you mean 'MEK'"),
        ("k", 0, "1 to 40"),
    ],
)
def test_what_makes_no_sense_is_refused(trait: str, value: object, told: str) -> None:
    widget = PilotPlanner(planted_plan.plan(), "line 0", classes={"drug 01": "MEK"})
    before = getattr(widget, trait)
    with pytest.raises(traitlets.TraitError, match=told):
        setattr(widget, trait, value)
    assert getattr(widget, trait) == before


def test_names_and_sizes_are_checked_at_once() -> None:
    with pytest.raises(ValueError, match="Did you mean 'drug 07'"):
        PilotPlanner(planted_plan.plan(), "line 0", cost={"drug07": 1.0})
    with pytest.raises(ValueError, match="has no line 'line 7'"):
        PilotPlanner(planted_plan.plan(), "line 7")
    with pytest.raises(ValueError, match="says nothing of 'bare'"):
        PilotPlanner(planted_plan.plan(), "bare")
    with pytest.raises(ValueError, match="up to 400"):
        PilotPlanner(planted_plan.plan(401), "line 0")
