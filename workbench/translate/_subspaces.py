"""Adaptations that work on directions, not on single genes: CORAL, domain components removed, consensus subspaces."""

from __future__ import annotations

import numpy as np
from scipy.stats import ks_2samp, rankdata

from workbench.translate.domains import Domain

COMPONENTS = 20  # directions of each domain; also no more than half its samples
APART = 0.75  # a component that tells the domains apart this well belongs to the domain
STEPS = np.linspace(0.0, 1.0, 11)
SEED = 20261122


def axes(values: np.ndarray, k: int) -> np.ndarray:
    """First ``k`` principal axes (k, g) of centred ``values`` (n, g), by the smaller Gram matrix."""
    n, g = values.shape
    if n <= g:
        root, left = np.linalg.eigh(values @ values.T)
        top = np.argsort(-root)[:k]
        v = left[:, top].T @ values
    else:
        root, right = np.linalg.eigh(values.T @ values)
        top = np.argsort(-root)[:k]
        v = right[:, top].T
    return v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12)


def coral(lines: np.ndarray, tumours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Basis (k, g) and the map (k, k) that gives the lines the tumours' covariance: Cs^-1/2 Ct^1/2 within the basis.

    Both covariances are shrunk by their mean eigenvalue, since tumours are few. Source: Sun, Feng, Saenko 2016, AAAI,
    arXiv:1511.05547.
    """
    k = min(COMPONENTS, len(tumours) - 1, len(lines) - 1)
    basis = axes(np.vstack([lines, tumours]), k)
    root = []
    for values, power in ((lines, -0.5), (tumours, 0.5)):
        z = values @ basis.T
        c = z.T @ z / len(z)
        e, v = np.linalg.eigh(c + np.eye(k) * np.trace(c) / k)
        root.append((v * e**power) @ v.T)
    return basis, root[0] @ root[1]


def domain_components(lines: Domain, tumours: Domain, z_lines: np.ndarray, z_tumours: np.ndarray) -> np.ndarray:
    """Principal axes (k, g) of both domains together along which they lie apart (AUROC beyond 0.75).

    The lines that count are those of the tumours' tissues, so that a tissue is not taken for the domain.
    """
    same = np.isin(lines.tissue, np.unique(tumours.tissue))
    ours = z_lines[same] if same.sum() >= 10 else z_lines
    pooled = np.vstack([ours, z_tumours])
    found = axes(pooled - pooled.mean(axis=0), min(COMPONENTS, len(pooled) - 1))
    is_tumour = np.arange(len(pooled)) >= len(ours)
    score = pooled @ found.T
    n1, n0 = is_tumour.sum(), (~is_tumour).sum()
    area = (rankdata(score, axis=0)[is_tumour].sum(axis=0) - n1 * (n1 + 1) / 2) / (n1 * n0)
    return found[np.abs(area - 0.5) >= APART - 0.5]


def consensus(lines: np.ndarray, tumours: np.ndarray) -> np.ndarray:
    """Orthonormal consensus directions (k, g) between the principal subspaces of two standardised domains.

    Principal vectors pair the directions of both domains by their angle; those no more alike than when genes are
    shuffled are left out; between the two of a pair, the point where both domains are spread most alike is taken
    (least Kolmogorov-Smirnov statistic). Source: PRECISE, Mourragui et al. 2019, Bioinformatics 35:i510.
    """
    q = max(2, min(COMPONENTS, len(tumours) // 2, len(lines) // 2))
    p, t = axes(lines, q), axes(tumours, q)
    u, cosine, vt = np.linalg.svd(p @ t.T)
    draw = np.random.default_rng(SEED)
    chance = [np.linalg.svd(p[:, draw.permutation(p.shape[1])] @ t.T, compute_uv=False)[0] for _ in range(20)]
    kept = max(1, int((cosine > np.quantile(chance, 0.95)).sum()))
    found = []
    for a, b, c in zip((u.T @ p)[:kept], (vt @ t)[:kept], cosine[:kept], strict=True):
        angle = np.arccos(np.clip(c, -1.0, 1.0))
        sine = max(np.sin(angle), 1e-9)
        between = [a if angle < 1e-6 else (np.sin((1 - s) * angle) * a + np.sin(s * angle) * b) / sine for s in STEPS]
        apart = [ks_2samp(lines @ d, tumours @ d, method="asymp").statistic for d in between]
        found.append(between[int(np.argmin(apart))])
    return np.linalg.qr(np.array(found).T)[0].T
