"""How much a site holds: training rows and subjects, and of each treatment named by the server how many rows."""

from __future__ import annotations

import numpy as np

from workbench.federated.asked import Answer, Leaves
from workbench.federated.messages import Ask

PLAIN = "How many training rows and subjects the site holds, in all and by treatment; small counts are left out."
LEAVES = Leaves(
    arrays={"rows": "number of training rows", "subjects": "number of subjects", "by_treatment": "rows by treatment"},
    summed=True,
)


def answer(site, ask: Ask) -> Answer:
    train = site.fold.train
    count = dict(train["treatment"].value_counts().iter_rows())
    wanted = ask.values.get("treatments", [])
    by = np.array([count.get(t, 0) for t in (wanted if isinstance(wanted, list) else [])], dtype=np.int64)
    by[by < site.policy.minimum_cell] = 0
    whole = np.array([train.height, train["subject"].n_unique()], dtype=np.int64)
    whole[whole < site.policy.minimum_cell] = 0  # under masks no later step sees a small count any more
    return Answer(train.height, {"rows": whole[:1], "subjects": whole[1:], "by_treatment": by})
