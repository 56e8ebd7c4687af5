"""An inert codec: values to a JSON header and plain buffers, and back. Nothing in it can name code to run.

It carries None, Booleans, numbers, text, bytes, lists, tuples, dicts with text keys, numpy arrays and scalars, scipy
sparse matrices, polars frames (as Arrow IPC) and data types, pandas frames, AnnData and MuData.

The header is a tree of small dicts with ``t`` (the kind) and indices into the buffers. ``decode`` trusts nothing in
it: anything that does not fit raises ``GarbageError``.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

DEPTH = 200  # levels of nesting
DTYPES: tuple[str, ...] = (
    *("String", "Boolean", "Binary", "Date", "Float32", "Float64"),
    *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
)
SPARSE = ("csr", "csc")
PAIRED = ("obsm", "varm", "obsp", "varp")
SLOTS = ("layers", *PAIRED, "uns")
WHOLE = (*PAIRED, "obsmap", "varmap", "uns")  # of a MuData
Buffer = bytes | bytearray | memoryview


class GarbageError(ValueError):
    """What arrived is not what ``encode`` makes."""


def encode(value: Any) -> tuple[bytes, list[Buffer]]:
    """Header and buffers of ``value``.

    Raises
    ------
    TypeError
        Something in ``value`` is of a kind the codec does not carry.
    """
    buffers: list[Buffer] = []
    header = json.dumps(_pack(value, buffers, 0), separators=(",", ":")).encode()
    return header, buffers


def decode(header: Buffer, buffers: Sequence[Buffer]) -> Any:
    """The value back; arrays are views of ``buffers`` where these can be written to.

    Raises
    ------
    GarbageError
        Header or buffers are not what ``encode`` makes.
    """
    try:
        return _open(json.loads(bytes(header)), buffers)
    except GarbageError:
        raise
    except (Exception, pl.exceptions.PanicException) as error:
        raise GarbageError(f"{type(error).__name__}: {error}") from error


# ---- to buffers


def _pack(value: Any, out: list[Buffer], depth: int) -> Any:
    if depth > DEPTH:
        raise TypeError(f"nested deeper than {DEPTH} levels")
    if value is None or isinstance(value, (bool, str)) or type(value) in (int, float):
        return value
    if isinstance(value, np.generic) and not isinstance(value, np.void):
        return {"t": "scalar", "v": _array(np.asarray(value), out)}
    if isinstance(value, (int, float)):
        return _pack(float(value) if isinstance(value, float) else int(value), out, depth)
    if isinstance(value, (bytes, bytearray)):
        return {"t": "bytes", "b": _keep(value, out)}
    if isinstance(value, dict):
        if bad := [k for k in value if not isinstance(k, str)]:
            raise TypeError(f"expected text keys, found {bad[0]!r}")
        return {"t": "dict", "k": [str(k) for k in value], "v": [_pack(v, out, depth + 1) for v in value.values()]}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {"t": kind, "v": [_pack(v, out, depth + 1) for v in value]}
    if isinstance(value, np.ndarray):
        return _array(value, out)
    if isinstance(value, pl.DataFrame):
        return _frame(value, out)
    if isinstance(value, pl.DataType) or (isinstance(value, type) and issubclass(value, pl.DataType)):
        if str(value) not in DTYPES:
            raise TypeError(f"the data type {value} is not carried")
        return {"t": "dtype", "v": str(value), "class": isinstance(value, type)}
    return _scverse(value, out, depth)


def _scverse(value: Any, out: list[Buffer], depth: int) -> Any:
    """Sparse matrices, pandas frames, AnnData and MuData, known by name so that nothing is imported for them."""
    kind, house = type(value).__name__, type(value).__module__.split(".")[0]
    if house == "scipy" and getattr(value, "format", None) in SPARSE:
        arrays = [_array(np.asarray(a), out) for a in (value.data, value.indices, value.indptr)]
        return {"t": "sparse", "f": value.format, "s": list(value.shape), "v": arrays, "array": "array" in kind}
    if house == "pandas" and kind == "DataFrame":
        return _pandas(value, out)
    if house == "anndata" and kind == "AnnData":
        slots = {name: _pack(dict(getattr(value, name)), out, depth + 1) for name in SLOTS}
        raw = value.raw
        more = None if raw is None else {"X": _pack(raw.X, out, depth), "var": _pandas(raw.var, out)}
        tables = {"obs": _pandas(value.obs, out), "var": _pandas(value.var, out)}
        return {"t": "anndata", "X": _pack(value.X, out, depth), "raw": more, **tables, **slots}
    if house == "mudata" and kind == "MuData":
        parts = {name: _pack(part, out, depth + 1) for name, part in value.mod.items()}
        tables = {"obs": _pandas(value.obs, out), "var": _pandas(value.var, out)}
        slots = {name: _pack(dict(getattr(value, name)), out, depth + 1) for name in WHOLE}
        return {"t": "mudata", "mod": parts, "axis": int(value.axis), **tables, **slots}
    raise TypeError(f"{type(value).__module__}.{kind} is not carried")


def _keep(data: Buffer, out: list[Buffer]) -> int:
    out.append(data)
    return len(out) - 1


def _array(value: np.ndarray, out: list[Buffer]) -> dict[str, Any]:
    shape = list(value.shape)
    if value.dtype.names:
        fields = {n: _array(np.asarray(value[n]), out) for n in value.dtype.names}
        return {"t": "records", "s": shape, "v": fields}
    if value.dtype.kind in "OT":  # text of any length
        return {"t": "texts", "s": shape, "v": _frame(pl.DataFrame({"v": _texts(value.reshape(-1).tolist())}), out)}
    if value.dtype.kind not in "biufcSUmM":
        raise TypeError(f"an array of {value.dtype} is not carried")
    flat = np.ascontiguousarray(value.astype(value.dtype.newbyteorder("="), copy=False)).reshape(-1)
    raw: Any = flat.view(np.uint8).data
    return {"t": "array", "d": flat.dtype.str, "s": shape, "b": _keep(raw, out)}


def _texts(values: list[Any]) -> pl.Series:
    plain = [None if v is None or (isinstance(v, float) and v != v) else v for v in values]
    plain = [None if type(v).__name__ in ("NAType", "NaTType") else v for v in plain]
    if bad := [v for v in plain if v is not None and not isinstance(v, str)]:
        raise TypeError(f"expected text, found {type(bad[0]).__name__} in an array of objects")
    return pl.Series(plain, dtype=pl.String)


def _frame(value: pl.DataFrame, out: list[Buffer]) -> dict[str, Any]:
    sink = io.BytesIO()
    value.write_ipc_stream(sink, compression="uncompressed")
    return {"t": "frame", "b": _keep(sink.getbuffer(), out)}


def _pandas(value: pd.DataFrame, out: list[Buffer]) -> dict[str, Any]:
    columns = [[str(name), _column(value.iloc[:, i], out)] for i, name in enumerate(value.columns)]
    index = _array(value.index.astype(str).to_numpy(dtype=object), out)
    named = None if value.index.name is None else str(value.index.name)
    return {"t": "pandas", "i": index, "n": named, "c": columns}


def _column(value: pd.Series, out: list[Buffer]) -> dict[str, Any]:
    kind = value.dtype
    if kind.name == "category":
        levels = value.cat.categories
        text = levels.dtype.kind in "OT" or levels.dtype.name in ("string", "str")
        kept = _array(np.asarray(levels, dtype=object) if text else levels.to_numpy(), out)
        return {"t": "category", "v": _array(value.cat.codes.to_numpy(), out), "l": kept, "o": bool(value.cat.ordered)}
    if isinstance(kind, np.dtype) and kind.kind in "biufcmM":
        return _array(value.to_numpy(), out)
    if kind.name in ("object", "string", "str"):
        return _array(value.to_numpy(dtype=object), out)
    if getattr(kind, "numpy_dtype", None) is not None and kind.numpy_dtype.kind in "biuf":  # nullable numbers
        filled = value.fillna(False if kind.numpy_dtype.kind == "b" else 0).to_numpy(dtype=kind.numpy_dtype)
        return {"t": "nullable", "d": kind.name, "v": _array(filled, out), "m": _array(value.isna().to_numpy(), out)}
    raise TypeError(f"a pandas column of {kind} is not carried")


# ---- from buffers


def _open(node: Any, buffers: Sequence[Buffer]) -> Any:
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    kind = node.get("t") if isinstance(node, dict) else None
    if kind not in OPENERS:
        raise GarbageError(f"unknown kind {kind!r}")
    return OPENERS[kind](node, buffers)


def _open_array(node: dict[str, Any], buffers: Sequence[Buffer]) -> np.ndarray:
    kind = np.dtype(node["d"])
    if kind.kind not in "biufcSUmM":
        raise GarbageError(f"an array of {kind}")
    shape = tuple(int(n) for n in node["s"])
    data = buffers[node["b"]]
    if min(shape, default=0) < 0 or int(np.prod(shape, dtype=object)) * kind.itemsize != len(data):
        raise GarbageError(f"an array of {shape} {kind} in {len(data)} bytes")
    if not kind.itemsize or not len(data):
        return np.zeros(shape, kind)
    array = np.frombuffer(data, kind).reshape(shape)
    return array if array.flags.writeable else array.copy()


def _open_frame(node: dict[str, Any], buffers: Sequence[Buffer]) -> pl.DataFrame:
    return pl.read_ipc_stream(io.BytesIO(bytes(buffers[node["b"]])), use_pyarrow=False)


def _open_texts(node: dict[str, Any], buffers: Sequence[Buffer]) -> np.ndarray:
    return np.asarray([*_open_frame(node["v"], buffers)["v"].to_list()], dtype=object).reshape(node["s"])


def _open_records(node: dict[str, Any], buffers: Sequence[Buffer]) -> np.ndarray:
    fields = {name: _open(part, buffers) for name, part in node["v"].items()}
    array = np.empty(tuple(node["s"]), dtype=[(name, part.dtype) for name, part in fields.items()])
    for name, part in fields.items():
        array[name] = part
    return array


def _open_sparse(node: dict[str, Any], buffers: Sequence[Buffer]) -> Any:
    import scipy.sparse

    if node["f"] not in SPARSE:
        raise GarbageError(f"a sparse matrix of {node['f']!r}")
    data, indices, indptr = (_open_array(part, buffers) for part in node["v"])
    rows, columns = (int(n) for n in node["s"])
    make = getattr(scipy.sparse, f"{node['f']}_{'array' if node['array'] else 'matrix'}")
    matrix = make((data, indices, indptr), shape=(rows, columns))
    matrix.check_format(full_check=True)
    return matrix


def _open_pandas(node: dict[str, Any], buffers: Sequence[Buffer]) -> pd.DataFrame:
    import pandas as pd

    index = pd.Index(_open_texts(node["i"], buffers), name=node["n"], dtype=object)
    columns = [_open_column(part, buffers, index) for _, part in node["c"]]
    if not columns:
        return pd.DataFrame(index=index)
    frame = pd.concat(columns, axis=1)
    frame.columns = pd.Index([name for name, _ in node["c"]], dtype=object)
    return frame


def _open_column(node: dict[str, Any], buffers: Sequence[Buffer], index: pd.Index) -> pd.Series:
    import pandas as pd

    if node["t"] == "category":
        levels = pd.Index(_open(node["l"], buffers))
        made: Any = pd.Categorical.from_codes(_open_array(node["v"], buffers), levels, ordered=bool(node["o"]))
    elif node["t"] == "nullable":
        mask = _open_array(node["m"], buffers).astype(bool)
        values = _open_array(node["v"], buffers)
        made = pd.array(values, dtype=node["d"])
        made[mask] = pd.NA
    else:
        made = _open(node, buffers)
    return pd.Series(made, index=index)


def _open_anndata(node: dict[str, Any], buffers: Sequence[Buffer]) -> AnnData:
    from anndata import AnnData

    slots = {name: _open(node[name], buffers) for name in SLOTS}
    obs, var = _open_pandas(node["obs"], buffers), _open_pandas(node["var"], buffers)
    values = _open(node["X"], buffers)
    data = AnnData(values, obs=obs, var=var, shape=None if values is not None else (len(obs), len(var)), **slots)
    if node["raw"] is not None:
        kept = AnnData(_open(node["raw"]["X"], buffers), obs=obs, var=_open_pandas(node["raw"]["var"], buffers))
        data.raw = kept
    return data


def _open_mudata(node: dict[str, Any], buffers: Sequence[Buffer]) -> Any:
    import mudata

    parts = {name: _open(part, buffers) for name, part in node["mod"].items()}
    rest = {name: _open(node[name], buffers) for name in WHOLE}
    rest |= {name: _open_pandas(node[name], buffers) for name in ("obs", "var")}
    with mudata.set_options(pull_on_update=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mudata's hints on names were for whoever made it
        return mudata.MuData(parts, axis=node["axis"], **rest)


def _open_dtype(node: dict[str, Any], buffers: Sequence[Buffer]) -> Any:
    if node["v"] not in DTYPES:
        raise GarbageError(f"a data type {node['v']!r}")
    kind = getattr(pl, node["v"])
    return kind if node["class"] else kind()


OPENERS: dict[str, Callable[[dict[str, Any], Sequence[Buffer]], Any]] = {
    "scalar": lambda n, b: _open_array(n["v"], b)[()] if n["v"]["t"] == "array" else _open_texts(n["v"], b)[()],
    "bytes": lambda n, b: bytes(b[n["b"]]),
    "dict": lambda n, b: dict(zip(n["k"], (_open(v, b) for v in n["v"]), strict=True)),
    "list": lambda n, b: [_open(v, b) for v in n["v"]],
    "tuple": lambda n, b: tuple(_open(v, b) for v in n["v"]),
    "dtype": _open_dtype,
    "array": _open_array,
    "texts": _open_texts,
    "records": _open_records,
    "frame": _open_frame,
    "sparse": _open_sparse,
    "pandas": _open_pandas,
    "anndata": _open_anndata,
    "mudata": _open_mudata,
}
