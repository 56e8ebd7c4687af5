"""A site's own response model on a shared encoder, fitted at the site; nothing leaves.

    y_sd = o_d + phi_s . b_d + mean_e (z_es - mean z_e) . c_ed              z_e: member e of the encoder
    per treatment and member, ridge on the kernel (1 - a) phi phi' + a z_e z_e', both with mean diagonal 1

phi: the site's own features on all the axes its own subjects span, so that nothing is lost against training alone. The
penalty is chosen by leave-one-out, and so is a of each treatment, from ``SHARES``; a = 0 leaves the encoder out. A
subject's left-out prediction is by the member whose encoder has not seen its features: intervals rest on those.

The result is a DrugResponse like any other: closed form b, deep path z and c, kept and restored as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from workbench import modalities
from workbench.federated.network.local import part_of
from workbench.federated.network.module import set_weights, weights
from workbench.federated.network.plan import Plan
from workbench.federated.site import SiteError
from workbench.nn import kernel_ridge
from workbench.nn.scaling import Rotation, standardise
from workbench.predictors._closed_form import LAMBDAS, ClosedForm
from workbench.predictors._pairs import matrix
from workbench.predictors._widths import HalfWidths
from workbench.predictors.drug_response import DrugResponse
from workbench.splits import Fold

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
LEAST = 1e-6  # share of the largest eigenvalue below which an axis is nothing


def empty(plan: Plan, encoder: Mapping[str, np.ndarray]) -> DrugResponse:
    """A DrugResponse with the encoder's weights and no head: every answer is 0."""
    form = plan.closed_form()
    t, size = len(plan.treatments), sum(plan.rotations[m].axes.shape[1] for m in plan.names)
    return _response(dict(plan.params), form, plan.treatments, np.zeros(t), np.zeros((size, t)), encoder)


def turned(encoder: DrugResponse, plan: Plan) -> dict[str, np.ndarray]:
    """The encoder's weights for features on a plan's axes, of the modalities that both have.

        x = ((v - mean) / sd) A / s    so    x_own ~ x_plan T + t,   T = s_plan A_plan' (sd_plan / sd_own) A_own / s_own

    Exact where the plan's axes span the encoder's; else what it says of the plan's part of the features.
    """
    out = {k: a for k, a in weights(encoder).items() if k.startswith("hidden.")}
    for m in plan.names:
        if m not in encoder.closed_.rotations:
            continue
        own, theirs = encoder.closed_.rotations[m], plan.rotations[m]
        at = {c: i for i, c in enumerate(encoder.closed_.columns[m])}
        both = [(i, at[c]) for i, c in enumerate(plan.columns[m]) if c in at]
        i, j = (np.array(part, dtype=np.int64) for part in zip(*both, strict=True)) if both else (np.zeros(0, int),) * 2
        heard = np.isfinite(own.sd[j]) & np.isfinite(theirs.sd[i])  # a constant feature has an infinite one
        i, j = i[heard], j[heard]
        a = own.axes[j].astype(np.float64) / own.sd[j, None] / own.scale
        turn = theirs.scale * (theirs.axes[i].astype(np.float64) * theirs.sd[i, None]).T @ a
        shift = (theirs.mean[i] - own.mean[j]).astype(np.float64) @ a
        name = f"fusion.encoders.{m}"
        w = weights(encoder)[f"{name}.weight"].astype(np.float64)
        bias = weights(encoder)[f"{name}.bias"] + np.einsum("k,ekw->ew", shift, w)[:, None]
        out[f"{name}.weight"] = np.einsum("pk,ekw->epw", turn, w).astype(np.float32)
        out[f"{name}.bias"] = bias.astype(np.float32)
    return out


