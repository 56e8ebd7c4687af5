"""A study to and from AnnData and MuData, so that scanpy and muon users feel at home.

``to_mudata`` puts each subject and cell modality under its name with the facts of its subjects in ``obs``, modalities
of treatments and all tables in ``uns``; what comes back through ``from_mudata`` is the same study. A MuData made
elsewhere needs two things that it may not say itself: what its rows are, and the unit of each modality. Neither is
guessed.
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import polars as pl

from workbench import tables

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

KEY = "workbench"  # where a study's tables lie in ``uns``
KEPT = ("axis", "unit")


class ExchangeError(ValueError):
    """AnnData or MuData does not say what a study has to know; the message says what to give."""


def to_anndata(data: AnnData, subjects: pl.DataFrame, treatments: pl.DataFrame) -> AnnData:
    """A copy of a modality whose ``obs`` carries the columns of its subjects or treatments.

    Columns that ``obs`` already has stay as they are. ``uns`` keeps ``axis`` and ``unit``.
    """
    copy = data.copy()
    axis = str(copy.uns["axis"])
    facts = treatments if axis == "treatment" else subjects
    key = "treatment" if axis == "treatment" else "subject"
    owners = list(copy.obs["subject"].astype(str)) if axis == "cell" else list(copy.obs_names)
    joined = pl.DataFrame({key: owners}).join(facts, on=key, how="left", maintain_order="left")
    frame = _pandas(joined.drop([c for c in joined.columns if c in copy.obs.columns or c == key]))
    for column in frame.columns:
        copy.obs[column] = frame[column].to_numpy() if frame[column].dtype.kind in "biuf" else frame[column].array
    return copy


def to_mudata(
    modalities: dict[str, AnnData],
    frames: dict[str, pl.DataFrame],
    records: dict[str, pl.DataFrame],
    provenance: dict[str, Any],
) -> MuData:
    """MuData of a study's modalities and tables (``uns["workbench"]``: outcomes, subjects, treatments, records)."""
    from mudata import MuData, set_options

    rows = {n: d for n, d in modalities.items() if d.uns["axis"] != "treatment"}
    others = {n: d for n, d in modalities.items() if d.uns["axis"] == "treatment"}
    with set_options(pull_on_update=False), warnings.catch_warnings():
        # one gene stands in several modalities, and that is right
        warnings.filterwarnings("ignore", message="var_names are not unique", category=UserWarning)
        whole = MuData({n: to_anndata(d, frames["subjects"], frames["treatments"]) for n, d in rows.items()})
    every = {**frames, **{f"records/{n}": f for n, f in records.items()}}
    whole.uns[KEY] = {
        "tables": {_key(n): _pandas(f) for n, f in every.items()},
        "schemas": json.dumps({n: {c: str(t) for c, t in f.schema.items()} for n, f in every.items()}),
        "treatments": {n: d.copy() for n, d in others.items()},
        "provenance": json.dumps(provenance),
    }
    return whole


def from_mudata(
    data: MuData, *, axis: str | None = None, units: dict[str, str] | None = None, subject: str | None = None
) -> dict[str, Any]:
    """What ``study.write_study`` takes, of a MuData.

    Parameters
    ----------
    axis : what the rows are, "subject" or "cell", where a modality's ``uns["axis"]`` does not say
    units : unit of ``X`` by modality, where its ``uns["unit"]`` does not say
    subject : column of ``obs`` that names each cell's subject; needed for cells where there is no column ``subject``

    Raises
    ------
    ExchangeError
        An axis, a unit or a subject is nowhere said.
    """
    held = data.uns.get(KEY)
    modalities = {n: _modality(n, d, data, axis, (units or {}).get(n), subject) for n, d in data.mod.items()}
    if held is not None:
        schemas = json.loads(held["schemas"])
        every = {n: _polars(held["tables"][_key(n)], schema) for n, schema in schemas.items()}
        records = {n.removeprefix("records/"): f for n, f in every.items() if n.startswith("records/")}
        frames = {n: f for n, f in every.items() if not n.startswith("records/")}
        back = {n: d.copy() for n, d in held["treatments"].items()}
        provenance = json.loads(held["provenance"])
        return {**frames, "modalities": modalities | back, "records": records, "provenance": provenance}
    owners = {
        str(s) for d in modalities.values() for s in (d.obs["subject"] if d.uns["axis"] == "cell" else d.obs_names)
    }
    return {
        "outcomes": tables.empty(tables.OUTCOMES),
        "subjects": pl.DataFrame({"subject": sorted(owners)}).with_columns(tissue=pl.lit(None, pl.String)),
        "treatments": tables.empty(tables.TREATMENTS),
        "modalities": modalities,
        "records": {},
        "provenance": {"source": "MuData", "modalities": sorted(modalities)},
    }


