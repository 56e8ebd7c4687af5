"""What comes in is checked before anything is averaged: each reply is accepted, dropped with a reason, or flagged.

    dropped   another purpose or round (stale, replayed), another schema, missing or unasked-for arrays, another shape
              or dtype, a number that is not finite, rows that are not positive or more than the site said at the start
              (in its schema, or when first asked), a share of all rows that is not its rows', or above a cap, or that
              makes all shares more than 1, an unknown name, the same name twice
    flagged   a length far from the others' (robust z), a direction opposite to the others' median, the very numbers of
              an earlier round in answer to another question; also dropped where ``drop_flagged``

Over secure sums no part is seen: a site refuses to mask what is not finite, which names it, and of the sum it is
checked that it is finite and that rows and shares agree; else the round ends with ``HiddenFault``, as nobody can tell
whose.

What no check here can see: values changed within the spread of the honest (labels mirrored at a site, a little is
enough, a back door), a number of rows that was a lie from the start (so a site's share is capped: ``shares``), fewer
rows than there are, one institution under two names, and, below secure aggregation, anything about one site's part.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from workbench import rooms
from workbench.federated.asked import Leaves, described
from workbench.federated.messages import Ask, Gathered, Reply
from workbench.federated.robust import geometry
from workbench.federated.robust.compared import CHANGE, compared, share_of
from workbench.federated.site import ASKED
from workbench.federated.sites import Sites, add, enough

COUNTED = ("rows", "subjects", "share")  # arrays that count something
SAMPLED = 4096  # numbers of an array that a digest is of
SCHEMA = "schema"  # the ask in which a site says how many rows it has
OFF = 1e-6  # by which shares may miss what rows say


class HiddenFault(ValueError):
    """A secure sum cannot be right; which site's part is wrong cannot be told, as parts are hidden."""


@dataclass(frozen=True)
class Checks:
    """What to hold replies to.

    Attributes
    ----------
    shapes : {array: shape} or None: what most replies have
    dtypes : {array: dtype name} or None: what most replies have
    rows : {site: most rows it may claim}; without it, ``Checked`` holds a site to what it first claimed when
        asked for the same (purpose, modality, treatments)
    said : {site: training rows it said it has}: no answer may rest on more; ``Checked`` adds what schemas say
    most_share : most of all sites' rows that one site may claim, from 0 to 1
    compare : judge replies by each other (lengths, directions); for updates, not for sums of unlike sites
    drop_flagged : drop what is flagged too
    """

    shapes: Mapping[str, tuple[int, ...]] | None = None
    dtypes: Mapping[str, str] | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    said: Mapping[str, int] = field(default_factory=dict)
    most_share: float = 1.0
    compare: bool = True
    drop_flagged: bool = False


@dataclass(frozen=True)
class Verdict:
    """Replies accepted, in order, and {site: reason} of those dropped and of those flagged."""

    accepted: tuple[Reply, ...]
    dropped: dict[str, str]
    flagged: dict[str, str]


def examine(ask: Ask, replies: Sequence[Reply], checks: Checks | None = None, known: Sequence[str] = ()) -> Verdict:
    """Judge every reply to ``ask``; refused ones are no business of this function.

    Parameters
    ----------
    known : names of the sites that were asked; empty: any
    """
    checks = checks or Checks()
    leaves = rooms.load(ASKED, ask.purpose).LEAVES
    whole = _Majority.of([r for r in replies if _about(ask, r, known) is None], checks, leaves)
    twice = {name for name, n in Counter(r.site for r in replies).items() if n > 1}
    dropped: dict[str, str] = {}
    for reply in replies:
        why = "answered twice under one name" if reply.site in twice else None
        why = why or _about(ask, reply, known) or _content(reply, whole, checks, leaves)
        why = why or (_claims(ask, reply, checks, leaves.by_rows) if leaves.rows and not leaves.private else None)
        if why:
            dropped[reply.site] = why
    dropped |= _together(ask, [r for r in replies if r.site not in dropped], checks, leaves.by_rows)
    accepted = [r for r in replies if r.site not in dropped]
    flagged = compared(ask, accepted) if checks.compare else {}
    if checks.drop_flagged:
        dropped |= flagged
        accepted = [r for r in accepted if r.site not in flagged]
    return Verdict(tuple(accepted), dropped, flagged)


