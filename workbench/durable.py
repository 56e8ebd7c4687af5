"""Files and folders that survive a crash: synced, then renamed in one step.

A folder is built in a temporary one beside its place (``beside``) and moved there by ``put``. A crash
at any moment leaves the old folder or the new one; ``recover`` puts back an old folder that a crash
caught half way aside. Leftovers of dead processes are swept by the next writer of the same name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


def write_synced(path: Path, data: bytes) -> None:
    """Write ``data`` to a new file and wait until the disk has it."""
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the disk has the folder's list of names."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _kept(target: Path) -> Path:
    return target.parent / f".{target.name}.old"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time may swap or recover within ``folder``; the lock dies with its process."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def put(temporary: Path, target: Path, replace: bool) -> None:
    """Move the finished folder ``temporary`` to ``target``; what stood there goes once the new one stands.

    Raises
    ------
    FileExistsError
        ``target`` exists and ``replace`` is false.
    """
    with _locked(target.parent):
        _recover(target)
        if not target.exists():
            os.rename(temporary, target)
            sync_folder(target.parent)
            return
        if not replace:
            raise FileExistsError(f"{target} exists. Give replace=True to replace it, or another name.")
        os.rename(target, _kept(target))
        sync_folder(target.parent)
        try:
            os.rename(temporary, target)
        except OSError:
            os.rename(_kept(target), target)
            raise
        sync_folder(target.parent)
        shutil.rmtree(_kept(target))


def recover(target: Path) -> None:
    """Finish what a crash in ``put`` left: the old folder comes back unless the new one stands."""
    if _kept(target).exists():
        with _locked(target.parent):
            _recover(target)


def standing(target: Path) -> tuple[int, int] | None:
    """Which folder stands at ``target`` (device and inode), after ``recover``; None where there is none."""
    recover(target)
    try:
        found = target.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _recover(target: Path) -> None:
    kept = _kept(target)
    if not kept.exists():
        return
    if target.exists():
        shutil.rmtree(kept)
    else:
        os.rename(kept, target)
        sync_folder(target.parent)


@contextlib.contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A temporary folder beside ``target`` (the same filesystem), removed unless ``put`` moved it."""
    for left in target.parent.glob(f".{_escaped(target.name)}.*.tmp"):
        owner = re.match(r"(\d+)-", left.name[len(target.name) + 2 :])
        if owner and not alive(int(owner.group(1))):
            shutil.rmtree(left, ignore_errors=True)
    temporary = target.parent / f".{target.name}.{os.getpid()}-{secrets.token_hex(6)}.tmp"
    temporary.mkdir()  # not tempfile.mkdtemp, whose folders nobody else may read
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _escaped(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)  # a name may hold what glob would read as a pattern


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, and belongs to someone else
        return True
    return True
