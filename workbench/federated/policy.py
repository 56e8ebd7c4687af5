"""What a site allows: decided at the site, checked there before anything leaves.

Read from a small TOML file at the site; the server never sees it and cannot change it.
"""

from __future__ import annotations

from dataclasses import dataclass


class PolicyError(ValueError):
    """The site's policy forbids this answer; the text goes to the server in place of numbers and names no row."""


@dataclass(frozen=True)
class Policy:
    """A site's rules.

    Attributes
    ----------
    allowed : purposes the site answers ("*": all)
    minimum_rows : fewest training rows an answer may rest on
    minimum_cell : counts from 1 up to this, less one, are never told (small-cell suppression)
    """

    allowed: tuple[str, ...] = ("*",)
    minimum_rows: int = 20
    minimum_cell: int = 5

    def permit(self, purpose: str, rows: int) -> None:
        """Raise PolicyError where the purpose is not allowed or rests on too few rows."""
        if "*" not in self.allowed and purpose not in self.allowed:
            raise PolicyError(f"policy: {purpose!r} is not among what this site answers ({', '.join(self.allowed)}).")
        if rows < self.minimum_rows:
            raise PolicyError(f"policy: an answer must rest on {self.minimum_rows} training rows; this one has fewer.")
