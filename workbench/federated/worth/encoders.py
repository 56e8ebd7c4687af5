"""What the encoders of a pretraining know, for the table of what it is worth: hidden values told from the rest.

    R^2 = 1 - sum of squared errors on hidden values / that of telling the mean,    on samples not learnt from

The mean explains 0. Kept among the figures of the rounds, so that folds which a later run takes over bring them along.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl

from workbench import tables
from workbench.federated.worth.site_value import OWN_ENCODER, SHARED_ENCODER

EXPLAINED = "explains of hidden"  # with the name of a modality, a figure of FEDERATION_ROUNDS
ENDS = (" low", " high")
SCHEMA = pl.Schema(
    {"arm": pl.String, "site": pl.String, "modality": pl.String, "value": pl.Float64, "low": pl.Float64,
     "high": pl.Float64, "naive": pl.Float64}
)  # fmt: skip


def rounds(explained: Iterable[Any], step: int, site: str | None = None) -> pl.DataFrame:
    """FEDERATION_ROUNDS rows of an encoder's ``pretraining.fit.Explained``; ``site`` None: of the shared one."""
    rows = [
        (step, site, f"{EXPLAINED} {e.modality}{end}", float(value), None, None, None, None)
        for e in explained
        if e.value == e.value  # NaN: too few persons at every site
        for end, value in zip(("", *ENDS), (e.value, e.low, e.high), strict=True)
    ]
    schema = dict(tables.FEDERATION_ROUNDS.columns)
    return tables.check(pl.DataFrame(rows, schema=schema, orient="row"), tables.FEDERATION_ROUNDS)


def of(told: pl.DataFrame) -> pl.DataFrame:
    """``SCHEMA`` from FEDERATION_ROUNDS: a row an encoder, modality and fold; the shared encoder first."""
    some = told.select(pl.col("site").cast(pl.String), pl.col("name").cast(pl.String), "value").filter(
        pl.col("name").str.starts_with(f"{EXPLAINED} ")
    )
    if some.is_empty():
        return pl.DataFrame(schema=SCHEMA)
    bare = some.with_columns(
        modality=pl.col("name").str.strip_prefix(f"{EXPLAINED} ").str.replace(r" (low|high)$", ""),
        what=pl.col("name").str.extract(r" (low|high)$").fill_null("value"),
    )
    at = pl.int_range(pl.len()).over("site", "modality", "what")  # its fold, by order
    wide = bare.with_columns(at=at).pivot("what", index=["site", "modality", "at"], values="value", maintain_order=True)
    made = wide.with_columns(
        arm=pl.when(pl.col("site").is_null()).then(pl.lit(SHARED_ENCODER)).otherwise(pl.lit(OWN_ENCODER)),
        naive=pl.lit(0.0),
    )
    return made.sort(pl.col("site").is_not_null(), maintain_order=True).select(SCHEMA.names()).cast(SCHEMA)


def lines(found: pl.DataFrame) -> Iterator[str]:
    """The same as text; nothing where there is no encoder."""
    if found.is_empty():
        return
    yield "what the encoders know: share of hidden values explained, on samples not learnt from, 95 % (the mean: 0.000)"
    for (arm, site), own in found.group_by("arm", "site", maintain_order=True):
        name = arm if site is None else f"{arm}, {site}"
        kinds = own["modality"].unique(maintain_order=True).to_list()
        for kind in kinds if len(kinds) > 2 else kinds[:1]:  # of one kind of data, all is the same
            some = own.filter(pl.col("modality") == kind)
            each = (f"{r['value']:.3f} ({r['low']:.3f} to {r['high']:.3f})" for r in some.iter_rows(named=True))
            yield f"  {name:<40} {kind:<12} {', '.join(each)}"
            name = ""