def _modality(
    name: str, given: AnnData, whole: MuData, axis: str | None, unit: str | None, subject: str | None
) -> AnnData:
    data = given.copy()
    found = str(data.uns.get("axis", axis or ""))
    if found not in ("subject", "cell"):
        raise ExchangeError(f"modality {name!r} does not say what its rows are. Give axis='subject' or axis='cell'.")
    named = data.uns.get("unit", unit)
    if not isinstance(named, str) or not named:
        raise ExchangeError(
            f"modality {name!r} does not say its unit. Give units={{{name!r}: 'counts'}} or what it is."
        )
    if found == "cell":
        column = subject or "subject"
        frame = data.obs if column in data.obs else whole.obs.loc[data.obs_names]
        if column not in frame:
            known = ", ".join(dict.fromkeys(map(str, [*data.obs.columns, *whole.obs.columns]))) or "none"
            raise ExchangeError(
                f"modality {name!r}: no column {column!r} names each cell's subject; obs has: {known}. "
                "Give subject='that column', or add one with a single name."
            )
        data.obs["subject"] = frame[column].astype(str).to_numpy()
    data.uns = {**{k: v for k, v in data.uns.items() if k not in KEPT}, "axis": found, "unit": named}
    return data


def _key(name: str) -> str:
    return name.replace("/", ".")  # a slash is a folder in HDF5


def _pandas(frame: pl.DataFrame) -> pd.DataFrame:
    """polars to pandas in types that HDF5 can hold: text as categories, lists as JSON, nullable numbers."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for name, column in zip(frame.columns, frame.get_columns(), strict=True):
        kind = column.dtype
        if isinstance(kind, pl.List):
            column, kind = pl.Series([None if v is None else json.dumps(v.to_list()) for v in column]), pl.String()
        if kind.is_numeric():
            nullable = {"i": "Int64", "u": "UInt64", "f": "Float64"}[str(kind).lower()[0]]
            plain = column.null_count() == 0 or kind.is_float()
            columns[name] = column.to_numpy() if plain else pd.array(column.to_list(), dtype=nullable)
        elif isinstance(kind, pl.Boolean):
            columns[name] = pd.array(column.to_list(), dtype="boolean") if column.null_count() else column.to_numpy()
        else:
            columns[name] = pd.Categorical(column.cast(pl.String).to_list())
    return pd.DataFrame(columns, index=[str(i) for i in range(frame.height)])


def _polars(frame: pd.DataFrame, schema: dict[str, str]) -> pl.DataFrame:
    """Back to polars with the types of ``schema``; a missing float comes back as null, as it was."""
    columns = []
    for name, kind in schema.items():
        given = frame[name]
        values = [None if missing else v for v, missing in zip(given.tolist(), given.isna(), strict=True)]
        if kind.startswith("List"):
            inner = getattr(pl, kind[5:-1])
            columns.append(pl.Series(name, [None if v is None else json.loads(v) for v in values], pl.List(inner)))
            continue
        wanted = getattr(pl, kind.split("(")[0])
        strict = pl.Series(name, values, pl.String) if wanted in (pl.Date, pl.Datetime, pl.Time) else None
        columns.append(strict.str.strptime(wanted) if strict is not None else pl.Series(name, values, wanted))
    return pl.DataFrame(columns)
