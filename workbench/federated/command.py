"""``workbench federate``: rehearse a federation, serve one, join one, and see what it was worth and what left.

simulate EXPERIMENT    sites that are parts of one study, on this machine
keys DIR               keys, certificates, and the files that serve and join read
serve CONFIG           the server of sites elsewhere
join STUDY             one site, with its own study, policy and ledger
attack RUN             what attackers learn from it: who was trained on, one person's values, what a site is like
value ...              should we join? per site: alone, together, pooled
ledger ...             what left this site, and whether the book was touched
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.federated import output
from workbench.text import nearest

if TYPE_CHECKING:
    import argparse

    from workbench.federated.spec import Federation

WORDS = {  # each has a parser of its own: the word's room, imported when the word is said
    "simulate": ("workbench.federated.command", "simulate", "sites that are parts of one study, on this machine"),
    "serve": ("workbench.federated.deployment.command", "main", "serve a federation to sites elsewhere"),
    "join": ("workbench.federated.deployment.command", "main", "join a federation with this site's own study"),
    "keys": ("workbench.federated.deployment.command", "main", "make keys and certificates"),
    "value": ("workbench.federated.worth.command", "main", "should we join? each site alone, together, pooled"),
    "attack": ("workbench.federated.attacks.command", "main", "attack a federation's result: who, what and which kind"),
    "ledger": ("workbench.federated.gate.command", "main", "what left this site, and is the book whole?"),
}
ONE = ("workbench.federated.deployment.command",)  # answers several words and so is told which


def main(argv: list[str]) -> int:
    """``workbench federate WORD ...``: exit status 0, 1 (cannot be done) or 2 (bad usage)."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0 if argv else 2
    word, rest = argv[0], argv[1:]
    if word not in WORDS:
        sys.stderr.write(
            f"workbench federate: unknown word {word!r}.{nearest(word, WORDS)} Known: {', '.join(WORDS)}.\n"
        )
        return 2
    module, function, _ = WORDS[word]
    try:
        do = getattr(importlib.import_module(module), function)
        return int(do([word, *rest] if module in ONE else rest) or 0)
    except KeyboardInterrupt:
        after = {"simulate": "round that was kept", "attack": "model that was trained"}.get(word)
        sys.stderr.write(f"\nstopped; the same command goes on after the last {after}.\n" if after else "\nstopped.\n")
        return 1
    except BrokenPipeError:  # whoever read it has enough; the verb's own answer to that
        raise
    except _refusals() as error:
        words = error.args[0] if isinstance(error, KeyError) and error.args else error
        sys.stderr.write(f"workbench federate {word}: {words}\n")
        return 1
    except Exception as error:  # of the store of runs, which is MLflow's: its disk may be full
        if os.environ.get("WORKBENCH_DEBUG") or not type(error).__module__.startswith("mlflow"):
            raise
        why = (str(error).splitlines() or [type(error).__name__])[0]
        sys.stderr.write(f"workbench federate {word}: the store of runs cannot be used: {why}. Is its disk full?\n")
        return 1


def _refusals() -> tuple[type[BaseException], ...]:
    """Errors that are answers, not bugs: shown without a traceback unless WORKBENCH_DEBUG is set."""
    return () if os.environ.get("WORKBENCH_DEBUG") else (ValueError, LookupError, OSError, RuntimeError, ImportError)


def _usage() -> str:
    lines = [f"  {word:<10} {text}" for word, (_, _, text) in WORDS.items()]
    return (
        "usage: workbench federate WORD ...\n\n" + "\n".join(lines) + "\n\n`workbench federate WORD --help` says more."
    )


def _parser() -> argparse.ArgumentParser:
    import argparse

    p = argparse.ArgumentParser(
        prog="workbench federate simulate",
        description="Train a predictor by sites that are parts of one study, score it, and record it as a run. A "
        "stopped simulation goes on after its last round when the same command is given again.",
    )
    p.add_argument("experiment", type=Path, help="TOML file with a table [federation], see experiments/federations/")
    p.add_argument(
        "--engine", default="flower",
        help="flower (its simulation engine, sites in this process), ray (in Ray's workers) or inline (without it)",
    )  # fmt: skip
    p.add_argument("--workers", type=int, help="Ray's workers, with --engine ray (default 2)")
    p.add_argument("--check", action="store_true", help="read the file, deal out the sites, train nothing")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the score rows to this file")
    return p


