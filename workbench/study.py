"""A study: a folder on disk that is whole or absent, and proves it before anything is read from it.

    outcomes.parquet  subjects.parquet  treatments.parquet  modalities/<name>.h5ad
    journal.jsonl     manifest.json     manifest.sha256

``write_study`` builds the folder beside its place, syncs every file and renames it in one step.
``Study.open`` verifies manifest and journal at once; every other file is read once, its SHA-256 is
compared with the manifest, and only then do those bytes reach a parser.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from workbench import consistency, durable, home, manifest, tables
from workbench.formats import FormatError, h5ad, parquet
from workbench.manifest import StudyError
from workbench.text import nearest

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["SealedError", "Study", "StudyError", "find", "names", "write_study"]

VERSION = 1
PROOF = ("manifest.sha256", "manifest.json", "journal.jsonl")
CODED = ("subject", "treatment", "site", "dose_unit", "endpoint", "unit", "source")


class SealedError(RuntimeError):
    """Targets were asked of a sealed study."""


class Study:
    """A study opened for reading. Frames and modalities are cached: copy before changing one in place.

    Attributes
    ----------
    path, name : where it lies, and that folder's name (shown as typed; it may hold anything but a slash)
    digest : SHA-256 of the manifest; the same content always has the same digest
    manifest : ``files`` -> ``{"sha256", "size", "schema", "units"}``, ``provenance``, ``version``
    journal : the verified entries, oldest first
    """

    def __init__(self, path: Path, content: dict[str, Any], digest: str, journal: list[dict[str, str]]) -> None:
        self.path = path
        self.name = path.name
        self.digest = digest
        self.manifest = content
        self.journal = journal
        self._sealed = False
        self._cache: dict[str, Any] = {}

    @classmethod
    def open(cls, path: Path | str) -> Study:
        """Open the study in folder ``path`` (see ``find`` for names).

        Raises
        ------
        FileNotFoundError
            There is no such folder.
        StudyError
            Manifest, its digest or the journal is missing or damaged; the message names the file.
        """
        path = Path(os.path.abspath(path))
        while True:
            before = durable.standing(path)
            try:
                return cls._open(path)
            except (FileNotFoundError, StudyError):
                if durable.standing(path) == before:
                    raise  # else it was replaced while its files were read one by one: read the new one

    @classmethod
    def _open(cls, path: Path) -> Study:
        if not path.is_dir():
            raise FileNotFoundError(f"{path}: there is no study folder here.")
        proof = {name: manifest.read_file(path, name) for name in PROOF}
        content, journal = manifest.verify(*(proof[name] for name in PROOF))
        if not isinstance(content, dict):
            raise StudyError("manifest.json", f"expected an object, found {type(content).__name__}. {manifest.RESTORE}")
        if content.get("version") != VERSION:
            found = content.get("version")
            raise StudyError("manifest.json", f"expected version {VERSION}, found {found}. Build the study again.")
        for file in content["files"]:
            try:
                consistency.check_place(file)
            except ValueError as error:
                raise StudyError("manifest.json", f"{error} {manifest.RESTORE}") from None
        return cls(path, content, manifest.sha256(proof["manifest.json"]), journal)

    def __repr__(self) -> str:
        return f"Study({self.name!r}, {self.digest[:12]}, modalities={self.modalities})"

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the content came from and what was done to it, as the source wrote it."""
        return self.manifest["provenance"]

    @property
    def outcomes(self) -> pl.DataFrame:
        """``tables.OUTCOMES``, sorted by treatment, then subject; ``SealedError`` on a sealed study."""
        if self._sealed:
            raise SealedError(
                f"study {self.name!r} is sealed: targets are readable only through a split. "
                "Use .rows for the outcomes without their values."
            )
        return self._frame("outcomes")

    @property
    def rows(self) -> pl.DataFrame:
        """The outcomes without ``value`` and ``censored``: readable on a sealed study too."""
        return self._frame("outcomes").drop("value", "censored")

    @property
    def subjects(self) -> pl.DataFrame:
        """``tables.SUBJECTS``, one row a subject."""
        return self._frame("subjects")

    @property
    def treatments(self) -> pl.DataFrame:
        """``tables.TREATMENTS``, one row a treatment."""
        return self._frame("treatments")

    @property
    def modalities(self) -> list[str]:
        """Names of the modalities, sorted."""
        return sorted(consistency.stem(file) for file in self.manifest["files"] if "/" in file)

    def modality(self, name: str) -> AnnData:
        """Modality ``name``: ``obs_names`` are subjects or treatments (``.uns["axis"]``), ``.uns["unit"]`` its unit."""
        if name not in self.modalities:
            known = ", ".join(self.modalities) or "none"
            hint = nearest(name, self.modalities)
            raise KeyError(f"study {self.name!r} has no modality {name!r}.{hint} It has: {known}.")
        file = f"modalities/{name}.h5ad"
        if file not in self._cache:
            self._cache[file] = h5ad.read(self._verified(file), file)
        return self._cache[file]

    def presence(self) -> pl.DataFrame:
        """What is there: subject, tissue, one Boolean column per subject modality, ``n_outcomes`` (Int64)."""
        counts = self._frame("outcomes").group_by("subject").agg(pl.len().cast(pl.Int64).alias("n_outcomes"))
        frame = self.subjects.select("subject", "tissue")
        for name in self.modalities:
            if self.manifest["files"][f"modalities/{name}.h5ad"]["axis"] == "subject":
                present = list(self.modality(name).obs_names)
                frame = frame.with_columns(pl.col("subject").is_in(present).alias(name))
        return frame.join(counts, on="subject", how="left", maintain_order="left").with_columns(
            pl.col("n_outcomes").fill_null(0)
        )

    def sealed(self) -> Study:
        """The same study whose ``outcomes`` raise ``SealedError``; all else works."""
        other = Study(self.path, self.manifest, self.digest, self.journal)
        other._cache, other._sealed = self._cache, True
        return other

    def check(self) -> list[str]:
        """Read everything again from disk; every problem as one sentence, an empty list when clean."""
        try:
            fresh = Study.open(self.path)
        except (StudyError, FileNotFoundError) as error:
            return [str(error)]
        problems = []
        if fresh.digest != self.digest:
            problems.append(f"manifest.json: the study was replaced since opening (now {fresh.digest}). Reopen it.")
        known = {*PROOF, *fresh.manifest["files"]}
        for file in sorted(p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if not p.is_dir()):
            if file not in known:
                problems.append(f"{file}: is not in the manifest. Remove it, or build the study again.")
        frames: dict[str, pl.DataFrame] = {}
        for file in sorted(fresh.manifest["files"], key=lambda f: (f.count("/"), f)):  # tables first
            name = consistency.stem(file)
            try:
                if "/" not in file:
                    frames[name] = fresh._frame(name)
                    continue
                data = fresh.modality(name)
                if set(frames) == set(consistency.FRAMES):
                    problems += [f"{file}: {p}" for p in consistency.modality_problems(name, data, frames)]
            except (StudyError, FormatError, tables.TableError) as error:
                problems.append(str(error))
        if set(frames) == set(consistency.FRAMES):
            problems += consistency.disagreements(frames)
        return problems

    def _verified(self, file: str) -> bytes:
        """The bytes of ``file``, read once, once their SHA-256 is the manifest's."""
        data = manifest.read_file(self.path, file)
        expected, found = self.manifest["files"][file]["sha256"], manifest.sha256(data)
        if found != expected:
            raise StudyError(file, f"expected SHA-256 {expected}, found {found}. {manifest.RESTORE}")
        return data

    def _frame(self, name: str) -> pl.DataFrame:
        file = f"{name}.parquet"
        if file not in self._cache:
            self._cache[file] = tables.check(parquet.read(self._verified(file), file), consistency.FRAMES[name])
        return self._cache[file]


