"""``workbench assays``: which assay to run next on a sample, in expected error, overall and drug by drug."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import polars as pl

from workbench.planning import assays
from workbench.study import Study, find

SHOWN = 8  # drugs that gain most


def main(argv: list[str]) -> int:
    """``workbench assays STUDY --sample NAME``: exit status 0, 1 (it cannot be answered) or 2 (bad usage)."""
    parser = argparse.ArgumentParser(
        prog="workbench assays",
        description="What each assay that a sample lacks would take off the prediction error, given what it has: found "
        "on other lines, each left out of the fit.",
    )
    parser.add_argument("study", help="name or path of a study")
    parser.add_argument("--sample", required=True, metavar="NAME", help="a sample (subject) of the study")
    parser.add_argument("--endpoint", default="ln_ic50")
    parser.add_argument("--modalities", nargs="+", metavar="NAME", help="those in question (default: all of samples)")
    parser.add_argument(
        "--drugs", nargs="+", default=[], metavar="NAME", help="drugs to show, instead of the first few"
    )
    parser.add_argument("--draws", type=int, default=500, help="bootstrap draws over lines (default 500)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value, of every drug")
    try:
        given = parser.parse_args(argv)
    except SystemExit as e:
        return 2 if e.code else 0
    try:
        study = Study.open(find(given.study))
        values = assays.for_sample(study, given.sample, given.endpoint, given.modalities, given.draws)
        text = shown(given.sample, values, given.drugs)
        if given.json:
            given.json.write_text(json.dumps(values.to_dicts(), indent=1), encoding="utf-8")
    except (LookupError, OSError, ValueError) as e:
        sys.stderr.write(f"workbench assays: {e.args[0] if len(e.args) == 1 else e}\n")
        return 1
    sys.stdout.write(text + "\n")
    return 0


def shown(sample: str, values: pl.DataFrame, drugs: list[str]) -> str:
    """The values as lines of text: the assays in order, then the drugs that the first one helps most."""
    if not values.height:
        return f"{sample} lacks none of the modalities: there is nothing to measure next."
    whole = assays.best(values)
    out = [f"{sample} has {whole['present'][0]}. What each missing assay is expected to take off the error:", ""]
    out.append(
        f"{'assay':<20} {'RMSE now':>9} {'with it':>9} {'less by (95 %)':>28} {'normalised Pearson':>20} {'lines':>6}"
    )
    for row in whole.iter_rows(named=True):
        interval = f"{row['expected']:.4f} ({row['low']:.4f} to {row['high']:.4f})"
        out.append(
            f"{row['modality']:<20} {row['before']:>9.4f} {row['after']:>9.4f} {interval:>28} "
            f"{row['correlation']:>+20.4f} {row['lines']:>6}"
        )
    first = whole.row(0, named=True)
    if first["low"] <= 0:
        out += ["", "No assay is shown to lower the error over all drugs: the interval of the best one includes zero."]
    else:
        out += ["", f"Measure next: {first['modality']}."]
    each = values.filter((pl.col("modality") == first["modality"]) & (pl.col("treatment") != assays.ALL))
    each = each.sort("expected", descending=True)
    if drugs:
        known = each["treatment"].to_list()
        if unknown := [d for d in drugs if d not in known]:
            raise ValueError(f"no value for {unknown[0]!r}: it is no drug of the study, or too few lines have it.")
        each = each.filter(pl.col("treatment").is_in(drugs))
    else:
        each = each.filter(pl.col("low") > 0)
    if not each.height:
        return "\n".join([*out, f"Nor is {first['modality']} shown to help with any one drug."])
    out += ["", f"Drugs that {first['modality']} {'is expected to help' if drugs else 'helps most'} ({first['unit']}):"]
    for row in each.head(len(drugs) or SHOWN).iter_rows(named=True):
        interval = f"{row['expected']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        out.append(f"  {row['treatment']:<24} {row['before']:.3f} -> {row['after']:.3f}, less by {interval}")
    return "\n".join(out)
