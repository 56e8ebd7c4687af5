"""Does any damaged file get past a reader, or take the process down? Bends bytes of valid files, many times.

    python experiments/mutate_readers.py --times 1000 --seed 0 [--reader xpt]

For every reader in workbench/formats: its small valid file (tests/samples.py) is cut, its bits flipped, bytes swapped,
inserted, overwritten, blocks doubled, zeroed or moved, and read in the cage with caps of 1 GiB and 10 s. What can come
of it: a value, a refusal (FormatError), or a refusal by the cage (time, memory, a crash of the child). Anything else, a
reader's unforeseen error among it, is a failure, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.samples import OPTIONS, SAMPLES
from workbench import caged, rooms
from workbench.formats import FormatError

FINE = ("value", "refused", "time", "memory", "signal")  # the cage's own refusals are what it is for


def mutated(data: bytes, chance: random.Random) -> bytes:
    """``data`` with one to three wounds."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3))):
        chance.choice(WOUNDS)(found, chance)
    return bytes(found)


def _span(data: bytearray, chance: random.Random, most: int = 64) -> tuple[int, int]:
    start = chance.randrange(len(data)) if data else 0
    return start, min(len(data), start + chance.randint(1, most))


def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data) + 1) :]


def lose(data: bytearray, chance: random.Random) -> None:
    start, end = _span(data, chance)
    del data[start:end]


def flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 8)):
        if data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def swap(data: bytearray, chance: random.Random) -> None:
    if len(data) > 1:
        a, b = chance.randrange(len(data)), chance.randrange(len(data))
        data[a], data[b] = data[b], data[a]


def insert(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    data[at:at] = chance.randbytes(chance.randint(1, 64))


def overwrite(data: bytearray, chance: random.Random) -> None:
    start, end = _span(data, chance)
    data[start:end] = chance.choice((bytes(end - start), b"\xff" * (end - start), chance.randbytes(end - start)))


def extreme(data: bytearray, chance: random.Random) -> None:
    """A length or a number becomes one that is out of all bounds."""
    start = chance.randrange(max(1, len(data)))
    numbers = (
        b"\xff\xff\xff\x7f",
        b"\x7f\xff\xff\xff",
        b"\xff" * 8,
        b"\0\0\0\x80",
        b"9999",
        b"-1",
        b"1e400",
        b"\0" * 8,
    )
    number = chance.choice(numbers)
    data[start : start + len(number)] = number


def double(data: bytearray, chance: random.Random) -> None:
    start, end = _span(data, chance, 512)
    data[end:end] = data[start:end] * chance.choice((1, 1, 1, 50))


def move(data: bytearray, chance: random.Random) -> None:
    start, end = _span(data, chance, 256)
    block = data[start:end]
    del data[start:end]
    at = chance.randrange(len(data) + 1)
    data[at:at] = block


WOUNDS = (cut, lose, flip, swap, insert, overwrite, extreme, double, move)


def outcome(reader: str, data: bytes, seconds: float = 10) -> tuple[str, str]:
    """What came of reading ``data`` (see ``FINE``), and what was said."""
    try:
        caged.read(reader, data, f"mutated.{reader}", memory=2**30, seconds=seconds, **OPTIONS.get(reader, {}))
    except caged.CagedError as error:
        return error.kind, str(error)
    except FormatError as error:
        return "refused", str(error)
    except Exception as error:  # the parent should never see one
        return "parent", f"{type(error).__name__}: {error}"
    return "value", ""


def experiment(reader: str, times: int, seed: int, progress: bool = False) -> tuple[Counter[str], list[str]]:
    """Counts of what came of ``times`` damaged files, and what was said of each failure, with its seed."""
    valid = SAMPLES[reader]()
    assert outcome(reader, valid)[0] == "value", f"the sample of {reader} itself cannot be read"
    seen: Counter[str] = Counter()
    failures = []
    for number in tqdm(range(times), desc=f"{reader:>12}", disable=not progress, file=sys.stderr, leave=False):
        kind, said = outcome(reader, mutated(valid, random.Random(f"{reader} {seed} {number}")))
        seen[kind] += 1
        if kind not in FINE:
            failures.append(f"{reader}, seed {seed}, number {number}: {kind}: {said[:300]}")
    return seen, failures


def readers() -> list[str]:
    """Every format; one without a sample is an error, so that none is forgotten."""
    found = rooms.names("workbench.formats")
    if missing := sorted(set(found) - set(SAMPLES)):
        raise SystemExit(f"tests/samples.py has no sample of {', '.join(missing)}. Add one.")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Read damaged files with every reader, and count what comes of it.")
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", action="append", choices=readers(), help="only this one (may be repeated)")
    given = parser.parse_args()
    bad: list[str] = []
    print(
        f"{'reader':>12}  {'value':>6} {'refused':>8} {'time':>5} {'memory':>7} {'crashed':>8} {'FAILED':>7}  seconds"
    )
    for reader in given.reader or readers():
        began = time.monotonic()
        seen, failures = experiment(reader, given.times, given.seed, progress=True)
        bad += failures
        counts = " ".join(f"{seen[k]:>{w}}" for k, w in zip(FINE, (6, 8, 5, 7, 8), strict=True))
        print(f"{reader:>12}  {counts} {len(failures):>7}  {time.monotonic() - began:.1f}", flush=True)
    for line in bad[:50]:
        print(line)
    print(f"the parent survived all; {len(bad)} failures")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
