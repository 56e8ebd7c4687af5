"""Panel pages: one file is one URL. ``workbench pages`` serves every file of this folder on this machine alone."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def command(port: int, prefix: str = "", origins: list[str] | None = None) -> list[str]:
    """The command line that serves all pages on 127.0.0.1: for a launcher, such as JupyterLab's proxy.

    Parameters
    ----------
    port
        TCP port.
    prefix
        Path under which a proxy shows the pages, such as ``/user/ada/panel``.
    origins
        ``host:port`` that browsers come from, when it is not this machine's port.
    """
    line = [sys.executable, "-m", "widgets.dashboards", "--port", str(port), *(["--prefix", prefix] if prefix else [])]
    return line + [word for origin in origins or [] for word in ("--origin", origin)]


def pages() -> list[Path]:
    """The file of every page, by name; ``study.py`` is shown at ``/study``."""
    return sorted(p for p in HERE.glob("*.py") if not p.stem.startswith("_"))


def begin() -> None:
    """What every served page begins with: it says so when its server is gone, instead of doing nothing."""
    import panel as pn

    gone = "The connection to the server is gone. Once it runs again, reload this page."
    pn.extension(notifications=True, disconnect_notification=gone)


def serving(port: int, prefix: str = "", origins: list[str] | None = None) -> tuple[list[str], dict[str, str]]:
    """Panel's command line, and the environment that says who may open its websocket.

    ``origins`` are ``host:port`` that browsers come from. By default that is ``port`` on this machine; under a prefix
    any port of this machine, since the page comes from a proxy whose port is not known here. A foreign page that
    guesses the address comes from elsewhere and is refused. ``BOKEH_ALLOW_WS_ORIGIN`` set outside goes before the
    defaults: a hub under its own name needs it.
    """
    line = [sys.executable, "-m", "panel", "serve", *map(str, pages()), "--address", "127.0.0.1", "--port", str(port)]
    line += ["--index", str(HERE / "index.html")]  # Panel's own asks another host for a logo
    if prefix.strip("/"):
        line += ["--prefix", "/" + prefix.strip("/"), "--use-xheaders"]
    known = os.environ.get("BOKEH_ALLOW_WS_ORIGIN")
    home = [f"{host}:{'*' if prefix else port}" for host in ("127.0.0.1", "localhost")]
    return line, {**os.environ, "BOKEH_ALLOW_WS_ORIGIN": ",".join(origins or ([known] if known else home))}


def main(argv: list[str]) -> int:
    """``workbench pages``: serve the pages until interrupted; exit status that of the server, or 2 (bad usage)."""
    parser = argparse.ArgumentParser(prog="workbench pages", description="Serve the Panel pages on this machine.")
    parser.add_argument("--port", type=int, default=5006, help="port on 127.0.0.1 (default: 5006)")
    parser.add_argument("--prefix", default="", help="path under which a proxy such as JupyterLab's shows the pages")
    parser.add_argument("--origin", action="append", metavar="HOST:PORT",
                        help="where browsers come from, if not this machine; may be repeated")  # fmt: skip
    parser.add_argument("--show", action="store_true", help="open a browser")
    try:
        given = parser.parse_args(argv)
    except SystemExit as e:
        return 2 if e.code else 0
    if not 0 < given.port < 65536:
        sys.stderr.write(f"workbench pages: --port {given.port} is not a port; give 1024 to 65535.\n")
        return 2
    line, environment = serving(given.port, given.prefix, given.origin)
    under = given.prefix.strip("/") and f"/{given.prefix.strip('/')}"
    addresses = [f"  http://127.0.0.1:{given.port}{under}/{page.stem}" for page in pages()]
    sys.stderr.write("\n".join(["Pages, on this machine only (Ctrl-C ends):", *addresses, ""]))
    sys.stderr.flush()
    # the server takes this process's place: what is sent to one is sent to the other, and nothing is left behind
    os.execve(line[0], [*line, *(["--show"] if given.show else [])], environment)
