"""House rules that a linter does not know: no room for odds and ends, short files, nothing unsafe, nothing local."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINES = 400
# What git would commit: tracked files, and new ones it does not ignore.
LISTED = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
).stdout.split("\n")
FILES = [ROOT / name for name in LISTED if name and (ROOT / name).is_file()] or [
    p for room in ("workbench", "widgets", "tests", "notebooks", "experiments") for p in (ROOT / room).rglob("*.*")
]
CODE = [f for f in FILES if f.suffix == ".py"]
LIBRARY = [f for f in FILES if f.relative_to(ROOT).parts[0] in ("workbench", "widgets")]
TOP = {
    "environment.yml", "README.md", "workbench", "notebooks", "widgets", "experiments", "tests", "pyproject.toml",
    "requirements.lock", "Makefile", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "docs",
}  # fmt: skip


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def words(path: Path) -> str:
    """Text of a file; empty for a binary one."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def test_the_top_level_holds_what_the_house_names_and_nothing_else() -> None:
    top = {f.relative_to(ROOT).parts[0] for f in FILES}
    assert {name for name in top if not name.startswith(".")} - TOP == set()


@pytest.mark.parametrize("path", LIBRARY, ids=named)
def test_a_file_has_a_room_and_is_short(path: Path) -> None:
    banned = {"utils", "util", "common", "core", "helpers", "helper", "base", "misc"}
    parts = {part.lstrip("_") for part in path.relative_to(ROOT).with_suffix("").parts}
    assert not parts & banned, f"{named(path)}: there is no room of that name; say what the file does"
    if path.suffix in (".py", ".js", ".css"):
        lines = words(path).count("\n")
        assert lines <= LINES, f"{named(path)} has {lines} lines, at most {LINES}: split it by what it does"


@pytest.mark.parametrize("path", [f for f in CODE if f in LIBRARY], ids=named)
def test_a_module_says_what_it_is(path: Path) -> None:
    text = words(path)
    if text.strip():
        assert (ast.get_docstring(ast.parse(text)) or "").strip(), f"{named(path)} has no docstring"


def test_every_room_is_a_package() -> None:
    folders = {f.parent for f in CODE if f in LIBRARY}
    assert [named(f) for f in sorted(folders) if not (f / "__init__.py").is_file()] == []


def local_paths(text: str) -> list[str]:
    """Absolute paths of somebody's machine in ``text``."""
    homes = "|".join(("work", "root", "home/[a-z]+", "Users/[A-Za-z]+", "opt/[a-z]+", "tmp/[a-z]+"))
    return [found.group() for found in re.finditer(rf"(?<![\w./:}}\])*-])/(?:{homes})(?:/|\b)(?![^\s]*://)", text)]


def test_a_planted_machine_path_is_found_and_a_clean_line_is_left_alone() -> None:
    planted = "/" + "root/data.csv"
    assert local_paths(f'open("{planted}")') == ["/" + "root/"]
    inner = "/".join(("a", "work", "b"))  # a folder of that name inside a path is nobody's machine
    assert local_paths(f"shared/data, .workbench/studies, https://example.org/root/x, {inner}, {{base}}/work") == []


def test_nothing_mentions_a_machine() -> None:
    found = {named(f): paths for f in FILES if (paths := local_paths(words(f)))}
    assert found == {}


def test_nothing_is_left_to_do() -> None:
    marks = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
    found = {
        named(f): marks.findall(words(f)) for f in FILES if f.suffix in (".py", ".js", ".md", ".toml", ".ipynb", ".yml")
    }
    assert {name: marks for name, marks in found.items() if marks} == {}


# --- nothing that runs what it reads ---------------------------------------------------------------------------------

UNPICKLER = "workbench/formats/torch_dict.py"  # allows three named functions, and its own tests say so


def unsafe(source: str) -> list[str]:
    """Calls in Python ``source`` that would execute what a file says: unpickling in any dress, eval, exec."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
        loads = re.fullmatch(
            r"(c?pickle|_?pickle|cloudpickle|dill|joblib|marshal|shelve)\.(load|loads|open|Unpickler)", name
        )
        if loads or name.split(".")[-1] in ("read_pickle", "eval_str") or name in ("eval", "exec", "os.system"):
            found.append(name)
        elif name == "torch.load" and options.get("weights_only") is not True:
            found.append("torch.load without weights_only=True")
        elif options.get("weights_only") is False or options.get("allow_pickle") is True:
            found.append(f"{name} with pickles allowed")
        elif options.get("shell") is True:
            found.append(f"{name} through a shell")
        elif name == "yaml.load":
            found.append(name)
    return found


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(f)", "joblib.load(path)", "pd.read_pickle(path)", "torch.load(path)", "eval(text)",
        "np.load(p, allow_pickle=True)", "torch.load(p, weights_only=False)", "trainer.test(weights_only=False)",
        "subprocess.run(c, shell=True)",
    ],
)  # fmt: skip
def test_a_planted_unsafe_call_is_found(line: str) -> None:
    assert len(unsafe(line)) == 1


def test_safe_calls_are_left_alone() -> None:
    source = "torch.load(f, weights_only=True); np.load(p); json.load(f); model.eval(); np.load(p, allow_pickle=False)"
    assert unsafe(source) == []


@pytest.mark.parametrize("path", [f for f in CODE if f in LIBRARY], ids=named)
def test_no_file_runs_what_it_reads(path: Path) -> None:
    found = unsafe(words(path))
    if named(path) == UNPICKLER:
        found = [call for call in found if call != "pickle.Unpickler"]
    assert found == []
