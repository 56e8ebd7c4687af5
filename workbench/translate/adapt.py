"""Domain adaptation: what is done to lines and tumours before a predictor learnt on lines is applied to tumours.

Every method is fitted on the features of both domains and on the tissue of the samples; no response of a line or of a
patient is passed in. It returns ``Adapted``, whose maps also take samples that it was not fitted on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from workbench.text import nearest
from workbench.translate import _subspaces
from workbench.translate.domains import Domain

SMALL = 1e-9
GRID = np.linspace(0.0, 1.0, 41)
ANCHORS = 300  # genes against which the profiles of correlation are compared
KEPT = 1 / 3  # share of genes with the best conserved correlation


@dataclass(frozen=True)
class Adapted:
    """Maps of values (n, g) of each domain to comparable values (n, k), and the numbers (k,) of the genes these are."""

    lines: Callable[[np.ndarray], np.ndarray]
    tumours: Callable[[np.ndarray], np.ndarray]
    genes: np.ndarray


Method = Callable[[Domain, Domain], Adapted]


def fit(method: str, lines: Domain, tumours: Domain) -> Adapted:
    """Fit ``method`` (a key of METHODS) on two domains over the same genes; KeyError names the nearest."""
    if method not in METHODS:
        raise KeyError(f"no adaptation {method!r}.{nearest(method, METHODS)} There are: {', '.join(METHODS)}.")
    return METHODS[method](lines, tumours)


def _all(domain: Domain) -> np.ndarray:
    return np.arange(len(domain.genes))


def _standard(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    mean, sd = values.mean(axis=0), np.maximum(values.std(axis=0), SMALL)
    flat = values.std(axis=0) < SMALL
    return lambda x: np.where(flat, 0.0, (x - mean) / sd)


def none(lines: Domain, tumours: Domain) -> Adapted:
    """The values as they are."""
    return Adapted(lambda x: x, lambda x: x, _all(lines))


def standardise(lines: Domain, tumours: Domain) -> Adapted:
    """Every gene to mean 0 and sd 1 within its domain: the floor that any other method has to beat."""
    return Adapted(_standard(lines.values), _standard(tumours.values), _all(lines))


def quantile(lines: Domain, tumours: Domain) -> Adapted:
    """Every gene of a tumour to the line value of the same rank. Source: Franks et al. 2018, Bioinformatics 34:1868."""
    to, of = np.quantile(lines.values, GRID, axis=0), np.quantile(tumours.values, GRID, axis=0)

    def mapped(x: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(x[:, j], of[:, j], to[:, j]) for j in range(x.shape[1])], axis=1)

    return Adapted(lambda x: x, mapped, _all(lines))


def combat(lines: Domain, tumours: Domain) -> Adapted:
    """Location and scale of the tumours moved to those of lines of the same tissue, shrunk over genes.

    ComBat (Johnson, Li, Rabinovic 2007, Biostatistics 8:118) with the lines as reference batch and tissue as covariate:
    x = a + tissue + shift + scale * e; shift gets a normal and scale an inverse gamma prior fitted over genes. A tissue
    that no line has counts as the lines' average.
    """
    level = {t: lines.values[lines.tissue == t].mean(axis=0) for t in np.unique(lines.tissue)}
    average = lines.values.mean(axis=0)
    own = np.stack([level[t] for t in lines.tissue])
    sd = np.maximum((lines.values - own).std(axis=0), SMALL)
    expected = np.mean([level.get(t, average) for t in tumours.tissue], axis=0)
    z = (tumours.values - expected) / sd
    n = len(z)
    shift, scale = _shrunk(z.mean(axis=0), z.var(axis=0, ddof=1) if n > 1 else np.ones(z.shape[1]), z, n)
    return Adapted(lambda x: x, lambda x: ((x - expected) / sd - shift) / np.sqrt(scale) * sd + expected, _all(lines))


def _shrunk(mean: np.ndarray, var: np.ndarray, z: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Posterior shift and variance (g,) under priors fitted by moments over genes; iterated to agreement."""
    prior_mean, prior_var = mean.mean(), max(mean.var(), SMALL)
    m, s2 = var.mean(), max(var.var(), SMALL)
    shape, rate = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    shift, scale = mean, np.maximum(var, SMALL)
    for _ in range(100):
        new = (n * prior_var * mean + scale * prior_mean) / (n * prior_var + scale)
        squares = ((z - new) ** 2).sum(axis=0)
        wider = (rate + 0.5 * squares) / (n / 2 + shape - 1)
        done = max(np.abs(new - shift).max(), np.abs(wider - scale).max()) < 1e-4
        shift, scale = new, wider
        if done:
            break
    return shift, scale


def coral(lines: Domain, tumours: Domain) -> Adapted:
    """Standardised in each domain, then the lines given the tumours' covariance along the main directions."""
    a, b = _standard(lines.values), _standard(tumours.values)
    basis, move = _subspaces.coral(a(lines.values), b(tumours.values))

    def moved(x: np.ndarray) -> np.ndarray:
        z = a(x)
        along = z @ basis.T
        return z + (along @ move - along) @ basis

    return Adapted(moved, b, _all(lines))


def without_domain_components(lines: Domain, tumours: Domain) -> Adapted:
    """Standardised over both domains together, without the main directions along which they lie apart."""
    both = _standard(np.vstack([lines.values, tumours.values]))
    drop = _subspaces.domain_components(lines, tumours, both(lines.values), both(tumours.values))

    def cleared(x: np.ndarray) -> np.ndarray:
        z = both(x)
        return z - (z @ drop.T) @ drop

    return Adapted(cleared, cleared, _all(lines))


def consensus(lines: Domain, tumours: Domain) -> Adapted:
    """Standardised in each domain, then only what lies along the directions both domains vary in (as PRECISE)."""
    a, b = _standard(lines.values), _standard(tumours.values)
    kept = _subspaces.consensus(a(lines.values), b(tumours.values))
    return Adapted(lambda x: (a(x) @ kept.T) @ kept, lambda x: (b(x) @ kept.T) @ kept, _all(lines))


def conserved_genes(lines: Domain, tumours: Domain) -> Adapted:
    """Standardised in each domain, only the third of genes whose correlations with other genes are the most alike.

    Source: integrative correlation, Parmigiani et al. 2004, Clinical Cancer Research 10:2922.
    """
    a, b = _standard(lines.values), _standard(tumours.values)
    x, y = a(lines.values), b(tumours.values)
    anchor = np.argsort(-tumours.values.var(axis=0), kind="stable")[:ANCHORS]
    one, two = x.T @ x[:, anchor] / len(x), y.T @ y[:, anchor] / len(y)
    one, two = (c - c.mean(axis=1, keepdims=True) for c in (one, two))
    alike = (one * two).sum(axis=1) / np.maximum(np.sqrt((one**2).sum(axis=1) * (two**2).sum(axis=1)), SMALL)
    kept = np.sort(np.argsort(-alike, kind="stable")[: max(int(len(alike) * KEPT), 2)])
    return Adapted(lambda v: a(v)[:, kept], lambda v: b(v)[:, kept], kept)


METHODS: dict[str, Method] = {
    "none": none,
    "per-domain standardisation": standardise,
    "quantile matching": quantile,
    "ComBat with tissue": combat,
    "CORAL": coral,
    "domain components removed": without_domain_components,
    "consensus subspaces": consensus,
    "conserved genes": conserved_genes,
}
