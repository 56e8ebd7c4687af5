"""Where things are kept, whatever the working directory; and rooms that list what lies in their folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench import home, rooms

ROOT = Path(__file__).resolve().parents[2]


def test_everything_lies_in_the_named_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "a" / ".." / "b"))
    assert home.home() == tmp_path / "b"
    assert home.studies() == tmp_path / "b" / "studies"
    assert home.checkpoints() == tmp_path / "b" / "checkpoints"
    assert home.artifacts() == tmp_path / "b" / "artifacts"
    assert home.tracking_uri() == f"sqlite:///{tmp_path / 'b' / 'mlflow.db'}"
    assert not (tmp_path / "b").exists(), "asking makes nothing"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert home.tracking_uri() == "http://127.0.0.1:5000"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WORKBENCH_HOME", "~/there")
    assert home.home() == tmp_path / "there"


def test_without_a_name_the_checkout_has_its_home_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORKBENCH_HOME")
    monkeypatch.chdir(tmp_path)
    assert home.home() == ROOT / ".workbench"


def test_archives_are_shared_between_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    assert home.cache() == tmp_path / "cache"
    monkeypatch.delenv("WORKBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert home.cache() == tmp_path / "xdg" / "translational-workbench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home.cache() == tmp_path / ".cache" / "translational-workbench"


def test_a_file_dropped_in_a_room_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "dropped_room"
    folder.mkdir()
    for name in ("__init__", "second", "first", "_private"):
        (folder / f"{name}.py").write_text(f"NAME = {name!r}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert rooms.names("dropped_room") == ["first", "second"]
    assert rooms.load("dropped_room", "second").NAME == "second"
    with pytest.raises(KeyError, match=r"dropped_room has no 'secnd'\. Did you mean 'second'\? It has: first, second"):
        rooms.load("dropped_room", "secnd")
    with pytest.raises(KeyError, match=r"has no '_private'"):
        rooms.load("dropped_room", "_private")
    (folder / "third.py").write_text("", encoding="utf-8")
    assert rooms.names("dropped_room") == ["first", "second", "third"]
