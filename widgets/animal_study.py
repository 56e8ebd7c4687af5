"""An animal study at a glance: arms, body weights, any measure by dose against the control, findings by organ and arm.

Layouts (container: ``widgets._parts.pack``).

``frame_bytes``. Header: ``version``, ``arms`` [{arm, dose, unit, kind, n, males, females, against}], ``subjects``
[name], ``sexes`` ["M", "F", "U"], ``weight_unit``, ``parts`` [{name, there, said}] (what the study has, what it lacks),
``measures`` (``_measures.offered``), ``noun`` [one, many], ``findings`` [{domain, organ, finding}].
Columns: body weights ``weight_group`` i1, ``weight_sex`` i1, ``weight_day`` (study days), ``weight_mean``,
``weight_low``, ``weight_high`` f4, ``weight_n`` i4, sorted by group, sex, day; ``subject_sex`` i1; of the findings'
cells (findings x arms, row by row) ``looked`` i4 (cells x sexes: animals looked at), ``hit_start`` i4 (cells + 1),
``hit`` i4 (index into subjects) and ``grade`` f4 (severity of each hit).

``detail_bytes``: the measure that is picked. Header: ``label``, ``unit``, ``days`` [[number, text]], ``said``,
``cages`` [{name, subjects: [index]}] where it was measured by cage, ``compared`` [{group, sex, n, mean, low, high,
fold, p, verdict}]. Columns, one row an animal or cage: ``group``, ``sex`` i1, ``value`` f4, ``subject`` i4 (or index
into cages), ``censored`` i1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import anywidget
import numpy as np
import polars as pl
import traitlets as t

from widgets import _animals as animals
from widgets import _measures as measures
from widgets._parts import esm, pack
from widgets._selected import Selects
from widgets.linked import Selection
from widgets.palette import theme
from workbench.text import nearest

LAST = -1e9
"""``day`` of each animal's last value."""

FIGURES = ("sex", "group", "arm", "dose", "kind", "n", "mean", "low", "high", "fold", "p", "verdict")
_SEXES = ["M", "F", "U"]


