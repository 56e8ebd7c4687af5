"""What must hold between the tables and the modalities of one study."""

from __future__ import annotations

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
RESERVED = ("subject", "tissue", "n_outcomes")  # columns of Study.presence


def check_name(name: str) -> str:
    """``name`` if it can be a modality (and so a file's name): any text without a path in it.

    Raises
    ------
    ValueError
        Empty, hidden (a leading dot), with a slash, backslash or control character, too long, or reserved.
    """
    if not name or name.startswith(".") or any(c in "/\\" or ord(c) < 32 or ord(c) == 127 for c in name):
        rule = "expected text without slash, backslash, control characters or a leading dot"
        raise ValueError(f"modality name {name!r}: {rule}. Rename the modality.")
    if len(name.encode()) > 200 or name in RESERVED:
        raise ValueError(f"modality name {name!r}: expected at most 200 bytes and none of {', '.join(RESERVED)}.")
    return name


def stem(file: str) -> str:
    """The table or modality that the stored file ``file`` holds."""
    return file.removeprefix("modalities/").removesuffix(".h5ad").removesuffix(".parquet")


def check_place(file: str) -> None:
    """Raise ``ValueError`` unless ``file`` is a name a study can hold: no path leads out of its folder."""
    name = stem(file)
    if file == f"{name}.parquet" and name in FRAMES:
        return
    if file != f"modalities/{name}.h5ad":
        raise ValueError(f"lists {file!r}, which has no place in a study.")
    check_name(name)


def prepare(frames: dict[str, pl.DataFrame], modalities: dict[str, AnnData]) -> dict[str, pl.DataFrame]:
    """The three frames, checked, names as text, outcomes sorted by treatment, then subject.

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
        for problem in modality_problems(name, data, ready):
            raise ValueError(problem)
    return ready | {"outcomes": ready["outcomes"].sort(ORDER, maintain_order=True)}


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
    axis, unit = data.uns.get("axis"), data.uns.get("unit")
    if axis not in AXES or not isinstance(unit, str):
        return [f"{where}: expected uns['axis'] in {list(AXES)} and text in uns['unit'], found {axis!r} and {unit!r}."]
    problems = []
    for side, index in (("obs_names", data.obs_names), ("var_names", data.var_names)):
        if not index.is_unique:
            problems.append(f"{where}: {side} repeats {index[index.duplicated()][0]!r}. Name each row and column once.")
    unknown = sorted(set(data.obs_names) - set(frames[AXES[axis]][axis]))
    if unknown:
        problems.append(f"{where}: {len(unknown)} rows are no {axis} of this study, first {unknown[0]!r}.")
    values: Any = data.X
    if values is None or np.dtype(values.dtype).kind not in "biuf":
        problems.append(f"{where}: expected numbers in X, found {getattr(values, 'dtype', None)}.")
    return problems
