"""An encoder learnt by sites together: who has a part in it, what it knows, killed, secure, and what it is worth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import toy
from tests.workbench.pretraining_sites import BARE, LAX, NOTHING, PARAMS, SETTINGS, divided, held, learn, low_rank, same
from workbench import modalities
from workbench.federated import sharing, spec, task
from workbench.federated.asked import pretrain_round
from workbench.federated.exact.harmonise import agree
from workbench.federated.gate import outgoing as gate
from workbench.federated.messages import Ask, Gathered
from workbench.federated.network.training import seed_of
from workbench.federated.policy import Policy
from workbench.federated.pretraining import fit as pretraining
from workbench.federated.pretraining import head, local, unlabelled
from workbench.federated.simulation import simulate
from workbench.federated.site import Site, SiteError
from workbench.federated.sites import Inline
from workbench.federated.worth import command, encoders
from workbench.federated.worth import value as worth
from workbench.nn import kernel_ridge
from workbench.nn.scaling import Rotation, standardise
from workbench.predictors import restore
from workbench.predictors._pairs import matrix
from workbench.splits import Fold

pytestmark = [pytest.mark.shared_home, toy.lightning_warnings]


@pytest.fixture(scope="module")
def fold(_module_home: object) -> Fold:
    return divided("low rank", values=low_rank)


@pytest.fixture(scope="module")
def noise(_module_home: object) -> Fold:
    return divided("noise")


@pytest.fixture(scope="module")
def learnt(fold: Fold) -> tuple[Any, list[Any], list[Site]]:
    states: list[Any] = []
    sites = held(fold)
    made = learn(sites, keep=lambda n, a, v: states.append((n, {k: x.copy() for k, x in a.items()}, dict(v))))
    return made, states, sites


# --- who has a part in it --------------------------------------------------------------------------------------------


def test_subjects_without_responses_count_and_tested_ones_do_not(fold: Fold) -> None:
    sites = held(fold, policy=LAX)
    free = {s for site in sites for s in site.unlabelled}
    assert free == {f"subject {i:02d}" for i in range(BARE)}
    made = learn(sites, pretraining_rounds=1)
    seen = [s for site in sites for s in site.memory[local.MEMORY].subjects]
    assert free <= set(seen) and not set(seen) & set(fold.test["subject"])
    assert len(seen) == len(set(seen)) == made.explained_[-1].persons
    with pytest.raises(SiteError, match="test subjects"):
        tested = tuple(sites[0].fold.test["subject"].unique())
        local.Held(replace(sites[0], unlabelled=tested, memory={}), sites[0].memory[local.MEMORY].plan)
    asked = agree(Inline(sites), endpoint="ln_ic50").values() | {"unlabelled": True}
    for purpose in ("schema", "carriers", "moments", "axes"):  # nor are axes found from them
        refused = replace(sites[0], unlabelled=tested, memory={}).answer(Ask(purpose, values=asked)).refused
        assert refused is not None and "test subjects" in refused, purpose
    # sums with and without a few subjects would tell them apart
    few = replace(sites[0], unlabelled=sites[0].unlabelled[:1])
    assert unlabelled.everyone(few) == few.subjects


def test_a_feature_that_only_test_subjects_have_changes_nothing(_module_home: object, fold: Fold) -> None:
    tested = set(fold.test["subject"])

    def planted(kind: str, names: list[str], matrix: np.ndarray) -> np.ndarray:
        made = low_rank(kind, names, matrix)
        if kind == "expression":
            made[[n in tested for n in names], 0] = 1000.0
        return made

    marked = divided("marked", values=planted)
    assert set(marked.test["subject"]) == tested
    same(learn(held(fold), pretraining_rounds=2), learn(held(marked), pretraining_rounds=2))


def test_a_patient_who_is_tested_is_not_learnt_from_by_another_sample(fold: Fold) -> None:
    tested = fold.test["subject"][0]
    subjects = fold.study.subjects.with_columns(
        patient=pl.when(pl.col("subject").cast(pl.String).is_in([tested, "subject 00"])).then(pl.lit("one patient"))
    )

    class Study:
        modalities, presence = fold.study.modalities, fold.study.presence

    Study.subjects = subjects  # type: ignore[attr-defined]
    person = pl.when(pl.col("subject") == tested).then(pl.lit("one patient")).otherwise("person").alias("person")
    there = replace(fold, study=Study, test=fold.test.with_columns(person))  # type: ignore[arg-type]
    assert set(unlabelled.of(fold)) - set(unlabelled.of(there)) == {"subject 00"}


# --- what it knows ---------------------------------------------------------------------------------------------------


def test_a_planted_structure_is_learnt_and_noise_is_not(fold: Fold, noise: Fold) -> None:
    long = {"pretraining_rounds": 5, "pretraining_epochs": 14, "pretraining_rate": 2e-2}
    planted = learn(held(fold), **long).explained_
    assert [e.modality for e in planted] == ["expression", "mutation", "copy_number", "all"]
    assert planted[0].value > 0.3 and planted[-1].value > 0.3 and planted[-1].low > 0.25
    assert all(e.low < e.value < e.high for e in planted)
    assert learn(held(noise), **long).explained_[-1].low <= 0.0


def test_the_interval_is_the_jackknifes() -> None:
    draw = np.random.default_rng(0)
    n = draw.gamma(3.0, size=400)
    e = n * draw.uniform(0.2, 0.8, 400)
    sums = np.array([[e.sum(), n.sum(), (e * e).sum(), (e * n).sum(), (n * n).sum()]])
    found = pretraining._explained([], np.array([400]), sums)[0]
    without = 1 - (e.sum() - e) / (n.sum() - n)
    error = np.sqrt(399 / 400 * ((without - without.mean()) ** 2).sum())
    assert found.value == pytest.approx(1 - e.sum() / n.sum())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.01)


# --- rounds ----------------------------------------------------------------------------------------------------------


def test_one_site_is_local_training(fold: Fold) -> None:
    site = held(fold, 1)[0]
    made = learn([site])
    mine = site.memory[local.MEMORY]
    plain = local.built(mine.plan, 0.3, 0.3)
    for number in range(3):
        mine.train(plain, number, 3, 2, seed_of(0, "site 1"))
    for k, w in local.weights(plain).items():
        if k.startswith(pretraining.ENCODER):
            np.testing.assert_allclose(made.arrays()[f"layers.{k}"], w, atol=1e-6, err_msg=k)


def test_three_sites_are_a_plain_fedavg_loop(fold: Fold, learnt: Any) -> None:
    made, _, sites = learnt
    mine = [s.memory[local.MEMORY] for s in sites]
    shared = local.weights(local.built(mine[0].plan, 0.3, 0.3))
    rows = np.array([len(h.subjects) for h in mine], dtype=np.float64)
    for number in range(3):
        after = []
        for site, own in zip(sites, mine, strict=True):
            module = local.put(local.built(own.plan, 0.3, 0.3), shared)
            own.train(module, number, 3, 2, seed_of(0, site.name))
            after.append(local.weights(module))
        shared = {k: sum(r * w[k] for r, w in zip(rows, after, strict=True)) / rows.sum() for k in shared}
    for k, w in shared.items():
        if k.startswith(pretraining.ENCODER):
            np.testing.assert_allclose(made.arrays()[f"layers.{k}"], w, atol=1e-6, err_msg=k)


def test_a_killed_server_goes_on_to_the_bit(fold: Fold, learnt: Any) -> None:
    whole, states, _ = learnt
    at = next(i for i, s in enumerate(states) if s[1].get("inside/pretraining/done", [0])[0] == 2)
    again = learn(held(fold), state=states[at])  # new processes at the sites as well
    same(whole, again)
    assert again.explained_ == whole.explained_ and again.points_ == whole.points_


def test_secure_sums_give_the_same(fold: Fold, learnt: Any) -> None:
    from workbench.federated.secure import server

    secured = learn(server.Secure(Inline(held(fold)), least=3))
    same(learnt[0], secured, atol=1e-5)
    assert secured.explained_[-1].value == pytest.approx(learnt[0].explained_[-1].value, abs=1e-5)


def test_every_answer_passes_the_gate(noise: Fold, tmp_path: Any) -> None:
    lax = Policy(minimum_rows=5, minimum_cell=1)  # a rare mutation's count stays at home otherwise
    sites = held(noise, policy=lax)
    for s in sites:
        s.outgoing = gate.steps(tmp_path / s.name)
    parameters = PARAMS | {"modalities": ["expression", "mutation"]}
    told = [learn(each, pretraining_rounds=1, parameters=parameters) for each in (sites, held(noise, policy=lax))]
    same(*told)
    assert len(told[0].explained_) == 3
    book = (tmp_path / "site 1" / gate.BOOK).read_text()
    assert book.count('"pretrain_round"') == 1 and book.count('"pretrain_score"') == 1


def test_a_row_in_the_change_is_stopped(noise: Fold, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = pretrain_round.answer

    def smuggles(site: Any, ask: Ask) -> Any:
        made = honest(site, ask)
        row = site.memory[local.MEMORY].x["expression"][0].numpy()
        k = "change.decoders.expression.bias"
        return replace(made, arrays=dict(made.arrays) | {k: np.broadcast_to(row, made.arrays[k].shape).copy()})

    sites = held(noise)
    sites[0].outgoing = gate.steps(tmp_path / "gate")
    monkeypatch.setattr(pretrain_round, "answer", smuggles)
    asked: list[Gathered] = []

    class Noted(Inline):
        def ask(self, ask: Ask, of: Any = None) -> Gathered:
            asked.append(super().ask(ask, of))
            return asked[-1]

    learn(Noted(sites), pretraining_rounds=1)
    assert any("row" in why for g in asked for site, why in g.lost.items() if site == "site 1")


# --- the head --------------------------------------------------------------------------------------------------------


def test_a_head_without_the_encoder_is_a_ridge_on_the_features_as_they_are(fold: Fold, learnt: Any) -> None:
    """The kernel of standardised features, without any axes."""
    encoder, own = learnt[0], learnt[2][0].fold
    made = head.fit(encoder, own, (0.0,))
    train, test = (sorted(side["subject"].unique()) for side in (own.train, own.test))
    there = np.array([any(s in modalities.read(fold.study, m).names for m in made.closed_.names) for s in train])
    train = [s for s, t in zip(train, there, strict=True) if t]
    presence, parts = np.zeros((len(train) + len(test), 3)), []
    for i, m in enumerate(made.closed_.names):
        rotation = encoder.closed_.rotations[m]
        values, some = modalities.read(fold.study, m, columns=encoder.closed_.columns[m]).rows([*train, *test])
        presence[:, i] = some
        width = made.closed_.rotations[m].axes.shape[1]
        z = standardise(values, rotation.mean, rotation.sd) * some[:, None]
        parts.append(z * made.closed_.gains[m] / np.sqrt(width) / rotation.scale)
    gain = np.array([made.closed_.gains[m] for m in made.closed_.names])
    x = np.concatenate(parts, axis=1) / np.sqrt((presence * gain**2).sum(1, keepdims=True))
    x = x - x[: len(train)].mean(0)
    scale = (x[: len(train)] ** 2).sum(1).mean()
    fitted = kernel_ridge.fit(
        x[: len(train)] @ x[: len(train)].T / scale, matrix(own.train, train, made.closed_.treatments)
    )
    plane = fitted.intercept + x[len(train) :] @ x[: len(train)].T @ fitted.dual / scale
    pairs = pl.DataFrame(
        [(s, t) for s in test for t in made.closed_.treatments], ["subject", "treatment"], orient="row"
    )
    told = made.predict(fold.study, pairs)["predicted"].to_numpy().reshape(plane.shape)
    known = np.asarray(presence[len(train) :].any(1))
    np.testing.assert_allclose(told[known], plane[known], atol=2e-4)


def test_a_head_on_axes_alone_is_a_ridge_on_axes_of_even_spread(fold: Fold, learnt: Any) -> None:
    """The rival of every encoder: spreads are those of the site's subjects with responses and without."""
    encoder, site = learnt[0], learnt[2][0]
    made = head.fit(encoder, site.fold, (1.0,), free=site.unlabelled)
    subjects, test = (sorted(side["subject"].unique()) for side in (site.fold.train, site.fold.test))
    form = encoder.closed_
    x, presence = form.features(fold.study, [*subjects, *site.unlabelled])
    phi = form._phi(x, presence)
    z = phi / phi[presence.any(1)].std(0)
    n = len(subjects)
    z, ahead = z[:n][presence[:n].any(1)], form._phi(*form.features(fold.study, test)) / phi[presence.any(1)].std(0)
    z, ahead = z - z.mean(0), ahead - z.mean(0)
    known = [s for s, p in zip(subjects, presence[:n].any(1), strict=True) if p]
    scale = (z**2).sum(1).mean()
    fitted = kernel_ridge.fit(z @ z.T / scale, matrix(site.fold.train, known, made.closed_.treatments))
    plane = fitted.intercept + ahead @ z.T @ fitted.dual / scale
    pairs = pl.DataFrame(
        [(s, t) for s in test for t in made.closed_.treatments], ["subject", "treatment"], orient="row"
    )
    told = made.predict(fold.study, pairs)["predicted"].to_numpy().reshape(plane.shape)
    there = form.features(fold.study, test)[1].any(1)
    np.testing.assert_allclose(told[there], plane[there], atol=2e-4)


