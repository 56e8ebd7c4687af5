"""Masks: a short secret stretched to as many uniform 64-bit numbers as there are to hide.

Secrets of pairs: X25519 (RFC 7748) and HKDF-SHA256 (RFC 5869), bound to the conversation, to the use and to both public
keys. The stretching: AES-256 in counter mode, about 3 GB/s a core where the processor knows AES.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_BLOCK = 1 << 17  # numbers stretched at a time: 1 MiB stays in the cache


def key_pair() -> tuple[bytes, bytes]:
    """A new X25519 key pair: (private, public), 32 bytes each."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    key = X25519PrivateKey.generate()
    return key.private_bytes_raw(), key.public_key().public_bytes_raw()


def public(private: bytes) -> bytes:
    """The public half of a private key."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agreed(private: bytes, other: bytes, use: str) -> bytes:
    """The 32 bytes that only the owner of ``private`` and of the key pair of ``other`` (public) know, for one use."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    key = X25519PrivateKey.from_private_bytes(private)
    own = key.public_key().public_bytes_raw()
    shared = key.exchange(X25519PublicKey.from_public_bytes(other))
    return derived(shared + b"".join(sorted((own, other))), use)


def derived(secret: bytes, use: str) -> bytes:
    """32 bytes for one use of ``secret``."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), 32, salt=None, info=use.encode()).derive(secret)


def blend(arrays: Mapping[str, np.ndarray], key: bytes, sign: int) -> None:
    """Add (``sign`` 1) or take away (-1) the mask of ``key`` in place; uint64, contiguous, in order of their names.

    A key stretches to one stream; use it once.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    nothing = np.zeros(_BLOCK, dtype="<u8")
    mask = np.empty(_BLOCK + 2, dtype="<u8")  # two more: the cipher asks for a block of slack
    into = mask.view(np.uint8).data
    for name in sorted(arrays):
        flat = arrays[name].reshape(-1)
        if flat.size and not np.shares_memory(flat, arrays[name]):
            raise ValueError(f"array {name!r} is not contiguous, so it cannot be masked in place.")
        for start in range(0, flat.size, _BLOCK):
            part = flat[start : start + _BLOCK]
            stream.update_into(nothing[: part.size].view(np.uint8).data, into)
            if sign > 0:
                part += mask[: part.size]
            else:
                part -= mask[: part.size]
