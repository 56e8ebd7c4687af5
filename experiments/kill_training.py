"""Does training survive kill -9? Kills it at random moments, resumes it, and compares the weights bit by bit.

    python experiments/kill_training.py --times 20 --seed 0

Each trial is a fresh process that runs a whole experiment (a small DrugResponse on a synthetic study, recorded in
MLflow) and is killed at a random moment of its training; a second process finishes it. Checkpoints are
written after every epoch, in a folder on another filesystem than the temporary one where there is one. Exit status 1
when any weights differ from those of an uninterrupted training, any checkpoint is damaged, or any run stays RUNNING.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from workbench import home, tables
from workbench.study import write_study

EPOCHS = 40
SPEC: dict[str, Any] = {
    "name": "kill training",
    "study": "synthetic",
    "endpoint": "response",
    "split": "unseen subject",
    "folds": 5,
    "only": [0],
    "draws": 20,
    "predictors": ["drug_response"],
    "parameters": {
        "drug_response": {"members": 4, "width": 128, "rank": 32, "epochs": EPOCHS, "subjects": 16, "structure": False}
    },
}


@dataclass
class Count:
    """What the trials came to."""

    times: int = 0
    equal: int = 0
    corrupt: int = 0
    resumed: int = 0  # from a checkpoint, not from the start
    running: int = 0
    left: int = 0  # files in the folder of checkpoints

    @property
    def good(self) -> bool:
        return self.equal == self.times and not self.corrupt and not self.running and not self.left

    def __str__(self) -> str:
        return (
            f"{self.equal} of {self.times} resumed to bitwise equal weights; {self.corrupt} corrupt checkpoints; "
            f"{self.running} runs left RUNNING"
        )


# --- the process that is killed --------------------------------------------------------------------------------------


def child() -> None:
    """Run the experiment, telling each epoch; at the end print the digest of the weights."""
    import logging
    import warnings

    from workbench import experiment, train

    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # it sets its own level when imported
    train.fit.__kwdefaults__["every_s"] = 0.0  # a checkpoint after every epoch: as many chances to be hit as there are
    run = experiment.run(
        experiment.of(SPEC),
        point=lambda name, fold, epoch, values: print("epoch", epoch, flush=True),
        accelerator="cpu",
    )
    _, arrays = run.weights("drug_response", 0)
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + arrays[name].tobytes())
    print("weights", digest.hexdigest(), flush=True)


def start() -> subprocess.Popen[str]:
    """A fresh process that trains."""
    command = [sys.executable, __file__, "--child"]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # small products: more threads only wait for each other
    return subprocess.Popen(command, env=one_thread, stdout=subprocess.PIPE, text=True, start_new_session=True)


def end(process: subprocess.Popen[str]) -> None:
    """Kill -9 the process and all it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def follow(process: subprocess.Popen[str], until: int | None = None) -> list[list[str]]:
    """What the process says, to its end or to epoch ``until``."""
    said = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line.split())
        if until is not None and said[-1] == ["epoch", str(until)]:
            break
    return said


# --- the trials ------------------------------------------------------------------------------------------------------


def synthetic(seed: int = 0) -> None:
    """Write the study ``synthetic`` into the home: 80 subjects x 10 treatments of random numbers."""
    from anndata import AnnData

    draw = np.random.default_rng(seed)
    x = draw.normal(size=(80, 60)).astype(np.float32)
    y = x[:, :5] @ draw.normal(size=(5, 10)) + draw.normal(size=(80, 10))
    subjects, treatments = [f"subject {i:02d}" for i in range(80)], [f"treatment {j}" for j in range(10)]
    data = AnnData(x)
    data.obs_names, data.var_names = subjects, [f"gene{i}" for i in range(60)]
    data.uns["axis"], data.uns["unit"] = "subject", "z-score"
    s, t = (i.ravel() for i in np.indices(y.shape))
    outcomes = {
        "subject": [subjects[i] for i in s], "treatment": [treatments[j] for j in t], "site": "nowhere", "dose": None,
        "dose_unit": None, "time_h": None, "endpoint": "response", "value": y.ravel(), "unit": "arbitrary",
        "censored": 0, "source": "synthetic",
    }  # fmt: skip
    write_study(
        home.studies() / "synthetic",
        outcomes=pl.DataFrame(outcomes, schema=dict(tables.OUTCOMES.columns)),
        subjects=pl.DataFrame({"subject": subjects, "tissue": ["none"] * 80}),
        treatments=pl.DataFrame(
            {"treatment": treatments, "compound": None, "smiles": None}, schema=dict(tables.TREATMENTS.columns)
        ),
        modalities={"expression": data},
        provenance={"source": "synthetic numbers"},
        event="made to be killed over",
    )


