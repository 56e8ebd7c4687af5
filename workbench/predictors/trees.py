"""Gradient-boosted trees on sample and compound features, starting from the mean effects the split leaves known.

    y_sd = o_sd + sum_t eta h_t([r_s, q_d, m_d])

o_sd: mean effects of what can be known at test time (the drug's mean for an unseen line, the line's effect for an
unseen compound). r_s: principal components of the sample's modalities, q_d: of the compound's structure, m_d: mean and
spread of the drug in training (left out where compounds are unseen). The number of trees comes from an eighth of the
training groups, held out by the split's own rule; so do the intervals. Source: LightGBM, Ke et al. 2017, NeurIPS 30.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import polars as pl

from workbench import modalities
from workbench.nn.scaling import Rotation
from workbench.predictors import Between, _rotations, answer
from workbench.predictors._pairs import positions
from workbench.predictors._widths import HalfWidths
from workbench.splits import Fold, inner_parts

KEYS = {"subject": ["treatment"], "tissue": ["treatment"], "compound": ["subject"], "pair": ["treatment", "subject"]}


class Trees:
    """LightGBM regression.

    Parameters
    ----------
    modalities : {modality: principal components kept}; a missing modality is a missing value to the trees
    rounds, patience, leaves, learning_rate, columns, rows, smallest_leaf, l2, seed : of the boosting
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {
        "modalities": {"expression": 100, "mutation": 30, "copy_number": 30, "drug_structure": 50},
        "rounds": 1000,
        "patience": 40,
        "leaves": 31,
        "learning_rate": 0.1,
        "columns": 0.5,
        "rows": 1.0,
        "smallest_leaf": 50,
        "l2": 0.0,
        "seed": 0,
    }
    SEARCH: ClassVar[dict[str, Any]] = {
        "leaves": Between(8, 96, log=True),
        "learning_rate": Between(0.03, 0.3, log=True),
        "columns": Between(0.1, 1.0),
        "rows": Between(0.4, 1.0),
        "smallest_leaf": Between(5, 300, log=True),
        "l2": Between(1e-2, 100.0, log=True),
        "modalities.expression": Between(30, 300, log=True),
    }

    def __init__(self, name: str = "trees", **params) -> None:
        self.name = name
        self.params = self.DEFAULTS | params

    def fit(self, fold: Fold, report=None) -> Trees:
        import lightgbm

        train = fold.train
        self.group_ = fold.group
        held = inner_parts(fold, 8, self.params["seed"]) == 0
        self._learn_scalers(fold, train)
        learn, check = train.filter(~pl.Series(held)), train.filter(pl.Series(held))
        self._learn_means(learn)
        sets = []
        for frame in (learn, check):
            sets.append(
                lightgbm.Dataset(
                    self._features(fold.study, frame),
                    frame["value"].to_numpy() - self._start(frame),
                    free_raw_data=True,
                )
            )
        rounds = self.params["rounds"]
        history: dict[str, dict[str, list[float]]] = {}

        def progress(env) -> None:
            if report is not None and env.iteration % 10 == 9:
                report((env.iteration + 1) / rounds, f"tree {env.iteration + 1} of at most {rounds}")

        booster = lightgbm.train(
            {
                "objective": "l2",
                "num_leaves": self.params["leaves"],
                "learning_rate": self.params["learning_rate"],
                "feature_fraction": self.params["columns"],
                "bagging_fraction": self.params["rows"],
                "bagging_freq": int(self.params["rows"] < 1.0),
                "lambda_l2": self.params["l2"],
                "min_data_in_leaf": self.params["smallest_leaf"],
                "metric": "rmse",
                "seed": self.params["seed"],
                "deterministic": True,
                "force_row_wise": True,
                "max_bin": 63,
                "bin_construct_sample_cnt": 20_000,  # a component has one value a sample: more rows tell nothing new
                "verbosity": -1,
            },
            sets[0],
            rounds,
            valid_sets=[sets[0], sets[1]],
            valid_names=["training RMSE", "held-out RMSE"],
            callbacks=[
                lightgbm.early_stopping(self.params["patience"], verbose=False),
                lightgbm.record_evaluation(history),
                progress,
            ],
        )
        self.points_ = [
            (step + 1, name, float(value))
            for name in history
            for step, value in enumerate(history[name]["rmse"])
            if step % 10 == 9 or step + 1 == booster.best_iteration
        ]
        self.model_ = booster.model_to_string(num_iteration=booster.best_iteration)
        self.booster_ = lightgbm.Booster(model_str=self.model_)
        residual = check["value"].to_numpy() - self._mean(fold.study, check)
        self.widths_ = HalfWidths.fit(residual, check["treatment"].to_numpy())
        self._learn_means(train)
        return self

    def _learn_scalers(self, fold: Fold, train: pl.DataFrame) -> None:
        kept = self.params["modalities"]
        of = {m: "treatment" if m == "drug_structure" else "subject" for m in kept}
        names = {key: sorted(train[key].unique()) for key in set(of.values())}
        self.rotations_, self.columns_ = _rotations.learn(fold, kept, {m: names[of[m]] for m in kept})

    def _learn_means(self, train: pl.DataFrame) -> None:
        self.mean_ = float(train["value"].mean())  # type: ignore[arg-type]
        left = train.with_columns(left=pl.col("value") - self.mean_)
        self.effects_: dict[str, dict[str, tuple[float, float]]] = {}
        for key in KEYS[self.group_]:
            means = left.group_by(key).agg(
                pl.col("left").mean().alias("m"), pl.col("left").std().fill_null(0).alias("sd")
            )
            self.effects_[key] = {k: (m, sd) for k, m, sd in means.sort(key).iter_rows()}
            left = left.with_columns(left=pl.col("left") - pl.col("left").mean().over(key))

    def _start(self, pairs: pl.DataFrame) -> np.ndarray:
        out = np.full(pairs.height, self.mean_)
        for key, table in self.effects_.items():
            out += np.array([table.get(k, (0.0, 0.0))[0] for k in pairs[key]])
        return out

    def _features(self, study, pairs: pl.DataFrame) -> np.ndarray:
        columns = []
        for m, rotation in self.rotations_.items():
            key = "treatment" if m == "drug_structure" else "subject"
            names = sorted(pairs[key].unique())
            values, there = modalities.read(study, m, columns=self.columns_.get(m)).rows(names)
            rotated = rotation.apply(values)
            rotated[~there] = np.nan
            columns.append(rotated[positions(pairs[key], names)])
        for table in self.effects_.values():
            key = "treatment" if table is self.effects_.get("treatment") else "subject"
            columns.append(np.array([table.get(k, (np.nan, np.nan)) for k in pairs[key]], dtype=np.float32))
        return np.concatenate(columns, axis=1)

    def _mean(self, study, pairs: pl.DataFrame) -> np.ndarray:
        return self._start(pairs) + np.asarray(self.booster_.predict(self._features(study, pairs)))

    def predict(self, study, pairs: pl.DataFrame) -> pl.DataFrame:
        return answer(self._mean(study, pairs), self.widths_.of(pairs["treatment"].to_numpy()))

    def config(self) -> dict[str, Any]:
        return {
            "params": self.params,
            "group": self.group_,
            "rotations": list(self.rotations_),
            "columns": self.columns_,
            "effects": {k: list(t) for k, t in self.effects_.items()},
            "widths": self.widths_.names,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        out = {"model": np.frombuffer(self.model_.encode(), dtype=np.uint8), "mean": np.array([self.mean_])}
        out |= _rotations.arrays(self.rotations_)
        out |= {f"effect.{k}": np.array(list(t.values())) for k, t in self.effects_.items()}
        return out | {"widths": self.widths_.values, "pooled": np.array([self.widths_.pooled])}

    def load(self, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        import lightgbm

        self.group_, self.mean_ = config["group"], float(arrays["mean"][0])
        self.rotations_ = {m: Rotation.of(arrays, m) for m in config["rotations"]}
        self.columns_ = config.get("columns", {})  # a run recorded before they were kept has none
        self.effects_ = {
            k: {n: (float(a), float(b)) for n, (a, b) in zip(config["effects"][k], arrays[f"effect.{k}"], strict=True)}
            for k in KEYS[self.group_]  # in the order of the features
        }
        self.model_ = arrays["model"].tobytes().decode()
        self.booster_ = lightgbm.Booster(model_str=self.model_)
        self.widths_ = HalfWidths(config["widths"], arrays["widths"], float(arrays["pooled"][0]))

    def attributions(self, top: int = 20) -> pl.DataFrame:
        """Total gain of the strongest modalities' components, the same for every treatment."""
        gain = np.asarray(self.booster_.feature_importance("gain"), dtype=np.float64)
        names = _rotations.components(self.rotations_)
        names += [(key, what) for key in self.effects_ for what in ("mean", "spread")]
        order = np.argsort(-gain)[:top]
        return pl.DataFrame(
            {
                "treatment": ["all drugs"] * len(order),
                "modality": [names[i][0] for i in order],
                "feature": [names[i][1] for i in order],
                "value": gain[order] / max(gain.sum(), 1e-12),
                "method": ["share of split gain"] * len(order),
            }
        )


PREDICTORS = {"trees": Trees}
