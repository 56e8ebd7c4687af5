"""How strongly does a sample respond to a compound? A closed-form path and a deep path, half each.

    y_sd = o_d + w  phi_s . b_d  +  (1 - w) sigma  mean_e f_e(s, d)  +  c_s
    f_e  = < z_es , u_ed > / sqrt(k) + v_ed,     z = MLP(fusion of what is known of s),  u = e_d + g(structure of d)

o_d: mean response of the drug (for a compound never seen: from drugs of similar structure). b_d: ridge on the fused
features, penalty by leave-one-out. f_1..f_E: an ensemble trained as one batched model; member e never learns from
part e of the training groups (groups of what the split holds apart), so every training row has a prediction that has
not seen it, and intervals and the subject term c_s come from those. Any subset of modalities will do.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench import modalities
from workbench.batches import Batch, Rows
from workbench.nn.batched import BatchedEmbedding, BatchedLinear
from workbench.nn.fusion import SubsetFusion
from workbench.nn.losses import squared, tobit
from workbench.predictors import Between, OneOf, answer
from workbench.predictors._closed_form import ClosedForm
from workbench.predictors._pairs import positions
from workbench.predictors._widths import LEVEL, HalfWidths
from workbench.splits import Fold, inner_parts

Z_LEVEL = 1.6448536269514722  # normal quantile of a two-sided 90 % interval


class DrugResponse(lightning.LightningModule):
    """The predictor above. Constructors only store; ``prepare`` builds it for a fold, ``train.fit`` trains it.

    Parameters
    ----------
    modalities : subject modalities to use, of those the study has
    structure : use the structure of the compound too
    members : E; also the number of parts of the training groups
    width, rank : hidden width and k
    noise, dropout, drop_modality : drop-out of inputs, of hidden units, of whole modalities
    closed_form_share : w
    loss : "squared" (censored values cost one-sidedly) or "tobit" (censored normal likelihood)
    epochs, subjects, learning_rate, weight_decay, seed : of the training
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {
        "modalities": ("expression", "mutation", "copy_number"),
        "structure": True,
        "members": 8,
        "width": 256,
        "rank": 256,
        "noise": 0.1,
        "dropout": 0.2,
        "drop_modality": 0.1,
        "closed_form_share": 0.5,
        "loss": "squared",
        "epochs": 30,
        "subjects": 64,
        "learning_rate": 2e-3,
        "weight_decay": 1e-2,
        "seed": 0,
    }
    SEARCH: ClassVar[dict[str, Any]] = {
        "width": OneOf((128, 256, 512)),
        "rank": OneOf((64, 256)),
        "dropout": Between(0.05, 0.4),
        "learning_rate": Between(5e-4, 5e-3, log=True),
        "closed_form_share": Between(0.3, 0.8),
    }

    def __init__(self, name: str = "drug_response", **params) -> None:
        super().__init__()
        self.name = name
        self.params = self.DEFAULTS | params
        self.params["modalities"] = tuple(self.params["modalities"])
        if self.params["members"] < 2:  # member e never learns from part e
            raise ValueError(f"members should be at least 2; found {self.params['members']!r}.")
        if self.params["loss"] not in ("squared", "tobit"):
            raise ValueError(f"loss is 'squared' or 'tobit'; found {self.params['loss']!r}.")

    structure: Tensor
    held_out_: Tensor
    seen_: Tensor

    # ---- building -------------------------------------------------------------------------------------------------

    def prepare(self, fold: Fold, report=None) -> Rows:
        """Fit scalers and the closed form on the training rows, build the layers, return the rows to train on."""
        p = self.params
        train = fold.train.sort("subject", "row")
        names = [m for m in p["modalities"] if m in fold.study.modalities]
        if not names:
            raise ValueError(
                f"study {fold.study.name!r} has none of the modalities {list(p['modalities'])}; "
                f"it has {fold.study.modalities}."
            )
        self.closed_ = ClosedForm(names, bool(p["structure"]) and "drug_structure" in fold.study.modalities)
        torch.manual_seed(p["seed"])
        parts = inner_parts(fold, p["members"], p["seed"])
        part = pl.Series("part", parts)
        train = train.join(fold.train.select("row").with_columns(part), on="row", how="left", maintain_order="left")
        self.closed_.fit(fold, train, report)
        c = self.closed_
        subject = positions(train["subject"], c.subjects)
        drug = positions(train["treatment"], c.treatments)
        # the deep path learns what varies within a drug; how strong a compound is on average is the closed form's part
        deviation = train["value"].to_numpy() - c.offset.numpy(force=True)[drug]
        self.sigma_ = float(np.std(deviation)) or 1.0
        self._build({m: c.rotations[m].axes.shape[1] for m in names}, len(c.treatments), c.structure_size)
        x, presence = c.features(fold.study, c.subjects)
        self.register_buffer("structure", torch.from_numpy(c.structure), persistent=False)
        self.train_ = train
        return Rows(
            torch.from_numpy(train["row"].to_numpy().copy()),
            torch.from_numpy(subject.copy()),
            torch.from_numpy(drug.copy()),
            {m: torch.from_numpy(v) for m, v in x.items()},
            torch.from_numpy(presence),
            torch.from_numpy((deviation / self.sigma_).astype(np.float32)),
            torch.from_numpy(train["censored"].to_numpy().astype(np.int8)),
            torch.from_numpy(train["part"].to_numpy().astype(np.int64)),
        )

    def _build(self, sizes: dict[str, int], treatments: int, structure: int) -> None:
        p, e = self.params, self.params["members"]
        gains = {m: modalities.rooms.load("workbench.modalities", m).GAIN for m in sizes}
        self.fusion = SubsetFusion(e, sizes, p["width"], gains, p["noise"], p["drop_modality"])
        self.hidden = BatchedLinear(e, p["width"], p["rank"])
        self.identity = BatchedEmbedding(e, treatments, p["rank"])
        self.level = BatchedEmbedding(e, treatments, 1)
        self.shape = BatchedLinear(e, max(structure, 1), p["rank"], gain=0.5)
        nn.init.normal_(self.identity.weight, std=0.02)

    # ---- the formula ----------------------------------------------------------------------------------------------

    def encode(self, x: dict[str, Tensor], presence: Tensor) -> Tensor:
        """z of S subjects: (E, S, k)."""
        drop = self.params["dropout"]
        h = F.dropout(F.gelu(self.fusion(x, presence)), drop, self.training)
        return F.dropout(F.gelu(self.hidden(h)), drop, self.training)

    def drugs(self, known: Tensor, structure: Tensor) -> tuple[Tensor, Tensor]:
        """u (E, T, k) and v (E, T, 1) of T treatments; ``known`` is the trained index or -1."""
        shape = self.shape(structure.expand(self.params["members"], -1, -1))
        return self.identity(known) + shape, self.level(known)

    def forward(self, x: dict[str, Tensor], presence: Tensor, known: Tensor, structure: Tensor) -> Tensor:
        """f of every member for every subject and treatment: (E, S, T)."""
        z = self.encode(x, presence)
        u, v = self.drugs(known, structure)
        return z @ u.transpose(1, 2) / u.shape[-1] ** 0.5 + v.transpose(1, 2)

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        known = torch.arange(self.identity.weight.shape[1], device=self.device)
        plane = self(batch.x, batch.presence, known, self.structure)
        f = plane[:, batch.subject, batch.treatment]
        if self.params["loss"] == "tobit":
            loss = tobit(f, batch.target, batch.censored, 1.0)
        else:
            loss = squared(f, batch.target, batch.censored)
        member = torch.arange(len(f), device=f.device)[:, None]
        learns = (member != batch.part).to(f.dtype)
        total = (loss * learns).sum() / learns.sum().clamp(min=1)
        with torch.no_grad():
            held = 1 - learns
            self.held_out_ = self.held_out_ + torch.stack([(loss.detach() * held).sum(), held.sum()])
            self.seen_ = self.seen_ + torch.stack([total.detach(), torch.ones_like(total)])
        return total

    def on_train_epoch_start(self) -> None:
        self.held_out_, self.seen_ = torch.zeros(2, device=self.device), torch.zeros(2, device=self.device)

    def epoch_curve(self) -> dict[str, float]:
        """Root mean squared errors of the epoch, in the endpoint's unit: of rows learnt from and of rows held out."""
        seen, held = self.seen_.tolist(), self.held_out_.tolist()
        return {
            "training RMSE": self.sigma_ * (seen[0] / max(seen[1], 1)) ** 0.5,
            "held-out RMSE": self.sigma_ * (held[0] / max(held[1], 1)) ** 0.5,
        }

    def configure_optimizers(self) -> Any:
        p = self.params
        optimizer = torch.optim.AdamW(self.parameters(), p["learning_rate"], weight_decay=p["weight_decay"], fused=True)
        steps = max(int(self.trainer.estimated_stepping_batches), 2)
        warm = 0.1 if steps != 10 else 0.1 - 1e-9  # of ten steps the warm-up is none, and torch would divide by it
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, p["learning_rate"], total_steps=steps, pct_start=warm)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # ---- after training -------------------------------------------------------------------------------------------

    def finish(self, fold: Fold) -> DrugResponse:
        """Intervals and the subject term from predictions that have not seen their row."""
        c, train = self.closed_, self.train_
        subject, drug = positions(train["subject"], c.subjects), positions(train["treatment"], c.treatments)
        f = self._deep(*c.features(fold.study, c.subjects), np.arange(len(c.treatments)), c.structure)
        deep = f[train["part"].to_numpy() % len(f), subject, drug] * self.sigma_
        w = self.params["closed_form_share"]
        offset = c.held_out_offset[drug]
        blind = offset + w * (c.held_out[subject, drug] - offset) + (1 - w) * deep
        residual = train["value"].to_numpy() - blind
        self.subject_term_ = np.zeros(len(c.subjects))
        if fold.group in ("compound", "pair"):
            count = np.bincount(subject, minlength=len(c.subjects))
            self.subject_term_ = np.bincount(subject, residual, len(c.subjects)) / (count + 5.0)
            residual = residual - self.subject_term_[subject] * count[subject] / np.maximum(count[subject] - 1.0, 1.0)
        known = fold.group != "compound"  # a compound's own width is of use only if it can come again
        self.widths_ = HalfWidths.fit(residual, train["treatment"].to_numpy(), few=30 if known else len(residual) + 1)
        del self.train_
        return self

    @torch.no_grad()
    def _deep(
        self, x: dict[str, np.ndarray], presence: np.ndarray, known: np.ndarray, structure: np.ndarray
    ) -> np.ndarray:
        """f (E, S, T) as numpy, in evaluation mode."""
        self.eval()
        tensors = {m: torch.from_numpy(v).to(self.device) for m, v in x.items()}
        f = self(
            tensors,
            torch.from_numpy(presence).to(self.device),
            torch.from_numpy(known).to(self.device),
            torch.from_numpy(structure).to(self.device),
        )
        return f.cpu().numpy()

    def predict(self, study, pairs: pl.DataFrame, without: tuple[str, ...] = ()) -> pl.DataFrame:
        """Predictions of pairs (columns subject, treatment); ``without`` leaves modalities out."""
        c, w = self.closed_, self.params["closed_form_share"]
        subjects, drugs = sorted(pairs["subject"].unique()), sorted(pairs["treatment"].unique())
        s, d = positions(pairs["subject"], subjects), positions(pairs["treatment"], drugs)
        known, structure, bits, understood = c.treatments_of(study, drugs)
        x, presence = c.features(study, subjects, without)
        offset, plane = c.predict(x, presence, known, bits)
        f = self._deep(x, presence, known, structure) * self.sigma_
        present = np.asarray(presence.any(1))
        value = offset + w * (plane - offset) + (1 - w) * f.mean(0)
        at = positions(pl.Series(subjects, dtype=pl.String), c.subjects)
        value = value + np.where(at >= 0, self.subject_term_[np.maximum(at, 0)], 0.0)[:, None]
        spread = (1 - w) * f.std(0, ddof=1)
        half = np.sqrt(self.widths_.of(np.array(drugs))[None, :] ** 2 + (Z_LEVEL * spread) ** 2)
        reason = [
            None
            if understood[dd] and present[ss]
            else ("sample has no modality" if understood[dd] else "unknown structure")
            for ss, dd in zip(s, d, strict=True)
        ]
        return answer(value[s, d], half[s, d], reason)

    # ---- to and from files ----------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        sizes = {m: self.closed_.rotations[m].axes.shape[1] for m in self.closed_.names}
        return {
            "params": self.params | {"modalities": list(self.params["modalities"])},
            "sizes": sizes,
            "structure_size": self.closed_.structure_size,
            "sigma": self.sigma_,
            "widths": self.widths_.names,
            "level": LEVEL,
            "closed_form": self.closed_.config(),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        weights = {f"layers.{k}": v.numpy(force=True) for k, v in self.state_dict().items()}
        pooled = np.array([self.widths_.pooled])
        return weights | {"subject_term": self.subject_term_, "widths": self.widths_.values, "pooled": pooled}

    def load(self, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        state = {
            k.removeprefix("layers."): torch.from_numpy(v.copy()) for k, v in arrays.items() if k.startswith("layers.")
        }
        closed = {k.removeprefix("closed_."): v for k, v in state.items() if k.startswith("closed_.")}
        self.closed_ = ClosedForm.load(config["closed_form"], closed)
        self.sigma_ = config["sigma"]
        sizes = {m: config["sizes"][m] for m in self.closed_.names}  # a file of keys and values keeps no order
        self._build(sizes, len(self.closed_.treatments), config["structure_size"])
        self.load_state_dict(state, strict=True)
        self.subject_term_ = arrays["subject_term"]
        self.widths_ = HalfWidths(config["widths"], arrays["widths"], float(arrays["pooled"][0]))

    def attributions(self, top: int = 20) -> pl.DataFrame:
        """The closed form's strongest coefficients of each drug: change in y per standard deviation of the feature."""
        return self.closed_.attributions(top, self.params["closed_form_share"])


PREDICTORS = {"drug_response": DrugResponse}
