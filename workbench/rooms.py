"""The folder is the registry: list and load the files of a room.

A room is a package whose every public file is one thing of one kind (a modality, a predictor,
a source ...). Dropping a file in the folder registers it; there is no list to edit.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import time
from types import ModuleType

from workbench.text import nearest

SETTLED_NS = 2_000_000_000  # a folder changed this lately may change again within one tick of its clock

_listed: dict[str, tuple[tuple[tuple[str, int], ...], list[str]]] = {}


def names(room: str) -> list[str]:
    """Names of the files in ``room`` (a dotted package name), sorted, without private ones."""
    package = importlib.import_module(room)
    state = _state(package)
    held = _listed.get(room)
    if state and held is not None and held[0] == state:
        return list(held[1])
    found = sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))
    if state and time.time_ns() - max(changed for _, changed in state) > SETTLED_NS:
        _listed[room] = (state, found)
    return list(found)


def load(room: str, name: str) -> ModuleType:
    """Import file ``name`` of ``room``; an unknown name raises KeyError with the nearest one."""
    known = names(room)
    if name not in known:
        raise KeyError(f"{room} has no {name!r}.{nearest(name, known)} It has: {', '.join(known)}.")
    return importlib.import_module(f"{room}.{name}")


def _state(package: ModuleType) -> tuple[tuple[str, int], ...]:
    """(folder, when an entry last came or went [ns]) of each folder of a room; () where one is no folder."""
    try:
        return tuple((p, os.stat(p).st_mtime_ns) for p in package.__path__)
    except OSError:
        return ()