def names() -> list[str]:
    """Names of the studies in the home, sorted."""
    folder = home.studies()
    if not folder.is_dir():
        return []
    for kept in folder.glob(".*.old"):  # a replacement that a crash cut in half
        durable.recover(folder / kept.name[1 : -len(".old")])
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith(".") and (p / "manifest.json").exists())


def find(name_or_path: str | Path) -> Path:
    """The folder of a study, by its name in the home or by its path.

    Raises
    ------
    FileNotFoundError
        Neither exists; the message names the nearest study and how to build one.
    """
    text = str(name_or_path)
    if not text:
        raise FileNotFoundError("expected the name or path of a study, found an empty text.")
    known = names()
    if text in known:
        return home.studies() / text
    path = Path(text).expanduser()
    durable.recover(path)
    if (path / "manifest.json").exists():
        return Path(os.path.abspath(path))
    listed = f" It has: {', '.join(known)}." if known else " It has none yet."
    raise FileNotFoundError(
        f"no study {text!r} in {home.studies()}, and no study folder of that path.{nearest(text, known)}{listed} "
        "Build one with `workbench study build gdsc2`."
    )


def write_study(
    path: Path | str,
    *,
    outcomes: pl.DataFrame,
    subjects: pl.DataFrame,
    treatments: pl.DataFrame,
    modalities: dict[str, AnnData],
    provenance: dict[str, Any],
    event: str,
    replace: bool = False,
) -> Study:
    """Write a study whole or not at all, and open it.

    Parameters
    ----------
    path : the folder to make; its parent is made when missing
    modalities : by name; each AnnData needs ``uns["axis"]`` ("subject" or "treatment") and ``uns["unit"]``
    provenance : plain JSON; keep times out of it, so that the same content has the same digest
    event : what happened, in words, for the journal
    replace : take the place of an existing study, whose journal goes on

    Raises
    ------
    FileExistsError
        There is something at ``path`` and ``replace`` is false.
    TableError, ValueError
        The content does not hold together; nothing is written.
    """
    path = Path(os.path.realpath(path))  # where a link leads: the folder is replaced, not the link
    durable.recover(path)
    if path.exists() and not replace:
        raise FileExistsError(f"{path} exists. Give replace=True to replace it, or another name.")
    frames = consistency.prepare({"outcomes": outcomes, "subjects": subjects, "treatments": treatments}, modalities)
    path.parent.mkdir(parents=True, exist_ok=True)
    with durable.beside(path) as temporary:
        files: dict[str, Any] = {}
        for name, frame in frames.items():
            coded = tuple(c for c in CODED if c in frame.columns)
            files[f"{name}.parquet"] = _store(temporary, f"{name}.parquet", parquet.write(frame, coded)) | {
                "schema": {c: str(t) for c, t in frame.schema.items()},
                "rows": frame.height,
                "units": dict(frame.select("endpoint", "unit").unique().rows()) if name == "outcomes" else {},
            }
        if modalities:
            (temporary / "modalities").mkdir()
        for name, data in sorted(modalities.items()):
            file = f"modalities/{name}.h5ad"
            files[file] = _store(temporary, file, h5ad.write(data)) | {
                "schema": {"shape": list(data.shape), "dtype": str(data.X.dtype)},
                "axis": str(data.uns["axis"]),
                "units": {"X": str(data.uns["unit"])},
            }
        content = manifest.canonical({"version": VERSION, "files": files, "provenance": provenance})
        listed = manifest.sha256(manifest.canonical(files))
        before = _old_journal(path)
        previous = before[-1]["hash"] if before else manifest.GENESIS
        entry = manifest.journal_entry(previous, event, listed, manifest.sha256(content))
        journal = b"".join(manifest.canonical(e) for e in [*before, entry])
        _store(temporary, "manifest.json", content)
        _store(temporary, "journal.jsonl", journal)
        _store(temporary, "manifest.sha256", manifest.seal(content, journal))
        if modalities:
            durable.sync_folder(temporary / "modalities")
        durable.sync_folder(temporary)
        durable.put(temporary, path, replace)
    return Study.open(path)


def _store(folder: Path, file: str, data: bytes) -> dict[str, Any]:
    durable.write_synced(folder / file, data)
    return {"sha256": manifest.sha256(data), "size": len(data)}


def _old_journal(path: Path) -> list[dict[str, str]]:
    """The journal that a replacement continues; a damaged one ends here, and a new chain starts."""
    try:
        return Study.open(path).journal
    except (FileNotFoundError, StudyError):
        return []
