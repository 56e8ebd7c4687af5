"""The README is true: its tree is the tree, its commands exist, its code runs."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8") if README.is_file() else ""
BLOCKS = re.findall(r"^```([a-z]*)[^\n]*\n(.*?)^```", TEXT, re.M | re.S)
PYTHON = [body for language, body in BLOCKS if language == "python"]
SHELL = [body for language, body in BLOCKS if language in ("bash", "sh", "shell", "console")]
pytestmark = pytest.mark.skipif(not TEXT, reason="README.md does not exist yet")


# --- the tree --------------------------------------------------------------------------------------------------------


def tree(text: str) -> dict[str, str]:
    """Path -> phrase, of a drawn tree: one entry a line, folders end in ``/``, a phrase after two blanks or a ``#``."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        plain = re.sub(r"[│├└─|]", " ", line)
        if not plain.strip():
            continue
        entry, _, phrase = plain.strip().partition(" ")
        depth = len(plain) - len(plain.lstrip())
        above = [(d, p) for d, p in above if d < depth]
        path = "".join(p for _, p in above) + entry
        found[path] = phrase.strip(" #")
        if entry.endswith("/"):
            above.append((depth, entry))
    return found


def the_tree() -> dict[str, str]:
    drawn = [tree(body) for _, body in BLOCKS if re.search(r"^[│├└─ ]*workbench/\s", body, re.M)]
    assert drawn, "README.md has no file tree: a fenced block with the line 'workbench/  ...'"
    return {path: phrase for part in drawn for path, phrase in part.items()}


def tracked() -> list[str]:
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()
    return [name for name in listed if (ROOT / name).is_file()]


def test_a_drawn_tree_is_read() -> None:
    drawn = "house/          the roof\n├── door.py     opens\n│   \n└── cellar/     deep\n    └── wine.py  # red\n"
    assert tree(drawn) == {
        "house/": "the roof", "house/door.py": "opens", "house/cellar/": "deep", "house/cellar/wine.py": "red",
    }  # fmt: skip
    assert list(tree("a/  x\n  b.py  y\nc.md  z\n")) == ["a/", "a/b.py", "c.md"]


def test_each_listed_path_exists_and_has_a_phrase() -> None:
    listed = the_tree()
    assert [path for path in listed if not (ROOT / path).exists()] == []
    assert [path for path in listed if path.endswith("/") != (ROOT / path).is_dir()] == []
    assert [path for path, phrase in listed.items() if len(phrase) < 3] == []


def test_each_file_of_the_two_packages_is_listed() -> None:
    real = [f for f in tracked() if re.match(r"(workbench|widgets)/.*\.(py|js)$", f) and not f.endswith("__init__.py")]
    assert [f for f in real if f not in the_tree()] == []


def test_the_top_level_is_listed() -> None:
    top = {(name.split("/")[0] + "/") if "/" in name else name for name in tracked()}
    assert {name for name in top if not name.startswith(".")} - set(the_tree()) == set()


# --- commands --------------------------------------------------------------------------------------------------------


def commands() -> list[str]:
    lines = [line.strip().removeprefix("$ ") for body in SHELL for line in body.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"(?<!`)`((?:make|workbench) [^`\n]+)`(?!`)", TEXT)
    return [line.split("  #")[0].strip() for line in [*lines, *inline] if line and not line.startswith("#")]


def test_each_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    asked = {w for c in commands() if c.startswith("make ") for w in shlex.split(c)[1:] if re.fullmatch(r"[a-z]+", w)}
    assert {"demo", "test"} <= asked, "the README shows the two commands"
    assert asked - targets == set()


def usage(words: list[str]) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name("workbench")
    return subprocess.run([str(script), *words, "--help"], capture_output=True, text=True, check=False)


def test_each_verb_exists_and_knows_its_options() -> None:
    asked = [shlex.split(re.sub(r"[<>|]", " ", c)) for c in commands() if re.match(r"(\.venv/bin/)?workbench [a-z]", c)]
    for words in asked:
        place = [w for w in words[1:3] if re.fullmatch(r"[a-z]+", w)]
        shown = usage(place)
        if shown.returncode and len(place) == 2:  # the second word was a name, not a verb
            shown = usage(place[:1])
        assert shown.returncode == 0, f"{' '.join(words)}: {shown.stderr}"
        unknown = [w for w in words if w.startswith("--") and w.split("=")[0] not in shown.stdout]
        assert unknown == [], f"{' '.join(words)}: {unknown} not in its --help"


def test_each_path_named_in_a_command_or_link_exists() -> None:
    named = {
        w for c in commands() for w in shlex.split(c) if re.fullmatch(r"(experiments|notebooks|tests|\.ci)/[^<>*]+", w)
    }
    named |= {t for t in re.findall(r"\]\(([^)#\s]+)", TEXT) if not re.match(r"[a-z]+:", t)}
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


# --- code ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", PYTHON, ids=[f"block{i}" for i in range(len(PYTHON))])
def test_what_a_block_imports_is_there(code: str) -> None:
    lines = [ast.unparse(n) for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Import | ast.ImportFrom)]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.index
def test_the_blocks_run_in_order(tmp_path: Path) -> None:
    """In one interpreter, on the study and run that ``make demo`` left in this checkout."""
    home = Path(os.environ.get("README_HOME") or ROOT / ".workbench")
    if not any((home / "studies").glob("*/manifest.json")):
        pytest.skip("the README's code needs the demo's study: make demo")
    script = tmp_path / "readme.py"
    script.write_text("\n\n".join(PYTHON), encoding="utf-8")
    environment = {**os.environ, "WORKBENCH_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
