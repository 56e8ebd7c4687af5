"""One table of many runs, read without an MLflow object for each: the bytes are checked against their digests first."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence

import polars as pl

from workbench.runs import index, models
from workbench.runs.keys import table as schema_of


def stored(
    run_ids: Iterable[str], name: str, columns: Sequence[str] | None = None
) -> Iterator[tuple[str, pl.DataFrame]]:
    """(run id, table) of every run that holds the table ``name``, in the order asked; the others are passed over.

    Parameters
    ----------
    columns
        Read only these columns (default: all).

    Raises
    ------
    RunError
        No table has that name; or a file's SHA-256 is not the recorded one: it was not opened.
    """
    asked = list(dict.fromkeys(run_ids))
    file = f"{schema_of(name).name.lower()}.parquet"
    places = {run: (root, told) for run, root, told in index.places(asked, "sha256 tables").iter_rows()}
    for run in asked:
        root, told = places.get(run, ("", None))
        digest = json.loads(told or "{}").get(file)
        if digest is not None:
            data = models.checked(root, f"tables/{file}", digest, f"run {run}")
            yield run, pl.read_parquet(io.BytesIO(data), columns=None if columns is None else list(columns))
