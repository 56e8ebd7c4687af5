"""The folder is the registry: every file of a room that multiplies keeps that room's contract once it appears."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from workbench import rooms

ROOT = Path(__file__).resolve().parents[2]
MULTIPLY = ["formats", "sources", "folders", "modalities", "assays", "audits", "predictors", "benches"]
FOLDERS = {f"workbench.{room}": ROOT / "workbench" / room for room in MULTIPLY}
FOLDERS["widgets.dashboards"] = ROOT / "widgets" / "dashboards"


def members(*rooms_wanted: str) -> list[Any]:
    """(room, file) of every public file, found by looking at the folder and not through the code under test."""
    return [
        pytest.param(room, f.stem, id=f"{room}.{f.stem}")
        for room in rooms_wanted or FOLDERS
        for f in sorted(FOLDERS[room].glob("*.py"))
        if not f.stem.startswith("_")
    ]


def source(room: str, name: str) -> str:
    return (FOLDERS[room] / f"{name}.py").read_text(encoding="utf-8")


def public(module: ModuleType, kind: Callable[[Any], bool]) -> dict[str, Any]:
    """What ``module`` itself defines and shows."""
    return {
        name: thing
        for name, thing in inspect.getmembers(module, kind)
        if not name.startswith("_") and thing.__module__ == module.__name__
    }


@pytest.mark.parametrize("room", FOLDERS)
def test_the_room_lists_exactly_its_public_files(room: str) -> None:
    if not (FOLDERS[room] / "__init__.py").is_file():
        pytest.skip(f"{room} has no __init__.py yet")
    assert rooms.names(room) == [p.values[1] for p in members(room)]


@pytest.mark.parametrize(("room", "name"), members())
def test_a_member_loads_and_every_public_thing_says_what_it_is(room: str, name: str) -> None:
    module = rooms.load(room, name)
    assert (module.__doc__ or "").strip().splitlines()[0].rstrip().endswith((".", ":", "?"))
    things = public(module, lambda t: inspect.isfunction(t) or inspect.isclass(t))
    assert things, f"{room}.{name} shows nothing: a file whose name has no underscore is a member of its room"
    silent = [n for n, t in things.items() if not (t.__dict__.get("__doc__") if inspect.isclass(t) else t.__doc__)]
    assert silent == []


@pytest.mark.parametrize(("room", "name"), members())
def test_a_member_has_type_hints_and_future_annotations(room: str, name: str) -> None:
    tree = ast.parse(source(room, name))
    assert any(isinstance(n, ast.ImportFrom) and n.module == "__future__" for n in tree.body)
    bare = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is None
    ]
    assert bare == []


@pytest.mark.parametrize(("room", "name"), members())
def test_a_member_imports_no_sibling(room: str, name: str) -> None:
    """Said here too, since lint-imports cannot see an import spelled ``from workbench import formats``."""
    siblings = {f.stem for f in FOLDERS[room].glob("*.py") if not f.stem.startswith("_")} - {name}
    met = set()
    for node in ast.walk(ast.parse(source(room, name))):
        if isinstance(node, ast.ImportFrom) and node.module == room:
            met |= {alias.name for alias in node.names} & siblings
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{room}."):
            met |= {(node.module or "").removeprefix(f"{room}.")} & siblings
        elif isinstance(node, ast.Import):
            met |= {a.name.removeprefix(f"{room}.") for a in node.names if a.name.startswith(f"{room}.")} & siblings
    assert met == set()


# --- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("room", "name"), members("workbench.formats"))
def test_a_format_reads_bytes_and_opens_no_path(room: str, name: str) -> None:
    module = importlib.import_module(f"{room}.{name}")
    first, second = [*inspect.signature(module.read).parameters.values()][:2]
    assert [(first.name, first.annotation), (second.name, second.annotation)] == [("data", "bytes"), ("file", "str")]
    calls = {ast.unparse(n.func) for n in ast.walk(ast.parse(source(room, name))) if isinstance(n, ast.Call)}
    assert not [c for c in calls if c in ("open", "io.open") or c.endswith((".read_bytes", ".read_text"))]


@pytest.mark.parametrize(("room", "name"), members("workbench.formats"))
@pytest.mark.parametrize("data", [b"", b"\0" * 512, b"PK\x03\x04 not what it says", bytes(range(256)) * 8])
def test_a_format_refuses_rubbish_with_the_file_named(room: str, name: str, data: bytes) -> None:
    from workbench.formats import FormatError

    module = importlib.import_module(f"{room}.{name}")
    needed = [p for p in inspect.signature(module.read).parameters.values() if p.default is p.empty][2:]
    more: dict[str, Any] = {p.name: {} for p in needed}  # csv: the columns asked for
    if "columns" in more:
        import polars as pl

        more["columns"] = {"subject": pl.String, "value": pl.Float64}
    with pytest.raises(FormatError, match=re.escape("planted.bin")):
        module.read(data, "planted.bin", **more)


# --- sources ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("room", "name"), members("workbench.sources"))
def test_a_source_fetches_and_builds_and_takes_an_archive_from_disk(room: str, name: str) -> None:
    """People without an index hand the archive over; nothing is built over an existing study unasked."""
    module = importlib.import_module(f"{room}.{name}")
    fetch, build = inspect.signature(module.fetch).parameters, inspect.signature(module.build).parameters
    assert fetch["archive"].default is None and build["archive"].default is None
    assert build["replace"].default is False


# --- folders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("room", "name"), members("workbench.folders"))
def test_a_kind_of_folder_recognises_by_names_and_reads_with_notes(room: str, name: str) -> None:
    """Nobody else's names are taken for its own, and what it cannot read it says through ``note``."""
    module = importlib.import_module(f"{room}.{name}")
    assert [*inspect.signature(module.recognises).parameters] == ["files"]
    assert [*inspect.signature(module.read).parameters][:2] == ["folder", "note"]
    options = [*inspect.signature(module.read).parameters.values()][2:]
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in options)
    assert not module.recognises([]) and not module.recognises(["holiday.jpg", "thesis.docx"])


