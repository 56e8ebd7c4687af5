"""The folder is the registry: list and load the files of a room.

A room is a package whose every public file is one thing of one kind (a modality, a predictor,
a source ...). Dropping a file in the folder registers it; there is no list to edit.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from workbench.text import nearest


def names(room: str) -> list[str]:
    """Names of the files in ``room`` (a dotted package name), sorted, without private ones."""
    package = importlib.import_module(room)
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def load(room: str, name: str) -> ModuleType:
    """Import file ``name`` of ``room``; an unknown name raises KeyError with the nearest one."""
    known = names(room)
    if name not in known:
        raise KeyError(f"{room} has no {name!r}.{nearest(name, known)} It has: {', '.join(known)}.")
    return importlib.import_module(f"{room}.{name}")
