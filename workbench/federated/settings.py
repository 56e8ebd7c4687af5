"""Settings of a method as a federation file gives them: types and combinations, judged before anything is trained.

What would do nothing where it stands is an error, as a misspelt key is: whoever wrote it meant something by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

COUNTING = ("trimmed_mean", "krum", "multi_krum", "bulyan", "spectral", "remembering")  # rules that ask how many lie
WITHSTANDS_NONE = ("mean",)
EXACT = ("axes", "share", "own", "keep_optimizer", "double", "rule", "bad", "mix")  # of rounds without noise
OTHER_UNIT = {  # of a private training by one unit, and nothing to the other
    "person": ("local_epochs", "proximal", "honest"),
    "site": ("rate", "local_steps", "persons", "learning_rate"),
}


class SettingError(ValueError):
    """A setting has another type, cannot be, or does nothing where it stands; says which, and what to do."""


def typed(where: str, usual: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise SettingError where a value has not the type of the default in ``usual``; numbers are finite."""
    for key, value in given.items():
        wanted, fits = _kind(usual[key])
        if not fits(value):
            raise SettingError(f"{where}: {key} should be {wanted}, found {value!r}.")


def check(method: str, predictor: str, given: Mapping[str, Any], parameters: Mapping[str, Any], rounds: int) -> None:
    """Raise a ValueError where settings of the right types cannot be, contradict each other or do nothing."""
    READ.get(method, lambda *_: None)(given, {"parameters": dict(parameters), "rounds": rounds})


def _ridge(given: Mapping[str, Any], _: Mapping[str, Any]) -> None:
    from workbench.federated.exact import ridge

    made = ridge.Settings.of(given)
    _between("share", made.share)
    for key in ("rough", "fine"):
        if not 0 < getattr(made, key) < 1:
            raise SettingError(f"{key} is a residual, above 0 and below 1; found {getattr(made, key):g}.")
    for key in ("least_axes", "rounds_inner"):
        if getattr(made, key) < 1:
            raise SettingError(f"{key} should be at least 1, found {getattr(made, key)}.")


def _private_ridge(given: Mapping[str, Any], _: Mapping[str, Any]) -> None:
    from workbench.federated.private import ridge

    _between("share", ridge.Settings.of(given).share)


def _network(given: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    from workbench.federated.private import training as private

    _rule(given)
    if given.get("privacy"):
        _private(given, told)
        return
    usual = private.settings()
    if idle := [k for k in given if k in usual and k != "privacy"]:
        raise SettingError(f'{idle[0]} is of a private training; say privacy = "person" or "site" too.')
    _exact({k: v for k, v in given.items() if k not in ("privacy", "rule", "bad", "mix")}, told)


def _pretraining(given: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    from workbench.federated.pretraining import fit as pretraining

    made = pretraining.Pretraining.of(given)
    if not made.pretraining_rate > 0:
        raise SettingError(f"pretraining_rate should be above 0, found {made.pretraining_rate:g}.")
    _exact({k: v for k, v in given.items() if k not in pretraining.settings()}, told)


def _exact(given: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    """A network in rounds without noise."""
    from workbench.federated.network import fit as network
    from workbench.federated.network import strategies

    made = network.Settings.of(dict(given) | dict(told))
    made.params()
    strategies.make(made.strategy, **made.options)
    _between("share", made.share)
    if made.proximal is not None and made.proximal < 0:
        raise SettingError(f"proximal should be at least 0, found {made.proximal:g}.")
    names = _layers()
    for prefix in made.own:
        if not prefix or not any(name.startswith(prefix) for name in names):
            raise SettingError(f"own names layers by the beginning of their names; {prefix!r} is none of {names}.")
    if made.own and all(name.startswith(made.own) for name in names):
        raise SettingError(f"own = {list(made.own)} keeps every layer at its site; nothing would be trained together.")


def _private(given: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    from workbench.federated.network import fit as network
    from workbench.federated.network import strategies
    from workbench.federated.private import training as private

    privacy, rest = private.Privacy.of(given)
    for key in (*EXACT, *OTHER_UNIT[privacy.privacy]):
        if key in given:
            raise SettingError(f"{key} does nothing in a training with privacy = {privacy.privacy!r}; leave it out.")
    made = network.Settings.of(rest | dict(told))
    made.params()
    strategies.make(made.strategy, **made.options)
    if privacy.privacy == "person" and made.strategy == "FedProx":
        raise SettingError('FedProx holds whole epochs of a site; with privacy = "person" there are none. Use FedAvg.')


def _rule(given: Mapping[str, Any]) -> None:
    """A robust rule with the number of liars that it needs; ``bad`` and ``mix`` without one."""
    from workbench.federated.robust import rules

    rule, bad, mix = str(given.get("rule", "")), int(given.get("bad", 0)), bool(given.get("mix", False))
    if bad < 0:
        raise SettingError(f"bad is a number of sites, 0 or more; found {bad}.")
    if not rule:
        if idle := [k for k in ("bad", "mix") if given.get(k)]:
            raise SettingError(f'{idle[0]} is of a robust rule; say which: rule = "median", say.')
        return
    if given.get("privacy"):
        raise SettingError("a robust rule cannot tell a wrong change from one with noise; give rule or privacy.")
    rules.make(rule, bad, mix)
    if rule in WITHSTANDS_NONE and (bad or mix):
        raise SettingError(
            f"rule {rule!r} withstands no liar, whatever bad and mix say; leave them out, or take median."
        )
    if mix and rule in rules.REMEMBERS:
        raise SettingError(f"rule {rule!r} does not mix as it is told to; leave mix out, or take another rule.")
    if not bad and (mix or rule in COUNTING):
        raise SettingError(
            f"rule {rule!r}{' with mix' * mix} withstands as many liars as bad says; say bad = 1, or more."
        )


def _layers() -> list[str]:
    """Names of what is trained in a DrugResponse, whatever its sizes."""
    from workbench.predictors.drug_response import DrugResponse

    made = DrugResponse(members=2, width=2, rank=2)
    made._build({"expression": 2}, 2, 2)
    return sorted({name.split(".")[0] for name, _ in made.named_parameters()})


def _between(key: str, value: float) -> None:
    if not 0 < value <= 1:
        raise SettingError(f"{key} should be above 0 and at most 1, found {value:g}.")


def _kind(usual: Any) -> tuple[str, Callable[[Any], bool]]:
    """Words for the type of a default, and whether a value has it."""
    if isinstance(usual, bool):
        return "true or false", lambda v: isinstance(v, bool)
    if isinstance(usual, int):
        return "a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)
    if usual is None or isinstance(usual, float):
        return "a number", _number
    if isinstance(usual, str):
        return "a text", lambda v: isinstance(v, str)
    if isinstance(usual, Mapping):
        return "a table of numbers", lambda v: isinstance(v, Mapping) and all(map(_number, v.values()))
    if usual and isinstance(usual[0], float):
        return "a list of numbers", lambda v: isinstance(v, list | tuple) and all(map(_number, v))
    return "a list of names", lambda v: isinstance(v, list | tuple) and all(isinstance(x, str) for x in v)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


READ: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], None]] = {
    "ridge": _ridge,
    "private_ridge": _private_ridge,
    "network": _network,
    "pretraining": _pretraining,
}
