"""How like a site's own row some slice of a message is, whatever was done to it linearly.

``aligned`` looks at every slice along an axis as long as a row: one matrix product. ``anywhere`` looks at every offset
of the flat message: by Fourier transforms against sums of many rows at once, each told from the others by a random
sign, and then at the few offsets that stand out row by row; short rows directly, by one product.

Likeness is the correlation after what all rows share (``_own.Form.shared``) is taken away from both, and it must stand
without the few columns that contribute most: a single outlier in both is no row. Neighbours that go together count as
few: copy numbers stand in long stretches of the same value, and so does many a table of sums (line after line, each of
its own size); two that make one step at the same place are as like as two rows, and tell nothing. And rows of few
factors, as principal scores are, amount to few columns: any mixture of them is like one of them by chance. There the
likeness must be nearly whole, or stand in what is left of both without those factors, beyond what chance gives there.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from workbench.federated.gate.own import Form, View, basis, form_of

ALIKE = 0.95  # correlation from which a slice is a row
TRIMMED = 0.80  # and what must be left of it without the columns that contribute most
TRIM = 0.05  # share of columns left out then
CHANCE = 1e-6  # a likeness that chance alone gives more often per message is none
STANDS_OUT = 4.75  # standard deviations of chance from which an offset is looked at row by row: two in a million
TOGETHER = 200  # columns for each row of a signed sum: of so many rows each still stands out by sqrt(200) deviations
PAIRS = 1 << 15  # likenesses looked at closely at once
COLUMNS = 10  # that a likeness must rest on: two lines that share three rare mutations are no copies
COPY = 0.9999  # likeness that is a copy however few columns carry it: honest mixtures of rows stay below
FREE = 5.0  # columns, less those that follow from their neighbours, below which no likeness is more than chance
APART = 0.80  # likeness that must stand, at least, without the strongest directions of rows that amount to few columns
LITTLE = 1e-3  # of a row of length one that is too little to compare
ROUNDING = 3e-5  # share of a slice's norm below which what is left of it is rounding
LONG = 2048  # columns from which rows are looked for by Fourier transforms
WINDOW = 48  # columns compared at once of shorter rows
LOOKED_AT = 512  # offsets that are looked at row by row, at most; the strongest
CHUNK = 1 << 16
BLOCK = 1 << 12  # slices whose products with all rows stay in the cache


def aligned(array: np.ndarray, view: View) -> float:
    """Greatest likeness of a slice of ``array`` (float32) along an axis as long as a row; 0 where there is none."""
    found = 0.0
    for axis in [k for k, n in enumerate(array.shape) if n == view.width]:
        slices = np.moveaxis(array, axis, -1).reshape(-1, view.width)
        for start in range(0, len(slices), max(1, (CHUNK * 32) // view.width)):
            part = slices[start : start + max(1, (CHUNK * 32) // view.width)]
            found = max(found, *(_alike(part, form, len(slices) * len(form.rows)) for form in view.forms))
    return found


def sorted_alike(array: np.ndarray, view: View) -> float:
    """The same for rows whose columns were dealt anew: sorted values are compared, and must agree to 1e-5.

    Two samples of one distribution agree to about log log n / n only. Rows of few different values cannot be told.
    """
    rows = np.sort(view.values, axis=1)
    rows = rows[(np.diff(rows, axis=1) > 0).mean(axis=1) > 0.5]
    found = 0.0
    for axis in [k for k, n in enumerate(array.shape) if n == view.width]:
        slices = np.sort(np.moveaxis(array, axis, -1).reshape(-1, view.width), axis=1)
        if len(rows) and len(slices):
            a, b = _unit(rows), _unit(slices.astype(np.float64))
            r = max(float((b @ a.T).max()), float((-b[:, ::-1] @ a.T).max()))  # turned round where the sign was
            found = max(found, r if r > 1 - 1e-5 else 0.0)
    return found


def anywhere(flat: np.ndarray, view: View, seed: int = 0) -> float:
    """Greatest likeness of a stretch of ``flat`` (N,) float32 as long as a row, at any offset."""
    if len(flat) < min(view.width, WINDOW):
        return 0.0
    return _long(flat, view, seed) if view.width >= LONG else _short(flat, view)


def _unit(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(norm > 0, norm, 1.0)


def _alike(slices: np.ndarray, form: Form, compared: int) -> float:
    """Greatest likeness of any of ``slices`` (m, f) to any row of a form."""
    _, likeness, real = _pairs(slices, form, compared)
    return float(likeness[real].max(initial=0.0))


def _pairs(slices: np.ndarray, form: Form, compared: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of a slice and a row that stand out: number of the slice, likeness, and whether it is more than chance."""
    width = slices.shape[1]
    scale = np.abs(slices).max(axis=1, keepdims=True)
    slices = slices / np.where((scale > 0) & np.isfinite(scale), scale, 1.0)
    left = slices - (slices @ form.shared.T) @ form.shared
    norm, whole = (np.sqrt(np.einsum("ij,ij->i", v, v)) for v in (left, slices))
    there = np.flatnonzero(np.isfinite(norm) & (norm > ROUNDING * whole))
    left = left if len(there) == len(left) else left[there]
    left /= norm[there, None]
    likeness = left @ form.rows.T
    np.abs(likeness, out=likeness)
    i, j = np.divmod(np.flatnonzero(likeness.ravel() >= threshold(width, compared)), likeness.shape[1])
    r, stands = likeness[i, j], np.zeros(len(i), dtype=bool)
    free, step = np.zeros(len(i)), max(1, PAIRS * WINDOW // width)
    for at in (slice(k, k + step) for k in range(0, len(i), step)):
        stands[at] = _stands(left[i[at]], form.rows[j[at]])
        these = np.arange(len(i))[at][stands[at]]
        free[these] = independent(slices[there[i[these]]], form.plain[j[these]])
    i, j, r, free = i[stands], j[stands], r[stands], free[stands]
    few = min(threshold(form.free, compared), COPY)
    least = np.array([threshold(n, compared) for n in free], dtype=r.dtype)
    real = (free >= FREE) & (r >= least)
    strong = r >= few
    whole = max(chance(form.rest, compared), APART)
    if len(form.main) and (unsure := np.flatnonzero(real & ~strong)).size:
        strong[unsure] = apart(left[i[unsure]], form.rows[j[unsure]], form.main) >= whole
    return there[i], r, real & strong


def threshold(width: float, compared: int) -> float:
    """Correlation from which a likeness counts: 0.95, or more where chance alone would give that."""
    return max(ALIKE, chance(width, compared))


def chance(width: float, compared: int) -> float:
    """Correlation that chance gives less than one of 1/CHANCE messages.

    Of ``compared`` pairs of independent normal rows of ``width`` columns: P(|r| > t) <= (1 - t^2)^((width - 4) / 2).
    """
    tail = (CHANCE / max(compared, 1)) ** (2.0 / max(width - 4.0, 1.0))
    return float(np.sqrt(max(1.0 - tail, 0.0)))


def apart(a: np.ndarray, b: np.ndarray, main: np.ndarray) -> np.ndarray:
    """Likeness of each pair of unit lines (m, f) in what the directions ``main`` (k, f) leave of them: (m,).

    Of few factors all mixtures of rows are alike; what a row has of its own is in no mixture. 0 where little is left.
    """
    x, y = ((v - (v @ main.T) @ main).astype(np.float64) for v in (a, b))
    size = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    left = np.minimum(*size) > LITTLE
    return np.where(left, np.abs((x * y).sum(1)) / np.maximum(size[0] * size[1], 1e-30), 0.0)


def _stands(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether the likeness of each pair of lines (m, f) remains without the columns that give most of it: (m,)."""
    share = a * b
    least = np.argsort(np.abs(share), axis=1)[:, : a.shape[1] - max(2, int(TRIM * a.shape[1]))]
    x, y = (np.take_along_axis(v, least, 1).astype(np.float64) for v in (a, b))
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    size = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    together = np.abs((x * y).sum(1))
    columns = share.sum(1) ** 2 / np.maximum((share**2).sum(1), 1e-30)  # as many as equal ones would be
    return (size > 0) & (together >= TRIMMED * size) & (columns >= COLUMNS)


def independent(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How many independent columns the f of each pair of lines (m, f) amount to, where both follow their neighbours.

        f / (1 + 2 sum over lags k of (1 - k / f) r_a(k) r_b(k))        r: autocorrelation

    Only lags before the first at which either is within chance (2 / sqrt(f)) count, so that lines without order keep
    all their columns. Source: Pyper and Peterman 1998, Canadian J. Fisheries and Aquatic Sciences 55:2127 (from
    Bartlett 1946).
    """
    width = a.shape[1]
    size = fft.next_fast_len(2 * width, real=True)

    def lagged(v: np.ndarray) -> np.ndarray:
        v = v - v.mean(1, keepdims=True)
        turned = fft.rfft(v.astype(np.float64), size, axis=1)
        found = fft.irfft(np.abs(turned) ** 2, size, axis=1)[:, 1:width]
        return found / np.maximum((v.astype(np.float64) ** 2).sum(1, keepdims=True), 1e-30)

    one, other = lagged(a), lagged(b)
    both = np.logical_and.accumulate(np.minimum(one, other) > 2.0 / np.sqrt(width), axis=1)
    weight = 1.0 - np.arange(1, width) / width
    return width / (1.0 + 2.0 * np.where(both, weight * one * other, 0.0).sum(1))


def _short(flat: np.ndarray, view: View) -> float:
    """Windows of the flat message against stretches of the rows, one at the start, one at the end of each row.

    A window that stands out is looked at along the whole row as well: in a stretch a row may tell too little.
    """
    width = min(view.width, WINDOW)
    windows = np.lib.stride_tricks.sliding_window_view(flat, width)
    found = 0.0
    for first in sorted({0, view.width - width}):
        form = _stretch(view, first, width)
        compared = len(windows) * len(form.rows)
        for start in range(0, len(windows), CHUNK):
            some = np.ascontiguousarray(windows[start : start + CHUNK])
            near = _near(some, form, compared)
            at, likeness, real = _pairs(some[near], form, compared)
            at = near[at]
            found = max(found, float(likeness[real].max(initial=0.0)))
            if len(at) and width < view.width and not real.any():
                at = np.unique(at[np.argsort(-likeness)][: LOOKED_AT * 8]) + start - first
                at = at[(at >= 0) & (at + view.width <= len(flat))]
                rows = flat[at[:, None] + np.arange(view.width)]
                found = max(found, *(_alike(rows, f, compared) for f in view.forms)) if len(at) else found
    return found


def _stretch(view: View, first: int, width: int) -> Form:
    """The form of ``width`` columns of a view's rows from ``first`` on; made once for a view."""
    if (name := f"stretch {first}") not in view.kept:
        part = view.values[:, first : first + width].astype(np.float64)
        view.kept[name] = form_of(part, [part.mean(axis=0)] if len(part) > 1 else [])
    return view.kept[name]


def _near(slices: np.ndarray, form: Form, compared: int) -> np.ndarray:
    """Numbers of the slices that may stand out in ``_pairs``, and more: the same figures at lower precision.

    The rows of a form have nothing of what is shared, so products with the whole slice are those with what is left of
    it. Slices of which little is left, or whose numbers are too small or large to be squared, are always among them.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        whole = np.einsum("ij,ij->i", slices, slices)
        common = slices @ form.shared.T
        left = whole - np.einsum("ij,ij->i", common, common)
        most = np.empty(len(slices), dtype=slices.dtype)
        for at in (slice(k, k + BLOCK) for k in range(0, len(slices), BLOCK)):
            products = form.rows @ slices[at].T
            most[at] = np.maximum(products.max(axis=0), -products.min(axis=0))
        sure = (left > 1e-3 * whole) & (whole > 1e-20) & (whole < 1e20)
        far = most < (threshold(slices.shape[1], compared) - 1e-3) * np.sqrt(np.where(sure, left, 0.0))
    far |= ~slices.any(axis=1)
    return np.flatnonzero(~(far & (sure | (whole == 0))))


def _long(flat: np.ndarray, view: View, seed: int) -> float:
    """Fourier transforms against signed sums of rows; the offsets that stand out then row by row."""
    width = view.width
    if len(flat) < width:
        return 0.0
    scale = float(np.abs(flat[np.isfinite(flat)]).max(initial=0.0)) or 1.0
    message = np.where(np.isfinite(flat), flat / scale, 0.0).astype(np.float32)
    offsets = len(flat) - width + 1
    size = fft.next_fast_len(max(4 * width, 1 << 15), real=True)
    step = size - width + 1
    blocks = -(-offsets // step)
    padded = np.zeros(blocks * step + width - 1, dtype=np.float32)
    padded[: len(message)] = message
    pieces = np.lib.stride_tricks.as_strided(padded, (blocks, size), (padded.strides[0] * step, padded.strides[0]))
    looked: list[np.ndarray] = []
    common, sums = _kernels(view, size, seed)
    for k in range(0, blocks, 16):
        part = pieces[k : k + 16]
        turned = fft.rfft(part, axis=1)
        square = np.cumsum(np.pad(part.astype(np.float64) ** 2, ((0, 0), (1, 0))), axis=1)
        left = (square[:, width:] - square[:, :-width])[:, :step]
        whole = left.copy()
        for kernel in common:
            seen = fft.irfft(turned * kernel, size, axis=1)[:, :step]
            left -= np.multiply(seen, seen, out=seen)
        left = np.where(left > 1e-7 * np.maximum(whole, 1e-30), left, np.inf).astype(np.float32)
        best = np.zeros(left.shape, dtype=np.float32)
        for kernel in sums:
            seen = fft.irfft(turned * kernel, size, axis=1)[:, :step]
            np.maximum(best, np.multiply(seen, seen, out=seen), out=best)
        best /= left
        rows, columns = np.nonzero(best > STANDS_OUT**2 / width)
        looked.append(np.stack([(k + rows) * step + columns, best[rows, columns]]))
    at, strength = np.concatenate(looked, axis=1)
    keep = np.argsort(-strength)[:LOOKED_AT]
    at = at[keep].astype(np.int64)
    at = at[at < offsets]
    found = 0.0
    for start in range(0, len(at), 256):
        slices = message[at[start : start + 256, None] + np.arange(width)]
        found = max(found, *(_alike(slices, f, len(flat) * len(f.rows)) for f in view.forms))
    return found


def _kernels(view: View, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Fourier transforms of what rows share, and of signed sums of rows; made once for a view."""
    if f"sums {size} {seed}" not in view.kept:
        shared = basis(list(np.concatenate([f.shared for f in view.forms]))).astype(np.float32)
        sums = _signed_sums(view.forms[-1].rows, shared, max(1, view.width // TOGETHER), seed).astype(np.float32)
        for name, kernels in (("common", shared), ("sums", sums)):
            view.kept[f"{name} {size} {seed}"] = np.conj(fft.rfft(kernels, size, axis=1))
    return view.kept[f"common {size} {seed}"], view.kept[f"sums {size} {seed}"]


def _signed_sums(rows: np.ndarray, shared: np.ndarray, together: int, seed: int) -> np.ndarray:
    """Unit sums (g, f) of ``together`` rows each with random signs, made so that one row's sum does not see the others.

    Rows that resemble each other would cancel; so sums are of the dual rows d_i, d_i . r_j = 1 where i is j, else 0.
    """
    wide = rows.astype(np.float64)
    wide = wide - (wide @ shared.T.astype(np.float64)) @ shared
    gram = wide @ wide.T
    dual = np.linalg.solve(gram + 0.02 * np.eye(len(gram)), wide)
    sign = np.random.default_rng(seed).choice([-1.0, 1.0], len(dual))
    groups = max(1, -(-len(dual) // together))
    out = np.zeros((groups, rows.shape[1]))
    np.add.at(out, np.arange(len(dual)) % groups, dual * sign[:, None])
    norm = np.linalg.norm(out, axis=1, keepdims=True)
    return out / np.where(norm > 0, norm, 1.0)
