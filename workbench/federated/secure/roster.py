"""Who the other sites are: keys of a conversation signed by them, so that no server can put its own in their place.

A site signs the conversation's name, its own name and its two fresh public keys with its lasting key (ECDSA on P-384
with SHA-384, FIPS 186-5), the one the server knows it by. The others check that with public halves from a list of their
own (``allowed.txt``, as ``workbench federate keys`` writes it), which must have come to them by another way than the
server. A site without a list checks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIGNATURE, _HALF = 96, 48  # bytes: r and s of P-384


class RosterError(ValueError):
    """A site is not on the list, or its keys are not signed by it; names the site."""


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

    def sign(self, conversation: str, keys: bytes) -> bytes:
        """96 bytes for ``keys``, this site's two public ones in this conversation."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA384

        pair = decode_dss_signature(self.key.sign(_text(self.name, conversation, keys), ECDSA(SHA384())))
        return b"".join(part.to_bytes(_HALF, "big") for part in pair)

    def check(self, name: str, conversation: str, keys: bytes, signature: bytes) -> None:
        """Raise RosterError unless the site ``name`` is on the list and made ``keys`` for this conversation."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA384

        if name not in self.peers:
            raise RosterError(f"{name!r} is not on this site's list of sites.")
        pair = (int.from_bytes(signature[:_HALF], "big"), int.from_bytes(signature[_HALF:], "big"))
        try:
            told = _text(name, conversation, keys)
            self.peers[name].verify(encode_dss_signature(*pair), told, ECDSA(SHA384()))
        except InvalidSignature:
            raise RosterError(f"the keys sent round for {name!r} are not signed by it.") from None


def read(name: str, key: Path | str, allowed: Path | str) -> Roster:
    """The roster of site ``name`` from its private key and its list; raises ``keys.KeysError`` or RosterError."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    from workbench.federated import keys

    own, peers = keys.private(key), {a.name: load_pem_public_key(a.pem) for a in keys.allowed(allowed)}
    if name not in peers or peers[name] != own.public_key():
        raise RosterError(f"{allowed}: should have {name!r} with the public half of {key}; it has not.")
    return Roster(name, own, peers)


def _text(name: str, conversation: str, keys: bytes) -> bytes:
    parts = (b"workbench secure sum", conversation.encode(), name.encode(), keys)
    return b"".join(len(p).to_bytes(4, "big") + p for p in parts)
