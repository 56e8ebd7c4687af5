"""What kind of data a site holds, of which nothing depends on who is in it: names and units of the catalogue.

Which features a platform measures and which treatments a screen has in its catalogue is taken as public: with another
person more or less it stays the same. How many rows, persons or measurements there are is not told.
"""

from __future__ import annotations

from workbench.federated.asked import Answer, Leaves
from workbench.federated.exact import rows as _rows
from workbench.federated.messages import Ask

PLAIN = (
    "What kind of data the site holds: the endpoint and its unit, the names and unit of the features, and the names of "
    "all treatments in its catalogue. No measured value, no subject, no count."
)
LEAVES = Leaves(
    arrays={},
    summed=False,
    values=(
        "endpoint", "unit", "modality", "feature_unit", "feature_count", "feature_digest", "features", "treatments",
        "compounds",
    ),
    rows=False,
)  # fmt: skip


def answer(site, ask: Ask) -> Answer:
    """As ``schema``, without counts; names of the features only where ``features`` of the ask is true."""
    modality = str(ask.values.get("modality", "expression"))
    own, unit = _rows.features(site, modality)
    told = site.fold.study.treatments.sort("treatment")
    values = {
        "endpoint": site.fold.endpoint,
        "unit": site.fold.unit,
        "modality": modality,
        "feature_unit": unit,
        "feature_count": len(own),
        "feature_digest": _rows.digest(own),
        "treatments": [str(t) for t in told["treatment"]],
        "compounds": [str(c or t) for t, c in told.select("treatment", "compound").iter_rows()],
    }
    if ask.values.get("features"):
        values["features"] = list(own)
    return Answer(site.fold.train.height, {}, values)
