"""Our secure mean beside Flower's own SecAgg+ on the same weights, both against plain FedAvg.

Flower's legacy workflow and its client mod run here without a server: a grid that hands each message to the mod of its
node in this process.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.workbench.summing_sites import NAMES, Losing, answering, inline, site
from workbench.federated.messages import Ask
from workbench.federated.secure.server import Secure
from workbench.federated.sites import Inline

pytest.importorskip("flwr", reason="needs the extra federation")

ROWS = dict(zip(NAMES, (40, 25, 300, 77, 61), strict=True))
SHAPES = ((40, 16), (16,), (16, 1))


def weights(name: str) -> list[np.ndarray]:
    draw = np.random.default_rng([87, NAMES.index(name)])
    return [draw.normal(0, 0.5, shape).astype(np.float32) for shape in SHAPES]


def flower(lost: str | None = None, clipping: float = 8.0, most: float = 1000) -> list[np.ndarray]:
    """The weighted mean by Flower's SecAggPlusWorkflow and secaggplus_mod; ``lost`` is silent from step three on."""
    import flwr.compat.common.recorddict_compat as compat
    from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
    from flwr.client.mod import secaggplus_mod
    from flwr.common import Code, FitIns, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
    from flwr.server import LegacyContext
    from flwr.server.workflow import SecAggPlusWorkflow
    from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
    from flwr.server.workflow.constant import Key as WorkflowKey

    def context() -> Context:
        return Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={})

    nodes = {101 + k: (name, context()) for k, name in enumerate(NAMES)}

    def trained(message, _):
        name = nodes[message.metadata.dst_node_id][0]
        told = FitRes(Status(Code.OK, ""), ndarrays_to_parameters(weights(name)), ROWS[name], {})
        return Message(compat.fitres_to_recorddict(told, False), reply_to=message)

    class Grid:
        def send_and_receive(self, messages, timeout=None):
            replies = []
            for message in map(copy.deepcopy, messages):  # as if each had travelled
                name, state = nodes[message.metadata.dst_node_id]
                stage = message.content.config_records[RECORD_KEY_CONFIGS][Key.STAGE]
                if name == lost and stage in (Stage.COLLECT_MASKED_VECTORS, Stage.UNMASK):
                    replies.append(Message(Error(0, "gone"), reply_to=message))
                else:
                    replies.append(secaggplus_mod(message, state, trained))
            return replies

    class Strategy:
        def configure_fit(self, server_round, parameters, client_manager):
            return [(SimpleNamespace(node_id=n), FitIns(parameters, {})) for n in nodes]

        def aggregate_fit(self, server_round, results, failures):
            self.mean = parameters_to_ndarrays(results[0][1].parameters)
            return None, {}

    strategy = Strategy()
    server = LegacyContext(context(), strategy=strategy)
    server.client_manager = SimpleNamespace(num_available=lambda: len(nodes))
    server.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
    start = ndarrays_to_parameters([np.zeros(s, np.float32) for s in SHAPES])
    server.state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(start, False)
    SecAggPlusWorkflow(num_shares=5, reconstruction_threshold=3, clipping_range=clipping, max_weight=float(most))(
        Grid(), server
    )
    return strategy.mean


def ours(monkeypatch, names) -> list[np.ndarray]:
    answering(monkeypatch, {n: {str(k): w * np.float32(ROWS[n]) for k, w in enumerate(weights(n))} for n in names})
    sums, who = Secure(Inline([site(n, ROWS[n]) for n in names])).total(Ask("counts"))
    assert who.rows == sum(ROWS[n] for n in names)
    return [sums[str(k)] / who.rows for k in range(len(SHAPES))]


