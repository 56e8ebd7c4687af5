"""Server and sites as processes of their own, with TLS and keys: trained, refused, killed, gone on with, all ended."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests import toy

pytest.importorskip("flwr")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*Click 9.0:DeprecationWarning")]

from workbench.federated import keys, spec, task  # noqa: E402
from workbench.federated.deployment import command as deploy_command  # noqa: E402
from workbench.federated.gate import ledger  # noqa: E402
from workbench.federated.processes import Processes  # noqa: E402
from workbench.federated.simulation import simulate  # noqa: E402
from workbench.federated.sites import Inline  # noqa: E402

WORKBENCH = [
    sys.executable,
    "-c",
    "import sys; from workbench.federated.command import main; sys.exit(main(sys.argv[1:]))",
]
FEDERATION = """
name = "deployed"
study = "-"
endpoint = "ln_ic50"
split = "unseen subject"
only = [0]
predictors = ["ridge"]
[federation]
least = 2
[federation.settings]
axes = 8
parts = 2
steps = 2
penalties = [1.0, 10.0]
"""


@pytest.fixture
def house(tmp_path, monkeypatch):
    """Studies of three sites, their keys and files, a federation and a free port; nothing is left of it afterwards."""
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flower"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = House(tmp_path, port)
    yield made
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert not made.living()
    assert not (tmp_path / "flower").exists()  # Flower kept nothing


class House:
    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port, self.keys = folder, port, folder / "k"
        self.studies = {n: toy.write(f"study {n}", seed=i, subjects=80).path for i, n in enumerate("abc")}
        assert deploy_command.main(["keys", str(self.keys), "--sites", *"abc", "--port", str(port)]) == 0
        (self.keys / "federation.toml").write_text(FEDERATION)
        server = self.keys / "server.toml"
        server.write_text(server.read_text().replace("settle_s = 60", "settle_s = 3\nsilence_s = 10"))
        for n in "abc":
            self.open(self.keys / "sites" / n)

    def open(self, site: Path) -> None:
        """A policy that lets sums leave that are not masked: two sites are too few for masks to mean much."""
        file = site / "policy.toml"
        file.write_text(
            file.read_text().replace("secure = true", "secure = false").replace("alone = false", "alone = true")
        )

    def serve(self, processes: Processes) -> None:
        processes.start("server", [*WORKBENCH, "serve", str(self.keys / "server.toml")], self.folder / "server.log")

    def join(self, processes: Processes, name: str, config: Path | None = None, study: str = "") -> None:
        file = config or self.keys / "sites" / name / "site.toml"
        words = [*WORKBENCH, "join", str(self.studies[study or name]), "--config", str(file)]
        processes.start(name, words, self.folder / f"{name}.log")

    def log(self, name: str = "server") -> str:
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def kept(self) -> list[int]:
        return [int(n) for n in re.findall(r"round (\d+) is kept", self.log())]

    def until(self, true, seconds: float = 240) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, self.log()[-3000:]
            time.sleep(0.01)

    def living(self) -> list[str]:
        """Command lines of processes that have to do with this folder or listen on its port."""
        import psutil

        found = []
        for process in psutil.process_iter(["cmdline", "pid"]):
            words = " ".join(process.info["cmdline"] or [])
            if str(self.folder) in words and process.info["pid"] != os.getpid():
                found.append(words)
        return found

    def expected(self, names: str) -> dict[str, np.ndarray]:
        """Arrays of the predictor that the sites ``names`` train in this process, without server or messages."""
        federation = spec.read(self.keys / "federation.toml")
        sites = [
            task._real(federation, 0, {
                "name": n, "study": str(self.studies[n]), "policy": str(self.keys / "sites" / n / "policy.toml"),
                "ledger": str(self.folder / "inline" / names / n),
            })
            for n in names
        ]  # fmt: skip
        return dict(simulate.train(federation, Inline(sites, 2)).arrays())


def _the_same(found, expected) -> None:
    assert found.keys() == expected.keys() and len(expected) > 3
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-12, err_msg=name)


def test_three_sites_train_as_if_in_one_process_and_a_stranger_is_refused(house):
    from safetensors.numpy import load_file

    from workbench import runs

    keys.own(house.folder / "x" / "site.key", "a")  # claims to be a
    for file in ("site.toml", "ca.crt", "policy.toml"):
        (house.folder / "x" / file).write_text((house.keys / "sites/a" / file).read_text())
    with Processes() as processes:
        house.serve(processes)
        house.join(processes, "x", house.folder / "x" / "site.toml", study="a")
        house.until(lambda: "listening" in house.log())
        assert processes.wait("x", 240) == 1
        for n in "abc":
            house.join(processes, n)
        assert processes.wait("server", 400) == 0, house.log()[-3000:]
        for n in "abc":
            assert processes.wait(n, 60) == 0, house.log(n)[-2000:]
    mark = keys.fingerprint(keys.public_pem(keys.private(house.folder / "x" / "site.key")))
    assert f"turned this site away: the key {mark} is not in the server's list" in house.log("x")
    assert f"turned away: 127.0.0.1, key {mark}" in house.log()
    expected = house.expected("abc")
    run = runs.find("latest")
    assert run.status == "FINISHED"
    _the_same(run.weights("ridge", 0)[1], expected)
    assert len(house.kept()) >= 3
    rounds = run.table("FEDERATION_ROUNDS")
    assert set(rounds["site"].drop_nulls().cast(str)) == {"a", "b", "c"} and rounds["lost"].null_count() == len(rounds)
    costs = {r["site"]: r for r in run.table("FEDERATION_COSTS").to_dicts()}
    for n in "abc":
        _the_same(load_file(house.keys / "sites" / n / "model" / "arrays.safetensors"), expected)
        book = house.keys / "sites" / n / "ledger" / "ledger.jsonl"
        assert ledger.verify(book).holds
        sent = [e for e in ledger.read(book) if e["kind"] == "message"]
        assert len(sent) >= costs[n]["messages"] > 3  # hello is no part of the training


def test_a_site_killed_in_round_two_and_the_server_in_round_three_end_with_the_right_model(house):
    from workbench import runs

    with Processes() as processes:
        house.serve(processes)
        for n in "abc":
            house.join(processes, n)
        house.until(lambda: len(house.kept()) >= 2)
        os.kill(processes.running["c"].pid, signal.SIGKILL)
        before = len(house.kept())
        house.until(lambda: len(house.kept()) > before and "c: " in house.log())
        os.kill(processes.running["server"].pid, signal.SIGKILL)
        assert processes.wait("server", 10) == -signal.SIGKILL
        at = house.kept()[-1]
        house.serve(processes)
        assert processes.wait("server", 400) == 0, house.log()[-3000:]
        for n in "ab":
            assert processes.wait(n, 60) == 0, house.log(n)[-2000:]
    assert f"going on after round {at}." in house.log()
    assert "trying again" in house.log("a")
    kept = house.kept()
    assert kept == sorted(kept)
    run = runs.find("latest")
    assert run.status == "FINISHED"
    _the_same(run.weights("ridge", 0)[1], house.expected("ab"))
    told = runs.runs()
    assert sorted(told["status"]) == ["FINISHED", "KILLED"]
    rounds = run.table("FEDERATION_ROUNDS")
    met = {r["site"]: (r["answered"], r["lost"]) for r in _by_site(rounds)}
    assert met["a"][1] == met["b"][1] == 0 and met["c"][1] > 0 and met["c"][0] > 0  # from before the kill, too
    assert not list((house.keys / "state").iterdir())


def _by_site(rounds):
    import polars as pl

    named = rounds.filter(pl.col("site").is_not_null(), pl.col("value").is_null())
    return (
        named.group_by(pl.col("site").cast(pl.String))
        .agg(answered=pl.col("bytes").count(), lost=pl.col("lost").count())
        .to_dicts()
    )
