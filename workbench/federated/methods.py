"""How each predictor is trained by sites together: one function a method, found by name.

    fit(sites, settings, state, keep, say) -> a fitted predictor

``sites`` is any ``Sites``. ``settings`` holds the file's ``[federation.settings]`` and ``predictor``, ``parameters``
(of the predictor), ``rounds``, ``least``, ``seed`` and ``endpoint``. ``keep(round, arrays, values)`` is called after
each round; ``state`` is what it last got, as ``(round, arrays, values)``, or None at the start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.federated.messages import Ask, Value
from workbench.federated.settings import typed
from workbench.federated.site import NO_MODALITY
from workbench.federated.sites import Sites, TooFewSites, enough
from workbench.federated.state import State
from workbench.text import nearest

Keep = Callable[[int, Mapping[str, np.ndarray], Mapping[str, Value]], None]
Say = Callable[[float, str], None]
Fit = Callable[[Sites, Mapping[str, Any], State | None, Keep | None, Say | None], Any]


WIDE = 1.6448536269514722  # quantile of the standard normal distribution at 95 %


class MethodError(ValueError):
    """A predictor cannot be trained by sites together, or a setting is unknown; says why and what can."""


@dataclass(frozen=True)
class Method:
    """One way to train together: for which predictors, by which function, with which settings; has it rounds?"""

    predictors: tuple[str, ...]
    fit: Fit
    settings: Callable[[], Mapping[str, Any]] = dict
    rounds: bool = True


def _means(sites: Sites, settings: Mapping[str, Any], state: State | None, keep: Keep | None, say: Say | None) -> Any:
    """Means of the union by treatment; half-widths as if values were normal around them (1.645 sd: 90 %)."""
    from workbench import predictors
    from workbench.predictors._widths import HalfWidths

    met = sites.ask(Ask("schema", values={"modality": settings.get("modality", "expression")}))
    try:
        enough(Ask("schema"), met, int(settings.get("least", 1)))
    except TooFewSites as few:
        if NO_MODALITY not in str(few):
            raise
        raise TooFewSites(f"{few} Means need none of it: name one that the sites have, settings.modality.") from None
    names = sorted({str(t) for r in met.replies for t in r.values.get("treatments", [])})  # type: ignore[union-attr]
    total, _ = sites.total(Ask("value_sums", values={"treatments": names}), int(settings.get("least", 1)))
    n = total["count"]
    if not n.sum():
        raise MethodError("no treatment has enough rows at any site for its mean to be told.")
    there = n > 0
    mean = total["sum"][there] / n[there]
    sd = np.sqrt(np.maximum(total["square"][there] / n[there] - mean**2, 0.0))
    whole = float(total["sum"].sum() / n.sum())
    spread = float(np.sqrt(max(total["square"].sum() / n.sum() - whole**2, 0.0)))
    known = [t for t, k in zip(names, there, strict=True) if k]
    by = settings["predictor"] == "drug_mean"
    keys, means = ([known], {"table0": mean}) if by else ([], {})
    widths = HalfWidths(known if by else [], WIDE * sd if by else np.zeros(0), WIDE * spread)
    predictor: Any = predictors.make(str(settings["predictor"]))
    predictor.load(
        {"params": {}, "keys": keys, "widths": widths.names},
        means | {"mean": np.array([whole]), "widths": widths.values, "pooled": np.array([widths.pooled])},
    )
    if keep is not None:
        keep(0, {"mean": mean}, {"rows": int(n.sum()), "mean": whole, "sd": spread})
    if say is not None:
        say(1.0, "means of the union")
    return predictor


def _ridge(sites: Sites, settings: Mapping[str, Any], state: State | None, keep: Keep | None, say: Say | None) -> Any:
    """Exact ridge from sums (``ridge``); the predictor's ``modality`` is a setting of it."""
    from workbench.federated.exact import ridge

    own = {k: v for k, v in settings.items() if k in ridge.settings()}
    return ridge.fit(sites, own | dict(settings["parameters"]), state, keep, say)


def _ridge_settings() -> Mapping[str, Any]:
    from workbench.federated.exact import ridge

    return {k: v for k, v in ridge.settings().items() if k not in TOLD}


def _private_ridge(
    sites: Sites, settings: Mapping[str, Any], state: State | None, keep: Keep | None, say: Say | None
) -> Any:
    """Ridge from sums under differential privacy (``private.ridge``); chosen by name: method = "private_ridge"."""
    from workbench.federated.private import ridge

    own = {k: v for k, v in settings.items() if k in ridge.settings()}
    return ridge.fit(sites, own | dict(settings["parameters"]), state, keep, say)


def _private_ridge_settings() -> Mapping[str, Any]:
    from workbench.federated.private import ridge

    return {k: v for k, v in ridge.settings().items() if k not in TOLD}


