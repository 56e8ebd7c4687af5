"""The site's privacy budget: what noisy answers have cost its persons so far, and no more than its policy allows.

A charge is a line of kind "charge" in the site's one book (``ledger``): in its hash chain, synced to disk before the
answer leaves, under the lock that other processes take as well. So two runs or two studies of one site spend the same
budget, and a kill forgets nothing: once written, a charge counts, whether or not its message arrived. What a line holds
are the releases (noise, rate, steps, unit); epsilon is worked out from all of them together each time, at the delta of
the policy of today.

The same numbers told again tell nothing new: an answer that is the same to the last digit is charged once. Sums under
``private.keyed`` noise are the same whenever the same is asked of the same rows, so a server that goes on after a kill
pays nothing twice.

What a budget cannot know: that a person's rows lie at another site too, where they are charged apart; and what an
``asked`` file says of its noise that is not so. A refusal for too few rows is not noisy either.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import durable, rooms
from workbench.federated.asked import Answer
from workbench.federated.gate.ledger import Ledger, digest
from workbench.federated.messages import Ask
from workbench.federated.policy import ASKED, Policy, PolicyError
from workbench.federated.private import accounting
from workbench.federated.private.accounting import Release, Spent

if TYPE_CHECKING:
    from workbench.federated.site import Site


@dataclass
class Budget:
    """A step of ``Site.outgoing``: refuses exact answers where the policy has a budget, and charges noisy ones.

    It acts on an answer before it is masked for a secure sum. A noisy answer is charged without a bound too, so that
    the book shows what was spent.

    Parameters
    ----------
    book : where charges are written; None keeps them in memory (a simulation without books)
    key : file of the key that the site's noise is made of (``private.keyed``), made when first needed, readable by the
        site alone; None keeps it in memory
    """

    book: Ledger | None = None
    key: Path | None = None
    _memory: list[Mapping[str, Any]] = field(default_factory=list, repr=False)
    _key: bytes = field(default=b"", repr=False)

    def __call__(self, site: Site, ask: Ask, answer: Answer) -> Answer:
        """The answer itself, or PolicyError."""
        if answer.masked:  # charged in the clear, before it was masked
            return answer
        if answer.releases is None:
            holds = rooms.load(ASKED, ask.purpose).LEAVES.rows and (answer.arrays or answer.values)
            if site.policy.epsilon and holds:
                raise PolicyError(
                    f"policy: this site has a privacy budget and tells nothing of its rows without noise; "
                    f"{ask.purpose!r} is exact. Use a private method (private_ridge, say)."
                )
            return answer
        if not answer.releases:
            return answer
        entry = _entry(site.name, ask, answer)
        self._decide(entry, site.policy, self.charges())  # a first import is slow: done before the lock is held
        if self.book is not None:
            self.book.charge(lambda so_far: self._decide(entry, site.policy, so_far))
        elif (decided := self._decide(entry, site.policy, self._memory)) is not None:
            self._memory.append(decided)
        return answer

    def charges(self) -> list[Mapping[str, Any]]:
        """Every charge so far, oldest first."""
        return list(self._memory) if self.book is None else self.book.charges()

    def spent(self, policy: Policy) -> Spent:
        """What all charges cost together at the policy's delta."""
        return spent(self.charges(), policy.delta)

    def noise_key(self) -> bytes:
        """The site's own 32 bytes that nobody else may know."""
        if not self._key and self.key is not None:
            self._key = _kept(self.key)
        self._key = self._key or secrets.token_bytes(32)
        return self._key

    @staticmethod
    def _decide(
        entry: Mapping[str, Any], policy: Policy, so_far: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Any] | None:
        """The line to write; None where the same answer was charged before. Raises PolicyError beyond the budget."""
        if any(e["answer"] == entry["answer"] for e in so_far):
            return None
        then = spent([*so_far, entry], policy.delta)
        if policy.epsilon and then.epsilon > policy.epsilon:
            now = spent(so_far, policy.delta)
            raise PolicyError(
                f"policy: budget spent: with {entry['purpose']!r} this site would have told epsilon = "
                f"{then.epsilon:.3g} of the {policy.epsilon:g} it allows (so far {now.epsilon:.3g}) at delta = "
                f"{policy.delta:g}, unit {then.unit}, by {then.accountant}. Ask for a smaller epsilon, or train "
                "without this site; it alone may allow more, by epsilon in its policy.toml."
            )
        return {**entry, "epsilon": float(f"{then.epsilon:.6g}"), "delta": policy.delta, "unit": then.unit,
                "accountant": then.accountant, "allowed": policy.epsilon}  # fmt: skip


def spent(charges: Sequence[Mapping[str, Any]], delta: float) -> Spent:
    """What the releases in lines of kind "charge" cost together."""
    told = [Release(*r) for e in charges for r in e["releases"]]
    unit = "site" if told and all(r.unit == "site" for r in told) else "person"
    return Spent(accounting.epsilon(told, delta), delta, unit)


def _entry(site: str, ask: Ask, answer: Answer) -> dict[str, Any]:
    assert answer.releases
    h = hashlib.sha256(ask.purpose.encode())
    for name, array in sorted(answer.arrays.items()):
        h.update(f"\0{name}\0{digest(array)}".encode())
    told = [[float(r.noise), float(r.rate), int(r.steps), r.unit] for r in answer.releases]
    return {"kind": "charge", "site": site, "purpose": ask.purpose, "round": ask.round, "releases": told,
            "answer": h.hexdigest(), "together": answer.together}  # fmt: skip


def _kept(path: Path) -> bytes:
    """The key in ``path``, made where there is none; of two processes that make one, the first one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        made = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, secrets.token_bytes(32))
            os.fsync(handle)
        finally:
            os.close(handle)
        try:
            os.link(made, path)
        except FileExistsError:
            pass
        finally:
            made.unlink()
        durable.sync_folder(path.parent)
    key = path.read_bytes()
    if len(key) != 32:
        raise PolicyError("policy: the key of this site's noise is damaged; nothing noisy leaves until it is replaced.")
    return key
