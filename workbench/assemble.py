"""A study's folder put together beside its place and moved there in one step.

``write`` makes every file anew; ``append`` adds one entry to the journal and takes all other files over by hard links,
so that a reader sees the folder before or after and never between.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from workbench import durable, manifest
from workbench.formats import h5ad, parquet

if TYPE_CHECKING:
    from anndata import AnnData

VERSION = 1
CODED = ("subject", "treatment", "site", "dose_unit", "endpoint", "unit", "source")
BLOCK = 8 * 2**20  # bytes copied at a time


def write(
    path: Path,
    frames: dict[str, pl.DataFrame],
    records: dict[str, pl.DataFrame],
    modalities: dict[str, AnnData | Path],
    facts: dict[str, dict[str, Any]],
    provenance: dict[str, Any],
    event: str,
    before: list[dict[str, Any]],
    replace: bool,
) -> None:
    """Write the folder of a study whose content was checked.

    Parameters
    ----------
    facts : by modality, its entry of the manifest (schema, axis, units, cells of each subject)
    before : the journal that goes on
    """
    with durable.beside(path) as temporary:
        files: dict[str, Any] = {}
        for name, frame in frames.items():
            coded = tuple(c for c in CODED if c in frame.columns)
            files[f"{name}.parquet"] = _store(temporary, f"{name}.parquet", parquet.write(frame, coded)) | {
                "schema": {c: str(t) for c, t in frame.schema.items()},
                "rows": frame.height,
                "units": dict(frame.select("endpoint", "unit").unique().rows()) if name == "outcomes" else {},
            }
        for folder, content in (("modalities", modalities), ("records", records)):
            if content:
                (temporary / folder).mkdir()
        for name, frame in sorted(records.items()):
            file = f"records/{name}.parquet"
            described = {"schema": {c: str(t) for c, t in frame.schema.items()}, "rows": frame.height}
            files[file] = _store(temporary, file, parquet.write(frame)) | described
        for name, data in sorted(modalities.items()):
            file = f"modalities/{name}.h5ad"
            stored = (
                _copy(temporary, file, data) if isinstance(data, Path) else _store(temporary, file, h5ad.write(data))
            )
            files[file] = stored | facts[name]
        content_bytes = manifest.canonical({"version": VERSION, "files": files, "provenance": provenance})
        listed = manifest.sha256(manifest.canonical(files))
        previous = before[-1]["hash"] if before else manifest.GENESIS
        entry = manifest.journal_entry(previous, event, listed, manifest.sha256(content_bytes))
        _store(temporary, "manifest.json", content_bytes)
        _seal(temporary, content_bytes, [*before, entry])
        for folder in ("modalities", "records"):
            if (temporary / folder).is_dir():
                durable.sync_folder(temporary / folder)
        durable.sync_folder(temporary)
        durable.put(temporary, path, replace)


def append(path: Path, journal: list[dict[str, Any]], event: str, **more: Any) -> None:
    """Add an entry (``more``: its ``cohort``) to the journal of the study at ``path``; nothing else changes.

    Call within ``locked(path)``, with the journal read there.
    """
    last = journal[-1]
    entry = manifest.journal_entry(last["hash"], event, last["files"], last["manifest"], **more)
    with durable.beside(path) as temporary:
        for source in sorted(path.rglob("*")):
            place = temporary / source.relative_to(path)
            if source.is_dir():
                place.mkdir()
            elif source.name not in ("journal.jsonl", "manifest.sha256") or source.parent != path:
                _link(source, place)
        _seal(temporary, manifest.read_file(path, "manifest.json"), [*journal, entry])
        durable.sync_folder(temporary)
        durable.put(temporary, path, replace=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time adds to the journal of the study at ``path``; the lock dies with its process."""
    handle = os.open(path.parent / f".{path.name}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _link(source: Path, place: Path) -> None:
    try:
        os.link(source, place)
    except OSError:  # a filesystem without hard links
        shutil.copy2(source, place)


def _seal(folder: Path, content: bytes, entries: list[dict[str, Any]]) -> None:
    journal = b"".join(manifest.canonical(e) for e in entries)
    _store(folder, "journal.jsonl", journal)
    _store(folder, "manifest.sha256", manifest.seal(content, journal))


def _store(folder: Path, file: str, data: bytes) -> dict[str, Any]:
    durable.write_synced(folder / file, data)
    return {"sha256": manifest.sha256(data), "size": len(data)}


def _copy(folder: Path, file: str, source: Path) -> dict[str, Any]:
    """Copy a file that may be larger than memory, with its digest."""
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as given, (folder / file).open("xb") as stream:
        while block := given.read(BLOCK):
            digest.update(block)
            stream.write(block)
            size += len(block)
        stream.flush()
        os.fsync(stream.fileno())
    return {"sha256": digest.hexdigest(), "size": size}
