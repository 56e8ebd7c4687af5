"""EmbeddingExplorer without a front end: layout, colours, legend, selection, what is missing, what is refused."""

from __future__ import annotations

import gzip
import sys
from typing import Any

import numpy as np
import polars as pl
import pytest
import traitlets
from anndata import AnnData

from tests import toy
from tests.widgets.planted import HOSTILE
from widgets import EmbeddingExplorer, Selection, _colours, _layouts
from widgets._parts import unpack
from workbench import embedding
from workbench.study import Study


@pytest.fixture
def study() -> Study:
    return toy.write()


def head(explorer: EmbeddingExplorer, trait: str = "colour_bytes") -> dict[str, Any]:
    return unpack(getattr(explorer, trait))[0]


def test_points_axes_and_those_who_are_missing(study: Study) -> None:
    explorer = EmbeddingExplorer(study)
    header, columns = unpack(explorer.frame_bytes)
    assert explorer.choice == {
        "modality": "expression",
        "method": "PCA",
        "colour": {"kind": "column", "name": "tissue"},
    }
    assert len(columns["x"]) == 59 and header["axes"][0].startswith("PC 1 (")
    assert header["absent"] == {
        "n": 1,
        "of": 60,
        "names": [toy.BARE],
        "modality": "expression",
        "noun": "subjects",
    }
    explorer.choice = {"modality": "mutation"}
    assert head(explorer, "frame_bytes")["absent"]["n"] == 8
    explorer.choice = {"modality": "drug_structure", "colour": {"kind": "none"}}
    assert head(explorer, "frame_bytes")["noun"] == ["treatment", "treatments"]


def test_categories_come_most_frequent_first_and_the_rest_is_other() -> None:
    group = [f"g{min(i % 13, 11)}" for i in range(130)]
    frame = pl.DataFrame({"name": [str(i) for i in range(130)], "x": range(130), "y": range(130), "group": group})
    explorer = EmbeddingExplorer(frame, colour="group")
    header, columns = unpack(explorer.colour_bytes)
    assert header["levels"][0] == {"name": "g11", "n": 20}
    assert header["levels"][-1] == {"name": "other (5 more)", "n": 50}
    assert (columns["code"] == 7).sum() == 50 and header["absent"] == 0


def test_numbers_have_a_scale_with_ends_units_and_gaps(study: Study) -> None:
    explorer = EmbeddingExplorer(study, colour="ibuprofen")
    header, columns = unpack(explorer.colour_bytes)
    values = study.outcomes.filter(treatment="ibuprofen", endpoint="ln_ic50")["value"]
    assert (header["kind"], header["title"], header["unit"]) == ("scale", "ln IC50 of ibuprofen", "ln(\u00b5M)")
    assert header["low"] == pytest.approx(values.quantile(0.01, "linear"), abs=0.3)
    assert header["absent"] == (columns["code"] == -1).sum() > 0
    best = study.outcomes.filter(treatment="ibuprofen", endpoint="ln_ic50").sort("value")["subject"][-1]
    assert columns["code"][list(study.modality("expression").obs_names).index(best)] == 255
    assert len(header["scale"]) == 9


def test_a_feature_of_another_modality_colours_by_name(study: Study) -> None:
    explorer = EmbeddingExplorer(study, colour="mutation: gene3")
    header, columns = unpack(explorer.colour_bytes)
    data = study.modality("mutation")
    wanted = dict(zip(data.obs_names, np.asarray(data[:, "gene3"].X).ravel(), strict=True))
    names = list(study.modality("expression").obs_names)
    assert header["kind"] == "levels" and {level["name"] for level in header["levels"]} == {"0", "1"}
    for name, code in zip(names, columns["code"], strict=True):
        assert code == -1 if name not in wanted else header["levels"][code]["name"] == str(int(wanted[name]))
    assert header["unit"] == "mutated (0/1)"


