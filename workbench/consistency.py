"""What must hold between the tables and the modalities of one study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from workbench import tables
from workbench.text import nearest

if TYPE_CHECKING:
    from anndata import AnnData

FRAMES = {"outcomes": tables.OUTCOMES, "subjects": tables.SUBJECTS, "treatments": tables.TREATMENTS}
ORDER = ("treatment", "subject", "endpoint", "source", "site", "dose", "time_h")
AXES = {"subject": "subjects", "treatment": "treatments"}
PLACES = {"modalities": ".h5ad", "records": ".parquet"}  # folder -> suffix of what lies in it
RESERVED = ("subject", "tissue", "n_outcomes")  # columns of Study.presence


def check_name(name: str, what: str = "modality") -> str:
    """``name`` if it can be a modality or a record (and so a file's name): any text without a path in it.

    Raises
    ------
    ValueError
        Empty, hidden (a leading dot), with a slash, backslash or control character, too long, or reserved.
    """
    if not name or name.startswith(".") or any(c in "/\\" or ord(c) < 32 or ord(c) == 127 for c in name):
        rule = "expected text without slash, backslash, control characters or a leading dot"
        raise ValueError(f"{what} name {name!r}: {rule}. Rename the {what}.")
    if len(name.encode()) > 200 or name in RESERVED:
        raise ValueError(f"{what} name {name!r}: expected at most 200 bytes and none of {', '.join(RESERVED)}.")
    return name


def stem(file: str) -> str:
    """The table, modality or record that the stored file ``file`` holds."""
    folder, slash, name = file.partition("/")
    return name.removesuffix(PLACES.get(folder, "")) if slash else file.removesuffix(".parquet")


def check_place(file: str) -> None:
    """Raise ``ValueError`` unless ``file`` is a name a study can hold: no path leads out of its folder."""
    name = stem(file)
    if file == f"{name}.parquet" and name in FRAMES:
        return
    for folder, suffix in PLACES.items():
        if file == f"{folder}/{name}{suffix}":
            check_name(name, "modality" if folder == "modalities" else "record")
            return
    raise ValueError(f"lists {file!r}, which has no place in a study.")


def prepare(
    frames: dict[str, pl.DataFrame], modalities: Mapping[str, AnnData | Path]
) -> tuple[dict[str, pl.DataFrame], dict[str, dict[str, Any]]]:
    """The three frames, checked, names as text, outcomes sorted by treatment, then subject; the modalities' facts.

    Raises
    ------
    TableError
        A frame does not have its table's schema, or names a subject or treatment that does not exist.
    ValueError
        A modality lacks its axis or unit, repeats a name, or names what does not exist.
    """
    ready = {}
    for name, table in FRAMES.items():
        frame = tables.check(frames[name], table)
        coded = [c for c, t in frame.schema.items() if isinstance(t, (pl.Categorical, pl.Enum))]
        ready[name] = frame.with_columns(pl.col(coded).cast(pl.String)) if coded else frame
    for problem in disagreements(ready):
        raise tables.TableError(problem)
    for name, data in modalities.items():
        check_name(name)
        problems = _path_problems(name, data, ready) if isinstance(data, Path) else modality_problems(name, data, ready)
        for problem in problems:
            raise ValueError(problem)
    facts = {name: _facts(data) for name, data in modalities.items()}
    return ready | {"outcomes": ready["outcomes"].sort(ORDER, maintain_order=True)}, facts


def _facts(data: AnnData | Path) -> dict[str, Any]:
    """What the manifest says of a modality; for cells also how many each subject has."""
    if isinstance(data, Path):
        from workbench import backed

        found = backed.facts(data)
        shape, dtype, axis, unit, owners = (found[k] for k in ("shape", "dtype", "axis", "unit", "subjects"))
    else:
        shape, dtype, axis, unit = data.shape, data.X.dtype, data.uns["axis"], data.uns["unit"]
        owners = data.obs["subject"].astype(str).value_counts().to_dict() if axis == "cell" else None
    told = {"schema": {"shape": [int(n) for n in shape], "dtype": str(dtype)}, "axis": str(axis)}
    cells = {"cells": {str(k): int(n) for k, n in sorted(owners.items())}} if axis == "cell" else {}
    return told | {"units": {"X": str(unit)}} | cells


def _path_problems(name: str, path: Path, frames: dict[str, pl.DataFrame]) -> list[str]:
    from workbench import backed

    found = backed.facts(path)
    owners = None if found["subjects"] is None else list(found["subjects"])
    return owner_problems(f"modality {name!r}", found["axis"], found["unit"], owners, frames)


def disagreements(frames: dict[str, pl.DataFrame]) -> list[str]:
    """Repeated or unknown names, and endpoints in more than one unit, one sentence each."""
    problems = []
    for column, table in AXES.items():
        values = frames[table][column]
        if values.is_duplicated().any():
            twice = values.filter(values.is_duplicated())[0]
            problems.append(f"table {table.upper()}: {column} {twice!r} stands in more than one row. Name each once.")
        known = values.to_list()
        unknown = frames["outcomes"].filter(~pl.col(column).is_in(known))[column].unique().sort()
        if len(unknown):
            problems.append(
                f"table OUTCOMES: {len(unknown)} names in column {column!r} are missing from {table.upper()}, first "
                f"{unknown[0]!r}.{nearest(unknown[0], known)} Add them there or drop their outcomes."
            )
    units = frames["outcomes"].group_by("endpoint").agg(pl.col("unit").unique().sort())
    for endpoint, found in units.filter(pl.col("unit").list.len() > 1).sort("endpoint").rows():
        problems.append(f"table OUTCOMES: endpoint {endpoint!r} has units {found}. Convert to one (workbench.units).")
    return problems


def modality_problems(name: str, data: AnnData, frames: dict[str, pl.DataFrame]) -> list[str]:
    """What is wrong with one modality, one sentence each."""
    where = f"modality {name!r}"
    problems = []
    for side, index in (("obs_names", data.obs_names), ("var_names", data.var_names)):
        if not index.is_unique:
            problems.append(f"{where}: {side} repeats {index[index.duplicated()][0]!r}. Name each row and column once.")
    values: Any = data.X
    if values is None or np.dtype(values.dtype).kind not in "biuf":
        problems.append(f"{where}: expected numbers in X, found {getattr(values, 'dtype', None)}.")
    axis = data.uns.get("axis")
    owners: list[str] | None = list(data.obs_names)
    if axis == "cell":
        owners = [str(s) for s in data.obs["subject"]] if "subject" in data.obs else None
    return owner_problems(where, axis, data.uns.get("unit"), owners, frames) + problems


def owner_problems(
    where: str, axis: Any, unit: Any, owners: list[str] | None, frames: dict[str, pl.DataFrame]
) -> list[str]:
    """What is wrong with a modality's axis, unit and the names its rows belong to.

    Parameters
    ----------
    owners : the rows' names, for cells the subject of each; None where cells do not say whose they are
    """
    if axis not in (*AXES, "cell") or not isinstance(unit, str):
        known = [*AXES, "cell"]
        return [f"{where}: expected uns['axis'] in {known} and text in uns['unit'], found {axis!r} and {unit!r}."]
    if owners is None:
        return [f"{where}: its rows are cells; expected obs['subject'], the subject each comes from, found none."]
    kind = "subject" if axis == "cell" else axis
    unknown = sorted(set(owners) - set(frames[AXES[kind]][kind]))
    if unknown:
        return [f"{where}: {len(unknown)} rows are no {kind} of this study, first {unknown[0]!r}."]
    return []
