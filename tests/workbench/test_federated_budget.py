"""The privacy budget of a site: charged before anything leaves, shared by all runs, not forgotten by a kill."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests import toy
from workbench.federated import policy as policies
from workbench.federated import sharing
from workbench.federated.asked import Answer
from workbench.federated.gate import command, ledger
from workbench.federated.gate import outgoing as gate
from workbench.federated.gate.budget import Budget, spent
from workbench.federated.gate.ledger import Ledger
from workbench.federated.messages import Ask, Reply
from workbench.federated.policy import Policy, PolicyFileError
from workbench.federated.private.accounting import Release, Spent, epsilon
from workbench.federated.secure.server import Secure
from workbench.federated.site import Site
from workbench.federated.sites import Inline, TooFewSites
from workbench.splits import Fold, Split

NOISE = 8.0


def moments(round: int = 0, shift: float = 0.0, **values: object) -> Ask:
    """A private ask: the same but for ``shift`` is the same question."""
    arrays = {"shift": np.full(toy.GENES, shift), "scale": np.ones(toy.GENES)}
    told = {"clip": 6.0, "clip_squares": 10.0, "share_count": 0.2, "share_first": 0.4, "share_second": 0.4}
    return Ask("private_moments", round, arrays, {**told, "noise": NOISE, **values})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def fold(tmp_path_factory) -> Fold:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(tmp_path_factory.mktemp("home")))
        return Split.make(toy.write(), "unseen subject", endpoint="ln_ic50").fold(0)


def made(fold: Fold, folder: Path | None, name: str = "site 1", **rules: object) -> Site:
    held = sharing.at_random(fold, 3)[name]
    policy = Policy(**{"epsilon": 2.0, **rules})  # type: ignore[arg-type]
    return Site(name, sharing.local(fold, held), policy, [Budget()] if folder is None else gate.steps(folder))


def total(n: int, noise: float = NOISE) -> float:
    return epsilon([Release(noise)] * n, 1e-5)


def test_noisy_answers_are_charged_until_the_budget_is_spent(fold: Fold, tmp_path: Path) -> None:
    site = made(fold, tmp_path)
    fits = max(n for n in range(100) if total(n) <= 2.0)
    replies = [site.answer(moments(k, shift=float(k))) for k in range(fits + 2)]
    assert [r.refused is None for r in replies] == [True] * fits + [False] * 2
    said = str(replies[-1].refused)
    assert "budget spent" in said and f"{total(fits + 1):.3g} of the 2" in said and "delta = 1e-05" in said
    assert "PRV" in said and all(r.rows == 0 for r in replies)
    book = Ledger(tmp_path / gate.BOOK)
    assert spent(book.charges(), 1e-5).epsilon == pytest.approx(total(fits)) and ledger.verify(book.path).holds
    assert [e["kind"] for e in ledger.read(book.path)][:2] == ["charge", "message"]  # charged first, then sent
    shown = " ".join(command.text(ledger.read(book.path), ledger.verify(book.path)).split())
    assert (
        f"epsilon = {total(fits):.3g} at delta = 1e-05 is spent, {2 - total(fits):.3g} of the 2 allowed is left"
        in shown
    )
    assert f"{fits} private_moments" in shown


def test_the_same_question_has_the_same_noise_and_is_charged_once_also_in_a_new_process(
    fold: Fold, tmp_path: Path
) -> None:
    first = made(fold, tmp_path).answer(moments())
    again = made(fold, tmp_path).answer(moments(round=7))
    assert all(np.array_equal(first.arrays[k], again.arrays[k]) for k in first.arrays)
    other = made(fold, tmp_path).answer(moments(shift=0.5))
    assert not np.array_equal(first.arrays["count"], other.arrays["count"])  # the same persons under other noise
    assert len(Ledger(tmp_path / gate.BOOK).charges()) == 2
    assert (tmp_path / gate.KEY).stat().st_mode & 0o777 == 0o600


def test_another_study_at_the_site_spends_the_same_budget(fold: Fold, tmp_path: Path) -> None:
    one, two = (made(fold, tmp_path / "own", name, epsilon=1.1 * total(1)) for name in ("site 1", "site 2"))
    assert one.answer(moments()).refused is None
    assert "budget spent" in str(two.answer(moments()).refused)


def answering(site: Site, told: object) -> None:
    for k in range(10**6):
        reply = site.answer(moments(shift=float(k)))
        told.send(reply.refused)  # type: ignore[attr-defined]


def test_a_killed_site_forgets_no_charge_and_refuses_afterwards(fold: Fold, tmp_path: Path) -> None:
    fork, heard = multiprocessing.get_context("fork"), 0
    site = made(fold, tmp_path, epsilon=1e6)
    assert site.answer(moments(shift=-2.0)).refused is None  # reads its rows: polars' threads do not survive a fork
    for k in range(3):
        mine, theirs = fork.Pipe(duplex=False)
        child = fork.Process(target=answering, args=(site, theirs))
        child.start()
        theirs.close()
        for _ in range(3 + k):
            assert mine.recv() is None
            heard += 1
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join(30)
        while True:  # what it sent before it died
            try:
                heard += mine.recv() is None
            except EOFError:
                break
    with (tmp_path / gate.BOOK).open("ab") as stream:  # a kill may tear a line: here one is torn for sure
        stream.write(b'{"kind": "charge", "releases": [[0.0')
    charges = Ledger(tmp_path / gate.BOOK).charges()
    # the second and third child asked what the first had asked: the same answers, charged once
    assert len(charges) >= 3 + 2 and heard >= 3 + 4 + 5
    cost = spent(charges, 1e-5).epsilon
    assert cost == pytest.approx(total(len(charges)))
    strict = made(fold, tmp_path, epsilon=float(cost))
    assert "budget spent" in str(strict.answer(moments(shift=-1.0)).refused)
    assert strict.answer(moments(shift=0.0)).refused is None  # told before
    assert ledger.verify(tmp_path / gate.BOOK).holds
    assert len(Ledger(tmp_path / gate.BOOK).charges()) == len(charges)


def test_exact_answers_are_refused_and_what_holds_no_data_is_left_alone(fold: Fold, tmp_path: Path) -> None:
    site = made(fold, tmp_path)
    for exact in ("counts", "schema", "moments"):
        said = site.answer(Ask(exact, arrays={}, values={}))
        assert "privacy budget" in str(said.refused), exact
    hello, named = site.answer(Ask("hello")), site.answer(Ask("private_schema"))
    assert hello.refused is None and hello.rows == 0  # not even how many rows
    assert named.refused is None and not named.arrays and len(named.values["treatments"]) == 12  # type: ignore[arg-type]
    assert not Ledger(tmp_path / gate.BOOK).charges()
    free = made(fold, tmp_path / "free", epsilon=0.0)
    assert free.answer(Ask("counts")).refused is None and free.answer(Ask("hello")).rows > 0
    assert free.answer(moments()).refused is None and len(free.outgoing[2].charges()) == 1  # type: ignore[attr-defined]


def test_a_secure_sum_is_charged_once_before_it_is_masked_and_tells_no_row_count(fold: Fold, tmp_path: Path) -> None:
    sites = [made(fold, tmp_path / n, n, honest=2, secure=True) for n in ("site 1", "site 2", "site 3")]
    sums, gathered = Secure(Inline(sites), least=3).total(moments(honest=2), 3)
    assert gathered.rows == 0
    for site in sites:
        kinds = [e["kind"] for e in ledger.read(tmp_path / site.name / gate.BOOK)]
        assert kinds.count("charge") == 1
    parts = [s.made(moments(honest=2), leaves=False).arrays["count"] for s in sites]
    assert sums["count"] == pytest.approx(sum(parts), abs=1e-6)


def test_a_part_of_the_noise_alone_does_not_leave(fold: Fold, tmp_path: Path) -> None:
    site = made(fold, tmp_path, honest=3)
    assert "within a secure sum" in str(site.answer(moments(honest=2)).refused)
    assert not Ledger(tmp_path / gate.BOOK).charges()
    assert "counts on 1 at most" in str(made(fold, None).answer(moments(honest=2)).refused)
    with pytest.raises(TooFewSites, match="within a secure sum"):
        Inline([site]).total(moments(honest=2))


def test_a_book_that_was_tampered_with_stops_everything(fold: Fold, tmp_path: Path) -> None:
    made(fold, tmp_path).answer(moments())
    path = tmp_path / gate.BOOK
    path.write_bytes(path.read_bytes().replace(b"[[8.0, 1.0", b"[[9.0, 1.0"))  # noise that was not there
    reply: Reply = made(fold, tmp_path).answer(moments(shift=3.0))
    assert reply.refused is not None and not reply.arrays and not ledger.verify(path).holds


def test_a_budget_in_memory_binds_a_simulation_without_books(fold: Fold) -> None:
    site = made(fold, None, epsilon=1.2 * total(1))
    assert site.answer(moments()).refused is None and site.answer(moments(round=2)).refused is None
    assert "budget spent" in str(site.answer(moments(shift=1.0)).refused)
    assert isinstance(site.made(moments()), Answer)


def test_the_policy_file_is_read_strictly() -> None:
    told = policies.of({"epsilon": 3, "delta": 1e-6, "honest": 2})
    assert (told.epsilon, told.delta, told.honest) == (3.0, 1e-6, 2)
    assert replace(Policy()).epsilon == 0.0
    for wrong, says in (({"epsilon": -1.0}, "epsilon"), ({"delta": 0.0}, "delta"), ({"delta": 1.5}, "delta"),
                        ({"epsilom": 1.0}, "epsilon")):  # fmt: skip
        with pytest.raises(PolicyFileError, match=says):
            policies.of(wrong)


@pytest.mark.slow  # imports what records runs
def test_what_a_run_cost_stands_in_the_table_of_costs(fold: Fold) -> None:
    from workbench.federated.simulation import recording
    from workbench.federated.watched import Watched

    there = Watched(Inline([made(fold, None, name) for name in ("site 1", "site 2")]))
    there.total(moments(), 2)
    dealt = sharing.at_random(fold, 3)
    costs = recording._costs(fold, dealt, there.rounds(), Spent(2.5, 1e-6))
    assert costs["epsilon"].to_list() == [2.5, 2.5, 0.0] and costs["delta"].to_list() == [1e-6] * 3
    assert recording._costs(fold, dealt, there.rounds())["epsilon"].null_count() == 3
