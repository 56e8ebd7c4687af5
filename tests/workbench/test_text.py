"""Words for people."""

from __future__ import annotations

from workbench.text import in_order


def test_names_stand_as_people_count() -> None:
    assert in_order(["site 10", "site 2", "site 1"]) == ["site 1", "site 2", "site 10"]
    assert in_order(["lung", "blood", "3rd", "gut 2b", "gut 2a"]) == ["3rd", "blood", "gut 2a", "gut 2b", "lung"]
