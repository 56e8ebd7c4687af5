"""A private training between processes: a site killed after it paid, a server that goes on, a budget that is spent."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("flwr")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*Click 9.0:DeprecationWarning")]

from tests.workbench.test_federated_deploy_real import House, house  # noqa: E402, F401
from workbench.federated.gate import ledger  # noqa: E402
from workbench.federated.gate.budget import spent  # noqa: E402
from workbench.federated.gate.ledger import Ledger  # noqa: E402
from workbench.federated.processes import Processes  # noqa: E402

EPSILON = 2e4
FEDERATION = f"""
name = "private"
study = "-"
endpoint = "ln_ic50"
split = "unseen subject"
only = [0]
predictors = ["ridge"]
[federation]
method = "private_ridge"
least = 3
timeout_s = 8
[federation.settings]
epsilon = {EPSILON:.1f}
sketch = 40
"""
STAGES = ["private_moments", "private_moments", "private_gram", "private_cross", "private_errors"]


def charges(place: House, name: str) -> list:
    book = place.keys / "sites" / name / "ledger" / "ledger.jsonl"
    return Ledger(book).charges() if book.exists() else []


def budgeted(place: House) -> None:
    (place.keys / "federation.toml").write_text(FEDERATION)
    for n in "abc":
        file: Path = place.keys / "sites" / n / "policy.toml"
        lines = [line for line in file.read_text().splitlines() if not line.startswith("epsilon")]
        file.write_text("\n".join([*lines, f"epsilon = {EPSILON * (1 + 1e-6)}"]) + "\n")


def test_a_site_killed_after_it_paid_pays_no_second_time_and_gets_nothing_back(house: House) -> None:  # noqa: F811
    from workbench import runs

    budgeted(house)
    with Processes() as processes:
        house.serve(processes)
        for n in "abc":
            house.join(processes, n)
        house.until(lambda: len(charges(house, "c")) >= 2)
        os.kill(processes.running["c"].pid, signal.SIGKILL)
        processes.wait("c", 10)
        paid = charges(house, "c")  # whether or not the answer it paid for left
        assert 2 <= len(paid) < len(STAGES) + 1
        assert processes.wait("server", 120) == 1  # sums so far rest on three
        assert "c: " in house.log()
        house.serve(processes)
        for n in "abc":
            processes.wait(n, 30)
            house.join(processes, n)
        assert processes.wait("server", 240) == 0, house.log()[-3000:]
        assert "going on after round" in house.log()
        model = runs.find("latest")
        assert model.status == "FINISHED"
        for n in "abc":
            book = charges(house, n)
            assert [c["purpose"] for c in book] == STAGES  # each once, though some were asked for again
            assert spent(book, 1e-5).epsilon == pytest.approx(EPSILON, rel=1e-3)
            assert ledger.verify(house.keys / "sites" / n / "ledger" / "ledger.jsonl").holds
        assert charges(house, "c")[: len(paid)] == paid
        # another question, and nothing is left for it: told with the site's name and what can be done
        (house.keys / "federation.toml").write_text(FEDERATION.replace("only =", "seed = 1\nonly ="))
        house.serve(processes)
        for n in "abc":
            processes.wait(n, 30)
            house.join(processes, n)
        assert processes.wait("server", 240) == 1
        said = house.log()[-3000:]
        assert "a: policy: budget spent" in said and "Ask for a smaller epsilon" in said
        assert [len(charges(house, n)) for n in "abc"] == [len(STAGES)] * 3
