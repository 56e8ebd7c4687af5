"""The loader's benchmark, tiny: every kind of file runs against its peers, and the rows say what was measured."""

from __future__ import annotations

import dataclasses

import pytest

from workbench.benches import loader


@pytest.mark.parametrize("file", loader.FILES, ids=lambda f: f.name)
def test_a_row_for_each_peer(file: loader.File, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = dataclasses.replace(file, cells=1200, genes=min(file.genes, 400), values=min(file.values, 20))
    rows = loader.run((tiny,), rounds=1, seconds=0.01)
    peers = [row["name"].split(": ")[-1].split()[0] for row in rows]
    assert peers == (["scDataset"] if tiny.sparse or tiny.stored == "parquet" else ["scDataset", "AnnLoader"])
    for row in rows:
        assert set(row) == {"name", "ours", "peer", "unit", "ratio", "note"} and row["unit"] == "rows/s"
        assert row["ratio"] == row["ours"] / row["peer"] > 0
        assert "label entropy" in row["note"]
