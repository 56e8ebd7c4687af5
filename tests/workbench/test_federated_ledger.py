"""The book of what left: whole, or the fault is named; a kill tears one line at most and is said openly."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from tests import toy
from workbench.federated import sharing
from workbench.federated.asked import Answer
from workbench.federated.gate import command as ledger_command
from workbench.federated.gate import ledger
from workbench.federated.gate import outgoing as gate
from workbench.federated.gate.ledger import Ledger, LedgerError, verify
from workbench.federated.messages import Ask, Gathered, Reply
from workbench.federated.policy import Policy
from workbench.federated.site import Site
from workbench.splits import Split


def message(k: int, bytes: int = 10) -> dict:
    return {"kind": "message", "site": "site 1", "purpose": "counts", "plain": "How many.", "round": k, "rows": 100,
            "masked": False, "arrays": [], "values": {}, "bytes": bytes}  # fmt: skip


@pytest.fixture
def book(tmp_path: Path) -> Path:
    kept = Ledger(tmp_path / "ledger.jsonl")
    for k in range(6):
        kept.append(message(k))
    return kept.path


def lines(book: Path) -> list[bytes]:
    return book.read_bytes().splitlines(keepends=True)


def rehashed(line: bytes, **changed: object) -> bytes:
    """An entry edited by somebody who knows how its own hash is made."""
    entry = {**json.loads(line), **changed}
    entry["hash"] = ledger.hashed(entry)
    return (json.dumps(entry, sort_keys=True) + "\n").encode()


def test_a_book_holds_and_its_hashes_are_those_of_its_words(book: Path) -> None:
    found = verify(book)
    assert found.holds and found.entries == 6 and found.notes == ()
    entry = json.loads(lines(book)[3])
    own = entry.pop("hash")
    assert own == hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
    assert entry["previous"] == json.loads(lines(book)[2])["hash"] and entry["n"] == 3
    assert json.loads(lines(book)[0])["previous"] == "0" * 64
    assert oct(book.stat().st_mode & 0o777) == "0o600"


FAULTS = {
    "edited": (lambda t: [*t[:2], t[2].replace(b'"rows": 100', b'"rows": 900'), *t[3:]], "line 3: its words"),
    "edited, hash made anew": (lambda t: [*t[:2], rehashed(t[2], rows=900), *t[3:]], "line 4 does not follow"),
    "removed": (lambda t: [*t[:2], *t[3:]], "line 3 does not follow"),
    "the first removed": (lambda t: t[1:], "line 1 does not follow"),
    "swapped": (lambda t: [*t[:2], t[3], t[2], *t[4:]], "line 3 does not follow"),
    "doubled": (lambda t: [*t[:3], t[2], *t[3:]], "line 4 does not follow"),
    "made no entry": (lambda t: [*t[:2], b"nothing to see\n", *t[3:]], "line 3 is no entry"),
    "emptied": (lambda t: [*t[:2], b"\n", *t[3:]], "line 3 is no entry"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_any_change_is_found_and_nothing_more_is_written(book: Path, fault: str) -> None:
    change, says = FAULTS[fault]
    book.write_bytes(b"".join(change(lines(book))))
    found = verify(book)
    assert any(f.startswith(says) for f in found.faults), found.faults
    with pytest.raises(LedgerError, match="nothing leaves"):
        Ledger(book).append(message(9))


def test_every_single_byte_counts(book: Path) -> None:
    whole, rng = book.read_bytes(), np.random.default_rng(0)
    missed = []
    for at in rng.choice(len(whole), 150, replace=False):
        changed = bytearray(whole)
        changed[at] ^= 1 << int(rng.integers(0, 7))
        book.write_bytes(bytes(changed))
        found = verify(book)
        if found.holds and not found.notes:
            missed.append(int(at))
    assert missed == []


def test_a_book_cut_short_or_written_anew_shows_only_beside_a_head_kept_elsewhere(book: Path, tmp_path: Path) -> None:
    head = verify(book).head
    book.write_bytes(b"".join(lines(book)[:4]))
    assert verify(book).holds
    assert "cut short" in verify(book, head).faults[0]
    other = Ledger(tmp_path / "other.jsonl")
    for k in range(9):
        other.append(message(k, bytes=1))
    assert verify(other.path).holds and not verify(other.path, head).holds
    earlier = json.loads(lines(book)[1])["hash"]
    assert verify(book, earlier).holds


def test_a_writer_notices_that_its_book_was_cut_or_exchanged(book: Path) -> None:
    kept = Ledger(book)
    kept.append(message(7))
    book.write_bytes(b"".join(lines(book)[:4]))
    with pytest.raises(LedgerError, match="shorter than it was"):
        kept.append(message(8))


def test_a_torn_last_line_is_closed_openly_wherever_it_was_torn(book: Path) -> None:
    whole, last = book.read_bytes(), lines(book)[-1]
    for cut in (1, 2, 40, len(last) - 1):
        book.write_bytes(whole[:-cut])
        before = verify(book)
        assert before.holds and "torn" in before.notes[0] and before.entries == 5
        Ledger(book).append(message(9))
        after = verify(book)
        assert after.holds and after.entries == 7 and "closed openly" in after.notes[0]
        assert whole[:-cut] in book.read_bytes()  # what was torn still stands there
        kinds = [e["kind"] for e in ledger.read(book)][-2:]
        assert kinds == ["torn", "message"]


def test_the_closing_line_may_be_torn_too(book: Path) -> None:
    whole = book.read_bytes()
    book.write_bytes(whole[:-30])
    Ledger(book).append(message(9))
    closing = next(k for k, line in enumerate(lines(book)) if b'"torn"' in line)
    for cut in (1, 20):
        book.write_bytes(b"".join(lines(book)[: closing + 1])[:-cut])
        Ledger(book).append(message(9))
        assert verify(book).holds, cut


def test_a_torn_line_cannot_be_used_to_take_an_entry_away(book: Path) -> None:
    head = verify(book).head
    book.write_bytes(book.read_bytes()[:-1])  # the last entry made to look torn
    Ledger(book).append(message(9))
    found = verify(book)
    assert found.notes and b'"round": 5' in book.read_bytes()  # it still stands there, and is said to be torn
    assert "not in this book" in verify(book, head).faults[0]


def write_many(path: Path, name: str, n: int) -> None:
    kept = Ledger(path)
    for k in range(n):
        kept.append({**message(k), "site": name})


def test_two_writers_take_turns(tmp_path: Path) -> None:
    path, spawn = tmp_path / "ledger.jsonl", multiprocessing.get_context("fork")
    both = [spawn.Process(target=write_many, args=(path, name, 25)) for name in ("one", "two")]
    for p in both:
        p.start()
    for p in both:
        p.join(60)
    assert [p.exitcode for p in both] == [0, 0]
    assert verify(path).holds and verify(path).entries == 50
    assert {e["site"] for e in ledger.read(path)} == {"one", "two"}


def write_for_ever(path: Path) -> None:
    write_many(path, "site", 10**6)


def test_a_killed_writer_leaves_a_book_that_holds_and_goes_on(tmp_path: Path) -> None:
    path, fork = tmp_path / "ledger.jsonl", multiprocessing.get_context("fork")
    for k in range(4):
        writer = fork.Process(target=write_for_ever, args=(path,))
        writer.start()
        start = path.stat().st_size if path.exists() else 0
        while not path.exists() or path.stat().st_size < start + 2000 + 137 * k:
            pass
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join(30)
        assert verify(path).holds
    n = verify(path).entries
    Ledger(path).append(message(0))
    assert verify(path).holds and verify(path).entries >= n + 1


def test_a_lock_held_by_another_process_stops_what_leaves(book: Path) -> None:
    with Ledger(book)._locked(), pytest.raises(LedgerError, match="another process holds it"):
        Ledger(book, patience=0.05).append(message(9))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    fold = Split.make(toy.write(), "unseen subject", endpoint="ln_ic50").fold(0)
    held = sharing.at_random(fold, 2)["site 1"]
    return Site("site 1", sharing.local(fold, held), Policy(), gate.steps(tmp_path / "own"))


def test_what_leaves_is_written_down_before_and_the_server_gets_the_head(site: Site, tmp_path: Path) -> None:
    ask = Ask("counts", 3, values={"treatments": toy.TREATMENTS})
    reply = site.answer(ask)
    assert reply.refused is None
    book = tmp_path / "own" / "ledger.jsonl"
    (entry,) = ledger.read(book)
    assert reply.values == {"ledger": entry["hash"]} and verify(book, str(reply.values["ledger"])).holds
    assert (entry["purpose"], entry["round"], entry["rows"]) == ("counts", 3, reply.rows)
    assert entry["masked"] is False and entry["plain"].startswith("How many training rows")
    told = {a["name"]: a for a in entry["arrays"]}
    assert told["by_treatment"]["shape"] == [12] and told["by_treatment"]["what"] == "rows by treatment"
    for name, array in reply.arrays.items():
        assert told[name]["digest"] == ledger.digest(array) and told[name]["bytes"] == array.nbytes
        assert told[name]["dtype"] == str(array.dtype)
    assert entry["bytes"] == reply.nbytes
    assert ledger.heads(Gathered((reply, Reply("site 2", "counts", 3)))) == {"site 1": entry["hash"]}


def test_a_digest_knows_shape_and_dtype() -> None:
    a = np.zeros(4)
    different = {ledger.digest(v) for v in (a, a.reshape(2, 2), a.astype(np.int64), a.astype(np.float32), a + 1)}
    assert len(different) == 5 and ledger.digest(np.zeros((2, 2)).T) == ledger.digest(np.zeros((2, 2)))


def test_nothing_leaves_where_the_book_cannot_be_written(site: Site, tmp_path: Path) -> None:
    site.answer(Ask("counts"))
    book = tmp_path / "own" / "ledger.jsonl"
    book.write_bytes(book.read_bytes()[:50] + b"x" + book.read_bytes()[51:])
    site.outgoing = gate.steps(tmp_path / "own")
    reply = site.answer(Ask("counts"))
    assert reply.refused is not None and "LedgerError" in reply.refused and reply.arrays == {} and reply.rows == 0


def test_a_refusal_is_a_message_too_and_is_written_down(site: Site, tmp_path: Path) -> None:
    site.policy = Policy(allowed=("schema",))
    reply = site.answer(Ask("counts", 2))
    (entry,) = ledger.read(tmp_path / "own" / "ledger.jsonl")
    assert entry["kind"] == "refusal" and entry["reason"] == reply.refused and entry["round"] == 2
    assert verify(tmp_path / "own" / "ledger.jsonl").holds


def test_masked_answers_are_written_down_as_masked(tmp_path: Path, site: Site) -> None:
    kept = Ledger(tmp_path / "ledger.jsonl")
    kept(site, Ask("counts"), Answer(50, {"rows": np.arange(3, dtype=np.uint64)}, masked=True))
    assert ledger.read(kept.path)[0]["masked"] is True


def test_long_values_are_kept_as_digests(tmp_path: Path, site: Site) -> None:
    kept = Ledger(tmp_path / "ledger.jsonl")
    made = kept(site, Ask("counts"), Answer(50, {}, {"short": "ln(uM)", "long": ["gene"] * 400, "bad": float("nan")}))
    (entry,) = ledger.read(kept.path)
    assert entry["values"]["short"] == "ln(uM)" and set(entry["values"]["long"]) == {"length", "digest"}
    assert entry["values"]["bad"] == "nan" and verify(kept.path, str(made.values["ledger"])).holds


def test_the_command_tells_what_left_and_for_what(site: Site, tmp_path: Path, capsys) -> None:
    for k in range(3):
        site.answer(Ask("counts", k, values={"treatments": toy.TREATMENTS}))
    site.answer(Ask("no such thing"))
    assert ledger_command.main([str(tmp_path / "own")]) == 0
    told = capsys.readouterr().out
    assert "3 messages left site 1" in told and re.search(r"counts +3 +0 +336 B +112 B +\d+\n", told)
    assert "How many training rows" in told and "12, int64, 96 B" in told and "chain of 4 entries holds" in told
    assert "1 requests were refused" in told and "no such thing" in told
    assert not re.search(r"subject \d", told)
    head = verify(tmp_path / "own" / "ledger.jsonl").head
    assert ledger_command.main([str(tmp_path / "own" / "ledger.jsonl"), "--verify", "--head", head]) == 0
    assert "nothing up to there was cut off" in capsys.readouterr().out


def test_the_command_fails_on_a_broken_book_a_missing_one_and_a_bad_head(book: Path, tmp_path: Path, capsys) -> None:
    text = book.read_bytes()
    book.write_bytes(text.replace(b'"round": 2', b'"round": 7'))
    assert ledger_command.main([str(book), "--verify"]) == 1
    assert "THE BOOK DOES NOT HOLD" in capsys.readouterr().out
    assert ledger_command.main([str(tmp_path / "none.jsonl")]) == 1
    assert "none.jsonl" in capsys.readouterr().err
    assert ledger_command.main([str(book), "--head", "abc"]) == 2
    assert ledger_command.main(["--help"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize(("n", "said"), [(0, "0 B"), (999, "999 B"), (1536, "1.5 kB"), (2_000_000, "2.0 MB"),
                                         (999_999, "1.0 MB"), (123_456_789, "123 MB")])  # fmt: skip
def test_sizes_read_as_people_write_them(n: int, said: str) -> None:
    assert ledger_command.size(n) == said


def test_control_characters_of_a_server_do_not_reach_the_terminal(book: Path, capsys) -> None:
    Ledger(book).append({"kind": "refusal", "site": "s", "purpose": "a\x1b[2Jb", "round": 0, "reason": "\x07no",
                         "bytes": 3})  # fmt: skip
    ledger_command.main([str(book)])
    assert "\x1b" not in (told := capsys.readouterr().out) and "\x07" not in told and "a?[2Jb: ?no" in told
