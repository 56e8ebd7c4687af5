"""What went wrong in a federation and what left it, out of FEDERATION_ROUNDS, as rows that people read.

The ``round`` of an ask counts all asks; that of a figure, and of an update which a rule set aside, counts training
rounds. People think in the latter, so an ask that was repeated is told by its own number: the third ``network_round``
is training round 3, whatever was asked before it.
"""

from __future__ import annotations

import re
from typing import Any

import polars as pl

from workbench import rooms

ASKED = "workbench.federated.asked"
ROUNDS = {  # asks that are what people call a round
    "network_round": "training round", "network_private_round": "private training round",
    "pretrain_round": "pretraining round", "linear_step": "training round", "training": "round",
}  # fmt: skip
FLAGGED, DROPPED, ASIDE = "flagged: ", "dropped: ", "set aside: "
KINDS = {  # what the federation did about it
    "flagged": "flagged, and let pass", "dropped": "dropped by the checks", "set aside": "set aside by the rule",
    "refused": "refused by the site", "lost": "took no part",
}  # fmt: skip
_NUMBER = re.compile(r"\d[\d,.]*\d|\d")


def incidents(rounds: pl.DataFrame) -> list[dict[str, Any]]:
    """[{site, kind, what, times, why, others}]: a row a site, kind and reason; numbers in a reason do not part it.

    ``what`` says which asks ("training rounds 3 to 5 of 8"), ``others`` how many other wordings ``why`` stands for.
    """
    asks = _asks(rounds)
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    texts = rounds.select("round", pl.col("site", "name", "lost").cast(pl.String)).drop_nulls("site")
    for number, site, name, lost in texts.sort("round", maintain_order=True).iter_rows():
        told = _told(name or "", lost)
        if told is None:
            continue
        kind, purpose, why = told
        one = found.setdefault(
            (site, kind, _NUMBER.sub("#", why)), {"site": site, "kind": KINDS[kind], "whys": [], "at": {}}
        )
        one["whys"].append(why)
        counted = asks.get(purpose, [])
        one["at"].setdefault(purpose, set()).add(counted.index(number) + 1 if number in counted else number)
    return [
        {"site": o["site"], "kind": o["kind"], "what": _what(o["at"], asks), "times": sum(map(len, o["at"].values())),
         "why": o["whys"][0].rstrip("."), "others": len(set(o["whys"])) - 1}
        for o in found.values()
    ]  # fmt: skip


def asked(rounds: pl.DataFrame) -> list[dict[str, Any]]:
    """[{name, times, bytes, plain}], most bytes first: every kind of answer that left, and what it is."""
    left = rounds.with_columns(pl.col("name").cast(pl.String)).filter(pl.col("bytes") > 0)
    known = set(rooms.names(ASKED))
    sums = left.group_by("name", maintain_order=True).agg(times=pl.col("round").n_unique(), bytes=pl.col("bytes").sum())
    return [
        {"name": n, "times": t, "bytes": b, "plain": str(rooms.load(ASKED, n).PLAIN) if n in known else ""}
        for n, t, b in sums.sort("bytes", descending=True, maintain_order=True).iter_rows()
    ]


def _told(name: str, lost: str | None) -> tuple[str, str, str] | None:
    """(kind, purpose, reason) of a row that tells of something wrong."""
    for text in (name, lost or ""):
        for kind in (FLAGGED, DROPPED):
            if text.startswith(kind):
                _, purpose, why = text.split(": ", 2)
                return kind[:-2], purpose, why
    if lost is None:
        return None
    if lost.startswith(ASIDE):
        return "set aside", "", lost[len(ASIDE) :]
    return ("refused" if lost.startswith("policy: ") else "lost"), name, lost.removeprefix("policy: ")


def _asks(rounds: pl.DataFrame) -> dict[str, list[int]]:
    """{purpose: the numbers of its asks, in order}."""
    some = rounds.filter(pl.col("bytes").is_not_null() | pl.col("seconds").is_not_null())
    named = some.select("round", pl.col("name").cast(pl.String)).group_by("name").agg(pl.col("round").unique().sort())
    return {str(n): [int(r) for r in numbers] for n, numbers in named.iter_rows()}


def _what(at: dict[str, set[int]], asks: dict[str, list[int]]) -> str:
    if len(at) > 3:
        return f"{sum(map(len, at.values()))} asks of {len(at)} kinds"
    parts = []
    for purpose, numbers in at.items():
        total = len(asks.get(purpose, []))
        word = "training round" if not purpose else ROUNDS.get(purpose, purpose.replace("_", " "))
        if total == 1:
            parts.append(word)
            continue
        plural = "s" if len(numbers) > 1 and word in ("training round", *ROUNDS.values()) else ""
        parts.append(f"{word}{plural} {_runs(sorted(numbers))}{f' of {total}' if total else ''}")
    return "; ".join(parts)


def _runs(numbers: list[int]) -> str:
    """``1 to 3, 7``."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(
        str(r[0]) if len(r) == 1 else f"{r[0]} and {r[1]}" if len(r) == 2 else f"{r[0]} to {r[-1]}" for r in runs
    )
