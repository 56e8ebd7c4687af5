"""A viability at one dose as a response, through a stated model, with its doubt.

    v = 1 / (1 + (c / IC50)^h)      so that      ln IC50 = ln c + ln(v / (1 - v)) / h

The curve runs from 1 to 0 and its slope ``h`` is one number for all treatments, given or fitted (``slope_of``) on
curves of the user's own. Doubt of a value, as variance added to the treatment's usual noise:

    (sd_v / (h v (1 - v)))^2 + (ln(v / (1 - v)) sd_h / h^2)^2

A viability near 0 or 1 says on which side of the dose the IC50 lies and nothing more: such a value is refused, not
guessed. No screen at hand tells viabilities with IC50s, so this is checked on simulated curves only (tests), and every
place that shows it says so. Source of the curve: Hill 1910, J. Physiol. 40:iv; of the doubt: the delta method.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CHECKED_ON = "checked on simulated curves only: no screen at hand gives viabilities beside IC50s"
LOW, HIGH = 0.05, 0.95


class DoseError(ValueError):
    """A value at one dose cannot be turned into a response."""


@dataclass(frozen=True)
class OneDose:
    """The stated model: slope ``h`` with its sd, sd of a measured viability, and what a viability must lie between."""

    slope: float = 1.0
    slope_sd: float = 0.3
    viability_sd: float = 0.08
    low: float = LOW
    high: float = HIGH

    def __post_init__(self) -> None:
        if not (self.slope > 0 and self.slope_sd >= 0 and self.viability_sd >= 0 and 0 < self.low < self.high < 1):
            raise DoseError("expected a slope above 0, sds of at least 0, and limits between 0 and 1.")

    def ln_ic50(self, viability: float, dose_um: float | None, name: str = "value") -> tuple[float, float]:
        """ln IC50 in ln(uM), and its variance beyond the treatment's usual noise.

        Raises
        ------
        DoseError
            The dose is absent or not positive, or the viability is outside the limits.
        """
        if dose_um is None or not np.isfinite(dose_um) or dose_um <= 0:
            raise DoseError(f"{name}: a viability needs its dose in uM; found {dose_um}. Add a column dose_um.")
        if not np.isfinite(viability):
            raise DoseError(f"{name}: the viability is no number.")
        if not self.low <= viability <= self.high:
            side = "above" if viability > self.high else "below"
            raise DoseError(
                f"{name}: viability {viability:g} at {dose_um:g} uM only says that the IC50 lies {side} the dose; "
                f"expected {self.low:g} to {self.high:g} as a fraction of the control. Measure another dose, or "
                "leave it out."
            )
        logit = float(np.log(viability / (1 - viability)))
        doubt = self.viability_sd / (self.slope * viability * (1 - viability))
        return (
            float(np.log(dose_um)) + logit / self.slope,
            doubt**2 + (logit * self.slope_sd / self.slope**2) ** 2,
        )


def slope_of(ln_ic50: np.ndarray, dose_um: np.ndarray, viability: np.ndarray) -> tuple[float, float]:
    """Common slope of the user's own curves and its sd from point to point: median and spread of logit / distance.

    Points within a factor of 1.5 of the IC50 say nothing of the slope and are left out.
    """
    distance = np.asarray(ln_ic50, float) - np.log(np.asarray(dose_um, float))
    v = np.asarray(viability, float)
    use = (np.abs(distance) > np.log(1.5)) & (v > LOW) & (v < HIGH)
    if use.sum() < 10:
        raise DoseError(
            f"a slope needs 10 points away from the IC50 with a viability inside the limits; found {use.sum()}."
        )
    each = np.log(v[use] / (1 - v[use])) / distance[use]
    slope = float(np.median(each))
    if slope <= 0:
        raise DoseError(f"the slope came out as {slope:.2f}: does viability fall with the dose in these curves?")
    low, high = np.quantile(each, [0.25, 0.75])
    return slope, float((high - low) / 1.349)
