"""Training that survives: stop anywhere, resume, and the weights are bitwise those of an uninterrupted training."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from tests import toy
from workbench import predictors, tables, train
from workbench.batches import SubjectLoader
from workbench.splits import Fold, Split
from workbench.study import Study, find

pytestmark = [pytest.mark.shared_home, toy.lightning_warnings]

ROOT = Path(__file__).resolve().parents[2]
EPOCHS, BATCHES = 5, 6  # 60 subjects, one in five held out, 8 at a time
LONG = 30
PARAMS: dict[str, Any] = {"members": 2, "width": 8, "rank": 4, "epochs": EPOCHS, "subjects": 8}


@pytest.fixture(scope="module")
def fold(_module_home: object) -> Fold:
    return Split.make(toy.write(), "unseen subject", endpoint="ln_ic50", folds=5).fold(0)


def made(**more: Any) -> Any:
    return predictors.make("drug_response", **(PARAMS | more))


def fit(predictor: Any, fold: Fold, **more: Any) -> pl.DataFrame:
    return train.fit(predictor, fold, every_s=0, accelerator="cpu", **more)


def state(predictor: Any) -> dict[str, bytes]:
    return {k: np.asarray(v).tobytes() for k, v in predictor.arrays().items()}


@pytest.fixture(scope="module")
def whole(fold: Fold) -> tuple[Any, pl.DataFrame]:
    """Trained without a break and without a checkpoint; and its curves."""
    predictor = made()
    return predictor, fit(predictor, fold)


def after(batches: int) -> Callable[[], bool]:
    """A ``stopped`` that says so after that many batches."""
    asked = iter(range(batches))
    return lambda: next(asked, None) is None


def disturb() -> None:
    """Leave the random generators somewhere else, as another process would."""
    torch.manual_seed(random.SystemRandom().randrange(2**31))
    np.random.seed(random.SystemRandom().randrange(2**31))
    random.seed()


# --- stop and resume -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [0, 3, BATCHES - 1, BATCHES, 2 * BATCHES + 1, EPOCHS * BATCHES - 1])
def test_stopped_and_resumed_is_bitwise_uninterrupted(
    fold: Fold, whole: tuple[Any, pl.DataFrame], batches: int, tmp_path: Path
) -> None:
    path = tmp_path / "one.ckpt"
    with pytest.raises(train.Stopped, match=r"the same call resumes"):
        fit(made(), fold, checkpoint=path, stopped=after(batches), fingerprint="this")
    done = batches // BATCHES  # whole epochs
    assert [p.name for p in tmp_path.iterdir()] == (["one.ckpt"] if done else [])
    disturb()
    predictor, epochs = made(), []
    curve = fit(predictor, fold, checkpoint=path, fingerprint="this", point=lambda e, _: epochs.append(e))
    assert epochs == list(range(done + 1, EPOCHS + 1)), "it did resume, and did every other epoch once"
    assert state(predictor) == state(whole[0])
    assert curve.equals(whole[1])
    assert list(tmp_path.iterdir()) == [], "nothing stays once training has ended well"


def test_stopped_again_and_again(fold: Fold, whole: tuple[Any, pl.DataFrame], tmp_path: Path) -> None:
    path, stops = tmp_path / "one.ckpt", 0
    while True:
        disturb()
        predictor = made()
        try:
            fit(predictor, fold, checkpoint=path, stopped=after(BATCHES + 2), fingerprint="this")
        except train.Stopped:
            stops += 1
            assert stops < EPOCHS + 1
            continue
        break
    assert stops == EPOCHS - 1
    assert state(predictor) == state(whole[0])


CHILD = """
import os, sys, time
sys.path.insert(0, os.getcwd())
from pathlib import Path
from tests.workbench import test_train as t
from workbench.splits import Split
from workbench.study import Study, find
fold = Split.make(Study.open(find("synthetic")), "unseen subject", endpoint="ln_ic50", folds=5).fold(0)
said = lambda e, v: (print(e, flush=True), time.sleep(0.05))
t.fit(t.made(epochs=t.LONG), fold, checkpoint=Path(sys.argv[1]), fingerprint="this", point=said)
"""


def test_killed_with_9_and_resumed(fold: Fold, tmp_path: Path) -> None:
    path = tmp_path / "one.ckpt"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= 3:
                break
        time.sleep(random.random() * 0.1)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
    assert child.returncode == -signal.SIGKILL
    saved = torch.load(path, weights_only=True)
    assert 2 <= saved["epoch"] + 1 < LONG
    resumed, straight, epochs = made(epochs=LONG), made(epochs=LONG), []
    fit(resumed, fold, checkpoint=path, fingerprint="this", point=lambda e, _: epochs.append(e))
    assert epochs[0] == saved["epoch"] + 2 and epochs[-1] == LONG
    fit(straight, fold)
    assert state(resumed) == state(straight)
    assert not path.exists()


@pytest.mark.slow
def test_the_experiment_that_kills_training() -> None:
    """Two of the kills that experiments/kill_training.py makes; whole experiments, recorded in MLflow."""
    command = [sys.executable, "experiments/kill_training.py", "--times", "2", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    last = done.stdout.splitlines()[-1]
    assert last == "2 of 2 resumed to bitwise equal weights; 0 corrupt checkpoints; 0 runs left RUNNING", done.stderr
    assert done.returncode == 0


# --- checkpoints -----------------------------------------------------------------------------------------------------


@pytest.fixture
def left(fold: Fold, tmp_path: Path) -> Path:
    """A checkpoint of two epochs, as a stopped training leaves it."""
    path = tmp_path / "deep" / "er" / "one.ckpt"
    with pytest.raises(train.Stopped):
        fit(made(), fold, checkpoint=path, stopped=after(2 * BATCHES + 1), fingerprint="this")
    return path


def test_a_checkpoint_runs_no_code_and_holds_all_that_is_needed(left: Path) -> None:
    saved = torch.load(left, weights_only=True)
    assert saved["epoch"] == 1
    assert {"state_dict", "optimizer_states", "lr_schedulers", "loops"} <= set(saved)
    kept = saved["callbacks"]["Survive"]
    assert kept["fingerprint"] == "this" and {"torch", "numpy", "python"} <= set(kept["random"])
    assert sorted({p[0] for p in kept["points"]}) == [1, 2]
    assert [p.name for p in left.parent.iterdir()] == ["one.ckpt"]


def test_a_checkpoint_of_another_fit_is_left_alone(fold: Fold, whole: tuple[Any, pl.DataFrame], left: Path) -> None:
    epochs: list[int] = []
    predictor = made()
    before = left.read_bytes()
    kept: list[bytes] = []

    def look(epoch: int, _: dict[str, float]) -> None:
        epochs.append(epoch)
        if epoch == 1:
            kept.append(left.read_bytes())

    fit(predictor, fold, checkpoint=left, fingerprint="another", point=look)
    assert epochs == [1, 2, 3, 4, 5] and kept == [before]
    assert state(predictor) == state(whole[0])


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"not a checkpoint",
        lambda data: data[: len(data) // 2],
        lambda data: bytes(len(data)),
    ],
    ids=["empty", "text", "half", "zeros"],
)
def test_a_damaged_checkpoint_is_named_and_kept(fold: Fold, left: Path, damage: Callable[[bytes], bytes]) -> None:
    left.write_bytes(damage(left.read_bytes()))
    with pytest.raises(
        ValueError, match=r"one\.ckpt is not a readable checkpoint .* Delete it to train from the start"
    ):
        fit(made(), fold, checkpoint=left, fingerprint="this")
    assert left.exists()


def test_a_checkpoint_that_would_run_code_is_refused(fold: Fold, tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"callbacks": Runs()}, tmp_path / "one.ckpt")
    with pytest.raises(ValueError, match=r"not a readable checkpoint"):
        fit(made(), fold, checkpoint=tmp_path / "one.ckpt", fingerprint="this")
    assert not (tmp_path / "ran").exists()


def test_a_save_that_fails_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    io, path = train.AtomicIO(), tmp_path / "one.ckpt"
    io.save_checkpoint({"epoch": 1}, path)
    with pytest.raises(Exception, match=r"pickle"):
        io.save_checkpoint({"epoch": lambda: 2}, path)
    assert [p.name for p in tmp_path.iterdir()] == ["one.ckpt"]
    assert io.load_checkpoint(path) == {"epoch": 1}


def test_the_temporary_file_lies_beside_its_place_and_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, move = os.fsync, os.replace

    def synced(handle: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")
        sync(handle)

    def moved(a: Any, b: Any) -> None:
        done.append(f"move {Path(a).parent == Path(b).parent}")
        move(a, b)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", moved)
    (tmp_path / "folder").mkdir()
    train.AtomicIO().save_checkpoint({"epoch": 1}, tmp_path / "folder" / "one.ckpt")
    assert done == [f"sync .one.ckpt.{os.getpid()}.tmp", "move True", "sync folder"]


def test_what_a_kill_in_the_middle_of_a_save_left_is_swept(fold: Fold, tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    kept = {f".one.ckpt.{os.getpid()}.tmp", f".other.ckpt.{dead.pid}.tmp"}  # of a living process; of another fit
    for name in (f".one.ckpt.{dead.pid}.tmp", *kept):
        (tmp_path / name).write_bytes(b"half a checkpoint")
    path = tmp_path / "one.ckpt"
    train.AtomicIO.sweep(path)
    assert {p.name for p in tmp_path.iterdir()} == kept
    (tmp_path / f".one.ckpt.{dead.pid}.tmp").write_bytes(b"half a checkpoint")
    (tmp_path / f".one.ckpt.{os.getpid()}.tmp").unlink()
    fit(made(), fold, checkpoint=path, fingerprint="this")
    assert {p.name for p in tmp_path.iterdir()} == {f".other.ckpt.{dead.pid}.tmp"}


def test_checkpoints_keep_their_distance_in_time(fold: Fold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    monkeypatch.setattr(train.AtomicIO, "save_checkpoint", lambda self, c, p, **_: saved.append(c["epoch"]))
    train.fit(made(), fold, checkpoint=tmp_path / "a", every_s=3600, accelerator="cpu")
    assert saved == []
    fit(made(), fold, checkpoint=tmp_path / "a")
    assert saved == [0, 1, 2, 3], "none after the last epoch"


def test_random_state_comes_back() -> None:
    disturb()
    kept = train.random_state()
    first = (torch.rand(3).tolist(), np.random.normal(size=3).tolist(), random.random(), random.gauss(0, 1))
    disturb()
    train.set_random_state(kept)
    assert (torch.rand(3).tolist(), np.random.normal(size=3).tolist(), random.random(), random.gauss(0, 1)) == first


# --- what training tells ---------------------------------------------------------------------------------------------


def test_curves_hold_each_epoch_once(fold: Fold, whole: tuple[Any, pl.DataFrame]) -> None:
    curve = tables.check(whole[1], tables.CURVES)
    assert (
        set(curve["predictor"]) == {"drug_response"} and set(curve["fold"]) == {0} and set(curve["unit"]) == {"ln(uM)"}
    )
    for name in ("training RMSE", "held-out RMSE"):
        mine = curve.filter(pl.col("name") == name)
        assert mine["step"].to_list() == list(range(1, EPOCHS + 1))
        assert all(math.isfinite(v) and v > 0 for v in mine["value"])
    assert set(curve["name"]) == {"training RMSE", "held-out RMSE"}


@pytest.mark.parametrize("name", ["ridge", "trees", "drug_response", "drug_mean"])
def test_progress_grows_and_stays_between_nothing_and_all(name: str, fold: Fold) -> None:
    told: list[tuple[float, str]] = []
    predictor = predictors.make(name, **(PARAMS if name == "drug_response" else {}))
    fit(predictor, fold, report=lambda done, message: told.append((done, message)))
    fractions = [d for d, _ in told]
    assert fractions == sorted(fractions)
    assert all(0 <= f <= 1 for f in fractions)
    assert all(m for _, m in told)
    if name == "drug_response":
        assert [m for _, m in told][-EPOCHS:] == [f"epoch {e} of {EPOCHS}" for e in range(1, EPOCHS + 1)]


def test_a_closed_form_stops_before_it_begins(fold: Fold) -> None:
    with pytest.raises(train.Stopped):
        train.fit(predictors.make("ridge"), fold, stopped=lambda: True)
    predictor = predictors.make("ridge")
    curve = train.fit(predictor, fold, stopped=lambda: False)
    assert curve.height == 0 and tables.check(curve, tables.CURVES).columns == list(tables.CURVES.columns)
    trees = train.fit(predictors.make("trees", rounds=30, smallest_leaf=5), fold)
    assert set(trees["name"]) == {"training RMSE", "held-out RMSE"}


def test_the_order_of_batches_differs_from_epoch_to_epoch(fold: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is that of the epoch's number, whether or not training was stopped in between."""
    seen: list[int] = []
    batch = SubjectLoader.batch

    def noted(self: SubjectLoader, chosen: torch.Tensor) -> Any:
        out = batch(self, chosen)
        seen.extend(out.row.unique_consecutive().tolist())
        return out

    monkeypatch.setattr(SubjectLoader, "batch", noted)
    fit(made(), fold)
    n = len(seen) // EPOCHS
    orders = [tuple(seen[e * n : (e + 1) * n]) for e in range(EPOCHS)]
    assert len(set(orders)) == EPOCHS
    assert len({tuple(sorted(o)) for o in orders}) == 1
    loader = SubjectLoader(made().prepare(fold), PARAMS["subjects"], 0)
    for epoch, order in enumerate(orders):
        loader.epoch = epoch
        assert tuple(torch.cat([b.row for b in loader]).tolist()) == order
        del seen[:]


