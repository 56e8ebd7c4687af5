"""Settings that people write by hand: a TOML file read, or an error that says what is wrong with it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from workbench.text import nearest


def read(path: Path, error: type[Exception], kind: str = "file", hint: str = "") -> dict[str, Any]:
    """The table of the file ``path``; nothing in it is executed.

    Parameters
    ----------
    error : what to raise, in the words of who asked
    kind : how the file is called where it is missing ("policy file")
    hint : a sentence on how to get one, with a leading blank

    Raises
    ------
    error
        No such file (with the nearest name beside it), not readable, or not TOML.
    """
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.glob("*.toml")]) if path.parent.is_dir() else ""
        raise error(f"{path}: there is no such {kind}.{near}{hint}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as found:
        raise error(f"{path} can not be read: {found.strerror or found}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as found:
        raise error(f"{path} is not TOML: {found}.") from None