def test_a_dose_keeps_its_unit_and_few_whole_numbers_are_categories() -> None:
    frame = pl.DataFrame(
        {
            "name": [str(i) for i in range(20)],
            "x": range(20),
            "y": range(20),
            "arm_dose": [float(i) for i in range(20)],
            "arm_dose_unit": "mg/kg",
            "week": [i % 3 for i in range(20)],
        }
    )
    frame = frame.with_columns(
        pl.when(pl.col("x") < 2).then(pl.lit("mg/kg")).otherwise("arm_dose_unit").alias("arm_dose_unit")
    )
    assert head(EmbeddingExplorer(frame, colour="arm_dose"))["unit"] == "mg/kg"
    assert head(EmbeddingExplorer(frame, colour="week"))["kind"] == "levels"


def test_cells_are_coloured_by_their_type_and_points_that_hide_one_another_are_counted() -> None:
    frame = pl.DataFrame(
        {
            "name": [str(i) for i in range(20)],
            "x": [i % 5 for i in range(20)],
            "y": 0,
            "subject": "donor",
            "barcode": [f"code {i}" for i in range(20)],
            "cell_type": ["T", "B"] * 10,
        }
    )
    explorer = EmbeddingExplorer(frame, axes=("UMAP 1", "UMAP 2"))
    header = head(explorer, "frame_bytes")
    assert explorer.choice["colour"] == {"kind": "column", "name": "cell_type"}
    assert header["axes"] == ["UMAP 1", "UMAP 2"] and header["noun"] == ["cell", "cells"]
    assert header["notes"] == ["20 cells stand at 5 places: those of one profile hide one another"]
    apart = EmbeddingExplorer(frame.with_columns(x=pl.int_range(20)).drop("cell_type"))
    assert head(apart, "frame_bytes")["notes"] == [] and apart.choice["colour"] == {"kind": "none"}


def test_a_lasso_selects_and_a_selection_elsewhere_is_highlighted(study: Study) -> None:
    selection = Selection()
    explorer = EmbeddingExplorer(study, modality="mutation", selection=selection)
    explorer.picked_bytes = np.array([3, 1, 3], dtype="<i4").tobytes()  # as the page sends it
    assert selection.subjects == explorer.selected == explorer.picked_names == ["subject 01", "subject 03"]
    selection.select(["subject 05", "subject 55", toy.BARE], by="someone")
    assert explorer.selected == ["subject 05"]
    assert explorer.elsewhere == {"n": 2, "names": ["subject 55", toy.BARE]} and explorer.missing == [
        "subject 55",
        toy.BARE,
    ]
    explorer.choice = {"modality": "expression"}
    assert explorer.selected == ["subject 05", "subject 55"] and explorer.elsewhere["n"] == 1
    explorer.picked_bytes = np.array([10_000, -4], dtype="<i4").tobytes()  # rows that do not exist
    assert explorer.selected == []


def test_treatments_are_selected_as_treatments(study: Study) -> None:
    selection = Selection()
    explorer = EmbeddingExplorer(study, modality="drug_structure", colour="none", selection=selection)
    explorer.picked = [0, 2]
    assert selection.treatments == [toy.TREATMENTS[0], toy.TREATMENTS[2]] and selection.subjects == []


class Cells:
    """A study of one modality of cells, as far as the explorer looks."""

    name = "cells"
    modalities: tuple[str, ...] = ("rna",)

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        self.data = AnnData(draw.poisson(2, (40, 12)).astype(np.float32))
        self.data.obs_names = [f"cell {i}" for i in range(40)]
        self.data.obs["subject"] = [f"donor {i % 4}" for i in range(40)]
        self.data.obs["cluster"] = ["T" if i < 20 else "B" for i in range(40)]
        self.data.uns["axis"], self.data.uns["unit"] = "cell", "counts"
        self.subjects = pl.DataFrame({"subject": [f"donor {i}" for i in range(5)], "tissue": "blood"})
        self.rows = pl.DataFrame(
            {"treatment": [], "endpoint": []}, schema={"treatment": pl.String, "endpoint": pl.String}
        )
        self.treatments = pl.DataFrame({"treatment": []}, schema={"treatment": pl.String})

    def axis(self, _: str) -> str:
        return "cell"

    def modality(self, _: str) -> AnnData:
        return self.data


