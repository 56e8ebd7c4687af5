"""Choose, start, watch and stop a training from a notebook; the work itself is a callback in a thread.

The panel knows nothing of models. ``start(choice, report, stopped)`` does the work, with

- ``choice``: dict study, predictor, split, modalities (list), as chosen in the panel;
- ``report(news)``: news is a dict with any of ``fraction`` (0 to 1), ``message``, ``seconds_left`` and ``points``, a
  list of (name, step, value) such as ("training loss", 120, 0.83); cheap, call it as often as you like;
- ``stopped()``: True once Stop was pressed; the callback should then finish early, by returning or by raising.

It returns a dict: ``url`` (of the run, shown as a link when it is http or https), ``run`` (its name) and ``metrics``
(rows of ``tables.METRICS`` as a polars frame, or dicts with metric, value, low, high, naive, naive_predictor, unit; of
several predictors and folds only the chosen predictor's mean over folds is shown).
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import anywidget
import numpy as np
import polars as pl
import traitlets as t

from widgets._parts import esm, pack
from widgets.palette import theme
from workbench.text import nearest

Start = Callable[[dict[str, Any], Callable[[dict[str, Any]], None], Callable[[], bool]], dict[str, Any]]

_PICKS = {"study": "studies", "predictor": "predictors", "split": "splits"}
_NEWS = ("fraction", "message", "seconds_left", "points")
_SCORE = ("metric", "value", "low", "high", "naive", "naive_predictor", "unit")
_EVERY = 0.2  # seconds between two sendings of progress
_POINTS = 1500  # points of a curve that are sent; more cannot be told apart on screen


class TrainingPanel(anywidget.AnyWidget):
    """Pick predictor, split and modalities; Start and Stop; progress, time left, curves and the score beside naive.

    Parameters
    ----------
    options : dict with the lists ``predictors``, ``splits``, ``modalities`` and ``studies``, and optionally ``uses``,
        {predictor: [modalities it can use]}; a predictor that is not in ``uses`` can use all
    start : the callback of this module's first lines
    title : heading, shown as text

    Attributes
    ----------
    choice : what is picked; set it here or by hand in the page
    state : "idle", "running", "stopping", "done", "stopped" or "failed"; observe it to follow the page
    progress : dict fraction, message, seconds_left, elapsed (seconds)
    result : what the page shows at the end (url, run, scores); ``returned`` is all that the callback gave back
    error, traceback : the callback's error as one line, and in full

    Examples
    --------
    >>> panel = TrainingPanel({"predictors": ["ridge"], "splits": ["unseen subject"]}, start)  # doctest: +SKIP
    >>> panel.start()  # as the button does; the notebook stays usable  # doctest: +SKIP
    >>> panel.wait()  # doctest: +SKIP
    'done'
    """

    _esm = esm("training_panel")
    theme = t.Unicode().tag(sync=True)
    title = t.Unicode().tag(sync=True)
    options = t.Dict().tag(sync=True)
    choice = t.Dict().tag(sync=True)
    state = t.Enum(["idle", "running", "stopping", "done", "stopped", "failed"], default_value="idle").tag(sync=True)
    progress = t.Dict().tag(sync=True)
    curve_bytes = t.Bytes().tag(sync=True)
    result = t.Dict().tag(sync=True)
    error = t.Unicode().tag(sync=True)
    request = t.Dict().tag(sync=True)  # {"verb": "start" or "stop", "n": a number never used before}, from the page

    def __init__(self, options: Mapping[str, Any], start: Start, title: str = "") -> None:
        self._callback = start
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._points: dict[str, list[tuple[float, float]]] = {}
        self._began = self._sent = 0.0
        self._news: dict[str, Any] = {}
        self.returned: dict[str, Any] = {}
        self.traceback = ""
        known = ["predictors", "splits", "modalities", "studies", "uses"]
        if unknown := [name for name in options if name not in known]:
            raise ValueError(f"options: {unknown[0]!r} is not one of {known}.{nearest(str(unknown[0]), known)}")
        lists: dict[str, Any] = {name: [str(x) for x in options.get(name, [])] for name in known[:4]}
        lists["uses"] = {str(p): [str(m) for m in mods] for p, mods in dict(options.get("uses", {})).items()}
        super().__init__(options=lists, theme=theme(), title=title, choice={})

    # --- what is picked ----------------------------------------------------------------------------------------------

    @t.validate("choice")
    def _complete(self, proposal: Any) -> dict[str, Any]:
        asked = dict(proposal["value"])
        known = [*_PICKS, "modalities"]
        for name in asked:
            if name not in known:
                raise t.TraitError(f"choice: {name!r} is not one of {known}.{nearest(str(name), known)}")
        found: dict[str, Any] = {}
        for name, plural in _PICKS.items():
            offered = self.options[plural]
            found[name] = asked.get(name) or (offered[0] if offered else "")
            self._offered(name, found[name], offered)
        can = self.options["uses"].get(found["predictor"], self.options["modalities"])
        wanted = asked.get("modalities", self.options["modalities"])
        for name in wanted:
            self._offered("modality", name, self.options["modalities"])
        found["modalities"] = [m for m in self.options["modalities"] if m in wanted and m in can]
        return found

    @staticmethod
    def _offered(what: str, name: str, offered: list[str]) -> None:
        if name and name not in offered:
            few = ", ".join(offered) or "none"
            raise t.TraitError(f"{what} {name!r} is not offered.{nearest(name, offered)} Offered: {few}.")

    # --- start and stop ----------------------------------------------------------------------------------------------

    @t.observe("request")
    def _asked(self, change: Any) -> None:
        verb = change["new"].get("verb")
        if verb == "start":
            self.start()
        elif verb == "stop":
            self.stop()

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Run the callback in a thread of its own; nothing happens while one is running."""
        with self._lock:
            if self.running:
                return
            self._stop.clear()
            self._points, self._news, self.returned, self.traceback = {}, {}, {}, ""
            self._began, self._sent = time.monotonic(), 0.0
            self.error, self.result, self.curve_bytes = "", {}, b""
            self.progress = {"fraction": 0.0, "message": "Starting", "seconds_left": None, "elapsed": 0.0}
            self.state = "running"
            self._thread = threading.Thread(target=self._work, args=(dict(self.choice),), daemon=True, name="training")
            self._thread.start()

    def stop(self) -> None:
        """Ask the callback to finish early."""
        with self._lock:
            if self.state == "running":
                self._stop.set()
                self.state = "stopping"

    def wait(self, timeout: float | None = None) -> str:
        """Wait until the callback has ended (at most ``timeout`` seconds); returns the state."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self.state

    def _work(self, choice: dict[str, Any]) -> None:
        try:
            returned = self._callback(choice, self._report, self._stop.is_set)
            if not isinstance(returned, Mapping):
                raise TypeError(f"start should return a dict with url, run and metrics; it returned {returned!r:.80}.")
            shown = _shown(returned, choice["predictor"])
        except BaseException as error:  # whatever ends the work, the panel must say so and be usable again
            self.traceback = traceback.format_exc()
            end, said = "failed", f"{type(error).__name__}: {error}"
            if self._stop.is_set():  # raising is one way to stop, and then no failure
                end, said = "stopped", ""
            with self._lock:
                self._publish()
                self.error, self.state = said, end
            return
        with self._lock:
            self.returned = dict(returned)
            if not self._stop.is_set():
                self._news["fraction"] = 1.0
            self._news["seconds_left"] = None
            self._publish()
            self.result = shown
            self.state = "stopped" if self._stop.is_set() else "done"

    # --- news from the thread ----------------------------------------------------------------------------------------

    def _report(self, news: dict[str, Any]) -> None:
        if unknown := [name for name in news if name not in _NEWS]:
            raise ValueError(f"report: {unknown[0]!r} is not one of {list(_NEWS)}.{nearest(str(unknown[0]), _NEWS)}")
        with self._lock:
            for name, step, value in news.get("points", ()):
                self._points.setdefault(str(name), []).append((float(step), float(value)))
            self._news.update({name: value for name, value in news.items() if name != "points"})
            if "fraction" in news and "seconds_left" not in news:
                self._news["seconds_left"] = None  # an older guess no longer holds
            if time.monotonic() - self._sent >= _EVERY:
                self._publish()

    def _publish(self) -> None:
        elapsed = time.monotonic() - self._began
        fraction = min(1.0, max(0.0, float(self._news.get("fraction") or 0.0)))
        left = self._news.get("seconds_left")
        if left is None and 0.01 < fraction < 1.0:
            left = elapsed * (1.0 - fraction) / fraction
        self.progress = {
            "fraction": fraction,
            "message": str(self._news.get("message", "")),
            "seconds_left": None if left is None else float(left),
            "elapsed": elapsed,
        }
        if self._points:
            self.curve_bytes = _packed(self._points)
        self._sent = time.monotonic()

    @property
    def curve(self) -> pl.DataFrame:
        """All reported points: name, step, value."""
        with self._lock:
            rows = [(name, step, value) for name, points in self._points.items() for step, value in points]
        return pl.DataFrame(rows, schema={"name": pl.String, "step": pl.Float64, "value": pl.Float64}, orient="row")


def _packed(points: dict[str, list[tuple[float, float]]]) -> bytes:
    """Header ``names``; columns step.<k> and value.<k>, f4, thinned evenly, the last point kept."""
    columns = {}
    for k, values in enumerate(points.values()):
        stride = -(-len(values) // _POINTS)
        column = np.array(values[::-1][::stride][::-1], dtype=np.float32).reshape(-1, 2)
        columns[f"step.{k}"], columns[f"value.{k}"] = column[:, 0], column[:, 1]
    return pack(columns, version=1, names=list(points))


def _shown(returned: Mapping[str, Any], predictor: str) -> dict[str, Any]:
    """The part of the callback's result that the page shows: a safe address, the run's name, scores beside naive."""
    url = str(returned.get("url") or "")
    parts = urlsplit(url)
    metrics = returned.get("metrics")
    rows = metrics.to_dicts() if isinstance(metrics, pl.DataFrame) else [dict(row) for row in metrics or []]
    for column, wanted in (("predictor", predictor), ("fold", "all")):
        if any(str(row.get(column)) == wanted for row in rows):
            rows = [row for row in rows if str(row.get(column)) == wanted]
    return {
        "url": url if parts.scheme in ("http", "https") and parts.netloc else "",
        "run": str(returned.get("run") or ""),
        "scores": [{name: _plain(row.get(name)) for name in _SCORE} for row in rows],
    }


def _plain(value: Any) -> str | float | None:
    if value is None or isinstance(value, str):
        return value
    return float(value) if np.isfinite(value) else None
