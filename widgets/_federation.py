"""A federation's value and rounds as the bytes that ``federation_board.js`` reads.

The value is small and is a header alone (container: ``widgets._parts.pack``)::

    version   1
    places    [{key, predictor, split}]
    metrics   [{name, unit, better}]               better: "higher" or "lower"
    scores    [{place, site, arm, metric, value, low, high, naive, naive_predictor, difference, ...}]
    verdicts  [{place, site, arm, verdict, reason, decides, negative_transfer, flags, rows, epsilon, ...}]
    overall   [{place, arm, metric, sites, joined, gain, low, high, ...}]
    attacks   [{site, attack, figure, value, low, high, chance}]
    notes     [text]
    facts     [[what, how]]                        ``_plan.facts``; limit: agreed epsilon or null; exact: no noise;
                                                   alone: false where it is not trained

``null`` is "not measured" everywhere. Rounds are columns, one entry a row of FEDERATION_ROUNDS: ``round`` i4; ``site``,
``name``, ``lost`` i2, places in the header's ``sites``, ``names``, ``reasons``, -1 for none; ``value``, ``seconds`` and
``bytes`` f4, NaN for none. ``units`` of the header is the unit of each name; ``incidents`` and ``asked`` are rows of
``_incidents``. A row that tells of a fault, and not of an ask, is among the incidents alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from widgets import _incidents, _plan
from widgets._parts import pack
from workbench.score import BETTER
from workbench.tables import FEDERATION_ATTACKS, FEDERATION_ROUNDS, FEDERATION_VALUE, FEDERATION_VERDICTS, check, empty

VERDICTS = ("join", "do not join", "cannot tell")
ARMS = ("alone", "federated", "pooled", "personalised", "own pretraining", "pretrained together")
Frames = dict[str, pl.DataFrame]


def frames_of(value: Any) -> Frames:
    """sites, verdicts, overall and attacks of a value; empty ones for None.

    Raises
    ------
    TableError
        One is not the table it should be, or holds an unknown verdict or arm.
    ValueError
        ``value`` has no such frames.
    """
    if value is None:
        value = type("Nothing", (), {})()
        value.sites, value.verdicts = empty(FEDERATION_VALUE), empty(FEDERATION_VERDICTS)
    for name in ("sites", "verdicts"):
        if not isinstance(getattr(value, name, None), pl.DataFrame):
            raise ValueError(
                f"value: {name} should be a polars frame, found {type(getattr(value, name, None)).__name__}. "
                "Give what workbench.federated.worth.value.worth returns."
            )
    attacks = getattr(value, "attacks", None)
    overall = getattr(value, "overall", None)
    found = {
        "sites": check(value.sites, FEDERATION_VALUE),
        "verdicts": check(value.verdicts, FEDERATION_VERDICTS),
        "overall": pl.DataFrame() if overall is None else overall,
        "attacks": check(empty(FEDERATION_ATTACKS) if attacks is None else attacks, FEDERATION_ATTACKS),
    }
    for frame, column, known in (("verdicts", "verdict", VERDICTS), ("sites", "arm", ARMS), ("verdicts", "arm", ARMS)):
        if strange := sorted(set(found[frame][column]) - set(known)):
            raise ValueError(f"{frame}: {column} {strange[0]!r} is not known; expected one of {list(known)}.")
    return found


def key(predictor: str, split: str) -> str:
    """Name of a place, for people: ``ridge · unseen subject``."""
    return f"{predictor} \u00b7 {split}"


def places_of(frames: Frames) -> list[str]:
    """Places of the scores, in their order."""
    found = frames["sites"].select("predictor", "split").unique(maintain_order=True)
    return [key(p, s) for p, s in found.iter_rows()]


def metrics_of(frames: Frames) -> list[str]:
    """Metrics of the scores: the one that decides first."""
    first = frames["verdicts"]["decides"].unique(maintain_order=True).to_list()
    return sorted(frames["sites"]["metric"].unique(maintain_order=True), key=lambda m: m not in first)


def packed(frames: Frames, notes: Any = (), plan: Mapping[str, Any] | None = None) -> bytes:
    """The bytes of a value, and of how it was trained (``_plan.plan_of``)."""
    units = dict(frames["sites"].group_by("metric").agg(pl.col("unit").first()).iter_rows())

    def rows(name: str) -> list[dict[str, Any]]:
        frame = frames[name]
        floats = [c for c, t in frame.schema.items() if t.is_float()]
        finite = frame.with_columns(pl.when(pl.col(c).is_finite()).then(pl.col(c)).alias(c) for c in floats)
        told = finite.to_dicts()
        for row in told:
            if "predictor" in row:
                row["place"] = key(row.pop("predictor"), row.pop("split"))
        return told

    return pack(
        {},
        version=1,
        places=places_of(frames),
        metrics=[
            {
                "name": m,
                "unit": (units.get(m) or "").replace("uM", "\u00b5M"),
                "better": "lower" if BETTER.get(m, 1) < 0 else "higher",
            }
            for m in metrics_of(frames)
        ],
        scores=rows("sites"),
        verdicts=rows("verdicts"),
        overall=rows("overall"),
        attacks=rows("attacks"),
        notes=[str(n) for n in notes],
        facts=_plan.facts(plan or {}),
        limit=_plan.limit(plan or {}),
        exact=_plan.exact(plan or {}),
        alone=not plan or "alone" in plan.get("arms", ()),
    )


def rounds_packed(rounds: pl.DataFrame | None) -> bytes:
    """The bytes of FEDERATION_ROUNDS; raises TableError where it is not such a table."""
    frame = check(empty(FEDERATION_ROUNDS) if rounds is None else rounds, FEDERATION_ROUNDS)
    incidents, asked = _incidents.incidents(frame), _incidents.asked(frame)
    fault = pl.col("name").cast(pl.String).str.contains("^(flagged: .*|set aside)$").fill_null(False)
    frame = frame.filter(~fault)
    columns: dict[str, np.ndarray] = {"round": frame["round"].cast(pl.Int32).to_numpy()}
    header: dict[str, list[str]] = {}
    for column, plural in (("site", "sites"), ("name", "names"), ("lost", "reasons")):
        texts = frame[column].cast(pl.String)
        known = texts.drop_nulls().unique(maintain_order=True).to_list()
        at = {text: i for i, text in enumerate(known)}
        columns[column] = np.array([at.get(t, -1) for t in texts], dtype=np.int16)
        header[plural] = known
    for column in ("value", "seconds", "bytes"):
        columns[column] = frame[column].cast(pl.Float32).fill_null(float("nan")).to_numpy()
    units = dict(frame.drop_nulls("unit").group_by("name").agg(pl.col("unit").first()).iter_rows())
    header["units"] = [str(units.get(n) or "").replace("uM", "\u00b5M") for n in header["names"]]
    return pack(columns, version=1, incidents=incidents, asked=asked, **header)
