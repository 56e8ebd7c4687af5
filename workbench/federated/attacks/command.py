"""``workbench federate attack RUN|FILE.toml``: attacks a recorded federation, prints and records how far they get."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from workbench import home
from workbench.federated import output, spec
from workbench.federated.attacks import battery, figures
from workbench.federated.attacks.figures import Figure
from workbench.federated.state import StateFile, keeper

if TYPE_CHECKING:
    from workbench import runs

WIDTH = 118
TABLE = "FEDERATION_ATTACKS"


def main(argv: list[str]) -> int:
    """``workbench federate attack``: exit status 0, 1 (cannot be done) or 2 (bad usage)."""
    parser = _parser()
    try:
        given = parser.parse_args(argv)
        if given.shadows < 4 or given.shadows % 2:
            parser.error(f"--shadows {given.shadows}: shadow models come in pairs, at least 4 of them.")
        if given.sites < 20:
            parser.error(f"--sites {given.sites}: fewer than 20 shadow sites tell nothing.")
        for flag, path in (("--json", given.json), ("--out", given.out)):
            if wrong := output.complaint(flag, path):
                parser.error(wrong)
    except SystemExit as e:
        return 2 if e.code else 0
    if wrong := output.homeless():
        raise OSError(wrong)
    federation, run = found(given.source)
    number = federation.experiment.numbers[0] if given.fold is None else given.fold
    if number not in federation.experiment.numbers:
        raise spec.FederationError(f"--fold {number}: the federation has folds {list(federation.experiment.numbers)}.")
    sizes = battery.Sizes(given.shadows, given.sites, given.axes, given.seed)
    told, notes = attacked(federation, number, sizes, given.only or battery.KINDS, run, _Progress())
    epsilon, delta = spent(federation, run)
    table = figures.table(told, epsilon, delta)
    sys.stdout.write(text(federation.name, table, notes) + "\n")
    if given.out is not None:
        table.write_parquet(given.out)
    if given.json is not None:
        output.write(given.json, json.dumps(table.to_dicts(), indent=1, allow_nan=False))
    if run is None:
        sys.stdout.write(
            "\nnot recorded: this federation has no finished run; `workbench federate simulate` makes one.\n"
        )
    else:
        record(run, figures.table(battery.kept(told), epsilon, delta))
        sys.stdout.write(f"\nrecorded in run {run.run_id}\n  value    workbench federate value {run.run_id[:8]}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="workbench federate attack",
        description="Attack a simulated federation: who was trained on, what one person's values were, what a site is "
        "like. Models are trained on half of the persons by the federation's own method; a stopped attack goes on "
        "after the last model when the same command is given again.",
    )
    p.add_argument("source", metavar="RUN|FILE", help="a simulated federation's run, or its TOML file")
    p.add_argument("--only", action="append", choices=battery.KINDS, help="one kind of attack; may be repeated")
    p.add_argument("--fold", type=int, help="fold that is attacked (default: the first)")
    p.add_argument("--shadows", type=int, default=16, help="models of the attacker's own (default 16)")
    p.add_argument("--sites", type=int, default=200, help="sites dealt for the property of a site (default 200)")
    p.add_argument("--axes", type=int, default=64, help="axes of the single updates (default 64)")
    p.add_argument("--seed", type=int, default=0, help="of all draws (default 0)")
    p.add_argument("--out", type=Path, metavar="FILE", help="write the table as parquet")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    return p


def found(source: str) -> tuple[spec.Federation, runs.Run | None]:
    """(the federation, its newest finished run or None) of a run's name or id, or of a TOML file."""
    from workbench import runs

    if source.endswith(".toml"):
        federation = spec.read(source)
        try:
            run = runs.find(federation.name)
        except runs.RunError:
            return federation, None
        same = run.status == "FINISHED" and of_run(run).plain() == federation.plain()
        return federation, run if same else None
    run = runs.find(source)
    return of_run(run), run


def of_run(run: runs.Run) -> spec.Federation:
    """The federation that a run recorded; FederationError where it recorded none."""
    if "federation" not in run.params:
        raise spec.FederationError(
            f"run {run.name!r} is of no federation; give a run of `workbench federate simulate`, or its TOML file."
        )
    shared = {k: v for k in spec.SHARED if (v := run.params.get(k)) not in ("", (), [], {}, None)}
    return spec.of(shared | {"federation": run.params["federation"]}, f"run {run.name!r}")


