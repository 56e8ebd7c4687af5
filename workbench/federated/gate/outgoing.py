"""What every answer of a site passes on its way out, in order: persons, content, budget, door, book.

    Persons   enough persons behind it, no two answers that differ by a few persons (policy)
    leaks     no row in it, as far as that can be told (leaks.Check)
    Budget    noisy answers charged to the site's privacy budget; exact ones refused where it has one (budget.Budget)
    Door      masked where it has to be, no small counts, within the bytes and rounds the policy allows
    Ledger    written down, synced, and only then sent (ledger.Ledger)

Before a secure sum an answer passes the first three in the clear; the last two see it masked, as it leaves.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from workbench import durable, rooms
from workbench.federated.asked import Answer
from workbench.federated.gate.ledger import Ledger, nbytes
from workbench.federated.messages import Ask
from workbench.federated.policy import ASKED, Policy, PolicyError

if TYPE_CHECKING:
    from workbench.federated.site import Outgoing, Site

BOOK, ANSWERED, KEY = "ledger.jsonl", "answered.jsonl", "noise.key"


def steps(folder: Path | str) -> list[Outgoing]:
    """The steps of a site that keeps its book in ``folder``: ``Site(..., outgoing=gate.steps(folder))``."""
    from workbench.federated.gate.budget import Budget
    from workbench.federated.gate.leaks import Check

    book = Ledger(Path(folder) / BOOK)
    return [Persons(Path(folder) / ANSWERED), Check(), Budget(book, Path(folder) / KEY), Door(book), book]


@dataclass
class Persons:
    """Refuses what rests on too few persons, or on rows that differ from an earlier answer's by a few persons.

    Two answers about sets of rows that differ in one person's rows give that person's values by subtraction. So the
    sets already answered about are remembered in ``path`` (salted digests, no names; None: in memory), and a new set
    whose rows differ in those of 1 to ``minimum_cell`` - 1 persons is refused. A combination of three or more sets is
    not looked for.
    """

    path: Path | None = None
    _sets: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict, repr=False)
    _salt: bytes = field(default=b"", repr=False)
    _whole: tuple[Any, dict[str, str], str] | None = field(default=None, repr=False)

    def __call__(self, site: Site, ask: Ask, answer: Answer) -> Answer:
        """The answer itself, or PolicyError."""
        leaves = rooms.load(ASKED, ask.purpose).LEAVES
        if answer.masked or not leaves.rows:  # keys and shares tell no row; what is masked came through here before
            return answer
        self._open()
        mine, name = self._set(site, answer)
        if len(mine) < site.policy.minimum_subjects:
            raise PolicyError(
                f"policy: an answer must rest on {site.policy.minimum_subjects} persons; this one has fewer."
            )
        kind = "decimals" if any(a.dtype.kind == "f" for a in answer.arrays.values()) else "counts"
        of = f"{kind} {answer.quantity}".strip()
        sets = self._sets.setdefault(of, {})
        if name in sets:
            return answer
        for earlier in sets.values():
            apart = len({person for person, _ in mine.items() ^ earlier.items()})
            if 0 < apart < site.policy.minimum_cell:
                raise PolicyError(
                    f"policy: {ask.purpose!r} rests on rows that differ from those of an earlier answer in those of "
                    f"fewer than {site.policy.minimum_cell} persons; the difference would tell their values."
                )
        self._write({"of": of, "set": name, "persons": mine})
        sets[name] = mine
        return answer

    def _set(self, site: Site, answer: Answer) -> tuple[dict[str, str], str]:
        """{digest of a person: digest of the person's rows} behind the answer, and the digest of it all."""
        train = site.fold.train
        if answer.behind is None:
            if self._whole is None or self._whole[0] is not train:
                mine = self._digests(train)
                self._whole = (train, mine, _name(mine))
            return self._whole[1], self._whole[2]
        held = train.filter(pl.col("row").is_in(pl.Series(np.unique(answer.behind), dtype=pl.Int64).implode()))
        mine = self._digests(held)
        return mine, _name(mine)

    def _digests(self, rows: pl.DataFrame) -> dict[str, str]:
        by = rows.group_by("person").agg(pl.col("row").sort())
        return {
            self._digest(person.encode()): self._digest(np.asarray(numbers, dtype=np.int64).tobytes())
            for person, numbers in by.select("person", "row").iter_rows()
        }

    def _digest(self, data: bytes) -> str:
        return hashlib.blake2b(data, key=self._salt, digest_size=8).hexdigest()

    def _open(self) -> None:
        if self._salt:
            return
        if self.path is not None and self.path.exists():
            for line in self.path.read_text(encoding="utf-8").split("\n"):
                try:
                    told = json.loads(line)
                except ValueError:  # torn by a kill: its answer never left
                    continue
                if "salt" in told:
                    self._salt = bytes.fromhex(told["salt"])
                else:
                    self._sets.setdefault(told["of"], {})[told["set"]] = told["persons"]
        if not self._salt:
            self._salt = secrets.token_bytes(16)
            self._write({"salt": self._salt.hex()})

    def _write(self, told: Mapping[str, Any]) -> None:
        if self.path is None:
            return
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as stream:
            stream.write(("\n" * (not new) + json.dumps(told) + "\n").encode())  # a break first: the last may be torn
            stream.flush()
            os.fsync(stream.fileno())
        if new:
            durable.sync_folder(self.path.parent)


def small_cells(policy: Policy, ask: Ask, answer: Answer) -> None:
    """Raise PolicyError where an answer to be summed tells a count from 1 to ``minimum_cell`` - 1.

    Counts are whole-number arrays, and arrays of one axis that hold nothing but whole numbers from 0.
    """
    if not rooms.load(ASKED, ask.purpose).LEAVES.summed:
        return
    for name, a in answer.arrays.items():
        whole = a.dtype.kind in "iu"
        if a.dtype.kind == "f" and a.ndim <= 1 and a.size:
            whole = bool((np.isfinite(a) & (a >= 0) & (a == a.round())).all())
        if whole and bool(((a > 0) & (a < policy.minimum_cell)).any()):
            raise PolicyError(f"policy: {name!r} tells a count below {policy.minimum_cell}; small counts stay here.")


@dataclass
class Door:
    """Refuses what must leave masked and is not, small counts, and more bytes or rounds than the policy allows.

    A round is a change of the number the server gives; whoever counts anew from 0 still meets the day's limits. What
    left before is read from the book, so a restart forgets nothing.
    """

    book: Ledger
    writes: bool = True  # sees what really leaves

    def __call__(self, site: Site, ask: Ask, answer: Answer) -> Answer:
        """The answer itself, or PolicyError."""
        policy, leaves = site.policy, rooms.load(ASKED, ask.purpose).LEAVES
        if not answer.masked:
            small_cells(policy, ask, answer)
        if policy.secure and leaves.summed and not answer.masked:
            raise PolicyError(f"policy: {ask.purpose!r} leaves this site only as a part of a secure sum.")
        decimals = any(a.dtype.kind == "f" for a in answer.arrays.values())
        if not policy.alone and decimals and not leaves.summed and not answer.masked:
            raise PolicyError(f"policy: {ask.purpose!r} would show the server this site's own numbers; they stay here.")
        if ask.round >= policy.most_rounds_a_run:
            raise PolicyError(f"policy: this site takes part in {policy.most_rounds_a_run} rounds of a run, no more.")
        sent, day = self.book.sent(), datetime.now(UTC).date().isoformat()
        today = [(r, b) for d, r, b in reversed(sent) if d == day]
        rounds = sum(1 for (a, _), (b, _) in pairwise(today) if a != b) + bool(today)
        rounds += not today or today[0][0] != ask.round
        this = nbytes(answer)
        in_round = this
        for r, b in today:
            if r != ask.round:
                break
            in_round += b
        for found, most, words in (
            (rounds, policy.most_rounds_a_day, "rounds a day"),
            (in_round, policy.most_bytes_a_round, "bytes a round"),
            (this + sum(b for _, b in today), policy.most_bytes_a_day, "bytes a day"),
        ):
            if found > most:
                raise PolicyError(f"policy: this site allows {most} {words}; this answer would go beyond.")
        return answer


def _name(mine: Mapping[str, str]) -> str:
    return hashlib.blake2b(json.dumps(sorted(mine.items())).encode(), digest_size=16).hexdigest()