def counted(n: int, noun: str) -> str:
    """ "1 animal", "12 animals"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


class AnimalStudy(Selects, anywidget.AnyWidget):
    """Arms, body weights, measures by dose and findings by organ of a study of animals.

    Parameters
    ----------
    study : a Study, or anything with ``subjects`` (subject, sex, arm, arm_dose, arm_dose_unit), ``outcomes``
        (``tables.OUTCOMES``) and, for findings, ``records`` (names) and ``record(name)`` with SEND's mi, ma, cl
    selection : what is selected, shared with other widgets
    title, note : heading, and a remark above everything; shown as text

    Attributes
    ----------
    measure : the endpoint shown by dose
    day : its study day (1 is that of the first dose); ``LAST`` takes each animal's last value
    selected : names of the selected animals

    Examples
    --------
    >>> board = AnimalStudy(study)  # doctest: +SKIP
    >>> board.measure = "ALT SERUM"  # doctest: +SKIP
    >>> board.compared.filter(verdict="higher")  # doctest: +SKIP
    """

    _esm = esm("animal_study")
    frame_bytes = t.Bytes().tag(sync=True)
    detail_bytes = t.Bytes().tag(sync=True)
    theme = t.Unicode().tag(sync=True)
    title = t.Unicode().tag(sync=True)
    note = t.Unicode().tag(sync=True)
    measure = t.Unicode().tag(sync=True)
    day = t.Float(LAST).tag(sync=True)

    def __init__(self, study: Any, *, selection: Selection | None = None, title: str = "", note: str = "") -> None:
        self._arms, self._people = animals.arms_of(study.subjects)
        self._place = {name: i for i, name in enumerate(self._people["subject"])}
        self._rows = measures.measured(study.outcomes, self._people)
        self._crossed = "crossover" in study.subjects.columns and bool(study.subjects["crossover"].any())
        human = "species" in study.subjects.columns and set(study.subjects["species"].unique()) == {"HUMAN"}
        self._noun = ["participant", "participants"] if human else ["animal", "animals"]
        records = {name.lower(): name for name in getattr(study, "records", [])}
        tables = {d: study.record(records[d]) for d in animals.DOMAINS if d in records}
        tested = [d for d in records if d.upper() in measures.TESTED or d.startswith("ad")]
        tests = measures.spelled({d: study.record(records[d]) for d in tested})
        self._findings = [
            row
            for domain, table in tables.items()
            for row in animals.findings(domain, table, self._people, self._arms["against"].to_list())
        ]
        self._cages = measures.cages(study.record(records["pooldef"]) if "pooldef" in records else None)
        self._measures = measures.offered(self._rows, tests)
        names = [m["endpoint"] for m in self._measures]
        super().__init__(
            frame_bytes=self._pack(set(tables), {d: len(table) for d, table in tables.items()}),
            theme=theme(), title=title, note=note, measure=min(names, default=""),
        )  # fmt: skip
        self.join(selection)

    @t.validate("measure")
    def _known(self, proposal: Any) -> str:
        return self._known_measure(proposal["value"]) if proposal["value"] else ""

    def _known_measure(self, value: str) -> str:
        names = [m["endpoint"] for m in self._measures]
        if value not in names:
            raise t.TraitError(f"measure {value!r} is not among the {len(names)} here.{nearest(value, names)}")
        return value

    @t.observe("measure", "day")
    def _turn(self, _: Any) -> None:
        self.detail_bytes = self._detail()

    @property
    def values(self) -> pl.DataFrame:
        """One row an animal of the picked measure: subject, sex, group (the arm), unit, day, value, censored.

        What was measured by cage (food) has one row a cage, at its first animal, with ``cage`` and its ``members``.
        """
        return self._values(self.measure, self.day)

    def _values(self, measure: str, day: float) -> pl.DataFrame:
        found = measures.one_measure(self._rows, measure, None if day <= LAST else day)
        return measures.one_a_cage(found, self._cages) if measure.endswith(measures.POOLED) else found

    @property
    def compared(self) -> pl.DataFrame:
        """Arms of the picked measure within each sex: arm, sex, n, mean, low, high, fold of the control, p, verdict."""
        return self.compare([self.measure], self.day).drop("measure", "label", "unit")

    def compare(self, endpoints: Iterable[str] | None = None, day: float = LAST) -> pl.DataFrame:
        """The same of several measures (all of them), one below the other, after columns measure, label and unit.

        ``p`` is that of one measure: over many, control the false discovery rate before any is believed.
        """
        arms, against = self._arms.select("group", "arm", "dose", "kind"), self._arms["against"].to_list()
        parts = []
        known = {m["endpoint"]: m for m in self._measures}
        for endpoint in map(self._known_measure, known if endpoints is None else endpoints):
            found = animals.compared(self._values(endpoint, day), against)
            named = found.join(arms, on="group", maintain_order="left")
            own = known[endpoint]
            told = [pl.lit(own[k]).alias(n) for k, n in (("endpoint", "measure"), ("label", "label"), ("unit", "unit"))]
            parts.append(named.select(*told, *FIGURES))
        return pl.concat(parts) if parts else pl.DataFrame()

    @property
    def findings(self) -> pl.DataFrame:
        """domain, organ, finding, arm, n (animals with it), of (looked at), severity (mean grade): one row a cell."""
        names = self._arms["arm"].to_list()
        rows = [
            (r["domain"], r["organ"], r["finding"], names[g], len(c["animals"]), c["of"], c["severity"])
            for r in self._findings
            for g, c in enumerate(r["cells"])
        ]
        kinds: list[Any] = [*[pl.String] * 4, pl.Int64, pl.Int64, pl.Float64]
        columns = ["domain", "organ", "finding", "arm", "n", "of", "severity"]
        return pl.DataFrame(rows, schema=dict(zip(columns, kinds, strict=True)), orient="row")

    def _parts(self, domains: set[str], sizes: dict[str, int]) -> list[dict[str, Any]]:
        """What the study has and what it lacks, each in words."""
        weighed = self._rows.filter(pl.col("endpoint") == measures.WEIGHT)["subject"].n_unique()
        parts = [{"name": "Body weight", "there": weighed > 0, "said": counted(weighed, self._noun[0])}]
        for kind in ("laboratory and other values", "organ weights", "exposure"):
            n = sum(m["kind"] == kind for m in self._measures)
            parts.append({"name": kind.capitalize(), "there": n > 0, "said": counted(n, "measure")})
        for domain, words in animals.DOMAINS.items():
            there, kinds = domain in domains, sum(r["domain"] == domain for r in self._findings)
            said = f"{counted(kinds, 'finding')} in {counted(sizes[domain], 'record')}" if there else ""
            parts.append({"name": f"{words.capitalize()} ({domain.upper()})", "there": there, "said": said})
        return parts

    def _pack(self, domains: set[str], sizes: dict[str, int]) -> bytes:
        weights = animals.weights(self._rows)
        unit = self._rows.filter(pl.col("endpoint") == measures.WEIGHT)["unit"]
        cells = [cell for row in self._findings for cell in row["cells"]]
        columns: dict[str, np.ndarray] = {
            "weight_group": weights["group"].to_numpy().astype(np.int8),
            "weight_sex": np.array([_SEXES.index(s) for s in weights["sex"]], dtype=np.int8),
            "weight_n": weights["n"].to_numpy().astype(np.int32),
            "hit_start": np.cumsum([0, *(len(c["animals"]) for c in cells)]).astype(np.int32),
            "hit": np.array([self._place[a] for c in cells for a in c["animals"]], dtype=np.int32),
            "grade": np.array([np.nan if g is None else g for c in cells for g in c["grades"]], dtype=np.float32),
            "looked": np.array([c["by_sex"][s] for c in cells for s in _SEXES], dtype=np.int32),
            "subject_sex": np.array([_SEXES.index(s) for s in self._people["sex"]], dtype=np.int8),
        }
        for name in ("day", "mean", "low", "high"):
            columns[f"weight_{name}"] = weights[name].cast(pl.Float32).fill_null(float("nan")).to_numpy()
        return pack(
            columns,
            version=1,
            arms=self._arms.drop("group").to_dicts(),
            subjects=list(self._place),
            sexes=_SEXES,
            weight_unit=str(unit[0]) if len(unit) else "",
            parts=self._parts(domains, sizes),
            measures=self._measures,
            domains=animals.DOMAINS,
            noun=self._noun,
            findings=[{k: row[k] for k in ("domain", "organ", "finding")} for row in self._findings],
        )

    def _detail(self) -> bytes:
        if not self.measure:
            return b""
        values = self.values
        days = self._rows.filter((pl.col("endpoint") == self.measure) & pl.col("day").is_finite())["day"]
        own = next(m for m in self._measures if m["endpoint"] == self.measure)
        found = animals.compared(values, self._arms["against"].to_list())
        caged = "cage" in values.columns
        cages = [
            {"name": name, "subjects": [self._place[s] for s in members]}
            for name, members in (values.select("cage", "members").iter_rows() if caged else ())
        ]
        return pack(
            {
                "group": values["group"].to_numpy().astype(np.int8),
                "sex": np.array([_SEXES.index(s) for s in values["sex"]], dtype=np.int8),
                "value": values["value"].to_numpy().astype(np.float32),
                "subject": np.array(
                    range(len(values)) if caged else [self._place[s] for s in values["subject"]], dtype=np.int32
                ),
                "censored": values["censored"].fill_null(0).to_numpy().astype(np.int8),
            },
            label=own["label"],
            unit=own["unit"],
            days=[[day, measures.day_text(day)] for day in days.unique().sort().to_list()],
            said=self._said(values, caged),
            cages=cages,
            compared=found.with_columns(pl.selectors.float().fill_nan(None)).to_dicts(),
        )

    def _said(self, values: pl.DataFrame, caged: bool) -> str:
        """What the dots and the table are, how they were compared, and of which days the values are."""
        one = "cage" if caged else self._noun[0]
        said = [f"Measured by cage: a point is a cage, and n counts cages, not {self._noun[1]}."] if caged else []
        said.append(f"Bars are means with 95 % t intervals, of three {one}s or more.")
        if self._crossed:
            said.append("Each animal had several doses, one after the other: arms are sequences, and are not compared.")
        elif self._arms["against"].is_null().all():
            said.append("No arm is a control, so nothing is compared.")
        else:
            later = self._arms.filter(pl.col("kind") == "R", pl.col("against") == pl.col("group")).height > 0
            theirs = "; recovery arms (R) stand against theirs" if later else ""
            said.append(
                "Differences from the control are Dunnett's test within each sex, two-sided, p < 0.05, where both have "
                f"three {one}s or more{theirs}. Without a triangle no difference is shown, which is not the same as "
                "none; and of many measures some differ by chance."
            )
        if values["censored"].fill_null(0).ne(0).any():
            said.append("Open points lie beyond the limit that they stand at; means take the limit for the value.")
        on = Counter(measures.day_text(day) for day in values["day"].drop_nulls().sort() if np.isfinite(day))
        if self.day <= LAST and on:
            most = [f"{day} ({n:,})" for day, n in on.most_common(4)]
            more = f" and {len(on) - 4} more" if len(on) > 4 else ""
            only = next(iter(on)) if len(on) == 1 else ", ".join(most) + more
            said.append(f"The last value of each {one} is of study day {only}.")
        return " ".join(said)
