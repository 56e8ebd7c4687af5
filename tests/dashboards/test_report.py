"""The one-file report: what it carries, what it says, and that it is written whole or not at all."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.dashboards import planted
from widgets import report
from widgets._parts import unpack
from widgets._response import packing, summary
from widgets.prediction_explorer import pack_predictions
from workbench import tables


def unsqueeze(text: str) -> tuple[dict, dict[str, np.ndarray]]:
    """What ``report.js`` does."""
    stream = gzip.decompress(base64.b64decode(text))
    length = int.from_bytes(stream[:4], "little")
    header, at, made = json.loads(stream[4 : 4 + length]), 4 + length, {}
    for name, kind, coding, low, step, origin in header["squeezed"]:
        count = header["counts"][name]
        wide = {"steps": "u2", "differences": "i4", "plain": kind}[coding]
        size = np.dtype(wide).itemsize
        planes = np.frombuffer(stream[at : at + count * size], np.uint8).reshape(size, count)
        column = np.ascontiguousarray(planes.T[:, ::-1]).view(f"<{wide}")[:, 0]
        at += count * size
        if coding == "steps":
            base = made[origin] if origin else 0.0
            made[name] = np.where(column == packing.GAP, np.nan, low + column * step + base)
        else:
            made[name] = np.cumsum(column) if coding == "differences" else column
    assert at == len(stream)
    return header, made


def test_squeezed_columns_come_back_within_the_stated_rounding() -> None:
    frame = planted.run().predictions.filter(pl.col("predictor").is_in(["ridge", "drug_mean"]))
    frame = frame.with_columns(  # an answer refused, and intervals missing in places
        predicted=pl.when(pl.col("row") == 3).then(None).otherwise("predicted"),
        low=pl.when(pl.col("row") % 7 == 3).then(None).otherwise("low"),
        high=pl.when(pl.col("row") % 7 == 3).then(None).otherwise("high"),
    )
    packed = pack_predictions(frame)
    _, want = unpack(packed)
    text, rounding = packing.squeeze(packed, drugs={"names": ["x"]})
    header, found = unsqueeze(text)
    assert header["drugs"] == {"names": ["x"]} and rounding < 5e-4
    assert set(found) == set(want)
    for name, column in want.items():
        if column.dtype.kind == "f":
            assert np.array_equal(np.isnan(found[name]), np.isnan(column)), name
            assert np.nanmax(np.abs(found[name] - column)) <= rounding + 1e-6, name
        else:
            assert np.array_equal(found[name], column), name


def test_the_file_tells_what_is_unseen_and_where_it_comes_from(tmp_path: Path) -> None:
    run = planted.run()
    text = report.export(run, tmp_path / "r.html").read_text(encoding="utf-8")
    top = text[: text.index("<nav")]
    for said in (
        run.name,
        run.run_id,
        run.study_digest,
        "Every scored cell line was left out",
        "0123456789abcdef",
        "2026-05-04",
    ):
        assert said in top, said
    found = summary.scores(run.metrics, run.comparisons)
    for cells in found.values():
        for cell in cells.values():
            assert report.pieces.number(cell.value) in text and f"naive {report.pieces.number(cell.naive)}" in text
    assert "drug_mean" in text and "are in the tables only" in text


def test_the_file_lets_no_other_script_run_and_fetches_nothing(tmp_path: Path) -> None:
    text = report.export(planted.run(hostile=True), tmp_path / "r.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    scripts = re.findall(r'<script type="module">(.*?)</script>', text, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src &#x27;sha256-{digest}&#x27;" in policy[1] and "default-src &#x27;none&#x27;" in policy[1]
    assert "<img" not in text.replace(scripts[0], "") and text.count("<script") == 3
    assert not re.search(r'(src|href)="(https?:)?//', text)


def test_missing_tables_are_named_in_the_file_and_no_metrics_is_an_error(tmp_path: Path) -> None:
    run = planted.run()
    bare = replace(
        run, predictions=tables.empty(tables.PREDICTIONS), curves=tables.empty(tables.CURVES),
        comparisons=tables.empty(tables.COMPARISONS),
    )  # fmt: skip
    text = report.export(bare, tmp_path / "r.html").read_text(encoding="utf-8")
    for name in ("PREDICTIONS", "CURVES", "COMPARISONS"):
        assert f"table {name} is empty or was never recorded" in text
    assert '<script type="module">' not in text
    with pytest.raises(summary.Missing, match="table METRICS"):
        report.export(replace(run, metrics=tables.empty(tables.METRICS)), tmp_path / "no.html")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.html"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "r.html"
    out.write_text("old")

    def full(handle: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        report.export(planted.run(), out)
    assert out.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["r.html"]
    monkeypatch.undo()
    assert report.export(planted.run(), out) == out and out.read_text().startswith("<!doctype html>")
    with pytest.raises(FileNotFoundError, match="make it, or give another --out"):
        report.export(planted.run(), tmp_path / "no" / "r.html")


def test_the_verb_has_three_exit_statuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import workbench.runs

    store = planted.Store(planted.run(name="mine"))
    monkeypatch.setattr(workbench.runs, "find", store.find)
    out = tmp_path / "r.html"
    assert report.main(["mine", "--out", str(out)]) == 0 and out.stat().st_size > 10_000
    assert str(out) in capsys.readouterr().out
    assert report.main(["other", "--out", str(out)]) == 1
    assert "no run 'other'" in capsys.readouterr().err
    assert report.main([]) == 2 and report.main(["mine", "--out", str(tmp_path)]) == 2
    assert report.main(["--help"]) == 0
