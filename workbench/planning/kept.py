"""A plan at rest: two inert files in one folder, written whole or not at all, opened only when the digest holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from workbench import durable, home
from workbench.planning import calibration, factors
from workbench.planning.plan import Plan, PlanError
from workbench.study import Study

VERSION = 1
CONFIG, ARRAYS = "plan.json", "plan.safetensors"


def place(study: Study, endpoint: str, predictor: str, params: Mapping[str, Any] | None = None, seed: int = 0) -> Path:
    """Where the plan of a whole study lies: one folder for each study digest, endpoint and predictor."""
    told = json.dumps([VERSION, study.digest, endpoint, predictor, dict(params or {}), seed], sort_keys=True)
    return home.home() / "plans" / f"{study.name}-{predictor}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def save(plan: Plan, folder: Path, replace: bool = False) -> Path:
    """Write the plan as two inert files, whole or not at all."""
    from safetensors.numpy import save as pack

    arrays = {
        "means": plan.means.astype(np.float32),
        "average": plan.average,
        "spread": plan.spread,
        "share": plan.share,
        "offset": plan.factors.offset,
        "loadings": plan.factors.loadings,
        "noise": plan.factors.noise,
        "ks": plan.calibration.ks,
        "scale": plan.calibration.scale,
        "rms": plan.calibration.rms,
        "line": plan.calibration.line,
        "factor": plan.calibration.factor,
    }
    data = pack({name: np.ascontiguousarray(value) for name, value in arrays.items()})
    told = {
        "version": VERSION,
        "facts": plan.facts,
        "subjects": plan.subjects,
        "treatments": plan.treatments,
        "compounds": plan.compounds,
        "log_likelihood": plan.factors.log_likelihood,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with durable.beside(folder) as temporary:
        durable.write_synced(temporary / CONFIG, json.dumps(told, sort_keys=True).encode())
        durable.write_synced(temporary / ARRAYS, data)
        durable.put(temporary, folder, replace)
    return folder


def load(folder: Path) -> Plan:
    """A saved plan; its numbers are opened only when their digest holds.

    Raises
    ------
    FileNotFoundError
        There is none.
    PlanError
        Its files are damaged, or of another version.
    """
    from safetensors.numpy import load as unpack

    durable.recover(folder)
    told = json.loads((folder / CONFIG).read_bytes())
    if told.get("version") != VERSION:
        raise PlanError(f"{folder} holds a plan of version {told.get('version')}, expected {VERSION}. Fit it again.")
    data = (folder / ARRAYS).read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != told["sha256"]:
        raise PlanError(
            f"{folder / ARRAYS} has SHA-256 {found[:12]}..., expected {told['sha256'][:12]}...: it was changed or "
            "damaged, and was not opened. Fit the plan again."
        )
    a = unpack(data)
    return Plan(
        told["facts"],
        told["subjects"],
        told["treatments"],
        told["compounds"],
        a["means"].astype(np.float64),
        a["average"],
        a["spread"],
        a["share"],
        factors.Factors(a["offset"], a["loadings"], a["noise"], told["log_likelihood"]),
        calibration.Calibration(a["ks"], a["scale"], a["rms"], a["line"], a["factor"]),
    )
