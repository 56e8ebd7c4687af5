"""The rule by which a site joins, does not, or cannot tell; and the sentence that says why.

Every figure is a gain over training alone, turned so that positive is good, beside ``least``: the least difference
that matters to the site.

    do not join   some metric is worse than alone (its 95 % interval lies below 0) and may be worse by more than least;
                  or the gain in the deciding metric lies below least: whatever is there does not matter
    join          the gain in the deciding metric lies above least, for all sites of the table at once, and no other
                  metric may be worse by more than its least
    cannot tell   all else, or fewer than ``FEWEST`` units

A warning is cheap and a false join is not: harm is judged by the site's own interval, a gain by the wider one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from workbench.score import BETTER, SAME

JOIN, STAY, UNSURE = "join", "do not join", "cannot tell"
FEWEST = 8  # persons, lines or drugs in the site's test rows


@dataclass(frozen=True)
class Gain:
    """Gain in one metric: point, the site's own interval, that for all sites at once, what matters, its unit."""

    value: float
    low: float
    high: float
    together: tuple[float, float]
    least: float
    unit: str = ""

    @property
    def harms(self) -> bool:
        """Worse than alone: the whole interval lies below zero."""
        return bool(self.high < 0)


def gain(
    metric: str, value: float, own: tuple[float, float], together: tuple[float, float], least: float, unit: str
) -> Gain:
    """A difference from alone as a gain: turned round where smaller is better."""
    if BETTER[metric] > 0:
        return Gain(value, *own, together, least, unit)
    return Gain(-value, -own[1], -own[0], (-together[1], -together[0]), least, unit)


def judge(gains: Mapping[str, Gain], decides: str, units: int, drawn: str) -> tuple[str, str]:
    """(verdict, reason in one sentence) from the gains of one site by metric; ``decides`` is one of them."""
    if units < FEWEST:
        return UNSURE, f"its test rows come from {units} {drawn}s, and {FEWEST} are the fewest to judge by."
    if not np.isfinite([gains[decides].low, gains[decides].high]).all():
        return UNSURE, f"no interval of {decides} could be had from its test rows."
    main = gains[decides]
    harmed = {m: g for m, g in gains.items() if g.harms and g.low < -g.least}
    if harmed:
        worse = " and ".join(f"{m} {_told(m, g)}" for m, g in harmed.items())
        risen = [m for m, g in gains.items() if g.low > 0]
        but = f", although {' and '.join(f'{m} {_told(m, gains[m])}' for m in risen)}" if risen else ""
        return STAY, f"{worse}{but}."
    if main.high < main.least:
        return STAY, f"{decides} {_told(decides, main)}: less than the {size(main.least, main.unit)} that matter to it."
    doubt = [m for m, g in gains.items() if m != decides and not g.low >= -g.least]
    if main.together[0] > main.least:
        if not doubt:
            return JOIN, f"{decides} {_told(decides, main)}, and no main metric may be worse by what matters."
        m = doubt[0]
        return (
            UNSURE,
            f"{decides} {_told(decides, main)}, but {m} may be worse by what matters: it {_told(m, gains[m])}.",
        )
    if main.low > main.least:
        return UNSURE, (
            f"{decides} {_told(decides, main)}, which would do alone, but not beside as many other sites: "
            f"from {_signed(main.together[0], main)} when all are judged at once."
        )
    return (
        UNSURE,
        f"{decides} {_told(decides, main)}: it may or may not be the {size(main.least, main.unit)} that matter.",
    )


def _told(metric: str, g: Gain) -> str:
    """``rises by 0.102 (0.083 to 0.121)``; of an error the change itself, not the gain."""
    sign = BETTER[metric]
    ends = sorted((sign * g.low, sign * g.high))
    change = sign * g.value
    if g.low < 0 < g.high:
        return f"changes by {_signed(change, g)} ({_signed(ends[0], g)} to {_signed(ends[1], g)})"
    if max(abs(e) for e in (*ends, change)) < SAME:
        return "is the same"
    low, high = sorted(abs(e) for e in ends)
    return f"{'rises' if change > 0 else 'falls'} by {size(abs(change), g.unit)} ({low:.3f} to {high:.3f})"


def size(value: float, unit: str) -> str:
    """A size with its unit, for people."""
    return f"{value:.3f}{f' {unit}' if unit else ''}"


def _signed(value: float, g: Gain) -> str:
    return f"{value:+.3f}".replace("-", "\u2212")
