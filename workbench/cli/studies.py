"""`workbench study`: list, build, describe or check studies."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from workbench import home, rooms, summary
from workbench.cli.answers import Failed, tell, write
from workbench.text import nearest

SCREENS = ("gdsc2", "gdsc1", "ccle")
COHORTS = ("neoadjuvant_breast",)  # of patients: each is a source of its own name


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
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
        return describe(built(args.of, args.archive, args.replace, path))
    from workbench import folders

    if bad := [o for o in args.option if "=" not in o]:
        raise Failed(f"--option {bad[0]}: expected KEY=VALUE, such as volume_unit=mm3.")
    options = dict(o.split("=", 1) for o in args.option)
    study = folders.build(args.of, path, kind=args.kind, replace=args.replace, notify=tell, **options)
    print(summary.study(study))
    return 0


def built(screen: str, archive: str | None, replace: bool = False, path: Path | None = None):
    if screen in COHORTS:
        cohort = rooms.load("workbench.sources", screen)
        return cohort.build(path, archive=archive, replace=replace, notify=tell)
    from workbench.sources import gdsc

    return gdsc.build(screen, path, archive=archive, replace=replace, notify=tell)


def _study_info(args: argparse.Namespace) -> int:
    from workbench.study import Study, find

    study = Study.open(find(args.study))
    describe(study)
    write(args.json, _facts(study))
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


def describe(study) -> int:
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
    write(args.json, [{"study": study.name, "problem": p} for p in problems])
    for problem in problems:
        print(problem)
    print(
        f"{study.name}: {len(problems)} problems" if problems else f"{study.name}: every file is what its digest says"
    )
    return 1 if problems else 0
