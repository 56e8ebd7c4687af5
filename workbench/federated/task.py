"""Between the room's words and Flower's: an Ask or Reply as a RecordDict and back, and the Site behind a node.

Arrays travel as .npy bytes without pickle, so any numeric dtype arrives to the bit; settings as plain values. What one
process opened for a run (study, fold, site with its memory) it keeps for the next message of that run.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from workbench import home
from workbench.federated import npy, sharing, spec
from workbench.federated import policy as policies
from workbench.federated.messages import Ask, MessageError, Reply, Value
from workbench.federated.needed import need
from workbench.federated.pretraining import unlabelled
from workbench.federated.site import Site, SiteError
from workbench.splits import Fold
from workbench.study import Study, find

if TYPE_CHECKING:
    from flwr.app import RecordDict

NUMPY = "numpy.ndarray"  # Flower's word for .npy bytes
MESSAGE_TYPE = "query"  # of Flower's three the one without a meaning of its own: asks know theirs

_sites: dict[tuple[int, str], Site] = {}
_folds: dict[tuple[str, int], tuple[Fold, dict[str, list[str]]]] = {}
_free: dict[str, Any] = {}  # subjects without responses of the fold opened last
_lock = threading.RLock()


def flower() -> Any:
    """Flower's package ``flwr.app``; raises ``needed.MissingError`` where it is not installed."""
    need("a federation with Flower", "flwr")
    import flwr.app

    return flwr.app


# --- Ask and Reply as records ----------------------------------------------------------------------------------------


def content(message: Ask | Reply) -> RecordDict:
    """The RecordDict that carries an Ask or a Reply.

    Raises
    ------
    MessageError
        A whole number beyond 64 bits.
    """
    app = flower()
    about: dict[str, Value] = {"purpose": message.purpose, "round": message.round}
    if isinstance(message, Reply):
        about |= {"site": message.site, "rows": message.rows}
        about |= {} if message.refused is None else {"refused": message.refused}
    for name, value in (*message.values.items(), *about.items()):
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, int) and not -(2**63) <= part < 2**63:
                raise MessageError(f"{message.purpose!r}: value {name!r} is {part}, beyond 64 bits; send an array.")
    arrays = app.ArrayRecord({k: _array(np.asarray(v)) for k, v in message.arrays.items()})
    return app.RecordDict(
        {"arrays": arrays, "values": app.ConfigRecord(dict(message.values)), "about": app.ConfigRecord(about)}
    )


def ask_of(record: RecordDict) -> Ask:
    """The Ask a record carries; raises MessageError where it carries none."""
    arrays, values, about = _parts(record, {"purpose": str, "round": int})
    return Ask(cast(str, about["purpose"]), cast(int, about["round"]), arrays, values)


def reply_of(record: RecordDict) -> Reply:
    """The Reply a record carries; raises MessageError where it carries none."""
    arrays, values, about = _parts(record, {"purpose": str, "round": int, "site": str, "rows": int})
    refused = about.get("refused")
    if refused is not None and not isinstance(refused, str):
        raise MessageError("message: the reason of a refusal should be a text.")
    return Reply(
        cast(str, about["site"]), cast(str, about["purpose"]), cast(int, about["round"]), cast(int, about["rows"]),
        arrays, values, refused,
    )  # fmt: skip


def size(record: RecordDict) -> int:
    """Bytes of a record as it travels: .npy bytes, names and values; Flower's own envelope is not counted."""
    total = sum(len(k) + len(a.data) for r in record.array_records.values() for k, a in r.items())
    for config in record.config_records.values():  # not count_bytes, which fails on an empty list (flwr 1.41)
        for name, value in config.items():
            parts = value if isinstance(value, list) else [value]
            total += len(name) + sum(len(p.encode()) if isinstance(p, str) else 8 for p in parts)
    return total


def _parts(record: RecordDict, wanted: Mapping[str, type]) -> tuple[dict[str, np.ndarray], dict[str, Any], dict]:
    try:
        about = dict(record.config_records["about"])
        values = dict(record.config_records["values"])
        arrays = {k: _numbers(a) for k, a in record.array_records["arrays"].items()}
    except (KeyError, ValueError, TypeError, EOFError, OSError, MemoryError, SyntaxError) as error:
        raise MessageError(f"message: its arrays and values cannot be read ({type(error).__name__}).") from None
    for key, kind in wanted.items():
        if type(about.get(key)) is not kind:
            raise MessageError(f"message: expected {key} as {kind.__name__}, found {type(about.get(key)).__name__}.")
    return arrays, values, about


def _array(array: np.ndarray) -> Any:
    return flower().Array(str(array.dtype), array.shape, NUMPY, npy.packed(array))


def _numbers(array: Any) -> np.ndarray:
    if array.stype != NUMPY:
        raise TypeError(f"an array of {array.stype!r}")
    return npy.unpacked(array.data)


# --- the Site behind a node ------------------------------------------------------------------------------------------


def run_config(federation: spec.Federation, number: int) -> dict[str, str | int]:
    """What server and sites are told of a run: the federation as JSON, and which fold."""
    return {"federation": json.dumps(federation.plain()), "fold": number}


def told(config: Mapping[str, Any]) -> tuple[spec.Federation, int]:
    """Undo ``run_config``."""
    if "federation" not in config:
        raise SiteError("the run says nothing of a federation; start it by `workbench federate`.")
    return spec.of(json.loads(str(config["federation"])), "run"), int(config.get("fold", 0))


