"""How a federation was trained, out of the table ``[federation]`` that its run recorded, in words for the board."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METHODS = {
    "means": "means of the union", "ridge": "exact ridge, from sums over the sites",
    "private_ridge": "ridge from sums with noise", "network": "a network",
    "pretraining": "an encoder learnt together without responses, then a network",
}  # fmt: skip
IN_ROUNDS = ("network", "pretraining")
RAISED = dict(zip("-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079", strict=True))


def plan_of(run: Any) -> dict[str, Any]:
    """``run.params["federation"]`` with the number of folds under ``folds``; {} of a run that is no federation."""
    told = dict(run.params.get("federation") or {})
    if told:
        only = run.params.get("only") or range(int(run.params.get("folds") or 1))
        told["folds"] = len(only)
    return told


def facts(plan: Mapping[str, Any]) -> list[list[str]]:
    """[[what, how]] in the order of reading; empty without a plan."""
    if not plan:
        return []
    settings = plan.get("settings") or {}
    method = str(plan.get("method", ""))
    rounds = f", in {plan.get('rounds')} rounds" if method in IN_ROUNDS else ""
    strategy = f", {settings['strategy']}" if settings.get("strategy") else ""
    rule = settings.get("rule")
    combined = (
        f"by the robust rule {rule!r}, which expects {settings.get('bad', 0)} that lie" if rule
        else "by mean: one site that lies can spoil it" if method in IN_ROUNDS
        else "by sums: one site that lies can spoil them"
    )  # fmt: skip
    seen = "secure sums: the server sees the total and no site's part" if plan.get("secure") else (
        "the server sees each site's own answers"
    )  # fmt: skip
    gate = (
        "policy, checks for rows and a book of all that left" if plan.get("gated")
        else "policy alone: a rehearsal without the whole gate"
    )  # fmt: skip
    planted = [f"{site}: {told.get('fault')}" for site, told in (plan.get("faults") or {}).items()]
    return [
        ["Trained", f"{METHODS.get(method, method)}{rounds}{strategy}"], ["Answers combined", combined],
        ["Seen", seen], ["Privacy", _privacy(plan)], ["Each answer passed", gate],
        ["Fewest sites", f"{plan.get('least', 1)}; with fewer it stops"],
        *([["Faults planted on purpose", "; ".join(planted)]] if planted else []),
    ]  # fmt: skip


def limit(plan: Mapping[str, Any]) -> float | None:
    """The epsilon that was agreed for all folds together; None where none was."""
    asked = float((plan.get("settings") or {}).get("epsilon") or 0.0)
    return asked * int(plan.get("folds", 1)) or None


def exact(plan: Mapping[str, Any]) -> bool:
    """True where it is known that no noise was added, so that epsilon has no bound."""
    settings = plan.get("settings") or {}
    return bool(plan) and not settings.get("privacy") and plan.get("method") != "private_ridge"


def _privacy(plan: Mapping[str, Any]) -> str:
    settings, own = plan.get("settings") or {}, plan.get("policy") or {}
    if exact(plan):
        return "none added: answers are exact"
    epsilon, noise = settings.get("epsilon"), settings.get("noise")
    many = " in each fold" if int(plan.get("folds", 1)) > 1 else ""
    cost = f"epsilon {epsilon:g} at delta {_small(float(settings.get('delta', 1e-5)))} agreed{many}" if epsilon else (
        f"noise {noise:g} times the clip" if noise else "epsilon not told"
    )  # fmt: skip
    whose = "site" if settings.get("privacy") == "site" else "person"
    stop = f"; a site stops at {own['epsilon']:g}" if own.get("epsilon") else ""
    return f"differential privacy of each {whose}: {cost}{stop}"


def _small(value: float) -> str:
    """A power of ten as people write it: 0.00001 is 10 with a raised -5."""
    front, power = f"{value:.0e}".split("e")
    raised = "".join(RAISED[c] for c in str(int(power)))
    times = "" if front == "1" else f"{front}\u00d7"
    return f"{times}10{raised}"
