"""Runs: what was tried, on which rows, with which code, and what came out; kept in MLflow.

The only room that imports mlflow, and only inside functions. One MLflow experiment per workbench
experiment, one run per execution, one nested run per predictor and fold. Tables travel as parquet,
models as ``config.json`` + ``arrays.safetensors``; the SHA-256 of each is kept in the tracking
store and checked before a parser sees the bytes. Nothing that is loaded can execute.

>>> with record(experiment, study_digest=study.digest) as run:        # doctest: +SKIP
...     with run.child(predictor="ridge", fold=0) as child:
...         child.metrics({"RMSE": 1.18})
...     run.tables({"metrics": metrics})
>>> find("latest").metrics                                            # doctest: +SKIP
"""

from workbench.runs.adopt import MARK, adopt, finished
from workbench.runs.keys import RunError, key, name_of
from workbench.runs.process import Terminated
from workbench.runs.read import Run, find, runs
from workbench.runs.store import server_command, sweep
from workbench.runs.write import Child, Recording, record

__all__ = [
    "MARK", "Child", "Recording", "Run", "RunError", "Terminated",
    "adopt", "find", "finished", "key", "name_of", "record", "runs", "server_command", "sweep",
]  # fmt: skip
