"""The server's side of a secure sum: ``Secure`` wraps any ``Sites``, and its ``total`` sees no site's part.

Asks that are no sums pass through. A site lost at any step costs its part (lost before its masked part arrived) or
nothing (lost after); where too few are left to open the masks, TooFewSites names everyone lost, where and why.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from workbench import rooms
from workbench.federated.messages import Ask, Gathered, Reply, Value
from workbench.federated.secure import conversation as site_side
from workbench.federated.secure import fixed_point, graph, masks, shares
from workbench.federated.secure.roster import SIGNATURE
from workbench.federated.site import ASKED
from workbench.federated.sites import Sites, TooFewSites

OWN = "secure_"


@dataclass(frozen=True)
class Summed(Gathered):
    """Who took part in a secure sum: replies without arrays; the training rows are known of all together only."""

    together: int = 0

    @property
    def rows(self) -> int:
        return self.together


@dataclass
class _Talk:
    """What the server knows of one conversation; sites are numbered by their place in ``names``."""

    name: str
    names: list[str]
    near: list[list[int]]
    threshold: int
    keys: np.ndarray  # (sites, 2, 32)
    signatures: np.ndarray  # (sites, 96)
    commitments: dict[int, bytes] = field(default_factory=dict)
    held: dict[int, dict[int, bytes]] = field(default_factory=dict)  # {owner: {place among its holders: share}}

    def holders(self, owner: int) -> list[int]:
        return sorted([*self.near[owner], owner])


class Secure:
    """Sites whose sums are secure.

    Parameters
    ----------
    sites : the transport
    least : fewest survivors of a sum; at least 3, below which sites refuse
    threshold, degree : shares that open a secret, neighbours of each site; None: those of ``graph``. A threshold is
        more than half of the shares (else ValueError), and no fewer sites have to sign the list of survivors
    """

    def __init__(
        self, sites: Sites, least: int = site_side.MINIMUM, threshold: int | None = None, degree: int | None = None
    ) -> None:
        self.sites = sites
        self.least, self.threshold, self.degree = max(least, site_side.MINIMUM), threshold, degree

    @property
    def names(self) -> tuple[str, ...]:
        return self.sites.names

    def ask(self, ask: Ask, of: Sequence[str] | None = None) -> Gathered:
        return self.sites.ask(ask, of)

    def total(self, ask: Ask, least: int = 1) -> tuple[dict[str, np.ndarray], Summed]:
        """Sums over the surviving sites, exact to ``fixed_point``'s resolution, and who they are.

        Raises
        ------
        TooFewSites
            Fewer than ``least`` sites (3 at least) survived, or too few shares to open the masks of those that did.
        """
        if not rooms.load(ASKED, ask.purpose).LEAVES.summed:
            raise ValueError(f"{ask.purpose!r} is not a matter of sums; ask for the replies.")
        if taken := sorted(k for k in (*ask.arrays, *ask.values) if k.startswith(OWN)):
            raise ValueError(
                f"{ask.purpose!r}: names that begin with {OWN!r} belong to secure sums; found {taken[0]!r}."
            )
        return _Total(self, ask, max(least, self.least)).run()


class _Total:
    """One secure sum."""

    def __init__(self, secure: Secure, ask: Ask, least: int) -> None:
        self.secure, self.asked, self.least = secure, ask, least
        self.lost: dict[str, str] = {}
        self.last: dict[str, Mapping[str, Value]] = {}  # values of each site's last reply: the head of its ledger

    def run(self) -> tuple[dict[str, np.ndarray], Summed]:
        talk = self._keys()
        dealt = self._shares(talk)
        total, there = self._masked(talk, dealt)
        self._unmask(talk, dealt, there, self._agreed(talk, dealt, there))
        self._open(talk, dealt, there, total)
        sums = {}
        for name, vector in total.items():
            form, _, plain = name.partition(" ")
            sums[plain] = fixed_point.decode(form, vector)
        together = int(sums.pop(site_side.ROWS))
        ask, names = self.asked, sorted(talk.names[i] for i in there)
        replies = tuple(Reply(n, ask.purpose, ask.round, values=self.last.get(n, {})) for n in names)
        return sums, Summed(replies, dict(self.lost), together=together)

    # --- the five asks -----------------------------------------------------------------------------------------------

    def _keys(self) -> _Talk:
        name = secrets.token_hex(16)
        replies = self._step("keys", {"conversation": name}, {}, None, _signed_keys)
        names = [r.site for r in replies]
        degree = min(self.secure.degree or graph.degree(len(names)), len(names) - 1)
        if not graph.fits(len(names), degree):
            raise ValueError(f"{degree} neighbours each of {len(names)} sites: should be all, or an even number >= 4.")
        threshold = self.secure.threshold or graph.threshold(degree)
        if not degree + 1 < 2 * threshold <= 2 * degree + 2:
            raise ValueError(
                f"a threshold of {threshold} among {degree + 1} shares: should be more than half of them, "
                f"{graph.threshold(degree)} to {degree + 1}; of fewer a server that lies could open a single part."
            )
        keys = np.stack([r.arrays["keys"] for r in replies])
        signatures = np.stack([r.arrays["signature"] for r in replies])
        return _Talk(name, names, graph.neighbours(len(names), degree, name), threshold, keys, signatures)

    def _shares(self, talk: _Talk) -> dict[int, Reply]:
        values: dict[str, Value] = {
            "conversation": talk.name, "sites": talk.names, "threshold": talk.threshold, "degree": len(talk.near[0])
        }  # fmt: skip

        def check(reply: Reply) -> None:
            near = talk.near[talk.names.index(reply.site)]
            _like(reply, "sealed", (len(near), shares.SEALED))
            _like(reply, "commitment", (shares.SECRET,))
            if reply.arrays["holders"].tolist() != near:
                raise ValueError("its shares are not for its neighbours")

        arrays = {"keys": talk.keys, "signatures": talk.signatures}
        replies = self._step("shares", values, arrays, talk.names, check)
        dealt = {talk.names.index(r.site): r for r in replies}
        talk.commitments = {i: r.arrays["commitment"].tobytes() for i, r in dealt.items()}
        return dealt

    def _masked(self, talk: _Talk, dealt: Mapping[int, Reply]) -> tuple[dict[str, np.ndarray], list[int]]:
        ask = self.asked
        values = {**ask.values, OWN + "conversation": talk.name, OWN + "purpose": ask.purpose}
        sent = [(i, j, row) for i, r in dealt.items() for j, row in zip(talk.near[i], r.arrays["sealed"], strict=True)]
        arrays = {
            **ask.arrays,
            OWN + "dealers": np.array(sorted(dealt), dtype=np.int64),
            OWN + "of": np.array([i for i, _, _ in sent], dtype=np.int64),
            OWN + "to": np.array([j for _, j, _ in sent], dtype=np.int64),
            OWN + "sealed": np.stack([row for _, _, row in sent]),
        }
        asked = site_side.fingerprint(ask)

        def check(reply: Reply) -> None:
            _masked_only(reply)
            if reply.values.get("asked") != asked:
                raise ValueError("it answers something else than was asked")

        replies = self._step("masked", values, arrays, [talk.names[i] for i in sorted(dealt)], check)
        forms = {r.site: tuple(sorted((n, a.shape) for n, a in r.arrays.items())) for r in replies}
        usual = Counter(forms.values()).most_common(1)[0][0]
        for other in [site for site, form in forms.items() if form != usual]:
            self.lost[other] = "masked: its arrays have other names, kinds or shapes than the other sites'"
        alike = [r for r in replies if forms[r.site] == usual]
        self._enough(len(alike))
        total = {name: np.zeros(shape, dtype=np.uint64) for name, shape in usual}
        for reply in alike:
            for name, array in reply.arrays.items():
                total[name] += array
        return total, [talk.names.index(r.site) for r in alike]

    def _agreed(self, talk: _Talk, dealt: Mapping[int, Reply], there: Sequence[int]) -> dict[int, np.ndarray]:
        """Signatures under the list of survivors, by number of the site; TooFewSites where too few signed."""
        gone = sorted(set(dealt) - set(there))
        arrays = {"survivors": np.array(sorted(there), dtype=np.int64), "lost": np.array(gone, dtype=np.int64)}

        def check(reply: Reply) -> None:
            _like(reply, "signature", (SIGNATURE,))

        replies = self._late("survivors", talk, arrays, there, check)
        needed = graph.signatures(len(talk.names), talk.threshold)
        if len(replies) < needed:
            raise self._failed(f"{len(replies)} of the {needed} signatures needed under the list of survivors came")
        return {talk.names.index(r.site): r.arrays["signature"] for r in replies}

    def _unmask(
        self, talk: _Talk, dealt: Mapping[int, Reply], there: Sequence[int], signed: Mapping[int, np.ndarray]
    ) -> None:
        arrays = {
            "signers": np.array(sorted(signed), dtype=np.int64),
            "signatures": np.stack([signed[i] for i in sorted(signed)]),
        }

        def check(reply: Reply) -> None:
            owners = reply.arrays.get("owners", np.empty(0)).tolist()
            _like(reply, "shares", (len(owners), shares.SECRET))
            me = talk.names.index(reply.site)
            if owners != [i for i in sorted([*talk.near[me], me]) if i in dealt]:
                raise ValueError("its shares are not those it holds")

        replies = self._late("unmask", talk, arrays, sorted(signed), check)
        for reply in replies:
            me = talk.names.index(reply.site)
            for owner, share in zip(reply.arrays["owners"].tolist(), reply.arrays["shares"], strict=True):
                talk.held.setdefault(owner, {})[talk.holders(owner).index(me)] = share.tobytes()

    def _open(
        self, talk: _Talk, dealt: Mapping[int, Reply], there: Sequence[int], total: dict[str, np.ndarray]
    ) -> None:
        """Take the masks off ``total``: of survivors their own, of the lost those the pair's survivor still carries."""
        asked = site_side.fingerprint(self.asked)
        for i in sorted(dealt):
            near = [j for j in talk.near[i] if j in there]
            if i not in there and not near:
                continue  # nobody masked with it
            if len(talk.held.get(i, {})) < talk.threshold:
                raise self._failed(
                    f"{len(talk.held.get(i, {}))} of the {talk.threshold} shares of {talk.names[i]!r} came"
                )
            secret = shares.join(talk.held[i], talk.threshold)
            if i in there:
                if hashlib.sha256(secret).digest() != talk.commitments[i]:
                    raise self._failed(f"the shares of {talk.names[i]!r} do not give its self-mask; one was wrong")
                masks.blend(total, site_side.self_key(secret, talk.name), -1)
                continue
            if masks.public(secret) != talk.keys[i, 1].tobytes():
                raise self._failed(f"the shares of {talk.names[i]!r} do not give its mask key; one was wrong")
            for j in near:
                key = site_side.pair_key(secret, talk.keys[j, 1].tobytes(), talk.name, asked, self.asked.round)
                masks.blend(total, key, -site_side.sign(j, i))

    def _late(
        self,
        step: str,
        talk: _Talk,
        arrays: Mapping[str, np.ndarray],
        of: Sequence[int],
        check: Callable[[Reply], None],
    ) -> list[Reply]:
        """A step after the parts have come: whoever is lost in it is in the sum all the same."""
        before = set(self.lost)
        try:
            return self._step(step, {"conversation": talk.name}, arrays, [talk.names[i] for i in of], check, least=1)
        finally:
            for site in set(self.lost) - before:
                self.lost[site] += " (its part is in the sum)"

    # --- one ask -----------------------------------------------------------------------------------------------------

    def _step(
        self,
        step: str,
        values: Mapping[str, Value],
        arrays: Mapping[str, np.ndarray],
        of: Sequence[str] | None,
        check: Callable[[Reply], None],
        least: int | None = None,
    ) -> list[Reply]:
        """Replies by name to one of the five asks; what is missing or malformed is lost from here on."""
        gathered = self.secure.ask(Ask(f"secure_{step}", self.asked.round, arrays, values), of)
        self.lost |= {site: f"{step}: {why}" for site, why in gathered.lost.items()}
        good = []
        for reply in gathered.replies:
            try:
                check(reply)
                good.append(reply)
                self.last[reply.site] = reply.values
            except (ValueError, KeyError) as error:
                self.lost[reply.site] = f"{step}: a malformed reply: {error}"
        silent = set(of or ()) - {r.site for r in gathered.replies} - set(self.lost)
        self.lost |= dict.fromkeys(silent, f"{step}: no reply")
        self._enough(len(good), least)
        return good

    def _enough(self, survivors: int, least: int | None = None) -> None:
        if survivors < (least := self.least if least is None else least):
            raise self._failed(f"{survivors} of the {least} sites needed are left")

    def _failed(self, what: str) -> TooFewSites:
        why = "; ".join(f"{site}: {reason}" for site, reason in sorted(self.lost.items())) or "nobody was lost"
        return TooFewSites(f"secure sum of {self.asked.purpose!r}, round {self.asked.round}: {what} ({why}).")


def _like(reply: Reply, name: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless array ``name`` is bytes of ``shape``."""
    array = reply.arrays.get(name)
    if array is None or array.dtype != np.uint8 or array.shape != shape:
        raise ValueError(f"{name!r} should be bytes of shape {shape}")


def _signed_keys(reply: Reply) -> None:
    _like(reply, "keys", (2, shares.SECRET))
    _like(reply, "signature", (SIGNATURE,))


def _masked_only(reply: Reply) -> None:
    """Raise ValueError unless every array is a masked one and the rows are among them."""
    for name, array in reply.arrays.items():
        limbs = fixed_point.LIMBS.get(name.partition(" ")[0])
        if limbs is None or array.dtype != np.uint64 or array.ndim < 1 or array.shape[0] != limbs:
            raise ValueError(f"{name!r} is not a masked array")
    rows = reply.arrays.get(f"{fixed_point.WHOLE} {site_side.ROWS}")
    if rows is None or rows.shape != (1,):
        raise ValueError("it does not say its rows, masked")
