"""``workbench federate value RUN|FILE``: each site's verdict as a table that people read, and as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from workbench import tables
from workbench.federated import output
from workbench.federated.worth import encoders
from workbench.federated.worth.site_value import ALONE, ARMS, METRICS, OWN
from workbench.federated.worth.value import Value, WorthError, of_run, worth

WIDTH, NAME, CELL = 118, 22, 25
FIT = 4  # arms beside each other
UNKNOWN = "not measured"
COSTS, ATTACKS = "FEDERATION_COSTS", "FEDERATION_ATTACKS"


def main(argv: list[str]) -> int:
    """``workbench federate value``: exit status 0, 1 (nothing to judge) or 2 (bad usage)."""
    parser = argparse.ArgumentParser(
        prog="workbench federate value",
        description="Should a site join? Alone, federated and pooled on each site's own test rows.",
    )
    parser.add_argument(
        "source", metavar="RUN|FILE", help="a federation's run, or parquet of its predictions by site and arm, unsealed"
    )
    parser.add_argument("--least", action="append", default=[], metavar="METRIC=NUMBER",
                        help="least difference that matters, in the metric's unit; may be repeated")  # fmt: skip
    parser.add_argument("--decides", default=METRICS[0], help=f"metric that must gain (default: {METRICS[0]})")
    parser.add_argument("--baseline", default="federated", choices=[*ARMS, OWN],
                        help="arm whose mean effects normalised metrics take away (default: federated)")  # fmt: skip
    parser.add_argument("--costs", type=Path, metavar="FILE", help=f"parquet of {COSTS}")
    parser.add_argument("--attacks", type=Path, metavar="FILE", help=f"parquet of {ATTACKS}")
    parser.add_argument("--draws", type=int, default=2000, help="of the bootstrap (default: 2000)")
    parser.add_argument(
        "--json", metavar="FILE", nargs="?", const="-", help="write all tables; without FILE, print them instead"
    )
    try:
        given = parser.parse_args(argv)
        least = dict(_least(parser, text) for text in given.least)
        if wrong := output.complaint("--json", None if given.json in (None, "-") else Path(given.json)):
            parser.error(wrong)
        if given.draws < 100:
            parser.error(f"--draws {given.draws}: an interval needs at least 100.")
    except SystemExit as e:
        return 2 if e.code else 0
    try:
        extra = {"costs": given.costs, "attacks": given.attacks}
        read = {name: _parquet(path) for name, path in extra.items() if path is not None}
        found = _found(given.source, least=least, decides=given.decides, baseline=given.baseline, draws=given.draws,
                       **read)  # fmt: skip
        told = json.dumps(rows(found), indent=1, allow_nan=False)
        if given.json == "-":
            sys.stdout.write(told + "\n")
        else:
            sys.stdout.write(text(found) + "\n")
        if given.json not in (None, "-"):
            output.write(Path(given.json), told)
    except (WorthError, tables.TableError, LookupError, ValueError, OSError, pl.exceptions.PolarsError) as e:
        sys.stderr.write(f"workbench federate value: {e.args[0] if e.args else e}\n")
        return 1
    return 0


def _least(parser: argparse.ArgumentParser, text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    try:
        return name.strip(), float(number)
    except ValueError:
        parser.error(f"--least {text!r}: give METRIC=NUMBER, such as --least 'normalised Pearson=0.02'.")


def _found(source: str, **options: Any) -> Value:
    """The value of a file of predictions, or of a run."""
    path = Path(source)
    if path.is_file():
        if path.suffix != ".parquet":
            raise WorthError(f"{source!r} is no parquet file; write the predictions with write_parquet.")
        return worth(_parquet(path), **options)
    if path.suffix == ".parquet":
        raise WorthError(f"there is no file {source!r}.")
    from workbench import runs

    return of_run(runs.find(source), **options)


def _parquet(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise WorthError(f"there is no file {str(path)!r}.")
    try:
        return pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise WorthError(f"{path} is no readable parquet file ({error}).") from None


def rows(value: Value) -> list[dict[str, Any]]:
    """Every row of every table, with the table's name under "table"."""
    found = []
    for name in ("verdicts", "sites", "overall", "encoders", "attacks"):
        found += [{"table": name, **row} for row in getattr(value, name).to_dicts()]
    return [*found, *({"table": "notes", "note": n} for n in value.notes)]


def text(value: Value) -> str:
    """The verdicts with their figures, what was paid, and what the federation gains as a whole, as lines of text."""
    lines: list[str] = []
    for (predictor, split), own in value.sites.group_by("predictor", "split", maintain_order=True):
        lines += [
            "",
            *textwrap.wrap(f"{predictor}, {split}: scores on each site's own test rows, 95 % intervals", WIDTH),
        ]
        for (site,), rows_ in own.group_by("site", maintain_order=True):
            facts = value.verdicts.filter(predictor=predictor, split=split, site=site)
            lines += ["", *_site(str(site), rows_, facts)]
        lines += ["", *_overall(value.overall.filter(predictor=predictor, split=split))]
    lines += ["", *encoders.lines(value.encoders)] * bool(value.encoders.height)
    lines.append("")
    for note in value.notes:
        lines += textwrap.wrap(note, WIDTH, initial_indent="  * ", subsequent_indent="    ")
    return "\n".join(lines).strip("\n")