def fit(
    encoder: DrugResponse, fold: Fold, shares: tuple[float, ...] = SHARES, free: Sequence[str] | None = None
) -> DrugResponse:
    """A head from the training rows of ``fold``, the site's own, on ``encoder``.

    Parameters
    ----------
    shares : candidates of a; (0.0,) is the same model without the encoder
    free : subjects of the site without responses; where given, z is the encoder's principal axes, each with spread 1
        over all the site's subjects, in place of the encoder: what samples alone are worth, without a network. One a
        for all treatments, which was better on the other screen

    Returns
    -------
    DrugResponse, fitted; ``shares_`` (T,) is a of each treatment

    Raises
    ------
    SiteError
        No training subject has any of the encoder's modalities.
    """
    train = fold.train
    subjects, treatments = sorted(train["subject"].unique()), sorted(train["treatment"].unique())
    form, own = _widened(encoder.closed_, fold, subjects)
    x, presence = form.features(fold.study, subjects)
    there = presence.any(1)
    if not there.any():
        raise SiteError("no training subject has any of the encoder's modalities.")
    of = dict(train.select("subject", "person").unique("subject").iter_rows())
    params = encoder.params | {"structure": False}
    part = part_of([str(of[s]) for s in subjects], int(params["members"]), int(params["seed"]))[there]
    y = matrix(train, subjects, treatments)[there]
    made = _response(params, form, treatments, np.zeros(len(treatments)), None, _padded(encoder, form))
    full = form._phi(x, presence)[there]
    phi, loud = full * own, _loudness(form, fold, subjects, free or (), own)
    if free is None:
        z = _encoded(made, x, presence)[:, there]
    else:
        z, part = (full * loud)[None, :, own == 0], np.zeros(len(y), dtype=np.int64)
    plain, small = _kernel(phi - phi.mean(0))
    middle = z.mean(1)
    turned = [_kernel(ze - m) for ze, m in zip(z, middle, strict=True)]
    found: list[list[kernel_ridge.Fitted]] = []
    blind: list[np.ndarray] = []
    rows = np.arange(len(y))
    for a in shares:
        if a == 0.0:
            fitted = [kernel_ridge.fit(plain, y)] * len(z)
        else:
            fitted = [kernel_ridge.fit((1 - a) * plain + a * k, y) for k, _ in turned]
        found.append(fitted)
        blind.append(np.stack([f.left_out for f in fitted])[part, rows])
    errors = np.stack([np.nansum((y - b) ** 2, axis=0) for b in blind])  # a column's gaps are the same for each
    best = errors.argmin(0) if free is None else np.full(len(treatments), errors.sum(1).argmin())
    share = np.array(shares)[best]
    at = np.arange(len(treatments))
    dual = np.stack([[f.dual for f in row] for row in found])[best, :, :, at].transpose(1, 2, 0)  # (E, n, T)
    offset = np.stack([[f.intercept for f in row] for row in found])[best, :, at].T  # (E, T)
    b = np.einsum("np,ent->pt", phi - phi.mean(0), dual) / len(z) * (1 - share) / small
    c = np.stack([(ze - m).T @ d / s for ze, m, d, (_, s) in zip(z, middle, dual, turned, strict=True)]) * share
    mean = np.nan_to_num(offset.mean(0), nan=float(np.nanmean(y)))  # NaN: measured on nobody with a modality
    deep = None
    if free is None:
        deep = (c, -np.einsum("er,ert->et", middle, c))
    else:
        b[own == 0] = c[0] * loud[own == 0, None]
    level = mean - full.mean(0) @ b
    made = _response(params, form, treatments, level, b, _padded(encoder, form), deep)
    residual = y - np.take_along_axis(np.stack(blind), best[None, None, :], axis=0)[0]
    made.widths_ = HalfWidths.fit(residual.ravel(), np.tile(np.array(treatments), len(y)))
    told: Any = made
    told.shares_ = share
    return made


def _loudness(
    form: ClosedForm, fold: Fold, subjects: Sequence[str], free: Sequence[str], own: np.ndarray
) -> np.ndarray:
    """By what a shared axis (F,) is multiplied to have spread 1 over ``subjects`` and ``free``; 0 for own axes."""
    x, presence = form.features(fold.study, [*subjects, *free])
    spread = form._phi(x, presence)[presence.any(1)].std(0) * (1.0 - own)
    return np.where(spread > LEAST * max(spread.max(initial=0.0), 1e-12), 1.0 / np.maximum(spread, 1e-12), 0.0)


