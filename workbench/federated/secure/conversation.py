"""The site's side of one secure sum: what it keeps between the five asks, and what it refuses.

Everything is kept in a mapping of plain values (bytes, text, numbers) that the caller owns, and thrown away once the
conversation is over. Private keys never leave; a process that dies loses them, and its site is then lost to the sum.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from workbench.federated.messages import Ask
from workbench.federated.secure import fixed_point, graph, masks, shares
from workbench.federated.secure.roster import SIGNATURE, SURVIVORS, RosterError
from workbench.federated.site import SiteError

MINIMUM = 3  # survivors of a sum; of two, each knows the other's part
APART = 3  # sites by which two sums of the same answers have to differ; the difference is a sum as well
KEPT = 4  # conversations open at once; an older one was given up by the server
ROWS = "(rows)"  # the summed number of training rows, beside the arrays of the answer

Memory = MutableMapping[str, Any]


def begin(memory: Memory, conversation: str) -> tuple[np.ndarray, np.ndarray]:
    """Make the keys of a new conversation.

    ``memory["roster"]``, where a site has one (``roster.Roster``), signs them here and checks the others' in ``deal``.

    Returns
    -------
    public halves, uint8 (2, 32): for sealing, for masking; the site's signature, uint8 (96,), zeros without a roster
    """
    known = memory.setdefault("conversations", {})
    if not conversation or conversation in memory.setdefault("begun", set()):
        raise SiteError("secure sum: this conversation was begun before; a replay is refused.")
    memory["begun"].add(conversation)
    while len(known) >= KEPT:
        del known[next(iter(known))]
    (seal, seal_public), (mask, mask_public) = masks.key_pair(), masks.key_pair()
    roster = memory.get("roster")
    signature = bytes(SIGNATURE) if roster is None else roster.sign(conversation, seal_public + mask_public)
    known[conversation] = {"stage": "keys", "seal": seal, "mask": mask, "seed": os.urandom(shares.SECRET)}
    return _bytes([seal_public, mask_public]), _bytes([signature])[0]


def deal(
    memory: Memory,
    name: str,
    conversation: str,
    names: Sequence[str],
    keys: np.ndarray,
    signatures: np.ndarray,
    threshold: int,
    degree: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Deal the shares of both secrets to the neighbours.

    Parameters
    ----------
    names : sites that sent keys; their order numbers them from here on
    keys, signatures : public keys, uint8 (sites, 2, 32), and who signed them, uint8 (sites, 96)
    threshold, degree : shares that open a secret; neighbours of each site

    Returns
    -------
    holders (m,) numbers of the neighbours; their sealed shares, uint8 (m, SEALED); SHA-256 of the self-mask seed, (32,)
    """
    state = _state(memory, conversation, "keys", "shares")
    if len(names) < MINIMUM or len(set(names)) < len(names) or keys.shape != (len(names), 2, shares.SECRET):
        raise SiteError(f"secure sum: {MINIMUM} different sites or more, each with two keys, are needed.")
    everyone = [[keys[i, k].tobytes() for k in (0, 1)] for i in range(len(names))]
    if name not in names or everyone[names.index(name)] != [masks.public(state["seal"]), masks.public(state["mask"])]:
        raise SiteError("secure sum: this site's own keys are not among those sent round.")
    own, flat = names.index(name), [k for pair in everyone for k in pair]
    if len(set(flat)) < len(flat) or memory.setdefault("keys seen", set()) & set(flat):
        raise SiteError("secure sum: a public key was used before; every conversation needs new ones.")
    if not graph.fits(len(names), degree):
        raise SiteError(
            f"secure sum: {degree} neighbours each of {len(names)} sites are refused; all, or even and 4 up."
        )
    if not degree + 1 < 2 * threshold <= 2 * degree + 2:
        raise SiteError(
            f"secure sum: a threshold of {threshold} among {degree + 1} shares is refused; it takes more than half."
        )
    if (roster := memory.get("roster")) is not None:
        try:
            for other, pair, signature in zip(names, everyone, signatures, strict=True):
                roster.check(other, conversation, b"".join(pair), signature.tobytes())
        except RosterError as error:
            raise SiteError(f"secure sum: {error} Refused.") from None
    memory["keys seen"] |= set(flat)
    near = graph.neighbours(len(names), degree, conversation)
    state |= {"names": list(names), "own": own, "keys": everyone, "threshold": threshold, "degree": degree}
    state["near"] = near[own]
    holders = sorted([*near[own], own])
    dealt = [shares.split(state[secret], threshold, len(holders)) for secret in ("seed", "mask")]
    plain = {holder: dealt[0][place] + dealt[1][place] for place, holder in enumerate(holders)}
    state["held"] = {own: plain.pop(own)}
    sealed = [shares.seal(_seal_key(state, conversation, j), p, f"{conversation} {own} {j}") for j, p in plain.items()]
    return np.array(list(plain), dtype=np.int64), _bytes(sealed), _bytes([hashlib.sha256(state["seed"]).digest()])[0]


