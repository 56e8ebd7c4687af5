"""Which treatments to measure next on a sample, and what the measured ones say of all others, at once in the browser.

Layout of ``frame_bytes`` (container: ``widgets._parts.pack``). Header: ``version``, ``label``, ``unit``, ``sample``,
``start`` (in words), ``level``, ``treatments`` [name], ``classes`` [name or ""]. Columns: of the treatments ``mean``
f4 (NaN: no prediction), ``noise``, ``spread``, ``factor``, ``cost`` f4 (NaN: none) and ``loadings`` f4 (t * q, row by
row); of the calibration ``ks``, ``scale``, ``rms``, ``least``, ``most`` f4. The page works the covariance out of
``loadings`` and ``noise`` and does the rest itself (``_pilots.js``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import traitlets as t

from widgets._parts import esm, pack, readable
from widgets.palette import theme
from workbench.text import nearest

if TYPE_CHECKING:
    import polars as pl

    from workbench.planning.pilots import Plan

MOST = 400  # treatments that a page works out at once without a wait


class PilotPlanner(anywidget.AnyWidget):
    """A plan of pilot measurements for one sample: choose, enter, see all other predictions change.

    Parameters
    ----------
    plan : a fitted plan of ``workbench.planning.pilots``; its tables are read, nothing is fitted
    subject : the line; None where the study does not know the sample (a plan on ``drug_mean`` then)
    measured : what is known already, by treatment, in the endpoint's unit
    cost : of each treatment; those without one are not on offer
    classes : class of each treatment, by name
    title, note : heading, and a remark above (such as "Synthetic data"); shown as text

    Attributes
    ----------
    values : measured values by treatment, the same in Python and on the page
    without : treatments that cannot be measured
    k : how many to choose
    interest : the class that is to be known well, or ""
    by_cost : choose by gain per cost?

    Raises
    ------
    ValueError
        The plan has more than 400 treatments, or a name is unknown (the nearest one is told).

    Examples
    --------
    >>> planner = PilotPlanner(plan, "A549")  # doctest: +SKIP
    >>> planner.values = {"Docetaxel": -5.1}  # doctest: +SKIP
    >>> planner.predictions, planner.recommended  # doctest: +SKIP
    """

    _esm = esm("pilot_planner")
    frame_bytes = t.Bytes().tag(sync=True)
    theme = t.Unicode().tag(sync=True)
    title = t.Unicode().tag(sync=True)
    note = t.Unicode().tag(sync=True)
    values = t.Dict().tag(sync=True)
    without = t.List(t.Unicode()).tag(sync=True)
    interest = t.Unicode().tag(sync=True)
    by_cost = t.Bool(False).tag(sync=True)
    k = t.Int(10).tag(sync=True)

    def __init__(
        self,
        plan: Plan,
        subject: str | None = None,
        *,
        measured: Mapping[str, float] | None = None,
        cost: Mapping[str, float] | None = None,
        classes: Mapping[str, str] | None = None,
        k: int = 10,
        title: str = "",
        note: str = "",
    ) -> None:
        if len(plan.treatments) > MOST:
            raise ValueError(
                f"the planner draws up to {MOST} treatments, found {len(plan.treatments)}; use `workbench pilot`."
            )
        self._plan, self._subject = plan, subject
        self._cost, self._classes = dict(cost or {}), dict(classes or {})
        self._known([*self._cost, *self._classes])
        super().__init__(theme=theme(), title=title, note=note, k=k)
        self.frame_bytes = self._packed()
        self.values = dict(measured or {})

    def _known(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._plan.treatments:
                raise ValueError(f"{name!r} is not a treatment of this plan.{nearest(name, self._plan.treatments)}")

    @t.validate("values")
    def _numbers(self, proposal: Any) -> dict[str, float]:
        try:
            self._known(list(proposal["value"]))
            found = {name: float(value) for name, value in proposal["value"].items()}
        except (TypeError, ValueError) as error:
            raise t.TraitError(str(error)) from None
        if bad := [name for name, value in found.items() if not np.isfinite(value)]:
            raise t.TraitError(f"{bad[0]!r}: the measured value is no number.")
        return found

    @t.validate("without")
    def _listed(self, proposal: Any) -> list[str]:
        try:
            self._known(proposal["value"])
        except ValueError as error:
            raise t.TraitError(str(error)) from None
        return list(proposal["value"])

    @t.validate("interest")
    def _of_a_class(self, proposal: Any) -> str:
        known = sorted(set(self._classes.values()))
        if proposal["value"] and proposal["value"] not in known:
            raise t.TraitError(f"no treatment is of class {proposal['value']!r}.{nearest(proposal['value'], known)}")
        return proposal["value"]

    @t.validate("k")
    def _some(self, proposal: Any) -> int:
        if not 1 <= proposal["value"] <= 40:
            raise t.TraitError(f"k: expected 1 to 40, found {proposal['value']}.")
        return proposal["value"]

    def _packed(self) -> bytes:
        plan, held, facts = self._plan, self._plan.calibration, self._plan.facts
        label, unit = readable(facts["endpoint"], facts["unit"])
        start = (
            f"{facts['predictor']} on {facts['lines']} lines of {facts['study']}"
            if self._subject is not None
            else f"each treatment's mean over {facts['lines']} lines of {facts['study']}; nothing is known of its omics"
        )
        columns = {
            "mean": plan.mean(self._subject),
            "noise": plan.factors.noise,
            "spread": plan.spread,
            "factor": held.factor,
            "cost": np.array([self._cost.get(name, np.nan) for name in plan.treatments]),
            "loadings": plan.factors.loadings.ravel(),
            "ks": held.ks,
            "scale": held.scale,
            "rms": held.rms,
            "least": held.line[:, 0],
            "most": held.line[:, 2],
        }
        return pack(
            {name: np.ascontiguousarray(column, dtype=np.float32) for name, column in columns.items()},
            version=1,
            label=label,
            unit=unit,
            sample=self._subject or "",
            start=start,
            level=facts["level"],
            treatments=list(plan.treatments),
            classes=[self._classes.get(name, "") for name in plan.treatments],
        )

    @property
    def predictions(self) -> pl.DataFrame:
        """Every treatment with what is measured now: treatment, before, predicted, low, high, measured."""
        return self._plan.after(self._subject, self.values)

    @property
    def recommended(self) -> pl.DataFrame:
        """What to measure next and the error that is expected after each, chosen beside random."""
        members = [name for name, kind in self._classes.items() if kind == self.interest] if self.interest else []
        return self._plan.choose(
            self.k,
            measured=list(self.values),
            without=self.without,
            members=members,
            candidates=list(self._cost) if self._cost else None,
            cost=self._cost if self.by_cost and self._cost else None,
        ).curve