def opened(federation: spec.Federation, number: int) -> tuple[Fold, dict[str, list[str]]]:
    """Fold ``number`` of a simulation and {site: subjects}; opened once in a process."""
    study = Study.open(find(federation.experiment.study))
    key = (json.dumps([study.digest, federation.plain()], sort_keys=True), number)
    with _lock:
        if key not in _folds:
            fold = federation.divide(study).fold(number)
            _folds.clear()  # one at a time: a study is large
            dealt = federation.dealt(fold)
            if (share := _responses(federation)) < 1:
                fold = unlabelled.few(fold, dealt, share, federation.experiment.seed)
            _folds[key] = (fold, dealt)
        return _folds[key]


def site(run_id: int, config: Mapping[str, Any], node: Mapping[str, Any]) -> Site:
    """The site of a node, the same object for every message of a run that this process answers.

    Parameters
    ----------
    config : ``run_config``
    node : "partition-id" in a simulation; at a real site "name", "study" (folder), "policy" (TOML file) and "ledger"
        (folder)
    """
    key = (run_id, str(node.get("name", node.get("partition-id"))))
    with _lock:
        if key not in _sites:
            for old in [k for k in _sites if k[0] != run_id]:
                del _sites[old]
            federation, number = told(config)
            _sites[key] = _real(federation, number, node) if "study" in node else _simulated(federation, number, node)
        return _sites[key]


def forget(run_id: int) -> None:
    """Drop this process's sites of a run that has ended, and all that they kept: rows, networks, answers."""
    with _lock:
        for key in [k for k in _sites if k[0] == run_id]:
            del _sites[key]


def simulated(federation: spec.Federation, number: int) -> list[Site]:
    """Every site of a simulation, in this process."""
    fold, dealt = opened(federation, number)
    return [_site(federation, fold, name, subjects) for name, subjects in dealt.items()]


def _simulated(federation: spec.Federation, number: int, node: Mapping[str, Any]) -> Site:
    fold, dealt = opened(federation, number)
    name = list(dealt)[int(node["partition-id"])]
    return _site(federation, fold, name, dealt[name])


def _site(federation: spec.Federation, fold: Fold, name: str, subjects: list[str]) -> Any:
    """A simulated site, with the fault that the federation's file plants in it."""
    made = Site(name, sharing.local(fold, subjects), policies.of(federation.policy))
    made.unlabelled = free(federation, fold.number).get(name, ())
    if federation.gated:
        from workbench.federated.gate import outgoing as gate

        made.outgoing = gate.steps(book(federation, fold.number, name))
    elif made.policy.epsilon:  # a budget binds without books too, and through a kill
        from workbench.federated.gate.budget import Budget
        from workbench.federated.gate.ledger import Ledger
        from workbench.federated.gate.outgoing import BOOK, KEY

        place = budgets(federation, fold.number) / slug(name)
        made.outgoing = [Budget(Ledger(place / BOOK), place / KEY)]
    if name in federation.faults:
        from workbench.federated.robust import planted

        return planted.spoilt(made, federation.faults[name])
    return made


def free(federation: spec.Federation, number: int) -> dict[str, tuple[str, ...]]:
    """{site: its subjects without responses} of a simulation, where the method learns from them."""
    if not _learns_from_all(federation):
        return {}
    fold, dealt = opened(federation, number)
    with _lock:
        if _free.get("of") is not fold:
            _free.update(of=fold, dealt=unlabelled.dealt(fold, dealt, federation.sites))
        return _free["dealt"]


def _responses(federation: spec.Federation) -> float:
    """Share of the training persons that keep their responses, where a rehearsal takes some away."""
    return float(federation.settings.get("responses", 1.0)) if federation.method == "pretraining" else 1.0


def _learns_from_all(federation: spec.Federation) -> bool:
    return federation.method == "pretraining" and bool(federation.settings.get("unlabelled", True))


def book(federation: spec.Federation, number: int, site: str) -> Path:
    """Folder of a simulated site's ledger, in the home; another plan has books of its own, as another site would."""
    plan = hashlib.sha256(json.dumps(federation.plain(), sort_keys=True).encode()).hexdigest()[:8]
    return home.home() / "federations" / f"{slug(federation.name)} {plan}" / f"fold {number}" / slug(site)


def budgets(federation: spec.Federation, number: int) -> Path:
    """Folder of what simulated sites without a gate have charged, while their training lasts; then it goes."""
    return book(federation, number, "budgets").with_name("budgets of a training")


def slug(name: str) -> str:
    """``name`` as one folder: what a path may not hold becomes ``_``."""
    return re.sub(r"[^A-Za-z0-9_. -]+", "_", name).strip(". ") or "_"


def _real(federation: spec.Federation, number: int, node: Mapping[str, Any]) -> Site:
    from workbench.federated.gate import outgoing as gate

    if _responses(federation) < 1:
        raise SiteError("settings.responses takes responses away, to rehearse; a real site learns from those it has.")
    fold = federation.divide(Study.open(str(node["study"]))).fold(number)
    policy = policies.read(str(node["policy"]))
    made = Site(str(node["name"]), fold, policy, gate.steps(str(node["ledger"])))
    if _learns_from_all(federation):
        made.unlabelled = tuple(unlabelled.of(fold))
    if "roster" in node:
        from workbench.federated.secure import roster

        made.memory["secure"] = {"roster": roster.read(made.name, str(node["key"]), str(node["roster"]))}
    return made
