"""The modalities of a study as points: their rows, coordinates and colours, each made once; or one frame of points."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import polars as pl

from widgets import _colours
from widgets._colours import Colouring, Rows
from widgets.linked import missing
from workbench.text import nearest

if TYPE_CHECKING:
    from workbench.backed import Backed
    from workbench.embedding import Coordinates

LARGE = 100_000  # rows: a modality of more is read by blocks, never whole
FOUND = 40  # features offered while someone types
NAMED = 200  # absent subjects named in the page
USUAL = ("tissue", "arm", "cell_type", "celltype", "condition")  # what to colour by before anyone chose
GIVEN = "given"  # modality and method of a plain frame


class Layouts:
    """What ``EmbeddingExplorer`` asks of a study, or of a frame with name, x, y.

    Attributes
    ----------
    study : the Study, None where a frame was given
    modalities : those of subjects first, then of cells, then of treatments
    """

    def __init__(self, data: Any, seed: int = 0, axes: tuple[str, str] = ("x", "y")) -> None:
        self.study: Any = None if isinstance(data, pl.DataFrame) else data
        self._frame = _checked(data) if isinstance(data, pl.DataFrame) else pl.DataFrame()
        self._seed, self._axes = seed, axes
        self._made: dict[tuple[str, str], Coordinates] = {}
        self._rows: dict[str, Rows] = {}
        self._opened: dict[str, Backed] = {}
        self.modalities = [GIVEN]
        if self.study is not None:
            axis = {m: self.study.axis(m) for m in self.study.modalities}
            order = ["subject", "cell", "treatment"]
            self.modalities = sorted(axis, key=lambda m: (order.index(axis[m]), m != "expression", m))
        if not self.modalities:
            name = getattr(data, "name", "")
            raise ValueError(f"study {name!r} has no modality to show; it holds outcomes alone.")

    def options(self) -> dict[str, Any]:
        """What the pickers offer, as plain JSON values."""
        from workbench.embedding import METHODS

        offered: dict[str, Any] = {"modalities": self.modalities, "methods": [GIVEN], "treatments": [], "endpoints": []}
        if self.study is not None:
            rows = self.study.rows
            offered["methods"] = list(METHODS)
            for column in ("treatment", "endpoint"):
                offered[f"{column}s"] = rows[column].cast(pl.String).unique().sort().to_list()
        return {**offered, "columns": self.columns()}

    def columns(self) -> dict[str, list[str]]:
        """Columns to colour by of the modalities seen so far."""
        return {modality: rows.columns.columns for modality, rows in self._rows.items()}

    def large(self, modality: str) -> bool:
        """Is the modality read by blocks?"""
        if not hasattr(self.study, "manifest"):
            return False
        return self.study.manifest["files"][f"modalities/{modality}.h5ad"]["schema"]["shape"][0] > LARGE

    def at_once(self, modality: str, method: str) -> bool:
        """Can the layout be shown without a wait that anyone notices?"""
        return (modality, method) in self._made or (method != "UMAP" and not self.large(modality))

    def _backed(self, modality: str) -> Backed | None:
        if modality not in self._opened and modality in self.modalities and self.large(modality):
            self._opened[modality] = self.study.backed(modality)
        return self._opened.get(modality)

    def rows(self, modality: str) -> Rows:
        """Names, subjects and columns of the modality's rows."""
        if modality not in self._rows:
            if self.study is None:
                self._rows[modality] = _rows_of_frame(self._frame)
            elif (backed := self._backed(modality)) is not None:
                self._rows[modality] = _colours.rows_on_disk(self.study, backed)
            else:
                self._rows[modality] = _colours.rows_of(self.study, modality)
        return self._rows[modality]

    def coordinates(self, modality: str, method: str, tell: Callable[[float], None]) -> Coordinates:
        """Coordinates of the modality's rows; ``tell`` hears the share that is done of a large one."""
        from workbench import embedding

        if (modality, method) not in self._made:
            if self.study is None:
                frame = self._frame.select("name", "x", "y").with_row_index("row").drop_nulls()
                made = embedding.Coordinates(frame, self._axes, GIVEN)
            elif (backed := self._backed(modality)) is not None:
                made = embedding.of_backed(backed, method, seed=self._seed, progress=tell)
            else:
                made = embedding.coordinates(self.study.modality(modality), method, seed=self._seed)
            self._made[modality, method] = made
        return self._made[modality, method]

    def asked(self, colour: str | dict[str, Any] | None, modality: str) -> dict[str, Any]:
        """A colour in the dict form; None is the tissue, arm or cell type, else the first column of few words."""
        columns = self.rows(modality).columns
        if colour is None:
            few = (c.name for c in columns if c.dtype == pl.String and 1 < c.n_unique() <= _colours.LEVELS)
            colour = next((c for c in USUAL if c in columns.columns), next(few, "none"))
        return _colours.asked(colour, self.rows(modality), self.study)

    def colouring(self, choice: dict[str, Any], modality: str) -> tuple[Colouring, str]:
        """The colour of each row; one colour for all, and why, where the choice cannot be had."""
        if choice.get("kind") == "feature":
            self._backed(str(choice.get("modality", "")))
        try:
            return _colours.colouring(choice, self.rows(modality), self.study, self._opened), ""
        except (ValueError, KeyError) as error:
            return _colours.colouring(_colours.NONE, self.rows(modality), self.study), str(error.args[0])

    def features(self, modality: str, text: str) -> list[str]:
        """Features whose name holds ``text`` in any case, the nearest first."""
        if self.study is None or modality not in self.modalities:
            return []
        backed, part = self._backed(modality), text.lower()
        names = backed.features().to_list() if backed is not None else list(self.study.modality(modality).var_names)
        near = [str(n) for n in names if part in str(n).lower()]
        near.sort(key=lambda n: (n.lower() != part, not n.lower().startswith(part), len(n)))
        return near[:FOUND]

    def absent(self, modality: str) -> dict[str, Any]:
        """Subjects (or treatments) of the study without a row in this modality."""
        if self.study is None:
            return {"n": 0, "of": 0, "names": [], "modality": modality, "noun": "subjects"}
        rows = self.rows(modality)
        axis = "treatment" if rows.axis == "treatment" else "subject"
        table = self.study.treatments if axis == "treatment" else self.study.subjects
        everyone = table[axis].cast(pl.String).to_list()
        gone = missing(everyone, set(rows.subjects or rows.names))
        return {"n": len(gone), "of": len(everyone), "names": gone[:NAMED], "modality": modality, "noun": f"{axis}s"}

    def known(self, modality: str) -> str:
        """The modality's name, or the first one's where none is asked; ``KeyError`` names the nearest."""
        if modality and modality not in self.modalities:
            near, listed = nearest(modality, self.modalities), ", ".join(self.modalities)
            raise KeyError(f"there is no modality {modality!r}.{near} Known: {listed}.")
        return modality or self.modalities[0]


def _checked(frame: pl.DataFrame) -> pl.DataFrame:
    if lacking := [c for c in ("name", "x", "y") if c not in frame.columns]:
        raise ValueError(f"a frame of points needs name, x and y; {lacking[0]!r} is missing, found {frame.columns}.")
    return frame.with_columns(pl.col("name").cast(pl.String), pl.col("x", "y").cast(pl.Float64).fill_nan(None))


def _rows_of_frame(frame: pl.DataFrame) -> Rows:
    names = frame["name"].to_list()
    subjects = frame["subject"].cast(pl.String).to_list() if "subject" in frame.columns else names
    axis = "cell" if "subject" in frame.columns else "subject"
    return Rows(names, axis, subjects, frame.drop("name", "x", "y", "row", strict=False))
