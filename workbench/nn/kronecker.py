"""Ridge regression on a product of two kernels, over a grid of which any cells may be missing.

    Y = m + F + noise,   cov F = A x B (Kronecker),   F* = A* alpha B*',   (A x B + a I) vec(alpha) = vec(Y - m)

On a whole grid alpha comes from the eigenvectors of A and B (Van Loan 2000, J. Comput. Appl. Math. 123:85-100); where
cells are missing, from conjugate gradients over those that are there, with the same matrix.
"""

from __future__ import annotations

import numpy as np

TOLERANCE = 1e-7
STEPS = 1000


def solve(a: np.ndarray, b: np.ndarray, targets: np.ndarray, noise: float) -> np.ndarray:
    """Dual weights alpha (n, k), zero at missing cells.

    Parameters
    ----------
    a, b : kernels (n, n) and (k, k) of rows and columns
    targets : (n, k), centred, NaN where there is no value
    noise : variance of the noise, in units of the kernel

    Raises
    ------
    numpy.linalg.LinAlgError
        The equations were not solved within ``STEPS`` steps.
    """
    there = np.isfinite(targets)
    y = np.where(there, targets, 0.0)
    if there.all():
        wa, va = np.linalg.eigh(a)
        wb, vb = np.linalg.eigh(b)
        return va @ ((va.T @ y @ vb) / (np.outer(wa, wb) + noise)) @ vb.T
    alpha = np.zeros_like(y)
    rest, way = y.copy(), y.copy()
    size = first = float((rest * rest).sum())
    for _ in range(STEPS):
        if size <= TOLERANCE**2 * first:
            return alpha
        image = there * (a @ way @ b) + noise * way
        step = size / float((way * image).sum())
        alpha += step * way
        rest -= step * image
        size, before = float((rest * rest).sum()), size
        way = rest + size / before * way
    raise np.linalg.LinAlgError(
        f"a grid of {y.shape} with {int((~there).sum())} missing cells was not solved in {STEPS} steps "
        f"(noise {noise:g}); a kernel may hold something that is not a number, or the noise is too small."
    )
