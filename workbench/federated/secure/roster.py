"""Who the other sites are: what they say in a secure sum signed by them, so that no server can say it in their place.

A site signs the conversation's name, its own name and what it says there with its lasting key (ECDSA on P-384 with
SHA-384, FIPS 186-5), the one the server knows it by: first its two fresh public keys (KEYS), at the end the list of
survivors it was given (SURVIVORS). The others check that with public halves from a list of their own (``allowed.txt``,
as ``workbench federate keys`` writes it), which must have come to them by another way than the server. All that is
trusted is that list, and that a site's private key is known at that site alone. A site without a list signs with zeros
and checks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIGNATURE, _HALF = 96, 48  # bytes: r and s of P-384
KEYS, SURVIVORS = "workbench secure sum", "workbench survivors of a secure sum"  # what is signed; never one for another


class RosterError(ValueError):
    """A site is not on the list, or did not sign what is said in its name; names the site."""


@dataclass(frozen=True)
class Roster:
    """A site's own key and the public keys of the sites it takes part with.

    Attributes
    ----------
    name : this site
    key : its private key, EC P-384 (``keys.private``)
    peers : {site: public key}, this one among them
    """

    name: str
    key: Any
    peers: Mapping[str, Any]

    def sign(self, conversation: str, said: bytes, what: str = KEYS) -> bytes:
        """96 bytes for what this site says in this conversation: its two public keys, or a list of survivors."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA384

        pair = decode_dss_signature(self.key.sign(_text(what, self.name, conversation, said), ECDSA(SHA384())))
        return b"".join(part.to_bytes(_HALF, "big") for part in pair)

    def check(self, name: str, conversation: str, said: bytes, signature: bytes, what: str = KEYS) -> None:
        """Raise RosterError unless the site ``name`` is on the list and signed ``said`` in this conversation."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA384

        if name not in self.peers:
            raise RosterError(f"{name!r} is not on this site's list of sites.")
        pair = (int.from_bytes(signature[:_HALF], "big"), int.from_bytes(signature[_HALF:], "big"))
        try:
            told = _text(what, name, conversation, said)
            self.peers[name].verify(encode_dss_signature(*pair), told, ECDSA(SHA384()))
        except InvalidSignature:
            subject = "keys sent round" if what == KEYS else "list of survivors sent round"
            verb = "are" if what == KEYS else "is"
            raise RosterError(f"the {subject} for {name!r} {verb} not signed by it.") from None


def read(name: str, key: Path | str, allowed: Path | str) -> Roster:
    """The roster of site ``name`` from its private key and its list; raises ``keys.KeysError`` or RosterError."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    from workbench.federated import keys

    own, peers = keys.private(key), {a.name: load_pem_public_key(a.pem) for a in keys.allowed(allowed)}
    if name not in peers or peers[name] != own.public_key():
        raise RosterError(f"{allowed}: should have {name!r} with the public half of {key}; it has not.")
    return Roster(name, own, peers)


def _text(what: str, name: str, conversation: str, said: bytes) -> bytes:
    parts = (what.encode(), conversation.encode(), name.encode(), said)
    return b"".join(len(p).to_bytes(4, "big") + p for p in parts)
