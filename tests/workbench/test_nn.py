"""Blocks without domain words, each against its formula worked out another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.linear_model import Ridge
from torch import nn

from workbench.nn import kernel_ridge
from workbench.nn.batched import BatchedEmbedding, BatchedLinear
from workbench.nn.fusion import SubsetFusion
from workbench.nn.losses import squared, tobit
from workbench.nn.scaling import fit_rotation

# --- members side by side --------------------------------------------------------------------------------------------


def test_batched_linear_is_so_many_linears() -> None:
    torch.manual_seed(0)
    layer = BatchedLinear(3, 5, 4)
    nn.init.normal_(layer.bias)
    x = torch.randn(3, 7, 5)
    y = layer(x)
    assert y.shape == (3, 7, 4)
    for e in range(3):
        one = nn.Linear(5, 4)
        with torch.no_grad():
            one.weight.copy_(layer.weight[e].T)
            one.bias.copy_(layer.bias[e, 0])
        torch.testing.assert_close(y[e], one(x[e]))
    y[1].square().sum().backward()
    assert layer.weight.grad is not None
    assert not layer.weight.grad[0].any() and not layer.weight.grad[2].any() and layer.weight.grad[1].any()


def test_batched_linear_starts_as_wide_as_it_says() -> None:
    torch.manual_seed(0)
    assert float(BatchedLinear(2, 400, 300, gain=0.5).weight.detach().std()) == pytest.approx(0.5 / 20, rel=0.02)
    assert not BatchedLinear(2, 4, 3, gain=0).weight.detach().any()
    assert BatchedLinear(2, 0, 3)(torch.zeros(2, 5, 0)).shape == (2, 5, 3)


def test_batched_embedding_gives_nothing_for_the_unknown() -> None:
    table = BatchedEmbedding(2, 3, 4)
    assert not table(torch.tensor([0, 1, 2])).any()
    nn.init.normal_(table.weight)
    out = table(torch.tensor([2, -1, 0]))
    assert torch.equal(out[:, 0], table.weight[:, 2]) and torch.equal(out[:, 2], table.weight[:, 0])
    assert not out[:, 1].any()
    assert BatchedEmbedding(2, 0, 4)(torch.tensor([-1])).shape == (2, 1, 4)


# --- fusion ----------------------------------------------------------------------------------------------------------

SIZES = {"a": 4, "b": 3, "c": 2}
GAINS = {"a": 1.0, "b": 0.5, "c": 0.3}


def fusion(**options: float) -> SubsetFusion:
    torch.manual_seed(1)
    made = SubsetFusion(2, SIZES, 6, GAINS, **options)  # type: ignore[arg-type]
    for encoder in made.encoders.values():
        nn.init.normal_(encoder.bias)  # type: ignore[arg-type]
    return made


@settings(deadline=None, max_examples=40)
@given(
    there=st.lists(st.tuples(*[st.booleans()] * 3), min_size=1, max_size=6),
    garbage=st.floats(-(2.0**100), 2.0**100, allow_nan=False, width=32),
)
def test_what_stands_in_an_absent_modality_changes_nothing(
    there: list[tuple[bool, bool, bool]], garbage: float
) -> None:
    made = fusion().eval()
    presence = torch.tensor(there, dtype=torch.float32)
    x = {m: torch.randn(len(there), n, generator=torch.Generator().manual_seed(n)) for m, n in SIZES.items()}
    dirty = {m: torch.where(presence[:, [i]] > 0, x[m], torch.full_like(x[m], garbage)) for i, m in enumerate(SIZES)}
    out = made(x, presence)
    assert torch.equal(made(dirty, presence), out)
    assert not out.isnan().any()
    assert not out[:, ~presence.any(1)].any(), "no modality, no signal"


def test_fusion_is_its_formula() -> None:
    made = fusion().eval()
    presence = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 1, 1]], dtype=torch.bool)
    x = {m: torch.randn(3, n) for m, n in SIZES.items()}
    out = made(x, presence)
    for n in range(3):
        want, total = torch.zeros(2, 6), 0.0
        for i, (m, g) in enumerate(GAINS.items()):
            if presence[n, i]:
                layer = made.encoders[m]
                want += g * torch.stack([x[m][n] @ layer.weight[e] + layer.bias[e, 0] for e in range(2)])  # type: ignore[index]
                total += g**2
        torch.testing.assert_close(out[:, n], want / math.sqrt(total))


def test_dropping_never_takes_the_last_modality() -> None:
    made = fusion(noise=0.0, drop=0.95).train()
    presence = torch.tensor([[0, 1, 0]] * 200 + [[1, 1, 1]] * 200, dtype=torch.float32)
    x = {m: torch.ones(400, n) for m, n in SIZES.items()}
    out = made(x, presence)
    kept = made.eval()(x, presence)
    assert torch.equal(out[:, :200], kept[:, :200]), "one modality is never dropped"
    assert bool((out[:, 200:] != 0).any(2).all())
    assert len(out[0, 200:].detach().unique(dim=0)) > 3, "several subsets are seen"


# --- losses ----------------------------------------------------------------------------------------------------------


def test_squared_is_one_sided_by_hand() -> None:
    prediction = torch.tensor([1.0, 3.0, 1.0, 3.0, 1.0, 3.0])
    target = torch.full((6,), 2.5)
    censored = torch.tensor([0, 0, 1, 1, -1, -1], dtype=torch.int8)
    # above the bound: a prediction above costs nothing; below it: a prediction below costs nothing
    assert squared(prediction, target, censored).tolist() == [2.25, 0.25, 2.25, 0.0, 0.0, 0.25]


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_tobit_is_the_censored_normal_of_scipy(sigma: float) -> None:
    target, mean = np.linspace(-8, 8, 33), 0.7
    for code, density in (
        (0, norm.logpdf(target, mean, sigma) + 0.5 * math.log(2 * math.pi)),  # the constant is left out
        (1, norm.logsf(target, mean, sigma)),
        (-1, norm.logcdf(target, mean, sigma)),
    ):
        got = tobit(
            torch.full((33,), mean, dtype=torch.float64),
            torch.from_numpy(target),
            torch.full((33,), code, dtype=torch.int8),
            sigma,
        )
        np.testing.assert_allclose(got.numpy(), -density, rtol=1e-9, atol=1e-12)


def test_both_losses_pull_a_prediction_towards_what_may_be_true() -> None:
    for loss in (squared, lambda p, t, c: tobit(p, t, c, 1.0)):
        prediction = torch.tensor([0.0, 0.0, 50.0, -50.0], requires_grad=True)
        target, censored = torch.tensor([1.0, -1.0, 0.0, 0.0]), torch.tensor([1, -1, 1, -1], dtype=torch.int8)
        loss(prediction, target, censored).sum().backward()
        gradient = prediction.grad
        assert gradient is not None and gradient.isfinite().all()
        assert gradient[0] < 0 < gradient[1]
        assert abs(gradient[2]) < 1e-6 and abs(gradient[3]) < 1e-6


# --- scaling ---------------------------------------------------------------------------------------------------------


def matrix(n: int = 30, f: int = 50, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return (draw.normal(size=(n, f)) * draw.uniform(0.1, 20, f) + draw.normal(0, 50, f)).astype(np.float32)


@pytest.mark.parametrize("f", [8, 50])
def test_a_scaler_sees_its_fit_rows_alone(f: int) -> None:
    x, fit = matrix(f=f), np.arange(0, 30, 2)
    clean = fit_rotation(x, fit)
    x[1::2] = 1e20
    poisoned = fit_rotation(x, fit)
    for name in ("mean", "sd", "axes", "scale"):
        np.testing.assert_array_equal(getattr(clean, name), getattr(poisoned, name))
    x[0] += 1
    assert not np.array_equal(fit_rotation(x, fit).mean, clean.mean)


@pytest.mark.parametrize("f", [8, 50])
def test_the_rotation_keeps_every_inner_product_of_fit_rows_with_any_row(f: int) -> None:
    x, fit = matrix(f=f), np.arange(20)
    made = fit_rotation(x, fit)
    z = (x - x[fit].mean(0, dtype=np.float64)) / x[fit].std(0, dtype=np.float64)
    r = made.apply(x).astype(np.float64) * made.scale
    assert r.shape == (30, min(f, 19))
    want = z[fit] @ z.T
    np.testing.assert_allclose(r[fit] @ r.T, want, atol=2e-5 * np.abs(want).max())
    assert np.mean(made.apply(x[fit]).astype(np.float64) ** 2) == pytest.approx(1.0, rel=1e-4)


def test_a_constant_column_is_silent_whatever_comes_later() -> None:
    x = matrix()
    x[:20, 7] = 3.25
    made = fit_rotation(x, np.arange(20))
    other = x.copy()
    other[:, 7] = -1e6
    np.testing.assert_array_equal(made.apply(x), made.apply(other))
    assert np.isfinite(made.apply(x)).all()


def test_nothing_but_constants_leaves_nothing() -> None:
    made = fit_rotation(np.ones((5, 4), dtype=np.float32), np.arange(5))
    assert made.apply(np.zeros((2, 4))).shape == (2, 0)


def test_components_keep_the_strongest_axes_and_rows_are_needed() -> None:
    x = matrix()
    whole, part = fit_rotation(x, np.arange(20)), fit_rotation(x, np.arange(20), components=5)
    np.testing.assert_allclose(part.apply(x) * part.scale, whole.apply(x)[:, :5] * whole.scale, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"needs at least one row to fit on"):
        fit_rotation(x, np.array([], dtype=int))


# --- kernel ridge ----------------------------------------------------------------------------------------------------


def problem(n: int = 24, f: int = 6, t: int = 3, missing: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features centred over all rows and targets; kernel diagonal about 1."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, f))
    x = (x - x.mean(0)) / math.sqrt(f)
    y = x @ draw.normal(size=(f, t)) * 2 + draw.normal(0, 0.5, (n, t)) + 3
    y[draw.random(y.shape) < missing] = np.nan
    return x, y


def refit(x: np.ndarray, y: np.ndarray, penalty: float, out: np.ndarray) -> np.ndarray:
    """Predictions of rows ``out`` by sklearn's ridge, intercept free, fitted on all others."""
    keep = np.setdiff1d(np.arange(len(y)), out)
    return Ridge(alpha=penalty).fit(x[keep], y[keep]).predict(x[out])


