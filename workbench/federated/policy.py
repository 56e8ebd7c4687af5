"""What a site allows: decided at the site, checked there before anything leaves.

Read from a small TOML file at the site; the server never sees it and cannot change it:

    allowed = ["schema", "counts", "moments", "secure_keys", "secure_shares", "secure_masked", "secure_survivors",
               "secure_unmask"]      # files of workbench/federated/asked; this key must be there
    minimum_rows = 20                # fewest training rows behind an answer
    minimum_subjects = 10            # fewest persons behind it: one line may have hundreds of rows
    minimum_cell = 5                 # smallest count that may be told; fewest persons two answers may differ by
    most_bytes_a_round = 67108864
    most_bytes_a_day = 4294967296
    most_rounds_a_run = 500
    most_rounds_a_day = 2000
    secure = true                    # what is only needed as a sum leaves masked (secure aggregation) or not at all
    axes_per_subject = 1.0           # sums along directions: fewer directions than this many for each subject
    alone = false                    # numbers that the server needs of this very site (its own weights) stay here
    epsilon = 3.0                    # all this site ever tells of its persons costs at most this (differential privacy)
    delta = 1e-5                     # the probability with which that bound may fail; below one in all its persons
    honest = 1                       # sites, itself included, whose noise it counts on in a secure sum; 1: its own only

The person is what is protected. Lines or samples of one patient count once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from workbench import rooms, toml_file
from workbench.text import nearest

ASKED = "workbench.federated.asked"
# what a secure sum asks a site for
MASKING = {"secure_keys", "secure_shares", "secure_masked", "secure_survivors", "secure_unmask"}
STRICT = {"minimum_subjects": 10, "secure": True, "alone": False}  # what a file leaves unsaid; a simulation is laxer


class PolicyError(ValueError):
    """The site's policy forbids this answer; the text goes to the server in place of numbers and names no row."""


class PolicyFileError(ValueError):
    """A policy file is not one; names the key, what was found and the nearest known one."""


@dataclass(frozen=True)
class Policy:
    """A site's rules. The values here are a simulation's; of a site's file, ``secure`` and others are stricter.

    Attributes
    ----------
    allowed : purposes the site answers ("*": all)
    minimum_rows : fewest training rows an answer may rest on
    minimum_cell : counts from 1 up to this, less one, are never told (small-cell suppression; in a secure sum nobody
        is told a site's count), and no two answers may rest on sets of persons that differ by so few
    minimum_subjects : fewest persons an answer may rest on
    most_bytes_a_round, most_bytes_a_day : most bytes that may leave
    most_rounds_a_run, most_rounds_a_day : most rounds the site takes part in
    secure : True where answers that only their sum is needed of leave masked or not at all
    axes_per_subject : sums along directions of the features (a projected Gram matrix) may have fewer directions than
        this many for each subject; as many would show the span of the rows
    alone : True where numbers with decimals may leave that the server needs of this very site
    epsilon, delta : the privacy budget of a person over all runs together (``gate.budget``). Above 0, exact answers
        are refused and noisy ones are charged; 0.0 sets no bound
    honest : fewest sites of a secure sum, itself included, that it trusts to add their share of the noise; with 1 it
        adds all of the noise itself and trusts nobody
    """

    allowed: tuple[str, ...] = ("*",)
    minimum_rows: int = 20
    minimum_cell: int = 5
    minimum_subjects: int = 5
    most_bytes_a_round: int = 2**30
    most_bytes_a_day: int = 2**36
    most_rounds_a_run: int = 10_000
    most_rounds_a_day: int = 100_000
    axes_per_subject: float = 1.0
    secure: bool = False
    alone: bool = True
    epsilon: float = 0.0
    delta: float = 1e-5
    honest: int = 1

    def permit(self, purpose: str, rows: int) -> None:
        """Raise PolicyError where the purpose is not allowed or rests on too few rows."""
        if "*" not in self.allowed and purpose not in self.allowed:
            raise PolicyError(f"policy: {purpose!r} is not among what this site answers.")  # the list stays here
        if rows < self.minimum_rows:
            raise PolicyError(f"policy: an answer must rest on {self.minimum_rows} training rows; this one has fewer.")


def read(path: Path | str) -> Policy:
    """The policy in the file ``path``.

    Raises
    ------
    PolicyFileError
        No such file, not TOML, an unknown key or purpose (with the nearest), an ill-typed value, or no ``allowed``.
    """
    path = Path(path)
    given = toml_file.read(path, PolicyFileError, "policy file")
    if "allowed" not in given:
        raise PolicyFileError(
            f'{path}: the key allowed is missing. Name what this site answers: allowed = ["counts", ...] (known: '
            f'{", ".join(rooms.names(ASKED))}), or allowed = ["*"] for everything.'
        )
    return of({**STRICT, **given}, str(path))


def of(given: Mapping[str, Any], where: str = "policy") -> Policy:
    """A Policy of plain values, as a TOML table has them; what is not said is as in ``Policy``.

    Raises
    ------
    PolicyFileError
        An unknown key or purpose (with the nearest), an ill-typed value, one out of range, or ``secure`` for sums
        without the purposes that mask them.
    """
    known = {f.name: str(f.type) for f in fields(Policy)}
    told: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise PolicyFileError(f"{where}: unknown key {key!r}.{nearest(key, known)} Known: {', '.join(known)}.")
        told[key] = _typed(where, key, value, known[key])
    if told.get("epsilon") == 0:  # whoever writes it may mean the opposite
        raise PolicyFileError(
            f"{where}: epsilon = 0 would set no bound at all. Without a budget leave the line out; to "
            "answer nothing that rests on rows, leave such names out of allowed."
        )
    if not 0 < told.get("delta", Policy.delta) < 1:
        raise PolicyFileError(f"{where}: delta should be above 0 and below 1, found {told['delta']}.")
    asked = [*rooms.names(ASKED), "*"]
    for purpose in told.get("allowed", ()):
        if purpose not in asked:
            raise PolicyFileError(
                f"{where}: allowed names {purpose!r}, which nobody can ask.{nearest(purpose, asked)} "
                f"Known: {', '.join(asked)}."
            )
    made = Policy(**told)
    lacking = [] if "*" in made.allowed or not made.secure else sorted(MASKING - set(made.allowed))
    if lacking and any(rooms.load(ASKED, p).LEAVES.summed for p in made.allowed):
        raise PolicyFileError(
            f"{where}: secure is true (as where nothing is said of it), so sums leave masked or not at all, and what "
            f"masks them is not allowed: add {', '.join(repr(p) for p in lacking)} to allowed, or write secure = false."
        )
    return made


def _typed(where: str, key: str, value: Any, kind: str) -> Any:
    if kind == "bool":
        if not isinstance(value, bool):
            raise PolicyFileError(f"{where}: {key} should be true or false, found {value!r}.")
        return value
    if kind == "float":
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise PolicyFileError(f"{where}: {key} should be a number, at least 0; found {value!r}.")
        return float(value)
    if kind == "int":
        if isinstance(value, bool) or not isinstance(value, int):
            raise PolicyFileError(f"{where}: {key} should be a whole number, found {value!r}.")
        if value < 1:
            raise PolicyFileError(f"{where}: {key} should be at least 1, found {value}.")
        return value
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
        raise PolicyFileError(f"{where}: {key} should be a list of names, found {value!r}.")
    return tuple(value)
