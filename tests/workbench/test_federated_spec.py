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
rounds = 4
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
    assert (read.method, read.predictor, read.rounds, read.arms) == ("ridge", "ridge", 4, ("alone",))
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
        ({"rounds": True}, "rounds should be int, found True"),
        ({"secure": 1}, "secure should be bool, found 1"),
        ({"sites": {"random": 1}}, "at least 2; found 1"),
        ({"sites": {"randon": 3}}, "unknown key 'randon'. Did you mean 'random'"),
        ({"sites": {"random": 3, "column": "tissue"}}, "at random or by a column; found both"),
        ({"sites": {"column": 3}}, "name of a column, found 3"),
        ({"sites": {"column": "tissue", "groups": {"a": "lung"}}}, r'site = \["value"'),
        ({"least": 4}, "least = 4 sites, but there are 3"),
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
