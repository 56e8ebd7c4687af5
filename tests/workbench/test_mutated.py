"""Damaged files, 50 a reader: a value or a refusal, and the parent goes on; experiments/mutate_readers.py does more."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from types import ModuleType

import pytest

from tests.samples import OPTIONS, SAMPLES
from workbench import caged, rooms

ROOT = Path(__file__).resolve().parents[2]
READERS = rooms.names("workbench.formats")


@pytest.fixture(scope="module")
def harness() -> ModuleType:
    place = ROOT / "experiments" / "mutate_readers.py"
    spec = importlib.util.spec_from_file_location("mutate_readers", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_reader_has_a_sample():
    assert sorted(set(READERS) - set(SAMPLES)) == []


@pytest.mark.parametrize("reader", READERS)
def test_fifty_damaged_files(harness: ModuleType, reader: str) -> None:
    seen, failures = harness.experiment(reader, 50, seed=1)
    assert failures == []
    assert seen.total() == 50 and seen["refused"] > 0, "the damage does reach what the reader looks at"


def test_a_reader_that_fails_in_an_unforeseen_way_is_counted_as_a_failure(
    harness: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted fault: a reader that raises KeyError on every file but the whole one."""
    whole = SAMPLES["xpt"]()

    def planted(reader: str, data: bytes, file: str, **more: object) -> object:
        if data == whole:
            return None
        return caged._read("tests.hostile_readers", data, file, 2**28, 10, {"do": "bug"})

    monkeypatch.setattr(harness.caged, "read", planted)
    seen, failures = harness.experiment("xpt", 3, seed=1)
    assert seen == {"failed": 3} and len(failures) == 3
    assert "xpt, seed 1, number 0: failed: mutated.xpt, reader: failed: KeyError" in failures[0]


def test_damage_is_the_same_for_the_same_seed_and_never_leaves_the_file_whole_by_rule(harness: ModuleType) -> None:
    data = SAMPLES["xpt"]()
    first = [harness.mutated(data, random.Random(f"x {n}")) for n in range(100)]
    assert first == [harness.mutated(data, random.Random(f"x {n}")) for n in range(100)]
    assert sum(d != data for d in first) > 95 and len(set(first)) > 90
    assert harness.mutated(b"", random.Random(0)) is not None, "an empty file can be hurt too"


def test_the_samples_themselves_are_read() -> None:
    for reader, make in SAMPLES.items():
        assert caged.read(reader, make(), reader, **OPTIONS.get(reader, {})) is not None
