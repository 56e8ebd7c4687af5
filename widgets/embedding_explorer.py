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
import traceback
from functools import lru_cache
from typing import Any, cast

import anywidget
import numpy as np
import polars as pl
import traitlets as t

from widgets import _colours
from widgets._colours import Colouring, Rows
from widgets._parts import esm, pack
from widgets.linked import Selection, missing
from widgets.palette import VIRIDIS, theme
from workbench.text import nearest

_NUMBER = itertools.count(1)
_NOUNS = {"subject": ["subject", "subjects"], "treatment": ["treatment", "treatments"], "cell": ["cell", "cells"]}
_FOUND = 40  # features offered while someone types
_LARGE = 100_000  # rows: a modality of more is read by blocks, never whole
_NAMED = 200  # absent subjects named in the page


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


class EmbeddingExplorer(anywidget.AnyWidget):
    """Rows of any modality on two axes; what the lasso holds is selected in every widget of the same ``selection``.

    Parameters
    ----------
    data : a Study; or a polars frame with name, x, y and any further columns to colour by
    modality : which modality to show first; by default the first one of subjects
    method : "PCA" or "UMAP"
    colour : a column of the subjects, "treatment" or "treatment: endpoint" (measured response), "modality: feature",
        or the dict form of ``widgets._colours``; by default the tissue, where there is one
    selection : what is shared with other widgets
    seed : of the layout
    title : heading, shown as text

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
    ) -> None:
        script = plot_bytes()
        self._study: Any = None if isinstance(data, pl.DataFrame) else data
        self._given = _checked(data) if isinstance(data, pl.DataFrame) else pl.DataFrame()
        self._seed, self._speaks = seed, f"embedding {next(_NUMBER)}"
        self._laid: dict[tuple[str, str], Any] = {}
        self._rows: dict[str, Rows] = {}
        self._lock, self._thread = threading.RLock(), cast("threading.Thread | None", None)
        self._hearing = False
        self._on_disk: dict[str, Any] = {}
        self._colouring: Colouring | None = None
        self._at = np.zeros(0, np.int64)  # row of the modality of each point
        self.traceback = ""
        self.selection = selection if selection is not None else Selection()
        modalities = self._modalities()
        if not modalities:
            raise ValueError(f"study {getattr(data, 'name', '')!r} has no modality to show; it holds outcomes alone.")
        first = modality or modalities[0]
        if first not in modalities:
            raise KeyError(
                f"there is no modality {first!r}.{nearest(first, modalities)} Known: {', '.join(modalities)}."
            )
        rows = self._rows_of(first)
        if colour is None:
            colour = next((c for c in ("tissue", "arm") if c in rows.columns.columns), "none")
        wanted = {"modality": first, "method": method, "colour": _colours.asked(colour, rows, self._study)}
        super().__init__(plot_bytes=script, theme=theme(), title=title, options=self._options(modalities))
        self._show(self._completed(wanted))
        with self.hold_trait_notifications():
            self.choice = wanted
        self.selection.observe(self._heard, ["subjects", "treatments", "cells"])
        self._heard(None)

    # --- what there is -----------------------------------------------------------------------------------------------

    def _modalities(self) -> list[str]:
        if self._study is None:
            return ["given"]
        axis = {m: self._study.axis(m) for m in self._study.modalities}
        return sorted(axis, key=lambda m: (["subject", "cell", "treatment"].index(axis[m]), m != "expression", m))

    def _rows_of(self, modality: str) -> Rows:
        if modality not in self._rows:
            if self._study is None:
                self._rows[modality] = _rows_of_frame(self._given)
            else:
                backed = self._backed(modality)
                made = _colours.rows_of(self._study, modality) if backed is None else None
                self._rows[modality] = made or _colours.rows_on_disk(self._study, backed)
        return self._rows[modality]

    def _large(self, modality: str) -> bool:
        if not hasattr(self._study, "manifest"):
            return False
        return self._study.manifest["files"][f"modalities/{modality}.h5ad"]["schema"]["shape"][0] > _LARGE

    def _backed(self, modality: str) -> Any:
        """The modality opened on disk where it is too large to be read whole, else None."""
        if modality not in self._on_disk and self._large(modality):
            self._on_disk[modality] = self._study.backed(modality)
        return self._on_disk.get(modality)

    def _options(self, modalities: list[str]) -> dict[str, Any]:
        from workbench.embedding import METHODS

        if self._study is None:
            return {"modalities": modalities, "methods": ["given"], "treatments": [], "endpoints": [], "columns": {}}
        rows = self._study.rows
        return {
            "modalities": modalities,
            "methods": list(METHODS),
            "treatments": rows["treatment"].cast(pl.String).unique().sort().to_list(),
            "endpoints": rows["endpoint"].cast(pl.String).unique().sort().to_list(),
            "columns": {},
        }

    def _completed(self, asked: dict[str, Any]) -> dict[str, Any]:
        known = ["modality", "method", "colour"]
        for name in asked:
            if name not in known:
                raise t.TraitError(f"choice: {name!r} is not one of {known}.{nearest(str(name), known)}")
        found = {**self.choice, **asked}
        for name, offered in (("modality", self.options["modalities"]), ("method", self.options["methods"])):
            if self._study is None and name == "method":
                found[name] = "given"
            if found[name] not in offered:
                near = nearest(str(found[name]), offered)
                raise t.TraitError(f"{name} {found[name]!r} is not offered.{near} Offered: {', '.join(offered)}.")
        return found

    # --- layout and colour -------------------------------------------------------------------------------------------

    @t.validate("choice")
    def _valid(self, proposal: Any) -> dict[str, Any]:
        return self._completed(dict(proposal["value"]))

    @t.observe("choice")
    def _chosen(self, change: Any) -> None:
        old, new = change["old"] or {}, change["new"]
        if not old:
            return
        key = (new["modality"], new["method"])
        if key in self._laid or (new["method"] != "UMAP" and not self._large(new["modality"])):
            self._work(dict(new))
            return
        with self._lock:  # the first UMAP of a session, or a million rows, take a while: the notebook stays usable
            self.progress_state, self.message = "working", f"Laying out {new['modality']} by {new['method']}"
            self._thread = threading.Thread(target=self._work, args=(dict(new),), daemon=True, name="layout")
            self._thread.start()

    def wait(self, timeout: float | None = None) -> str:
        """Wait until a layout in the background is there (at most ``timeout`` seconds); returns the state."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self.progress_state

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
        from workbench import embedding

        modality, method = choice["modality"], choice["method"]
        rows = self._rows_of(modality)
        if (modality, method) not in self._laid:
            if self._study is None:
                frame = self._given.select("name", "x", "y").with_row_index("row")
                made = embedding.Coordinates(frame.drop_nulls(), ("x", "y"), "given")
            elif (backed := self._backed(modality)) is not None:
                made = embedding.of_backed(backed, method, seed=self._seed, progress=self._reading)
            else:
                made = embedding.coordinates(self._study.modality(modality), method, seed=self._seed)
            self._laid[modality, method] = made
        laid = self._laid[modality, method]
        colour, fallen = choice["colour"], ""
        if colour.get("kind") == "feature" and colour.get("modality") in self._modalities():
            self._backed(colour["modality"])
        try:
            made_of = _colours.colouring(colour, rows, self._study, self._on_disk)
        except (ValueError, KeyError) as error:
            made_of, fallen = _colours.colouring(_colours.NONE, rows, self._study), str(error.args[0])
        at = laid.frame["row"].to_numpy().astype(np.int64)
        with self._lock:
            if self.choice and (self.choice["modality"], self.choice["method"]) != (modality, method):
                return  # something else was asked for meanwhile
            self._at, self._colouring = at, made_of
            self.tip, self.hovered = [], -1
            columns = {m: self._rows[m].columns.columns for m in self._rows}
            with self.hold_trait_notifications():
                self.options = {**self.options, "columns": columns}
                self.colour_bytes = pack({"code": made_of.codes[at]}, scale=list(VIRIDIS), **made_of.header())
                self.frame_bytes = pack(
                    {
                        "x": laid.frame["x"].to_numpy().astype(np.float32),
                        "y": laid.frame["y"].to_numpy().astype(np.float32),
                    },
                    version=1,
                    axes=list(laid.axes),
                    noun=_NOUNS[rows.axis],
                    notes=laid.notes,
                    absent=self._absent(modality, rows),
                )
                self.progress_state, self.message = ("failed", fallen) if fallen else ("ready", "")
        self._heard(None)

    def _reading(self, done: float) -> None:
        if self.progress_state == "working":
            self.message = f"Reading {self.choice['modality']}: {100 * done:.0f} %"

    def _absent(self, modality: str, rows: Rows) -> dict[str, Any]:
        """Subjects (or treatments) of the study without a row in this modality."""
        if self._study is None:
            return {"n": 0, "of": 0, "names": [], "modality": modality, "noun": "subjects"}
        axis = "treatment" if rows.axis == "treatment" else "subject"
        table = self._study.treatments if axis == "treatment" else self._study.subjects
        everyone = table[axis].cast(pl.String).to_list()
        lacking = missing(everyone, set(rows.subjects or rows.names))
        return {
            "n": len(lacking),
            "of": len(everyone),
            "names": lacking[:_NAMED],
            "modality": modality,
            "noun": f"{axis}s",
        }

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
        names = self._rows_of(self.choice["modality"]).names
        return [names[i] for i in self._at[self.picked]]

    @property
    def missing(self) -> list[str]:
        rows = self._rows_of(self.choice["modality"])
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
        rows, at = self._rows_of(modality), self._at[self.picked]
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
        rows = self._rows_of(modality)
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
        names = self._rows_of(self.choice["modality"]).names
        self.picked_names = [names[i] for i in self._at[self.picked[:_NAMED]]]
        gone = self.missing
        self.elsewhere = {"n": len(gone), "names": gone[:_NAMED]}

    # --- questions from the page -------------------------------------------------------------------------------------

    @t.observe("hovered")
    def _describe(self, change: Any) -> None:
        point = change["new"]
        if not 0 <= point < len(self._at) or self._colouring is None:
            self.tip = []
            return
        rows, row = self._rows_of(self.choice["modality"]), int(self._at[point])
        said = [rows.names[row]]
        if rows.axis == "cell":
            said.append(f"subject: {rows.subjects[row]}")
        if self._colouring.kind != "none":
            value = self._colouring.values[row]
            said.append(f"{self._colouring.title}: {_written(value, self._colouring.unit)}")
        for column in rows.columns.columns[:4]:
            if column != self._colouring.title and rows.columns[column][row] is not None:
                said.append(f"{column}: {_written(rows.columns[column][row], '')}")
        self.tip = said[:5]

    @t.observe("search")
    def _find(self, change: Any) -> None:
        text, modality = str(change["new"].get("text", "")).lower(), change["new"].get("modality", "")
        if self._study is None or modality not in self._study.modalities:
            self.found = []
            return
        backed = self._backed(modality)
        names = backed.features().to_list() if backed is not None else list(self._study.modality(modality).var_names)
        near = [n for n in names if text in n.lower()]
        near.sort(key=lambda n: (n.lower() != text, not n.lower().startswith(text), len(n)))
        self.found = near[:_FOUND]


def _written(value: Any, unit: str) -> str:
    if value is None:
        return "no value"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{text} {unit}".rstrip()


def _checked(frame: pl.DataFrame) -> pl.DataFrame:
    if lacking := [c for c in ("name", "x", "y") if c not in frame.columns]:
        raise ValueError(f"a frame of points needs name, x and y; {lacking[0]!r} is missing, found {frame.columns}.")
    return frame.with_columns(pl.col("name").cast(pl.String), pl.col("x", "y").cast(pl.Float64))


def _rows_of_frame(frame: pl.DataFrame) -> Rows:
    names = frame["name"].to_list()
    subjects = frame["subject"].cast(pl.String).to_list() if "subject" in frame.columns else names
    axis = "cell" if "subject" in frame.columns else "subject"
    return Rows(names, axis, subjects, frame.drop("name", "x", "y", "row", strict=False))
