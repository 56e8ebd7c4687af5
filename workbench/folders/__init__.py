"""One file = one kind of folder that becomes a study: SEND, clinical trials, plates, growth curves ...

A kind gives ``recognises(files) -> bool`` (names relative to the folder) and ``read(folder, note) -> Content``, where
``note`` is called with an ``Unread`` for whatever the content leaves out. ``build`` reads a folder with the kind that
recognises it and writes the study; what was not read stands in its record "unread", what was decided in "notes".
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from workbench import home, rooms
from workbench.text import nearest

if TYPE_CHECKING:
    import polars as pl
    from anndata import AnnData

    from workbench.study import Study

ROOM = "workbench.folders"
FILES = 100_000
T = TypeVar("T")
Notify = Callable[[str], None]


@dataclass(frozen=True)
class Unread:
    """Something a study leaves out (``kind`` "unread"), or something decided that a reader should know ("note")."""

    file: str
    place: str
    reason: str
    kind: str = "unread"


@dataclass(frozen=True)
class Content:
    """What a folder holds, ready for ``workbench.study.write_study``."""

    outcomes: pl.DataFrame
    subjects: pl.DataFrame
    treatments: pl.DataFrame
    modalities: dict[str, AnnData | Path] = field(default_factory=dict)
    records: dict[str, pl.DataFrame] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)


def offered() -> dict[str, str]:
    """Kinds of folder and the first line of what each says of itself."""
    kinds = rooms.names(ROOM)
    return {kind: (rooms.load(ROOM, kind).__doc__ or "").strip().splitlines()[0] for kind in kinds}


def listing(folder: Path) -> list[str]:
    """Names of the plain files below ``folder``, relative to it with slashes, sorted; hidden ones and links are not.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    ValueError
        There are more files than any study has.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder. Give the folder that holds the study's files.")
    found: list[str] = []
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(n for n in inner if not n.startswith("."))
        here = Path(place)
        found += [
            (here / n).relative_to(folder).as_posix() for n in names if not n.startswith(".") and _plain(here / n)
        ]
        if len(found) > FILES:
            raise ValueError(f"{folder}: more than {FILES:,} files. Give the folder of one study.")
    return sorted(found)


def _plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def recognise(folder: Path, kind: str | None = None) -> str:
    """The kind that ``folder`` is: ``kind`` where given, else the one that recognises its files.

    Raises
    ------
    KeyError
        There is no such kind.
    ValueError
        No kind recognises the folder, or several do.
    """
    if kind is not None:
        rooms.load(ROOM, kind)
        return kind
    files = [folder.name] if folder.is_file() else listing(folder)
    found = [name for name in rooms.names(ROOM) if rooms.load(ROOM, name).recognises(files)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(rooms.names(ROOM))
    shown = ", ".join(files[:5]) or "no files"
    if not found:
        raise ValueError(f"{folder}: no kind of study recognises these files ({shown}). Kinds: {known}; state one.")
    raise ValueError(f"{folder}: could be {' or '.join(found)}. State one as the kind.")


def build(
    folder: Path | str,
    path: Path | str | None = None,
    *,
    name: str | None = None,
    kind: str | None = None,
    replace: bool = False,
    notify: Notify | None = None,
    **options: Any,
) -> Study:
    """Read ``folder`` and write what is readable as a study.

    Parameters
    ----------
    path : the folder to make; by default ``name`` in the home's studies
    name : by default the folder's own name
    kind : one of ``offered()``; by default the one that recognises the folder
    replace : take the place of an existing study
    notify : receives every line worth telling while it works
    options : what the kind's ``read`` takes besides, such as a unit that no file declares

    Raises
    ------
    FileNotFoundError, FileExistsError
        There is no such folder; there is such a study, and ``replace`` is false.
    KeyError, ValueError
        The kind or an option is unknown, or nothing in the folder can be read; the message says what to do.
    """
    from workbench.study import write_study

    folder = Path(folder).expanduser()
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: there is no such folder. Give the folder that holds the study's files.")
    target = Path(path) if path is not None else home.studies() / (name or folder.resolve().name)
    if target.exists() and not replace:  # before the work, not after
        raise FileExistsError(f"{target} exists. Give replace=True to replace it, or another name.")
    kind = recognise(folder, kind)
    reader = rooms.load(ROOM, kind)
    _check_options(reader.read, kind, options)
    noted: list[Unread] = []
    if notify:
        notify(f"reading {folder} as {kind}")
    content: Content = reader.read(folder, noted.append, **options)
    records = dict(content.records) | {"unread": _frame(n for n in noted if n.kind == "unread")}
    if decided := [n for n in noted if n.kind != "unread"]:
        records["notes"] = _frame(decided)
    facts = {"source": "folder", "kind": kind, "folder": folder.resolve().name}
    return write_study(
        target,
        outcomes=content.outcomes,
        subjects=content.subjects,
        treatments=content.treatments,
        modalities=content.modalities,
        records=records,
        provenance=facts | content.provenance | {"unread": records["unread"].height},
        event=f"built from folder {folder.resolve().name} as {kind}",
        replace=replace,
    )


def steps(items: Iterable[T], what: str) -> Iterator[T]:
    """``items`` behind a progress bar with the time left, where someone can see it."""
    from tqdm.auto import tqdm

    listed = list(items)
    form = "{l_bar}{bar}| {n_fmt}/{total_fmt} {elapsed} < {remaining}"
    yield from tqdm(listed, desc=what, bar_format=form, disable=None, leave=False)


def _check_options(read: Callable[..., Any], kind: str, options: dict[str, Any]) -> None:
    known = [p.name for p in inspect.signature(read).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            listed = ", ".join(known) or "none"
            raise ValueError(f"{kind} has no option {option!r}.{nearest(option, known)} It has: {listed}.")


def _frame(noted: Iterable[Unread]) -> pl.DataFrame:
    import polars as pl

    rows = [(n.file, n.place, n.reason) for n in noted]
    return pl.DataFrame(rows, schema=dict.fromkeys(("file", "place", "reason"), pl.String), orient="row")