def number(memory: Memory, conversation: str) -> int:
    """Number of this site in the conversation."""
    state = memory.get("conversations", {}).get(conversation)
    if state is None or "own" not in state:
        raise SiteError("secure sum: this site knows no such conversation, or it is over. Refused.")
    return state["own"]


def present(memory: Memory, conversation: str, dealers: Sequence[int], sealed: Mapping[int, bytes]) -> int:
    """Take in the neighbours' sealed shares, before the answer is worked out; the number of sites in the conversation.

    Parameters
    ----------
    dealers : numbers of all sites that dealt shares, this one among them
    sealed : {number of a neighbour: what it sealed for this site}
    """
    state = _state(memory, conversation, "shares", "dealt")
    there = set(dealers)
    near = sorted(there & set(state["near"]))
    if state["own"] not in there or not there <= set(range(len(state["names"]))) or len(there) < MINIMUM:
        raise SiteError(f"secure sum: {len(there)} sites dealt shares; {MINIMUM} with this one are needed.")
    if len(near) + 1 < state["threshold"] or not set(near) <= set(sealed):
        raise SiteError("secure sum: too few neighbours dealt their shares for this site's part to be opened again.")
    for j in near:
        try:
            plain = shares.open_sealed(
                _seal_key(state, conversation, j), sealed[j], f"{conversation} {j} {state['own']}"
            )
        except ValueError as error:
            raise SiteError(f"secure sum: {error}") from None
        state["held"][j] = plain
    state |= {"dealers": sorted(there), "paired": near}
    return len(state["names"])


def hide(
    memory: Memory,
    conversation: str,
    arrays: Mapping[str, np.ndarray],
    rows: int,
    asked: str,
    about: Sequence[str] = (),
    round: int = 0,
) -> dict[str, np.ndarray]:
    """The answer in fixed point under all its masks: {"<kind> <name>": uint64 (limbs, *shape)}, rows among them.

    Parameters
    ----------
    asked, round : what it answers (``fingerprint``). Masks of a pair are bound to both, so that those of two sites
        that were asked different things do not cancel (against Pasquini et al. 2022, "Eluding Secure Aggregation in
        Federated Learning via Model Inconsistency", CCS)
    about : what two sums must have in common for one to be taken from the other (``asked`` or broader)
    """
    state = _state(memory, conversation, "dealt", "masked")
    state |= {"asked": asked, "round": round, "about": list(about) or [asked]}
    sites = len(state["names"])
    try:
        hidden = {
            f"{fixed_point.kind(array.dtype)} {name}": fixed_point.encode(name, array, sites)
            for name, array in [*arrays.items(), (ROWS, np.array(rows))]
        }
    except fixed_point.FixedPointError as error:
        raise SiteError(f"secure sum: {error}") from None
    masks.blend(hidden, self_key(state["seed"], conversation), 1)
    for j in state["paired"]:
        key = pair_key(state["mask"], state["keys"][j][1], conversation, asked, round)
        masks.blend(hidden, key, sign(state["own"], j))
    return hidden


def agree(memory: Memory, conversation: str, survivors: Sequence[int], lost: Sequence[int]) -> np.ndarray:
    """This site's signature under the list it is given, uint8 (96,); it signs one list of a sum, whatever comes after.

    What it signs is remembered as opened: the other sites may open it without this one.
    """
    state = _state(memory, conversation, "masked", "signed")
    there, gone = set(survivors), set(lost)
    if there & gone:
        raise SiteError("secure sum: both shares of one site were asked for; that would lay its part open. Refused.")
    if there | gone != set(state["dealers"]):
        raise SiteError("secure sum: survivors and lost together are not the sites that dealt shares. Refused.")
    if state["own"] in gone:
        raise SiteError("secure sum: this site sent its part and is said to be lost. Refused.")
    if len(there) < MINIMUM or len(there & set(state["held"])) < state["threshold"]:
        raise SiteError(f"secure sum: {len(there)} survivors are too few to hide one another. Refused.")
    there_named = frozenset(state["names"][i] for i in there)
    for about in state["about"]:
        for earlier in memory.setdefault("opened", {}).get(about, ()):
            if 0 < len(there_named ^ earlier) < APART:
                raise SiteError(
                    f"secure sum: the same was summed before with a difference of {len(there_named ^ earlier)} site(s) "
                    f"({', '.join(sorted(there_named ^ earlier))}), whose part the two sums would tell. Refused."
                )
    for about in state["about"]:
        memory["opened"].setdefault(about, set()).add(there_named)
    state |= {"survivors": sorted(there), "statement": _statement(state, sorted(there), sorted(gone))}
    roster = memory.get("roster")
    signature = bytes(SIGNATURE) if roster is None else roster.sign(conversation, state["statement"], SURVIVORS)
    return _bytes([signature])[0]


