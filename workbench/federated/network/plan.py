"""What all sites share before the first round of a network: names, scalers, axes, and how it is put together.

    r_m = (x_m - mean_m) / sd_m  V_m / scale_m          m: a modality of the subject; V_m: axes that all sites share

Everything here was made from sums over sites; a site gets it with an ask and keeps it by its digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from workbench.federated.messages import Ask, Value
from workbench.federated.site import SiteError
from workbench.nn.scaling import Rotation
from workbench.predictors._closed_form import STRUCTURE, ClosedForm

PARTS = ("mean", "sd", "axes", "scale")
NEEDS = "this site does not hold the plan of this training"  # the server answers by sending it along


@dataclass(frozen=True)
class Plan:
    """Shared preparation of a DrugResponse.

    Attributes
    ----------
    params : of the predictor (``DrugResponse.params``)
    treatments : names, sorted, of all sites together: T
    columns : {modality: feature names}, in order; subject modalities in the order of the fusion
    rotations : {modality: Rotation}, and that of the drug structure where it is used
    structure : rotated structure of each treatment (T, c)
    endpoint, unit : what is predicted; sites convert to the unit
    alias : {name of a treatment at a site: agreed name}
    """

    params: Mapping[str, Any]
    treatments: list[str]
    columns: dict[str, list[str]]
    rotations: dict[str, Rotation]
    structure: np.ndarray
    endpoint: str
    unit: str
    alias: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [m for m in self.columns if m != STRUCTURE]

    def arrays(self) -> dict[str, np.ndarray]:
        out = {"plan.structure": self.structure}
        for m, rotation in self.rotations.items():
            for part in PARTS:
                out[f"plan.{m}.{part}"] = np.atleast_1d(np.asarray(getattr(rotation, part)))
        return out

    def values(self) -> dict[str, Value]:
        told: dict[str, Value] = {"modalities": list(self.columns), "treatments": self.treatments}
        told |= {f"columns.{m}": c for m, c in self.columns.items()}
        told |= {"endpoint": self.endpoint, "unit": self.unit}
        told |= {"alias_from": list(self.alias), "alias_to": list(self.alias.values())}
        return told | {"parameters": json.dumps(dict(self.params))}

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        if "_digest" not in self.__dict__:
            h = hashlib.sha256(json.dumps(self.values(), sort_keys=True).encode())
            for name, array in sorted(self.arrays().items()):
                h.update(name.encode() + str(array.dtype).encode() + np.ascontiguousarray(array).tobytes())
            self.__dict__["_digest"] = h.hexdigest()
        return self.__dict__["_digest"]

    @classmethod
    def read(cls, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> Plan:
        """From what ``arrays`` and ``values`` gave, sent or kept."""
        columns = {m: list(values[f"columns.{m}"]) for m in values["modalities"]}
        rotations = {
            m: Rotation(
                arrays[f"plan.{m}.mean"],
                arrays[f"plan.{m}.sd"],
                arrays[f"plan.{m}.axes"],
                float(arrays[f"plan.{m}.scale"][0]),
            )
            for m in columns
            if f"plan.{m}.axes" in arrays
        }
        params = json.loads(values["parameters"])
        params["modalities"] = tuple(params["modalities"])
        alias = dict(zip(values["alias_from"], values["alias_to"], strict=True))
        return cls(
            params, list(values["treatments"]), columns, rotations, arrays["plan.structure"],
            str(values["endpoint"]), str(values["unit"]), alias,
        )  # fmt: skip

    def with_structure(self, structure: np.ndarray) -> Plan:
        return replace(self, structure=structure)

    def ask(
        self,
        purpose: str,
        round: int = 0,
        arrays: Mapping[str, np.ndarray] | None = None,
        values: Mapping[str, Value] | None = None,
        *,
        carry: bool = False,
    ) -> Ask:
        """An ask that rests on this plan; with ``carry`` the plan goes along."""
        own = dict(values or {}) | {"plan": self.digest}
        if not carry:
            return Ask(purpose, round, dict(arrays or {}), own)
        return Ask(purpose, round, self.arrays() | dict(arrays or {}), self.values() | own)

    def closed_form(self) -> ClosedForm:
        """A ClosedForm with these scalers and axes, still without weights; it names no subject."""
        made = ClosedForm(self.names, STRUCTURE in self.rotations)
        made.treatments = self.treatments
        for m, rotation in self.rotations.items():
            made._keep(m, rotation, self.columns[m])
        return made


def carried(ask: Ask) -> Plan:
    """The plan that came with an ask, proven by its digest; raises SiteError where none came or it is another."""
    if "plan.structure" not in ask.arrays:
        raise SiteError(f"{NEEDS}.")
    plan = Plan.read(ask.arrays, ask.values)
    if plan.digest != ask.values.get("plan"):
        raise SiteError("the plan that came is not the one its digest names.")
    return plan
