"""The study store: whole or absent, proven before it is read, kept through crashes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import polars as pl
import pytest

from workbench import consistency, durable, home, manifest, tables
from workbench.formats import FormatError
from workbench.study import SealedError, Study, StudyError, find, names, write_study

ROOT = Path(__file__).resolve().parents[2]
HTML = "<img src=x onerror=alert(1)>"
DATA_FILES = [
    "modalities/expression.h5ad",
    "modalities/structure.h5ad",
    "outcomes.parquet",
    "subjects.parquet",
    "treatments.parquet",
]
PROOF = ["journal.jsonl", "manifest.json", "manifest.sha256"]


def outcomes(*rows: tuple[str, str, float], endpoint: str = "ln_ic50", unit: str = "ln(uM)") -> pl.DataFrame:
    columns = {
        "subject": [r[0] for r in rows],
        "treatment": [r[1] for r in rows],
        "site": "here",
        "dose": None,
        "dose_unit": None,
        "time_h": None,
        "endpoint": endpoint,
        "value": [r[2] for r in rows],
        "unit": unit,
        "censored": 0,
        "source": "planted",
    }
    return pl.DataFrame(columns, schema=dict(tables.OUTCOMES.columns))


def modality(
    rows: list[str], axis: str = "subject", unit: str = "z", columns: tuple[str, str] | list[str] = ("g1", HTML)
) -> anndata.AnnData:
    values = np.arange(2 * len(rows), dtype=np.float32).reshape(len(rows), 2)
    with warnings.catch_warnings(action="ignore"):  # anndata warns of repeated names, some of which are planted
        data = anndata.AnnData(values, obs=pd.DataFrame(index=rows), var=pd.DataFrame(index=list(columns)))
    data.uns = {"axis": axis, "unit": unit}
    return data


def content(value: float = 1.0, **changes):
    """Two subjects, two treatments (one named with HTML), three outcomes, two modalities."""
    return {
        "outcomes": outcomes(("b", "drug", value), ("a", HTML, 2.0), ("a", "drug", 3.0)),
        "subjects": pl.DataFrame({"subject": ["a", "b"], "tissue": ["lung", None]}),
        "treatments": pl.DataFrame({"treatment": ["drug", HTML], "compound": ["K", None], "smiles": ["CCO", None]}),
        "modalities": {"expression": modality(["a"]), "structure": modality(["drug"], "treatment", "0/1")},
        "provenance": {"source": "planted", HTML: [1, 2]},
        "event": "built",
        **changes,
    }


@pytest.fixture
def study(tmp_path) -> Study:
    return write_study(tmp_path / "studies" / "one", **content())


# ---- what is written is what is read


def test_round_trip(study):
    again = Study.open(study.path)
    assert again.outcomes.select("treatment", "subject", "value").rows() == [
        (HTML, "a", 2.0),
        ("drug", "a", 3.0),
        ("drug", "b", 1.0),
    ]
    assert again.outcomes.schema == dict(tables.OUTCOMES.columns)
    assert again.subjects.rows() == [("a", "lung"), ("b", None)]
    assert again.treatments.rows() == [("drug", "K", "CCO"), (HTML, None, None)]
    assert again.modalities == ["expression", "structure"]
    np.testing.assert_array_equal(again.modality("expression").X, [[0, 1]])
    assert list(again.modality("expression").var_names) == ["g1", HTML]
    assert again.modality("structure").uns["axis"] == "treatment"
    assert again.provenance == {"source": "planted", HTML: [1, 2]}
    assert again.check() == []


def test_the_manifest_says_what_every_file_is(study):
    files = study.manifest["files"]
    assert sorted(files) == DATA_FILES
    for file, facts in files.items():
        data = (study.path / file).read_bytes()
        assert (facts["sha256"], facts["size"]) == (manifest.sha256(data), len(data))
    assert files["outcomes.parquet"]["units"] == {"ln_ic50": "ln(uM)"}
    assert files["outcomes.parquet"]["schema"]["value"] == "Float64"
    assert files["modalities/expression.h5ad"]["units"] == {"X": "z"}
    assert files["modalities/expression.h5ad"]["schema"] == {"shape": [1, 2], "dtype": "float32"}
    assert study.digest == manifest.sha256((study.path / "manifest.json").read_bytes())


def test_sha256sum_can_check_the_seal(study):
    done = subprocess.run(["sha256sum", "-c", "manifest.sha256"], cwd=study.path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "manifest.json: OK\njournal.jsonl: OK\n")


def test_the_same_content_has_the_same_digest_whatever_the_order_and_the_hour(study, tmp_path):
    rows = outcomes(("a", "drug", 3.0), ("b", "drug", 1.0), ("a", HTML, 2.0))
    coded = rows.with_columns(pl.col("subject", "treatment").cast(pl.Categorical))
    assert write_study(tmp_path / "two", **content(outcomes=coded)).digest == study.digest
    assert write_study(tmp_path / "three", **content(value=1.5)).digest != study.digest


def test_presence(study):
    assert study.presence().rows() == [("a", "lung", True, 2), ("b", None, False, 1)]
    assert study.presence().schema == {
        "subject": pl.String,
        "tissue": pl.String,
        "expression": pl.Boolean,
        "n_outcomes": pl.Int64,
    }


def test_a_sealed_study_keeps_its_targets(study):
    sealed = study.sealed()
    with pytest.raises(SealedError, match="targets are readable only through a split"):
        _ = sealed.outcomes
    assert "value" not in sealed.rows.columns
    assert sealed.rows.height == 3
    assert sealed.presence().equals(study.presence())
    assert (sealed.digest, sealed.modalities, sealed.check()) == (study.digest, study.modalities, [])
    assert study.outcomes.height == 3


def test_a_study_named_with_html(tmp_path):
    study = write_study(tmp_path / HTML, **content(modalities={HTML: modality(["a"])}))
    assert (study.name, study.modalities, study.check()) == (HTML, [HTML], [])
    assert study.presence()[HTML].to_list() == [True, False]
    write_study(tmp_path / HTML, **content(), replace=True)
    assert [p.name for p in tmp_path.iterdir()] == [HTML]


# ---- what does not hold together is refused, and nothing is written


PATHS = ["", ".", "..", "../x", "a/b", "a\\b", "/etc/x", ".hidden", "a\0b", "a\nb", "x" * 201, "tissue"]


@pytest.mark.parametrize("name", PATHS)
def test_a_modality_cannot_be_a_path(tmp_path, name):
    with pytest.raises(ValueError, match="modality name"):
        write_study(tmp_path / "one", **content(modalities={name: modality(["a"])}))
    assert list(tmp_path.iterdir()) == []


def _twice() -> pl.DataFrame:
    return pl.DataFrame({"subject": ["a", "b", "a"], "tissue": None}, schema=dict(tables.SUBJECTS.columns))


def _several_units() -> pl.DataFrame:
    return pl.concat([outcomes(("a", "drug", 1.0)), outcomes(("b", "drug", 1.0), unit="uM")])


def _without(key: str) -> anndata.AnnData:
    data = modality(["a"])
    del data.uns[key]
    return data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subjects": _twice()}, "subject 'a' stands in more than one row"),
        ({"outcomes": outcomes(("c", "drug", 1.0))}, "missing from SUBJECTS, first 'c'"),
        ({"outcomes": outcomes(("a", "drugg", 1.0))}, "first 'drugg'. Did you mean 'drug'"),
        ({"outcomes": outcomes(("a", "drug", float("nan")))}, "column 'value' holds nan in row 0"),
        ({"outcomes": _several_units()}, r"endpoint 'ln_ic50' has units \['ln\(uM\)', 'uM'\]"),
        ({"outcomes": outcomes().drop("unit")}, "column 'unit' .* is missing"),
        ({"modalities": {"expression": modality(["c"])}}, "1 rows are no subject of this study, first 'c'"),
        ({"modalities": {"expression": modality(["a"], columns=["g", "g"])}}, "var_names repeats 'g'"),
        ({"modalities": {"expression": _without("unit")}}, r"text in uns\['unit'\], found 'subject' and None"),
        ({"modalities": {"expression": modality(["a"], axis="plate")}}, "found 'plate'"),
        ({"modalities": {"expression": modality(["a"], axis="cell")}}, r"expected obs\['subject'\]"),
        ({"records": {"../x": pl.DataFrame({"a": [1]})}}, "record name"),
        ({"provenance": {"when": {1, 2}}}, "only plain JSON"),
        ({"provenance": {"pair": (1, 2)}}, "only plain JSON"),
        ({"provenance": {"rate": float("nan")}}, "only plain JSON"),
    ],
)
def test_content_that_does_not_hold_together_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write_study(tmp_path / "one", **content(**changes))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unasked(study):
    with pytest.raises(FileExistsError, match="replace=True"):
        write_study(study.path, **content(value=9.0))
    assert Study.open(study.path).digest == study.digest


# ---- one flipped bit


@pytest.mark.parametrize("file", PROOF)
def test_every_single_bit_of_the_proof_is_guarded(study, file):
    path = study.path / file
    good = path.read_bytes()
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        with pytest.raises(StudyError) as refusal:
            Study.open(study.path)
        assert (refusal.value.file, bit) == (file, bit)
    path.write_bytes(good)
    assert Study.open(study.path).check() == []


@pytest.mark.parametrize("file", DATA_FILES)
def test_a_damaged_file_is_refused_before_a_parser_sees_it(study, file, monkeypatch):
    path = study.path / file
    bad = bytearray(path.read_bytes())
    bad[len(bad) // 2] ^= 1
    path.write_bytes(bad)

    def never(*_):
        raise AssertionError("a parser was called")

    monkeypatch.setattr("workbench.formats.h5ad.read", never)
    monkeypatch.setattr("workbench.formats.parquet.read", never)
    expected, found = study.manifest["files"][file]["sha256"], manifest.sha256(bytes(bad))
    message = f"{file}: expected SHA-256 {expected}, found {found}. .*build it again"
    with pytest.raises(StudyError, match=message) as refusal:
        damaged = Study.open(study.path)
        if "/" in file:
            damaged.modality(consistency.stem(file))
        else:
            getattr(damaged, consistency.stem(file))
    assert refusal.value.file == file


def test_the_experiment_finds_every_flip(study):
    spec = importlib.util.spec_from_file_location("flip_bits", ROOT / "experiments" / "flip_bits.py")
    assert spec and spec.loader
    flip_bits = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(flip_bits)
    seen = flip_bits.experiment(study.path, flips=60, seed=1, progress=False)
    assert {what for _, what in seen} == {"refused"}
    assert sorted({file for file, _ in seen}) == sorted(DATA_FILES + PROOF)
    assert sum(seen.values()) == 60


def test_the_experiment_reports_what_slips_through(study, monkeypatch):
    """A store without digests, as the control: the experiment must say so."""
    spec = importlib.util.spec_from_file_location("flip_bits", ROOT / "experiments" / "flip_bits.py")
    assert spec and spec.loader
    flip_bits = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(flip_bits)
    monkeypatch.setattr(flip_bits, "read_all", lambda folder: None)
    seen = flip_bits.experiment(study.path, flips=10, seed=1, progress=False)
    assert {what for _, what in seen} == {"read"}


def test_check_names_every_problem(study):
    (study.path / "outcomes.parquet").write_bytes(b"PAR1 nothing PAR1")
    (study.path / "modalities" / "expression.h5ad").unlink()
    (study.path / "notes.txt").write_text("mine")
    problems = study.check()
    assert [p.split(":")[0] for p in problems] == ["notes.txt", "outcomes.parquet", "modalities/expression.h5ad"]
    assert "found nothing" in problems[2]
    (study.path / "manifest.json").unlink()
    with pytest.raises(StudyError, match=r"manifest\.json: expected a file .*, found nothing") as refusal:
        Study.open(study.path)
    assert study.check() == [str(refusal.value)]


def test_a_link_in_place_of_a_file_is_refused(study, tmp_path):
    (study.path / "subjects.parquet").rename(tmp_path / "elsewhere")
    (study.path / "subjects.parquet").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StudyError, match=r"subjects\.parquet: expected a file .*, found a link"):
        _ = Study.open(study.path).subjects


@pytest.mark.parametrize("file", ["../../secret.parquet", "modalities/../../x.h5ad", "/etc/passwd", "modalities/.h5ad"])
def test_a_manifest_cannot_point_out_of_its_folder(study, file):
    """Sealed properly, yet hostile: the names themselves are checked."""
    files = study.manifest["files"]
    _reseal(study, study.manifest | {"files": {**files, file: files["outcomes.parquet"]}})
    with pytest.raises(StudyError, match=r"manifest\.json: .*(has no place in a study|modality name)"):
        Study.open(study.path)


def test_a_later_version_is_refused(study):
    _reseal(study, study.manifest | {"version": 2})
    with pytest.raises(StudyError, match="expected version 1, found 2"):
        Study.open(study.path)


def _reseal(study: Study, changed: dict) -> None:
    data = manifest.canonical(changed)
    entry = manifest.journal_entry(manifest.GENESIS, "forged", "", manifest.sha256(data))
    journal = manifest.canonical(entry)
    for file, stored in (
        ("manifest.json", data),
        ("journal.jsonl", journal),
        ("manifest.sha256", manifest.seal(data, journal)),
    ):
        (study.path / file).write_bytes(stored)


# ---- the journal


def test_the_journal_goes_on_through_replacements(study):
    second = write_study(study.path, **content(value=5.0, event="measured again"), replace=True)
    assert [e["event"] for e in second.journal] == ["built", "measured again"]
    assert second.journal[1]["previous"] == second.journal[0]["hash"]
    assert second.journal[0] == study.journal[0]
    assert second.journal[1]["manifest"] == second.digest
    assert second.journal[1]["tool"].startswith("translational-workbench ")
    assert second.outcomes["value"].to_list() == [2.0, 3.0, 5.0]


def _rewrite(study: Study, lines: list[bytes]) -> None:
    journal = b"".join(lines)
    (study.path / "journal.jsonl").write_bytes(journal)
    sealed = manifest.seal((study.path / "manifest.json").read_bytes(), journal)
    (study.path / "manifest.sha256").write_bytes(sealed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:1], "its last entry is for manifest"),
        (lambda lines: lines[1:], "entry 1 should follow 000"),
        (lambda lines: [lines[1], lines[0]], "entry 1 should follow 000"),
        (lambda lines: [lines[0].replace(b"built", b"guilt"), lines[1]], "entry 1: expected hash"),
        (lambda lines: [lines[0].replace(b",", b", ", 1), lines[1]], "entry 1 is damaged"),
        (lambda lines: [], "expected at least one entry"),
    ],
)
def test_a_journal_that_was_edited_is_refused_even_when_sealed_again(study, change, message):
    second = write_study(study.path, **content(value=5.0), replace=True)
    _rewrite(second, change((second.path / "journal.jsonl").read_bytes().splitlines(keepends=True)))
    with pytest.raises(StudyError, match=rf"journal\.jsonl: .*{message}"):
        Study.open(second.path)


def test_a_damaged_study_can_be_replaced_and_its_journal_starts_anew(study):
    (study.path / "journal.jsonl").write_bytes(b"")
    assert [e["event"] for e in write_study(study.path, **content(), replace=True).journal] == ["built"]


# ---- crashes


def test_an_error_while_writing_leaves_the_old_study_and_no_debris(study, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workbench.study.h5ad.write", full)
    with pytest.raises(OSError, match="No space left"):
        write_study(study.path, **content(value=9.0), replace=True)
    assert [p.name for p in study.path.parent.iterdir()] == ["one"]
    assert Study.open(study.path).digest == study.digest
    assert study.check() == []


def test_a_failing_rename_puts_the_old_study_back_at_once(study, monkeypatch):
    real = os.rename

    def fails(source, target):
        if str(source).endswith(".tmp"):
            raise OSError(5, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(OSError, match="Input/output"):
        write_study(study.path, **content(value=9.0), replace=True)
    assert [p.name for p in study.path.parent.iterdir()] == ["one"]
    assert Study.open(study.path).digest == study.digest


CRASH = """
    import os, sys
    from pathlib import Path
    from workbench import durable

    target, moment = Path(sys.argv[1]), sys.argv[2]
    rename = os.rename

    def die(*_, **__):
        os._exit(9)

    def rename_then_die(source, to):
        if moment == "before the new one stands" and str(source).endswith(".tmp"):
            die()
        rename(source, to)

    os.rename = rename_then_die
    if moment == "before the old one is gone":
        durable.shutil.rmtree = die
    with durable.beside(target) as temporary:
        durable.write_synced(temporary / "a", b"new")
        if moment == "half written":
            die()
        durable.put(temporary, target, replace=True)
