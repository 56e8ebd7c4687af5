"""A forest of extremely randomised trees on the sample, for all treatments at once: the trees others have to beat.

    y_sd = m_d + mean over trees of  sum_i c_i M_id (y_id - m_d) / sum_i c_i M_id,   i in the leaf of s

c_i: how often training sample i was drawn for the tree, M_id: was d measured on it? Trees are grown on all treatments
together (responses standardised by treatment, gaps at its mean), so one forest serves hundreds of them, and a leaf
answers with the responses really measured in it. Intervals come from out-of-bag answers; where whole tissues are
unseen, from forests that never saw the tissue. Source: Geurts, Ernst and Wehenkel 2006, Machine Learning 63:3-42.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import polars as pl

from workbench import modalities
from workbench.nn.scaling import Rotation
from workbench.predictors import Between, _rotations, answer
from workbench.predictors._pairs import matrix, positions
from workbench.predictors._widths import HalfWidths
from workbench.splits import Fold, inner_parts

PARTS = 5  # of the tissues held out for intervals


class Forest:
    """Extremely randomised trees, many outputs.

    Parameters
    ----------
    modalities : {subject modality: principal components kept}; a missing modality counts as its mean
    trees, features, smallest_leaf, seed : of the forest; ``features`` is the share of columns tried at a split
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {
        "modalities": {"expression": 100, "mutation": 10, "copy_number": 30, "driver_events": 30},
        "trees": 200,
        "features": 0.3,
        "smallest_leaf": 3,
        "seed": 0,
    }
    SEARCH: ClassVar[dict[str, Any]] = {
        "features": Between(0.05, 1.0, log=True),
        "smallest_leaf": Between(1, 15, log=True),
        "modalities.expression": Between(20, 300, log=True),
        "modalities.driver_events": Between(1, 60, log=True),
    }

    def __init__(self, name: str = "forest", **params) -> None:
        self.name = name
        self.params = self.DEFAULTS | params

    def fit(self, fold: Fold, report=None) -> Forest:
        train = fold.train
        self.subjects_ = sorted(train["subject"].unique())
        self.treatments_ = sorted(train["treatment"].unique())
        self._learn_scalers(fold)
        x, there = self._features(fold.study, self.subjects_)
        if not there.any():
            raise ValueError(f"no training sample has one of the modalities {list(self.params['modalities'])}.")
        y = matrix(train, self.subjects_, self.treatments_)
        self.offset_ = np.nanmean(y, axis=0)
        left = y - self.offset_
        groups = self._tissues(fold) if fold.group == "tissue" else None
        own = self.params["trees"] if groups is None else max(self.params["trees"] // 4, 10)
        blind = np.full(y.shape, np.nan)
        if groups is not None:
            for p in np.unique(groups):
                rest = groups != p
                blind[~rest] = _Grown(x[rest], left[rest], self.params | {"trees": own}).answer(x[~rest])
                if report is not None:
                    report(0.5 * (p + 1) / (groups.max() + 1), "trees without a part of the tissues")
        self.grown_ = _Grown(x, left, self.params)
        if groups is None:
            blind = self.grown_.out_of_bag()
        self.left_out_ = (self.subjects_, self.treatments_, np.where(np.isfinite(y), blind + self.offset_, np.nan))
        names = np.tile(np.array(self.treatments_), len(y))
        self.widths_ = HalfWidths.fit((left - blind).ravel(), names)
        return self

    def _tissues(self, fold: Fold) -> np.ndarray:
        """Part of each training sample, whole tissues together."""
        part = pl.Series("part", inner_parts(fold, PARTS, self.params["seed"]))
        of = dict(fold.train.select("subject").with_columns(part).unique("subject").iter_rows())
        return np.array([of[s] for s in self.subjects_])

    def _learn_scalers(self, fold: Fold) -> None:
        kept = self.params["modalities"]
        self.rotations_, self.columns_ = _rotations.learn(fold, kept, dict.fromkeys(kept, self.subjects_))
        if not self.rotations_:
            wanted = list(self.params["modalities"])
            raise ValueError(f"study {fold.study.name!r} has none of {wanted}; it has {fold.study.modalities}.")

    def _features(self, study, subjects: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Components of the named samples, float32 (n, f), and which have a modality at all (n,)."""
        columns, any_there = [], np.zeros(len(subjects), dtype=bool)
        for m, rotation in self.rotations_.items():
            rotated = np.zeros((len(subjects), rotation.axes.shape[1]), dtype=np.float32)
            if m in study.modalities:
                block = modalities.read(study, m, columns=self.columns_[m])
                if block.features != self.columns_[m]:
                    raise ValueError(f"{m!r} has other columns than the forest was grown on; use the study of its run.")
                values, there = block.rows(subjects)
                rotated[there] = rotation.apply(values)[there]
                any_there |= there
            columns.append(rotated)
        return np.concatenate(columns, axis=1), any_there

    def predict(self, study, pairs: pl.DataFrame) -> pl.DataFrame:
        subjects = sorted(pairs["subject"].unique())
        x, there = self._features(study, subjects)
        plane = self.offset_ + self.grown_.answer(x)
        s, d = positions(pairs["subject"], subjects), positions(pairs["treatment"], self.treatments_)
        fine = (d >= 0) & there[s]
        reason = [
            None if ok else ("drug not in training" if dd < 0 else "sample has no modality")
            for ok, dd in zip(fine, d, strict=True)
        ]
        value = np.where(fine, plane[s, np.maximum(d, 0)], np.nan)
        return answer(value, self.widths_.of(pairs["treatment"].to_numpy()), reason)

    def config(self) -> dict[str, Any]:
        return {
            "params": self.params,
            "treatments": self.treatments_,
            "subjects": self.subjects_,
            "columns": self.columns_,
            "rotations": list(self.rotations_),
            "widths": self.widths_.names,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        out = {"offset": self.offset_, "widths": self.widths_.values, "pooled": np.array([self.widths_.pooled])}
        return out | _rotations.arrays(self.rotations_) | {f"grown.{k}": v for k, v in self.grown_.arrays().items()}

    def load(self, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.treatments_, self.subjects_, self.columns_ = config["treatments"], config["subjects"], config["columns"]
        self.offset_ = arrays["offset"]
        self.rotations_ = {m: Rotation.of(arrays, m) for m in config["rotations"]}
        self.grown_ = _Grown.load({k.removeprefix("grown."): v for k, v in arrays.items() if k.startswith("grown.")})
        self.widths_ = HalfWidths(config["widths"], arrays["widths"], float(arrays["pooled"][0]))

    def attributions(self, top: int = 20) -> pl.DataFrame:
        """How often the strongest components were split on, weighted by samples; the same for every treatment."""
        share = self.grown_.importance()
        names = _rotations.components(self.rotations_)
        order = np.argsort(-share)[:top]
        return pl.DataFrame(
            {
                "treatment": ["all drugs"] * len(order),
                "modality": [names[i][0] for i in order],
                "feature": [names[i][1] for i in order],
                "value": share[order],
                "method": ["share of samples split"] * len(order),
            },
            schema_overrides={"value": pl.Float64},
        )


class _Grown:
    """Trees as arrays: nodes of all trees in a row, leaves of the training samples, how often each was drawn."""

    def __init__(self, x: np.ndarray, y: np.ndarray, params: dict[str, Any]) -> None:
        from sklearn.ensemble import ExtraTreesRegressor

        spread = np.nanstd(y, axis=0)
        z = np.where(np.isfinite(y), y / np.where(spread > 1e-9, spread, 1.0), 0.0)
        model = ExtraTreesRegressor(
            params["trees"],
            max_features=float(params["features"]),
            min_samples_leaf=int(params["smallest_leaf"]),
            bootstrap=True,
            random_state=params["seed"],
            n_jobs=-1,
        ).fit(x, z if z.shape[1] > 1 else z[:, 0])
        trees = [t.tree_ for t in model.estimators_]
        self.start = np.cumsum([0, *(t.node_count for t in trees)]).astype(np.int64)
        self.feature = np.concatenate([t.feature for t in trees]).astype(np.int32)
        self.threshold = np.concatenate([t.threshold for t in trees])
        self.left = np.concatenate([t.children_left + s for t, s in zip(trees, self.start, strict=False)])
        self.right = np.concatenate([t.children_right + s for t, s in zip(trees, self.start, strict=False)])
        self.columns, self.y = x.shape[1], y
        n = len(x)
        self.drawn = np.stack([np.bincount(i, minlength=n) for i in model.estimators_samples_]).astype(np.int16)
        self.leaf = self.leaves(x)

    def leaves(self, x: np.ndarray) -> np.ndarray:
        """Leaf of each row in each tree: int64 (trees, n)."""
        x = np.asarray(x, dtype=np.float32)
        at = np.repeat(self.start[:-1, None], len(x), axis=1)
        rows = np.arange(len(x))[None, :]
        while (inner := self.feature[at] >= 0).any():
            goes = x[rows, np.maximum(self.feature[at], 0)] <= self.threshold[at]
            at = np.where(inner, np.where(goes, self.left[at], self.right[at]), at)
        return at

    def answer(self, x: np.ndarray) -> np.ndarray:
        """What the leaves of the rows of ``x`` say: (n, t)."""
        total, leaves = np.zeros((len(x), self.y.shape[1])), self.leaves(x)
        for tree, where in enumerate(leaves):
            total += self._means(tree)[where - self.start[tree]]
        return total / len(leaves)

    def out_of_bag(self) -> np.ndarray:
        """The same for the training samples, from trees that did not draw them; NaN where every tree did."""
        total, count = np.zeros(self.y.shape), np.zeros(len(self.y))
        for tree in range(len(self.leaf)):
            out = self.drawn[tree] == 0
            total[out] += self._means(tree)[self.leaf[tree, out] - self.start[tree]]
            count[out] += 1
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(count[:, None] > 0, total / count[:, None], np.nan)

    def _means(self, tree: int) -> np.ndarray:
        """Mean of what was measured in each node of a tree, 0 where nothing was: (nodes, t)."""
        import scipy.sparse as sparse

        n, size = len(self.y), int(self.start[tree + 1] - self.start[tree])
        into = sparse.csr_matrix(
            (self.drawn[tree].astype(np.float64), (self.leaf[tree] - self.start[tree], np.arange(n))), (size, n)
        )
        there = np.isfinite(self.y)
        total, count = into @ np.where(there, self.y, 0.0), into @ there.astype(np.float64)
        return np.divide(total, count, out=np.zeros_like(total), where=count > 0)

    def importance(self) -> np.ndarray:
        """Share of drawn samples that were split on each column: (f,)."""
        weight = np.zeros(len(self.feature))
        for tree in range(len(self.leaf)):  # samples of a node: those of the leaves below it
            at = np.bincount(
                self.leaf[tree] - self.start[tree], self.drawn[tree], self.start[tree + 1] - self.start[tree]
            )
            for node in range(len(at) - 1, -1, -1):
                here = node + self.start[tree]
                if self.feature[here] >= 0:
                    at[node] = at[self.left[here] - self.start[tree]] + at[self.right[here] - self.start[tree]]
            weight[self.start[tree] : self.start[tree + 1]] = at
        split = self.feature >= 0
        share = np.bincount(self.feature[split], weight[split], self.columns)
        return share / max(share.sum(), 1e-12)

    def arrays(self) -> dict[str, np.ndarray]:
        names = ("start", "feature", "threshold", "left", "right", "drawn", "leaf", "y")
        return {k: getattr(self, k) for k in names} | {"columns": np.array([self.columns])}

    @classmethod
    def load(cls, arrays: dict[str, np.ndarray]) -> _Grown:
        made = cls.__new__(cls)
        for name, value in arrays.items():
            setattr(made, name, value)
        made.columns = int(arrays["columns"][0])
        return made


PREDICTORS = {"forest": Forest}