def _widened(form: ClosedForm, fold: Fold, subjects: list[str]) -> tuple[ClosedForm, np.ndarray]:
    """``form`` with the axes that own subjects span beside the shared ones; which columns of phi are own (F,)."""
    made, own = ClosedForm(form.names, False), []
    for m in form.names:
        rotation = form.rotations[m]
        axes = np.zeros((len(rotation.mean), 0), np.float32)
        if m in fold.study.modalities:
            block = modalities.read(fold.study, m, endpoint=fold.endpoint, columns=form.columns[m])
            values, there = block.rows(subjects)
            if there.any():
                axes = _spanned(standardise(values[there], rotation.mean, rotation.sd))
        both = np.concatenate([rotation.axes, axes], axis=1)
        made._keep(m, Rotation(rotation.mean, rotation.sd, both, rotation.scale), form.columns[m])
        own += [0.0] * rotation.axes.shape[1] + [1.0] * axes.shape[1]
    return made, np.array(own)


def _spanned(z: np.ndarray) -> np.ndarray:
    """Orthonormal axes (f, r) float32 of the span of rows z (n, f)."""
    values, vectors = np.linalg.eigh((z @ z.T).astype(np.float64))
    kept = values > LEAST * max(values.max(), 1e-12)
    return np.ascontiguousarray(z.T @ (vectors[:, kept] / np.sqrt(values[kept])), dtype=np.float32)


def _kernel(z: np.ndarray) -> tuple[np.ndarray, float]:
    """z z' with mean diagonal 1, and what it was divided by."""
    kernel = z.astype(np.float64) @ z.T.astype(np.float64)
    scale = max(float(np.diag(kernel).mean()), 1e-12)
    return kernel / scale, scale


def _padded(encoder: DrugResponse, form: ClosedForm) -> dict[str, np.ndarray]:
    """The encoder's weights, deaf to the axes that were put beside its own."""
    out = {k: a for k, a in weights(encoder).items() if k.startswith(("fusion.", "hidden."))}
    for m in form.names:
        w = out[f"fusion.encoders.{m}.weight"]
        more = form.rotations[m].axes.shape[1] - w.shape[1]
        out[f"fusion.encoders.{m}.weight"] = np.pad(w, ((0, 0), (0, more), (0, 0)))
    return out


@torch.no_grad()
def _encoded(model: DrugResponse, x: Mapping[str, np.ndarray], presence: np.ndarray) -> np.ndarray:
    """z (E, S, k) float64."""
    model.eval()
    z = model.encode({m: torch.from_numpy(v) for m, v in x.items()}, torch.from_numpy(presence))
    return z.numpy().astype(np.float64)


def _response(
    params: dict,
    form: ClosedForm,
    treatments: list[str],
    offset: np.ndarray,
    weights_: np.ndarray | None,
    encoder: Mapping[str, np.ndarray],
    deep: tuple[np.ndarray, np.ndarray] | None = None,
) -> DrugResponse:
    """A DrugResponse of these parts: closed form (F, T), and of z ``deep`` = c (E, k, T) and what is added (E, T)."""
    w = float(params["closed_form_share"])
    w = w if 0 < w < 1 else 0.5  # both paths are needed, whatever the share of a trained one
    made = DrugResponse(**(params | {"closed_form_share": w, "structure": False}))
    size = sum(form.rotations[m].axes.shape[1] for m in form.names)
    closed = np.zeros((size, len(treatments))) if weights_ is None else weights_ / w
    form.treatments = list(treatments)
    for name, value in (("offset", offset), ("weights", closed), ("bits", np.zeros((len(treatments), 1)))):
        form._buffer(name, value)
    form._buffer("penalty", np.array([float(LAMBDAS[-1])]))
    form.structure = form._structure(np.zeros((len(treatments), 1), np.float32))
    made.closed_, made.sigma_ = form, 1.0
    with torch.random.fork_rng(devices=[]):
        made._build({m: form.rotations[m].axes.shape[1] for m in form.names}, len(treatments), form.structure_size)
    still = {k: np.zeros_like(v) for k, v in weights(made).items() if k.startswith(("identity.", "level.", "shape."))}
    set_weights(made, still | dict(encoder))
    if deep is not None:
        c, away = deep
        rank = c.shape[1]
        heads = {
            "identity.weight": c.transpose(0, 2, 1) * np.sqrt(rank) / (1 - w),
            "level.weight": away[:, :, None] / (1 - w),
        }
        set_weights(made, {k: v.astype(np.float32) for k, v in heads.items()})
    made.subject_term_ = np.zeros(1)
    made.widths_ = HalfWidths([], np.zeros(0), 0.0)
    made.eval()
    return made