"""


@pytest.mark.parametrize(
    ("moment", "stands"),
    [("half written", "old"), ("before the new one stands", "old"), ("before the old one is gone", "new")],
)
def test_a_process_that_dies_leaves_one_whole_folder(tmp_path, moment, stands):
    target = tmp_path / f"[{HTML}]*"  # a name that glob would read as a pattern
    target.mkdir()
    (target / "a").write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(CRASH), str(target), moment], cwd=ROOT)
    assert done.returncode == 9
    durable.recover(target)
    assert (target / "a").read_bytes().decode() == stands
    with durable.beside(target) as temporary:  # the next writer sweeps what the dead one left
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted([temporary.name, target.name])
    assert [p.name for p in tmp_path.iterdir()] == [target.name]


def test_open_find_and_names_recover_a_replacement_cut_in_half(workbench_home):
    for _ in range(3):
        write_study(home.studies() / "one", **content(), replace=True)
    kept = home.studies() / ".one.old"
    for see in (lambda: Study.open(home.studies() / "one"), lambda: find("one"), names):
        (home.studies() / "one").rename(kept)
        see()
        assert names() == ["one"]
        assert not kept.exists()


def test_a_link_to_a_study_still_leads_there_after_a_replacement(study, tmp_path):
    (tmp_path / "link").symlink_to(study.path)
    write_study(tmp_path / "link", **content(value=4.0), replace=True)
    assert (tmp_path / "link").is_symlink()
    assert Study.open(tmp_path / "link").outcomes["value"].to_list() == [2.0, 3.0, 4.0]
    assert Study.open(study.path).check() == []


def test_two_writers_at_once_leave_one_whole_study(study):
    def write(value: float) -> None:
        for _ in range(5):
            write_study(study.path, **content(value=value), replace=True)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(write, 10.0), pool.submit(write, 20.0)]:
            done.result()
    after = Study.open(study.path)
    assert after.check() == []
    assert after.outcomes["value"][2] in (10.0, 20.0)
    assert [p.name for p in study.path.parent.iterdir()] == ["one"]


def test_opening_while_another_replaces_always_sees_one_whole_study(study):
    writing = threading.Event()

    def read() -> set[str]:
        seen = set()
        while not writing.is_set():
            seen.add(Study.open(study.path).digest)
        return seen

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        try:
            known = {write_study(study.path, **content(value=float(v)), replace=True).digest for v in range(20)}
        finally:
            writing.set()
        assert reader.result() <= known | {study.digest}


def test_a_study_is_as_readable_as_any_new_folder(study, tmp_path):
    (tmp_path / "plain").mkdir()
    assert study.path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_another_living_process_writes_is_left_alone(tmp_path):
    with durable.beside(tmp_path / "one") as first, durable.beside(tmp_path / "one") as second:
        assert first != second
        assert first.exists()


# ---- finding studies


def test_find(workbench_home, tmp_path):
    with pytest.raises(FileNotFoundError, match="It has none yet"):
        find("gdsc2")
    write_study(home.studies() / "gdsc2", **content())
    write_study(tmp_path / "elsewhere", **content())
    assert names() == ["gdsc2"]
    assert find("gdsc2") == home.studies() / "gdsc2"
    assert find(tmp_path / "elsewhere") == tmp_path / "elsewhere"
    with pytest.raises(FileNotFoundError, match=r"Did you mean 'gdsc2'\? It has: gdsc2.*workbench study build"):
        find("gdcs2")
    with pytest.raises(FileNotFoundError, match="empty"):
        find("")
    with pytest.raises(FileNotFoundError, match="no study folder here"):
        Study.open(tmp_path / "nothing")


def test_an_unknown_modality_names_the_nearest(study):
    with pytest.raises(KeyError, match=r"no modality 'expresion'\. Did you mean 'expression'"):
        study.modality("expresion")


def test_a_study_replaced_while_open_is_noticed(study):
    write_study(study.path, **content(value=7.0), replace=True)
    with pytest.raises(StudyError, match=r"outcomes\.parquet: expected SHA-256"):
        _ = study.outcomes
    assert any("replaced since opening" in p for p in study.check())


def test_what_is_sealed_but_no_study_is_refused_by_the_format(study):
    """Digests right, content wrong: the format's own checks stand behind."""
    files = {k: dict(v) for k, v in study.manifest["files"].items()}
    (study.path / "subjects.parquet").write_bytes(b"PAR1 nothing PAR1")
    files["subjects.parquet"]["sha256"] = manifest.sha256(b"PAR1 nothing PAR1")
    _reseal(study, study.manifest | {"files": files})
    with pytest.raises(FormatError, match=r"subjects\.parquet, footer"):
        _ = Study.open(study.path).subjects


def test_the_journal_and_manifest_are_canonical(study):
    for line in (study.path / "journal.jsonl").read_bytes().splitlines(keepends=True):
        assert manifest.canonical(json.loads(line)) == line
    data = (study.path / "manifest.json").read_bytes()
    assert manifest.canonical(json.loads(data)) == data