def simulate(argv: list[str]) -> int:
    """``workbench federate simulate EXPERIMENT``."""
    try:
        given = _parser().parse_args(argv)
    except SystemExit as e:
        return 2 if e.code else 0
    wrong = output.complaint("--json", given.json)  # said before the work, not after
    if given.workers is not None and given.engine != "ray":
        wrong = f"--workers {given.workers} does nothing with --engine {given.engine}; it is of --engine ray."
    if wrong:
        sys.stderr.write(f"workbench federate simulate: {wrong}\n")
        return 2
    from workbench.federated import spec

    federation = spec.read(given.experiment)
    if given.check:
        return _check(federation)
    if wrong := output.homeless():
        raise OSError(wrong)
    from workbench import runs, summary
    from workbench.federated.simulation.simulate import WORKERS
    from workbench.federated.simulation.simulate import simulate as go
    from workbench.federated.watched import checked, missed

    if swept := runs.sweep():
        sys.stderr.write(f"{swept} runs of ended processes were marked KILLED\n")
    workers = WORKERS if given.workers is None else given.workers
    run = go(federation, given.engine, workers=workers, say=_Progress())
    sys.stderr.write("\n" * sys.stderr.isatty())
    print(summary.table(run))
    print("\n" + _by_site(run))
    rounds = run.table("FEDERATION_ROUNDS")
    for line in [*checked(rounds), *missed(rounds)]:
        print(line)
    print(f"\nrun {run.run_id}\n  report   workbench report {run.run_id[:8]} --out report.html")
    if given.json:
        import json

        output.write(given.json, json.dumps(run.metrics.to_dicts(), indent=1, default=str))
    return 0


def _check(federation: Federation) -> int:
    """Who would hold what."""
    from workbench.federated import sharing, task

    for number in federation.experiment.numbers:
        fold, dealt = task.opened(federation, number)
        print(f"fold {number}: {fold.train.height:,} training rows, {fold.test.height:,} test rows")
        for site, subjects in dealt.items():
            own = sharing.local(fold, subjects)
            lines = own.train["subject"].n_unique()
            print(
                f"  {site:<20} {own.train.height:>8,} training rows of {lines} subjects, {own.test.height:,} test rows"
            )
    return 0


def _by_site(run) -> str:
    """Bytes each site sent and how often it was lost."""
    import polars as pl

    rounds = run.table("FEDERATION_ROUNDS").filter(pl.col("site").is_not_null())
    told = rounds.group_by(pl.col("site").cast(pl.String)).agg(
        sent=pl.col("bytes").sum(), answers=pl.col("bytes").count(), lost=pl.col("lost").count()
    )
    lines = [f"{'site':<20} {'answers':>8} {'bytes sent':>14} {'lost':>6}"]
    for site, sent, answers, lost in told.sort("site").select("site", "sent", "answers", "lost").iter_rows():
        lines.append(f"{site:<20} {answers:>8} {sent:>14,} {lost:>6}")
    return "\n".join(lines)


class _Progress:
    """Share done, what is going on, and the time left: on one line of a terminal, else a line a stage or twentieth."""

    def __init__(self) -> None:
        self.left, self.last = output.TimeLeft(), ("", -1.0)

    def __call__(self, done: float, what: str) -> None:
        line = f"{done:4.0%} {what}{self.left(done)}"
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{line[:118]:<118}")
            sys.stderr.flush()
        elif what.split(",")[0].split(" of ")[0] != self.last[0] or done >= min(self.last[1] + 0.05, 1.0):
            sys.stderr.write(f"{line}\n")
            self.last = (what.split(",")[0].split(" of ")[0], done)