# --- audits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("room", "name"), members("workbench.audits"))
def test_a_family_of_checks_names_each_and_says_what_it_looks_for(room: str, name: str) -> None:
    checks = importlib.import_module(f"{room}.{name}").CHECKS
    assert checks
    assert len({c.name for c in checks}) == len(checks)
    assert all(c.says.strip().endswith((".", "?")) and c.name == c.name.lower() for c in checks)


# --- modalities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("room", "name"), members("workbench.modalities"))
def test_a_modality_says_whose_it_is_in_what_unit_and_how_loud(room: str, name: str) -> None:
    module = importlib.import_module(f"{room}.{name}")
    assert module.AXIS in ("subject", "treatment")
    assert isinstance(module.UNIT, str) and module.UNIT
    assert isinstance(module.GAIN, float) and module.GAIN > 0
    assert [*inspect.signature(module.read).parameters] == ["study"]


@pytest.mark.parametrize(("room", "name"), members("workbench.modalities"))
def test_a_modality_is_prepared_on_the_fit_rows_alone(room: str, name: str) -> None:
    """The leak this guards against: a scaler that has seen the rows it will be judged on."""
    import numpy as np

    module = importlib.import_module(f"{room}.{name}")
    random = np.random.default_rng(7)
    matrix = (random.random((40, 12)) < 0.4).astype(np.float32)
    fit_rows = np.arange(25)
    other = matrix.copy()
    other[25:] = 1000.0
    first, second = (vars(module.prepare(m, fit_rows)) for m in (matrix, other))
    assert first.keys() == second.keys() and first
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key], err_msg=key)
    changed = matrix.copy()
    changed[:5] = 1 - changed[:5]
    third = vars(module.prepare(changed, fit_rows))
    assert any(not np.array_equal(first[k], third[k]) for k in first), "it does look at the fit rows"


# --- predictors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("room", "name"), members("workbench.predictors"))
def test_a_predictor_file_offers_predictors_that_only_store_what_they_are_given(room: str, name: str) -> None:
    from workbench import predictors

    module = importlib.import_module(f"{room}.{name}")
    assert module.PREDICTORS
    for called, cls in module.PREDICTORS.items():
        assert cls.__module__ == module.__name__
        made = predictors.make(called)
        assert made.name == called
        assert [a for a in vars(made) if a.endswith("_") and not a.startswith("_")] == [], "nothing is fitted yet"
        for wanted in ("predict", "config", "arrays", "load", "attributions"):
            assert callable(getattr(made, wanted)), f"{called} has no {wanted}"
        assert callable(getattr(made, "fit", None)) or callable(getattr(made, "prepare", None))


@pytest.mark.parametrize(("room", "name"), members("workbench.predictors"))
def test_a_predictor_refuses_a_mistyped_parameter_and_names_the_nearest(room: str, name: str) -> None:
    from workbench import predictors

    for called, cls in importlib.import_module(f"{room}.{name}").PREDICTORS.items():
        with pytest.raises(ValueError, match="has no parameter"):
            predictors.make(called, nonsense=1)
        for parameter in cls.DEFAULTS:
            with pytest.raises(ValueError, match=f"Did you mean '{parameter}'"):
                predictors.make(called, **{f"{parameter}x": 1})


def test_no_two_files_offer_a_predictor_of_the_same_name() -> None:
    from workbench import predictors

    files = [importlib.import_module(f"workbench.predictors.{p.values[1]}") for p in members("workbench.predictors")]
    offered = [called for module in files for called in module.PREDICTORS]
    assert len(offered) == len(set(offered)) == len(predictors.offered())
    assert {"global_mean", "drug_mean", "cell_mean", "tissue_mean", "tissue_drug_mean", "mean_effects"} <= set(offered)
    assert set(predictors.naive_names()) < set(offered)


# --- benches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("room", "name"), members("workbench.benches"))
def test_a_bench_runs_without_arguments(room: str, name: str) -> None:
    """Not run here: minutes of it would crowd the tests out. ``make bench`` does."""
    run = importlib.import_module(f"{room}.{name}").run
    assert all(p.default is not p.empty for p in inspect.signature(run).parameters.values())


# --- dashboards ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("room", "name"), members("widgets.dashboards"))
def test_a_dashboard_gives_its_page_and_serves_it_only_when_served(room: str, name: str) -> None:
    module = importlib.import_module(f"{room}.{name}")
    assert all(p.default is not p.empty for p in inspect.signature(module.page).parameters.values())
    text = source(room, name)
    assert "pn.state.served" in text and ".servable(" in text
    assert "FastListTemplate" not in text, "it fetches fonts from outside; panel_material_ui.Page does not"
