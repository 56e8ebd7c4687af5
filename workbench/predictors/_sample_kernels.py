"""Similarities of samples, one kernel per kind of measurement, learnt on training samples alone.

    ranks       exp(-|r - r'| / (4 m)),  exp(-|r - r'| / m)    r: standardised ranks of the genes within a sample
    expression  exp(-|z - z'|^2 / m^2),  <z, z'>               z: standardised expression
    copies      exp(-|c - c'| / m)                             c: standardised copy numbers
    mutations   exp(-|u - u'|^2 / m^2)                         u: standardised mutations
    events      Jaccard index of the driver events seen in at least two training samples
    context     number of facts shared: tissue, subtype, TCGA class, microsatellites

m: median distance of training samples. Each kernel is centred on the training samples and scaled to a mean diagonal
of 1. A sample without the measurement is 0 there, as an average one: that kernel then says nothing of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from workbench import modalities

KINDS = {  # of each modality
    "expression": ("ranks, broad", "ranks, narrow", "expression, Gaussian", "expression, linear"),
    "copy_number": ("copies",),
    "mutation": ("mutations",),
    "driver_events": ("events",),
}
CONTEXT = "context"
FACTS = ("tissue", "subtissue", "tcga", "msi")
FEWEST = 2  # training samples that an event needs
CARRIERS = {"expression": 1, "driver_events": 6, "mutation": 10}  # that a feature needs for an effect of its own


class SampleKernels:
    """Fit with ``learn``; then ``of`` gives every kernel between what ``read`` gives and the training samples."""

    def __init__(self, names: list[str]) -> None:
        self.names = list(names)  # of modalities
        self.subjects: list[str] = []
        self.columns: dict[str, list[str]] = {}
        self.facts: dict[str, list[str]] = {}
        self.state: dict[str, np.ndarray] = {}

    @property
    def kinds(self) -> list[str]:
        """The kernels there are, in a fixed order."""
        return [k for m in self.names for k in KINDS[m]] + ([CONTEXT] if self.facts else [])

    # ---- fitting --------------------------------------------------------------------------------------------------

    def learn(self, study, endpoint: str, subjects: list[str]) -> dict[str, np.ndarray]:
        """Learn from the training ``subjects``; returns {kernel: (n, n)} among them."""
        self.subjects = list(subjects)
        for m in self.names:
            block = modalities.read(study, m, endpoint=endpoint)
            values, there = block.rows(subjects)
            if not there.any():
                raise ValueError(f"no training subject has modality {m!r}; leave it out of the predictor's modalities.")
            if m == "driver_events":
                block = block.only(np.flatnonzero((values[there] > 0).sum(0) >= FEWEST))
                values = block.rows(subjects)[0]
            self.columns[m] = block.features
            whole = m != "expression" and bool(np.isin(values, np.arange(-128, 128)).all())
            self.state |= {f"{m}.values": values.astype(np.int8) if whole else values, f"{m}.there": there}
            self._scale(m, m, values, there)
            if m == "expression":
                self._scale("ranks", m, self._ranks(values), there)
        told = _facts(study, subjects)
        self.facts = {f: sorted({v for v in told[f] if v is not None}) for f in told if f in FACTS}
        self.facts = {f: known for f, known in self.facts.items() if len(known) > 1}
        if self.facts:
            self.state |= {"context.values": self._context(told), "context.there": np.ones(len(subjects), dtype=bool)}
        return self._kernels(None, None, learning=True)

    def _scale(self, key: str, m: str, values: np.ndarray, there: np.ndarray) -> None:
        """Mean and inverse sd of the training samples that have the modality; what never varies is silenced."""
        mine = values[there].astype(np.float64)
        mean = np.zeros(mine.shape[1]) if not len(mine) else _mean(mine)
        sd = np.sqrt(_mean((mine - mean) ** 2))
        inverse = np.where(sd > 1e-6, 1.0 / np.maximum(sd, 1e-6), 0.0)
        self.state |= {f"{key}.mean": mean.astype(np.float32), f"{key}.inverse": inverse.astype(np.float32)}

    # ---- applying -------------------------------------------------------------------------------------------------

    def read(
        self, study, subjects: list[str], without: tuple[str, ...] = ()
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """What the study measured of these subjects: {modality: (n, f)} and {modality: is it there? (n,)}."""
        raw: dict[str, np.ndarray] = {}
        there: dict[str, np.ndarray] = {}
        for m in self.names:
            there[m] = np.zeros(len(subjects), dtype=bool)
            raw[m] = np.zeros((len(subjects), len(self.columns[m])))
            if m in study.modalities and m not in without:
                block = modalities.read(study, m, columns=self.columns[m])
                if block.features != self.columns[m]:
                    raise ValueError(
                        f"{m!r} has other columns than the predictor was fitted on; use the study of its run."
                    )
                raw[m], there[m] = block.rows(subjects)
        if self.facts:
            raw[CONTEXT] = self._context(_facts(study, subjects))
            there[CONTEXT] = np.ones(len(subjects), dtype=bool)
        return raw, there

    def known(self, there: dict[str, np.ndarray]) -> np.ndarray:
        """Which samples have any modality."""
        return np.asarray(np.stack([there[m] for m in self.names], axis=1).any(1))

    def of(self, raw: dict[str, np.ndarray], there: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """{kernel: (samples, n)} of what ``read`` gave to the training samples."""
        return self._kernels(raw, there)

    def markers(self) -> list[tuple[str, int]]:
        """(modality, column) of every feature that may have an effect of its own: carried by enough samples."""
        return [
            (m, int(j))
            for m, fewest in CARRIERS.items()
            if m in self.names
            for j in np.flatnonzero((self.state[f"{m}.values"] != 0).sum(0) >= fewest)
        ]

    def features(
        self, markers: list[tuple[str, int]], raw: dict[str, np.ndarray], there: dict[str, np.ndarray]
    ) -> np.ndarray:
        """Those features in standard deviations, 0 where not measured: (samples, markers)."""
        rows = len(next(iter(raw.values())))
        out = np.zeros((rows, len(markers)))
        for m in dict.fromkeys(m for m, _ in markers):
            at = [i for i, (name, _) in enumerate(markers) if name == m]
            columns = [markers[i][1] for i in at]
            out[:, at] = self._standard(m, raw[m], columns) * there[m][:, None]
        return out

    def training(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The training samples as ``read`` would give them."""
        keys = [*self.names, *([CONTEXT] if self.facts else [])]
        return {k: self.state[f"{k}.values"] for k in keys}, {k: self.state[f"{k}.there"] for k in keys}

    def _kernels(
        self, raw: dict[str, np.ndarray] | None, there: dict[str, np.ndarray] | None, learning: bool = False
    ) -> dict[str, np.ndarray]:
        """Every kernel of the given samples (None: the training samples) to the training samples."""
        out: dict[str, np.ndarray] = {}
        for m in [*self.names, *([CONTEXT] if self.facts else [])]:
            own, mine = self.state[f"{m}.values"], self.state[f"{m}.there"]
            new, here = (own, mine) if raw is None or there is None else (raw[m], there[m])
            for kind, plain in self._plain(m, new, own, mine, learning).items():
                if learning:
                    self._learn_centre(kind, plain, mine)
                centred = plain - plain[:, mine].mean(1, keepdims=True) - self.state[f"{kind}.row"]
                centred = (centred + self.state[f"{kind}.all"][0]) * self.state[f"{kind}.all"][1]
                out[kind] = centred * here[:, None] * mine[None, :]
        return out

    def _plain(self, m: str, new, own, mine: np.ndarray, learning: bool) -> dict[str, np.ndarray]:
        """The kernels of one modality before they are centred."""
        if m == CONTEXT:
            return {CONTEXT: new @ own.T}
        if m == "driver_events":
            a, b = (np.where(v > 0, 1.0, 0.0) for v in (new, own))
            both = a @ b.T
            either = a.sum(1)[:, None] + b.sum(1)[None, :] - both
            return {"events": np.where(either > 0, both / np.maximum(either, 1.0), 0.0)}
        z, z_own = (self._standard(m, v) for v in (new, own))
        d = self._distance(m, z, z_own, mine, learning)
        if m == "copy_number":
            return {"copies": np.exp(-d)}
        if m == "mutation":
            return {"mutations": np.exp(-(d**2))}
        r, r_own = (self._standard("ranks", self._ranks(v)) for v in (new, own))
        by_rank = self._distance("ranks", r, r_own, mine, learning)
        return {
            "ranks, broad": np.exp(-by_rank / 4.0),
            "ranks, narrow": np.exp(-by_rank),
            "expression, Gaussian": np.exp(-(d**2)),
            "expression, linear": z @ z_own.T,
        }

    def _ranks(self, values: np.ndarray) -> np.ndarray:
        """Rank of each gene within its sample, 0 to 1; a missing value stands at the gene's training mean."""
        from scipy.stats import rankdata

        filled = np.where(np.isnan(values), self.state["expression.mean"], values)
        return rankdata(filled, axis=1) / max(values.shape[1], 1)

    def _standard(self, key: str, values: np.ndarray, columns: Any = slice(None)) -> np.ndarray:
        mean, inverse = self.state[f"{key}.mean"][columns], self.state[f"{key}.inverse"][columns]
        z = (values[:, columns].astype(np.float64) - mean) * inverse
        return np.nan_to_num(z, nan=0.0)

    def _distance(self, key: str, a: np.ndarray, b: np.ndarray, mine: np.ndarray, learning: bool) -> np.ndarray:
        """Euclidean distances over the median distance of training samples; in double precision, or twins drift."""
        squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2.0 * (a @ b.T)
        d = np.sqrt(np.maximum(squared, 0.0))
        if learning:
            np.fill_diagonal(d, 0.0)
            self.state[f"{key}.median"] = np.array([np.median(d[np.ix_(mine, mine)])])
        return d / max(float(self.state[f"{key}.median"][0]), 1e-9)

    def _learn_centre(self, kind: str, plain: np.ndarray, mine: np.ndarray) -> None:
        within = plain[np.ix_(mine, mine)]
        row, whole = plain[:, mine].mean(1), float(within.mean())
        size = float(np.mean(np.diag(within) - 2.0 * row[mine] + whole))
        self.state[f"{kind}.row"] = row
        self.state[f"{kind}.all"] = np.array([whole, 1.0 / size if size > 1e-9 else 0.0])

    def _context(self, told: dict[str, list[str | None]]) -> np.ndarray:
        """One column per known value of each fact: (n, values)."""
        n = len(next(iter(told.values())))
        columns = [
            [float(v == value) for v in told.get(fact, [None] * n)]
            for fact, known in self.facts.items()
            for value in known
        ]
        return np.array(columns).T

    def standard(self, m: str) -> tuple[np.ndarray, np.ndarray]:
        """Standardised values (n, f) of the training samples in modality ``m``, and which of them have it."""
        return self._standard(m, self.state[f"{m}.values"]), self.state[f"{m}.there"]

    # ---- to and from files ----------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        return {"names": self.names, "subjects": self.subjects, "columns": self.columns, "facts": self.facts}

    @classmethod
    def load(cls, config: dict[str, Any], state: dict[str, np.ndarray]) -> SampleKernels:
        self = cls(config["names"])
        self.subjects, self.columns = config["subjects"], config["columns"]
        self.facts = {f: config["facts"][f] for f in FACTS if f in config["facts"]}  # files of keys keep no order
        self.state = {k: np.asarray(v) for k, v in state.items()}
        return self


def _mean(a: np.ndarray) -> np.ndarray:
    """Column means of the values that are there, 0 where none is."""
    gaps = np.isnan(a)
    return np.where(gaps, 0.0, a).sum(0) / np.maximum((~gaps).sum(0), 1)


def _facts(study, subjects: list[str]) -> dict[str, list[str | None]]:
    """What the study says of each subject, in the order of FACTS."""
    have = [f for f in FACTS if f in study.subjects.columns]
    table = study.subjects.select(pl.col("subject", *have).cast(pl.String))
    joined = pl.DataFrame({"subject": subjects}, schema={"subject": pl.String}).join(
        table, on="subject", how="left", maintain_order="left"
    )
    return {f: joined[f].to_list() for f in have}
