"""``workbench pilot``: which treatments to measure next on a sample, and what a few measured ones say of all others."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.text import nearest

if TYPE_CHECKING:
    import polars as pl

    from workbench.planning.pilots import Chosen, Plan

SHOWN = 15  # predictions that are printed
CLASSES = ("class", "target", "pathway", "mechanism")  # columns of a study's treatments that tell a class


class Refused(ValueError):
    """What was asked cannot be answered; the message says what to change."""


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="workbench pilot",
        description="Which treatments to measure next on a sample, with the expected gain; and once some are measured, "
        "what they say of all others. The first call on a study fits a plan (about a minute), later ones load it.",
    )
    p.add_argument("study", help="name or path of a study")
    p.add_argument("--line", metavar="NAME", help="a line of the study; what the study has of it counts as measured")
    p.add_argument("--as-new", action="store_true", help="as if nothing had been measured on the line yet")
    p.add_argument("--measured", type=Path, metavar="FILE", help="csv: treatment, value, unit (and dose_um)")
    p.add_argument("--k", type=int, default=10, help="how many to choose (default 10)")
    p.add_argument("--cost", type=Path, metavar="FILE", help="csv: treatment, cost; others are not on offer")
    p.add_argument("--budget", type=float, help="most that all chosen ones may cost")
    p.add_argument("--interest", nargs="+", default=[], metavar="DRUG", help="treatments to predict well")
    p.add_argument("--class", dest="group", metavar="NAME", help="a class of treatments to know well")
    p.add_argument("--classes", type=Path, metavar="FILE", help="csv: treatment, class")
    p.add_argument("--without", nargs="+", default=[], metavar="DRUG", help="treatments that cannot be measured")
    p.add_argument("--panel", action="store_true", help="one panel for a whole lab, treatments failing as in the study")
    p.add_argument("--endpoint", default="ln_ic50")
    p.add_argument("--predictor", default="ridge")
    p.add_argument("--slope", type=float, default=1.0, help="of the curve behind a viability at one dose (default 1)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--json", type=Path, metavar="FILE", help="write panel, expected gain and predictions")
    return p


def main(argv: list[str]) -> int:
    """``workbench pilot STUDY ...``: exit status 0, 1 (cannot be answered) or 2 (bad usage)."""
    try:
        given = _parser().parse_args(argv)
    except SystemExit as e:
        return 2 if e.code else 0
    if given.panel and (given.line or given.measured):
        sys.stderr.write("workbench pilot: --panel is for a lab's lines to come; leave --line and --measured out.\n")
        return 2
    if given.as_new and not given.line:
        sys.stderr.write("workbench pilot: --as-new is about a line; give --line NAME too.\n")
        return 2
    try:
        answered = _answer(given)
        if given.json:
            _write(given.json, answered)
    except (LookupError, OSError, ValueError) as e:
        sys.stderr.write(f"workbench pilot: {e.args[0] if len(e.args) == 1 else e}\n")
        return 1
    return 0


def _answer(given: argparse.Namespace) -> dict[str, Any]:
    from workbench.planning import pilots
    from workbench.study import Study, find

    if given.k < 1:
        raise Refused(f"--k {given.k}: expected at least 1.")
    study = Study.open(find(given.study))
    known = study.outcomes["endpoint"].unique().to_list()
    if given.endpoint not in known:
        hint = f"{nearest(given.endpoint, known)} It has: {', '.join(sorted(known))}."
        raise Refused(f"study {study.name!r} has no endpoint {given.endpoint!r}.{hint}")
    lines = study.subjects["subject"].to_list()
    if given.line and given.line not in lines:  # said before the work, not after
        raise Refused(f"study {study.name!r} has no line {given.line!r}.{nearest(given.line, lines)}")
    bare = not given.line and not given.panel
    predictor = "drug_mean" if bare else given.predictor
    folder = pilots.place(study, given.endpoint, predictor, None, given.seed)
    if not (folder / pilots.CONFIG).is_file():
        _tell(f"fitting a plan of {study.name} on {predictor}, once; later calls load it")
    plan = pilots.of(study, given.endpoint, predictor, seed=given.seed, report=_progress)
    measured, extra, notes = _measured(given, plan, study)
    start = plan.mean(given.line) if given.line or bare else None
    if bare:
        notes.append("no line is named: the start is each treatment's mean, nothing is known of the sample's omics")
    chosen = plan.choose(
        given.k,
        measured=list(measured),
        without=given.without,
        interest=given.interest,
        members=_members(given, study, plan),
        cost=_costs(given.cost),
        budget=given.budget,
        patterns=20 if given.panel else 0,
        seed=given.seed,
    )
    out: dict[str, Any] = {"plan": plan.facts, "line": given.line, "measured": measured, "notes": notes}
    _panel(plan, chosen, len(measured), given)
    out["panel"] = chosen.curve.to_dicts()
    if start is not None:
        after = plan.after(given.line, measured, extra)
        if measured:
            _predictions(plan, after)
        out["predictions"] = after.to_dicts()
    for note in notes:
        print_(f"note: {note}")
    return out


def _measured(given: argparse.Namespace, plan: Plan, study) -> tuple[dict[str, float], dict[str, float], list[str]]:
    """What is known of the sample by treatment, its extra variance, and remarks."""
    import polars as pl

    if given.measured is None:
        if not given.line or given.as_new:
            return {}, {}, []
        own = study.outcomes.filter(
            (pl.col("subject").cast(pl.String) == given.line)
            & (pl.col("endpoint").cast(pl.String) == given.endpoint)
            & pl.col("treatment").cast(pl.String).is_in(plan.treatments)
        )
        means = own.group_by(pl.col("treatment").cast(pl.String)).agg(pl.col("value").mean()).sort("treatment")
        return dict(means.iter_rows()), {}, []
    return _file_of_values(given, plan)


def _file_of_values(given: argparse.Namespace, plan: Plan) -> tuple[dict[str, float], dict[str, float], list[str]]:
    from workbench.planning.one_dose import CHECKED_ON, OneDose

    frame = _table(given.measured, ("treatment", "value", "unit"))
    model = OneDose(slope=given.slope)
    unit = plan.facts["unit"]
    measured: dict[str, float] = {}
    extra: dict[str, float] = {}
    notes: list[str] = []
    plan.at(frame["treatment"].to_list())
    for row in frame.iter_rows(named=True):
        name, value = row["treatment"], _number(given.measured, row["treatment"], "value", row["value"])
        if name in measured:
            raise Refused(f"{given.measured}: {name!r} stands there twice; average repeated values first.")
        if row["unit"] == "viability":
            if plan.facts["endpoint"] != "ln_ic50":
                raise Refused(f"{name!r}: a viability becomes an ln IC50, and this plan predicts {unit}.")
            dose = row.get("dose_um")
            dose_um = None if not dose else _number(given.measured, name, "dose_um", dose)
            value, extra[name] = model.ln_ic50(value, dose_um, repr(name))
        elif row["unit"] != unit:
            value = _converted(name, value, row["unit"], unit)
        measured[name] = value
    if extra:
        notes.append(
            f"{len(extra)} viabilities at one dose were read through a log-logistic curve from 1 to 0 with slope "
            f"{model.slope:g} +- {model.slope_sd:g} and a viability sd of {model.viability_sd:g}; "
            f"their doubt is in the intervals. This reading was {CHECKED_ON}"
        )
    return measured, extra, notes


def _converted(name: str, value: float, unit: str, wanted: str) -> float:
    from workbench import units

    try:
        return float(units.convert(value, unit, wanted))
    except ValueError as error:
        raise Refused(
            f"{name!r}: unit {unit!r} does not become {wanted!r}, the unit of this study. {error} Give values in "
            f"{wanted}, an IC50 as a concentration (nM, uM), or a viability with its dose_um."
        ) from None


def _costs(file: Path | None) -> dict[str, float] | None:
    if file is None:
        return None
    frame = _table(file, ("treatment", "cost"))
    return {r["treatment"]: _number(file, r["treatment"], "cost", r["cost"]) for r in frame.iter_rows(named=True)}


def _members(given: argparse.Namespace, study, plan: Plan) -> list[str]:
    """Treatments of the class that is asked for."""
    if given.group is None:
        return []
    if given.classes is not None:
        frame = _table(given.classes, ("treatment", "class"))
        of = list(frame.select("treatment", "class").iter_rows())
    else:
        column = next((c for c in CLASSES if c in study.treatments.columns), None)
        if column is None:
            raise Refused(
                f"study {study.name!r} tells no class of its treatments (no column {', '.join(CLASSES)}). "
                "Give --classes FILE, a csv with the columns treatment and class."
            )
        of = list(study.treatments.select("treatment", column).iter_rows())
    members = [t for t, c in of if c == given.group and t in plan.treatments]
    if not members:
        classes = sorted({str(c) for _, c in of if c})
        raise Refused(f"no treatment of this study is of class {given.group!r}.{nearest(given.group, classes)}")
    return members


def _table(file: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    from workbench.formats import table

    if not file.expanduser().is_file():
        raise Refused(f"{file}: there is no such file. It should be a csv with the columns {', '.join(columns)}.")
    frame = table.read(file.expanduser().read_bytes(), file.name)["table"]
    for name in columns:
        if name not in frame.columns:
            raise Refused(f"{file}: column {name!r} is missing; found {frame.columns}.{nearest(name, frame.columns)}")
    return frame


def _number(file: Path, row: str, column: str, text: str | None) -> float:
    try:
        return float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise Refused(f"{file}: {row!r} has {text!r} as its {column}; expected a number.") from None


# ---- what is printed


def _panel(plan: Plan, chosen: Chosen, already: int, given: argparse.Namespace) -> None:
    from workbench.planning.plan import BROAD

    curve = chosen.curve
    first, last = curve.row(0, named=True), curve.row(-1, named=True)
    unit = plan.facts["unit"]
    size = f"{plan.facts['lines']} lines, {len(plan.treatments)} treatments"
    of = f"{plan.facts['study']} ({size}), {plan.facts['predictor']}"
    print_(f"{of}; {already} measured")
    print_(f"expected RMSE of the treatments that stay unmeasured, in {unit}:")
    for label, row in (("now", first), (f"after these {curve.height - 1}", last)):
        spread = "" if row["low"] is None else f"   9 of 10 lines: {row['low']:.2f} to {row['high']:.2f}"
        print_(f"  {label:<16} {row['rmse']:.2f}{spread}")
    print_(
        f"  {f'after {curve.height - 1} random':<16} {last['random_rmse']:.2f}   95 % of random panels: "
        f"{last['random_low']:.2f} to {last['random_high']:.2f}"
    )
    outside = len(plan.treatments) - already - (curve.height - 1)
    if outside < BROAD:
        print_(
            f"  only {max(outside, 0)} treatments stay outside: a random panel leaves others, so the two hardly compare"
        )
    print_(
        f"expected normalised correlation: {first['correlation']:.2f} now, {last['correlation']:.2f} after, "
        f"{last['random_correlation']:.2f} after as many at random"
    )
    print_("measure next, in this order" + (", each line what it can of these" if given.panel else "") + ":")
    width = max(len(n) for n in chosen.names)
    for row in curve.slice(1).iter_rows(named=True):
        cost = f"   cost so far {row['cost']:g}" if chosen.cost is not None else ""
        print_(f"  {row['k']:>3}  {row['treatment']:<{width}}   RMSE {row['rmse']:.2f}   takes {row['gain']:.1%}{cost}")


def _predictions(plan: Plan, after: pl.DataFrame) -> None:
    import polars as pl

    level, unit = plan.facts["level"], plan.facts["unit"]
    rest = after.filter(pl.col("measured").is_null() & pl.col("predicted").is_not_null())
    rest = rest.with_columns(shift=(pl.col("predicted") - pl.col("before")).abs()).sort("shift", descending=True)
    print_(f"\npredictions that the measured values changed most, in {unit}, {level:.0%} intervals:")
    width = max([len(n) for n in rest["treatment"].head(SHOWN)], default=1)
    for r in rest.head(SHOWN).iter_rows(named=True):
        print_(
            f"  {r['treatment']:<{width}}  {r['before']:>6.2f} -> {r['predicted']:>6.2f}   "
            f"({r['low']:.2f} to {r['high']:.2f})"
        )


def print_(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _progress(done: float, message: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done:4.0%} {message[:60]:<60}")
        if done >= 1:
            sys.stderr.write("\n")


def _write(path: Path, told: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(told, indent=1, allow_nan=False), encoding="utf-8")
    os.replace(temporary, path)
