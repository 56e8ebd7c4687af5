"""Packages of the extra ``federation``: a missing one names feature, package and the command that installs it."""

from __future__ import annotations

import importlib
from types import ModuleType


class MissingError(RuntimeError):
    """A feature needs a package that is not installed."""


def need(feature: str, package: str) -> ModuleType:
    """Import ``package``, or raise MissingError that names ``feature`` and the command to install it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingError(
            f"{feature} needs the package {package} ({error}). "
            "Install it with: pip install 'translational-workbench[federation]'"
        ) from None
