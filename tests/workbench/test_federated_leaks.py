"""No message holds a row: planted leaks are found, honest answers pass, and what cannot be found is said."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests import toy
from workbench.federated import sharing
from workbench.federated.asked import Answer, counts
from workbench.federated.gate import bits as _bits
from workbench.federated.gate import leaks
from workbench.federated.gate import likeness as _likeness
from workbench.federated.gate import own as _own
from workbench.federated.messages import Ask
from workbench.federated.policy import PolicyError
from workbench.federated.site import Site
from workbench.splits import Split

pytestmark = pytest.mark.shared_home


@pytest.fixture(scope="module")
def site() -> Site:
    fold = Split.make(toy.write(), "unseen subject", endpoint="ln_ic50").fold(0)
    return Site("site 1", sharing.local(fold, sharing.at_random(fold, 2)["site 1"]))


@pytest.fixture(scope="module")
def rows(site: Site) -> leaks.Rows:
    return leaks.Rows(_own.of(site))


@pytest.fixture(scope="module")
def x(site: Site) -> np.ndarray:
    """Expression (n, 40) of the site's training subjects."""
    values, there, _ = site.block("expression", site.subjects)
    return values[there].astype(np.float64)


@pytest.fixture(scope="module")
def y(site: Site) -> np.ndarray:
    """Outcomes (n, 12) of them, gaps filled with the treatment's mean."""
    table = site.fold.train.pivot(on="treatment", index="subject", values="value").sort("subject")
    y = table.drop("subject").to_numpy().astype(np.float64)
    return np.where(np.isnan(y), np.nanmean(y, axis=0), y)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([77, seed]).normal(size=shape)


def words(found: list[leaks.Leak]) -> str:
    return "; ".join(leak.words for leak in found)


def trained(x: np.ndarray, y: np.ndarray, seed: int = 0, epochs: int = 30) -> dict[str, np.ndarray]:
    """Weights of a small network after training on the rows, in batches of 8."""
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(x.shape[1], 64), torch.nn.ReLU(), torch.nn.Linear(64, y.shape[1]))
    step = torch.optim.Adam(net.parameters(), lr=3e-3)
    a, b = (torch.tensor(v, dtype=torch.float32) for v in (x, y))
    for _ in range(epochs):
        for batch in torch.randperm(len(a)).split(8):
            step.zero_grad()
            torch.nn.functional.mse_loss(net(a[batch]), b[batch]).backward()
            step.step()
    return {k: v.detach().numpy() for k, v in net.state_dict().items()}


