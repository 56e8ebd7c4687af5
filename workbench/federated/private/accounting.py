"""What noisy releases cost together: an upper bound of epsilon at a given delta, by one named accountant.

Neighbours differ in one unit's being there: a person with all its rows, or a whole site. A release is Gaussian noise of
standard deviation ``noise`` times the L2 sensitivity to one unit, on a Poisson sample of the units at ``rate``.

    all at rate 1       exact: together they are one Gaussian mechanism with mu^2 = sum of steps / noise^2, whose
                        delta(epsilon) = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu)
                        (Balle and Wang 2018, ICML, theorem 8; Dong, Roth and Su 2022, JRSS-B 84:3, corollary 3.3)
    some sampled        numerical composition of privacy loss random variables: the upper end of its error bounds
                        (Gopi, Lee and Wutschitz 2021, NeurIPS; opacus' ``PRVAccountant``); what is at rate 1 joins as
                        one mechanism. Where that gives up (delta too small for its grid), Renyi's bound, a looser one
                        (Mironov 2017; opacus' ``RDPAccountant``)

A site that is clipped as a whole to C moves a sum by C when it leaves, and by up to 2 C when one of its persons does:
so beside releases about persons, one about sites counts for a person at half its noise.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from workbench.federated.needed import need

ACCOUNTANT = "PRV (opacus), exact Gaussian where nothing is sampled"
UNITS = ("person", "site")
ERROR = 0.01  # of epsilon, that the PRV accountant may err by; opacus' own default, added to what it returns


class PrivacyError(ValueError):
    """A release, a budget or its noise cannot be; says which, what was found and what may be."""


@dataclass(frozen=True)
class Release:
    """One thing told under Gaussian noise, ``steps`` times.

    Attributes
    ----------
    noise : standard deviation of the noise / L2 sensitivity to one unit
    rate : Poisson sampling rate of the units, above 0 up to 1
    steps : how often, with noise and sample drawn anew
    unit : what is protected: "person" (all rows of one), or "site" (its being there or not)
    """

    noise: float
    rate: float = 1.0
    steps: int = 1
    unit: str = "person"

    def __post_init__(self) -> None:
        if not 0 < self.noise < math.inf:
            raise PrivacyError(f"noise should be a number above 0, found {self.noise}.")
        if not 0 < self.rate <= 1:
            raise PrivacyError(f"rate should be above 0 and at most 1, found {self.rate}.")
        if self.steps < 1 or int(self.steps) != self.steps:
            raise PrivacyError(f"steps should be a whole number from 1, found {self.steps}.")
        if self.unit not in UNITS:
            raise PrivacyError(f"unit should be one of {', '.join(UNITS)}; found {self.unit!r}.")


@dataclass(frozen=True)
class Spent:
    """What a training cost in privacy: carried by a fitted predictor as ``spent_`` and recorded with its run."""

    epsilon: float
    delta: float
    unit: str = "person"
    accountant: str = ACCOUNTANT


def epsilon(releases: Sequence[Release], delta: float) -> float:
    """Upper bound of epsilon, at ``delta``, of all releases together, in any order, each chosen after those before.

    Of persons as soon as one release is about persons; of sites where all are about sites.

    Raises
    ------
    PrivacyError
        ``delta`` is not between 0 and 1.
    workbench.federated.needed.MissingError
        Some are sampled and opacus is not installed.
    """
    if not 0 < delta < 1:
        raise PrivacyError(f"delta should be between 0 and 1, found {delta}.")
    mixed = len({r.unit for r in releases}) > 1
    whole, sampled = 0.0, dict[tuple[float, float], int]()
    for r in releases:
        noise = r.noise / 2 if mixed and r.unit == "site" else r.noise
        if r.rate == 1:
            whole += r.steps / noise**2
        else:
            sampled[noise, r.rate] = sampled.get((noise, r.rate), 0) + r.steps
    if not sampled:
        return gaussian(math.sqrt(whole), delta) if whole else 0.0
    return _sampled(math.sqrt(whole), tuple(sorted((n, q, s) for (n, q), s in sampled.items())), delta)


def noise_for(epsilon: float, delta: float, rate: float, steps: int, before: Sequence[Release] = ()) -> float:
    """The least noise (to 0.1 %, from above) with which ``steps`` releases at ``rate``, after ``before``, cost epsilon.

    Raises
    ------
    PrivacyError
        ``before`` has spent it all, or epsilon is not above 0.
    """
    if not 0 < epsilon < math.inf:
        raise PrivacyError(f"epsilon should be a number above 0, found {epsilon}.")
    unit = before[0].unit if len({r.unit for r in before}) == 1 else "person"
    of = globals()["epsilon"]  # the argument has the name of the function

    def fits(noise: float) -> bool:
        return of([*before, Release(noise, rate, steps, unit)], delta) <= epsilon

    high = 1.0
    while not fits(high):
        high *= 2
        if high > 2**24:
            raise PrivacyError(f"nothing of epsilon = {epsilon:g} at delta = {delta:g} is left for another release.")
    low = high / 2
    while high <= 1 and fits(low):
        high, low = low, low / 2
    return _least(fits, low, high, 1e-3)


def strength(epsilon: float, delta: float) -> float:
    """The largest mu (to 1e-9, from below) of one Gaussian mechanism, noise 1 / mu, that costs at most epsilon."""
    if not 0 < epsilon < math.inf or not 0 < delta < 1:
        raise PrivacyError(f"epsilon should be above 0 and delta between 0 and 1, found {epsilon} and {delta}.")
    noise = 1.0
    while _delta(1 / noise, epsilon) > delta:
        noise *= 2
    while _delta(1 / noise, epsilon) <= delta and noise > 1e-12:
        noise /= 2
    return 1 / _least(lambda n: _delta(1 / n, epsilon) <= delta, noise, 2 * noise, 1e-9)


def gaussian(mu: float, delta: float) -> float:
    """Epsilon (to 1e-9, from above) of one Gaussian mechanism with noise 1 / ``mu``."""
    if _delta(mu, 0.0) <= delta:
        return 0.0
    high = 1.0
    while _delta(mu, high) > delta:
        high *= 2
    return _least(lambda e: _delta(mu, e) <= delta, 0.0, high, 1e-9)


def _delta(mu: float, epsilon: float) -> float:
    from scipy.special import log_ndtr

    a, b = log_ndtr(mu / 2 - epsilon / mu), epsilon + log_ndtr(-mu / 2 - epsilon / mu)
    return float(-math.expm1(b - a) * math.exp(a)) if b < a else 0.0


def _least(fits: Callable[[float], bool], low: float, high: float, share: float) -> float:
    """The upper end of where ``fits`` turns true between ``low`` and ``high``, which fits."""
    while high - low > share * high:
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


@lru_cache(maxsize=512)
def _sampled(mu: float, sampled: tuple[tuple[float, float, int], ...], delta: float) -> float:
    history = [*sampled, *([(1 / mu, 1.0, 1)] if mu else [])]
    least = gaussian(mu, delta) if mu else 0.0  # adding to it cannot make it cheaper
    need("differential privacy", "opacus")
    from opacus.accountants import PRVAccountant, RDPAccountant

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # log(1 - q) at q = 1, and orders of Renyi's that are too few
        try:
            account = PRVAccountant()
            account.history = history
            found = float(account.get_epsilon(delta, eps_error=ERROR))
        except (RuntimeError, ValueError, MemoryError, OverflowError):
            account = RDPAccountant()
            account.history = history
            found = float(account.get_epsilon(delta))
    return max(found, least) if math.isfinite(found) else math.inf
