"""Real data for tests: the folder beside the checkout, where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REAL = Path(os.environ.get("SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def shared(place: str) -> Path:
    """The file or folder ``place`` of the real data; where it is absent the test is skipped and says so."""
    path = REAL / place
    if not path.exists():
        pytest.skip(f"real data {place!r} lie in shared/data beside the checkout (or $SHARED_DATA): not found")
    return path
