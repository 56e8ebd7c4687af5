"""From a selection to a run: compose a cohort, save it in the journal, split on it, train. Nothing is typed by index.

Layout of ``frame_bytes`` (container: ``widgets._parts.pack``), one row is one subject of the study:
header ``version``, ``subjects`` [name], ``facets`` [{name, levels}], ``modalities`` [name]; columns ``facet.<k>`` i2
(index into its levels, -1 unknown), ``has.<k>`` u1, ``n_outcomes`` i4. ``picked_bytes``: the present cohort, row
numbers, int32.
``request`` from the page: {"verb", "n": a number never used before, ...}; the verbs are methods of this class.

The training is a callback, ``start(choice, report, stopped)``, as ``TrainingPanel`` has it (its machinery runs it); its
choice also holds ``cohort`` (a saved name) and ``endpoint``. ``workbench.interactive.start`` is one.
"""

from __future__ import annotations

import itertools
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import anywidget
import numpy as np
import polars as pl
import traitlets as t

from widgets._parts import esm, pack, readable
from widgets.linked import Selection, missing
from widgets.palette import theme
from widgets.training_panel import Start, TrainingPanel
from workbench.text import nearest

if TYPE_CHECKING:
    from workbench.splits import Split
    from workbench.study import Study

_NUMBER = itertools.count(1)
_LEVELS = 60  # a column with more values than that describes nobody in particular
SETS: dict[str, Callable[[set[str], set[str]], set[str]]] = {
    "union": set.union,
    "intersection": set.intersection,
    "minus": set.difference,
    "replace": lambda _, other: set(other),
}


