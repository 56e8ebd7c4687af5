"""A fitted predictor at rest: two inert files in an MLflow LoggedModel, read only when their digests hold."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

import polars as pl

from workbench.runs import process, store
from workbench.runs.keys import RunError, flat, key, sha256

if TYPE_CHECKING:
    import numpy as np

CONFIG, ARRAYS = "config.json", "arrays.safetensors"


def save(
    experiment_id: str,
    run_id: str,
    label: str,
    predictor: str,
    config: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    pairs: pl.DataFrame,
    params: Mapping[str, Any],
) -> str:
    """Store a model under ``label`` and return its id; ``pairs`` (subject, treatment) is its input example."""
    import numpy as np
    from mlflow.entities import LoggedModelOutput
    from safetensors.numpy import save as pack

    files = {
        CONFIG: json.dumps({"predictor": predictor, "config": config}, sort_keys=True).encode(),
        ARRAYS: pack({k: np.asarray(v, order="C") for k, v in arrays.items()}),
    }
    digests = {f"sha256.{file}": sha256(data) for file, data in files.items()}
    client = store.client()
    model = client.create_logged_model(
        experiment_id,
        name=re.sub(r"[/:.%\"']", "_", label),  # characters MLflow refuses in a model's name
        source_run_id=run_id,
        tags={**digests, "predictor": predictor},
        params={key(k): v[:250] for k, v in flat(params)},
        model_type="workbench predictor",
    )
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        for file, data in files.items():
            Path(folder, file).write_bytes(data)
        _describe(Path(folder), model, run_id, digests, pairs)
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return str(model.model_id)


def _describe(folder: Path, model: Any, run_id: str, digests: Mapping[str, str], pairs: pl.DataFrame) -> None:
    """Write MLmodel, input example and requirements: for people and MLflow's page; our loader reads none of them."""
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    example = pairs.select(pl.col("subject", "treatment").cast(pl.String)).head(5)
    (folder / "input_example.json").write_text(json.dumps({"columns": example.columns, "data": example.rows()}))
    pins = [f"{name}=={v}" for name in ("numpy", "polars", "safetensors") if (v := process.installed(name))]
    (folder / "requirements.txt").write_text("\n".join(["translational-workbench", *pins]) + "\n")
    described = Model(
        artifact_path=model.artifact_location,
        run_id=run_id,
        model_uuid=model.model_id,
        model_id=model.model_id,
        signature=ModelSignature(
            inputs=Schema([ColSpec("string", "subject"), ColSpec("string", "treatment")]),
            outputs=Schema([ColSpec("double", "predicted"), ColSpec("double", "low"), ColSpec("double", "high")]),
        ),
        saved_input_example_info={
            "artifact_path": "input_example.json",
            "type": "dataframe",
            "pandas_orient": "split",
        },
    )
    described.add_flavor("workbench", config=CONFIG, arrays=ARRAYS, **digests)
    described.save(str(folder / "MLmodel"))


def load(model_id: str) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    """Predictor name, config and arrays of a stored model, its files checked against their digests first.

    Raises
    ------
    RunError
        The model was not finished, a file is gone, or its bytes are not those that were stored.
    """
    from safetensors.numpy import load as unpack

    model = store.client().get_logged_model(model_id)
    if str(model.status) != "READY":
        raise RunError(f"model {model_id} is {model.status}, expected READY: its run stopped while storing it.")
    data = {
        file: checked(model.artifact_location, file, model.tags.get(f"sha256.{file}"), f"model {model_id}")
        for file in (CONFIG, ARRAYS)
    }
    told = json.loads(data[CONFIG])
    return told["predictor"], told["config"], unpack(data[ARRAYS])


def checked(root: str, path: str, expected: str | None, owner: str) -> bytes:
    """The bytes of file ``path`` under the artifact address ``root`` when their SHA-256 is the expected one.

    Raises
    ------
    RunError
        The file is gone, or has another digest.
    """
    from mlflow.exceptions import MlflowException

    try:
        data = _bytes(root, path)
    except (OSError, MlflowException) as error:
        why = f"{path} was stored but cannot be read ({error}). Was its folder moved or cleaned?"
        raise RunError(f"{owner}: {why}") from error
    if (found := sha256(data)) != expected:
        raise RunError(
            f"{owner}: {path} has SHA-256 {found[:12]}..., expected {(expected or 'none')[:12]}...: the file was "
            "changed or damaged after it was stored, and was not opened. Restore it from a copy or run again."
        )
    return data


def _bytes(root: str, path: str) -> bytes:
    address = urlparse(root)
    if address.scheme == "file":  # read in place: MLflow's client would leave a copy in the temp folder
        return Path(unquote(address.path), path).read_bytes()
    if not address.scheme:
        return Path(root, path).read_bytes()
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        place = download_artifacts(f"{root}/{path}", dst_path=folder, tracking_uri=store.client().tracking_uri)
        return Path(place).read_bytes()
