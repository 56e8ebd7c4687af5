"""A study: a folder on disk that is whole or absent, and proves it before anything is read from it.

    outcomes.parquet  subjects.parquet  treatments.parquet  modalities/<name>.h5ad  records/<name>.parquet
    journal.jsonl     manifest.json     manifest.sha256

``write_study`` builds the folder beside its place, syncs every file and renames it in one step.
``Study.open`` verifies manifest and journal at once; every other file is read once, its SHA-256 is
compared with the manifest, and only then do those bytes reach a parser.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from workbench import assemble, cohorts, consistency, durable, home, manifest, tables
from workbench.assemble import VERSION
from workbench.formats import FormatError, h5ad, parquet
from workbench.manifest import StudyError
from workbench.text import nearest

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from workbench.backed import Backed

__all__ = ["SealedError", "Study", "StudyError", "find", "names", "write_study"]

PROOF = ("manifest.sha256", "manifest.json", "journal.jsonl")
LARGE = 2**30  # bytes of a modality that ``check`` no longer takes into memory


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

    def __init__(self, path: Path, content: dict[str, Any], digest: str, journal: list[dict[str, Any]]) -> None:
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
        return self._in("modalities/")

    @property
    def records(self) -> list[str]:
        """Names of the further tables, kept as their source wrote them, sorted."""
        return self._in("records/")

    def record(self, name: str) -> pl.DataFrame:
        """The further table ``name``; ``KeyError`` names the nearest."""
        return self._frame(f"records/{self._known('record', name, self.records)}")

    def _in(self, folder: str) -> list[str]:
        return sorted(consistency.stem(file) for file in self.manifest["files"] if file.startswith(folder))

    def _known(self, what: str, name: str, known: list[str]) -> str:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise KeyError(f"study {self.name!r} has no {what} {name!r}.{nearest(name, known)} It has: {listed}.")
        return name

    def modality(self, name: str) -> AnnData:
        """Modality ``name`` in memory, shared with all who ask: copy before changing it (``to_anndata``).

        ``uns["axis"]`` says what its rows are: "subject", "treatment", or "cell", whose subjects stand in
        ``obs["subject"]``; ``uns["unit"]`` is the unit of ``X``.
        """
        file = f"modalities/{self._known('modality', name, self.modalities)}.h5ad"
        if file not in self._cache:
            self._cache[file] = h5ad.read(self._verified(file), file)
        return self._cache[file]

    def axis(self, name: str) -> str:
        """What the rows of modality ``name`` are, without reading it: "subject", "treatment" or "cell"."""
        return self.manifest["files"][f"modalities/{self._known('modality', name, self.modalities)}.h5ad"]["axis"]

    def backed(self, name: str, progress: Callable[[float], None] | None = None) -> Backed:
        """Modality ``name`` on disk, for what does not fit into memory: verified, then read by blocks."""
        from workbench.backed import Backed

        file = f"modalities/{self._known('modality', name, self.modalities)}.h5ad"
        facts = self.manifest["files"][file]
        return Backed.open(self.path / file, file, facts["sha256"], facts["size"], progress=progress)

    def to_anndata(self, modality: str) -> AnnData:
        """A copy of a modality with the facts of its subjects or treatments in ``obs``: free to change."""
        from workbench import exchange

        return exchange.to_anndata(self.modality(modality), self.subjects, self.treatments)

    def to_mudata(self, modalities: Iterable[str] | None = None) -> MuData:
        """The study as MuData: subject and cell modalities as given, all tables in ``uns``, free to change."""
        from workbench import exchange

        chosen = list(modalities) if modalities is not None else self.modalities
        frames = {"outcomes": self.outcomes, "subjects": self.subjects, "treatments": self.treatments}
        further = {name: self.record(name) for name in self.records}
        return exchange.to_mudata({m: self.modality(m) for m in chosen}, frames, further, self.provenance)

    @staticmethod
    def from_mudata(data: MuData, path: Path | str, *, replace: bool = False, **said: Any) -> Study:
        """Write MuData as a study: one made by ``to_mudata``, or any other (``said``: see ``exchange.from_mudata``)."""
        from workbench import exchange

        return write_study(path, **exchange.from_mudata(data, **said), event="from MuData", replace=replace)

    @property
    def cohorts(self) -> dict[str, cohorts.Cohort]:
        """Saved cohorts by name, the newest of each name."""
        return cohorts.of(self.journal)

    def save_cohort(self, name: str, members: Iterable[str], axis: str = "subject", note: str = "") -> Study:
        """Save a named cohort in the journal; returns the study as it now is (the digest stays).

        Raises
        ------
        workbench.cohorts.CohortError
            No name, no members, or a member that this study does not have.
        StudyError
            The study was replaced by another content since it was opened: open it again.
        """
        known: list[str] = []
        if axis in consistency.AXES:
            known = self._frame(consistency.AXES[axis])[axis].to_list()
        elif axis == "cell":
            known = [n for m in self.modalities if self.axis(m) == "cell" for n in self.backed(m).names()]
        entry = cohorts.plain(name, members, axis, note, known)
        with assemble.locked(self.path):
            fresh = Study.open(self.path)
            if fresh.digest != self.digest:
                raise StudyError("manifest.json", "the study was replaced since it was opened. Open it again.")
            assemble.append(self.path, fresh.journal, f"cohort saved: {entry['name']}", cohort=entry)
        return Study.open(self.path)

    def presence(self) -> pl.DataFrame:
        """What is there: subject, tissue, a Boolean column per modality (not of treatments), ``n_outcomes`` (Int64)."""
        counts = self._frame("outcomes").group_by("subject").agg(pl.len().cast(pl.Int64).alias("n_outcomes"))
        frame = self.subjects.select("subject", "tissue")
        for name in self.modalities:
            facts = self.manifest["files"][f"modalities/{name}.h5ad"]
            if facts["axis"] != "treatment":
                present = list(facts["cells"]) if facts["axis"] == "cell" else list(self.modality(name).obs_names)
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
                if file.startswith("records/"):
                    fresh.record(name)
                    continue
                if "/" not in file:
                    frames[name] = fresh._frame(name)
                    continue
                if fresh.manifest["files"][file]["size"] > LARGE:
                    fresh.backed(name)
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
        for attempt in range(20):
            try:
                data = manifest.read_file(self.path, file)
                break
            except StudyError:
                if attempt == 19 or not durable.standing(self.path):  # waits where the folder is just being replaced
                    raise
        expected, found = self.manifest["files"][file]["sha256"], manifest.sha256(data)
        if found != expected:
            raise StudyError(file, f"expected SHA-256 {expected}, found {found}. {manifest.RESTORE}")
        return data

    def _frame(self, name: str) -> pl.DataFrame:
        file = f"{name}.parquet"
        if file not in self._cache:
            frame = parquet.read(self._verified(file), file)
            self._cache[file] = tables.check(frame, consistency.FRAMES[name]) if name in consistency.FRAMES else frame
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
    modalities: Mapping[str, AnnData | Path],
    provenance: dict[str, Any],
    event: str,
    records: dict[str, pl.DataFrame] | None = None,
    replace: bool = False,
) -> Study:
    """Write a study whole or not at all, and open it.

    Parameters
    ----------
    path : the folder to make; its parent is made when missing
    modalities : by name; each AnnData needs ``uns["axis"]`` ("subject", "treatment" or "cell") and ``uns["unit"]``;
        a path is that of an h5ad file, copied by blocks, for what does not fit into memory
    provenance : plain JSON; keep times out of it, so that the same content has the same digest
    event : what happened, in words, for the journal
    records : further tables of any columns, by name, kept as they are
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
    frames = {"outcomes": outcomes, "subjects": subjects, "treatments": treatments}
    further = {consistency.check_name(name, "record"): frame for name, frame in (records or {}).items()}
    ready, facts = consistency.prepare(frames, modalities)
    path.parent.mkdir(parents=True, exist_ok=True)
    assemble.write(path, ready, further, dict(modalities), facts, provenance, event, _old_journal(path), replace)
    return Study.open(path)


def _old_journal(path: Path) -> list[dict[str, Any]]:
    """The journal that a replacement continues; a damaged one ends here, and a new chain starts."""
    try:
        return Study.open(path).journal
    except (FileNotFoundError, StudyError):
        return []
