"""Faults that a federation file plants in sites of a simulation, to see them found before real institutions meet.

    [federation.faults]
    "site 2" = { fault = "counts", times = 1000.0 }                    # a fault of ``faults.FAULTS``, and its options
    "site 3" = { fault = "gone", rounds = [3, 4] }                     # comes back in round 5
    "site 4" = { fault = "mirrored" }                                  # labels turned round: no answer shows it
    "site 5" = { fault = "slow", seconds = 5.0, purposes = ["network_round"] }

``rounds`` are those of the ledger and of what is printed: every question counts, those before training too. Without
``rounds`` and ``purposes`` the fault shows always. Real sites never read this: a server's file that has it is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from workbench import rooms
from workbench.federated.robust.faults import FAULTS, BadSite, mirrored
from workbench.federated.site import ASKED, Site
from workbench.text import nearest

MIRRORED = "mirrored"
WHERE = ("rounds", "purposes")


class PlantedError(ValueError):
    """A fault cannot be planted so; names the site, the key and what there is."""


def check(faults: Mapping[str, Any], where: str) -> None:
    """Raise PlantedError where one of ``faults``, {site: {"fault": name, ...}}, is none or takes no such option."""
    names = [*FAULTS, MIRRORED]
    for site, told in faults.items():
        at = f"{where}: {site!r}"
        if not isinstance(told, Mapping) or not isinstance(told.get("fault"), str):
            raise PlantedError(f'{at} should say {{ fault = "nan" }}, one of {", ".join(names)}; found {told!r}.')
        if told["fault"] not in names:
            raise PlantedError(
                f"{at}: no fault {told['fault']!r}.{nearest(told['fault'], names)} Known: {', '.join(names)}."
            )
        takes = _options(told["fault"])
        for key, value in told.items():
            if key == "fault":
                continue
            if key not in takes:
                raise PlantedError(
                    f"{at}: unknown key {key!r}.{nearest(key, takes)} Known: {', '.join(takes) or 'none'}."
                )
            if not _fits(key, value, takes[key]):
                raise PlantedError(f"{at}: {key} should be like {takes[key]!r}, found {value!r}.")
        for purpose in told.get("purposes", ()):
            if purpose not in (known := rooms.names(ASKED)):
                raise PlantedError(f"{at}: nobody is asked for {purpose!r}.{nearest(purpose, known)}")


def spoilt(site: Site, told: Mapping[str, Any]) -> Site | BadSite:
    """``site`` with the fault that ``told`` plants in it; options are those ``check`` let pass."""
    if told["fault"] == MIRRORED:
        return mirrored(site)
    options = {k: v for k, v in told.items() if k not in ("fault", *WHERE)}
    rounds, purposes = (frozenset(told[k]) if k in told else None for k in WHERE)
    return BadSite(site, told["fault"], options, rounds, purposes)


def _options(fault: str) -> dict[str, Any]:
    """{key: an example of its value} that a fault takes."""
    if fault == MIRRORED:
        return {}
    parameters = inspect.signature(FAULTS[fault]).parameters.values()
    own = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    return {"rounds": [3], "purposes": ["network_round"]} | own


def _fits(key: str, value: Any, example: Any) -> bool:
    if key in WHERE:
        return isinstance(value, list | tuple) and bool(value) and all(type(v) is type(example[0]) for v in value)
    if isinstance(example, bool) or isinstance(value, bool):
        return isinstance(example, bool) and isinstance(value, bool)
    if isinstance(example, int | str):
        return isinstance(value, type(example))
    return isinstance(value, int | float) and value == value
