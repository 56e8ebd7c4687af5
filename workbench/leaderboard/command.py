"""`workbench leaderboard [FILE]`: run what is missing, print the table."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from workbench import experiment, runs
from workbench.experiment import Experiment, ExperimentError
from workbench.leaderboard import FILE, markdown, read, run, table
from workbench.text import nearest


def main(argv: list[str]) -> int:
    """`workbench leaderboard [FILE]`."""
    parser = argparse.ArgumentParser(prog="workbench leaderboard", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, default=FILE, help=f"a TOML file (default: {FILE})")
    parser.add_argument("--study", action="append", help="only this study (may be given more than once)")
    parser.add_argument("--split", action="append", help="only this split (may be given more than once)")
    parser.add_argument("--seed", action="append", type=int, help="only this seed (may be given more than once)")
    parser.add_argument("--again", action="store_true", help="run finished experiments anew")
    parser.add_argument("--standing", action="store_true", help="run nothing: the table of what is finished")
    parser.add_argument("--json", type=Path, help="write scores and paired differences to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    args = parser.parse_args(argv)
    for out in (args.json, args.markdown):
        if out is not None and not out.parent.is_dir():
            parser.error(f"{out}: there is no folder {str(out.parent)!r}. Make it first.")

    def only(spec: Experiment) -> bool:
        asked = ((args.study, spec.study), (args.split, spec.split), (args.seed, spec.seed))
        if not all(not some or value in some for some, value in asked):
            return False
        return not args.standing or _stands(spec)

    board = read(args.file)
    for asked, there in ((args.study, board.studies), (args.split, board.seeds)):
        if odd := [value for value in asked or [] if value not in there]:
            hint = nearest(odd[0], there)
            raise ExperimentError(
                f"{odd[0]!r} is not in the leaderboard {board.name!r}.{hint} It has: {', '.join(there)}."
            )
    runs.sweep()
    ids = run(board, only=only, again=args.again, heard=lambda text: print(text, file=sys.stderr))
    if not ids:
        raise ExperimentError("nothing to show: no experiment of the leaderboard fits, or none is finished yet.")
    told = table(ids)
    shown = markdown(told, entered=board.predictors)
    print(shown)
    if args.markdown:
        args.markdown.write_text(shown + "\n", encoding="utf-8")
    if args.json:
        rows = {"scores": told.scores.to_dicts(), "pairs": told.pairs.to_dicts()}
        args.json.write_text(json.dumps(rows, indent=1, default=str), encoding="utf-8")
    return 0


def _stands(spec: Experiment) -> bool:
    """Is there a finished run of it? Said, and taken for none, where a study it needs is not built."""
    try:
        return experiment.standing(spec) is not None
    except FileNotFoundError as error:
        print(f"{spec.name}: {error}", file=sys.stderr)
        return False
