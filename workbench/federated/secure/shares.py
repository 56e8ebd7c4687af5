"""A 32-byte secret in n shares, any t of which give it back and t - 1 of which say nothing (Shamir 1979, GF(2^128)).

Shares travel through the server, so each is sealed for its holder (ChaCha20-Poly1305, RFC 8439) with the key that the
pair agreed on; what it is, whose and for whom is bound in, so it cannot be passed off as another.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

SECRET = 32  # bytes of a secret and of a share
SEALED = 12 + 2 * SECRET + 16  # bytes: nonce, two shares, tag


def split(secret: bytes, threshold: int, shares: int) -> list[bytes]:
    """``shares`` shares of 32 bytes; the place in the list (from 0) belongs to the share."""
    shamir = _shamir()
    if len(secret) != SECRET or not 1 <= threshold <= shares:
        raise ValueError(f"a secret of {SECRET} bytes and 1 <= threshold <= shares are needed; {threshold}, {shares}.")
    halves = [shamir.split(threshold, shares, secret[i : i + 16], ssss=False) for i in (0, 16)]
    return [first + second for (_, first), (_, second) in zip(*halves, strict=True)]


def join(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret from {place: share}; wrong shares give a wrong secret, so check it against what is public of it."""
    if len(shares) < threshold:
        raise ValueError(f"{threshold} shares are needed; there are {len(shares)}.")
    shamir, used = _shamir(), sorted(shares)[:threshold]
    return b"".join(shamir.combine([(k + 1, shares[k][i : i + 16]) for k in used], ssss=False) for i in (0, 16))


def seal(key: bytes, plain: bytes, about: str) -> bytes:
    """``plain`` readable by whoever has ``key`` and only as what it is ``about``."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    nonce = os.urandom(12)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, plain, about.encode())


def open_sealed(key: bytes, sealed: bytes, about: str) -> bytes:
    """What was sealed; raises ValueError where it was changed, or is about something else."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    try:
        return ChaCha20Poly1305(key).decrypt(sealed[:12], sealed[12:], about.encode())
    except InvalidTag:
        raise ValueError("a sealed share was changed on its way.") from None


def _shamir():
    try:
        from Crypto.Protocol.SecretSharing import Shamir
    except ImportError:
        raise ImportError(
            "secure aggregation shares its keys with pycryptodome, which is not there: "
            "pip install 'translational-workbench[federation]'"
        ) from None
    return Shamir