def _about(ask: Ask, reply: Reply, known: Sequence[str]) -> str | None:
    """Is it an answer to this ask at all?"""
    if known and reply.site not in known:
        return "unknown site"
    if reply.purpose != ask.purpose:
        return f"answers {reply.purpose!r}; {ask.purpose!r} was asked"
    if reply.round != ask.round:
        return f"of round {reply.round}; round {ask.round} was asked (stale or replayed)"
    asked, told = ask.values.get("schema"), reply.values.get("schema")
    if asked is not None and told != asked:
        return f"schema {told!r}; {asked!r} was asked"
    return None


@dataclass(frozen=True)
class _Majority:
    """Names, shapes and dtypes that are right: told, else those of most replies; ``split`` has as many for another."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    split: frozenset[str] = frozenset()

    @classmethod
    def of(cls, replies: Sequence[Reply], checks: Checks, leaves: Leaves) -> _Majority:
        votes: dict[str, Counter] = {}
        for reply in replies:
            for name, a in reply.arrays.items():
                if described(leaves, name) is not None:
                    votes.setdefault(name, Counter())[(a.shape, a.dtype.name)] += 1
        names = [n for n, c in votes.items() if 2 * c.total() >= len(replies)]
        top = {n: votes[n].most_common(1)[0][0] for n in names}
        shapes = {n: s for n, (s, _) in top.items()} if checks.shapes is None else dict(checks.shapes)
        dtypes = {n: d for n, (_, d) in top.items()} | dict(checks.dtypes or {})
        first = {n: [count for _, count in votes[n].most_common(2)] for n in names}
        split = {n for n, c in first.items() if len(c) > 1 and c[0] == c[1] and n not in leaves.unlike}
        return cls(shapes, dtypes, frozenset(split if checks.shapes is None else ()))


def _content(reply: Reply, whole: _Majority, checks: Checks, leaves: Leaves) -> str | None:
    if missing := sorted(set(whole.shapes) - set(reply.arrays)):
        return f"array {missing[0]!r} is missing"
    if extra := sorted(set(reply.arrays) - set(whole.shapes)):
        return f"array {extra[0]!r} was not asked for"
    for name, a in sorted(reply.arrays.items()):
        if name in whole.split:
            return f"{name!r} is {a.dtype.name} {a.shape}; as many sites sent another, so which is right cannot be told"
        if a.shape != whole.shapes[name] and name not in leaves.unlike:
            return f"{name!r} has shape {a.shape}; {whole.shapes[name]} was expected"
        if name in whole.dtypes and a.dtype.name != whole.dtypes[name]:
            return f"{name!r} is {a.dtype.name}; {whole.dtypes[name]} was expected"
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            kind = "NaN" if np.isnan(a).any() else "infinite numbers"
            return f"{name!r} has {kind} ({int((~np.isfinite(a)).sum())} of {a.size})"
        if a.dtype.kind == "f" and a.size and float(np.abs(a).max()) >= geometry.BEYOND:
            return f"{name!r} has numbers beyond {geometry.BEYOND:g}"
    for name in COUNTED:
        if name in reply.arrays and (reply.arrays[name] < 0).any():
            return f"{name!r} has negative numbers"
    return None


def _claims(ask: Ask, reply: Reply, checks: Checks, by_rows: bool) -> str | None:
    """Can so many rows, and such a share of all, be?"""
    if reply.rows <= 0:
        return f"claims {reply.rows} rows"
    if (most := checks.rows.get(reply.site)) is not None and reply.rows > most:
        return f"claims {reply.rows} rows; {most} were said at the start"
    if (most := checks.said.get(reply.site)) is not None and reply.rows > most:
        return f"claims {reply.rows} rows; its schema said {most}"
    counted = int(np.sum(reply.arrays["rows"])) if "rows" in reply.arrays else reply.rows
    if counted > reply.rows or (ask.purpose == SCHEMA and counted != reply.rows):
        return f"counts {counted} rows in an answer that rests on {reply.rows}"
    if by_rows and (share := share_of(reply)) is not None and (of := _all_rows(ask)) is not None:
        if abs(share - reply.rows / of) > OFF:
            return f"claims a share of {share:.6g}; its {reply.rows} rows are {reply.rows / of:.6g} of all"
        if share > checks.most_share + OFF and reply.site not in checks.said:  # else judged when it said its rows
            return f"claims a share of {share:.6g}; no site may have more than {checks.most_share:g}"
    return None


def _together(ask: Ask, replies: Sequence[Reply], checks: Checks, by_rows: bool) -> dict[str, str]:
    """{site: reason} of claims that only all of them together show to be impossible."""
    if ask.purpose == SCHEMA and checks.most_share < 1:
        said = dict(checks.said) | {r.site: r.rows for r in replies}
        cap, whole = checks.most_share, sum(said.values())
        new = [r for r in replies if r.site not in checks.said and len(said) > 1]  # once: without whom it drops, others
        over = [r for r in new if r.rows > (cap + OFF) * whole]  # have larger shares by right
        return {r.site: f"claims {r.rows} of {whole} rows; no site may have more than {cap:g} of all" for r in over}
    claimed = {r.site: s for r in replies if by_rows and (s := share_of(r)) is not None}
    if checks.said and _all_rows(ask) is not None and (total := sum(claimed.values())) > 1 + OFF * len(claimed):
        strange = [s for s in claimed if s not in checks.said]  # of the others rows, and so shares, are known
        return dict.fromkeys(strange, f"never said its rows, and with it the sites' shares are {total:.6g} of all")
    return {}


def _all_rows(ask: Ask) -> int | None:
    """The rows of all sites that shares are shares of, as the ask says them."""
    rows = ask.values.get("rows")
    return rows if isinstance(rows, int) and rows > 0 else None


def shares(rows: Sequence[int], most: float = 1.0) -> np.ndarray:
    """Weights by rows that add up to 1, none above ``most``; what is cut off goes to the others by their rows.

    A site that lies about its rows gains at most ``most``. Raises ValueError where n sites cannot share 1 that way.
    """
    w = np.asarray(rows, dtype=np.float64)
    if not len(w) or (w <= 0).any() or not np.isfinite(w).all():
        raise ValueError("every site needs a positive number of rows.")
    if most * len(w) < 1 - 1e-12:
        raise ValueError(
            f"{len(w)} sites cannot share everything with at most {most:g} each; {1 / len(w):.3g} is needed."
        )
    w = w / w.sum()
    full = np.zeros(len(w), dtype=bool)
    while (w[~full] > most * (1 + 1e-12)).any():
        full |= w > most * (1 + 1e-12)
        w[full] = most
        if not full.all():
            w[~full] *= (1 - most * full.sum()) / w[~full].sum()
    return w


@dataclass(frozen=True)
class Noted:
    """One thing seen: in which round of which purpose, which site, ``dropped`` or ``flagged``, and why."""

    purpose: str
    round: int
    site: str
    kind: str
    why: str


class Checked:
    """Any ``Sites``, of which only checked replies come through.

    Parameters
    ----------
    sites : the transport
    checks : what to hold replies to; counts said at the start are remembered here, site by site
    least : fewest sites left after the checks; fewer raise TooFewSites
    hidden : ``total`` of the transport hides each site's part (secure aggregation): only its sum can be checked there
    heard : called with each Noted; None for none

    Attributes
    ----------
    noted : list of Noted, in order: everything dropped or flagged so far
    """

    def __init__(
        self,
        sites: Sites,
        checks: Checks | None = None,
        least: int = 1,
        hidden: bool = False,
        heard: Callable[[Noted], None] | None = None,
    ) -> None:
        self.sites, self.checks, self.least, self.hidden = sites, checks or Checks(), least, hidden
        self.heard = heard
        self.noted: list[Noted] = []
        self._rows: dict[tuple, dict[str, int]] = {}
        self._said = dict(self.checks.said)
        self._told: dict[tuple[str, str], dict[str, tuple[str, int]]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return self.sites.names

    def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
        """Checked replies; who was dropped is in ``lost`` with the reason. Raises TooFewSites below ``least``."""
        gathered = self._judge(ask, self.sites.ask(ask, of))
        enough(ask, gathered, self.least if of is None else min(self.least, len(of)))
        return gathered

    def total(self, ask: Ask, least: int = 1) -> tuple[dict[str, np.ndarray], Gathered]:
        """Sums over checked replies; where parts are hidden, the sum itself has to be finite and shaped as told."""
        least = max(least, self.least)
        if not self.hidden:
            # sums of unlike sites differ in length and direction by right; what a training changes does not
            moves = any(name.startswith(CHANGE) for name in rooms.load(ASKED, ask.purpose).LEAVES.arrays)
            gathered = self._judge(ask, self.sites.ask(ask), compare=moves)
            enough(ask, gathered, least)
            return add(ask, gathered), gathered
        sums, gathered = self.sites.total(ask, least)
        enough(ask, gathered, least)
        if why := self._impossible(ask, sums, gathered):
            who = ", ".join(r.site for r in gathered.replies)
            raise HiddenFault(
                f"{ask.purpose!r}, round {ask.round}: {why}. Which of {who} it was cannot be told: their "
                "parts are hidden. The round is given up; without secure sums the site would be named."
            )
        return sums, gathered

    def _impossible(self, ask: Ask, sums: Mapping[str, np.ndarray], gathered: Gathered) -> str | None:
        """Why a sum of hidden parts cannot be right; None where nothing speaks against it."""
        for name, a in sums.items():
            if not np.isfinite(a).all():
                return f"the sum of {name!r} is not finite"
            if self.checks.shapes is not None and a.shape != self.checks.shapes.get(name):
                return f"the sum of {name!r} has shape {a.shape}; {self.checks.shapes.get(name)} was expected"
        took, rows = [r.site for r in gathered.replies], gathered.rows
        if all(site in self._said for site in took) and rows > (most := sum(self._said[site] for site in took)):
            return f"the sum rests on {rows} rows; the schemas of these sites said {most}"
        by_rows, of = rooms.load(ASKED, ask.purpose).LEAVES.by_rows, _all_rows(ask)
        if by_rows and "share" in sums and of is not None and rows > 0:
            share = float(sums["share"].sum())
            if abs(share - rows / of) > OFF * len(took):
                return f"the sites' shares sum to {share:.6g}; their {rows} rows are {rows / of:.6g} of all"
        return None

    def flagged(self, number: int) -> list[str]:
        """Sites flagged in that round."""
        return sorted({n.site for n in self.noted if n.round == number and n.kind == "flagged"})

    def _judge(self, ask: Ask, gathered: Gathered, compare: bool | None = None) -> Gathered:
        # another modality or other treatments have other rows behind them, by right
        about = tuple((k, str(v)) for k, v in sorted(ask.values.items()) if isinstance(v, str | list))
        held = self._rows.setdefault((ask.purpose, about), dict(self.checks.rows))
        # flagged ones are dropped below, with all reasons together
        checks = replace(self.checks, rows=held, said=self._said, drop_flagged=False)
        if compare is not None:
            checks = replace(checks, compare=compare and checks.compare)
        verdict = examine(ask, gathered.replies, checks, self.names)
        flagged = dict(verdict.flagged)
        for site, why in self._again(ask, verdict.accepted).items():
            flagged[site] = f"{why}; {flagged[site]}" if site in flagged else why
        accepted, dropped = list(verdict.accepted), dict(verdict.dropped)
        if self.checks.drop_flagged:
            dropped |= flagged
            accepted = [r for r in accepted if r.site not in flagged]
        for kind, told in (("flagged", flagged), ("dropped", dropped)):
            for site, why in sorted(told.items()):
                self.noted.append(Noted(ask.purpose, ask.round, site, kind, why))
                if self.heard is not None:
                    self.heard(self.noted[-1])
        for reply in accepted:
            held.setdefault(reply.site, reply.rows)
            if ask.purpose == SCHEMA:
                self._said.setdefault(reply.site, reply.rows)
        return Gathered(tuple(accepted), dict(gathered.lost) | dropped, tuple(sorted(dropped)))

    def _again(self, ask: Ask, replies: Sequence[Reply]) -> dict[str, str]:
        """The very numbers of before in answer to another question: a replay with a new round on it."""
        question = _digest(ask.arrays)
        told = {}
        for r in replies:
            floats = {k: a for k, a in r.arrays.items() if a.dtype.kind == "f" and a.size > 1 and np.ptp(a) > 0}
            if not floats:
                continue
            before = self._told.setdefault((ask.purpose, r.site), {})
            asked, number = before.setdefault(_digest(floats), (question, ask.round))
            if asked != question and number != ask.round:  # within a round the plan may come along the second time
                told[r.site] = "the very numbers of an earlier round, to another question"
        return told


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Of the names and, of each array, some thousand numbers spread over it: enough to tell one round from another."""
    made = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        flat = arrays[name].ravel()
        made.update(name.encode())
        made.update(flat[:: max(1, flat.size // SAMPLED)].tobytes())
    return made.hexdigest()
