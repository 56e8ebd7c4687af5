"""Controlled terms: the source is kept, spellings of the same thing meet, and nothing is guessed."""

from __future__ import annotations

import re

import pytest

from workbench import terms


@pytest.mark.parametrize(
    ("kind", "source", "term", "code", "concept"),
    [
        ("sex", "M", "M", "C20197", 8507),
        ("sex", " female", "F", "C16576", 8532),
        ("species", "Rats", "RAT", None, None),
        ("species", "dog", "DOG", "C14201", None),
        ("specimen", "Liver", "LIVER", "C12392", None),
        ("specimen", "adrenal gland", "GLAND, ADRENAL", "C12666", None),
        ("specimen", "GLAND,  ADRENAL", "GLAND, ADRENAL", "C12666", None),
        ("route", "oral gavage", "ORAL GAVAGE", "C78374", None),
        ("route", "i.v.", "INTRAVENOUS", None, 4171047),
        ("severity", "1 of 5", "1 OF 5", "C147501", None),
        ("finding", "Haemorrhage", "HEMORRHAGE", None, None),
    ],
)
def test_a_term_is_found(kind: str, source: str, term: str, code: str | None, concept: int | None) -> None:
    found = terms.find(kind, source)
    assert (found.source, found.term, found.code, found.concept, found.hint) == (source, term, code, concept, None)


@pytest.mark.parametrize(
    ("kind", "source", "hint"),
    [
        ("specimen", "Livr", "LIVER"),
        ("specimen", "left kidney", None),
        ("severity", "2 Slight", None),
        ("severity", "SEVER", "SEVERE"),
        ("finding", "Inflammation chronic", "INFLAMMATION"),
        ("species", "unicorn", None),
        ("sex", "", None),
        ("sex", "X", None),
    ],
)
def test_what_is_not_known_is_not_mapped_and_at_most_hinted_at(kind: str, source: str, hint: str | None) -> None:
    found = terms.find(kind, source)
    assert (found.term, found.code, found.hint) == (None, None, hint)
    assert terms.standard(kind, source) == source


def test_grades():
    given = ["MINIMAL", "mild", "MODERATE", "Marked", "SEVERE", "3 OF 5", "2 Slight", "4 OF 4", ""]
    assert [terms.grade(g) for g in given] == [1, 2, 3, 4, 5, 3, None, None, None]


def test_what_says_that_nothing_was_found():
    assert [terms.is_normal(r) for r in ("NORMAL", "Unremarkable", "No visible lesions", "abnormal", "")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_every_code_is_one_and_every_synonym_leads_to_a_term():
    assert all(re.fullmatch(r"C\d+", c) for kind in terms.TERMS.values() for c in kind.values() if c)
    for kind, synonyms in terms.SYNONYMS.items():
        assert set(synonyms.values()) <= set(terms.TERMS[kind])
        assert not set(synonyms) & set(terms.TERMS[kind])
    assert len({c for c in terms.TERMS["specimen"].values() if c}) == sum(
        1 for c in terms.TERMS["specimen"].values() if c
    )


def test_the_table_lists_each_source_term_once_with_its_count():
    frame = terms.table({"sex": ["M", "M", "F", "", None], "specimen": ["LIVER", "Liverr"]})
    assert frame.select("kind", "source", "term", "hint", "n").rows() == [
        ("sex", "F", "F", None, 1), ("sex", "M", "M", None, 2),
        ("specimen", "LIVER", "LIVER", None, 1), ("specimen", "Liverr", None, "LIVER", 1),
    ]  # fmt: skip
    assert terms.table({}).height == 0


def test_an_unknown_list_is_refused():
    with pytest.raises(KeyError, match="There are: species"):
        terms.find("colour", "red")