def one_sample_gradient(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Gradient of a first layer on a batch of one: the outer product of its errors and the row."""
    torch.manual_seed(1)
    layer = torch.nn.Linear(x.shape[1], 16)
    out = torch.nn.Linear(16, y.shape[1])(torch.tanh(layer(torch.tensor(x[3:4], dtype=torch.float32))))
    torch.nn.functional.mse_loss(out, torch.tensor(y[3:4], dtype=torch.float32)).backward()
    assert layer.weight.grad is not None
    return layer.weight.grad.numpy()


def in_low_bytes(x: np.ndarray) -> np.ndarray:
    """Honest weights whose last bytes spell rows, an eighth of a unit a step, one row after another."""
    w = draw(64, 100).astype(np.float32)
    code = np.clip(np.round(x.ravel() * 24 + 128), 0, 255).astype(np.uint8)
    w.reshape(-1).view(np.uint8)[0::4] = np.resize(code, w.size)
    return w


def as_bits(text: bytes) -> np.ndarray:
    """Honest weights whose very last bits spell a text."""
    w = draw(64, 100, seed=3).astype(np.float32)
    bits = np.unpackbits(np.frombuffer(text, dtype=np.uint8))
    view = w.reshape(-1).view(np.uint32)
    view[: len(bits)] = (view[: len(bits)] & ~np.uint32(1)) | bits
    return w


def hidden(row: np.ndarray, big: tuple[int, int] = (300, 200), at: int = 12_345) -> np.ndarray:
    w = draw(*big, seed=5) * 0.02
    w.reshape(-1)[at : at + len(row)] = row
    return w


def one_hot(row: np.ndarray, bins: int = 32) -> np.ndarray:
    place = np.clip((row - row.min()) / np.ptp(row) * bins, 0, bins - 1).astype(int)
    return np.eye(bins)[place]


PLANTED = {
    "a row": lambda x, y: x[4],
    "a row, scaled and shifted": lambda x, y: -0.03 * x[4] + 7,
    "a row in float16": lambda x, y: x[4].astype(np.float16),
    "a row, its features dealt anew": lambda x, y: np.random.default_rng(0).permutation(x[4]) * 2 - 1,
    "a standardised row": lambda x, y: ((x[4] - x.mean(0)) / x.std(0)).astype(np.float32),
    "a row against other sites' means": lambda x, y: (x[4] - 0.1 * draw(40)) / (1 + 0.05 * draw(40, seed=1)),
    "a row as whole numbers": lambda x, y: np.round(x[4] * 100).astype(np.int32),
    "a row among a matrix's": lambda x, y: np.vstack([draw(9, 40), x[2:3] * 0.1, draw(9, 40, seed=2)]),
    "a row as a column": lambda x, y: np.vstack([draw(9, 40), x[2:3], draw(9, 40, seed=2)]).T,
    "a row in a slice of a big weight": lambda x, y: hidden(x[6] * 0.01).astype(np.float32),
    "a row down a column of a big weight": lambda x, y: hidden(x[6] * 0.01).astype(np.float32).T.copy(),
    "outcomes of a person": lambda x, y: y[7],
    "outcomes as they stand": lambda x, y: hidden(y[:, 3]),
    "a row's bytes as whole numbers": lambda x, y: np.frombuffer(x[5].astype("<f4").tobytes(), dtype=np.int32),
    "rows in the last bytes": lambda x, y: in_low_bytes(x),
    "rows remembered one-hot": lambda x, y: one_hot(x[1]),
    "a lookup table of rows": lambda x, y: np.vstack([x[i] for i in range(8)]),
    "a name as bytes": lambda x, y: np.frombuffer(b"..subject 07..", dtype=np.uint8),
    "a name as numbers": lambda x, y: np.frombuffer(b"..subject 07..", dtype=np.uint8).astype(np.float64),
    "a name in last bits": lambda x, y: as_bits(b"subject 07"),
    "a gradient of one sample": one_sample_gradient,
    "a person's mutations": lambda x, y: None,  # filled in below: they are of another modality
}  # fmt: skip


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_leak_is_found(what: str, site: Site, rows: leaks.Rows, x: np.ndarray, y: np.ndarray) -> None:
    array = PLANTED[what](x, y)
    if array is None:
        values, there, _ = site.block("mutation", site.subjects)
        array = values[there][2]
    told = [n for n in site.subjects if "07" in n]
    if "name" in what and not told:  # subject 07 is the other site's: name an own one
        own = site.subjects[0].encode()
        array = {
            "a name as bytes": np.frombuffer(b".." + own, dtype=np.uint8),
            "a name as numbers": np.frombuffer(b".." + own, dtype=np.uint8).astype(np.float64),
            "a name in last bits": as_bits(own),
        }[what]
    assert rows.find("w", array)


def test_a_change_of_weights_by_one_sample_is_found_beside_what_was_asked_with(site: Site, x, y) -> None:
    """Weights that went one step on one sample look like weights; their change is that sample's row."""
    before = draw(16, 40, seed=9).astype(np.float32)
    after = before - np.float32(0.01) * one_sample_gradient(x, y)
    assert leaks.Rows(_own.of(site)).find("w", after) == []
    counts_like = replace(counts.LEAVES, arrays={"w": "weights"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "LEAVES", counts_like)
        ask = Ask("counts", arrays={"w": before})
        found = leaks.Check().find(site, ask, Answer(100, {"w": after}))
        assert "a part of it is like a row" in words(found)
        whole = before - np.float32(0.01) * draw(16, 40, seed=10).astype(np.float32)
        assert leaks.Check().find(site, ask, Answer(100, {"w": whole})) == []


def honest(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    z = (x - x.mean(0)) / x.std(0)
    half = len(x) // 2
    return {
        "means": x.mean(0), "means in float32": x.mean(0).astype(np.float32), "sums": x.sum(0),
        "sums of squares": (x**2).sum(0), "spreads": x.std(0), "means of half of the rows": x[:half].mean(0),
        "Gram": x.T @ x, "Gram, standardised": z.T @ z, "products with outcomes": z.T @ (y - y.mean(0)),
        "Gram in float32": (x.T @ x).astype(np.float32), "quantised means": np.round(x.mean(0), 3),
        "outcome means": y.mean(0), "histogram": np.stack([np.histogram(c, 10)[0] for c in x.T]),
        "ridge weights": np.linalg.solve(z.T @ z + 10 * np.eye(40), z.T @ (y - y.mean(0))),
        "principal axes": np.linalg.svd(z, full_matrices=False)[2][:8],
        "noise": draw(300, 200), "zeros": np.zeros((64, 40)), "ones": np.ones(500), "steps": np.arange(4000.0),
        "halves of float16": draw(64, 100).astype(np.float16).astype(np.float32),
        "masks": np.random.default_rng(0).integers(0, 2**63, 5000).astype(np.uint64),
        "a gradient of eight samples": z[:8].T @ draw(8, 16) / 8,
    }  # fmt: skip


def test_honest_answers_pass(rows: leaks.Rows, x: np.ndarray, y: np.ndarray) -> None:
    assert {k: words(f) for k, a in honest(x, y).items() if (f := rows.find(k, a))} == {}


def test_weights_trained_on_the_rows_pass_whatever_the_seed(rows: leaks.Rows, x: np.ndarray, y: np.ndarray) -> None:
    wrong = []
    for seed in range(8):
        for epochs in (1, 30):
            wrong += [(seed, epochs, k) for k, w in trained(x, y, seed, epochs).items() if rows.find(k, w)]
    assert wrong == []


def test_a_long_row_is_found_at_any_offset_and_means_are_not(x: np.ndarray) -> None:
    """6,000 features with a common profile, rows of a tissue alike: found by Fourier transforms."""
    rng = np.random.default_rng(5)
    profile, tissue = rng.normal(0, 2.5, 6000), rng.normal(0, 0.5, (3, 6000))
    wide = profile + (tissue[np.arange(60) % 3] + rng.normal(size=(60, 6000))) * np.exp(rng.normal(0, 0.4, 6000))
    (view,) = _own.added("wide", wide)
    weights = (rng.normal(size=200_000) * 0.02).astype(np.float32)
    for found, row in (
        (True, wide[8] * -0.01 + 0.3),
        (True, (wide[9] - wide.mean(0) - 0.1 * rng.normal(size=6000)) / wide.std(0)),  # by others' means
        (False, wide.mean(0) * 0.01),
        (False, wide[:6].mean(0) * 0.01),
    ):
        message = weights.copy()
        message[77_777:83_777] = row
        assert (_likeness.anywhere(message, view) > 0.95) == found


def stretches(rng: np.random.Generator, rows: int, columns: int, long: int) -> np.ndarray:
    """Copy-number calls: -1, 0 or 1 for so many neighbours together."""
    return np.repeat(rng.choice([-1.0, 0.0, 0.0, 1.0], (rows, -(-columns // long))), long, axis=1)[:, :columns]


def test_sums_that_step_where_copy_numbers_step_are_no_rows_and_copy_numbers_are() -> None:
    """Lines of a table of sums differ in size: 36 small numbers and 12 large ones are like a gain of 12 genes."""
    rng = np.random.default_rng(8)
    (short,) = _own.added("copy_number", stretches(rng, 60, 60, 12))
    (wide,) = _own.added("copy_number", stretches(rng, 60, 300, 12))
    size = np.exp(rng.normal(size=16) * 2)
    sums = (size[:, None] * (1 + 0.1 * rng.normal(size=(16, 216)))).astype(np.float32)
    counts = np.zeros((2, 258), dtype=np.float32)
    counts[0, 3:60], counts[1, 3:90] = rng.poisson(33, 57), rng.poisson(20, 87)
    for honest in (sums, counts):
        for view in (short, wide):
            for flat in (honest.ravel(), honest.T.ravel()):
                assert _likeness.anywhere(np.ascontiguousarray(flat), view) == 0
    weights = (rng.normal(size=60_000) * 0.02).astype(np.float32)
    for row in (wide.values[7] * 0.01, wide.values[9] * -3.0 + 0.05 * rng.normal(size=300) + 4):
        planted = weights.copy()
        planted[7_777:8_077] = row
        assert _likeness.anywhere(planted, wide) > 0.95


def few_factors(factors: int, seed: int, rows: int = 60, columns: int = 60) -> np.ndarray:
    """Rows that are mixtures of a few profiles, and a little of their own."""
    rng = np.random.default_rng([78, seed])
    weight = rng.normal(size=(factors, columns))
    return (
        rng.normal(5, 2, columns) + rng.normal(size=(rows, factors)) @ weight + 0.7 * rng.normal(size=(rows, columns))
    )


@pytest.mark.parametrize("factors", [2, 3, 5])
def test_mixtures_of_rows_of_few_factors_are_no_rows_and_rows_are(factors: int) -> None:
    """Of few factors every mixture of all rows is as like some row as two rows of a tissue are; 0.99 and more."""
    before = 0
    for seed in range(6):
        x = few_factors(factors, seed)
        views = _own.added("few", x)
        (view,), rng = views, np.random.default_rng([79, seed])
        assert view.forms[0].free < 12 < view.forms[0].rest
        z = (x - x.mean(0)) / x.std(0)
        axes = np.linalg.qr(z.T @ (z @ rng.normal(size=(60, 12))))[0]
        for honest in (z.T @ (z @ axes), (x[:30] - x.mean(0)).sum(0), z.T @ rng.normal(size=(60, 8)), z.T @ z):
            assert _likeness.aligned(honest.astype(np.float32), view) == 0
            left = honest.T.reshape(-1, 60) @ (np.eye(60) - view.forms[1].shared.T @ view.forms[1].shared)
            likeness = np.abs((left / np.linalg.norm(left, axis=1, keepdims=True)) @ view.forms[1].rows.T)
            before += int(likeness.max() > 0.95)
        for row in (
            x[7],
            z[9] * 0.01 + 3,
            z[11] + 0.1 * rng.normal(size=60),
            (x[4] - x.mean(0) + 0.1) / (0.9 * x.std(0)),
        ):
            assert _likeness.aligned(row[None].astype(np.float32), view) > 0.95
            assert _likeness.aligned(np.outer(rng.normal(size=16), row - row.mean()).astype(np.float32), view) > 0.95
    assert before >= 3  # by likeness alone


def test_windows_that_are_passed_over_quickly_are_those_that_are_like_no_row() -> None:
    """Whatever their size: numbers too small or large to be squared, constants beside which little is left."""
    rng = np.random.default_rng(80)
    rows = rng.normal(size=(50, 60))
    (view,) = _own.added("rows", rows)
    for scale, shift in ((1.0, 0.0), (1e-25, 0.0), (1e25, 0.0), (1.0, 200.0), (-0.01, 3.0)):
        message = (rng.normal(size=5000) * 0.02).astype(np.float32)
        message[2000:2060] = rows[5] * scale + shift
        with np.errstate(all="raise", under="ignore"):
            assert _likeness.anywhere(message, view) > 0.95, scale
    assert _likeness.anywhere((rng.normal(size=20_000) * 0.02).astype(np.float32), view) == 0
    assert _likeness.anywhere(np.zeros(5000, dtype=np.float32), view) == 0


def test_columns_that_follow_their_neighbours_count_as_few() -> None:
    rng = np.random.default_rng(4)
    white = rng.normal(size=(200, 48))
    kept = _likeness.independent(white, white)
    assert kept.mean() > 44 and np.median(kept) == 48
    assert _likeness.independent(white[:100], np.sort(white[100:], axis=1)).mean() > 44
    one_step = np.where(np.arange(48) < 36, 0.0, 1.0)[None]
    assert _likeness.independent(one_step, 30 * one_step + 0.1 * rng.normal(size=(1, 48)))[0] < 8 < 0.2 * 48
    twelve = stretches(rng, 50, 300, 12)
    assert 20 < np.median(_likeness.independent(twelve, twelve)) < 60  # 25 stretches


def test_many_slices_that_are_like_no_row_do_not_hide_one_that_is(x: np.ndarray) -> None:
    outlier = np.zeros((3000, 40))
    outlier[:, 5] = 1.0  # one column: like a row that has an outlier there, and no row
    form = _own.form_of(np.vstack([x, x[0] + 500 * np.eye(40)[5]]), [])
    row = x[np.argmin((x**4).sum(1) / (x**2).sum(1) ** 2)]
    message = np.vstack([outlier, 0.3 * row[None]]).astype(np.float32)
    assert _likeness._alike(message[:-1], form, 3000 * len(x)) == 0
    assert _likeness._alike(message, form, 3000 * len(x)) > 0.999


def test_an_uneven_last_byte_is_told_from_honest_ones() -> None:
    honest = [draw(64, 128, seed=s).astype(np.float32) for s in range(60)]
    assert max(_bits.uneven(a) for a in honest) < 6
    assert _bits.uneven(in_low_bytes(draw(30, 40))) > 50
    text = np.frombuffer((b"the quick brown fox jumps over the lazy dog " * 200)[:8192], dtype=np.uint8)
    spelt = draw(64, 128).astype(np.float32)
    spelt.reshape(-1).view(np.uint8)[0::4] = text
    assert _bits.uneven(spelt) > 50


def test_short_names_in_random_bytes_are_chance_and_an_own_name_is_not() -> None:
    noise = np.random.default_rng(3).bytes(2_000_000)
    names = [f"A{k:03d}" for k in range(900)]  # four bytes each: one in two million turns up by itself
    assert _bits.names_in(noise, names) == []
    planted = noise[:1000] + b"A001A002A003A004A005A006A007A008A009" + noise[1000:]
    assert len(_bits.names_in(planted, names)) >= 9
    assert _bits.names_in(noise + b"subject 12", ["subject 12", "subject 13"]) == ["subject 12"]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(100, {"other": np.zeros(3)}), "does not declare"),
        (Answer(100, {"rows": np.zeros(1)}, {"subjects": ["a"]}), "does not declare"),
        (Answer(100, {"rows": np.zeros(2, dtype=np.longdouble)}), "at most 64 bits"),
    ],
)
def test_what_is_not_declared_stays(site: Site, answer: Answer, says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        leaks.Check()(site, Ask("counts"), answer)


def test_a_size_that_follows_the_rows_stays_and_one_that_was_asked_for_goes(site: Site) -> None:
    n = len(site.subjects)
    answer = Answer(100, {"rows": np.arange(n) * 7})
    assert "follows the number" in words(leaks.Check().find(site, Ask("counts"), answer))
    asked = Ask("counts", values={"treatments": [str(k) for k in range(n)]})
    assert leaks.Check().find(site, asked, answer) == []


def test_a_text_that_names_a_subject_stays_and_the_refusal_names_none(site: Site) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "LEAVES", replace(counts.LEAVES, values=("note",)))
        bad = Answer(100, {}, {"note": ["fine", f"see {site.subjects[2]}"]})
        with pytest.raises(PolicyError) as refused:
            leaks.Check()(site, Ask("counts"), bad)
        assert not re.search(r"subject \d", str(refused.value)) and "names of subjects" in str(refused.value)
        assert leaks.Check().find(site, Ask("counts"), Answer(100, {}, {"note": ["fine", "treatment 3"]})) == []


def test_rows_in_a_form_made_at_the_site_are_compared_once_they_are_shown_to_the_check(site: Site, x) -> None:
    turned = x @ np.linalg.qr(draw(40, 40))[0][:, :24]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "LEAVES", replace(counts.LEAVES, arrays={"w": "weights"}))
        check, answer = leaks.Check(), Answer(100, {"w": turned[3] * 0.1})
        assert check.find(site, Ask("counts"), answer) == []
        patch.setitem(site.memory, leaks.VIEWS, {"turned": turned})
        assert words(check.find(site, Ask("counts"), answer)) != ""


def test_what_cannot_be_found(rows: leaks.Rows, x: np.ndarray) -> None:
    """An encrypted row passes: the page for the data officer says so, and why the other rules stand."""
    key = np.random.default_rng(11).integers(0, 256, x[0].astype(np.float32).nbytes, dtype=np.uint8)
    secret = np.frombuffer(x[0].astype(np.float32).tobytes(), dtype=np.uint8) ^ key
    weights = draw(64, 100).astype(np.float32)
    weights.reshape(-1).view(np.uint8)[0 : 4 * len(secret) : 4] = secret
    assert rows.find("w", weights) == []
    assert rows.find("w", x[0] + x[1]) == []  # the sum of two persons is no person
