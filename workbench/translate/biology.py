"""Is the biology still there after adaptation? What was known before must be readable after.

Counted: the correlation structure among known genes and the most variable ones, in tumours and in lines of their
tissue; the order of the tumours in known programmes (proliferation, oestrogen receptor, immune cells, basal, stroma);
whether the lines still tell their tissue; and labels of the tumours, where they are given (a subtype). Reported and not
counted: whether lines of the tumours' tissue are their nearest, since standardising a cohort of one tissue takes away
by design what all of its tumours share.

Programmes: proliferation, the eleven genes of Nielsen et al. 2010, Clinical Cancer Research 16:5222; the others are
well-known markers of each.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.stats import spearmanr

from workbench.translate import adapt, shift
from workbench.translate.areas import SEED, auroc
from workbench.translate.domains import Domain, symbol

PROGRAMMES = {
    "proliferation": "BIRC5 CCNB1 CDC20 CEP55 MKI67 NDC80 NUF2 PTTG1 RRM2 TYMS UBE2C",
    "oestrogen receptor": "ESR1 PGR FOXA1 GATA3 XBP1 TFF1 TFF3 BCL2 AR CA12 AGR2",
    "immune": "CD2 CD3D CD3E CD8A GZMA PRF1 IL7R PTPRC CD74 HLA-DRA CD53 LCK CCL5 CXCL10 STAT1",
    "basal": "KRT5 KRT14 KRT17 EGFR FOXC1 CDH3 MIA ID4",
    "stroma": "COL1A1 COL1A2 COL3A1 FN1 SPARC POSTN FAP THY1 DCN LUM",
}
FEWEST = 3  # genes of a programme, samples of a label and fold
VARIABLE = 100
EACH = 25  # samples of a label at most: more cost time and change nothing
FOLDS = 5
KEPT = 0.8


def programme(domain: Domain, name: str, genes: np.ndarray | None = None) -> np.ndarray:
    """Columns of ``domain`` (or of its genes of numbers ``genes``) that belong to a programme."""
    wanted = {symbol(g) for g in PROGRAMMES[name].split()}
    index = np.arange(len(domain.genes)) if genes is None else genes
    return np.array([j for j, g in enumerate(index) if symbol(domain.genes[g]) in wanted], dtype=np.int64)


def score(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Mean z-score (n,) over the columns of a programme."""
    z = values[:, columns]
    return ((z - z.mean(axis=0)) / np.maximum(z.std(axis=0), 1e-9)).mean(axis=1)


def measure(
    method: str, lines: Domain, tumours: Domain, *, labels: np.ndarray | None = None, seed: int = 0
) -> pl.DataFrame:
    """What is kept: evidence, before, after, kept (1: all of it), counted.

    Parameters
    ----------
    labels : a known label of each tumour (m,), such as its subtype; never the response
    """
    fitted = adapt.fit(method, lines, tumours)
    x, y = fitted.lines(lines.values), fitted.tumours(tumours.values)
    same = np.isin(lines.tissue, np.unique(tumours.tissue))
    rows: list[tuple[str, float, float, float, bool]] = []
    groups = [("tumours", tumours.values, y)]
    if same.sum() >= shift.ENOUGH:
        groups.append(("lines of their tissue", lines.values[same], x[same]))
    for what, was, now in groups:
        columns = _watched(tumours, fitted.genes, was)
        alike = _structure(was[:, fitted.genes[columns]], now[:, columns])
        rows.append((f"gene correlations in {what}", 1.0, alike, alike, True))
    for name in PROGRAMMES:
        columns = programme(tumours, name, fitted.genes)
        if len(columns) >= FEWEST:
            order = _order(score(tumours.values, fitted.genes[columns]), score(y, columns))
            rows.append((f"order of tumours in {name}", 1.0, order, order, True))
    for what, was, now, known in (
        ("tissue of lines", lines.values, x, lines.tissue),
        ("labels of tumours", tumours.values, y, labels),
    ):
        if known is not None and (both := _told(was, now, np.asarray(known), seed)):
            first, second, chance = both
            rows.append((what, first, second, (second - chance) / (first - chance), True))
    if 0 < same.sum() < len(same):
        before, after = _nearest(lines.values, tumours.values, same), _nearest(x, y, same)
        rows.append(("lines of the tumours' tissue nearest", before, after, after / max(before, 1e-9), False))
    columns_of = {"evidence": pl.String, "before": pl.Float64, "after": pl.Float64, "kept": pl.Float64}
    return pl.DataFrame(rows, schema={**columns_of, "counted": pl.Boolean}, orient="row")


