"""A check that no message holds a row: the last look at the numbers before they leave.

First the form: only arrays and values that the purpose declares (``LEAVES``), of sizes that do not follow how many rows
the site has. Then the content, against the site's own rows (``_own``): slices that are like a row (``_likeness``),
copies of values, scaled and shifted ones too (``_copies``), names and messages in bits (``_bits``), one-hot tables that
spell a row, and all this once more for what changed against the arrays that were asked with.

What it cannot find: code that means to smuggle can encrypt a row, and encrypted bytes look like the last digits of any
honest number. It can add a row so faintly, or spread it over so many rounds, that it drowns. Sums of two persons' rows
are not rows. Where a few factors make up the rows, what is a person's own is small, and noise of a fifth of every
feature's spread hides it (half of such rows pass); a person's factors alone are like any mixture of persons. Against
those stand the list of purposes a site allows, whose code can be read, the bytes a round may have, the book and secure
sums; not this check.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import rooms
from workbench.federated.asked import Answer, Leaves, described
from workbench.federated.gate import bits as _bits
from workbench.federated.gate import copies as _copies
from workbench.federated.gate import likeness as _likeness
from workbench.federated.gate import own as _own
from workbench.federated.messages import Ask
from workbench.federated.policy import ASKED, PolicyError

if TYPE_CHECKING:
    from workbench.federated.site import Site

log = logging.getLogger(__name__)  # stays at the site
VIEWS = "views"  # site.memory["views"]: {name: (n, k) own rows in a form made at the site}, to be compared as well
FEW = 8  # sizes below are no sign: sums and squares of a few things stand in arrays as short
MANY = 1e9  # products that the search for short rows at any offset may cost; beyond, only their copies are found there
BIG = 200_000  # numbers from which rows are looked for at any offset in the order of memory alone


@dataclass(frozen=True)
class Leak:
    """One reason why an array or value may not leave: its name, and what it is like, in words that name no row."""

    name: str
    words: str


@dataclass
class Rows:
    """The site's own rows, ready to be compared with any number of messages."""

    own: _own.Own
    values64: _copies.Table = field(init=False)
    values32: _copies.Table = field(init=False)
    steps: _copies.Steps = field(init=False)

    def __post_init__(self) -> None:
        self.values64 = _copies.Table.of(_copies.value_keys(self.own.numbers))
        self.values32 = _copies.Table.of(_copies.value_keys(self.own.numbers.astype(np.float32)))
        keys = []
        for view in self.own.views:
            if view.width >= 4 and _many_valued(view.values):
                found, told = _copies.echo_keys(view.values)
                keys.append(found[told])
        self.steps = _copies.Steps.of(np.concatenate(keys) if keys else np.zeros(0, dtype=np.uint64))

    def find(self, name: str, array: np.ndarray) -> list[Leak]:
        """Every kind of leak in one array; none where it is clean."""
        a = np.ascontiguousarray(array)
        if not a.size:
            return []
        found = []
        if any(_bits.names_in(s, self.own.texts) for s in _bits.streams(a)):
            found.append(Leak(name, "it spells names of subjects"))
        if self._copied(a):
            found.append(Leak(name, "it holds measured values as they stand, or scaled"))
        if _bits.uneven(a, self.own.persons) > _bits.UNEVEN:
            found.append(Leak(name, "the last digits of its numbers carry something"))
        small = _float32(a)
        if self._alike(small):
            found.append(Leak(name, "a part of it is like a row"))
        for code in _one_hot(small):
            if any(max(_likeness.aligned(code, v), _likeness.sorted_alike(code, v)) for v in self.own.views):
                found.append(Leak(name, "it spells a row, one place of many for each value"))
        return found

    def _alike(self, a: np.ndarray) -> bool:
        orders = [a.ravel()] + ([a.T.ravel()] if a.ndim == 2 and min(a.shape) > 1 and a.size < BIG else [])
        for view in self.own.views:
            if _likeness.aligned(a, view) or _likeness.sorted_alike(a, view):
                return True
            cheap = view.width >= _likeness.LONG or a.size * len(view.values) * _likeness.WINDOW <= MANY
            if cheap and any(_likeness.anywhere(flat, view) for flat in orders):
                return True
        return False

    def _copied(self, a: np.ndarray) -> bool:
        for form in _as_floats(a):
            for flat in [form.ravel()] + ([form.T.ravel()] if form.ndim == 2 and min(form.shape) > 1 else []):
                if flat.dtype == np.float64 and _copies.exact(flat, self.values64):
                    return True
                if flat.dtype != np.float16:
                    with np.errstate(all="ignore"):
                        if _copies.exact(flat.astype(np.float32), self.values32):
                            return True
                if _copies.echoes(flat, self.steps):
                    return True
        return False