def _site(site: str, found: pl.DataFrame, facts: pl.DataFrame) -> Iterator[str]:
    units, drawn, n = found["units"][0], found["resampled"][0], found["n"][0]
    yield from textwrap.wrap(f"{site}: {units:,} {drawn}s, {n:,} test rows", WIDTH)
    yield from _scores(found)
    wide = max(43, *(len(f"{a} from alone, {m} ") for a, m in found.select("arm", "metric").iter_rows()))
    for r in found.filter(pl.col("arm") != ALONE, pl.col("difference").is_not_null()).iter_rows(named=True):
        ends = "" if r["difference_low"] is None else f" ({r['difference_low']:+.3f} to {r['difference_high']:+.3f})"
        what = f"{r['arm']} from alone, {r['metric']}"
        yield f"    {what:<{wide}}{r['difference']:+.3f}{ends:<20}  Holm p {_p(r['p_holm']):<8}{r['verdict']}"
    for v in facts.iter_rows(named=True):
        arm = f" ({v['arm']})" if facts.height > 1 else ""
        yield from textwrap.wrap(
            f"{v['verdict'].upper()}{arm}: {v['reason']}", WIDTH, initial_indent="  => ", subsequent_indent="     "
        )
        harmed = [f"negative transfer: {v['negative_transfer']}"] if v["negative_transfer"] else []
        for flag in [*harmed, *v["flags"]]:
            yield from textwrap.wrap(f"! {flag}", WIDTH, initial_indent="     ", subsequent_indent="       ")
    if facts.height:
        yield from textwrap.wrap(
            _paid(facts.row(0, named=True)), WIDTH, initial_indent="     ", subsequent_indent="     "
        )


def _scores(found: pl.DataFrame) -> Iterator[str]:
    """Scores of a site by metric and arm; arms below each other where beside each other they would not fit."""
    arms = [*found["arm"].unique(maintain_order=True), "naive"]
    cells: dict[tuple[str, str], str] = {}
    for r in found.iter_rows(named=True):
        metric = f"{r['metric']} [{r['unit']}]" if r["unit"] else r["metric"]
        cells[metric, r["arm"]] = _with(r["value"], r["low"], r["high"])
        cells[metric, "naive"] = _figure(r["naive"])
    metrics = list(dict.fromkeys(m for m, _ in cells))
    if len(arms) <= FIT:
        yield f"  {'':<{NAME}}" + "".join(f"{a:>{CELL}}" for a in arms)
        yield from (f"  {m:<{NAME}}" + "".join(f"{cells[m, a]:>{CELL}}" for a in arms) for m in metrics)
    else:
        yield f"  {'':<{NAME}}" + "".join(f"{m:>{CELL}}" for m in metrics)
        yield from (f"  {a:<{NAME}}" + "".join(f"{cells[m, a]:>{CELL}}" for m in metrics) for a in arms)


def _paid(v: dict[str, Any]) -> str:
    """What the site gave, in words; what nobody measured is said to be so."""
    words = {
        "rows": ("training rows", ","), "epsilon": ("epsilon spent", ".3g"), "delta": ("at delta", ".1g"),
        "bytes": ("bytes sent", ","), "messages": ("messages", ","), "rounds": ("rounds", ","),
        "refusals": ("answers refused, late or dropped", ","),
    }  # fmt: skip
    v = v if v["epsilon"] is not None else v | {"delta": None}
    known = [f"{name} {v[c]:{form}}" for c, (name, form) in words.items() if v[c] is not None]
    unknown = [name for c, (name, _) in words.items() if v[c] is None and c != "delta"]
    if v["epsilon"] is None and v["bytes"] is not None:  # what was sent is known, and that it had noise is not
        known.append("no bound on epsilon: exact answers have none")
        unknown.remove("epsilon spent")
    return "; ".join([*known, *([f"{UNKNOWN}: {', '.join(unknown)}"] if unknown else [])])


def _overall(found: pl.DataFrame) -> Iterator[str]:
    """What all sites together gain, and how even that is."""
    for (arm,), some in found.group_by("arm", maintain_order=True):
        n, joined = some["sites"][0], some["joined"][0]
        yield f"the {arm} model over {n} sites, of which {joined} should join; gains, positive is good"
        for r in some.iter_rows(named=True):
            rows_ = "" if r["by_rows"] is None else f", by training rows {r['by_rows']:+.3f}"
            ends = f"{_figure(r['low'], '+.3f')} to {_figure(r['high'], '+.3f')}"
            told = (
                f"{r['metric']}: mean {r['gain']:+.3f} ({ends}){rows_}; "
                f"most {r['best_site']} {r['best']:+.3f}, least {r['worst_site']} {r['worst']:+.3f}; "
                f"best to worst site {r['gap_alone']:.3f} alone, {r['gap']:.3f} after"
            )
            yield from textwrap.wrap(told, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _with(value: float | None, low: float | None, high: float | None) -> str:
    return _figure(value) + ("" if low is None or high is None else f" ({low:.3f} to {high:.3f})")


def _figure(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else f"{value:{form}}"


def _p(p: float | None) -> str:
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
