"""Panel pages: one file is one URL. ``workbench pages`` serves every file of this folder on this machine alone."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def command(port: int, prefix: str = "", origins: list[str] | None = None) -> list[str]:
    """The command line that serves all pages on 127.0.0.1.

    Parameters
    ----------
    port
        TCP port; 0 lets the system choose (then name the origins).
    prefix
        Path under which a proxy shows the pages, such as ``/user/ada/panel``; the proxy's port is not known here, so
        any port of this machine may then open the websocket. Without a prefix only ``port`` may.
    origins
        ``host:port`` that browsers come from, in place of these.
    """
    pages = sorted(str(p) for p in HERE.glob("*.py") if not p.stem.startswith("_"))
    allowed = origins or [f"{host}:{'*' if prefix or not port else port}" for host in ("127.0.0.1", "localhost")]
    found = [sys.executable, "-m", "panel", "serve", *pages, "--address", "127.0.0.1", "--port", str(port)]
    for origin in allowed:
        found += ["--allow-websocket-origin", origin]
    if prefix:
        found += ["--prefix", prefix, "--use-xheaders"]
    return found


def main(argv: list[str]) -> int:
    """``workbench pages``: serve the pages until interrupted; exit status 0, 1 (the server failed) or 2 (bad usage)."""
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
    if not 0 <= given.port < 65536:
        sys.stderr.write(f"workbench pages: --port {given.port} is not a port; give 1024 to 65535.\n")
        return 2
    line = command(given.port, given.prefix, given.origin) + (["--show"] if given.show else [])
    sys.stderr.write(f"pages: http://127.0.0.1:{given.port}{given.prefix.rstrip('/')}/response (Ctrl-C ends)\n")
    server = subprocess.Popen(line)
    try:
        return 0 if server.wait() == 0 else 1
    except KeyboardInterrupt:
        server.terminate()
        server.wait(10)
        return 0
