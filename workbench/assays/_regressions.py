"""Very many linear regressions that share their rows and covariates, exactly, by a few matrix products.

For response d over its own rows P, with covariates C (an intercept is always among them) and feature x:

    y = C a + x b + e,   b = x'My / x'Mx,   M = I - projection onto the columns of C over P

(Frisch and Waugh 1933, Econometrica 1:387-401; Lovell 1963, J. Am. Stat. Assoc. 58:993-1010). Features are made
orthogonal to C over all n rows once: C = QR, X~ = X - QQ'X, so Q'X~ = 0 and what a response's missing rows S take
away is small: Q_P'X~_P = -Q_S'X~_S. With G = Q_P'Q_P = LL' that is a product of k x |S| by |S| x p per response,

    x'Mx = sum over P of x~^2 - |inv(L) Q_S'x~_S|^2,   x'My = x~'r,   r = My.

Pairs in which the difference has lost digits are computed again from their own rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LOST = 1e-6  # what is left of a sum of squares: below, the pair is computed again from its own rows
NOTHING = 1e-16  # what is left of x'x after the covariates: below, the feature is constant
ROUNDING = 1e-26  # a spread this small beside the values themselves (squared) is no spread
UNSUPPORTED = 1e-7  # singular value of a covariate (1 over all rows) that a response's rows do not tell apart from 0


@dataclass(frozen=True)
class Regressions:
    """Of D responses on p features, one at a time beside the covariates; NaN where there is no answer.

    Attributes
    ----------
    beta, se, t : (D, p) float64; beta and se in the response's unit per unit of the feature
    n, rank, df : (D,) int64: rows, independent covariates over them (intercept counted), n - rank - 1
    residual_sd : (D, p) of the response beside covariates and feature
    constant : (D, p) bool: nothing of the feature is left once the covariates are taken away
    recomputed : pairs computed again from their own rows
    dropped : columns of the covariates that others already say, by number
    """

    beta: np.ndarray
    se: np.ndarray
    t: np.ndarray
    n: np.ndarray
    rank: np.ndarray
    df: np.ndarray
    residual_sd: np.ndarray
    constant: np.ndarray
    recomputed: int
    dropped: list[int]


def basis(covariates: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Orthonormal columns (n, k) spanning an intercept and ``covariates`` (n, c), and the columns that add nothing.

    Rank by QR with pivoting; a column counts when more than 1e-9 of its length is its own. The intercept is kept.
    """
    from scipy.linalg import qr

    n = len(covariates)
    one = np.full((n, 1), 1 / np.sqrt(n))
    rest = np.asarray(covariates, dtype=np.float64)
    length = np.linalg.norm(rest, axis=0)
    centred = rest - rest.mean(0)
    live = np.flatnonzero(np.linalg.norm(centred, axis=0) > 1e-9 * np.maximum(length, 1e-300))
    unit = centred[:, live] / np.linalg.norm(centred[:, live], axis=0)
    if not len(live):
        return one, list(range(rest.shape[1]))
    q, r, pivot = qr(unit, mode="economic", pivoting=True)
    kept = np.abs(np.diag(r)) > 1e-9
    used = {int(live[j]) for j in pivot[: len(kept)][kept]}
    return np.hstack([one, q[:, kept]]), [j for j in range(rest.shape[1]) if j not in used]


