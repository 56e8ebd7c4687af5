"""The data officer's page is true: its commands exist, each option is known, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from workbench.federated import command

PAGE = Path(__file__).resolve().parents[2] / "docs" / "federation.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every `workbench federate` of the page, in blocks and in the text."""
    inline = re.findall(r"`(workbench federate [^`\n]+)`", TEXT)
    return sorted({line.split("  #")[0].strip() for body in BLOCKS for line in body.splitlines() if line} | set(inline))


@pytest.mark.parametrize("line", commands())
def test_each_command_and_option_exists(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, verb, word, *rest = shlex.split(line)
    assert verb == "federate" and word in command.WORDS
    assert command.main([word, "--help"]) == 0
    shown = capsys.readouterr().out
    assert [w for w in rest if w.startswith("--") and not re.search(rf"{w}\b", shown)] == []


def test_the_page_shows_how_a_site_joins_and_verifies_its_book() -> None:
    said = " ".join(commands())
    assert all(w in said for w in ("--own", "--check", "--verify --head", "--purposes", "simulate", "attack", "value"))


def test_each_link_within_the_page_leads_to_a_heading() -> None:
    heads = {
        re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    }
    assert [link for link in re.findall(r"\]\(#([^)]+)\)", TEXT) if link not in heads] == []


def test_each_file_named_is_there() -> None:
    root = PAGE.parents[1]
    named = re.findall(r"`((?:workbench|experiments)/[\w/.]+)`", TEXT) + re.findall(r"experiments/\w+\.py", TEXT)
    assert named and [path for path in named if not (root / path).exists()] == []