def _network(sites: Sites, settings: Mapping[str, Any], state: State | None, keep: Keep | None, say: Say | None) -> Any:
    """DrugResponse in rounds (``network``) by a strategy; a robust ``rule`` may stand in place of the mean.

    With ``privacy`` the rounds are differentially private (``private.training``).
    """
    from workbench.federated.network import fit as network
    from workbench.federated.private import training as private
    from workbench.federated.robust import rules as robust

    own = {k: v for k, v in settings.items() if k not in ROBUST}
    rule = str(settings.get("rule", ""))
    if settings.get("privacy"):
        if rule:
            raise MethodError("a robust rule cannot tell a wrong change from one with noise; give rule or privacy.")
        return private.fit(sites, own, state, keep, say)
    if idle := [k for k in own if k in private.settings() and k not in ("privacy", *network.settings())]:
        raise MethodError(f'{idle[0]} is of a private training; say privacy = "person" or "site" too.')
    own.pop("privacy", None)
    combine = robust.make(rule, int(settings.get("bad", 0)), bool(settings.get("mix", False))) if rule else None
    return network.fit(sites, own, state, keep, say, combine)


def _network_settings() -> Mapping[str, Any]:
    from workbench.federated.network import fit as network
    from workbench.federated.private import training as private

    return dict(network.settings()) | ROBUST | private.settings()


def _pretraining(
    sites: Sites, settings: Mapping[str, Any], state: State | None, keep: Keep | None, say: Say | None
) -> Any:
    """An encoder learnt together without responses, then DrugResponse in rounds from it (``pretraining``)."""
    from workbench.federated.pretraining import fit as pretraining

    return pretraining.fit(sites, settings, state, keep, say)


def _pretraining_settings() -> Mapping[str, Any]:
    from workbench.federated.network import fit as network
    from workbench.federated.pretraining import fit as pretraining

    return dict(network.settings()) | pretraining.settings()


ROBUST = {"rule": "", "bad": 0, "mix": False}  # see ``robust.make``; the server then sees each site's change
ELSEWHERE = {
    "predictor": 'predictors = ["{}"] at the top',
    "parameters": "[parameters.{}]",
    "rounds": "rounds in [federation]",
    "least": "least in [federation]",
    "seed": "seed at the top",
    "endpoint": "endpoint at the top",
    "modality": "modality in [parameters.{}]",
}
TOLD = tuple(ELSEWHERE)

METHODS: dict[str, Method] = {
    "means": Method(("drug_mean", "global_mean"), _means, lambda: {"modality": "expression"}, rounds=False),
    "ridge": Method(("ridge",), _ridge, _ridge_settings, rounds=False),
    "private_ridge": Method(("ridge",), _private_ridge, _private_ridge_settings, rounds=False),
    "network": Method(("drug_response",), _network, _network_settings),
    "pretraining": Method(("drug_response",), _pretraining, _pretraining_settings),
}

WHY = {  # said when such a predictor is asked for
    "trees": "a boosted tree's splits are found by looking at all rows at once, which nobody may",
    "forest": "its trees are grown on pairs of lines that would have to meet at one site",
    "stacked_kernels": "its kernel compares lines of two sites feature by feature, so whole rows would have to travel",
    "mean_effects": "a line's effect needs its rows, which one site alone has; train drug_mean, or ridge",
}
NEVER = "its fit needs all rows in one place"


def of(predictor: str) -> str:
    """Name of the method that trains ``predictor``; raises MethodError where there is none."""
    for name, method in METHODS.items():
        if predictor in method.predictors:
            return name
    from workbench import predictors

    can = [p for m in METHODS.values() for p in m.predictors]
    if predictor not in predictors.offered():
        known = predictors.offered()
        raise MethodError(f"unknown predictor {predictor!r}.{nearest(predictor, known)} Known: {', '.join(known)}.")
    raise MethodError(
        f"{predictor!r} cannot be trained by sites together: {WHY.get(predictor, NEVER)}. These can: {', '.join(can)}."
    )


def check(method: str, predictor: str, settings: Mapping[str, Any], where: str) -> None:
    """Raise MethodError where the method does not train ``predictor`` or knows no such setting.

    SettingError where a value has another type than the setting's.
    """
    entry = METHODS[method]
    if predictor not in entry.predictors:
        of(predictor)
        raise MethodError(f"{where}: method {method!r} trains {', '.join(entry.predictors)}; found {predictor!r}.")
    usual = entry.settings()
    for key in settings:
        if key not in usual:
            said = f" It is said elsewhere: {ELSEWHERE[key].format(predictor)}." if key in ELSEWHERE else ""
            raise MethodError(
                f"{where}: method {method!r} has no setting {key!r}.{said or nearest(key, usual)} "
                f"It has: {', '.join(usual) or 'none'}."
            )
    typed(f"{where}: [federation.settings]", usual, settings)