def reveal(
    memory: Memory, conversation: str, signers: Sequence[int], signatures: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the survivors' self-mask seeds and of the lost sites' mask keys; the conversation is over then.

    They are those of the list that this site signed, and are told only where more than half of the sites, three at
    least, signed the very same (Bonawitz et al. 2017, figure 4, round 3).

    Parameters
    ----------
    signers, signatures : numbers of the sites that signed a list of survivors; what they signed with, uint8 (m, 96)

    Returns
    -------
    owners (m,) numbers of the sites whose share is told; shares, uint8 (m, 32)
    """
    state = _state(memory, conversation, "signed", "over")
    there = set(state["survivors"])
    if len(set(signers)) < len(signers) or not set(signers) <= there or signatures.shape != (len(signers), SIGNATURE):
        raise SiteError("secure sum: those who signed the list of survivors are not survivors, each once. Refused.")
    agree, others = {state["own"]}, list[str]()
    for i, signature in zip(signers, signatures, strict=True):
        if i == state["own"]:
            continue
        try:
            if (roster := memory.get("roster")) is not None:
                roster.check(state["names"][i], conversation, state["statement"], signature.tobytes(), SURVIVORS)
            agree.add(i)
        except RosterError:
            others.append(state["names"][i])
    if len(agree) < (needed := graph.signatures(len(state["names"]), state["threshold"])):
        said = f" ({', '.join(sorted(others))} signed another)" if others else ""
        raise SiteError(
            f"secure sum: {len(agree)} sites of the {needed} needed signed the list of survivors that this site was "
            f"given{said}. Refused."
        )
    owners = sorted(state["held"])
    told = [state["held"][j][:32] if j in there else state["held"][j][32:] for j in owners]
    del memory["conversations"][conversation]
    return np.array(owners, dtype=np.int64), _bytes(told)


def _statement(state: Mapping[str, Any], survivors: Sequence[int], lost: Sequence[int]) -> bytes:
    """SHA-256 of all that the sites must have been told alike: who, with which keys, what was asked, who survived."""
    told = [
        state["names"], [[k.hex() for k in pair] for pair in state["keys"]], state["threshold"], state["degree"],
        state["asked"], state["round"], list(survivors), list(lost),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(told).encode()).digest()


def fingerprint(ask: Ask) -> str:
    """SHA-256 of what is asked, whatever the round."""
    digest = hashlib.sha256(json.dumps([ask.purpose, dict(ask.values)], sort_keys=True).encode())
    for name, array in sorted(ask.arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data if array.size else b"")
    return digest.hexdigest()


def sign(own: int, other: int) -> int:
    """Of a pair, the lower number adds the mask and the higher takes it away."""
    return 1 if own < other else -1


def self_key(seed: bytes, conversation: str) -> bytes:
    """Key of the mask that a site lays over its part alone."""
    return masks.derived(seed, f"self mask {conversation}")


def pair_key(private: bytes, other: bytes, conversation: str, asked: str, round: int) -> bytes:
    """Key of the mask of two sites, from either one's private mask key and the other's public one, for one ask."""
    return masks.agreed(private, other, f"pair mask {conversation} {asked} {round}")


def _seal_key(state: Mapping[str, Any], conversation: str, other: int) -> bytes:
    return masks.agreed(state["seal"], state["keys"][other][0], f"seal {conversation}")


def _state(memory: Memory, conversation: str, stage: str, then: str) -> dict[str, Any]:
    """What is kept of the conversation, which must stand at ``stage``; from now on it stands at ``then``."""
    state = memory.get("conversations", {}).get(conversation)
    if state is None:
        raise SiteError("secure sum: this site knows no such conversation, or it is over. Refused.")
    if state["stage"] != stage:
        raise SiteError(f"secure sum: this step was taken before, or out of turn (at {state['stage']!r}). Refused.")
    state["stage"] = then
    return state


def _bytes(parts: Sequence[bytes]) -> np.ndarray:
    """uint8 (parts, bytes)"""
    return np.frombuffer(b"".join(parts), dtype=np.uint8).reshape(len(parts), -1).copy()
