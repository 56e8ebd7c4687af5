"""What proves a study whole: canonical JSON, digests and the hash-chained journal.

Nothing here knows what a study holds. ``study.py`` writes ``manifest.json`` and ``journal.jsonl`` with
these functions, and ``manifest.sha256`` carries the digest of both in the format of ``sha256sum``.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workbench import __version__

GENESIS = "0" * 64  # the previous hash of a journal's first entry
ENTRY_KEYS = {"when", "event", "who", "tool", "files", "manifest", "previous", "hash"}
MORE_KEYS = {"cohort"}  # of some entries
RESTORE = "The study was changed or damaged on disk: restore it from a copy or build it again."


class StudyError(ValueError):
    """A file of a study is refused: ``file`` is its name within the study, ``reason`` says why."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason


def sha256(data: bytes) -> str:
    """SHA-256 of ``data`` as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def canonical(value: Any) -> bytes:
    """The one JSON spelling of ``value``: sorted keys, no blanks, UTF-8, a final line feed.

    Raises
    ------
    ValueError
        ``value`` does not survive JSON unchanged (a NaN, a tuple, a number as key, a set ...).
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        data = (text + "\n").encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"only plain JSON can be stored (text, numbers, lists, dicts of text): {error}") from None
    if json.loads(text) != value:
        raise ValueError("only plain JSON can be stored: a tuple or a key that is not text would come back changed")
    return data


def read_file(folder: Path, file: str) -> bytes:
    """The bytes of one stored file, read once."""
    path = folder / file
    if path.is_symlink() or not path.is_file():
        found = "a link" if path.is_symlink() else "nothing" if not path.exists() else "no plain file"
        raise StudyError(file, f"expected a file in {folder}, found {found}. {RESTORE}")
    return path.read_bytes()


# ---- the journal: each entry's hash covers the entry and, through `previous`, all before it


def journal_entry(previous: str, event: str, files: str, manifest: str, **more: Any) -> dict[str, Any]:
    """One journal entry; ``files`` is the digest of the manifest's file list, ``manifest`` its own; more: a cohort."""
    entry = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "event": event,
        "who": _user(),
        "tool": f"translational-workbench {__version__}",
        "files": files,
        "manifest": manifest,
        "previous": previous,
        **more,
    }
    return {**entry, "hash": sha256(canonical(entry))}


def journal_read(data: bytes, file: str) -> list[dict[str, Any]]:
    """The entries of a journal whose chain holds.

    Raises
    ------
    StudyError
        An entry is not in canonical form, its hash does not cover it, or it does not follow the one before.
    """
    entries: list[dict[str, Any]] = []
    previous = GENESIS
    for number, line in enumerate(data.splitlines(keepends=True), start=1):
        where = f"entry {number}"
        try:
            entry = json.loads(line)
            keys = set(entry) if isinstance(entry, dict) else set()
            plain = keys - MORE_KEYS == ENTRY_KEYS and canonical(entry) == line
        except ValueError:  # not UTF-8, not JSON, or not canonical
            plain = False
        if not plain:
            raise StudyError(file, f"{where} is damaged (not in canonical form). {RESTORE}")
        expected = sha256(canonical({k: v for k, v in entry.items() if k != "hash"}))
        if entry["hash"] != expected:
            raise StudyError(file, f"{where}: expected hash {expected}, found {entry['hash']}. {RESTORE}")
        if entry["previous"] != previous:
            raise StudyError(file, f"{where} should follow {previous}, it names {entry['previous']}. {RESTORE}")
        previous = entry["hash"]
        entries.append(entry)
    if not entries:
        raise StudyError(file, f"expected at least one entry, found none. {RESTORE}")
    return entries


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user id has no name
        return f"uid {os.getuid()}"


# ---- the seal: manifest.sha256, which `sha256sum -c` can check too


def seal(manifest: bytes, journal: bytes) -> bytes:
    """The content of ``manifest.sha256``."""
    return f"{sha256(manifest)}  manifest.json\n{sha256(journal)}  journal.jsonl\n".encode()


def verify(seal_data: bytes, manifest: bytes, journal: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The manifest and the journal's entries, once all three files agree; the file at fault is named.

    The journal proves itself (its chain) and its last entry is a second witness of the manifest's
    digest, so a damaged seal can be told from a damaged manifest.
    """
    match = re.fullmatch(rb"([0-9a-f]{64})  manifest\.json\n([0-9a-f]{64})  journal\.jsonl\n", seal_data)
    if match is None:
        raise StudyError("manifest.sha256", f"expected two lines as sha256sum writes them. {RESTORE}")
    recorded, recorded_journal = (group.decode() for group in match.groups())
    entries = journal_read(journal, "journal.jsonl")
    witness, found = entries[-1]["manifest"], sha256(manifest)
    if found == witness != recorded:
        raise StudyError("manifest.sha256", f"expected {found} (manifest.json), found {recorded}. {RESTORE}")
    if found == recorded != witness:
        raise StudyError("journal.jsonl", f"its last entry is for manifest {witness}, found {found}. {RESTORE}")
    if found != recorded:
        raise StudyError("manifest.json", f"expected SHA-256 {recorded}, found {found}. {RESTORE}")
    if sha256(journal) != recorded_journal:
        raise StudyError(
            "manifest.sha256",
            f"expected {sha256(journal)} for journal.jsonl, found {recorded_journal}: one of them changed. {RESTORE}",
        )
    return json.loads(manifest), entries
