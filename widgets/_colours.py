"""What the points of an embedding can be coloured by, and the colour of each.

A colour is asked for as a dict, the form that crosses to the page:

    {"kind": "none"}
    {"kind": "column", "name": "tissue"}                                   of the subjects, cells or treatments
    {"kind": "response", "treatment": "Erlotinib", "endpoint": "ln_ic50"}  a subject's mean measured value
    {"kind": "feature", "modality": "mutation", "name": "BRAF"}            a gene or test of any modality
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from widgets._parts import readable
from workbench.text import nearest

if TYPE_CHECKING:
    from workbench.backed import Backed
    from workbench.study import Study

NONE: dict[str, str] = {"kind": "none"}
LEVELS = 8  # as many as Okabe and Ito have hues
STEPS = 256
TAIL = 0.01  # share of values at either end that share the end's colour
_BLOCK = 20_000  # rows read at a time
_FEW = 8  # whole numbers with at most so many values are categories


@dataclass(frozen=True)
class Rows:
    """The rows of a modality: their names, and whose they are.

    Attributes
    ----------
    names : one per row
    axis : "subject", "treatment" or "cell"
    subjects : the subject of each row; empty on the treatment axis
    columns : one row per row, what they can be coloured by
    """

    names: list[str]
    axis: str
    subjects: list[str]
    columns: pl.DataFrame


@dataclass(frozen=True)
class Colouring:
    """The colour of each row.

    Attributes
    ----------
    kind : "none", "levels" (categories) or "scale" (numbers)
    codes : int16 (n,): index into ``levels``, or 0 to 255 along the scale; -1 without a value
    levels : ``{"name", "n"}`` of the categories, most frequent first; ``other``: how many stand together in the last
    low, high : ends of the scale; ``below`` and ``above``: how many values lie beyond
    """

    kind: str
    title: str
    codes: np.ndarray
    values: pl.Series
    unit: str = ""
    levels: list[dict[str, Any]] = field(default_factory=list)
    other: int = 0
    low: float = 0.0
    high: float = 1.0
    below: int = 0
    above: int = 0

    def header(self) -> dict[str, Any]:
        """What the legend needs, as plain JSON values."""
        absent = int((self.codes < 0).sum()) if self.kind != "none" else 0
        return {
            "kind": self.kind,
            "title": self.title,
            "unit": self.unit,
            "levels": self.levels,
            "other": self.other,
            "low": self.low,
            "high": self.high,
            "below": self.below,
            "above": self.above,
            "absent": absent,
        }


def rows_of(study: Study, modality: str) -> Rows:
    """The rows of a study's modality with the columns that describe them."""
    data = study.modality(modality)
    axis = str(data.uns.get("axis", "subject"))
    names = [str(name) for name in data.obs_names]
    own = pl.DataFrame({str(c): _plain(data.obs[c]) for c in data.obs.columns if str(c) != "subject"})
    if axis == "treatment":
        return Rows(names, axis, [], _beside(own, names, study.treatments, "treatment"))
    subjects = [str(s) for s in data.obs["subject"]] if axis == "cell" and "subject" in data.obs else names
    return Rows(names, axis, subjects, _beside(own, subjects, study.subjects, "subject"))


def rows_on_disk(study: Study, backed: Backed) -> Rows:
    """The same of a modality that is read by blocks."""
    names, axis = backed.names().to_list(), str(backed.axis or "subject")
    own = pl.DataFrame([_text(backed.column(c)) for c in backed.columns if c not in ("subject", "_index")])
    if axis == "treatment":
        return Rows(names, axis, [], _beside(own, names, study.treatments, "treatment"))
    subjects = names
    if axis == "cell" and "subject" in backed.columns:
        codes, known = backed.codes("subject")
        subjects = [known[code] if code >= 0 else "" for code in codes]
    return Rows(names, axis, subjects, _beside(own, subjects, study.subjects, "subject"))


def _text(column: pl.Series) -> pl.Series:
    return column if column.dtype.is_numeric() or column.dtype == pl.Boolean else column.cast(pl.String)


def _plain(column: Any) -> pl.Series:
    """A pandas column as polars: categories as text."""
    values = column.to_numpy()
    if values.dtype.kind in "biuf":
        return pl.Series(values)
    return pl.Series([None if v is None or v != v else str(v) for v in values.tolist()], dtype=pl.String)


