"""The only two things that pass between server and site, whatever carries them.

Numbers travel as arrays with names; settings as plain values. Nothing else: no object, no pickle, no code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

KINDS = "biuf"  # bool, int, unsigned, float: dtypes that may travel

Value = bool | int | float | str | list[int] | list[float] | list[str]


class MessageError(ValueError):
    """A message holds something that may not travel; says what, where and what may."""


@dataclass(frozen=True)
class Ask:
    """What the server asks of a site.

    Attributes
    ----------
    purpose : name of the file in ``workbench.federated.asked`` that answers it
    round : number of the round, from 0; for people, ledgers and seeds
    arrays : named numeric arrays, any shape
    values : named settings: a bool, int, float or text, or a list of ints, of floats or of texts
    """

    purpose: str
    round: int = 0
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    values: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self.arrays, self.values, f"ask {self.purpose!r}")


@dataclass(frozen=True)
class Reply:
    """What a site answers: arrays and values, or the reason there are none.

    Attributes
    ----------
    site, purpose, round : whose, and what it answers
    rows : training rows of the site behind it (what FedAvg weighs by); 0 where it is refused
    refused : why the site does not answer; None where it does
    """

    site: str
    purpose: str
    round: int
    rows: int = 0
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    values: Mapping[str, Value] = field(default_factory=dict)
    refused: str | None = None

    def __post_init__(self) -> None:
        check(self.arrays, self.values, f"reply of {self.site!r} to {self.purpose!r}")

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, as numbers."""
        return sum(a.nbytes for a in self.arrays.values())


@dataclass(frozen=True)
class Gathered:
    """What came back from one Ask: ``replies`` by site name, in order, and ``lost``: {site: why it has none}.

    ``dropped`` names those of ``lost`` that did answer, with something that cannot be (``robust.updates``).
    """

    replies: tuple[Reply, ...]
    lost: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return sum(r.rows for r in self.replies)


def check(arrays: Mapping[str, object], values: Mapping[str, object], where: str) -> None:
    """Raise MessageError unless every array is numeric and every value plain."""
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in KINDS:
            kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise MessageError(f"{where}: array {name!r} is {kind}; only numpy arrays of numbers may travel.")
    for name, value in values.items():
        parts = value if isinstance(value, list) else [value]
        kinds = {type(p) for p in parts}
        if len(kinds) > 1 or not kinds <= {bool, int, float, str} or (isinstance(value, list) and kinds == {bool}):
            raise MessageError(
                f"{where}: value {name!r} is {type(value).__name__} of {sorted(k.__name__ for k in kinds)}; "
                "a bool, int, float or text may travel, or a list of ints, of floats or of texts."
            )
        if any(isinstance(p, float) and math.isinf(p) for p in parts):
            raise MessageError(f"{where}: value {name!r} is infinite.")
