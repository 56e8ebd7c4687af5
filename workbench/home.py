"""Where the workbench keeps what it makes: studies, runs, checkpoints and fetched archives.

One home, whatever the working directory: ``$WORKBENCH_HOME`` when set, else ``.workbench`` beside
the checkout this package is installed from, else ``~/.workbench``. Fetched archives are shared
between homes in the user's cache (``$WORKBENCH_CACHE``, else ``$XDG_CACHE_HOME`` or ``~/.cache``).
"""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The workbench's folder (not created here)."""
    named = os.environ.get("WORKBENCH_HOME")
    if named:
        return Path(named).expanduser().resolve()
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "pyproject.toml").is_file():
        return checkout / ".workbench"
    return Path.home() / ".workbench"


def cache() -> Path:
    """The user's cache of fetched archives (not created here)."""
    named = os.environ.get("WORKBENCH_CACHE")
    if named:
        return Path(named).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "translational-workbench"


def studies() -> Path:
    """Folder of the studies, one folder each."""
    return home() / "studies"


def checkpoints() -> Path:
    """Folder of training checkpoints, one folder per run, predictor and fold."""
    return home() / "checkpoints"


def tracking_uri() -> str:
    """MLflow's tracking address: one sqlite file in the home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"


def artifacts() -> Path:
    """Folder of MLflow's artifacts."""
    return home() / "artifacts"
