"""Two pictures of a transfer: how well each drug and method does against chance, and what is left of the shift."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from workbench.figures import GREY, OKABE_ITO, STYLE
from workbench.translate.biology import KEPT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS: dict[Any, Any] = dict(STYLE)
BLUE, ORANGE, GREEN = OKABE_ITO[0], OKABE_ITO[1], OKABE_ITO[2]


def areas(verdict: pl.DataFrame, naive: pl.DataFrame | None = None, title: str = "") -> Figure:
    """AUROC with 95 % interval of every drug (rows) and method (colours) against one half; naive values at the foot."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    methods = verdict["method"].unique(maintain_order=True).to_list()
    drugs = verdict["drug"].unique(maintain_order=True).to_list()
    names = [*drugs, *([] if naive is None else naive["name"])]
    colours = {m: (*OKABE_ITO[:7], GREY)[i % 8] for i, m in enumerate(methods)}
    with rc_context(OURS):
        figure = Figure(figsize=(9, 1.6 + 0.5 * len(names)), layout="constrained")
        axes = figure.subplots()
        step = 0.8 / max(len(methods), 1)
        for i, method in enumerate(methods):
            for row in verdict.filter(pl.col("method") == method).iter_rows(named=True):
                y = drugs.index(row["drug"]) - 0.4 + (i + 0.5) * step
                axes.plot([row["low"], row["high"]], [y, y], color=colours[method], lw=1.4)
                axes.plot(row["auroc"], y, "o", ms=4, color=colours[method])
            axes.plot([], [], "o-", ms=4, color=colours[method], label=method)
        for j, row in enumerate([] if naive is None else naive.iter_rows(named=True)):
            y = len(drugs) + j
            axes.plot([row["low"], row["high"]], [y, y], color="black", lw=1.4)
            axes.plot(row["auroc"], y, "D", ms=5, color="black")
        if naive is not None:
            axes.axhline(len(drugs) - 0.5, color=GREY, lw=0.8)
            axes.plot([], [], "D-", ms=5, color="black", label="without any cell line")
        axes.axvline(0.5, color=GREY, ls="--", lw=1)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.set_xlabel("AUROC for response (0.5: chance; above: those predicted sensitive respond)")
        axes.set_title(title, loc="left", fontsize=12)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    return figure


def shift(table: pl.DataFrame, title: str = "") -> Figure:
    """What every adaptation leaves: domains told apart (left, chance shaded) and least biology kept (right)."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    names = table["method"].to_list()
    y = range(len(names))
    with rc_context(OURS):
        figure = Figure(figsize=(9, 1.4 + 0.42 * len(names)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for j, row in enumerate(table.iter_rows(named=True)):
            left.fill_betweenx([j - 0.4, j + 0.4], row["chance_low"], row["chance_high"], color="#DDDDDD", lw=0)
            gone = row["told_apart"] <= row["chance_high"]
            left.plot(row["told_apart"], j, "o", color=GREEN if gone else ORANGE)
            kept = max(row["kept_least"] or 0.0, 0.0)
            right.barh(j, kept, height=0.7, color=BLUE if kept >= KEPT else ORANGE, alpha=0.4, lw=0)
            right.text(0.02, j, "nothing lost" if kept > 0.995 else row["weakest"] or "", va="center", fontsize=8.5)
        left.set_yticks(list(y), names)
        left.set_ylim(len(names) - 0.5, -0.5)
        left.set_xlim(0, 1.02)
        left.axvline(0.5, color=GREY, ls="--", lw=1)
        left.set_xlabel("AUROC of telling tumours from lines\n(grey: chance)")
        right.axvline(KEPT, color=GREY, ls="--", lw=1)
        right.set_xlim(0, 1.02)
        right.set_xlabel("least share of known biology kept\n(named in the bar; dashed: 0.8 needed)")
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure
