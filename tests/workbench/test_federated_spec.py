"""Federation files: what is read, and that each mistake is named with the nearest right thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import toy
from workbench.federated import methods, spec
from workbench.federated.spec import FederationError

ROOT = Path(__file__).resolve().parents[2]


def given(**own: Any) -> dict[str, Any]:
    """A federation's plain values; ``own`` go into its table, those of the experiment as ``top``."""
    top = own.pop("top", {})
    plain = {"name": "together", "study": "synthetic", "endpoint": "ln_ic50", "split": "unseen subject", "folds": 3,
             "predictors": ["ridge"], "federation": {"sites": {"random": 3}} | own}  # fmt: skip
    return plain | top


def test_a_file_is_read_and_told_again_without_loss(tmp_path: Path) -> None:
    text = """
name = "together"
study = "synthetic"
endpoint = "ln_ic50"
split = "unseen subject"
only = [0]
require = ["expression"]
predictors = ["ridge"]
[federation]
least = 2
timeout_s = 30
secure = false
arms = ["alone"]
[federation.sites]
column = "tissue"
[federation.sites.groups]
north = ["tissue 0", "tissue 1"]
south = ["tissue 2", "tissue 3"]
[federation.settings]
axes = 8
[federation.policy]
minimum_rows = 5
"""
    (tmp_path / "f.toml").write_text(text)
    read = spec.read(tmp_path / "f.toml")
    assert (read.method, read.predictor, read.least, read.arms) == ("ridge", "ridge", 2, ("alone",))
    assert read.policy == {"minimum_rows": 5} and read.settings == {"axes": 8}
    assert spec.of(read.plain()) == read
    fold = read.divide(toy.write()).fold(0)
    dealt = read.dealt(fold)
    assert list(dealt) == ["north", "south"]
    tissue = dict(fold.study.subjects.select("subject", "tissue").iter_rows())
    assert {tissue[s] for s in dealt["north"]} == {"tissue 0", "tissue 1"}


def test_the_predictor_says_the_method_and_the_method_a_predictor() -> None:
    assert spec.of(given(top={"predictors": ["drug_mean"]})).method == "means"
    told = given(method="means")
    del told["predictors"]
    assert spec.of(told).predictor == "drug_mean"


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"round": 3}, r"\[federation\]: unknown key 'round'. Did you mean 'rounds'"),
        ({"rounds": 0}, "rounds should be at least 1, found 0"),
        ({"rounds": True}, "rounds should be a whole number, found True"),
        ({"secure": 1}, "secure should be true or false, found 1"),
        ({"sites": {"random": 1}}, "at least 2; found 1"),
        ({"sites": {"randon": 3}}, "unknown key 'randon'. Did you mean 'random'"),
        ({"sites": {"random": 3, "column": "tissue"}}, "at random or by a column; found both"),
        ({"sites": {"column": 3}}, "name of a column, found 3"),
        ({"sites": {"column": "tissue", "groups": {"a": "lung"}}}, r'site = \["value"'),
        ({"least": 4}, "least = 4 sites, but there are 3"),
        ({"timeout_s": float("nan")}, "timeout_s should be at least 1, found nan"),
        ({"timeout_s": float("inf")}, "timeout_s should be at least 1, found inf"),
        ({"method": ["ridge"]}, r"unknown method \['ridge'\]"),
        ({"rounds": 50}, "rounds = 50 does nothing: method 'ridge'"),
        ({"secure": True, "least": 2}, "of a secure sum of two, each knows the other's part; at least 3"),
        ({"sites": {"column": "tissue", "groups": {"a": ["x"]}}}, "groups makes 1 site"),
        ({"sites": {"column": "tissue", "groups": {"a": ["x"], "b": ["y"], "c": []}}}, "group 'c' holds no value"),
        ({"policy": {"minimum_subjects": 3}}, "minimum_subjects is looked at by a site's gate"),
        ({"policy": {"delta": 1e-6}}, "delta is looked at by a site's gate"),
        ({"method": "private_ridge", "most_share": 0.5}, "most_share does nothing"),
        ({"method": "private_ridge", "settings": {"honest": 3}}, "within secure sums only; say secure = true"),
        ({"arms": ["alone", "alone"]}, "arms names 'alone' twice"),
        ({"settings": {"modality": "expression"}}, r"no setting 'modality'. It is said elsewhere: modality in \[param"),
        ({"settings": {"axes": "many"}}, "axes should be a whole number, found 'many'"),
        ({"settings": {"axes": 8.5}}, "axes should be a whole number, found 8.5"),
        ({"settings": {"penalties": [1.0, "x"]}}, "penalties should be a list of numbers"),
        ({"settings": {"share": 7.0}}, "share should be above 0 and at most 1, found 7"),
        ({"settings": {"fine": 0.0}}, "fine is a residual, above 0 and below 1"),
        ({"settings": {"parts": 1}}, r"\[federation.settings\]: parts should be at least 2"),
        ({"top": {"parameters": {"drug_mean": {}}}}, r"\[parameters.drug_mean\] is of no predictor trained here"),
        ({"top": {"predictors": "ridge"}}, "predictors should be a list"),
        ({"method": "rigde"}, "unknown method 'rigde'. Did you mean 'ridge'"),
        ({"method": "means"}, "method 'means' trains drug_mean, global_mean; found 'ridge'"),
        ({"settings": {"axis": 3}}, "no setting 'axis'. Did you mean 'axes'"),
        ({"policy": {"minimum_row": 3}}, "unknown key 'minimum_row'. Did you mean 'minimum_rows'"),
        ({"arms": ["allone"]}, "arms names 'allone'. Did you mean 'alone'"),
        ({"top": {"predictors": ["trees"]}}, "'trees' cannot be trained by sites together: a boosted tree"),
        ({"top": {"predictors": ["stacked_kernels"]}}, "'stacked_kernels' cannot be trained by sites together: its"),
        ({"top": {"predictors": ["rigde"]}}, "unknown predictor 'rigde'. Did you mean 'ridge'"),
        ({"top": {"predictors": ["ridge", "drug_mean"]}}, "trains one predictor; predictors names 2"),
        ({"top": {"tuning": {}}}, "unknown key 'tuning'"),
        ({"top": {"split": "unseen subjct"}}, "Did you mean 'unseen subject'"),
        ({"top": {"federation": 3}}, r"\[federation\] should be a table, found 3"),
    ],
)
def test_a_mistake_is_named(own: dict[str, Any], words: str) -> None:
    with pytest.raises(FederationError, match=words):
        spec.of(given(**own))


PRIVATE = {"privacy": "person", "epsilon": 3.0, "persons": 20, "public": "another"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bad": 2}, "bad is of a robust rule; say which"),
        ({"mix": True}, "mix is of a robust rule; say which"),
        ({"rule": "medain"}, "no rule is called 'medain'"),
        ({"rule": "mean", "bad": 1}, "rule 'mean' withstands no liar"),
        ({"rule": "trimmed_mean"}, "as many liars as bad says; say bad = 1"),
        ({"rule": "remembering", "bad": 1, "mix": True}, "'remembering' does not mix"),
        ({"rule": "curvature", "mix": True}, "'curvature' does not mix"),
        ({"rule": "median", "bad": -1}, "0 or more; found -1"),
        ({"strategy": "FedAvgg"}, "unknown strategy 'FedAvgg'. Did you mean 'FedAvg'"),
        ({"options": {"rat": 1.0}}, "FedAvg has no option 'rat'. Did you mean 'rate'"),
        ({"options": {"rate": "x"}}, "options should be a table of numbers"),
        ({"own": ["identiti"]}, "'identiti' is none of"),
        ({"own": ["fusion", "hidden", "identity", "level", "shape"]}, "nothing would be trained together"),
        ({"own": "identity"}, "own should be a list of names"),
        ({"proximal": -1.0}, "proximal should be at least 0"),
        ({"local_epochs": 0}, "local_epochs should be at least 1"),
        ({"epsilon": 3.0}, 'epsilon is of a private training; say privacy = "person"'),
        ({"privacy": "person", "epsilon": 3.0, "persons": 20}, "public is missing"),
        (PRIVATE | {"local_epochs": 3}, "local_epochs does nothing in a training with privacy = 'person'"),
        (PRIVATE | {"own": ["level"]}, "own does nothing in a training with privacy"),
        ({"local_steps": 3}, "local_steps is of a private training"),
        (PRIVATE | {"steps": 3}, "called local_steps"),
        (PRIVATE | {"privacy": "site"}, "persons does nothing in a training with privacy = 'site'"),
        (PRIVATE | {"rule": "median"}, "give rule or privacy"),
        (PRIVATE | {"strategy": "FedProx"}, "FedProx holds whole epochs"),
    ],
)
def test_a_networks_setting_that_cannot_be_or_does_nothing_is_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(FederationError, match=words):
        spec.of(given(top={"predictors": ["drug_response"]}, settings=settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"rule": "median"},
        {"rule": "trimmed_mean", "bad": 1, "mix": True},
        {"rule": "remembering", "bad": 1},
        {"rule": "curvature", "bad": 2},
        {"rule": "curvature"},
        {"strategy": "FedAdam", "options": {"rate": 0.1}},
        {"strategy": "FedProx", "proximal": 1},
        {"own": ["identity", "level", "shape"], "keep_optimizer": True},
        PRIVATE,
        {"privacy": "site", "noise": 1.0, "public": "another", "local_epochs": 1},
    ],
)
def test_a_networks_settings_that_can_be_are_read(settings: dict[str, Any]) -> None:
    read = spec.of(given(top={"predictors": ["drug_response"]}, settings=settings))
    assert read.settings == settings and spec.of(read.plain()) == read


def test_epochs_are_of_the_arms_alone() -> None:
    top = {"predictors": ["drug_response"], "parameters": {"drug_response": {"epochs": 3}}}
    with pytest.raises(FederationError, match="epochs does nothing: sites train local_epochs"):
        spec.of(given(top=top))
    assert spec.of(given(top=top, arms=["alone"])).arms == ("alone",)


@pytest.mark.parametrize("key", ["name", "study", "endpoint", "split"])
def test_a_key_that_is_missing_is_named(key: str) -> None:
    told = given()
    del told[key]
    with pytest.raises(FederationError, match=f"the key {key} is missing"):
        spec.of(told)


def test_a_gate_looks_at_what_a_simulation_without_one_refuses() -> None:
    rules = {"minimum_subjects": 5, "secure": True, "most_rounds_a_day": 7, "delta": 1e-6}
    assert spec.of(given(gated=True, policy=rules)).policy == rules
    assert spec.of(given(policy={"delta": 1e-6, "epsilon": 1.0})).policy["epsilon"] == 1.0


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("nan", r"should say { fault = \"nan\" }"),
        ({"fault": "nann"}, "no fault 'nann'. Did you mean 'nan'"),
        ({"fault": "slow", "second": 3.0}, "unknown key 'second'. Did you mean 'seconds'"),
        ({"fault": "slow", "seconds": "x"}, "seconds should be like 1.0, found 'x'"),
        ({"fault": "slow", "seconds": float("nan")}, "seconds should be like 1.0, found nan"),
        ({"fault": "gone", "rounds": 3}, r"rounds should be like \[3\], found 3"),
        ({"fault": "gone", "purposes": ["momets"]}, "nobody is asked for 'momets'. Did you mean 'moments'"),
        ({"fault": "mirrored", "rounds": [3]}, "unknown key 'rounds'"),
    ],
)
def test_a_fault_that_cannot_be_planted_is_named(fault: Any, words: str) -> None:
    with pytest.raises(ValueError, match=r"\[federation.faults\]: 'site 2'.*" + words):
        spec.of(given(faults={"site 2": fault}))


def test_faults_and_least_are_held_against_the_sites_there_are() -> None:
    fold = spec.of(given()).divide(toy.write()).fold(0)
    with pytest.raises(FederationError, match=r"names .site 9.*Sites: site 1, site 2, site 3"):
        spec.of(given(faults={"site 9": {"fault": "nan"}})).dealt(fold)
    groups = {"a": ["tissue 0"], "b": ["tissue 1", "tissue 2"]}
    with pytest.raises(FederationError, match="least = 3 sites, but there are 2: a, b"):
        spec.of(given(least=3, sites={"column": "tissue", "groups": groups})).dealt(fold)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "there.toml").write_text("name = ")
    with pytest.raises(FederationError, match=r"no such file. Did you mean 'there.toml'"):
        spec.read(tmp_path / "theer.toml")
    with pytest.raises(FederationError, match="is not TOML"):
        spec.read(tmp_path / "there.toml")
    (tmp_path / "plain.toml").write_text('name = "x"\n')
    with pytest.raises(FederationError, match=r"no table \[federation\]; for a run in one house"):
        spec.read(tmp_path / "plain.toml")


def test_every_predictor_is_trained_or_refused_with_a_reason() -> None:
    from workbench import predictors

    can = {p for m in methods.METHODS.values() for p in m.predictors}
    assert {"ridge", "drug_mean"} <= can
    for name in set(predictors.offered()) - can:
        with pytest.raises(
            methods.MethodError, match=f"'{name}' cannot be trained by sites together: .{{20,}}These can"
        ):
            methods.of(name)


def test_secure_sums_need_three_sites() -> None:
    assert spec.of(given(secure=True)).least == 3
    with pytest.raises(FederationError, match="least = 3 sites, but there are 2"):
        spec.of(given(secure=True, sites={"random": 2}))


@pytest.mark.parametrize("file", sorted(p.name for p in (ROOT / "experiments" / "federations").glob("*.toml")))
def test_our_own_files_are_read(file: str) -> None:
    assert spec.read(ROOT / "experiments" / "federations" / file).sites