class CohortBuilder(anywidget.AnyWidget):
    """Who is selected, what they are, and the way from there to a run: select, save, split, train.

    Parameters
    ----------
    study : the Study whose subjects these are
    selection : what is shared with other widgets
    options : as ``TrainingPanel``: predictors, modalities, uses (``workbench.interactive.options()``)
    start : the training callback of this module's first lines; without it the last step is not offered
    title : heading, shown as text

    Attributes
    ----------
    members : names of the present cohort, in the study's order; set it to change it
    study : the study as it is after the last save
    step : what comes next
    saved : dict name, n, note, when, who, entry (its number in the journal), hash, digest (of the study)
    split, divided : the Split, and what the page shows of it
    training : dict state, progress, result, error of the run
    error : what went wrong last, one sentence

    Examples
    --------
    >>> builder = CohortBuilder(study, selection, interactive.options(), interactive.start)  # doctest: +SKIP
    >>> builder.combine("minus", "melanoma")  # doctest: +SKIP
    >>> builder.save("odd ones"), builder.divide("ln_ic50"), builder.train()  # doctest: +SKIP
    """

    _esm = esm("cohort_builder")
    frame_bytes = t.Bytes().tag(sync=True)
    picked_bytes = t.Bytes().tag(sync=True, from_json=lambda value, _: bytes(value))  # Jupyter brings a memoryview
    theme = t.Unicode().tag(sync=True)
    title = t.Unicode().tag(sync=True)
    options = t.Dict().tag(sync=True)
    choice = t.Dict().tag(sync=True)  # predictor, modalities, endpoint
    cohorts: t.List[Any] = t.List().tag(sync=True)  # {"name", "n", "note", "when", "who"} of saved cohorts of subjects
    step = t.Enum(["select", "save", "split", "train"], default_value="select").tag(sync=True)
    saved = t.Dict().tag(sync=True)
    divided = t.Dict().tag(sync=True)
    training = t.Dict().tag(sync=True)
    error = t.Unicode().tag(sync=True)
    undoable = t.Bool(False).tag(sync=True)
    elsewhere = t.Dict().tag(sync=True)  # {"n", "names"}: selected names that are no subjects of this study
    request = t.Dict().tag(sync=True)

    def __init__(
        self,
        study: Study,
        selection: Selection | None = None,
        options: Mapping[str, Any] | None = None,
        start: Start | None = None,
        title: str = "",
    ) -> None:
        self.study, self.split = study, cast("Split | None", None)
        self.selection = selection if selection is not None else Selection()
        self._speaks = f"cohort {next(_NUMBER)}"
        self._presence = study.presence()
        self._names = self._presence["subject"].cast(pl.String).to_list()
        self._before: list[list[str]] = []
        self._hearing, self._auditing = False, cast("threading.Thread | None", None)
        self._callback = start
        self.traceback = ""
        given = dict(options or {})
        endpoints = study.rows["endpoint"].cast(pl.String).unique().sort().to_list()
        here = {m for m in study.modalities if study.axis(m) == "subject"}
        self._panel = TrainingPanel(
            {
                "predictors": given.get("predictors", []),
                "splits": ["unseen subject"],
                "modalities": [m for m in given.get("modalities", []) if m in here],
                "uses": {p: [m for m in used if m in here] for p, used in dict(given.get("uses", {})).items()},
            },
            self._train,
        )
        first = "ln_ic50" if "ln_ic50" in endpoints else (endpoints[0] if endpoints else "")
        offered = {k: self._panel.options[k] for k in ("predictors", "modalities", "uses")}
        super().__init__(
            frame_bytes=_packed(self._presence, study.subjects),
            theme=theme(),
            title=title,
            options={**offered, "endpoints": [[e, readable(e, "")[0]] for e in endpoints], "trains": start is not None},
        )
        self.choice = {**{k: self._panel.choice[k] for k in ("predictor", "modalities")}, "endpoint": first}
        self._list()
        self._panel.observe(self._follow, ["state", "progress", "result", "error"])
        self._follow(None)
        self.selection.observe(self._heard, "subjects")
        self._heard(None)

    # --- 1. select ---------------------------------------------------------------------------------------------------

    @property
    def members(self) -> list[str]:
        return [self._names[i] for i in np.frombuffer(self.picked_bytes, dtype="<i4")]

    @members.setter
    def members(self, names: Sequence[str]) -> None:
        wanted = set(names)
        if lacking := missing(list(names), self._names):
            raise ValueError(f"{lacking[0]!r} is no subject of this study.{nearest(lacking[0], self._names)}")
        rows = [i for i, name in enumerate(self._names) if name in wanted]
        self.picked_bytes = np.asarray(rows, dtype="<i4").tobytes()

    @t.validate("picked_bytes")
    def _rows_that_exist(self, proposal: Any) -> bytes:
        value = bytes(proposal["value"])
        rows = np.frombuffer(value[: len(value) // 4 * 4], dtype="<i4")
        return np.unique(rows[(rows >= 0) & (rows < len(self._names))]).astype("<i4").tobytes()

    @t.observe("picked_bytes")
    def _changed(self, change: Any) -> None:
        if isinstance(change["old"], bytes):
            self._before = [*self._before, [self._names[i] for i in np.frombuffer(change["old"], "<i4")]][-20:]
        self.undoable = bool(self._before)
        self.saved, self.divided, self.split, self.error = {}, {}, None, ""
        self.step = "save" if change["new"] else "select"
        if not self._hearing:
            self.selection.select(self.members, self._speaks)
            self.elsewhere = {"n": 0, "names": []}

    def _heard(self, change: Any) -> None:
        """Take over what another widget has selected."""
        if change is not None and self.selection.by == self._speaks:
            return
        gone = missing(self.selection.subjects, self._names)
        self._hearing = True
        try:
            known = set(gone)
            self.members = [name for name in self.selection.subjects if name not in known]
        finally:
            self._hearing = False
        self.elsewhere = {"n": len(gone), "names": gone[:100]}

    def leave(self) -> None:
        """Stop following the selection."""
        self.selection.unobserve(self._heard, "subjects")

    def keep(self, facet: str, levels: Sequence[str], without: bool = False) -> None:
        """Keep the members whose ``facet`` (a column, or a modality with "has" or "lacks") is one of ``levels``.

        With nobody selected, all subjects of the study are asked. ``without`` drops them instead.
        """
        asked, found = set(self.members or self._names), set(self._with(facet, levels))
        self.members = [name for name in self._names if name in asked and (name in found) != without]

    def _with(self, facet: str, levels: Sequence[str]) -> list[str]:
        """Subjects whose ``facet`` is one of ``levels``."""
        if facet in self._presence.columns and self._presence.schema[facet] == pl.Boolean:
            column = pl.when(pl.col(facet)).then(pl.lit("has")).otherwise(pl.lit("lacks"))
            table = self._presence
        elif facet in self.study.subjects.columns:
            column, table = pl.col(facet).cast(pl.String).fill_null("unknown"), self.study.subjects
        else:
            known = [*self.study.subjects.columns, *self.study.modalities]
            raise ValueError(f"there is no column or modality {facet!r} to filter by.{nearest(facet, known)}")
        return table.filter(column.is_in(list(levels)))["subject"].cast(pl.String).to_list()

    def add(self, facet: str, levels: Sequence[str]) -> None:
        """The members, and all subjects of the study whose ``facet`` is one of ``levels``."""
        wanted = {*self.members, *self._with(facet, levels)}
        self.members = [name for name in self._names if name in wanted]

    def combine(self, how: str, name: str) -> None:
        """The present members and a saved cohort: "union", "intersection", "minus", or "replace" (load it)."""
        if how not in SETS:
            raise ValueError(f"sets combine by {', '.join(SETS)}; found {how!r}.{nearest(how, SETS)}")
        known = self.study.cohorts
        if name not in known:
            raise ValueError(f"there is no saved cohort {name!r}.{nearest(name, known)}")
        self.members = sorted(SETS[how](set(self.members), set(known[name].members)))

    def complement(self) -> None:
        """Everyone else."""
        inside = set(self.members)
        self.members = [name for name in self._names if name not in inside]

    def undo(self) -> None:
        """The members as they were before the last change."""
        if self._before:
            *rest, last = self._before
            self.members = last
            self._before, self.undoable = rest, bool(rest)

    # --- 2. save -----------------------------------------------------------------------------------------------------

    def save(self, name: str, note: str = "") -> None:
        """Save the present members under a name in the study's journal."""
        self.study = self.study.save_cohort(name, self.members, axis="subject", note=note)
        entry = self.study.journal[-1]
        self._list()
        self.divided, self.split, self.error = {}, None, ""
        self.saved = {
            "name": name.strip(),
            "n": len(self.members),
            "note": note,
            "when": entry["when"],
            "who": entry["who"],
            "entry": len(self.study.journal),
            "hash": entry["hash"],
            "digest": self.study.digest,
        }
        self.step = "split"

    def _list(self) -> None:
        known = [c for c in self.study.cohorts.values() if c.axis == "subject"]
        self.cohorts = [
            {"name": c.name, "n": len(c.members), "note": c.note, "when": c.when, "who": c.who} for c in known
        ]

    # --- 3. split ----------------------------------------------------------------------------------------------------

    def divide(self, endpoint: str = "") -> None:
        """Hold the saved cohort out: its rows test, all other rows teach; checked, then audited in the background."""
        from workbench.splits import Split, rows

        if not self.saved:
            raise ValueError("save the cohort first: a split holds out a saved one, so that it can be found again.")
        endpoint = endpoint or self.choice["endpoint"]
        self.split = split = Split.cohort(self.study, self.saved["name"], endpoint=endpoint)
        frame = rows(self.study, endpoint)
        sides = {}
        for side, numbers in zip(("train", "test"), split.folds[0], strict=True):
            inside = frame.filter(pl.col("row").is_in(pl.Series(numbers).implode()))
            sides[side] = {"rows": inside.height, "subjects": inside["subject"].n_unique()}
        tested = set(inside["subject"].to_list())
        without = [name for name in self.members if name not in tested]
        label, unit = readable(endpoint, str(frame["unit"][0]))
        self.divided = {
            **sides,
            "endpoint": endpoint,
            "label": label,
            "unit": unit,
            "rule": split.rule,
            "digest": split.digest,
            "without": {"n": len(without), "names": without[:100]},
            "audit": {"state": "running", "findings": [], "n": 0, "message": ""},
        }
        self.choice = {**self.choice, "endpoint": endpoint}
        self.step = "train"
        self._auditing = threading.Thread(target=self._audit, args=(split,), daemon=True, name="audit")
        self._auditing.start()

    def _audit(self, split: Any) -> None:
        """What is wrong with the split itself: the families that look at both of its sides."""
        try:
            from workbench import audits

            table = audits.checks().filter(pl.col("split"))
            chosen = table["family"].unique().to_list()
            found = audits.run(self.study, split, families=chosen)
            found = found.filter(pl.col("check").is_in(table["check"].to_list()))
            said = {
                "state": "done",
                "n": found.height,
                "asked": table.height,
                "by": found["check"].n_unique(),
                "findings": found.select("severity", "check", "what", "do").head(6).to_dicts(),
                "message": "",
            }
        except Exception as error:  # an audit that breaks must not stand in the way, and must not look clean
            self.traceback = traceback.format_exc()
            said = {
                "state": "failed",
                "n": 0,
                "asked": 0,
                "findings": [],
                "message": f"{type(error).__name__}: {error}",
            }
        if split is self.split:
            self.divided = {**self.divided, "audit": said}

    # --- 4. train ----------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Start the training of the picked predictor on the split, in a thread; ``wait`` for it, or ``stop`` it."""
        if self._callback is None:
            raise ValueError("no training was given to this widget: CohortBuilder(..., start=interactive.start).")
        if self.split is None:
            raise ValueError("split first: choose the endpoint, then Split on it.")
        self._panel.choice = {k: self.choice[k] for k in ("predictor", "modalities") if k in self.choice}
        self._panel.start()

    def _train(self, choice: dict[str, Any], report: Any, stopped: Callable[[], bool]) -> dict[str, Any]:
        assert self._callback is not None
        asked = {"study": self._found(), "cohort": self.saved["name"], "endpoint": self.divided["endpoint"]}
        return self._callback({**choice, **asked}, report, stopped)

    def _found(self) -> str:
        """The study as the training finds it: by name if the home holds it, else by path."""
        from workbench.study import find

        try:
            return self.study.name if find(self.study.name) == self.study.path else str(self.study.path)
        except FileNotFoundError:
            return str(self.study.path)

    def stop(self) -> None:
        self._panel.stop()

    def wait(self, timeout: float | None = None) -> str:
        """Wait for the training, and for the audit of the split; returns the training's state."""
        if self._auditing is not None:
            self._auditing.join(timeout)
        return self._panel.wait(timeout)

    def _follow(self, _: Any) -> None:
        panel = self._panel
        self.training = {"state": panel.state, "progress": panel.progress, "result": panel.result, "error": panel.error}

    # --- from the page -----------------------------------------------------------------------------------------------

    @t.observe("request")
    def _asked(self, change: Any) -> None:
        asked = change["new"]
        verbs: dict[str, Callable[[], None]] = {
            "keep": lambda: self.keep(asked["facet"], asked["levels"], bool(asked.get("without"))),
            "add": lambda: self.add(asked["facet"], asked["levels"]),
            "combine": lambda: self.combine(asked["how"], asked["name"]),
            "complement": self.complement,
            "clear": lambda: setattr(self, "members", []),
            "undo": self.undo,
            "save": lambda: self.save(asked["name"], asked.get("note", "")),
            "split": lambda: self.divide(asked.get("endpoint", "")),
            "train": self.train,
            "stop": self.stop,
        }
        if asked.get("verb") not in verbs:
            return
        try:
            self.error = ""
            verbs[asked["verb"]]()
        except Exception as error:  # said in the page; the kernel's traceback would reach nobody
            self.traceback = traceback.format_exc()
            self.error = str(error.args[0] if isinstance(error, KeyError) and error.args else error)


def _packed(presence: pl.DataFrame, subjects: pl.DataFrame) -> bytes:
    """Facets (columns with few values) and modalities of every subject."""
    modalities = [c for c in presence.columns if presence.schema[c] == pl.Boolean]
    columns: dict[str, np.ndarray] = {"n_outcomes": presence["n_outcomes"].to_numpy().astype(np.int32)}
    facets: list[dict[str, Any]] = []
    for column in subjects.get_columns():
        few = column.dtype in (pl.String, pl.Categorical, pl.Boolean) or column.dtype.is_integer()
        values = column.cast(pl.String).drop_nulls().unique().sort().to_list() if few else []
        if column.name == "subject" or not 1 <= len(values) <= _LEVELS:
            continue
        at = {value: i for i, value in enumerate(values)}
        codes = [at.get(v, -1) for v in column.cast(pl.String).to_list()]
        columns[f"facet.{len(facets)}"] = np.asarray(codes, dtype=np.int16)
        facets.append({"name": column.name, "levels": values})
    for k, name in enumerate(modalities):
        columns[f"has.{k}"] = presence[name].to_numpy().astype(np.uint8)
    names = presence["subject"].cast(pl.String).to_list()
    return pack(columns, version=1, subjects=names, facets=facets, modalities=modalities)
