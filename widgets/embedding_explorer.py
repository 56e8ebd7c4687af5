"""A modality's rows as points: PCA or UMAP, coloured by anything, selected with a lasso.

The points are drawn by jupyter-scatter (WebGL): the script that this package brings along crosses to the page once, as
bytes, and ``_plot.js`` drives it. So the same widget runs in JupyterLab and, through ``widgets._mirror.in_panel``, in a
Panel page, and asks no other machine for anything.

Layout of ``frame_bytes`` (container: ``widgets._parts.pack``), one row is one point:
columns ``x``, ``y`` f4; header ``version``, ``axes`` [name of x, of y], ``noun`` [one, many], ``notes`` [sentence],
``absent`` {"n", "of", "names", "modality"}: subjects of the study that this modality lacks, a few of them by name.
Layout of ``colour_bytes``: column ``code`` i2; header: ``Colouring.header()``.
``picked_bytes``: the selected rows, int32, little endian, no header. ``plot_bytes``: column ``gz`` u1, the script of
jupyter-scatter, gzipped; header ``css``, ``traits`` (its defaults), ``digest``.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import threading
import time
import traceback
from functools import lru_cache
from typing import Any, cast

import anywidget
import numpy as np
import traitlets as t

from widgets._colours import Colouring
from widgets._layouts import GIVEN, LARGE, NAMED, Layouts
from widgets._parts import esm, pack
from widgets.linked import Selection, missing
from widgets.palette import VIRIDIS, theme
from workbench.text import nearest

_NUMBER = itertools.count(1)
_NOUNS = {"subject": ["subject", "subjects"], "treatment": ["treatment", "treatments"], "cell": ["cell", "cells"]}


class _Stopped(Exception):
    """Someone pressed Stop."""


@lru_cache(maxsize=1)
def plot_bytes() -> bytes:
    """The script and style of jupyter-scatter with the defaults of its traits.

    Raises
    ------
    ImportError
        jupyter-scatter is not installed; the message says how to install it.
    """
    try:
        from jscatter.widget import JupyterScatter
    except ImportError as error:
        raise ImportError(
            "EmbeddingExplorer draws its points with jupyter-scatter, which is not installed here "
            f"({error}). Install it: pip install 'jupyter-scatter>=1.0,<1.1'"
        ) from error
    script = str(JupyterScatter._esm).encode()
    traits = {
        name: trait.default()
        for name, trait in JupyterScatter.class_traits(sync=True).items()
        if not name.startswith("_") and name not in ("layout", "tabbable", "tooltip")
    }
    packed = np.frombuffer(gzip.compress(script, 6, mtime=0), dtype=np.uint8)
    digest = hashlib.sha256(script).hexdigest()[:16]
    return pack({"gz": packed}, css=str(JupyterScatter._css), traits=traits, digest=digest)


def crowded(frame: Any, noun: list[str]) -> list[str]:
    """Says so where many points hide one another: rows of one profile, as mice of one patient have."""
    if len(frame) > LARGE:
        return []
    places = frame.select("x", "y").unique().height
    few = places < 0.9 * len(frame)
    return (
        [f"{len(frame):,} {noun[1]} stand at {places:,} places: those of one profile hide one another"] if few else []
    )


class EmbeddingExplorer(anywidget.AnyWidget):
    """Rows of any modality on two axes; what the lasso holds is selected in every widget of the same ``selection``.

    Parameters
    ----------
    data : a Study; or a polars frame with name, x, y and any further columns to colour by; with a column subject its
        rows are cells of these subjects
    modality : which modality to show first; by default the first one of subjects
    method : "PCA" or "UMAP"
    colour : a column of the subjects, "treatment" or "treatment: endpoint" (measured response), "modality: feature",
        or the dict form of ``widgets._colours``; by default the tissue, arm or cell type, where there is one
    selection : what is shared with other widgets
    seed : of the layout
    title : heading, shown as text
    axes : names of x and y of a frame

    Attributes
    ----------
    choice : dict modality, method, colour; set it here or by hand in the page
    picked : row numbers of the selected points (ascending, int32); ``selected`` their names
    state : "ready", "working" or "failed" (then ``message`` says why)
    missing : of the selected subjects, those that have no point here

    Raises
    ------
    ImportError
        jupyter-scatter is not installed; the message holds the command that installs it.
    ValueError, KeyError
        An unknown modality, method or colour.

    Examples
    --------
    >>> explorer = EmbeddingExplorer(study, modality="expression", colour="Dabrafenib")  # doctest: +SKIP
    >>> explorer.selected  # after a lasso  # doctest: +SKIP
    ['A375', 'SK-MEL-28', ...]
    """

    _esm = esm("embedding_explorer")
    plot_bytes = t.Bytes().tag(sync=True)
    frame_bytes = t.Bytes().tag(sync=True)
    colour_bytes = t.Bytes().tag(sync=True)
    picked_bytes = t.Bytes().tag(sync=True, from_json=lambda value, _: bytes(value))  # Jupyter brings a memoryview
    theme = t.Unicode().tag(sync=True)
    title = t.Unicode().tag(sync=True)
    options = t.Dict().tag(sync=True)
    choice = t.Dict().tag(sync=True)
    progress_state = t.Enum(["ready", "working", "failed"], default_value="ready").tag(sync=True)
    message = t.Unicode().tag(sync=True)
    halt = t.Int(0).tag(sync=True)  # counts how often Stop was pressed
    search = t.Dict().tag(sync=True)  # {"modality", "text"}, from the page
    found = t.List(t.Unicode()).tag(sync=True)  # features that answer the search
    picked_names = t.List(t.Unicode()).tag(sync=True)  # the first of the selected
    hovered = t.Int(-1).tag(sync=True)
    tip = t.List(t.Unicode()).tag(sync=True)
    elsewhere = t.Dict().tag(sync=True)  # {"n", "names"}: selected subjects without a point here

    def __init__(
        self,
        data: Any,
        modality: str = "",
        method: str = "PCA",
        colour: str | dict[str, Any] | None = None,
        selection: Selection | None = None,
        *,
        seed: int = 0,
        title: str = "",
        axes: tuple[str, str] = ("x", "y"),
    ) -> None:
        script = plot_bytes()
        self._laid, self._speaks = Layouts(data, seed, axes), f"embedding {next(_NUMBER)}"
        self._lock, self._thread = threading.RLock(), cast("threading.Thread | None", None)
        self._hearing, self._stop, self._began = False, threading.Event(), 0.0
        self._colouring: Colouring | None = None
        self._at = np.zeros(0, np.int64)  # row of the modality of each point
        self.traceback = ""
        self.selection = selection if selection is not None else Selection()
        first = self._laid.known(modality)
        wanted: dict[str, Any] = {"modality": first, "method": method, "colour": self._laid.asked(colour, first)}
        super().__init__(plot_bytes=script, theme=theme(), title=title, options=self._laid.options())
        wanted = self._completed(wanted)
        if self._laid.at_once(first, wanted["method"]) or not self._laid.large(first):
            self._show(wanted)
            self.choice = wanted
        else:
            self.choice = wanted
            self._begin(wanted)
        self.selection.observe(self._heard, ["subjects", "treatments", "cells"])
        self._heard(None)

    # --- layout and colour -------------------------------------------------------------------------------------------

    def _completed(self, asked: dict[str, Any]) -> dict[str, Any]:
        known = ["modality", "method", "colour"]
        for name in asked:
            if name not in known:
                raise t.TraitError(f"choice: {name!r} is not one of {known}.{nearest(str(name), known)}")
        found = {**self.choice, **asked}
        if self._laid.study is None:
            found["method"] = GIVEN
        for name, offered in (("modality", self.options["modalities"]), ("method", self.options["methods"])):
            if found[name] not in offered:
                near = nearest(str(found[name]), offered)
                raise t.TraitError(f"{name} {found[name]!r} is not offered.{near} Offered: {', '.join(offered)}.")
        return found

    @t.validate("choice")
    def _valid(self, proposal: Any) -> dict[str, Any]:
        return self._completed(dict(proposal["value"]))

    @t.observe("choice")
    def _chosen(self, change: Any) -> None:
        old, new = change["old"] or {}, change["new"]
        if not old:
            return
        if self._laid.at_once(new["modality"], new["method"]):
            self._work(dict(new))
        else:
            self._begin(dict(new))

    def _begin(self, choice: dict[str, Any]) -> None:
        """Lay out in a thread: the first UMAP of a session, or a million rows, take a while."""
        with self._lock:
            self._stop, self._began = threading.Event(), time.monotonic()
            self.progress_state, self.message = "working", f"Laying out {choice['modality']} by {choice['method']}"
            self._thread = threading.Thread(target=self._work, args=(choice,), daemon=True, name="layout")
            self._thread.start()

    def wait(self, timeout: float | None = None) -> str:
        """Wait until a layout in the background is there (at most ``timeout`` seconds); returns the state."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self.progress_state

    @t.observe("halt")
    def stop(self, _: Any = None) -> None:
        """End a layout that is being read; UMAP itself cannot be interrupted."""
        self._stop.set()

    @property
    def state(self) -> str:
        return self.progress_state

    def _work(self, choice: dict[str, Any]) -> None:
        try:
            self._show(choice)
        except Exception as error:  # whatever went wrong is said in the page, and the pickers stay usable
            self.traceback = traceback.format_exc()
            said = error.args[0] if isinstance(error, KeyError) and error.args else error
            self.progress_state, self.message = "failed", str(said)

    def _show(self, choice: dict[str, Any]) -> None:
        modality, method = choice["modality"], choice["method"]
        rows, stop = self._laid.rows(modality), self._stop

        def reading(done: float) -> None:
            if stop.is_set():
                raise _Stopped("Stopped: this layout is not there. Choose again to begin anew.")
            left = (time.monotonic() - self._began) * (1 - done) / max(done, 0.02)
            self.message = f"Reading {modality}: {100 * done:.0f} %, about {left:.0f} s left"

        laid = self._laid.coordinates(modality, method, reading)
        made_of, fallen = self._laid.colouring(choice["colour"], modality)
        at = laid.frame["row"].to_numpy().astype(np.int64)
        with self._lock:
            if self.choice and (self.choice["modality"], self.choice["method"]) != (modality, method):
                return  # something else was asked for meanwhile
            self._at, self._colouring = at, made_of
            self.tip, self.hovered = [], -1
            with self.hold_trait_notifications():
                self.options = {**self.options, "columns": self._laid.columns()}
                self.colour_bytes = pack({"code": made_of.codes[at]}, scale=list(VIRIDIS), **made_of.header())
                self.frame_bytes = pack(
                    {
                        "x": laid.frame["x"].to_numpy().astype(np.float32),
                        "y": laid.frame["y"].to_numpy().astype(np.float32),
                    },
                    version=1,
                    axes=list(laid.axes),
                    noun=_NOUNS[rows.axis],
                    notes=[*laid.notes, *crowded(laid.frame, _NOUNS[rows.axis])],
                    absent=self._laid.absent(modality),
                )
                self.progress_state, self.message = ("failed", fallen) if fallen else ("ready", "")
        self._heard(None)

    # --- selecting ---------------------------------------------------------------------------------------------------

    @property
    def picked(self) -> np.ndarray:
        return np.frombuffer(self.picked_bytes, dtype="<i4")

    @picked.setter
    def picked(self, points: Any) -> None:
        self.picked_bytes = np.unique(np.asarray(points, dtype="<i4")).tobytes()

    @property
    def selected(self) -> list[str]:
        """Names of the selected points: subjects, treatments or cells."""
        names = self._laid.rows(self.choice["modality"]).names
        return [names[i] for i in self._at[self.picked]]

    @property
    def missing(self) -> list[str]:
        rows = self._laid.rows(self.choice["modality"])
        if rows.axis == "treatment":
            return missing(self.selection.treatments, set(rows.names))
        return missing(self.selection.subjects, set(rows.subjects))

    @t.validate("picked_bytes")
    def _rows_that_exist(self, proposal: Any) -> bytes:
        value = bytes(proposal["value"])
        rows = np.frombuffer(value[: len(value) // 4 * 4], dtype="<i4")
        return np.unique(rows[(rows >= 0) & (rows < len(self._at))]).astype("<i4").tobytes()

    @t.observe("picked_bytes")
    def _speak(self, _: Any) -> None:
        if self._hearing or not self.choice:
            return
        modality = self.choice["modality"]
        rows, at = self._laid.rows(modality), self._at[self.picked]
        if rows.axis == "treatment":
            self.selection.select_treatments([rows.names[i] for i in at], self._speaks)
        elif rows.axis == "cell":
            owners = list(dict.fromkeys(rows.subjects[i] for i in at))
            self.selection.select(owners, self._speaks, cells={modality: at} if len(at) else None)
        else:
            self.selection.select([rows.names[i] for i in at], self._speaks)
        self._count_elsewhere()

    def _heard(self, _: Any) -> None:
        """Highlight what another widget has selected, and count what has no point here."""
        if not self.choice or (_ is not None and self.selection.by == self._speaks):
            return
        modality = self.choice["modality"]
        rows = self._laid.rows(modality)
        if rows.axis == "treatment":
            wanted, names = set(self.selection.treatments), rows.names
        else:
            wanted, names = set(self.selection.subjects), rows.subjects
        if rows.axis == "cell" and modality in self.selection.cells:
            inside = np.isin(self._at, self.selection.cells[modality])
        else:
            inside = np.fromiter((names[i] in wanted for i in self._at), dtype=bool, count=len(self._at))
        self._hearing = True
        try:
            self.picked = np.flatnonzero(inside)
        finally:
            self._hearing = False
        self._count_elsewhere()

    def leave(self) -> None:
        """Stop following the selection."""
        self.selection.unobserve(self._heard, ["subjects", "treatments", "cells"])

    def _count_elsewhere(self) -> None:
        names = self._laid.rows(self.choice["modality"]).names
        self.picked_names = [names[i] for i in self._at[self.picked[:NAMED]]]
        gone = self.missing
        self.elsewhere = {"n": len(gone), "names": gone[:NAMED]}

    # --- questions from the page -------------------------------------------------------------------------------------

    @t.observe("hovered")
    def _describe(self, change: Any) -> None:
        point = change["new"]
        if not 0 <= point < len(self._at) or self._colouring is None:
            self.tip = []
            return
        rows, row = self._laid.rows(self.choice["modality"]), int(self._at[point])
        said = [rows.names[row]]
        if rows.axis == "cell":
            said.append(f"subject: {rows.subjects[row]}")
        if self._colouring.kind != "none" and self._colouring.title != "subject":
            value = self._colouring.values[row]
            said.append(f"{self._colouring.title}: {_written(value, self._colouring.unit)}")
        for column in rows.columns.columns[:4]:
            if column not in ("subject", self._colouring.title) and rows.columns[column][row] is not None:
                said.append(f"{column}: {_written(rows.columns[column][row], '')}")
        self.tip = said[:5]

    @t.observe("search")
    def _find(self, change: Any) -> None:
        text, modality = str(change["new"].get("text", "")), str(change["new"].get("modality", ""))
        self.found = self._laid.features(modality, text)


def _written(value: Any, unit: str) -> str:
    if value is None:
        return "no value"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{text} {unit}".rstrip()