def _watched(tumours: Domain, genes: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Columns whose correlations are compared: genes of all programmes and the most variable ones."""
    known = [programme(tumours, name, genes) for name in PROGRAMMES]
    variable = np.argsort(-before[:, genes].var(axis=0), kind="stable")[:VARIABLE]
    return np.unique(np.concatenate([*known, variable]))


def _structure(before: np.ndarray, after: np.ndarray) -> float:
    """Pearson correlation between the entries of two correlation matrices; 0 where nothing varies any more."""
    alive = (before.std(axis=0) > 1e-9) & (after.std(axis=0) > 1e-9)
    if alive.sum() < FEWEST:
        return 0.0
    upper = np.triu_indices(int(alive.sum()), 1)
    a, b = (np.corrcoef(v[:, alive].T)[upper] for v in (before, after))
    found = np.corrcoef(a, b)[0, 1] if a.std() > 1e-9 and b.std() > 1e-9 else 0.0
    return float(found * alive.mean())


def _order(before: np.ndarray, after: np.ndarray) -> float:
    if before.std() < 1e-9 or after.std() < 1e-9:
        return 0.0
    return float(spearmanr(before, after).statistic)


def _told(before: np.ndarray, after: np.ndarray, known: np.ndarray, seed: int) -> tuple[float, float, float] | None:
    """Balanced accuracy of a label before and after, and of chance; None where it could not be told before."""
    names, count = np.unique(known.astype(str), return_counts=True)
    names = names[(count >= FOLDS * FEWEST) & (names != "")]
    if len(names) < 2:
        return None
    rng = np.random.default_rng([SEED, 8, seed])
    rows = np.sort(np.concatenate([rng.permutation(np.flatnonzero(known.astype(str) == n))[:EACH] for n in names]))
    truth = np.searchsorted(names, known[rows].astype(str))
    chance = 1 / len(names)
    first, second = (_accuracy(v[rows], truth, len(names), seed) for v in (before, after))
    return (first, second, chance) if first > chance + 0.5 * (1 - chance) * 0.2 else None


def _accuracy(values: np.ndarray, truth: np.ndarray, k: int, seed: int) -> float:
    rng = np.random.default_rng([SEED, 4, seed])
    part = np.empty(len(truth), dtype=np.int64)
    for c in range(k):
        index = rng.permutation(np.flatnonzero(truth == c))
        part[index] = np.arange(len(index)) % FOLDS
    said = np.empty(len(truth), dtype=np.int64)
    for fold in range(FOLDS):
        test = part == fold
        said[test] = shift.scores(values[~test], np.eye(k)[truth[~test]], values[test]).argmax(axis=1)
    return float(np.mean([(said[truth == c] == c).mean() for c in range(k)]))


def _nearest(lines: np.ndarray, tumours: np.ndarray, same: np.ndarray) -> float:
    """AUROC, averaged over tumours, of a line's correlation with the tumour for being of its tissue.

    Genes are centred on the lines, so that what all samples share does not count.
    """
    middle = lines.mean(axis=0)
    a, b = lines - middle, tumours - middle
    a, b = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12) for v in (a, b))
    return float(auroc(a @ b.T, same).mean())


def words(found: shift.Shift, kept: pl.DataFrame, enough: float = KEPT) -> str:
    """The verdict: "shift remains", "shift removed, biology kept" or "shift removed with the biology"."""
    if not found.gone:
        return "shift remains"
    counted = kept.filter(pl.col("counted"))
    lost = counted.filter(pl.col("kept") < enough)
    return "shift removed with the biology" if lost.height or not counted.height else "shift removed, biology kept"