def trial(folder: Path, chance: random.Random, pace: float, straight: str, count: Count) -> None:
    """Kill one training at a random moment, look at its checkpoint, finish it and compare."""
    import torch

    count.times += 1
    process = start()
    try:
        # a random moment: some way into a random epoch
        follow(process, until=chance.randrange(1, EPOCHS - 1))
        time.sleep(chance.random() * 2 * pace)
    finally:
        end(process)
    for path in folder.glob("*.ckpt"):
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            count.corrupt += 1
            print(f"{path.name}: {type(error).__name__}: {error}", file=sys.stderr)
    again = start()
    try:
        said = follow(again)
    finally:
        end(again)
    epochs = [int(words[1]) for words in said if words[0] == "epoch"]
    weights = [words[1] for words in said if words[0] == "weights"]
    count.equal += weights == [straight]
    count.resumed += bool(epochs) and epochs[0] > 1


def experiment(times: int, seed: int, folder: Path, progress: bool = True) -> Count:
    """Train once without a break, then ``times`` times with one; the caller has set a home of its own."""
    from workbench import runs

    synthetic()
    home.checkpoints().parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    home.checkpoints().symlink_to(folder, target_is_directory=True)
    process = start()
    try:
        follow(process, until=1)
        began = time.monotonic()
        said = follow(process, until=EPOCHS)
        pace = (time.monotonic() - began) / (EPOCHS - 1)
        said = follow(process)
    finally:
        end(process)
    straight = said[-1][1]
    count, chance = Count(), random.Random(seed)
    for _ in tqdm(range(times), desc="kills", disable=not progress, file=sys.stderr):
        trial(folder, chance, pace, straight, count)
    runs.sweep()
    count.running = runs.runs().filter(pl.col("status") == "RUNNING").height
    count.left = len(list(folder.iterdir()))
    return count


def elsewhere() -> Path:
    """A folder on another filesystem than the temporary one, where there is one."""
    here = os.stat(tempfile.gettempdir()).st_dev
    for place in (Path("/dev/shm"), Path.home(), Path.cwd()):
        if place.is_dir() and os.access(place, os.W_OK) and place.stat().st_dev != here:
            return place
    return Path(tempfile.gettempdir())


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill training with signal 9 at random moments, and resume it.")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None, help="for checkpoints; default: on another filesystem")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child()
        return 0
    place = given.folder or elsewhere()
    place.mkdir(parents=True, exist_ok=True)
    same = place.stat().st_dev == os.stat(tempfile.gettempdir()).st_dev
    print(f"checkpoints in {place}, {'the same' if same else 'another'} filesystem than {tempfile.gettempdir()}")
    with (
        tempfile.TemporaryDirectory(prefix="kill-training-") as scratch,
        tempfile.TemporaryDirectory(prefix="kill-training-", dir=place) as folder,
    ):
        os.environ["WORKBENCH_HOME"] = str(Path(scratch) / "home")
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        count = experiment(given.times, given.seed, Path(folder))
        shutil.rmtree(Path(scratch) / "home", ignore_errors=True)
    print(f"{count.resumed} of {count.times} went on from a checkpoint, the others from the start")
    if count.left:
        print(f"{count.left} files left in the folder of checkpoints")
    print(count)
    return 0 if count.good else 1


if __name__ == "__main__":
    sys.exit(main())