def attacked(
    federation: spec.Federation,
    number: int,
    sizes: battery.Sizes,
    kinds: Sequence[str],
    run: runs.Run | None = None,
    say: Callable[[float, str], None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> tuple[list[Figure], list[str]]:
    """(figures, notes) of the attacks ``kinds`` on one fold; goes on after the models that a stopped one trained."""
    from workbench import predictors
    from workbench.runs import RunError

    made = battery.Battery(federation, number, sizes)
    out: list[Figure] = []
    if "inversion" in kinds:
        out += made.inversion()
    if "property" in kinds:
        out += made.property()
    if "membership" in kinds:
        mark = made.mark()
        file = StateFile(home.checkpoints() / f"attack-{mark[:24]}.safetensors", mark)
        out += made.membership(file, keeper(file, None, stopped), say)
        if run is not None:
            try:
                model = run.model(federation.predictor, number, predictors.restore)
            except RunError as error:
                made.notes.append(f"the recorded model itself was not attacked: {error}")
            else:
                own = (pl.col("predictor").cast(pl.String) == federation.predictor) & (pl.col("fold") == number)
                out += made.of_the_model(model, run.predictions.filter(own))
        file.drop()
    return out, made.notes


def spent(federation: spec.Federation, run: runs.Run | None) -> tuple[float | None, float | None]:
    """(largest epsilon any site spent, its delta): of the run, else what the file asks for; None: nothing private."""
    costs = pl.DataFrame() if run is None else run.table("FEDERATION_COSTS").drop_nulls("epsilon").sort("epsilon")
    if costs.height:
        return costs["epsilon"][-1], costs["delta"][-1]
    if not (asked := float(federation.settings.get("epsilon", 0.0))):
        return None, None
    return asked, float(federation.settings.get("delta", 1e-5))


def record(run: runs.Run, table: pl.DataFrame) -> None:
    """Put the table with the run; what it held of other attacks stays."""
    from workbench.runs.attach import put

    before = run.table(TABLE)
    before = before.filter(~pl.col("attack").cast(pl.String).is_in(table["attack"].unique().implode()))
    put(run.run_id, {TABLE: pl.concat([before, table], how="diagonal_relaxed") if before.height else table})


def text(name: str, table: pl.DataFrame, notes: Sequence[str] = ()) -> str:
    """The table as lines of text; what works stands out by a mark."""
    spent_ = table.select("epsilon", "delta").drop_nulls("epsilon").rows()
    private = "epsilon: none was spent" if not spent_ else "epsilon {:.3g} at delta {:.1g}".format(*spent_[0])
    lines = [f"attacks on {name}; {private}", ""]
    lines.append(
        f"{'':2}{'attack':<44}{'site':<14}{'figure':<17}{'value':>6}  {'95 % interval':<17}{'naive':>6}{'n':>7}"
    )
    for has, own in table.group_by("knows", maintain_order=True):
        lines += textwrap.wrap(f"has: {has[0]}", WIDTH, initial_indent="  ", subsequent_indent="       ")
        for r in own.iter_rows(named=True):
            ends = "" if r["low"] is None else f"{r['low']:.3f} to {r['high']:.3f}"
            works = "!" if r["low"] is not None and r["low"] > r["chance"] else " "
            name = str(r["attack"])
            if len(name) > 43:  # on a line of its own: two kinds of site are told in full
                lines.append(f"{works} {name}")
                works, name = " ", ""
            whose = f"{works} {name:<44}{str(r['site'] or 'all')[:13]:<14}"
            lines.append(f"{whose}{r['figure']:<17}{r['value']:>6.3f}  {ends:<17}{r['chance']:>6.3f}{r['n']:>7,}")
    lines += ["", "! above what somebody reaches who knows nothing, interval included"]
    for note in notes:
        lines += textwrap.wrap(note, WIDTH, initial_indent="  * ", subsequent_indent="    ")
    return "\n".join(lines)


class _Progress:
    """Share done and time left, on the terminal."""

    def __init__(self) -> None:
        self.left = output.TimeLeft()

    def __call__(self, done: float, what: str) -> None:
        line = f"{done:4.0%} {what}{self.left(done)}"
        sys.stderr.write(f"{line:<80}\r" if sys.stderr.isatty() else f"{line}\n")
        sys.stderr.flush()
