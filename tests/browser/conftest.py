"""A real chromium, pages that fail on any request to elsewhere, and servers that end with the tests.

``page``    a fresh browser context; the test fails if it asks anything but this machine, opens a dialog, or runs
            a script hidden in a name (``window.__pwned``)
``guard``   what was seen on that page: ``foreign``, ``dialogs``, ``errors`` (console and page errors)
``launch``  starts a server in its own process group, waits until it answers, and ends the group
``serve``   an app of ``tests/dashboards`` on Panel's server
``lab``     a JupyterLab; ``lab.show(page, cells)`` opens a notebook of these cells and runs them all

Set ``SCREENSHOTS=<folder>`` to keep the pictures that ``picture(page, name)`` takes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = {"127.0.0.1", "localhost", "::1"}
INLINE = {"data", "blob", "about", "file"}


def stays_here(url: str) -> bool:
    """Does this address mean this machine, or no machine at all?"""
    parts = urlsplit(url)
    return parts.scheme in INLINE or parts.hostname in HERE


@dataclass
class Guard:
    """What a page did that a test may want to judge."""

    foreign: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def watch(self, page: Any) -> None:
        def refuse(route: Any) -> None:
            if stays_here(route.request.url):
                route.continue_()
            else:
                route.abort()

        def asked(request: Any) -> None:
            if not stays_here(request.url):
                self.foreign.append(request.url)

        def socket_opened(opened: Any) -> None:
            if not stays_here(opened.url):
                self.foreign.append(opened.url)

        def dialog(shown: Any) -> None:
            # Lab asks before a page with a running kernel closes; that is not a script in a name.
            if shown.type != "beforeunload":
                self.dialogs.append(f"{shown.type}: {shown.message}")
            shown.dismiss()

        page.route("**/*", refuse)
        page.on("request", asked)
        page.on("websocket", socket_opened)
        page.on("dialog", dialog)
        page.on("pageerror", lambda error: self.errors.append(f"page: {error}"))
        page.on("console", lambda line: self.errors.append(f"console: {line.text}") if line.type == "error" else None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser, once for the session; skips where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        pytest.skip("no chromium on this machine: install Debian's chromium to run the browser tests")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def guard() -> Guard:
    return Guard()


@pytest.fixture
def page(chromium: Any, guard: Guard) -> Iterator[Any]:
    """A page of 1400 x 900 in a context of its own, judged when the test is over."""
    context = chromium.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(30_000)
    made = context.new_page()
    guard.watch(made)
    context.on("page", guard.watch)
    yield made
    pwned = any(p.evaluate("window.__pwned !== undefined") for p in context.pages if p.url != "about:blank")
    context.close()
    assert not guard.foreign, f"requests left this machine: {guard.foreign}"
    assert not guard.dialogs, f"dialogs opened: {guard.dialogs}"
    assert not pwned, "a script hidden in a name has run"


@pytest.fixture(scope="session")
def picture() -> Callable[[Any, str], None]:
    """Keeps a picture of a page or an element in ``$SCREENSHOTS``, if that is set."""

    def take(shown: Any, name: str) -> None:
        folder = os.environ.get("SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            shown.screenshot(path=str(Path(folder) / f"{name}.png"))

    return take


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status < 500)
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


@pytest.fixture(scope="session")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., None]]:
    """``launch(command, url, env=None, cwd=None, seconds=120)``: returns once ``url`` answers."""
    running: list[subprocess.Popen[bytes]] = []
    folder = tmp_path_factory.mktemp("servers")

    def start(
        command: list[str], url: str, env: dict[str, str] | None = None, cwd: Path | None = None, seconds: float = 120
    ) -> None:
        log = folder / f"{len(running)}.log"
        with log.open("wb") as out:
            server = subprocess.Popen(
                command,
                cwd=cwd or folder,
                env={**os.environ, **(env or {})},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        running.append(server)
        end = time.monotonic() + seconds
        while not answers(url):
            if server.poll() is not None or time.monotonic() > end:
                said = log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{command[:4]} did not answer at {url} within {seconds:.0f} s. It said:\n{said}")
            time.sleep(0.25)

    try:
        yield start
    finally:
        for server in running:
            end_group(server)


@pytest.fixture(scope="session")
def serve(chromium: Any, launch: Callable[..., None]) -> Callable[..., str]:
    """``serve(name, env=None)``: the address of ``tests/dashboards/<name>.py``, served by Panel on this machine."""

    def at(name: str, env: dict[str, str] | None = None) -> str:
        port = free_port()
        command = [
            *(sys.executable, "-m", "panel", "serve", str(ROOT / "tests" / "dashboards" / f"{name}.py")),
            *("--address", "127.0.0.1", "--port", str(port), "--allow-websocket-origin", f"127.0.0.1:{port}"),
        ]
        url = f"http://127.0.0.1:{port}/{name}"
        launch(command, url, env={"PYTHONPATH": str(ROOT), **(env or {})}, cwd=ROOT)
        return url

    return at


def end_group(server: subprocess.Popen[bytes]) -> None:
    """Ends a process and all it started: politely, then not."""
    for sign, patience in ((signal.SIGTERM, 8), (signal.SIGKILL, 8)):
        try:
            os.killpg(server.pid, sign)
            server.wait(patience)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
    # The leader may be gone while kernels of its group linger.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)


@dataclass
class Lab:
    """A running JupyterLab: its address, its token and the folder it shows."""

    url: str
    token: str
    root: Path

    def show(self, page: Any, cells: list[str], name: str = "notebook", dark: bool = False) -> None:
        """Writes a notebook of these code cells, opens it in Lab, and runs all of them."""
        import nbformat

        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(book, self.root / f"{name}.ipynb")
        page.goto(f"{self.url}/lab/workspaces/{name}/tree/{name}.ipynb?reset&token={self.token}")
        page.wait_for_function("window.jupyterapp !== undefined")
        page.locator(".jp-Notebook .jp-CodeCell").nth(len(cells) - 1).wait_for()
        self.do(page, "application:toggle-left-area")
        self.do(page, "apputils:change-theme", {"theme": "JupyterLab Dark" if dark else "JupyterLab Light"})
        page.wait_for_function(f"document.body.dataset.jpThemeLight === '{'false' if dark else 'true'}'")
        # the status bar says idle before the session is ready, and running then asks which kernel to use
        page.wait_for_function(
            "(c => c && c.isReady && c.session?.kernel?.status === 'idle')"
            "(window.jupyterapp.shell.currentWidget?.sessionContext)"
        )
        self.do(page, "notebook:run-all-cells")

    def do(self, page: Any, command: str, arguments: dict[str, Any] | None = None) -> None:
        """Gives Lab a command by its name, without waiting for the end of what it begins."""
        page.evaluate("([c, a]) => { window.jupyterapp.commands.execute(c, a); }", [command, arguments or {}])


@pytest.fixture(scope="session")
def lab(chromium: Any, launch: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A JupyterLab of this checkout with settings of its own, that asks nobody for news or updates."""
    folder = tmp_path_factory.mktemp("lab")
    root, config = folder / "root", folder / "config"
    root.mkdir()
    (config / "labconfig").mkdir(parents=True)
    (config / "labconfig" / "default_setting_overrides.json").write_text(
        json.dumps(
            {
                "@jupyterlab/apputils-extension:notification": {
                    "fetchNews": "false",
                    "checkForUpdates": False,
                    "doNotDisturbMode": True,
                },
                "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},  # all outputs exist at once
            }
        )
    )
    port, token = free_port(), "workbench-tests"
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"),
        *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"),
        *(f"--ServerApp.root_dir={root}", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url="),
        *("--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.extension_manager=readonly"),
        # should the tests be killed before they can end it, it ends by itself
        *("--ServerApp.shutdown_no_activity_timeout=900", "--MappingKernelManager.cull_idle_timeout=600"),
    ]
    env = {
        "JUPYTER_CONFIG_DIR": str(config),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPATH": str(ROOT),
    }
    url = f"http://127.0.0.1:{port}"
    launch(command, f"{url}/api", env=env, cwd=root)
    return Lab(url, token, root)