def plainly(names) -> list[np.ndarray]:
    every = [[w.astype(np.float64) for w in weights(n)] for n in names]
    return [np.average(np.stack(layer), axis=0, weights=[ROWS[n] for n in names]) for layer in zip(*every, strict=True)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("lost", [None, "site 3"])
def test_both_give_the_weights_of_plain_fedavg(monkeypatch, lost):
    from flwr.supercore.task_identity import TaskIdentity

    for name in ("_run_id", "_node_id", "_task_id"):  # who sends a message; Flower's own launchers set it
        monkeypatch.setattr(TaskIdentity, name, 1)
    names = [n for n in NAMES if n != lost]
    mean, mine = plainly(names), ours(monkeypatch, names)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    theirs = flower(lost, most=max(ROWS[n] for n in names))  # with its default, 1000, off by some 3e-5
    off = [max(np.abs(a - b).max() for a, b in zip(mean, other, strict=True)) for other in (mine, theirs)]
    assert off[0] < 1e-7 and off[1] < 1e-5


def test_the_stretching_of_flowers_keys_is_not_taken_over():
    """Flower folds a key to 32 bits before it stretches it, so that other keys give the same mask; ours do not."""
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

    from workbench.federated.secure import masks

    one = bytes(range(32))
    two = one[4:8] + one[:4] + one[8:]
    theirs = [pseudo_rand_gen(k, 2**32, [(50,)])[0] for k in (one, two)]
    assert (theirs[0] == theirs[1]).all()
    mine = [{"x": np.zeros(50, np.uint64)} for _ in range(2)]
    for arrays, key in zip(mine, (one, two), strict=True):
        masks.blend(arrays, key, 1)
    assert not (mine[0]["x"] == mine[1]["x"]).any()


def test_masks_bound_to_a_question_cancel_after_it_has_travelled(monkeypatch):
    """Masks of a lost site come off at the server, which has the question as it was before Flower's records."""
    from workbench.federated import task

    class Records(Losing):
        def ask(self, ask, of=None):
            got = super().ask(task.ask_of(task.content(ask)), of)
            return replace(got, replies=tuple(task.reply_of(task.content(r)) for r in got.replies))

    held = {n: {"x": np.random.default_rng([86, k]).normal(size=9)} for k, n in enumerate(NAMES)}
    answering(monkeypatch, held)
    gram = np.random.default_rng(87).normal(size=(6, 4))
    arrays = {
        "fortran": np.asfortranarray(gram), "strided": gram[::2], "single": gram.astype(np.float32), "one": np.array(3),
        "none": np.empty((0, 4)), "flags": gram > 0, "swapped": gram.astype(">f8"),
    }  # fmt: skip
    values = {
        "text": "µ",
        "whole": 2,
        "real": 2.0,
        "tiny": 5e-324,
        "yes": True,
        "names": ["a"],
        "nothing": [],
        "n": [1],
    }
    sites = Records(inline(), lambda s, n: s == "masked" and n == "site 2")
    sums, who = Secure(sites).total(Ask("counts", 5, arrays, values))
    assert set(who.lost) == {"site 2"}
    assert np.abs(sums["x"] - sum(held[n]["x"] for n in NAMES if n != "site 2")).max() < 1e-15


def test_secure_sums_travel_through_flowers_engine():
    """Four asks and their replies as Flower's messages: what is trained equals plain sums in this process."""
    from tests import toy
    from workbench.federated import spec
    from workbench.federated.simulation import simulate

    toy.write()
    plain = {"name": "x", "study": "synthetic", "endpoint": "ln_ic50", "split": "unseen subject", "folds": 3,
             "only": [0], "draws": 50, "predictors": ["drug_mean"]}  # fmt: skip
    own = {"sites": {"random": 4}, "policy": {"minimum_rows": 5, "minimum_cell": 1}, "timeout_s": 60}
    secure = simulate.fitted(spec.of(plain | {"federation": own | {"secure": True}}), 0, "flower")
    mine, theirs = secure.predictor, simulate.fitted(spec.of(plain | {"federation": own}), 0, "inline").predictor
    assert mine.mean_ == pytest.approx(theirs.mean_, rel=1e-13)
    assert mine.tables_[0] == pytest.approx(theirs.tables_[0], rel=1e-13)
    asked = [e.purpose for e in secure.watched.exchanges]
    assert "value_sums" not in asked and asked[-5:] == [
        "secure_keys", "secure_shares", "secure_masked", "secure_survivors", "secure_unmask"
    ]  # fmt: skip
