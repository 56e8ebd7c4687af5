"""A site's policy: read strictly, kept by every step on the way out, and refusals name no row."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench import rooms
from workbench.federated import policy, sharing
from workbench.federated.asked import Answer, counts
from workbench.federated.gate import outgoing as gate
from workbench.federated.gate.ledger import Ledger
from workbench.federated.gate.outgoing import Door, Persons
from workbench.federated.messages import Ask
from workbench.federated.policy import Policy, PolicyError, PolicyFileError
from workbench.federated.site import Site
from workbench.splits import Split

pytestmark = pytest.mark.shared_home


@pytest.fixture(scope="module")
def made() -> Site:
    fold = Split.make(toy.write(), "unseen subject", endpoint="ln_ic50").fold(0)
    return Site("site 1", sharing.local(fold, sharing.at_random(fold, 2)["site 1"]))


@pytest.fixture
def site(made: Site) -> Site:
    return replace(made, memory={})


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_that_says_only_what_is_allowed_is_strict(tmp_path: Path) -> None:
    found = policy.read(write(tmp_path, 'allowed = ["schema"]'))
    assert found.allowed == ("schema",) and found.secure and not found.alone
    assert (found.minimum_rows, found.minimum_subjects, found.minimum_cell) == (20, 10, 5)
    assert not Policy().secure  # a simulation's


def test_everything_a_file_may_say_is_read(tmp_path: Path) -> None:
    text = """
    allowed = ["counts", "schema"]
    minimum_rows = 30
    minimum_subjects = 12
    minimum_cell = 6
    most_bytes_a_round = 1000
    most_bytes_a_day = 2000
    most_rounds_a_run = 7
    most_rounds_a_day = 9
    axes_per_subject = 0.5
    secure = false
    alone = true
    """
    found = policy.read(write(tmp_path, text))
    assert found == Policy(("counts", "schema"), 30, 6, 12, 1000, 2000, 7, 9, 0.5, False, True)
    said = re.findall(r"^ +(\w+) = ", policy.__doc__ or "", re.MULTILINE)
    assert {f.name for f in fields(Policy)} == set(said), "the example at the top names every key"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("minimum_rows = 5", "allowed is missing.*counts"),
        ('allowed = ["counts"]\nminimum_row = 5', "unknown key 'minimum_row'. Did you mean 'minimum_rows'"),
        ('allowed = ["count"]', "'count', which nobody can ask. Did you mean 'counts'"),
        ('allowed = "counts"', "allowed should be a list of names"),
        ("allowed = [3]", "allowed should be a list of names"),
        ('allowed = ["*"]\nminimum_rows = "20"', "minimum_rows should be a whole number, found '20'"),
        ('allowed = ["*"]\nminimum_rows = 20.0', "minimum_rows should be a whole number"),
        ('allowed = ["*"]\nminimum_rows = true', "minimum_rows should be a whole number"),
        ('allowed = ["*"]\nminimum_cell = 0', "minimum_cell should be at least 1, found 0"),
        ('allowed = ["*"]\naxes_per_subject = -1', "axes_per_subject should be a number, at least 0"),
        ('allowed = ["*"]\nsecure = 1', "secure should be true or false, found 1"),
        ("allowed = [", "is not TOML"),
        ('allowed = ["*"]\nepsilon = 0', "epsilon = 0 would set no bound at all"),
        ('allowed = ["*"]\nepsilon = nan', "epsilon should be a number, at least 0"),
        ('allowed = ["*"]\nepsilon = 1.0\ndelta = 1.0', "delta should be above 0 and below 1"),
    ],
)
def test_what_a_file_may_not_say_is_an_error_with_the_nearest_name(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(PolicyFileError, match=says):
        policy.read(write(tmp_path, text))


MASKS = ["secure_keys", "secure_masked", "secure_shares", "secure_survivors", "secure_unmask"]


@pytest.mark.parametrize(
    ("allowed", "secure", "lacks"),
    [
        (["counts"], "", MASKS),  # secure is what is meant where nothing is said
        (["counts", *MASKS[:4]], "secure = true", MASKS[4:]),
        (["counts", *MASKS], "secure = true", []),
        (["counts"], "secure = false", []),
        (["*"], "", []),
        (["schema", "hello"], "", []),  # nothing of it is a sum
    ],
)
def test_sums_that_nothing_could_mask_are_an_error_when_the_policy_is_read(
    tmp_path: Path, allowed: list[str], secure: str, lacks: list[str]
) -> None:
    path = write(tmp_path, f"allowed = {allowed}\n{secure}".replace("'", '"'))
    if not lacks:
        assert policy.read(path).allowed == tuple(allowed)
        return
    with pytest.raises(PolicyFileError, match=r"add (.*) to allowed, or write secure = false") as error:
        policy.read(path)
    assert re.findall(r"'(secure_\w+)'", str(error.value)) == lacks
    with pytest.raises(PolicyFileError, match="what masks them is not allowed"):
        policy.of({"allowed": allowed, "secure": True})


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, 'allowed = ["*"]')
    with pytest.raises(PolicyFileError, match=r"no such policy file. Did you mean 'policy.toml'"):
        policy.read(tmp_path / "polciy.toml")


def test_purposes_and_rows_are_checked_before_anything_is_computed(site: Site) -> None:
    site.policy = Policy(allowed=("schema",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "answer", lambda site, ask: pytest.fail("computed"))
        assert "not among what this site answers" in str(site.answer(Ask("counts")).refused)
        site.policy = Policy(minimum_rows=10_000)
        assert "must rest on 10000 training rows" in str(site.answer(Ask("counts")).refused)


# --- persons ---------------------------------------------------------------------------------------------------------


def behind(site: Site, drop: Callable[[int, str], bool]) -> np.ndarray:
    """Numbers of the training rows, less those of subjects for which ``drop(number, name)``."""
    keep = [s for i, s in enumerate(site.subjects) if not drop(i, s)]
    return site.fold.train.filter(site.fold.train["subject"].is_in(keep))["row"].to_numpy()


def answer(rows: np.ndarray | None = None, **named: object) -> Answer:
    return Answer(100, {"rows": np.array([1.5])}, behind=rows, **named)  # type: ignore[arg-type]


def test_rows_are_many_and_persons_few(site: Site) -> None:
    """Three lines have 36 rows: enough rows, too few persons."""
    site.policy = Policy(minimum_rows=20, minimum_subjects=4)
    few = behind(site, lambda i, _: i >= 3)
    assert len(few) > 20
    with pytest.raises(PolicyError, match="4 persons; this one has fewer"):
        Persons()(site, Ask("counts"), answer(few))
    assert Persons()(site, Ask("counts"), answer(behind(site, lambda i, _: i >= 4)))


def test_two_answers_that_differ_in_a_few_persons_do_not_both_leave(site: Site) -> None:
    everybody, step = answer(), Persons()
    step(site, Ask("counts"), everybody)
    for n in (1, 4):
        with pytest.raises(PolicyError, match="fewer than 5 persons") as refused:
            step(site, Ask("counts"), answer(behind(site, lambda i, _, n=n: i < n)))
        assert not re.search(r"subject \d", str(refused.value))
    step(site, Ask("counts"), answer(behind(site, lambda i, _: i < 5)))  # five persons: allowed
    step(site, Ask("counts"), everybody)  # the same again tells nothing new
    with pytest.raises(PolicyError):  # one more than the set before
        step(site, Ask("counts"), answer(behind(site, lambda i, _: i < 6)))


def test_one_persons_rows_are_one_person_however_many(site: Site) -> None:
    """Ten rows fewer, all of one line: the difference would tell that line's values."""
    first = site.subjects[0]
    rows = site.fold.train["row"].to_numpy()
    part = site.fold.train.filter(site.fold.train["subject"] == first)["row"].to_numpy()[:10]
    assert len(part) == 10 > site.policy.minimum_cell
    step = Persons()
    step(site, Ask("counts"), answer())
    with pytest.raises(PolicyError, match="fewer than 5 persons"):
        step(site, Ask("counts"), answer(np.setdiff1d(rows, part)))
    one_each = site.fold.train.group_by("subject").first()["row"].to_numpy()  # one row of everybody less: 20 persons
    assert step(site, Ask("counts"), answer(np.setdiff1d(rows, one_each)))