def test_a_head_comes_back_from_its_numbers(fold: Fold, learnt: Any) -> None:
    site = learnt[2][0]
    made: Any = head.fit(learnt[0], site.fold)
    pairs = site.fold.test.select("subject", "treatment")
    told = made.predict(fold.study, pairs)
    again = restore("drug_response", made.config(), made.arrays()).predict(fold.study, pairs)
    np.testing.assert_allclose(told["predicted"], again["predicted"], atol=1e-5)
    assert told["predicted"].null_count() == 0 and bool((told["low"] < told["high"]).all())
    assert set(made.shares_) <= set(head.SHARES)


# --- worth -----------------------------------------------------------------------------------------------------------


def federation(**own: Any) -> Any:
    plain = {"name": "pretrained", "study": "low rank", "endpoint": "ln_ic50", "split": "unseen subject", "folds": 5,
             "only": [0], "draws": 50, "predictors": ["drug_response"],
             "parameters": {"drug_response": PARAMS | {"epochs": 2}}}  # fmt: skip
    settings = {k: v for k, v in SETTINGS.items() if k not in ("least", "parameters")} | {"local_epochs": 1}
    given = {"method": "pretraining", "sites": {"random": 3}, "rounds": 2, "settings": settings | {"axes": 6},
             "policy": {"minimum_rows": 5, "minimum_cell": 1}, "arms": ["alone", *spec.PRETRAINED]}  # fmt: skip
    return spec.of(plain | {"federation": given | own})


@pytest.mark.slow
def test_a_run_has_the_arms_in_one_table_with_paired_intervals(fold: Fold) -> None:
    said: list[tuple[float, str]] = []
    run = simulate.simulate(federation(), "inline", say=lambda done, what: said.append((done, what)))
    assert run.status == "FINISHED"
    shares = [done for done, _ in said]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert {
        f"in one house, {arm}, site {i} (1 of 1 folds)" for arm in ("alone", *spec.PRETRAINED) for i in (1, 2, 3)
    } <= {what for _, what in said}
    found = worth.of_run(run, draws=200)
    assert set(found.sites["arm"]) == {"alone", "federated", *spec.PRETRAINED}
    own = found.sites.filter(pl.col("arm") != "alone")
    assert own["difference_low"].null_count() == 0 and set(own["verdict"]) <= {"better", "worse", "no difference shown"}
    joined = found.verdicts.filter(pl.col("arm") == "pretrained together")
    assert joined.height == 3
    assert all(any("pretraining of its own" in f for f in flags) for flags in joined["flags"])
    # the encoder comes back from the run, and the arm is the head on it, on the site's own test rows
    encoder = run.model("encoder", 0, lambda _, config, arrays: restore("drug_response", config, arrays))
    site, subjects = next(iter(sharing.at_random(fold, 3).items()))
    there = sharing.local(fold, subjects)
    again = head.fit(encoder, there).predict(fold.study, there.test.select("subject", "treatment"))
    knows = found.encoders
    assert knows["arm"].to_list()[0] == "pretrained together" and set(knows["naive"]) == {0.0}
    assert set(knows["site"]) == {None, *sharing.at_random(fold, 3)} and bool((knows["low"] < knows["high"]).all())
    text = command.text(found)
    assert "what the encoders know" in text and max(map(len, text.splitlines())) <= command.WIDTH + 8
    explained = [c.data.metrics for c in run.children if c.info.run_name.startswith("encoder")]
    assert explained[0]["masked R2"] > -1 and "masked R2 expression low" in explained[0]
    assert "pretraining R2 held out" in {m for c in run.children for m in c.data.metrics}
    kept = run.table("FEDERATION_PREDICTIONS").filter(
        (pl.col("arm").cast(pl.String) == "pretrained together") & (pl.col("site").cast(pl.String) == site)
    )
    np.testing.assert_allclose(np.sort(kept["predicted"]), np.sort(again["predicted"]), atol=1e-5)


