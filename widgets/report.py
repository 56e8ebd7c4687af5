"""One run as one HTML file: interactive, without a server, without a network.

``export(run, out)`` writes the file whole or not at all. Tables and pictures are plain markup (read at once, printed,
searched); the explorer and the page of one drug run from packed columns inside the file. The file's own policy lets no
other script run than the one it was written with, and nothing be fetched from anywhere.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib
import os
import re
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from widgets._response import pieces, summary
from widgets._response.loaded import Loaded
from widgets._response.markup import Markup, tag

MODELS = 3  # trained predictors whose rows the file carries; all of them are in its tables
FEATURES = 12  # attributions a drug and predictor


def export(run: Any, out: Path | str) -> Path:
    """Write the report of ``run`` to ``out`` and return its path.

    Parameters
    ----------
    run
        Anything with the tables of ``workbench.runs.Run``.
    out
        The file; an existing one is replaced once the new one is complete.

    Raises
    ------
    widgets._response.summary.Missing
        The run has no METRICS: there is nothing to report. Other missing tables are named in the file.
    FileNotFoundError
        The folder of ``out`` does not exist.
    """
    out = Path(out).expanduser().resolve()
    if not out.parent.is_dir():
        raise FileNotFoundError(f"folder {out.parent} does not exist: make it, or give another --out.")
    text = document(run).encode("utf-8", "replace")
    handle, name = tempfile.mkstemp(prefix=f".{out.name[:80]}.", dir=out.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, out)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return out


def document(run: Any) -> str:
    """The whole file as text."""
    loaded = Loaded(run)
    found = loaded.scores
    parts: list[tuple[str, str, Markup]] = [
        ("scores", "Scores", pieces.leaderboard(found)),
        ("comparisons", "Comparisons", _comparisons(loaded)),
    ]
    data = ""
    try:
        data, said = _data(loaded)
        parts.append(("predictions", "Predictions and drugs", _interactive(said)))
    except summary.Missing as e:
        parts.append(("predictions", "Predictions and drugs", pieces.problem(str(e))))
    try:
        parts.append(("curves", "Learning curves", pieces.curves(loaded.curves)))
    except summary.Missing as e:
        parts.append(("curves", "Learning curves", pieces.problem(str(e))))
    parts.append(("provenance", "Provenance", pieces.provenance(run)))
    metrics = summary.ordered(list({m for cells in found.values() for m in cells}))
    pictures = tag("div", *[pieces.forest(found, m) for m in metrics[:2]], class_="figures")
    links = [tag("a", name, href=f"#{key}") for key, name, _ in [("top", "Who wins", None), *parts]]
    sections = [tag("section", tag("h2", name), body, id=key, class_="part") for key, name, body in parts]
    body = tag(
        "body",
        tag("header", _masthead(run), class_="masthead"),
        tag("nav", *links, aria_label="Parts of this report"),
        tag("main", tag("section", pieces.headline(found, loaded.rule, loaded.paired, loaded.level), pictures,
            id="top", class_="part"), *sections),
        tag("footer", f"Written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by the Translational Workbench. ",
            "This file holds everything it shows and asks nothing of the network."),
    )  # fmt: skip
    return "<!doctype html>\n" + _page(str(getattr(run, "name", "run")), body, data)


def _masthead(run: Any) -> Markup:
    known = dict(summary.provenance(run))
    facts = [
        (k, known[k]) for k in ("Split rule", "Study digest (SHA-256)", "Git commit", "Run id", "Study", "Started")
    ]
    rows = [tag("div", tag("dt", "What is unseen" if k == "Split rule" else k), tag("dd", v)) for k, v in facts]
    return tag("div", tag("h1", known["Run"]), tag("dl", *rows))


def _comparisons(loaded: Loaded) -> Markup:
    try:
        return pieces.verdicts(summary.sorted_comparisons(loaded.comparisons, list(loaded.scores)))
    except summary.Missing as e:
        return pieces.problem(str(e))


def _interactive(said: str) -> Markup:
    return tag(
        "div",
        tag("p", said, class_="note"),
        tag("div", tag("p", "Unpacking the predictions …", class_="note"), id="explorer"),
        tag("div",
            tag("label", "Drug ", tag("select", id="pick-drug")),
            tag("label", "Predictor ", tag("select", id="pick-predictor")), class_="pickers"),
        tag("div", id="drug", aria_live="polite"),
    )  # fmt: skip


def _data(loaded: Loaded) -> tuple[str, str]:
    """The packed rows as text, and what they are in words."""
    from widgets._response.explorer import kept
    from widgets._response.packing import squeeze
    from widgets.prediction_explorer import pack_predictions

    predictions = loaded.predictions
    present = set(predictions["predictor"].unique().cast(pl.String))
    order = [p for p in loaded.scores if p in present] or sorted(present)
    names = [p for p in kept(loaded.scores, MODELS) if p in present] or order[:MODELS]
    rows = predictions.filter(pl.col("predictor").cast(pl.String).is_in(names))
    packed = pack_predictions(rows)
    text, rounding = squeeze(packed, drugs=_drugs(loaded, order, names))
    unit = str(predictions["unit"][0])
    left = [p for p in order if p not in names]
    said = (
        f"Rows of {', '.join(names)} are in this file, rounded by at most {rounding:.1g} {unit}; "
        + (f"{', '.join(left)} are in the tables only. " if left else "")
        + "All tables were computed from the full precision."
    )
    return text, said


def _drugs(loaded: Loaded, order: list[str], names: list[str]) -> dict[str, Any]:
    """What the page of one drug needs beyond the rows: scores of every predictor, features of those in the file."""
    drugs = summary.treatments(loaded.predictions)
    place = {p: i for i, p in enumerate(order)}
    scores: dict[str, list[list[Any]]] = {d: [] for d in drugs}
    for r in summary.per_treatment(loaded.predictions).iter_rows(named=True):
        values = [_rounded(r[c]) for c in ("pearson", "spearman", "rmse", "inside")]
        scores[r["treatment"]].append([place.get(r["predictor"], len(place)), r["n"], *values])
    features, feature_names, modalities, about = _features(loaded, names)
    return {
        "names": drugs,
        "first": names[0],
        "unit": str(loaded.predictions["unit"][0]),
        "predictors": order,
        "naive": [p in summary.NAIVE for p in order],
        "scores": [sorted(scores[d]) for d in drugs],
        "features": [features.get(d, {}) for d in drugs],
        "feature_names": feature_names,
        "modalities": modalities,
        "attribution": about,
    }


def _features(
    loaded: Loaded, names: list[str]
) -> tuple[dict[str, dict[str, Any]], list[str], list[str], dict[str, Any]]:
    try:
        frame = loaded.attributions.filter(pl.col("predictor").cast(pl.String).is_in(names))
    except summary.Missing:
        return {}, [], [], {}
    top = summary.top_features(frame, FEATURES)
    genes, modalities = top["feature"].unique().sort().to_list(), top["modality"].unique().sort().to_list()
    gene, modality = {g: i for i, g in enumerate(genes)}, {m: i for i, m in enumerate(modalities)}
    found: dict[str, dict[str, Any]] = {}
    about: dict[str, Any] = {}
    for r in top.iter_rows(named=True):
        entry = [gene[r["feature"]], modality[r["modality"]], _rounded(r["value"])]
        found.setdefault(r["treatment"], {}).setdefault(r["predictor"], []).append(entry)
        about.setdefault(r["predictor"], {"unit": r["unit"], "method": r["method"]})
    return found, genes, modalities, about


def _rounded(value: float | None) -> float | None:
    return None if value is None or value != value else float(f"{value:.4g}")


def _page(title: str, body: Markup, data: str) -> str:
    from widgets.palette import theme
    from widgets.prediction_explorer import ESM

    own = (Path(__file__).with_suffix(".js")).read_text(encoding="utf-8")
    module, found = re.subn(r"^export default ", "const explorer = ", ESM, flags=re.MULTILINE)
    if found != 1:
        raise ValueError(f"prediction_explorer.js should have exactly one `export default`, found {found}.")
    module = re.sub(r"^export ", "", module, flags=re.MULTILINE)
    # a closing tag inside a string of the script would end it: the escaped form means the same to JavaScript
    script = f"{module}\n{{\n{own}\n}}\n".replace("</", "<\\/").replace("<!--", "<\\!--") if data else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data: blob:"
    head = tag(
        "head",
        Markup('<meta charset="utf-8"/>'),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title} · drug response"),
        tag("link", rel="icon", href=pieces.ICON),
        tag("style", Markup(pieces.STYLE)),
    )
    inert = tag("script", Markup(theme()), type="text/plain", id="theme")
    tail = tag("script", Markup(data), type="text/plain", id="data") + inert if data else ""
    closing = f'{tail}<script type="module">{script}</script>' if data else ""
    return f'<html lang="en">{head}{body.removesuffix("</body>")}{closing}</body></html>\n'


def main(argv: list[str]) -> int:
    """``workbench report RUN --out FILE``: exit status 0, 1 (the run cannot be reported) or 2 (bad usage)."""
    parser = argparse.ArgumentParser(
        prog="workbench report", description="Write one run as one interactive HTML file that needs no server."
    )
    parser.add_argument("run", help="id or name of the run, or 'latest'")
    parser.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html")
    try:
        given = parser.parse_args(argv)
    except SystemExit as e:
        return 2 if e.code else 0
    if given.out.is_dir():
        sys.stderr.write(
            f"workbench report: --out {given.out} is a folder; give a file, such as {given.out}/report.html.\n"
        )
        return 2
    try:
        written = export(importlib.import_module("workbench.runs").find(given.run), given.out)
    except (LookupError, OSError, ValueError, summary.Missing) as e:
        sys.stderr.write(f"workbench report: {e.args[0] if e.args else e}\n")
        return 1
    size = written.stat().st_size / 1e6
    sys.stdout.write(f"{written} ({size:.1f} MB): open it in any browser, from disk or attached to a mail.\n")
    return 0
