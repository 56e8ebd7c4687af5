"""The site's book of everything that left: one line for each message, chained by hashes, written before it leaves.

Each line is JSON and holds the hash of the line before it, so that an edit, a removal, an insertion or another order
breaks the chain (S. Haber, W. S. Stornetta, How to time-stamp a digital document, J. Cryptology 3, 1991). A book cut
short, or written anew from some line on, is whole in itself: only a hash kept elsewhere shows it. So the hash of the
newest line (the head) travels with every answer as value ``ledger``, and a recorded server keeps it; ``verify`` takes
such a head and looks for it.

A line is synced to disk before its message leaves; a kill in the middle leaves a torn last line, whose message never
left. The next writer ends that line and writes another that says so, with length and digest of the fragment.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import durable, rooms
from workbench.federated.asked import Answer, described
from workbench.federated.messages import Ask, Gathered

if TYPE_CHECKING:
    from workbench.federated.site import Site

START = "0" * 64  # what the first line has for the hash of the line before it
HEAD = "ledger"  # name of the value that tells the server the head
WORDS = 200  # longest value written out; of longer ones length and digest are kept


class LedgerError(RuntimeError):
    """The book cannot be written, or is not what it was; nothing leaves. The text names no row."""


@dataclass(frozen=True)
class Verified:
    """What ``verify`` found.

    Attributes
    ----------
    entries : number of whole lines
    head : hash of the last one
    faults : each in one sentence; none where the chain holds
    notes : what is in order and still should be known (closed fragments, a torn last line)
    """

    entries: int
    head: str
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return not self.faults


@dataclass
class Ledger:
    """An append-only book in the file ``path``. As a step of ``Site.outgoing`` it comes last.

    Any number of processes may write: each takes the lock for one line and reads first what others wrote. ``patience``
    [s] is how long it waits for the lock.
    """

    path: Path
    patience: float = 30.0
    writes: bool = True  # sees what really leaves: under secure aggregation the masked answer
    _seen: int = field(default=0, repr=False)  # bytes of the file already read
    _head: str = field(default=START, repr=False)
    _count: int = field(default=0, repr=False)
    _sent: list[tuple[str, int, int]] = field(default_factory=list, repr=False)
    _charges: list[Mapping[str, Any]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self.path = Path(self.path)

    def __call__(self, site: Site, ask: Ask, answer: Answer) -> Answer:
        """Write the answer down; it comes back with the head among its values."""
        entry = self.append(_message(site.name, ask, answer))
        return replace(answer, values={**answer.values, HEAD: entry["hash"]})

    def refused(self, site: Site, ask: Ask, reason: str) -> None:
        """Write down that a refusal, and with what words, goes to the server."""
        self.append({"kind": "refusal", "site": site.name, "purpose": ask.purpose, "round": ask.round,
                     "reason": reason, "bytes": len(reason.encode())})  # fmt: skip

    def sent(self) -> list[tuple[str, int, int]]:
        """(day, round, bytes) of every message so far, oldest first; days in UTC, as 2026-11-22."""
        with self._locked():
            self._catch_up()
        return self._sent

    def charges(self) -> list[Mapping[str, Any]]:
        """Every line of kind "charge" so far, oldest first: what ``budget`` wrote."""
        with self._locked():
            self._catch_up()
        return list(self._charges)

    def append(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Write one line, wait until the disk has it, and return it with number, time, previous hash and hash.

        Raises
        ------
        LedgerError
            Another process holds the lock for longer than ``patience``, or the file no longer goes on from the line
            read last.
        """
        with self._locked():
            return self._append(entry, self._catch_up())

    def charge(self, decide: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Any] | None]) -> None:
        """Under one lock: show ``decide`` every charge so far, and write the line that it returns (None: none)."""
        with self._locked():
            torn = self._catch_up()
            if (entry := decide(self._charges)) is not None:
                self._append(entry, torn)

    def _append(self, entry: Mapping[str, Any], torn: bytes) -> dict[str, Any]:
        if torn:
            self._write(_closing(torn), before=b"" if torn.endswith(b"\n") else b"\n")
        return self._write(entry)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        until = time.monotonic() + self.patience
        try:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise LedgerError(
                            "ledger: another process holds it; nothing leaves before it is free."
                        ) from None
                    time.sleep(0.01)
            yield
        finally:
            os.close(handle)  # the lock goes with it, and with its process

    def _catch_up(self) -> bytes:
        """Read what was written since; what a kill left of a last line that nobody has closed yet."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < self._seen:
            raise LedgerError("ledger: it is shorter than it was; nothing leaves until somebody has looked.")
        if size == self._seen:
            return b""
        with self.path.open("rb") as stream:
            stream.seek(self._seen)
            data = stream.read()
        lines, whole = _lines(data)
        closed = _closed(lines)
        torn = _torn(lines, whole, closed)
        for k, line in enumerate(lines[: len(lines) - torn]):
            entry = _entry(line)
            if k in closed:
                continue
            sound = entry is not None and (entry["n"], entry["previous"]) == (self._count, self._head)
            if entry is None or not sound or hashed(entry) != entry["hash"]:
                raise LedgerError(
                    f"ledger: entry {self._count} is not what was written; nothing leaves until somebody "
                    "has looked (workbench federate ledger FILE --verify)."
                )
            self._take(entry)
        left = b"\n".join(lines[len(lines) - torn :]) + (b"\n" if whole and torn else b"")
        self._seen = size - len(left)
        return left

    def _take(self, entry: Mapping[str, Any]) -> None:
        self._head, self._count = entry["hash"], self._count + 1
        if entry["kind"] == "message":
            self._sent.append((entry["time"][:10], entry["round"], entry["bytes"]))
        elif entry["kind"] == "charge":
            self._charges.append(entry)

    def _write(self, entry: Mapping[str, Any], before: bytes = b"") -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        told = {**entry, "n": self._count, "time": now, "previous": self._head}
        told["hash"] = hashed(told)
        data = before + (json.dumps(told, sort_keys=True) + "\n").encode()
        new = not self.path.exists()
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(handle, rest) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        if new:
            durable.sync_folder(self.path.parent)
        self._seen = self.path.stat().st_size
        self._take(told)
        return told


def read(path: Path | str) -> list[dict[str, Any]]:
    """Every whole line of a book, as it stands; whether it is to be believed says ``verify``."""
    return [e for line in Path(path).read_bytes().splitlines() if (e := _entry(line)) is not None]


def verify(path: Path | str, head: str | None = None) -> Verified:
    """Whether nothing in the book was edited, removed, inserted, moved or cut off.

    Parameters
    ----------
    head : hash kept elsewhere (by the server, on paper); it must stand in the book. Without one a book cut short
        cannot be told from a shorter one
    """
    faults: list[str] = []
    notes: list[str] = []
    hashes: set[str] = set()
    previous = START
    lines, whole = _lines(Path(path).read_bytes())
    closed = _closed(lines)
    torn = _torn(lines, whole, closed)
    if torn:
        notes.append("the last line is torn by a kill; its message never left, and the next line will say so.")
    for k, line in enumerate(lines[: len(lines) - torn], 1):
        if k - 1 in closed:
            notes.append(f"line {k} was torn by a kill and closed openly; its message never left.")
            continue
        entry = _entry(line)
        if entry is None:
            faults.append(f"line {k} is no entry: edited.")
            continue
        if hashed(entry) != entry["hash"]:
            faults.append(f"line {k}: its words do not have its hash: edited.")
        if entry["previous"] != previous:
            faults.append(f"line {k} does not follow the line before it: one was removed, inserted, moved or edited.")
        if entry["n"] != len(hashes):
            faults.append(f"line {k} is entry {entry['n']}, expected {len(hashes)}: removed, inserted or moved.")
        previous = entry["hash"]
        hashes.add(previous)
    if head is not None and head not in hashes | {START}:
        faults.append("the head kept elsewhere is not in this book: it was cut short, or written anew.")
    return Verified(len(hashes), previous, tuple(faults), tuple(notes))


def heads(gathered: Gathered) -> dict[str, str]:
    """{site: head of its book} of the replies; for the server to keep, so that a book cut short is found."""
    return {r.site: str(r.values[HEAD]) for r in gathered.replies if HEAD in r.values}


def hashed(entry: Mapping[str, Any]) -> str:
    """SHA-256 of an entry without its own hash, as JSON with sorted keys."""
    plain = {k: v for k, v in entry.items() if k != "hash"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def digest(array: np.ndarray) -> str:
    """SHA-256 over dtype, shape and bytes of an array."""
    about = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(about + np.ascontiguousarray(array).tobytes()).hexdigest()


def nbytes(answer: Answer) -> int:
    """Bytes of an answer: its arrays as numbers, its values as JSON."""
    values = len(json.dumps(dict(answer.values))) if answer.values else 0
    return sum(a.nbytes for a in answer.arrays.values()) + values


def _message(site: str, ask: Ask, answer: Answer) -> dict[str, Any]:
    module = rooms.load("workbench.federated.asked", ask.purpose)
    arrays = [
        {"name": k, "what": described(module.LEAVES, k), "shape": list(a.shape), "dtype": str(a.dtype),
         "bytes": a.nbytes, "digest": digest(a)}
        for k, a in answer.arrays.items()
    ]  # fmt: skip
    return {"kind": "message", "site": site, "purpose": ask.purpose, "plain": module.PLAIN, "round": ask.round,
            "rows": answer.rows, "masked": answer.masked, "arrays": arrays, "bytes": nbytes(answer),
            "values": {k: _told(v) for k, v in answer.values.items()}}  # fmt: skip


def _told(value: Any) -> Any:
    text = json.dumps(value)
    if len(text) <= WORDS:
        return value if value == value else "nan"
    return {"length": len(text), "digest": hashlib.sha256(text.encode()).hexdigest()}


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    need = {"n": int, "kind": str, "time": str, "previous": str, "hash": str}
    if not isinstance(entry, dict) or any(type(entry.get(k)) is not t for k, t in need.items()):
        return None
    return entry


def _lines(data: bytes) -> tuple[list[bytes], bool]:
    """The lines of ``data`` and whether the last one is ended."""
    lines = data.split(b"\n")
    whole = not lines[-1]
    return (lines[:-1] if whole else lines), whole


def _closing(left: bytes) -> dict[str, Any]:
    fragment = left.removesuffix(b"\n")
    return {"kind": "torn", "length": len(fragment), "digest": hashlib.sha256(fragment).hexdigest(),
            "plain": "What stands before was torn by a kill while it was written; its message never left."}  # fmt: skip


def _closed(lines: list[bytes]) -> set[int]:
    """Numbers of the lines that a later entry of kind "torn" names by length and digest, right before itself."""
    found: set[int] = set()
    for j in range(len(lines) - 1, 0, -1):
        entry = _entry(lines[j]) if b'"torn"' in lines[j] else None
        if entry is None or entry["kind"] != "torn":
            continue
        i, length = j, -1
        while i > 0 and length < entry.get("length", 0):
            i -= 1
            length += len(lines[i]) + 1
        if hashlib.sha256(b"\n".join(lines[i:j])).hexdigest() == entry.get("digest"):
            found |= set(range(i, j))
    return found


def _torn(lines: list[bytes], whole: bool, closed: set[int]) -> int:
    """How many lines at the end are what a kill left: the last one where it is not ended, and broken ones before."""
    if whole:
        return 0
    n = 1
    while n < len(lines) and len(lines) - n - 1 not in closed and _entry(lines[-n - 1]) is None:
        n += 1
    return n
