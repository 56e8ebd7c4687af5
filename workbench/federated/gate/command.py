"""``workbench federate ledger FILE``: what left this site, how much and for what, and whether the book is whole."""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench import rooms
from workbench.federated import output
from workbench.federated.gate import ledger
from workbench.federated.gate.outgoing import BOOK
from workbench.federated.policy import ASKED

WIDTH, LAST = 118, 20


def main(argv: list[str]) -> int:
    """``workbench federate ledger FILE``: exit status 0, 1 (no book, or it does not hold) or 2 (bad usage)."""
    parser = argparse.ArgumentParser(
        prog="workbench federate ledger",
        description="What left this site: every message, totals by purpose, and whether nothing in the book was "
        "edited, removed, inserted, moved or cut off.",
    )
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help=f"the book ({BOOK}), or the folder it is in")
    parser.add_argument("--purposes", action="store_true", help="list everything a site can be asked, as a table")
    parser.add_argument("--verify", action="store_true", help="check the chain, and print nothing else")
    parser.add_argument("--head", metavar="HASH", help="a head kept elsewhere: it must stand in the book")
    parser.add_argument("--last", type=int, default=LAST, help=f"messages to show (default {LAST}; 0: all)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every entry to this file")
    try:
        given = parser.parse_args(argv)
        if given.head is not None and not re.fullmatch(r"[0-9a-f]{64}", given.head):
            parser.error("--head: a head is 64 digits and letters a to f, as the server's record has it.")
        if given.last < 0:
            parser.error(f"--last should be at least 0, found {given.last}.")
        if given.file is None and not given.purposes:
            parser.error("name the book: FILE, or the folder it is in.")
        if wrong := output.complaint("--json", given.json):
            parser.error(wrong)
    except SystemExit as e:
        return 2 if e.code else 0
    if given.purposes:
        sys.stdout.write(purposes() + "\n")
        return 0
    file = given.file / BOOK if given.file.is_dir() else given.file
    try:
        entries, found = ledger.read(file), ledger.verify(file, given.head)
    except OSError as e:
        words = "there is no book" if isinstance(e, FileNotFoundError) else e.strerror or str(e)
        sys.stderr.write(
            f"workbench federate ledger: {file}: {words}. It is {BOOK} in the folder that site.toml names as ledger.\n"
        )
        return 1
    except RecursionError:  # brackets within brackets, thousands deep
        sys.stderr.write(
            f"workbench federate ledger: {file}: THIS IS NO BOOK: a line is not as this site writes them.\n"
        )
        return 1
    if given.json is not None:
        output.write(given.json, json.dumps(entries, indent=1))
    try:
        told = verdict(found, given.head) if given.verify else text(entries, found, given.last, given.head)
    except (KeyError, TypeError, ValueError):  # lines that somebody edited need not have what ours have
        found = replace(found, faults=(*found.faults, "an entry lacks what every entry has: edited."))
        told = verdict(found, given.head)
    sys.stdout.write(told + "\n")
    return 0 if found.holds else 1


def purposes() -> str:
    """Everything a site can be asked, as a Markdown table: name, what leaves in plain words, how."""
    out = ["| name | what leaves, and what for | how |", "|---|---|---|"]
    for name in rooms.names(ASKED):
        module = rooms.load(ASKED, name)
        leaves = module.LEAVES
        how = "as a sum over sites" if leaves.summed else "from this site alone" if leaves.rows else "no data"
        out.append(f"| `{name}` | {module.PLAIN.replace('|', '/')} | {how} |")
    return "\n".join(out)


def verdict(found: ledger.Verified, head: str | None = None) -> str:
    """Whether the chain holds, in plain words."""
    out = []
    if found.holds:
        out.append(f"The chain of {found.entries} entries holds: none was edited, removed, inserted or moved.")
        if head is None:
            out.append(
                "Whether lines are missing at the end shows only a head kept elsewhere: the server keeps one of every "
                "answer (give it as --head)."
            )
        else:
            out.append("The head kept elsewhere stands in it: nothing up to there was cut off.")
    else:
        out.append(f"THE BOOK DOES NOT HOLD: {len(found.faults)} fault{'s' * (len(found.faults) > 1)}.")
        out += [f"  {fault}" for fault in found.faults]
    out += [f"  {note}" for note in found.notes]
    out.append(f"head: {found.head}")
    return "\n".join(line for part in out for line in textwrap.wrap(part, WIDTH, subsequent_indent="  "))


