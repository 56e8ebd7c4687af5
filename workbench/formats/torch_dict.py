"""Pickled dicts of tensors, lists or text, read without letting the pickle choose what runs.

A pickle is a program. Here its vocabulary is three names, enough for a dict of tensors: an
``OrderedDict``, the re-assembly of a tensor, and the bytes of its storage, which go through
``torch.load(weights_only=True)``. Any other name is refused before it is looked up.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np

from workbench.formats import FormatError

PRELOAD = ("torch", "torch._utils")  # imported once by `workbench.caged`, before it forks
ALLOWED = (
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch.storage", "_load_from_bytes"),
)


def read(data: bytes, file: str) -> dict[str, Any]:
    """The dict in ``data``: text -> NumPy array (from a tensor), list of numbers, or text.

    Raises
    ------
    FormatError
        The pickle names anything outside ``ALLOWED``, is damaged, or is not such a dict.
    """
    import torch
    from torch._utils import _rebuild_tensor_v2

    def storage(raw: object) -> Any:
        if not isinstance(raw, bytes):
            raise FormatError(file, "storage", f"expected bytes, found {type(raw).__name__}")
        return torch.load(io.BytesIO(raw), weights_only=True)

    def tensor(*arguments: Any) -> Any:  # a fresh function: a pickle can set attributes of what it is given
        return _rebuild_tensor_v2(*arguments)

    vocabulary = dict(zip(ALLOWED, (OrderedDict, tensor, storage), strict=True))

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) not in vocabulary:
                offset = data.find(name.encode())
                allowed = ", ".join(".".join(pair) for pair in ALLOWED)
                raise FormatError(
                    file, f"byte {offset}", f"the pickle asks for {module}.{name}, which is refused; allowed: {allowed}"
                )
            return vocabulary[module, name]

        def persistent_load(self, pid: Any) -> Any:
            raise FormatError(file, "persistent id", "an object kept outside the file is refused")

    try:
        content = Reader(io.BytesIO(data)).load()
    except FormatError:
        raise
    except Exception as error:  # a damaged or hostile pickle can raise anything
        raise FormatError(file, "content", f"the pickle cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(content, dict):
        raise FormatError(file, "top", f"expected a dict, found {type(content).__name__}")
    return {_key(k, file): _plain(v, k, file, torch.Tensor) for k, v in content.items()}


def _key(key: object, file: str) -> str:
    if not isinstance(key, str):
        raise FormatError(file, f"key {key!r}", f"expected text, found {type(key).__name__}")
    return key


def _plain(value: Any, key: str, file: str, tensor: Any) -> Any:
    if isinstance(value, tensor):
        if value.nbytes > value.untyped_storage().nbytes():
            raise FormatError(file, f"key {key!r}", f"declares {value.nbytes:,} bytes, stores fewer: refused")
        return np.array(value.detach().numpy())  # a copy lets go of the storage
    if isinstance(value, (str, list)):
        return value
    raise FormatError(file, f"key {key!r}", f"expected a tensor, a list or text, found {type(value).__name__}")
