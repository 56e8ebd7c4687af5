"""Does a study notice one flipped bit? Flips one at a time in its stored files, and reads everything.

    python experiments/flip_bits.py --study gdsc2 --flips 200 --seed 0

The study is copied first; the original is only read. Every stored file gets at least one flip, the rest
fall on files chosen at random. A flip counts as refused when reading raises
``StudyError`` for exactly the file that was damaged. Exit status 1 when any flip was not.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from workbench.study import Study, StudyError, find


def read_all(folder: Path) -> None:
    """Read everything the study holds, through ``Study`` alone."""
    study = Study.open(folder)
    for frame in ("outcomes", "subjects", "treatments"):
        getattr(study, frame)
    for name in study.modalities:
        study.modality(name)


def flip(path: Path, bit: int) -> None:
    """Invert bit ``bit`` of the file, in place."""
    with path.open("r+b") as stream:
        stream.seek(bit // 8)
        byte = stream.read(1)[0]
        stream.seek(bit // 8)
        stream.write(bytes([byte ^ (1 << bit % 8)]))


def trial(folder: Path, file: str, bit: int) -> str:
    """What reading says with one bit flipped: "refused", another refusal, or "read"; the bit is put back."""
    flip(folder / file, bit)
    try:
        read_all(folder)
    except StudyError as error:
        return "refused" if error.file == file and file in str(error) else f"refused as {error.file}"
    except Exception as error:  # a parser saw the bytes before the digest was compared
        return f"parser said {type(error).__name__}"
    finally:
        flip(folder / file, bit)
    return "read"


def experiment(study: Path, flips: int, seed: int, progress: bool = True) -> Counter[tuple[str, str]]:
    """Outcomes by (file, what happened) over ``flips`` single flips, at least one in every stored file."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(study, Path(scratch) / "study"))
        files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        read_all(folder)  # the clean copy must be readable, or every refusal would mean nothing
        chosen = files + [chance.choice(files) for _ in range(flips - len(files))]
        seen: Counter[tuple[str, str]] = Counter()
        for file in tqdm(chosen, desc="flips", disable=not progress, file=sys.stderr):
            seen[file, trial(folder, file, chance.randrange(8 * (folder / file).stat().st_size))] += 1
        read_all(folder)
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description="Flip single bits in a copy of a study, and count what is noticed.")
    parser.add_argument("--study", default="gdsc2", help="name in the home, or path")
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    seen = experiment(find(given.study), given.flips, given.seed)
    for (file, what), times in sorted(seen.items()):
        print(f"{file:40} {what:20} {times:4}")
    refused = sum(times for (_, what), times in seen.items() if what == "refused")
    print(f"{refused} refused, {sum(t for (_, w), t in seen.items() if w == 'read')} silently read")
    return 0 if refused == sum(seen.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