def test_what_encoders_know_is_read_from_the_rounds_by_fold() -> None:
    def known(value: float) -> list[Any]:
        return [pretraining.Explained(m, value, value - 0.1, value + 0.1, 9) for m in ("expression", "all")]

    nobody = pretraining.Explained("mutation", np.nan, np.nan, np.nan, 1)
    parts = [
        encoders.rounds([*known(0.4), nobody], 5),
        encoders.rounds(known(0.1), 5, "site 1"),
        encoders.rounds(known(0.3), 5),
    ]
    found = encoders.of(pl.concat(parts))
    shared = found.filter(pl.col("site").is_null(), pl.col("modality") == "expression")
    assert shared["value"].to_list() == [0.4, 0.3] and shared["low"].to_list() == pytest.approx([0.3, 0.2])
    assert found.filter(pl.col("site") == "site 1")["arm"].unique().to_list() == ["own pretraining"]
    assert "mutation" not in set(found["modality"])
    told = list(encoders.lines(found))
    assert "expression   0.400 (0.300 to 0.500), 0.300 (0.200 to 0.400)" in told[1]
    assert len(told) == 3 and not list(encoders.lines(found.clear()))


def test_the_arms_need_the_method_and_settings_are_named() -> None:
    with pytest.raises(spec.FederationError, match="needs method"):
        federation(method="network", settings={})
    with pytest.raises(spec.FederationError, match="pretraining_rounds"):
        federation(settings={"pretraining_round": 3})