def _beside(own: pl.DataFrame, keys: list[str], table: pl.DataFrame, key: str) -> pl.DataFrame:
    """Columns of ``table`` for each of ``keys``, then those of ``own``: all that say more than the name does."""
    left = pl.DataFrame({key: pl.Series(keys, dtype=pl.String)})
    wide = left.join(table.with_columns(pl.col(key).cast(pl.String)), on=key, how="left", maintain_order="left")
    joined = wide if key == "subject" and len(set(keys)) < len(keys) else wide.drop(key)
    if own.width:
        joined = joined.hstack(own.select(c for c in own.columns if c not in joined.columns))
    kept = []
    for column in joined.get_columns():
        if not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Boolean, pl.Categorical)):
            continue
        known = column.drop_nulls()
        label = column.dtype == pl.String or column.name.lower().endswith("id")
        if known.n_unique() > 1 and not (label and known.n_unique() > 0.9 * len(known) and len(known) > 20):
            kept.append(column.cast(pl.String) if column.dtype == pl.Categorical else column)
    return pl.DataFrame(kept) if kept else pl.DataFrame({"_": [None] * len(keys)}).select([])


def asked(text: str | dict[str, Any], rows: Rows, study: Study | None) -> dict[str, Any]:
    """A colour in the dict form, from a short text: a column, "treatment: endpoint" or "modality: feature".

    Raises
    ------
    ValueError
        There is nothing of this name; the message names what is near.
    """
    if isinstance(text, dict):
        return dict(text)
    if text in ("", "none"):
        return dict(NONE)
    if text in rows.columns.columns:
        return {"kind": "column", "name": text}
    known = list(rows.columns.columns)
    if study is not None:
        head, _, tail = (part.strip() for part in text.partition(":"))
        if head in study.modalities and tail:
            return {"kind": "feature", "modality": head, "name": tail}
        treatments = study.treatments["treatment"].cast(pl.String).to_list()
        if head in treatments:
            return {"kind": "response", "treatment": head, "endpoint": tail or _first_endpoint(study)}
        known += treatments
    raise ValueError(
        f"nothing here is called {text!r} to colour by.{nearest(text, known)} It can be a column "
        f"({', '.join(rows.columns.columns) or 'none here'}), a treatment, or 'modality: feature'."
    )


def _first_endpoint(study: Study) -> str:
    found = study.rows["endpoint"].cast(pl.String).unique().sort().to_list()
    return "ln_ic50" if "ln_ic50" in found else (found[0] if found else "")


def colouring(
    choice: dict[str, Any], rows: Rows, study: Study | None, on_disk: Mapping[str, Backed] | None = None
) -> Colouring:
    """The colour of each row for a choice.

    Parameters
    ----------
    on_disk : modalities that are not to be read whole, opened

    Raises
    ------
    ValueError
        The column, treatment, endpoint or feature does not exist, or the axis has no such values.
    """
    kind = choice.get("kind", "none")
    if kind == "none":
        return Colouring("none", "", np.zeros(len(rows.names), np.int16), pl.Series([None] * len(rows.names)))
    if kind == "column":
        name = choice["name"]
        if name not in rows.columns.columns:
            raise ValueError(f"there is no column {name!r}.{nearest(name, rows.columns.columns)}")
        return _coloured(name, _unit_of(name, rows), rows.columns[name])
    if study is None:
        raise ValueError(f"a colour of kind {kind!r} needs a study; a plain frame has columns only.")
    if kind == "response":
        return _response(choice, rows, study)
    if kind == "feature":
        return _feature(choice, rows, study, on_disk or {})
    raise ValueError(f"colour: kind {kind!r} is not one of none, column, response, feature.")


def _unit_of(name: str, rows: Rows) -> str:
    """The unit of a column, where the table says it beside the column: arm_dose and arm_dose_unit."""
    beside = f"{name}_unit"
    if beside in rows.columns.columns:
        found = rows.columns[beside].drop_nulls().unique().to_list()
        return str(found[0]) if len(found) == 1 else ""
    return ""


def _response(choice: dict[str, Any], rows: Rows, study: Study) -> Colouring:
    treatment, endpoint = str(choice.get("treatment", "")), str(choice.get("endpoint") or _first_endpoint(study))
    if rows.axis == "treatment":
        raise ValueError("a response belongs to subjects; this modality describes treatments.")
    known = study.treatments["treatment"].cast(pl.String).to_list()
    if treatment not in known:
        raise ValueError(f"there is no treatment {treatment!r}.{nearest(treatment, known)}")
    found = study.outcomes.filter(
        (pl.col("treatment").cast(pl.String) == treatment) & (pl.col("endpoint").cast(pl.String) == endpoint)
    )
    means = found.group_by(pl.col("subject").cast(pl.String)).agg(pl.col("value").mean())
    unit = str(found["unit"][0]) if len(found) else ""
    label, unit = readable(endpoint, unit)
    several = "mean " if len(found) > len(means) else ""
    return _coloured(f"{several}{label} of {treatment}", unit, _aligned(rows.subjects, means, "value"))


