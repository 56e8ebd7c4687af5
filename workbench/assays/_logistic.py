"""Four-parameter logistic curves fitted by the hundred thousand, one compiled loop on one core.

    y(x) = top + (bottom - top) / (1 + 10 ** (hill * (ec50 - x)))       x, ec50 in log10 dose

For a given (ec50, hill) the best top and bottom within their bounds are a two-variable quadratic on a box and are
solved exactly (variable projection: Golub & Pereyra 1973, with Kaufman's Jacobian 1975), so the search is over two
numbers. It starts from the best points of a grid and runs Levenberg-Marquardt on (ec50, ln hill) between bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

LN10 = math.log(10.0)
ZERO_DOSE = -1e4  # stands for the log10 of dose 0: the response there is `top`, exactly
GRID_EC50, GRID_HILL = 16, 5  # hills 0.5, 1, 2, 4, 8
STARTS, STEPS = 3, 40  # searches from the best grid points, less those that lie beside an end already reached
NEAR_HILL = 0.75 * math.log(2.0)
# columns of `fit`'s answer
COLUMNS = (
    "top", "bottom", "hill", "log10_ec50", "rss", "tss", "log10_ic50", "auc", "emax",
    "se_top", "se_bottom", "se_hill", "se_log10_ec50", "se_log10_ic50", "se_auc", "df_residual", "at_bound", "rise",
)  # fmt: skip
AT_TOP, AT_BOTTOM, AT_HILL, AT_EC50 = 1, 2, 4, 8  # bits of "at_bound"
FLAGS = {"contract", "arcp", "nsz", "reassoc"}  # no nnan, ninf: infinities occur on purpose


def compiled(function: Callable[..., Any]) -> Any:
    """``function`` compiled, kept on disk where that is possible: beside this file, else in the user's cache.

    Where neither can be written (a read-only installation without a home), it is compiled anew in each process.
    """
    try:
        return numba.njit(cache=True, nogil=True, fastmath=FLAGS, error_model="numpy")(function)
    except RuntimeError:  # numba found no place for its cache
        return numba.njit(nogil=True, fastmath=FLAGS, error_model="numpy")(function)


@compiled
def _linear(n, s1, s2, sy, sys, lo_top, hi_top, lo_bottom, hi_bottom):
    """Best (top, bottom) in their box for sums of s, s*s, y and s*y; and what they take off the sum of y*y."""
    a11, a12, a22 = n - 2.0 * s1 + s2, s1 - s2, s2
    b1, b2 = sy - sys, sys
    det = a11 * a22 - a12 * a12
    if det > 1e-12 * a11 * a22:
        top, bottom = (a22 * b1 - a12 * b2) / det, (a11 * b2 - a12 * b1) / det
        if lo_top <= top <= hi_top and lo_bottom <= bottom <= hi_bottom:
            return (
                top,
                bottom,
                2.0 * (top * b1 + bottom * b2) - (a11 * top * top + 2.0 * a12 * top * bottom + a22 * bottom * bottom),
            )
    best, at, ab = -np.inf, lo_top, lo_bottom
    for edge in range(4):  # the quadratic is convex: its best point in the box lies on an edge
        if edge < 2:
            t = lo_top if edge == 0 else hi_top
            b = (b2 - a12 * t) / a22 if a22 > 1e-12 else t
            b = min(max(b, lo_bottom), hi_bottom)
        else:
            b = lo_bottom if edge == 2 else hi_bottom
            t = (b1 - a12 * b) / a11 if a11 > 1e-12 else b
            t = min(max(t, lo_top), hi_top)
        gain = 2.0 * (t * b1 + b * b2) - (a11 * t * t + 2.0 * a12 * t * b + a22 * b * b)
        if gain > best:
            best, at, ab = gain, t, b
    return at, ab, best


@compiled
def _grid(x, y, sy, bounds, low, high, start, power):
    """The best ec50 of each hill on the grid, best first, into ``start`` (GRID_HILL, 3): loss, ec50, ln hill."""
    n = x.shape[0]
    step = (high - low) / (GRID_EC50 - 1)
    for i in range(n):
        power[i] = math.exp(-0.5 * LN10 * (x[i] - low))
    grow = math.exp(0.5 * LN10 * step)
    hill = 0.5
    for k in range(GRID_HILL):
        if k:
            for i in range(n):
                power[i] *= power[i]
            grow *= grow
            hill *= 2.0
        best, where = np.inf, low
        rise = 1.0
        for j in range(GRID_EC50):
            s1 = 0.0
            s2 = 0.0
            sys = 0.0
            for i in range(n):
                s = 1.0 / (1.0 + power[i] * rise)
                s1 += s
                s2 += s * s
                sys += s * y[i]
            rise *= grow
            _, _, gain = _linear(n, s1, s2, sy, sys, bounds[0], bounds[1], bounds[2], bounds[3])
            if -gain < best:
                best, where = -gain, low + j * step
        start[k, 0], start[k, 1], start[k, 2] = best, where, math.log(hill)
    for k in range(1, GRID_HILL):  # insertion sort by loss
        for j in range(k, 0, -1):
            if start[j, 0] < start[j - 1, 0]:
                for c in range(3):
                    start[j, c], start[j - 1, c] = start[j - 1, c], start[j, c]


@compiled
def _loss(x, y, sy, e, lnh, bounds, s):
    """Sigmoid into ``s``; best top and bottom; residual sum of squares."""
    n = x.shape[0]
    slope = -LN10 * math.exp(lnh)
    s1 = 0.0
    s2 = 0.0
    sys = 0.0
    for i in range(n):
        v = 1.0 / (1.0 + math.exp(slope * (x[i] - e)))
        s[i] = v
        s1 += v
        s2 += v * v
        sys += v * y[i]
    top, bottom, _ = _linear(n, s1, s2, sy, sys, bounds[0], bounds[1], bounds[2], bounds[3])
    rss = 0.0
    for i in range(n):
        r = y[i] - top - (bottom - top) * s[i]
        rss += r * r
    return top, bottom, rss


@compiled
def _search(x, y, sy, e, lnh, bounds, s, trial):
    """Levenberg-Marquardt from (e, lnh); returns both, top, bottom and the residual sum of squares."""
    n = x.shape[0]
    lo_h, hi_h, lo_e, hi_e = math.log(bounds[4]), math.log(bounds[5]), bounds[6], bounds[7]
    e, lnh = min(max(e, lo_e), hi_e), min(max(lnh, lo_h), hi_h)
    top, bottom, rss = _loss(x, y, sy, e, lnh, bounds, s)
    damping = 1e-3
    for _ in range(STEPS):
        h = math.exp(lnh)
        fall = bottom - top
        # sums over the points: t = 1 - s and s are the columns of top and bottom, u = s (1 - s) and v = u (x - e) those
        # of ec50 and ln hill up to factors, r the residual
        tt = ts = ss = tu = tv = su = sv = uu = uv = vv = ru = rv = 0.0
        for i in range(n):
            c = s[i]
            t = 1.0 - c
            u = c * t
            v = u * (x[i] - e)
            r = y[i] - top - fall * c
            tt += t * t
            ts += u
            ss += c * c
            tu += t * u
            tv += t * v
            su += c * u
            sv += c * v
            uu += u * u
            uv += u * v
            vv += v * v
            ru += r * u
            rv += r * v
        free_top = bounds[0] < top < bounds[1]
        free_bottom = bounds[2] < bottom < bounds[3]
        if free_top and free_bottom:
            det = tt * ss - ts * ts
            if det > 1e-14 * tt * ss:
                pu, qu = (ss * tu - ts * su) / det, (tt * su - ts * tu) / det
                pv, qv = (ss * tv - ts * sv) / det, (tt * sv - ts * tv) / det
                uu -= pu * tu + qu * su
                uv -= pu * tv + qu * sv
                vv -= pv * tv + qv * sv
        elif free_top and tt > 0:
            uu -= tu * tu / tt
            uv -= tu * tv / tt
            vv -= tv * tv / tt
        elif free_bottom and ss > 0:
            uu -= su * su / ss
            uv -= su * sv / ss
            vv -= sv * sv / ss
        de, dh = -fall * h * LN10, fall * h * LN10
        hee, heh, hhh = uu * de * de, uv * de * dh, vv * dh * dh
        ge, gh = ru * de, rv * dh
        done = True
        for _retry in range(12):
            mee, mhh = hee * (1.0 + damping) + 1e-300, hhh * (1.0 + damping) + 1e-300
            det = mee * mhh - heh * heh
            fix_e = (e <= lo_e and ge < 0) or (e >= hi_e and ge > 0)
            fix_h = (lnh <= lo_h and gh < 0) or (lnh >= hi_h and gh > 0)
            if fix_e and fix_h:
                break
            if fix_e:
                pe, ph = 0.0, gh / mhh
            elif fix_h or not det > 1e-14 * mee * mhh:
                pe, ph = ge / mee, 0.0 if fix_h else gh / mhh
            else:
                pe, ph = (mhh * ge - heh * gh) / det, (mee * gh - heh * ge) / det
            new_e = min(max(e + min(max(pe, -2.0), 2.0), lo_e), hi_e)
            new_h = min(max(lnh + min(max(ph, -1.5), 1.5), lo_h), hi_h)
            if abs(new_e - e) < 1e-9 and abs(new_h - lnh) < 1e-9:
                break
            t_top, t_bottom, t_rss = _loss(x, y, sy, new_e, new_h, bounds, trial)
            if t_rss < rss:
                done = rss - t_rss < 1e-8 * rss
                e, lnh, top, bottom, rss = new_e, new_h, t_top, t_bottom, t_rss
                for i in range(n):
                    s[i] = trial[i]
                damping = max(damping * 0.3, 1e-9)
                break
            damping = min(damping * 10.0, 1e9)
        if done:
            break
    return e, lnh, top, bottom, rss


@compiled
def _inverse(a, free, out):
    """Inverse of the free rows and columns of the 4 x 4 matrix ``a`` into ``out`` (0 elsewhere); False: singular."""
    m = np.empty((4, 8))
    scale = np.empty(4)
    for i in range(4):
        scale[i] = 1.0 / math.sqrt(a[i, i]) if free[i] and a[i, i] > 0 else 0.0
        if free[i] and scale[i] == 0.0:
            return False
    for i in range(4):
        for j in range(4):
            m[i, j] = a[i, j] * scale[i] * scale[j]
            m[i, 4 + j] = 0.0
        if not free[i]:
            m[i, i] = 1.0
        m[i, 4 + i] = 1.0
    for k in range(4):  # symmetric positive definite once scaled: no pivoting
        pivot = m[k, k]
        if not pivot > 1e-12:
            return False
        for j in range(8):
            m[k, j] /= pivot
        for i in range(4):
            if i != k:
                f = m[i, k]
                for j in range(8):
                    m[i, j] -= f * m[k, j]
    for i in range(4):
        for j in range(4):
            out[i, j] = m[i, 4 + j] * scale[i] * scale[j]
    return True


@compiled
def _error(g, cov):
    """Standard error of a quantity with gradient ``g``: sqrt(g' cov g)."""
    total = 0.0
    for i in range(4):
        for j in range(4):
            total += g[i] * g[j] * cov[i, j]
    return math.sqrt(max(total, 0.0))


@compiled
def _describe(x, y, low, high, bounds, s, level, row):
    """IC, AUC, Emax and standard errors of the curve in ``row`` (columns as ``COLUMNS``)."""
    n = x.shape[0]
    top, bottom, h, e, rss = row[0], row[1], row[2], row[3], row[4]
    fall = bottom - top
    a, b = h * LN10 * (low - e), h * LN10 * (high - e)
    fa, fb = 1.0 / (1.0 + math.exp(-a)), 1.0 / (1.0 + math.exp(-b))
    row[8] = top + fall * fb
    wide = high > low
    # log(1 + exp(a)) without overflow: the integral of the sigmoid
    la = max(a, 0.0) + math.log1p(math.exp(-abs(a)))
    lb = max(b, 0.0) + math.log1p(math.exp(-abs(b)))
    width = h * LN10 * (high - low)
    mean = (lb - la) / width if wide else fa
    row[7] = top + fall * mean
    ratio = (top - level) / (level - bottom) if level != bottom else -1.0
    row[6] = e + math.log10(ratio) / h if ratio > 0 and fall < 0 else np.nan
    free = np.empty(4, np.bool_)
    free[0] = bounds[0] < top < bounds[1]
    free[1] = bounds[2] < bottom < bounds[3]
    free[2] = bounds[4] * (1 + 1e-9) < h < bounds[5] * (1 - 1e-9)
    free[3] = bounds[6] + 1e-9 < e < bounds[7] - 1e-9
    mask = 0
    used = 0
    for k in range(4):
        used += 1 if free[k] else 0
        fixed = bounds[2 * k] == bounds[2 * k + 1]
        mask += 0 if free[k] or fixed else 1 << k
    row[15], row[16] = n - used, mask
    if n - used < 1:
        return
    jj = np.zeros((4, 4))
    j = np.empty(4)
    for i in range(n):
        c = s[i]
        u = fall * c * (1.0 - c) * LN10
        j[0], j[1], j[2], j[3] = 1.0 - c, c, u * (x[i] - e), -u * h
        for p in range(4):
            for q in range(p + 1):
                jj[p, q] += j[p] * j[q]
    for p in range(4):
        for q in range(p):
            jj[q, p] = jj[p, q]
    cov = np.zeros((4, 4))
    if not _inverse(jj, free, cov):
        return
    variance = rss / (n - used)
    for p in range(4):
        for q in range(4):
            cov[p, q] *= variance
        if free[p]:
            row[9 + p] = math.sqrt(max(cov[p, p], 0.0))
    g = np.empty(4)
    if not np.isnan(row[6]):
        g[0] = 1.0 / ((top - level) * h * LN10)
        g[1] = 1.0 / ((level - bottom) * h * LN10)
        g[2] = -math.log10(ratio) / (h * h)
        g[3] = 1.0
        row[13] = _error(g, cov)
    if wide:
        g[0], g[1] = 1.0 - mean, mean
        g[2] = fall * ((fb * (high - e) - fa * (low - e)) * LN10 / width - mean / h)
        g[3] = -fall * (fb - fa) / (high - low)
        row[14] = _error(g, cov)


@compiled
def fit(x, y, offsets, bounds, level, out):
    """Fit curve i to points ``offsets[i]:offsets[i + 1]``, sorted by dose, into row i of ``out``.

    Parameters
    ----------
    x : (points,) log10 dose, ZERO_DOSE where the dose is 0
    y : (points,) response
    offsets : (curves + 1,) int64
    bounds : (8,) low and high of top, bottom, hill, and how far log10 ec50 may lie below and above the tested doses
    level : the response whose dose is the IC (0.5)
    out : (curves, len(COLUMNS)), written; NaN where there is no answer
    """
    longest = 1
    for i in range(offsets.shape[0] - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    s, trial = np.empty(longest), np.empty(longest)
    start, ends = np.empty((GRID_HILL, 3)), np.empty((STARTS, 2))
    limits = bounds.copy()
    for i in range(offsets.shape[0] - 1):
        xs, ys, row = x[offsets[i] : offsets[i + 1]], y[offsets[i] : offsets[i + 1]], out[i]
        n = xs.shape[0]
        for c in range(row.shape[0]):
            row[c] = np.nan
        first = 0
        while first < n - 1 and xs[first] <= ZERO_DOSE:
            first += 1
        low, high = xs[first], xs[n - 1]
        limits[6], limits[7] = low + bounds[6], high + bounds[7]
        sy = 0.0
        for k in range(n):
            sy += ys[k]
        tss = 0.0
        for k in range(n):
            tss += (ys[k] - sy / n) ** 2
        margin = 0.1 * (high - low)
        _grid(xs, ys, sy, limits, low - margin, high + margin, start, trial)
        best = np.inf
        near = (high - low + 2 * margin) / (GRID_EC50 - 1)
        searches = 0
        for k in range(GRID_HILL):
            known = False
            for j in range(searches):
                known = known or (abs(start[k, 1] - ends[j, 0]) <= near and abs(start[k, 2] - ends[j, 1]) < NEAR_HILL)
            if known or searches == STARTS:
                continue
            e, lnh, top, bottom, rss = _search(xs, ys, sy, start[k, 1], start[k, 2], limits, s, trial)
            ends[searches, 0], ends[searches, 1] = e, lnh
            searches += 1
            if rss < best:
                best = rss
                row[0], row[1], row[2], row[3], row[4] = top, bottom, math.exp(lnh), e, rss
        row[5] = tss
        _loss(xs, ys, sy, row[3], math.log(row[2]), limits, s)
        _describe(xs, ys, low, high, limits, s, level, row)
        row[17] = _rise(xs, ys)


@compiled
def _rise(x, y):
    """The largest rise from the mean response at a dose to that at a higher dose."""
    lowest, rise, k = np.inf, 0.0, 0
    while k < x.shape[0]:
        total, count, here = 0.0, 0, x[k]
        while k < x.shape[0] and x[k] == here:
            total += y[k]
            count += 1
            k += 1
        mean = total / count
        lowest = min(lowest, mean)
        rise = max(rise, mean - lowest)
    return rise
