"""What a study holds and where it comes from, as tables in words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from widgets._response.markup import Markup, table, tag
from widgets._response.summary import when

if TYPE_CHECKING:
    from workbench.study import Study

MOST = 200  # rows of a table; the rest is counted
FEW = 40  # groups that are still told apart
TALL = 18  # rows from which on a table scrolls by itself
# of the trial summary of SEND (SENDIG 3.1, appendix C: TSPARMCD), those that a reader asks for
SUMMARY = {
    "STITLE": "title", "SSTYP": "type of study", "SSPONSOR": "sponsor", "TSTFNAM": "test facility",
    "SPREFID": "sponsor's reference", "SNDIGVER": "SEND implementation guide", "SNDCTVER": "controlled terminology",
}  # fmt: skip


def grouped(study: Study) -> tuple[pl.DataFrame, str]:
    """(presence, word): ``study.presence()`` with what tells subjects apart in ``tissue``, and the word for it.

    That is the tissue where there is one, else the arm of an animal or a patient, else the first column of words, the
    species before others, that divides the subjects into a few groups.
    """
    presence, subjects = study.presence(), study.subjects
    if presence["tissue"].null_count() < len(presence):
        return presence, "tissue"
    words = [name for name, kind in subjects.schema.items() if kind in (pl.String, pl.Categorical, pl.Enum)]
    words = sorted((w for w in words if w not in ("subject", "tissue")), key=lambda w: (w != "arm", w != "species"))
    for name in words:
        levels = subjects[name].drop_nulls().n_unique()
        if 2 <= levels <= min(FEW, len(presence) // 2) or (name == "arm" and levels):
            told = subjects.select(pl.col("subject", name).cast(pl.String)).rename({name: "tissue"})
            found = presence.drop("tissue").join(told, on="subject", how="left", maintain_order="left")
            return found.select(presence.columns), name.replace("_", " ")
    return presence, "tissue"


def _cut(head: list[str], rows: Sequence[tuple[str, ...]], caption: str) -> Markup:
    left = len(rows) - MOST
    cut = [*rows[:MOST], (f"{left:,} more", *[""] * (len(head) - 1))] if left > 0 else rows
    made = table(head, cut, caption, "left compact")
    return made if len(cut) < TALL else tag("div", made, style="max-height:460px;overflow:auto", tabindex="0")


def _unit(said: str) -> str:
    return "one for each column" if said.startswith("as in var") else said


def contents(study: Study) -> Markup:
    """Modalities, endpoints, further tables, what was noted and what could not be read."""
    files = study.manifest["files"]
    modalities = [
        (
            name,
            facts.get("axis", ""),
            " \u00d7 ".join(f"{n:,}" for n in facts["schema"]["shape"]),
            _unit(facts["units"]["X"]),
        )
        for name in study.modalities
        for facts in [files[f"modalities/{name}.h5ad"]]
    ]
    units = study.rows.group_by(pl.col("endpoint", "unit").cast(pl.String)).agg(
        pl.len().alias("rows"), pl.col("subject").n_unique(), pl.col("treatment").n_unique().alias("treatments")
    )
    endpoints = [(e, u, f"{n:,}", f"{s:,}", f"{d:,}") for e, u, n, s, d in units.sort("endpoint").iter_rows()]
    drawn = [
        table(["Modality", "rows are", "rows \u00d7 columns", "unit"], modalities, "Modalities", "left compact")
        if modalities
        else tag("p", "This study has no modality: it holds outcomes alone.", class_="low"),
        _cut(["Endpoint", "unit", "rows", "subjects", "treatments"], endpoints, "Endpoints")
        if endpoints
        else tag("p", "This study has no outcomes: nothing was measured beside its modalities.", class_="low"),
    ]
    for name, caption in (("unread", "What could not be read"), ("notes", "What was noted while reading")):
        if name in study.records and len(found := study.record(name)):
            rows = [tuple(map(str, row)) for row in found.iter_rows()]
            drawn.append(_cut([c.capitalize() for c in found.columns], rows, caption))
    counts = {name: files[f"records/{name}.parquet"].get("rows", 0) for name in study.records}
    records = [(name, f"{n:,}") for name, n in counts.items() if n and name not in ("unread", "notes")]
    if records:
        drawn.append(_cut(["Table", "rows"], records, "Further tables, as their source wrote them"))
    return tag("div", *drawn, class_="pair")


def flat(found: Any, before: str = "", most: int = 60) -> list[tuple[str, str]]:
    """Nested JSON as (place, value) pairs, at most ``most``; lists of plain values stay one value.

    Plain numbers of one place are one pair: "BW 4,075, CL 7,340".
    """
    if isinstance(found, dict):
        if before and len(found) > 3 and all(isinstance(v, int) and not isinstance(v, bool) for v in found.values()):
            return [(before, ", ".join(f"{key} {value:,}" for key, value in found.items()))]
        pairs = [
            p for key, value in found.items() for p in flat(value, f"{before} > {key}" if before else str(key), most)
        ]
    elif isinstance(found, list) and any(isinstance(v, dict | list) for v in found):
        pairs = [p for i, value in enumerate(found) for p in flat(value, f"{before} > {i + 1}", most)]
    else:
        text = ", ".join(map(str, found)) if isinstance(found, list) else str(found)
        pairs = [(before, text if len(text) < 600 else f"{text[:600]} \u2026")]
    return pairs if len(pairs) <= most else [*pairs[:most], (before or "further", f"{len(pairs) - most} more entries")]


def spelled(place: str) -> str:
    """A place of ``flat`` as people write it: no underscores, and SEND's codes in words."""
    *above, last = place.split(" > ")
    known = above == ["trial_summary"] and last in SUMMARY
    return f"study: {SUMMARY[last]}" if known else place.replace("_", " ")


def moment(said: str) -> str:
    """A time in ISO 8601 as people write it, to the minute; anything else as it is."""
    try:
        return when(datetime.fromisoformat(said))
    except ValueError:
        return said