@dataclass
class Check:
    """A step of ``Site.outgoing`` that refuses an answer in which a row can be seen; masked answers were seen before.

    A site's rows are read once. Rows that an ``asked`` file makes of its own (turned features, inputs of a network) can
    be put into ``site.memory["views"]`` as {name: (n, k)}, and are compared as well.
    """

    _rows: Rows | None = field(default=None, repr=False)
    _of: Any = field(default=None, repr=False)
    _seen: dict[str, Any] = field(default_factory=dict, repr=False)

    def __call__(self, site: Site, ask: Ask, answer: Answer) -> Answer:
        """The answer itself, or PolicyError with words that name no row."""
        found = self.find(site, ask, answer)
        if found:
            for leak in found:
                log.warning("%s: %r, round %d, %r: %s", site.name, ask.purpose, ask.round, leak.name, leak.words)
            raise PolicyError(f"leaks: {found[0].name!r} of {ask.purpose!r} stays here: {found[0].words}.")
        return answer

    def find(self, site: Site, ask: Ask, answer: Answer) -> list[Leak]:
        """Every leak in an answer; what is declared is checked first, and alone where something is not."""
        leaves: Leaves = rooms.load(ASKED, ask.purpose).LEAVES
        rows = self._ready(site)
        found = undeclared(leaves, answer)
        if found or answer.masked or not leaves.rows:  # masks and keys are random numbers to anybody
            return found
        found = follows_rows(rows.own, ask, answer)
        for name, value in answer.values.items():
            text = "\n".join(str(v) for v in (value if isinstance(value, list) else [value]))
            held = [p for p in (value if isinstance(value, list) else []) if isinstance(p, int | float)]
            if _bits.names_in(text.encode(), rows.own.texts):
                found.append(Leak(name, "it spells names of subjects"))
            if held:
                found += rows.find(name, np.array(held, dtype=np.float64))
        for name, array in answer.arrays.items():
            found += rows.find(name, array)
            before = ask.arrays.get(name)
            if before is not None and before.shape == array.shape and array.dtype.kind == "f":
                found += rows.find(name, array.astype(np.float64) - before.astype(np.float64))
        return found

    def _ready(self, site: Site) -> Rows:
        made: Mapping[str, np.ndarray] = site.memory.get(VIEWS, {})
        same = made.keys() == self._seen.keys() and all(v is self._seen[k] for k, v in made.items())
        if self._rows is None or self._of is not site.fold or not same:
            own = self._rows.own if self._rows is not None and self._of is site.fold else _own.of(site)
            views = [v for v in own.views if not v.name.startswith("made ")]
            for name, values in made.items():
                views += _own.added(f"made {name}", values)
            own.views[:] = views
            self._rows, self._of = Rows(own), site.fold
            self._seen = dict(made)
        return self._rows


def undeclared(leaves: Leaves, answer: Answer) -> list[Leak]:
    """Arrays and values that the purpose does not declare, or of a kind that is no number."""
    found = [Leak(k, "the purpose does not declare it") for k in answer.arrays if described(leaves, k) is None]
    found += [Leak(k, "the purpose does not declare it") for k in answer.values if k not in leaves.values]
    for name, a in answer.arrays.items():
        if a.dtype.kind not in "biuf" or a.dtype.itemsize > 8:
            found.append(Leak(name, f"numbers of at most 64 bits may leave, not {a.dtype}"))
    return found


def follows_rows(own: _own.Own, ask: Ask, answer: Answer) -> list[Leak]:
    """Arrays with an axis as long as the site has rows, subjects or persons, where nothing else explains the length.

    A length is explained by the ask (its arrays, lists and whole numbers), by features and by treatments.
    """
    told = {n for a in ask.arrays.values() for n in a.shape} | own.fixed
    told |= {len(v) for v in ask.values.values() if isinstance(v, list)}
    told |= {v for v in ask.values.values() if isinstance(v, int)}
    near = {n + k for n in told for k in (-2, -1, 0, 1, 2)}  # an intercept, bins below and above, steps between
    lists = {k: (len(v),) for k, v in answer.values.items() if isinstance(v, list)}
    shapes = {**{k: a.shape for k, a in answer.arrays.items()}, **lists}
    return [
        Leak(k, "its size follows the number of rows or subjects")
        for k, shape in shapes.items()
        if any(n in own.sizes and n not in near and n >= FEW for n in shape)
    ]


def _many_valued(values: np.ndarray) -> bool:
    """Whether rows have values of their own: 0s and 1s go up and down in a few ways only, as any counts do."""
    return bool(np.mean([len(np.unique(row)) for row in values[:20]]) > 0.2 * values.shape[1])


def _as_floats(a: np.ndarray) -> list[np.ndarray]:
    """An array as floats, and its bytes and last bytes read as floats of other lengths."""
    out = [a if a.dtype.kind == "f" else a.astype(np.float64)]
    flat = a.ravel()
    raw = np.frombuffer(flat.tobytes(), dtype=np.uint8)
    for kind in (np.float16, np.float32, np.float64):
        size = np.dtype(kind).itemsize
        if a.dtype != kind and len(raw) % size == 0:
            out.append(raw.view(kind))
        if a.dtype.kind == "f" and a.dtype.itemsize > size:
            out.append(np.ascontiguousarray(raw.reshape(-1, a.dtype.itemsize)[:, :size]).ravel().view(kind))
    return out


def _float32(a: np.ndarray) -> np.ndarray:
    """As float32 without overflow: scaled by the largest number."""
    with np.errstate(all="ignore"):
        wide = a.astype(np.float64) if a.dtype != np.float32 else a
        top = float(np.abs(wide[np.isfinite(wide)]).max(initial=0.0))
        wide = wide / top if top > 1e30 or 0 < top < 1e-30 else wide
        return np.where(np.isfinite(wide), wide, 0.0).astype(np.float32)


def _one_hot(a: np.ndarray) -> list[np.ndarray]:
    """Of a table whose every line along an axis has one number that is not 0: the places of those numbers."""
    if a.ndim < 2:
        return []
    return [
        np.argmax(a != 0, axis=k).astype(np.float32)
        for k in range(a.ndim)
        if a.shape[k] > 2 and bool(((a != 0).sum(axis=k) == 1).all())
    ]
