"""Drug predictors learnt on cell lines, applied to tumours: what they say, how well, and whether anyone may read it.

    sensitivity_sd = -(m_d + x_s . b_d)      ridge per drug on adapted expression, penalty by leave-one-out on the lines

``fit`` sees the lines' responses and the features of both; the patients' study is sealed in it. ``judge`` then opens
the patients' responses once, for all adaptations and drugs together. ``predict`` abstains unless the gate is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from workbench.nn import kernel_ridge
from workbench.predictors._pairs import matrix
from workbench.text import nearest
from workbench.translate import adapt, areas, gate
from workbench.translate.domains import Matched, match

REGIMEN = "regimen (mean)"
STAND_INS = {  # drugs of the same class where a screen lacks the one given, or beside it
    "Paclitaxel": ("Paclitaxel", "Docetaxel"),
    "Doxorubicin": ("Doxorubicin", "Epirubicin"),
    "Cyclophosphamide": ("Cyclophosphamide",),
    "Carboplatin": ("Carboplatin", "Cisplatin", "Oxaliplatin"),
    "Veliparib": ("Veliparib", "Olaparib", "Niraparib", "Talazoparib", "Rucaparib"),
}
FEWEST_LINES = 30
NOT_JUDGED = "not judged yet: no response of these patients was compared with the predictions"


def drugs_of(tumours, lines) -> dict[str, str]:
    """Drugs of the screen ``lines`` that say something about what the patients got -> why.

    Read from ``provenance["regimen"]`` of the patients' study: drug -> who got it.

    Raises
    ------
    ValueError
        The study tells no regimen, or the screen has none of its drugs.
    """
    regimen = tumours.provenance.get("regimen")
    if not isinstance(regimen, dict) or not regimen:
        raise ValueError(f"study {tumours.name!r} does not tell what the patients got. Give the drugs by name.")
    known = set(lines.rows["treatment"].cast(pl.String))
    found: dict[str, str] = {}
    for drug, who in regimen.items():
        for other in STAND_INS.get(drug, (drug,)):
            if other in known:
                found[other] = f"given to {who}" if other == drug else f"same class as {drug} ({who})"
    if not found:
        raise ValueError(f"study {lines.name!r} has none of the drugs the patients got: {', '.join(regimen)}.")
    return dict(sorted(found.items(), key=lambda kv: ("every" not in kv[1], "class" in kv[1], kv[0])))


@dataclass
class Transfer:
    """A fitted transfer. ``sensitivity`` (patients, tests; larger: more sensitive), ``tests``: (method, drug) of each.

    ``lines_score`` (tests,): leave-one-out Pearson correlation on the lines themselves after the adaptation, the sign
    that a predictor had something to carry over.
    """

    study: str
    screen: str
    patients: list[str]
    tests: list[tuple[str, str]]
    sensitivity: np.ndarray
    lines_score: np.ndarray
    roles: dict[str, str]
    genes: int
    verdict: pl.DataFrame | None = None
    gate: gate.Gate | None = None
    seed: int = 0
    shown: set[int] = field(default_factory=set)

    def judge(self, response: dict[str, bool], *, draws: int = 2000, seed: int | None = None) -> pl.DataFrame:
        """Compare with the response of the patients, once; returns and keeps the verdict, one row a method and drug.

        Columns: method, drug, role, patients, responders, lines_pearson, auroc, low, high (95 %), p (beats chance),
        corrected (over all rows), either_way (differs from chance, corrected), gate ("open" or why not).
        """
        seed = self.seed if seed is None else seed
        rows = np.array([i for i, name in enumerate(self.patients) if name in response], dtype=np.int64)
        truth = np.array([bool(response[self.patients[i]]) for i in rows])
        found = areas.judge(self.sensitivity[rows], truth, draws=draws, permutations=draws, seed=seed)
        self.gate = gate.decide(self.sensitivity[rows], truth, draws=draws, seed=seed)
        self.shown = self.gate.open
        said = {c.score: c for c in self.gate.confirmed}
        self.verdict = pl.DataFrame(
            {
                "method": [m for m, _ in self.tests],
                "drug": [d for _, d in self.tests],
                "role": [self.roles.get(d, "mean over the drugs every patient got") for _, d in self.tests],
                "patients": len(truth),
                "responders": int(truth.sum()),
                "lines_pearson": self.lines_score,
                "auroc": found.value,
                "low": found.low,
                "high": found.high,
                "p": found.p,
                "corrected": found.corrected,
                "either_way": found.either_way,
                "gate": [
                    "open" if j in self.shown else ("chosen, not confirmed" if j in said else "not chosen")
                    for j in range(len(self.tests))
                ],
            }
        )
        return self.verdict

    def why(self, test: int) -> str | None:
        """Why the prediction of a test is not shown; None where it is."""
        if self.gate is None:
            return NOT_JUDGED
        if test in self.shown:
            return None
        return self.gate.why or "another method or drug was confirmed, this one was not"

    def predict(self) -> pl.DataFrame:
        """subject, treatment, method, predicted (minus ln(uM); null where abstained), abstained (the reason)."""
        frames = []
        for j, (method, drug) in enumerate(self.tests):
            why = self.why(j)
            frames.append(
                pl.DataFrame(
                    {
                        "subject": self.patients,
                        "treatment": drug,
                        "method": method,
                        "predicted": self.sensitivity[:, j] if why is None else [None] * len(self.patients),
                        "abstained": [why] * len(self.patients),
                    },
                    schema={
                        **dict.fromkeys(("subject", "treatment", "method"), pl.String),
                        "predicted": pl.Float64,
                        "abstained": pl.String,
                    },
                )
            )
        return pl.concat(frames)


def check_drugs(lines, drugs: Iterable[str], endpoint: str = "ln_ic50") -> None:
    """Raises a KeyError that names the nearest if the study ``lines`` has no response to one of ``drugs``."""
    known = lines.outcomes.filter(pl.col("endpoint") == endpoint)["treatment"].cast(pl.String).unique().to_list()
    for drug in drugs:
        if drug not in known:
            raise KeyError(f"study {lines.name!r} has no {endpoint} of {drug!r}.{nearest(drug, known)}")


def fit(
    lines,
    tumours,
    *,
    drugs: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    endpoint: str = "ln_ic50",
    modality: str = "expression",
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> Transfer:
    """Fit every method and drug on the study ``lines``, apply it to the study ``tumours``, whose outcomes stay sealed.

    Raises
    ------
    ValueError
        No shared genes, no such endpoint, a drug with fewer than 30 lines, or no drug known to be given.
    KeyError
        No such drug or method; the message names the nearest.
    """
    sealed = tumours.sealed()
    roles = drugs_of(sealed, lines) if drugs is None else dict.fromkeys(drugs, "asked for")
    pairs = lines.outcomes.filter(pl.col("endpoint") == endpoint).with_columns(pl.col("treatment").cast(pl.String))
    check_drugs(lines, roles, endpoint)
    matched = match(lines, sealed, modality)
    return _fitted(matched, pairs, roles, methods, lines.name, tumours.name, sealed, seed, progress)


def _fitted(matched: Matched, pairs, roles, methods, screen, study, sealed, seed, progress) -> Transfer:
    drugs, chosen = list(roles), list(methods or adapt.METHODS)
    there = pl.col("subject").cast(pl.String).is_in(matched.lines.names)
    y = matrix(pairs.filter(pl.col("treatment").is_in(drugs), there), matched.lines.names, drugs)
    if (few := np.isfinite(y).sum(axis=0)).min() < FEWEST_LINES:
        worst = drugs[int(few.argmin())]
        raise ValueError(f"{worst}: expected at least {FEWEST_LINES} lines with a response, found {int(few.min())}.")
    to_all = [j for j, d in enumerate(drugs) if _reaches_all(roles[d])]
    tests, columns, lines_score = [], [], []
    for i, method in enumerate(chosen):
        if progress is not None:
            progress(i / len(chosen), method)
        fitted = adapt.fit(method, matched.lines, matched.tumours)
        x, z = fitted.lines(matched.lines.values), fitted.tumours(matched.tumours.values)
        told, left_out = carry(x, z, y)
        tests += [(method, d) for d in drugs]
        columns += list(-told.T)
        own = [pearson(left_out[:, j], y[:, j]) for j in range(len(drugs))]
        lines_score += own
        if len(to_all) > 1:
            each = told[:, to_all]
            columns.append(-((each - each.mean(axis=0)) / np.maximum(each.std(axis=0), 1e-9)).mean(axis=1))
            tests.append((method, REGIMEN))
            lines_score.append(float(np.mean([own[j] for j in to_all])))
    return Transfer(
        study=study,
        screen=screen,
        patients=matched.tumours.names,
        tests=tests,
        sensitivity=np.array(columns).T,
        lines_score=np.array(lines_score),
        roles=roles,
        genes=len(matched.lines.genes),
        seed=seed,
    )


def _reaches_all(role: str) -> bool:
    """Was the drug, or the one it stands in for, given to every patient?"""
    return "every patient" in role


def carry(x: np.ndarray, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (m, d) for ``z`` (m, g) of ridges learnt on ``x`` (n, g), and left-out ones (n, d) of the lines.

    Parameters
    ----------
    y : (n, d), NaN where not measured
    """
    mean, sd = x.mean(axis=0), x.std(axis=0)
    alive = sd > 1e-9
    a, b = (x[:, alive] - mean[alive]) / sd[alive], (z[:, alive] - mean[alive]) / sd[alive]
    g = max(int(alive.sum()), 1)
    fitted = kernel_ridge.fit(a @ a.T / g, y)
    return fitted.intercept + b @ (a.T @ fitted.dual) / g, fitted.left_out


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation over the places where both are numbers; 0 where there are none or nothing varies."""
    there = np.isfinite(a) & np.isfinite(b)
    if there.sum() < 3 or a[there].std() < 1e-9 or b[there].std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a[there], b[there])[0, 1])