def test_other_quantities_and_counts_are_not_subtracted_from_each_other(site: Site) -> None:
    step, less = Persons(), behind(site, lambda i, _: i < 1)
    step(site, Ask("counts"), answer())
    assert step(site, Ask("counts"), answer(less, quantity="copy_number"))
    assert step(site, Ask("counts"), Answer(100, {"rows": np.array([7])}, behind=less))


def test_what_was_answered_is_remembered_over_a_restart_without_names(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "answered.jsonl"
    Persons(path)(site, Ask("counts"), answer())
    with path.open("ab") as stream:
        stream.write(b'{"of": "torn by a ki')
    step = Persons(path)
    with pytest.raises(PolicyError, match="fewer than 5 persons"):
        step(site, Ask("counts"), answer(behind(site, lambda i, _: i < 2)))
    step(site, Ask("counts"), answer(behind(site, lambda i, _: i < 9)))
    with pytest.raises(PolicyError):
        Persons(path)(site, Ask("counts"), answer(behind(site, lambda i, _: i < 10)))
    assert b"subject" not in path.read_bytes()


def test_a_patients_lines_count_once(site: Site) -> None:
    import polars as pl

    two = site.fold.train.with_columns(person=pl.col("subject").str.slice(0, 9))  # "subject 1", "subject 2", ...
    patients = two["person"].n_unique()
    assert patients < len(site.subjects)
    site.fold = replace(site.fold, train=two)
    site.policy = Policy(minimum_subjects=patients + 1)
    with pytest.raises(PolicyError, match="this one has fewer"):
        Persons()(site, Ask("counts"), answer())
    site.policy = Policy(minimum_subjects=patients)
    assert Persons()(site, Ask("counts"), answer())


# --- the door --------------------------------------------------------------------------------------------------------


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(Ledger(tmp_path / "ledger.jsonl"))


def leave(site: Site, door: Door, ask: Ask, made: Answer) -> None:
    door.book(site, ask, door(site, ask, made))


@pytest.mark.parametrize(
    ("array", "goes"),
    [
        (np.array([0, 5, 12]), True),
        (np.array([0, 4, 12]), False),
        (np.array([[7, 0], [1, 9]], dtype=np.uint8), False),
        (np.array([6.0, 3.0]), False),  # counts as floats
        (np.array([6.0, 3.5]), True),  # sums
        (np.array([[3.0, 2.0], [2.0, 3.0]]), True),  # a Gram matrix: its entries are no counts of persons
        (np.array([-3.0, 2.0]), True),
    ],
)
def test_small_counts_stay_unless_nobody_is_told_them(site: Site, door: Door, array: np.ndarray, goes: bool) -> None:
    made = Answer(100, {"by_treatment": array})
    if goes:
        assert door(site, Ask("counts"), made) is made
    else:
        with pytest.raises(PolicyError, match="a count below 5"):
            door(site, Ask("counts"), made)
    assert door(site, Ask("counts"), replace(made, masked=True))


def test_counts_of_few_subjects_are_told_nowhere(made: Site, tmp_path: Path) -> None:
    """Not in the clear, where the door looks, and not under masks, where it no longer can; nor in the schema."""
    few = made.subjects[:3]
    fold = replace(made.fold, train=made.fold.train.filter(pl.col("subject").is_in(few)))
    rules = Policy(minimum_rows=5, minimum_subjects=1, minimum_cell=5)
    site = replace(made, fold=fold, policy=rules, outgoing=gate.steps(tmp_path), memory={})
    assert 3 < 5 <= fold.train.height
    ask = Ask("counts", values={"treatments": toy.TREATMENTS})
    for arrays in (site.made(ask, leaves=False).arrays, site.answer(ask).arrays):
        assert arrays["subjects"].tolist() == [0] and arrays["rows"].tolist() == [fold.train.height]
    assert "fewer than 5 subjects" in str(site.answer(Ask("schema")).refused)
    open_ = replace(site, policy=replace(rules, minimum_cell=3), outgoing=(), memory={})
    assert open_.answer(ask).arrays["subjects"].tolist() == [3]
    assert open_.answer(Ask("schema")).arrays["subjects"].tolist() == [3]


def test_sums_leave_masked_only_where_the_policy_says_so(site: Site, door: Door) -> None:
    site.policy = Policy(secure=True)
    with pytest.raises(PolicyError, match="only as a part of a secure sum"):
        door(site, Ask("counts"), answer())
    assert door(site, Ask("counts"), answer(masked=True))


def test_numbers_of_this_very_site_stay_where_the_policy_says_so(site: Site, door: Door) -> None:
    site.policy = Policy(alone=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "LEAVES", replace(counts.LEAVES, summed=False))
        with pytest.raises(PolicyError, match="this site's own numbers"):
            door(site, Ask("counts"), answer())
        assert door(site, Ask("counts"), Answer(100, {"rows": np.array([100])}))  # a description has no decimals
    assert door(site, Ask("counts"), answer())  # a sum is no matter of this rule


def test_bytes_are_limited_by_round_and_by_day(site: Site, door: Door) -> None:
    site.policy = Policy(most_bytes_a_round=1000, most_bytes_a_day=2500)
    big = Answer(100, {"rows": np.full(100, 8.5)})  # 800 bytes
    leave(site, door, Ask("counts", 0), big)
    with pytest.raises(PolicyError, match="1000 bytes a round"):
        door(site, Ask("counts", 0), big)
    leave(site, door, Ask("counts", 1), big)
    door = Door(Ledger(door.book.path))  # a restart forgets nothing
    with pytest.raises(PolicyError, match="2500 bytes a day"):
        leave(site, door, Ask("counts", 2), replace(big, arrays={"rows": np.full(120, 8.5)}))
    with pytest.raises(PolicyError, match="1000 bytes a round"):
        door(site, Ask("counts", 1), big)


def test_rounds_are_limited_by_run_and_by_day_even_when_counted_anew(site: Site, door: Door) -> None:
    site.policy = Policy(most_rounds_a_run=3, most_rounds_a_day=4)
    for k in (0, 1, 1, 2, 0):  # rounds 0, 1, 2, and a second run's 0
        leave(site, door, Ask("counts", k), answer())
    with pytest.raises(PolicyError, match="3 rounds of a run"):
        door(site, Ask("counts", 3), answer())
    with pytest.raises(PolicyError, match="4 rounds a day"):
        door(site, Ask("counts", 1), answer())
    leave(site, door, Ask("counts", 0), answer())  # the round that runs may go on


def test_under_secure_aggregation_the_clear_answer_is_checked_and_the_masked_one_written(made: Site, tmp_path) -> None:
    """``Site.made(leaves=False)`` is the way before masks: persons and content are seen, door and book are not."""
    site = replace(made, policy=Policy(secure=True), outgoing=gate.steps(tmp_path), memory={})
    ask = Ask("counts", values={"treatments": toy.TREATMENTS})
    assert site.made(ask, leaves=False).arrays["rows"].tolist() == [site.fold.train.height]
    assert not (tmp_path / "ledger.jsonl").exists() and (tmp_path / "answered.jsonl").exists()
    refused = site.answer(ask).refused
    assert refused is not None and "secure sum" in refused


def test_every_way_of_refusing_names_no_subject_and_no_value(made: Site, tmp_path: Path) -> None:
    for rules in (Policy(minimum_rows=10**6), Policy(minimum_subjects=10**4), Policy(allowed=()), Policy(secure=True),
                  Policy(most_bytes_a_round=1), Policy(most_rounds_a_run=1)):  # fmt: skip
        site = replace(made, policy=rules, outgoing=gate.steps(tmp_path / str(hash(rules))), memory={})
        reply = site.answer(Ask("counts", 1))
        assert reply.refused and reply.refused.startswith("policy: ") and reply.arrays == {} and reply.rows == 0
        assert not re.search(r"subject \d|\d\.\d", reply.refused)


def test_every_purpose_can_be_allowed_by_name(tmp_path: Path) -> None:
    names = rooms.names(policy.ASKED)
    listed = ", ".join(f'"{n}"' for n in names)
    assert policy.read(write(tmp_path, f"allowed = [{listed}]")).allowed == tuple(names)


def test_a_refusal_does_not_tell_the_server_what_else_is_allowed() -> None:
    with pytest.raises(PolicyError) as error:
        Policy(allowed=("schema", "counts")).permit("moments", 1000)
    assert "moments" in str(error.value) and "schema" not in str(error.value) and "counts" not in str(error.value)
