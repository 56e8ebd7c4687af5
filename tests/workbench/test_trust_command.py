"""`workbench coverage RUN` on a recorded run: its table, its exit status, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from tests import toy
from workbench import experiment
from workbench.tables import COVERAGE
from workbench.trust import coverage
from workbench.trust.command import main, text


@pytest.fixture(scope="module")
def recorded(_module_home: Path) -> str:
    toy.write("toy", subjects=100)
    spec = experiment.of(
        {"name": "toy", "study": "toy", "endpoint": "ln_ic50", "split": "unseen subject", "folds": 2,
         "predictors": ["global_mean", "tissue_drug_mean"], "draws": 5}
    )  # fmt: skip
    return experiment.run(spec).run_id


@pytest.mark.shared_home
def test_the_verb_prints_what_the_table_holds(
    recorded: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "coverage.json"
    assert main([recorded, "--json", str(out)]) == 0
    said = capsys.readouterr().out
    table = pl.DataFrame(json.loads(out.read_text(encoding="utf-8")), schema=dict(COVERAGE.columns))
    assert set(table["by"]) == {"all", "fold", "tissue", "treatment", "predicted", "distance"}
    whole = table.filter(by="all", predictor="tissue_drug_mean").row(0, named=True)
    assert f"all rows                       {whole['covered']:.3f}" in said and "90% promised" in said
    assert main([recorded, "--by", "tissue", "--predictor", "global_mean"]) == 0
    said = capsys.readouterr().out
    assert "tissue 3" in said and "by fold" not in said and "tissue_drug_mean" not in said


@pytest.mark.shared_home
def test_what_is_not_there_is_said_with_the_nearest(recorded: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tooy"]) == 1
    assert "toy" in capsys.readouterr().err
    assert main([recorded, "--predictor", "global_men"]) == 1
    assert "Did you mean 'global_mean'?" in capsys.readouterr().err
    for wrong in (["--by", "line"], ["--json", "no/such/folder/x.json"]):
        with pytest.raises(SystemExit) as left:
            main([recorded, *wrong])
        assert left.value.code == 2


def test_breaks_come_first_and_strictness_counts_them() -> None:
    names = [f"drug {i}" for i in range(20)]
    table = pl.DataFrame(
        {"predictor": "ridge", "split": "unseen subject", "intervals": "as recorded", "by": "treatment", "name": names,
         "position": 0, "unit": "subject", "level": 0.9, "n": 100, "units": 100,
         "covered": [0.9] * 19 + [0.5], "low": 0.4, "high": 1.0, "below": 0.0, "above": 0.5, "width": None,
         "unbounded": 0.0, "p": None, "q": None, "verdict": [coverage.HOLDS] * 19 + [coverage.BREAKS]},
        schema=dict(COVERAGE.columns),
    )  # fmt: skip
    said = text(table).splitlines()
    assert "20 groups, 1 break, 0 wider" in said[0] and "drug 19" in said[1] and "no finite interval" in said[1]
    assert "8 more" in said[-1] and len(text(table, None).splitlines()) == 21
    assert "nothing to show" in text(table.head(0))