def test_training_is_that_of_a_plain_loop(fold: Fold, whole: tuple[Any, pl.DataFrame]) -> None:
    """Lightning, curves, progress and checkpoints change no bit of what is learnt."""
    plain = made()
    loader = SubjectLoader(plain.prepare(fold), PARAMS["subjects"], 0)
    p = plain.params
    optimizer = torch.optim.AdamW(plain.parameters(), p["learning_rate"], weight_decay=p["weight_decay"], fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, p["learning_rate"], total_steps=EPOCHS * len(loader), pct_start=0.1
    )
    plain.train()
    for epoch in range(EPOCHS):
        loader.epoch = epoch
        plain.on_train_epoch_start()
        for i, batch in enumerate(loader):
            optimizer.zero_grad()
            plain.training_step(batch, i).backward()
            optimizer.step()
            schedule.step()
    plain.finish(fold)
    assert state(plain) == state(whole[0])


def test_training_lowers_the_error(fold: Fold) -> None:
    curve = fit(made(epochs=20, learning_rate=1e-2), fold)
    error = curve.filter(pl.col("name") == "training RMSE")["value"].to_list()
    assert error[-1] < 0.9 * error[0]


def test_a_study_opened_anew_gives_the_same_weights(fold: Fold, whole: tuple[Any, pl.DataFrame]) -> None:
    again = Split.make(Study.open(find("synthetic")), "unseen subject", endpoint="ln_ic50", folds=5).fold(0)
    disturb()
    predictor = made()
    fit(predictor, again)
    assert state(predictor) == state(whole[0])
