"""Cell-line names: the same line under several spellings, different lines under almost one."""

from __future__ import annotations

from workbench import cell_lines


def test_line_names_meet_without_case_and_punctuation():
    lines = cell_lines.LineNames(["CAL-120", "NCI-H2869", "Hep G2"], ["CAL120", "H2869", "HEPG2"])
    assert [lines.match(n) for n in ("CAL-120", "Cal 120", "NCI-H2869", "H2869", "Hep-G2")] == [
        "cal120",
        "cal120",
        "h2869",
        "h2869",
        "hepg2",
    ]
    assert lines.ambiguous == set()


def test_line_names_that_cannot_be_told_apart_are_not_matched():
    lines = cell_lines.LineNames(["TT", "T-T", "KM-H2", "A549"], ["KM-H2", "KMH-2"], ["TT", "KMH2"])
    assert lines.ambiguous == {"tt", "kmh2"}
    assert [lines.match(n) for n in ("TT", "T-T", "tt", "KMH2", "NCI-TT", "A549")] == [None] * 4 + ["ncitt", "a549"]


def test_the_prefix_counts_where_one_list_has_both():
    lines = cell_lines.LineNames(["NCI-H9", "H9", "NCI-H10"], ["NCIH9", "H10"])
    assert [lines.match(n) for n in ("NCI-H9", "H9", "NCI-H10", "H10", "NCI")] == ["ncih9", "h9", "h10", "h10", "nci"]