@pytest.mark.parametrize("penalty", [0.05, 1.0, 30.0])
def test_weights_and_means_are_sklearns_ridge(penalty: float) -> None:
    x, y = problem()
    fitted = kernel_ridge.fit(x @ x.T, y, np.array([penalty]))
    want = Ridge(alpha=penalty).fit(x, y)
    np.testing.assert_allclose(x.T @ fitted.dual, want.coef_.T, atol=1e-9)
    np.testing.assert_allclose(fitted.intercept, want.intercept_, atol=1e-9)
    assert (fitted.penalty == penalty).all()


@pytest.mark.parametrize("penalty", [0.05, 1.0, 30.0])
def test_left_one_out_is_the_explicit_refit(penalty: float) -> None:
    x, y = problem()
    fitted = kernel_ridge.fit(x @ x.T, y, np.array([penalty]))
    for j in range(y.shape[1]):
        want = [refit(x, y[:, j], penalty, np.array([i]))[0] for i in range(len(y))]
        np.testing.assert_allclose(fitted.left_out[:, j], want, atol=1e-9)


def test_left_one_out_is_the_explicit_refit_where_values_are_missing() -> None:
    x, y = problem(n=80, missing=0.3)
    fitted = kernel_ridge.fit(x @ x.T, y, np.array([1.0]))
    for j in range(y.shape[1]):
        there = np.flatnonzero(np.isfinite(y[:, j]))
        assert np.array_equal(np.isfinite(fitted.left_out[:, j]), np.isfinite(y[:, j]))
        want = [refit(x[there], y[there, j], 1.0, np.array([i]))[0] for i in range(len(there))]
        np.testing.assert_allclose(fitted.left_out[there, j], want, atol=1e-9)


