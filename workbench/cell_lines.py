"""Cell-line names: the same line is CAL-120, CAL120 or Cal 120; TT and T-T are two different lines.

Names are compared by a key without case and punctuation, and without the prefix "NCI" where that is
safe. What cannot be told apart that way is never guessed: it is listed as ambiguous.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

PREFIX = "nci"


def key(name: str) -> str:
    """``name`` in lower case, letters and digits only."""
    return "".join(c for c in name.casefold() if c.isalnum())


class LineNames:
    """One key per cell line across several lists of names.

    Parameters
    ----------
    lists : the lists that will be matched with each other. Within one list, different names are
        different lines; across lists, names with the same key are the same line.

    Attributes
    ----------
    ambiguous : keys that two different names of one list share; these lines cannot be matched
    """

    def __init__(self, *lists: Iterable[str]) -> None:
        self.ambiguous: set[str] = set()
        self._bare_is_unsafe: set[str] = set()
        for names in lists:
            by_key, by_bare = defaultdict(set), defaultdict(set)
            for name in names:
                by_key[key(name)].add(name)
                by_bare[_bare(key(name))].add(key(name))
            self.ambiguous |= {k for k, found in by_key.items() if len(found) > 1 or not k}
            self._bare_is_unsafe |= {b for b, found in by_bare.items() if len(found) > 1}

    def match(self, name: str) -> str | None:
        """The line's key, or None where the name is ambiguous."""
        full = key(name)
        if full in self.ambiguous:
            return None
        bare = _bare(full)
        return full if bare in self._bare_is_unsafe or bare in self.ambiguous else bare


def _bare(full: str) -> str:
    return full[len(PREFIX) :] if full.startswith(PREFIX) and len(full) > len(PREFIX) else full
