"""`workbench <verb>`: every verb has --help and an exit status: 0 done, 1 failed, 2 bad usage.

An error says what was expected, what was found and what to do; WORKBENCH_DEBUG=1 shows its traceback.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from workbench import __version__, rooms
from workbench.cli import experiments, studies
from workbench.cli.answers import Failed, write
from workbench.text import nearest, on_command_line

BUILT_IN = ("audit", "bench", "demo", "run", "runs", "study", "ui")
FURTHER = {  # what verbs of other rooms do; those of other packages show where they come from
    "assays": "which missing modality of a sample to measure next",
    "ceiling": "how far two screens agree, and each predictor's share of that",
    "compare": "runs compared: paired intervals, ranks, cost",
    "coverage": "where the intervals of a run hold, and where not",
    "leaderboard": "many experiments by one file, one table; goes on where it stopped",
    "pages": "serve the pages",
    "pilot": "which drugs to measure next on a new sample, and what the measured ones say of all others",
    "report": "a run as one HTML file",
    "translate": "do predictions from cell lines hold in patients?",
}


def main(argv: list[str] | None = None) -> int:
    """Run a verb; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    # on a busy machine, threads that spin while they wait for each other make small products ten times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    plugged = {e.name: e for e in entry_points(group="workbench.verbs")}
    if argv and argv[0] in plugged:
        return _answered(argv[0], lambda: plugged[argv[0]].load()(argv[1:]))
    parser = _parser(plugged)
    if argv and not argv[0].startswith("-") and argv[0] not in (known := {*BUILT_IN, *plugged}):
        parser.error(f"unknown verb {argv[0]!r}.{nearest(argv[0], known)} Known: {', '.join(sorted(known))}.")
    args = parser.parse_args(argv)
    if (out := getattr(args, "json", None)) is not None and not out.parent.is_dir():  # said before the work, not after
        parser.error(f"--json {out}: there is no folder {str(out.parent)!r}. Make it first.")
    return _answered(args.verb, lambda: args.do(args))


def _answered(verb: str, do: Callable[[], int | None]) -> int:
    """Status of a verb that was done, stopped or refused; a refusal is told in one line."""
    try:
        return int(do() or 0)
    except KeyboardInterrupt:
        print(
            "\nstopped; what was running is recorded as KILLED, and the same command goes on from its checkpoints.",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except _refusals() as error:
        words = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"workbench {verb}: {on_command_line(words)}", file=sys.stderr)
        return 1


def _refusals() -> tuple[type[BaseException], ...]:
    """Errors that are answers, not bugs: shown without a traceback unless WORKBENCH_DEBUG is set."""
    return () if os.environ.get("WORKBENCH_DEBUG") else (Failed, ValueError, LookupError, OSError, RuntimeError)


def _parser(plugged: dict[str, Any]) -> argparse.ArgumentParser:
    extra = "\n".join(
        f"    {name:<11} {FURTHER.get(name, '(from ' + e.value.partition(':')[0] + ')')}"
        for name, e in sorted(plugged.items())
    )
    parser = argparse.ArgumentParser(
        prog="workbench",
        description="Checked studies, honest predictors, tracked runs.",
        epilog=f"further verbs:\n{extra}" if extra else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"workbench {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    experiments.add(verbs)
    studies.add(verbs)
    bench = verbs.add_parser("bench", help="measure ourselves against a peer, in one process")
    bench.add_argument("name", choices=rooms.names("workbench.benches"))
    bench.add_argument("--json", type=Path, help="write the rows to this file")
    bench.set_defaults(do=_bench)

    ui = verbs.add_parser("ui", help="serve MLflow's page on the recorded runs")
    ui.add_argument("--port", type=int, default=5000)
    ui.set_defaults(do=_ui)
    return parser


def _bench(args: argparse.Namespace) -> int:
    bench = importlib.import_module(f"workbench.benches.{args.name}")
    rows = bench.run()
    for r in rows:
        figures = f"ours {r['ours']:.4g} {r['unit']}, peer {r['peer']:.4g} {r['unit']}, ratio {r['ratio']:.3f}"
        print(f"{r['name']:<34} {figures}  {r['note']}")
    write(args.json, rows)
    return 0


def _ui(args: argparse.Namespace) -> int:
    import subprocess

    from workbench import runs

    argv, env = runs.server_command(args.port)
    print(
        f"MLflow on http://127.0.0.1:{args.port} (Ctrl-C ends it). It opens in its GenAI mode: choose Model training,"
    )
    print("or follow the link that `workbench runs latest` prints.")
    server = subprocess.Popen(argv, env=os.environ | env, start_new_session=True)
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        import signal

        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=20)