def _feature(choice: dict[str, Any], rows: Rows, study: Study, on_disk: Mapping[str, Backed]) -> Colouring:
    modality, name = str(choice.get("modality", "")), str(choice.get("name", ""))
    if modality in on_disk:
        backed = on_disk[modality]
        values, unit = _column_on_disk(backed, name, modality), str(backed.unit or "")
        owners, cells = rows.names, backed.axis == "cell"
        if backed.shape[0] != len(rows.names) or backed.names().to_list() != rows.names:
            owners = backed.column("subject").cast(pl.String).to_list() if cells else backed.names().to_list()
    else:
        data = study.modality(modality)
        if name not in data.var_names:
            raise ValueError(f"{modality} has no feature {name!r}.{nearest(name, [str(v) for v in data.var_names])}")
        column = data[:, name].X
        values = np.asarray(column.todense() if hasattr(column, "todense") else column, dtype=np.float64).ravel()
        unit = str(data.var["unit"].loc[name]) if "unit" in data.var else str(data.uns.get("unit", ""))
        owners = [str(n) for n in data.obs_names]
        if owners != rows.names and str(data.uns.get("axis", "subject")) == "cell" and "subject" in data.obs:
            owners = [str(s) for s in data.obs["subject"]]
    if owners == rows.names:
        return _coloured(f"{name}, {modality}", unit, pl.Series(values).fill_nan(None))
    means = pl.DataFrame({"subject": owners, "value": values}).fill_nan(None)
    means = means.group_by("subject").agg(pl.col("value").mean())
    return _coloured(f"{name}, {modality}", unit, _aligned(rows.subjects or rows.names, means, "value"))


def _column_on_disk(backed: Backed, name: str, modality: str) -> np.ndarray:
    """One feature of all rows, read by blocks."""
    features = backed.features().to_list()
    if name not in features:
        raise ValueError(f"{modality} has no feature {name!r}.{nearest(name, features)}")
    at, total = features.index(name), backed.shape[0]
    found = np.empty(total, dtype=np.float64)
    for start in range(0, total, _BLOCK):
        part = backed.rows(start, min(start + _BLOCK, total))[:, [at]]
        found[start : start + _BLOCK] = np.asarray(part.todense() if hasattr(part, "todense") else part).ravel()
    return found


def _aligned(keys: list[str], table: pl.DataFrame, value: str) -> pl.Series:
    left = pl.DataFrame({"subject": pl.Series(keys, dtype=pl.String)})
    return left.join(table, on="subject", how="left", maintain_order="left")[value]


def _coloured(title: str, unit: str, values: pl.Series) -> Colouring:
    """Categories most frequent first, numbers along a scale whose ends hold all but the outermost hundredths."""
    if values.dtype.is_float():
        values = values.fill_nan(None)
        values = values.set(values.is_infinite().fill_null(False), None)
    known = values.drop_nulls()
    numbers = values.dtype.is_numeric() and not (
        known.n_unique() <= (_FEW if values.dtype.is_integer() else 3) and bool((known == known.round(0)).all())
    )
    if numbers and len(known):
        low, high = (float(known.quantile(q, "linear") or 0.0) for q in (TAIL, 1 - TAIL))
        if not high > low:
            low, high = float(known.min()), float(known.max())  # type: ignore[arg-type]
        span = (high - low) or 1.0
        place = ((values.cast(pl.Float64) - low) / span).clip(0, 1) * (STEPS - 1)
        codes = place.round(0).fill_null(-1).cast(pl.Int16).to_numpy()
        under, over = int((known < low).sum()), int((known > high).sum())
        return Colouring("scale", title, codes, values, unit, low=low, high=high, below=under, above=over)
    text = values.cast(pl.Int64) if values.dtype.is_float() else values
    text = text.cast(pl.String)
    counts = text.drop_nulls().value_counts(sort=False, name="n").sort("n", text.name, descending=[True, False])
    names, sizes = counts[text.name].to_list(), counts["n"].to_list()
    shown = len(names) if len(names) <= LEVELS else LEVELS - 1
    levels = [{"name": name, "n": n} for name, n in zip(names[:shown], sizes[:shown], strict=True)]
    other = len(names) - shown
    if other:
        levels.append({"name": f"other ({other} more)", "n": sum(sizes[shown:])})
    code = pl.Series([min(k, shown) for k in range(len(names))], dtype=pl.Int16)
    known = pl.Series(names, dtype=pl.String)
    codes = text.replace_strict(known, code, default=None, return_dtype=pl.Int16).fill_null(-1).to_numpy()
    return Colouring("levels", title, codes, values, unit, levels=levels, other=other)