def test_the_penalty_is_the_one_with_the_least_left_out_error() -> None:
    x, y = problem(n=40, t=6)
    penalties = 10.0 ** np.linspace(-2, 2, 9)
    fitted = kernel_ridge.fit(x @ x.T, y, penalties)
    for j in range(6):
        loss = [
            np.mean([(refit(x, y[:, j], p, np.array([i]))[0] - y[i, j]) ** 2 for i in range(40)]) for p in penalties
        ]
        assert fitted.penalty[j] == penalties[int(np.argmin(loss))]


def test_columns_with_little_keep_their_mean_and_empty_ones_have_none() -> None:
    x, y = problem(t=4)
    y[2:, 1] = np.nan
    y[:, 2] = np.nan
    fitted = kernel_ridge.fit(x @ x.T, y)
    assert fitted.intercept[1] == pytest.approx(y[:2, 1].mean()) and not fitted.dual[:, 1].any()
    assert np.isnan(fitted.intercept[2]) and np.isnan(fitted.penalty[[1, 2]]).all() and not fitted.dual[:, 2].any()
    assert np.isfinite(fitted.penalty[[0, 3]]).all()


def test_a_missing_value_is_not_looked_at_and_threads_do_not_matter() -> None:
    x, y = problem(n=40, t=20, missing=0.2)
    seen: list[float] = []
    first = kernel_ridge.fit(x @ x.T, y, progress=seen.append)
    for _ in range(3):
        again = kernel_ridge.fit(x @ x.T, y)
        np.testing.assert_array_equal(first.dual, again.dual)
    assert seen and all(0 < s <= 1 for s in seen)
    there = np.isfinite(y[:, 0])
    alone = kernel_ridge.fit(x[there] @ x[there].T, y[there, :1])
    np.testing.assert_allclose(first.dual[there, 0], alone.dual[:, 0], rtol=1e-8, atol=1e-12)