def test_an_encoder_is_turned_onto_other_axes(fold: Fold, learnt: Any) -> None:
    """Other means, spreads, scales and axes of the same span, columns in another order: z stays what it was."""
    encoder, _, sites = learnt
    plan, draw = sites[0].memory[local.MEMORY].plan, np.random.default_rng(3)
    columns, rotations = {}, {}
    for m in plan.names:
        own, order = plan.rotations[m], draw.permutation(len(plan.columns[m]))
        turn = np.linalg.qr(draw.normal(size=(len(order), len(order))))[0]  # onto all axes there are: the same span
        sd = own.sd * draw.uniform(0.5, 2.0, len(order))
        columns[m] = [plan.columns[m][i] for i in order]
        rotations[m] = Rotation((own.mean + 0.5)[order], sd[order].astype(np.float32), turn.astype(np.float32), 2.5)
    other = replace(plan, columns=columns, rotations=rotations)
    found = head.empty(other, head.turned(encoder, other))
    subjects = sorted(fold.train["subject"].unique())
    z, again = (head._encoded(e, *e.closed_.features(fold.study, subjects)) for e in (encoder, found))
    assert z.std() > 0.05
    np.testing.assert_allclose(again, z, atol=1e-4)


def test_a_federated_run_starts_from_the_encoder_and_goes_on_in_either_part(fold: Fold) -> None:
    from workbench.federated.network import fit as network

    begun: list[Any] = []
    honest = network._Training.run

    def noted(self: Any, say: Any) -> Any:
        begun.append((dict(self.begun), self.start.plan))
        return honest(self, say)

    states, said = list[Any](), list[tuple[float, str]]()
    told = SETTINGS | {"axes": 6, "rounds": 1, "local_epochs": 1, "least": 2}

    def kept(number: int, arrays: Any, values: Any) -> None:
        states.append((number, {k: a.copy() for k, a in arrays.items()}, dict(values)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network._Training, "run", noted)
        made: Any = pretraining.fit(
            Inline(held(fold)), told, keep=kept, say=lambda done, what: said.append((done, what))
        )
    shares = [done for done, _ in said]
    assert shares == sorted(shares) and shares[-1] <= 1.0 and "pretraining, round 3 of 3" in {what for _, what in said}
    weights, plan = begun[0]
    assert {k.split(".")[0] for k in weights} == {"fusion", "hidden"}
    for k, w in head.turned(made.encoder_, plan).items():
        np.testing.assert_array_equal(weights[k], w, err_msg=k)
    # killed while the encoder is learnt, just after, and in the network's rounds
    inner = next(i for i, s in enumerate(states) if "encoder: inside/pretraining/done" in s[1])
    after = next(i for i, s in enumerate(states) if any(not k.startswith("encoder: ") for k in s[1]))
    assert inner < after - 1
    for at in (inner, after - 1, len(states) - 1):
        same(made, pretraining.fit(Inline(held(fold)), told, states[at]))


# --- few responses ---------------------------------------------------------------------------------------------------


def test_few_keep_their_responses_and_the_encoder_learns_from_all(fold: Fold) -> None:
    dealt = sharing.at_random(fold, 3)
    cut = unlabelled.few(fold, dealt, 0.25)
    left, had = set(cut.train["subject"]), set(fold.train["subject"])
    assert cut.test.equals(fold.test) and unlabelled.few(fold, dealt, 1.0) is fold
    for subjects in dealt.values():
        assert len(left & set(subjects)) == round(0.25 * len(had & set(subjects)))
    # who lost its responses counts as a subject without any, at its own site; the tested never do
    free = unlabelled.dealt(cut, dealt, {"random": 3})
    bare = {f"subject {i:02d}" for i in range(BARE)}
    assert {s for own in free.values() for s in own} == (had - left - {NOTHING}) | bare
    assert all(set(free[site]) & had <= set(subjects) for site, subjects in dealt.items())

    def made_of(there: Fold) -> tuple[Any, list[Site]]:
        cut = unlabelled.few(there, dealt, 0.25)
        sites = [Site(n, sharing.local(cut, s), unlabelled=free[n]) for n, s in dealt.items()]
        return learn(sites, pretraining_rounds=1, axes=24), sites

    made, sites = made_of(fold)
    assert made.explained_[-1].persons == len(had - {NOTHING}) + BARE
    # axes are of all samples, so there may be more of them than a site has subjects with responses
    assert made.closed_.rotations["expression"].axes.shape[1] == 24 > min(len(s.subjects) for s in sites)
    tested = set(fold.test["subject"])

    def planted(kind: str, names: list[str], matrix: np.ndarray) -> np.ndarray:
        far = low_rank(kind, names, matrix)
        far[[n in tested for n in names]] = 1.0
        return far

    same(made, made_of(divided("marked, few", values=planted))[0])  # nothing of the tested is in axes or weights


def test_a_file_rehearses_few_responses_and_a_real_site_refuses_to(fold: Fold) -> None:
    few = federation(settings={"responses": 0.25, "axes": 6})
    cut, dealt = task.opened(few, 0)
    assert cut.train["subject"].n_unique() == sum(
        round(0.25 * len(set(fold.train["subject"]) & set(subjects))) for subjects in dealt.values()
    )
    sites = task.simulated(few, 0)
    lost = set(fold.train["subject"]) - set(cut.train["subject"]) - {NOTHING}
    assert lost < {s for site in sites for s in site.unlabelled}
    with pytest.raises(SiteError, match="takes responses away, to rehearse"):
        task._real(few, 0, {"study": "anywhere", "policy": "none", "name": "hospital", "ledger": "none"})
    with pytest.raises(spec.FederationError, match="responses"):
        federation(settings={"responses": 0.0})


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_of_responses_is_one(fold: Fold, share: float) -> None:
    with pytest.raises(ValueError, match="responses should be above 0"):
        unlabelled.few(fold, {}, share)
    with pytest.raises(ValueError, match="responses should be above 0"):
        pretraining.Pretraining(responses=share)