def fit(
    y: np.ndarray,
    x: np.ndarray,
    covariates: np.ndarray | None = None,
    own: tuple[np.ndarray, ...] = (),
    wanted: np.ndarray | None = None,
    block: int = 1024,
) -> Regressions:
    """Regress every column of ``y`` on every column of ``x``, one at a time, beside the covariates.

    Parameters
    ----------
    y : (n, D); NaN where a response is missing
    x : (n, p), finite
    covariates : (n, c), finite; an intercept is added
    own : further covariates (n, D) that differ from response to response; NaN leaves that row out of it
    wanted : (D, p) bool, pairs worth an answer; the others are NaN
    block : features at a time: memory beyond the results is about n x block numbers

    Raises
    ------
    ValueError
        Shapes differ, or x or covariates hold what is not a number.
    """
    y, given = np.asarray(y, dtype=np.float64), np.asarray(x)
    covariates = np.zeros((len(y), 0)) if covariates is None else np.asarray(covariates, dtype=np.float64)
    if not len(y) == len(given) == len(covariates) or any(z.shape != y.shape for z in own):
        raise ValueError(
            f"expected as many rows in y, x and covariates, and own covariates shaped like y; found {y.shape}, "
            f"{given.shape}, {covariates.shape}, {[z.shape for z in own]}."
        )
    for name, values in (("x", given), ("covariates", covariates)):
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"{name} should be finite everywhere; leave rows or columns with gaps out first.")
    q, dropped = basis(covariates)
    views = [_View.of(y[:, d], q, [z[:, d] for z in own]) for d in range(y.shape[1])]
    shape = (y.shape[1], given.shape[1])
    beta, se, t, sd = (np.full(shape, np.nan) for _ in range(4))
    constant = np.zeros(shape, dtype=bool)
    n = np.array([len(v.rows) for v in views])
    rank = np.array([v.rank for v in views])
    df = n - rank - 1
    residual = np.stack([v.residual for v in views])  # (D, n)
    mask = np.stack([v.mask for v in views])
    rss = (residual**2).sum(1)
    freedom = np.where(df > 0, df, np.nan)[:, None]
    explained = [np.stack([v.own[j] for v in views]) for j in range(len(own))]
    recomputed = 0
    room = np.empty((max((len(v.few) for v in views), default=0), min(block, given.shape[1])))
    for start in range(0, given.shape[1], block):
        at = slice(start, start + block)
        raw = given[:, at].astype(np.float64)
        whole = np.einsum("ij,ij->j", raw, raw)
        raw -= raw.mean(0)
        raw[:, np.einsum("ij,ij->j", raw, raw) <= ROUNDING * whole] = 0.0
        z = raw - q @ (q.T @ raw)
        scale, size = np.einsum("ij,ij->j", raw, raw), np.einsum("ij,ij->j", z, z)
        if (size < 0.01 * scale).any():
            z -= q @ (q.T @ z)  # what the first pass leaves behind is rounding, but not small beside these
        left, taken = mask @ (z * z), np.zeros((len(mask), z.shape[1]))
        total = left.copy()
        for d, view in enumerate(views):
            if len(view.few):
                part = view.reduce @ np.take(z, view.few, axis=0, out=room[: len(view.few), : z.shape[1]], mode="clip")
                np.einsum("ij,ij->j", part, part, out=taken[d])
        left -= taken
        for w in explained:
            left -= (w @ z) ** 2
        product = residual @ z
        ask = np.ones_like(left, dtype=bool) if wanted is None else wanted[:, at]
        ask = ask & ((df > 0) & (rss > 0))[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = product / left
            rest = rss[:, None] - slope * product
            unsure = ~((left > LOST * total) & (rest > LOST * rss[:, None]) & (total > LOST * LOST * scale))
            s = np.sqrt(rest / freedom)
            error = s / np.sqrt(left)
            statistic = slope / error
        for out, value in ((beta, slope), (se, error), (t, statistic), (sd, s)):
            value[~ask] = np.nan
            out[:, at] = value
        for d in map(int, np.flatnonzero((unsure & ask).any(1))):
            columns = np.flatnonzero(unsure[d] & ask[d])
            answers = views[d].again(raw[:, columns], covariates, int(df[d]))
            for out, value in zip((beta, se, t, sd), answers[:4], strict=True):
                out[d, start + columns] = value
            constant[d, start + columns] = answers[4]
            recomputed += len(columns)
    return Regressions(beta, se, t, n, rank, df, sd, constant, recomputed, dropped)


@dataclass(frozen=True)
class _View:
    """One response's rows: which, its residual, and what its missing rows take from the common basis.

    rows (n_d,), mask (n,) 0/1, residual (n,) zero elsewhere, few: the smaller of present and missing rows,
    reduce (k, len(few)): inv(L) Q_few', own: residual own covariates of length 1 (n,), zero elsewhere; rank.
    """

    rows: np.ndarray
    mask: np.ndarray
    residual: np.ndarray
    few: np.ndarray
    reduce: np.ndarray
    own: list[np.ndarray]
    rank: int

    @classmethod
    def of(cls, y: np.ndarray, q: np.ndarray, own: list[np.ndarray]) -> _View:
        there = np.isfinite(y)
        for z in own:
            there = there & np.isfinite(z)
        rows, absent = np.flatnonzero(there), np.flatnonzero(~there)
        mask = there.astype(np.float64)
        here = q[rows]
        few = absent if len(absent) < len(rows) else rows
        gram = np.eye(q.shape[1]) - q[absent].T @ q[absent] if len(absent) < len(rows) else here.T @ here
        values, vectors = np.linalg.eigh(gram)
        if len(absent) and (not len(values) or values[0] < 1e-4):  # squared values have lost digits: take the rows
            _, single, rotated = np.linalg.svd(here, full_matrices=False)
            kept = single > UNSUPPORTED
            inverse = rotated[kept] / single[kept, None]
        else:
            inverse = (vectors / np.sqrt(values)).T
        span = here @ inverse.T  # orthonormal over the rows
        residual = np.zeros(len(y))
        waiting: list[np.ndarray] = []
        residual[rows] = _rid(y[rows], span)
        rank = span.shape[1]
        for z in own:
            w = np.zeros(len(y))
            w[rows] = _rid(z[rows], span)
            for other in waiting:
                w -= other * (other @ w)
            length, before = np.linalg.norm(w), np.linalg.norm(z[rows] - z[rows].mean()) if len(rows) else 0.0
            w = w / length if length > UNSUPPORTED * max(before, 1e-300) else np.zeros(len(y))
            rank += bool(w.any())
            residual -= w * (w @ residual)
            waiting.append(w)
        before = np.linalg.norm(y[rows] - y[rows].mean()) if len(rows) else 0.0
        if np.linalg.norm(residual) <= 1e-12 * max(before, 1e-300):
            residual[:] = 0.0  # the covariates say all of it; what is left is rounding
        few = few if len(absent) else few[:0]
        return cls(rows, mask, residual, few, np.ascontiguousarray(inverse @ q[few].T), waiting, rank)

    def again(self, x: np.ndarray, covariates: np.ndarray, df: int) -> tuple[np.ndarray, ...]:
        """beta, se, t, residual sd and constant of columns ``x`` (n, m), from this response's rows alone."""
        span = basis(covariates[self.rows])[0]
        here = x[self.rows]
        raw = here - here.mean(0)
        raw[:, (raw * raw).sum(0) <= ROUNDING * (here * here).sum(0)] = 0.0
        z = _rid(raw, span)
        for w in (w[self.rows] for w in self.own):
            z = z - np.outer(w, w @ z)
        left = (z * z).sum(0)
        constant = left <= NOTHING * np.maximum((raw * raw).sum(0), 1e-300)
        r = self.residual[self.rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            beta = np.where(constant, np.nan, (r @ z) / left)
            s = np.sqrt(((r[:, None] - z * beta) ** 2).sum(0) / df)
            se = s / np.sqrt(left)
            return beta, se, beta / se, s, constant


def _rid(values: np.ndarray, span: np.ndarray) -> np.ndarray:
    """``values`` without what the orthonormal ``span`` says; twice, for the digits."""
    for _ in range(2):
        values = values - span @ (span.T @ values)
    return values
