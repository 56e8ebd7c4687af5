"""A server that is stopped between rounds and a site that leaves: over TLS, in one process; see also ``..._real``."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from tests import toy

pytest.importorskip("flwr")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*Click 9.0:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

from workbench.federated import keys, spec, task  # noqa: E402
from workbench.federated.deployment import command as deploy_command  # noqa: E402
from workbench.federated.deployment import served as _served  # noqa: E402
from workbench.federated.deployment.link import Link  # noqa: E402
from workbench.federated.deployment.node import Node  # noqa: E402
from workbench.federated.simulation import simulate  # noqa: E402
from workbench.federated.sites import Inline  # noqa: E402

FEDERATION = """
name = "goes on"
study = "-"
endpoint = "ln_ic50"
split = "unseen subject"
only = [0]
predictors = ["ridge"]
[federation]
least = 2
[federation.settings]
axes = 4
parts = 2
steps = 1
rough = 1e-3
penalties = [10.0]
"""


def test_the_run_that_ends_holds_the_rounds_before_and_the_model_of_the_sites_that_stayed(tmp_path):
    from workbench import runs
    from workbench.federated.client_app import app
    from workbench.federated.server_app import FlowerSites

    folder = tmp_path / "k"
    assert deploy_command.main(["keys", str(folder), "--sites", *"abc"]) == 0
    (folder / "federation.toml").write_text(FEDERATION)
    federation, allowed = spec.read(folder / "federation.toml"), keys.allowed(folder / "allowed.txt")
    told = {}
    for i, n in enumerate("abc"):
        policy = folder / "sites" / n / "policy.toml"
        text = policy.read_text().replace("secure = true", "secure = false").replace("alone = false", "alone = true")
        policy.write_text(text)
        study = toy.write(f"study {n}", seed=i, subjects=80).path
        told[n] = {"name": n, "study": str(study), "policy": str(policy), "ledger": str(tmp_path / "ledger" / n)}
    leaves, ended, heard = threading.Event(), {}, []

    def of(name):
        def answer(message, context):
            if name == "c" and leaves.is_set():
                raise SystemExit  # ends the site's thread
            return app(message, context)

        return answer

    def site(name, port):
        key = keys.private(folder / "sites" / name / "site.key")
        made = Node(f"127.0.0.1:{port}", key, of(name), told[name], folder / "ca.crt", 60.0, lambda _: None)
        ended[name] = threading.Thread(target=made.run, daemon=True)
        ended[name].start()

    def serve(port, say, names=None):
        config, pair = task.run_config(federation, 0), (folder / "server.crt", folder / "server.key")
        with Link("127.0.0.1", port, allowed, config, *pair, heard.append) as link:
            for name in names or ():
                site(name, link.port)
            while len(list(link.grid.get_node_ids())) < (3 if names else 2):
                time.sleep(0.02)
            sites = FlowerSites(link.grid, 3 if names else 2, 60.0, least=2, pause_s=0.05, wait=link.wait)
            ports.append(link.port)
            run, model = _served.record(federation, sites, allowed, tmp_path / "state", say)
            link.end("done", model)
            return run

    kept, ports = [], []

    def stops(what):
        if what.endswith("is kept."):
            kept.append(what)
            if len(kept) == 2:
                leaves.set()
            if len(kept) == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve(0, stops, "abc")
    assert not ended["c"].is_alive() and (tmp_path / "state" / "state.safetensors").exists()
    said: list[str] = []
    run = serve(ports[0], said.append)
    for name in "ab":
        ended[name].join(10)
        assert not ended[name].is_alive()
    assert any(s.startswith("going on after round ") for s in said)
    assert run.status == "FINISHED"
    assert sorted(runs.runs()["status"]) == ["FINISHED", "KILLED"]
    expected = dict(simulate.train(federation, Inline([
        task._real(federation, 0, told[n] | {"ledger": str(tmp_path / "inline" / n)}) for n in "ab"
    ], 2)).arrays())  # fmt: skip
    found = run.weights("ridge", 0)[1]
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-12, err_msg=name)
    rounds = run.table("FEDERATION_ROUNDS")
    by = {s: rounds.filter(rounds["site"].cast(str) == s) for s in "abc"}
    assert by["c"]["bytes"].count() > 0 and by["c"]["lost"].count() > 0  # from before the stop, and after it left
    assert by["a"]["bytes"].count() > by["c"]["bytes"].count() and by["a"]["lost"].count() == 0
    assert not list((tmp_path / "state").iterdir())
