"""Sites that note what passed: how long each ask took, bytes and figures that came back from whom, who was lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from workbench import tables
from workbench.federated.gate import ledger
from workbench.federated.messages import Ask, Gathered
from workbench.federated.robust.updates import Noted
from workbench.federated.sites import Sites

DROPPED, FLAGGED, LEFT_OUT = "dropped", "flagged", "left out"
ECHO = "not among those whose rows the sums rest on"  # what a site answers that was lost before


@dataclass(frozen=True)
class Exchange:
    """One ask and what came of it: seconds, bytes and figures by site, and the lost ones with their reasons.

    ``heads``: {site: newest hash of its book when it answered}, of sites that keep one (``gate.ledger``).
    """

    purpose: str
    round: int
    seconds: float
    sent: int
    nbytes: dict[str, int]
    figures: dict[str, dict[str, float]]
    lost: dict[str, str]
    heads: dict[str, str] = field(default_factory=dict)


class Watched:
    """``Sites`` as they are, with a log.

    Attributes
    ----------
    exchanges : what passed, in order; bytes are those of the arrays, of one site's ask and of each site's reply
    noted : answers that the checks dropped or flagged, in order (``robust.updates``)
    heard : called with each exchange as it ends, and each Noted as it comes; None for none
    """

    def __init__(self, sites: Sites, heard: Callable[[Exchange | Noted], None] | None = None) -> None:
        self.sites, self.heard = sites, heard
        self.exchanges: list[Exchange] = []
        self.noted: list[Noted] = []

    @property
    def names(self) -> tuple[str, ...]:
        return self.sites.names

    def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
        start = time.perf_counter()
        gathered = self.sites.ask(ask, of)
        self._note(ask, gathered, time.perf_counter() - start)
        return gathered

    def total(self, ask: Ask, least: int = 1) -> tuple[dict[str, np.ndarray], Gathered]:
        start = time.perf_counter()
        sums, gathered = self.sites.total(ask, least)
        self._note(ask, gathered, time.perf_counter() - start)
        return sums, gathered

    @property
    def seconds(self) -> float:
        """Time between asks and their answers, in all [s]."""
        return sum(e.seconds for e in self.exchanges)

    def heads(self) -> dict[str, str]:
        """{site: newest hash of its book}: with it the site, or whoever asks, finds a book that was cut short."""
        return {site: head for e in self.exchanges for site, head in e.heads.items()}

    def rounds(self) -> pl.DataFrame:
        """``tables.FEDERATION_ROUNDS``: one row an exchange and site (its name is the purpose), one a figure.

        What the checks dropped has a row of its own, ``name`` "dropped"; what they flagged, and let pass, one whose
        ``name`` begins with "flagged".
        """
        rows: list[tuple[Any, ...]] = []
        for e in self.exchanges:
            for site in sorted({*e.nbytes, *e.lost}):
                rows.append((e.round, site, e.purpose, None, None, e.nbytes.get(site), e.seconds, e.lost.get(site)))
            for site, figures in sorted(e.figures.items()):
                rows += [(e.round, site, name, value, None, None, None, None) for name, value in figures.items()]
        for n in dict.fromkeys(self.noted):  # an ask that was repeated has the same answer to it
            why, out = f"{n.kind}: {n.purpose}: {n.why}", n.kind in (DROPPED, LEFT_OUT)
            rows.append((n.round, n.site, n.kind if out else why, None, None, None, None, why if out else None))
        schema = dict(tables.FEDERATION_ROUNDS.columns)
        return tables.check(pl.DataFrame(rows, schema=schema, orient="row"), tables.FEDERATION_ROUNDS)

    def note(self, what: Noted) -> None:
        """Take down what the checks said of one answer."""
        self.noted.append(what)
        if self.heard is not None:
            self.heard(what)

    def _note(self, ask: Ask, gathered: Gathered, seconds: float) -> None:
        figures = {
            r.site: {k: float(v) for k, v in r.values.items() if isinstance(v, (int, float)) and np.isfinite(v)}
            for r in gathered.replies
        }
        exchange = Exchange(
            ask.purpose, ask.round, seconds, sum(a.nbytes for a in ask.arrays.values()),
            {r.site: r.nbytes for r in gathered.replies}, figures, dict(gathered.lost),
            {site: head for site, head in ledger.heads(gathered).items() if len(head) == 64},
        )  # fmt: skip
        self.exchanges.append(exchange)
        if self.heard is not None:
            self.heard(exchange)


def checked(rounds: pl.DataFrame) -> list[str]:
    """Whom the checks dropped or flagged, or who spoke of other things than most: a line a site, kind and ask."""
    told = rounds.select("round", pl.col("site", "name", "lost").cast(pl.String)).filter(
        pl.col("name").is_in([DROPPED, LEFT_OUT]) | pl.col("name").str.starts_with(f"{FLAGGED}: ")
    )
    seen = ((number, site, *(lost or name).split(": ", 2)) for number, site, name, lost in told.iter_rows())
    return _in_words(seen)


def missed(rounds: pl.DataFrame) -> list[str]:
    """Who did not answer, or was set aside by a robust rule, when and why: lines as those of ``checked``."""
    told = rounds.select("round", pl.col("site", "name", "lost").cast(pl.String)).filter(
        pl.col("lost").is_not_null() & ~pl.col("name").is_in([DROPPED, LEFT_OUT])
    )
    aside = "set aside"
    found: dict[tuple[str, str, str], dict[str, list[int]]] = {}
    for number, site, name, lost in told.sort("round", maintain_order=True).iter_rows():
        kind, purpose = (aside, "training") if name == aside else ("lost", name)
        key = (site, kind, lost.removeprefix(f"{aside}: ").rstrip("."))
        found.setdefault(key, {}).setdefault(purpose, []).append(number)
    named = {site for site, _, why in found if ECHO not in why} | {line.split(" was ")[0] for line in checked(rounds)}
    lines = []
    for (site, kind, why), purposes in found.items():
        if ECHO not in why or site not in named:
            when = [n for numbers in purposes.values() for n in numbers]
            many = f" and {len(purposes) - 1} other questions" if len(purposes) > 1 else ""
            lines.append(f"{site} was {kind} in {_when(when)}, {next(iter(purposes))}{many}: {why}.")
    return lines


def _in_words(seen: Iterable[tuple[int, str, str, str, str]]) -> list[str]:
    """A line for each site, kind and ask, of (round, site, kind, purpose, why)."""
    found: dict[tuple[str, str, str], dict[str, list[int]]] = {}
    for number, site, kind, purpose, why in sorted(seen, key=lambda s: s[0]):
        found.setdefault((site, kind, purpose), {}).setdefault(why, []).append(number)
    lines = []
    for (site, kind, purpose), reasons in found.items():
        when = [n for numbers in reasons.values() for n in numbers]
        why = next(iter(reasons)) + (f" (and {len(reasons) - 1} other reasons)" if len(reasons) > 1 else "")
        lines.append(f"{site} was {kind} in {_when(when)}, {purpose}: {why}.")
    return lines


def _when(rounds: Iterable[int]) -> str:
    when = sorted(set(rounds))
    more = f" and {len(when) - 8} more" if len(when) > 8 else ""
    return f"round{'s' if len(when) > 1 else ''} {', '.join(map(str, when[:8]))}{more}"