def text(
    entries: Sequence[Mapping[str, Any]], found: ledger.Verified, last: int = LAST, head: str | None = None
) -> str:
    """The book as a person reads it: totals by purpose, the last messages, refusals, and the verdict."""
    messages = [e for e in entries if e["kind"] == "message"]
    if not messages:  # charged and then killed: the charge counts
        return "\n".join(["Nothing has left this site.", *privacy(entries), "", verdict(found, head)])
    total = sum(e["bytes"] for e in messages)
    out = [
        f"{len(messages)} messages left {_clean(messages[0]['site'])} from {messages[0]['time']} to "
        f"{messages[-1]['time']}: {size(total)} in all.",
        "",
        f"{'for what':<20} {'messages':>8} {'masked':>7} {'bytes':>10} {'largest':>10} {'rows behind':>12}",
    ]
    for purpose in sorted({e["purpose"] for e in messages}):
        of = [e for e in messages if e["purpose"] == purpose]
        behind = sorted({e["rows"] for e in of})
        rows = str(behind[0]) if len(behind) == 1 else f"{behind[0]} to {behind[-1]}"
        masked = sum(e["masked"] for e in of)
        out.append(
            f"{_clean(purpose):<20} {len(of):>8} {masked:>7} {size(sum(e['bytes'] for e in of)):>10} "
            f"{size(max(e['bytes'] for e in of)):>10} {rows:>12}"
        )
        out += textwrap.wrap(_clean(of[-1]["plain"]), WIDTH, initial_indent="    ", subsequent_indent="    ")
    out += privacy(entries)
    shown = messages[-last:] if last else messages
    out += ["", f"the last {len(shown)} messages:" if len(shown) < len(messages) else "every message:"]
    for e in shown:
        out.append(f"{e['time']}  round {e['round']:<4} {_clean(e['purpose'])}{'  (masked)' * bool(e['masked'])}")
        for a in e["arrays"]:
            shape = " x ".join(map(str, a["shape"])) or "one number"
            told = f"{_clean(a['name'])}: {_clean(str(a['what']))}; {shape}, {a['dtype']}, {size(a['bytes'])}"
            out += textwrap.wrap(
                f"{told}, {a['digest'][:12]}", WIDTH, initial_indent="    ", subsequent_indent="      "
            )
        for name, value in e["values"].items():
            out += textwrap.wrap(f"{_clean(name)} = {_clean(json.dumps(value))}", WIDTH, initial_indent="    ",
                                 subsequent_indent="      ")  # fmt: skip
    refused = [e for e in entries if e["kind"] == "refusal"]
    if refused:
        out += ["", f"{len(refused)} requests were refused; the last ones:"]
        for e in refused[-5:]:
            out += textwrap.wrap(f"{e['time']}  {_clean(e['purpose'])}: {_clean(e['reason'])}", WIDTH,
                                 initial_indent="  ", subsequent_indent="    ")  # fmt: skip
    return "\n".join([*out, "", verdict(found, head)])


def privacy(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """What noisy answers have cost the site's persons, and what its policy left when the last one was charged."""
    charges = [e for e in entries if e["kind"] == "charge"]
    if not charges:
        return []
    now = charges[-1]
    left = "its policy sets no bound"
    if now["allowed"]:
        left = f"{max(now['allowed'] - now['epsilon'], 0.0):.3g} of the {now['allowed']:g} allowed is left"
    count = ", ".join(f"{n} {_clean(p)}" for p, n in sorted(Counter(str(e["purpose"]) for e in charges).items()))
    said = (
        f"privacy budget: epsilon = {now['epsilon']:.3g} at delta = {now['delta']:g} is spent, {left} (unit: "
        f"{_clean(now['unit'])}; accountant: {_clean(now['accountant'])}; {len(charges)} charges: {count})."
    )
    return ["", *textwrap.wrap(said, WIDTH, subsequent_indent="  ")]


def size(nbytes: int) -> str:
    """Bytes as people read them: 512 B, 1.5 kB, 20 MB (powers of ten)."""
    amount, unit = float(nbytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 999.5 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 99.95 else f"{amount:.1f} {unit}"


def _clean(words: object) -> str:
    """Without control characters: a purpose or reason may come from the server, and a terminal obeys some."""
    return "".join(c if c.isprintable() else "?" for c in str(words))