def grouped(penalty: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Left-out predictions and explicit refits where groups differ in level and are left out whole."""
    x, y = problem(n=48, t=1, seed=3)
    groups = np.repeat(np.arange(4), [24, 12, 8, 4])
    y[:, 0] += np.array([1.5, -1.5, 0.5, -0.5])[groups]
    fitted = kernel_ridge.fit(x @ x.T, y, np.array([penalty]), groups=groups)
    want = np.empty(48)
    for g in range(4):
        out = np.flatnonzero(groups == g)
        want[out] = refit(x, y[:, 0], penalty, out)
    return fitted.left_out[:, 0], want


def test_left_group_out_has_not_seen_the_level_of_the_group() -> None:
    left, want = grouped()
    np.testing.assert_allclose(left, want, atol=1e-9)


def test_a_single_group_is_split_in_two() -> None:
    x, y = problem()
    fitted = kernel_ridge.fit(x @ x.T, y, groups=np.zeros(24))
    assert np.isfinite(fitted.left_out).all() and np.isfinite(fitted.penalty).all()


def test_a_kernel_that_is_none_is_refused() -> None:
    x, y = problem()
    kernel = x @ x.T
    kernel[0, 0] = -1e3
    with pytest.raises(np.linalg.LinAlgError, match=r"not positive definite"):
        kernel_ridge.fit(kernel, y)