def test_cells_select_their_donors_and_keep_the_rows() -> None:
    selection = Selection()
    explorer = EmbeddingExplorer(Cells(), colour="cluster", selection=selection)
    other = EmbeddingExplorer(Cells(), colour="subject", selection=selection)
    assert head(other)["kind"] == "levels" and head(explorer, "frame_bytes")["absent"]["names"] == ["donor 4"]
    explorer.picked = [1, 5, 6]
    assert selection.subjects == ["donor 1", "donor 2"]
    assert selection.cells["rna"].tolist() == [1, 5, 6] == other.picked.tolist()
    selection.select(["donor 3"], by="someone")  # whole donors: all of their cells
    assert explorer.picked.tolist() == list(range(3, 40, 4))


def test_names_under_the_pointer_and_features_searched(study: Study) -> None:
    explorer = EmbeddingExplorer(study)
    explorer.hovered = 2
    assert explorer.tip == ["subject 02", "tissue: tissue 2"]
    explorer.hovered = 4000
    assert explorer.tip == []
    explorer.search = {"modality": "mutation", "text": "NE3"}
    assert explorer.found[0] == "gene3" and "gene13" not in explorer.found and "gene30" in explorer.found


def test_the_first_umap_is_laid_out_in_the_background(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = lambda names, scores, notes, seed: embedding._made(names, scores[:, 1:3], "UMAP", (), notes)  # noqa: E731
    monkeypatch.setattr(embedding, "_umap", quick)  # the real one has its own test
    explorer = EmbeddingExplorer(study)
    explorer.choice = {"method": "UMAP"}
    assert explorer.state == "working" and explorer.message == "Laying out expression by UMAP"
    assert explorer.wait(120) == "ready"
    assert head(explorer, "frame_bytes")["axes"] == ["UMAP 1", "UMAP 2"]


def test_what_is_not_there_is_refused_with_a_hint(study: Study) -> None:
    with pytest.raises(KeyError, match="Did you mean 'mutation'"):
        EmbeddingExplorer(study, modality="mutations")
    with pytest.raises(ValueError, match="Did you mean 'tissue'"):
        EmbeddingExplorer(study, colour="tisue")
    with pytest.raises(ValueError, match="'y' is missing"):
        EmbeddingExplorer(pl.DataFrame({"name": ["a"], "x": [1.0]}))
    explorer = EmbeddingExplorer(study)
    with pytest.raises(traitlets.TraitError, match="Did you mean 'UMAP'"):
        explorer.choice = {"method": "UMPA"}
    explorer.choice = {"colour": {"kind": "feature", "modality": "mutation", "name": "gene333"}}
    assert explorer.state == "failed" and "Did you mean 'gene33'" in explorer.message
    explorer.choice = {"colour": {"kind": "column", "name": "tissue"}}
    assert explorer.state == "ready" and explorer.message == ""


def test_a_missing_jupyter_scatter_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from widgets import embedding_explorer

    embedding_explorer.plot_bytes.cache_clear()
    monkeypatch.setitem(sys.modules, "jscatter", None)
    monkeypatch.setitem(sys.modules, "jscatter.widget", None)
    frame = pl.DataFrame({"name": ["a", "b", "c"], "x": range(3), "y": range(3)})
    with pytest.raises(ImportError, match=r"EmbeddingExplorer .*jupyter-scatter.* pip install 'jupyter-scatter>=1.0"):
        EmbeddingExplorer(frame)


def test_the_script_that_crosses_is_the_packages_own() -> None:
    from jscatter.widget import JupyterScatter

    from widgets.embedding_explorer import plot_bytes

    header, columns = unpack(plot_bytes())
    assert gzip.decompress(columns["gz"].tobytes()).decode() == str(JupyterScatter._esm)
    assert header["traits"]["event_types"]["TOOLTIP"] == "tooltip" and len(plot_bytes()) < 1_000_000


def test_a_large_modality_is_read_by_blocks_and_looks_the_same(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = [("expression", "tissue"), ("expression", "expression: gene2"), ("mutation", "expression: gene2")]
    whole = [EmbeddingExplorer(study, modality=m, colour=c) for m, c in choice]
    monkeypatch.setattr(_layouts, "LARGE", 10)
    monkeypatch.setattr(_colours, "_BLOCK", 7)
    again = Study.open(study.path)
    monkeypatch.setattr(again, "modality", lambda name: pytest.fail(f"{name} was read whole"))
    for (modality, colour), other in zip(choice, whole, strict=True):
        explorer = EmbeddingExplorer(again, modality=modality, colour=colour)
        assert explorer.wait(60) == "ready", explorer.traceback
        assert "block by block" in head(explorer, "frame_bytes")["notes"][0]
        assert explorer.colour_bytes == other.colour_bytes
        a, b = (unpack(e.frame_bytes)[1]["x"] for e in (explorer, other))
        assert abs(np.corrcoef(a, b)[0, 1]) > 0.9999
        assert head(explorer, "frame_bytes")["absent"] == head(other, "frame_bytes")["absent"]
    explorer.search = {"modality": "mutation", "text": "gene3"}
    assert explorer.found[0] == "gene3"


def test_a_million_points_cross_as_ten_bytes_each() -> None:
    n = 1_000_000
    draw = np.random.default_rng(0)
    frame = pl.DataFrame({"x": draw.normal(size=n), "y": draw.normal(size=n), "dose": draw.random(n)})
    explorer = EmbeddingExplorer(
        frame.with_row_index("name").with_columns(pl.col("name").cast(pl.String)), colour="dose"
    )
    assert len(explorer.frame_bytes) + len(explorer.colour_bytes) == pytest.approx(10 * n, rel=0.001)
    explorer.picked = np.arange(0, n, 2)
    assert len(explorer.selection.subjects) == n // 2


def test_hostile_names_are_names_like_any_other() -> None:
    frame = pl.DataFrame({"name": [HOSTILE, "b", "c"], "x": range(3), "y": range(3), HOSTILE: [HOSTILE, "k", "k"]})
    explorer = EmbeddingExplorer(frame, colour=HOSTILE, title=HOSTILE)
    assert {level["name"] for level in head(explorer)["levels"]} == {HOSTILE, "k"}
    explorer.hovered = 0
    assert explorer.tip[:2] == [HOSTILE, f"{HOSTILE}: {HOSTILE}"]


def test_a_colour_in_dict_form_is_taken_as_it_is(study: Study) -> None:
    rows = _colours.rows_of(study, "expression")
    asked = {"kind": "response", "treatment": "5-FU", "endpoint": "ln_ic50"}
    assert _colours.asked(asked, rows, study) == asked == _colours.asked("5-FU", rows, study)


def test_reading_a_large_modality_says_how_long_and_can_be_stopped(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def slow(backed: Any, method: str, *, seed: int, progress: Any) -> Any:
        progress(0.5)
        said.append(explorer.message)
        explorer.halt = 1  # as the page's button does
        progress(0.6)

    explorer = EmbeddingExplorer(study)
    monkeypatch.setattr(_layouts, "LARGE", 10)
    monkeypatch.setattr(embedding, "of_backed", slow)
    explorer.choice = {"modality": "mutation"}
    assert explorer.wait(30) == "failed" and explorer.message.startswith("Stopped: this layout is not there")
    assert said[0].startswith("Reading mutation: 50 %, about ") and said[0].endswith(" s left")
    explorer.choice = {"modality": "expression"}
    assert explorer.state == "ready"
