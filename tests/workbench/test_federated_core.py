"""The two words of the room (Ask, Reply), who holds which rows, what a site answers, and the sums over sites."""

from __future__ import annotations

import ast
import inspect
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests import toy
from workbench import rooms
from workbench.federated import asked, messages, policy, sharing, sites
from workbench.federated.asked import Answer, Leaves, counts, described
from workbench.federated.gate import command as ledger_command
from workbench.federated.messages import Ask, Gathered, MessageError, Reply
from workbench.federated.policy import Policy, PolicyError
from workbench.federated.sharing import SharingError
from workbench.federated.site import ASKED, Site, SiteError
from workbench.federated.sites import Inline, TooFewSites
from workbench.splits import Fold, Split

pytestmark = pytest.mark.shared_home

PURPOSES = rooms.names(ASKED)


@pytest.fixture(scope="module")
def fold() -> Fold:
    return Split.make(toy.write(), "unseen subject", endpoint="ln_ic50").fold(0)


@pytest.fixture
def both(fold: Fold) -> list[Site]:
    return [Site(name, sharing.local(fold, held)) for name, held in sharing.at_random(fold, 2).items()]


# --- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.array(["subject 01"]),
        np.array([b"bytes"]),
        np.array([{"a": 1}], dtype=object),
        np.array([1 + 2j]),
        np.array(["2026-11-22"], dtype="datetime64[D]"),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")]),
        [1.0, 2.0],
        pl.Series([1.0]),
        None,
    ],
    ids=["text", "bytes", "object", "complex", "date", "record", "list", "series", "none"],
)
def test_nothing_but_numbers_travels_as_an_array(array: object) -> None:
    with pytest.raises(MessageError, match="only numpy arrays of numbers"):
        Ask("counts", arrays={"a": array})  # type: ignore[dict-item]
    with pytest.raises(MessageError, match="reply of 'site 1' to 'counts': array 'a'"):
        Reply("site 1", "counts", 0, arrays={"a": array})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "value",
    [None, {"a": 1}, (1, 2), [1, 2.0], [True], [None], ["a", 1], np.float64(1), np.array([1]), b"bytes", [[1]], 1j],
)
def test_nothing_but_plain_values_travels_as_a_setting(value: object) -> None:
    with pytest.raises(MessageError, match="value 'v' is"):
        Ask("counts", values={"v": value})  # type: ignore[dict-item]


def test_plain_values_and_numeric_arrays_travel() -> None:
    values = {
        "a": True,
        "b": 3,
        "c": -1.5,
        "d": "text",
        "e": [1, 2],
        "f": [0.5],
        "g": ["x", "y"],
        "h": [],
        "i": math.nan,
    }
    kinds = ["bool", "int8", "uint64", "float16", "float32", "float64"]
    reply = Reply("site 1", "counts", 0, 5, {k: np.ones((2, 3), dtype=k) for k in kinds}, values)  # type: ignore[arg-type]
    assert reply.nbytes == 6 * (1 + 1 + 8 + 2 + 4 + 8)
    with pytest.raises(MessageError, match="infinite"):
        Ask("counts", values={"v": [1.0, math.inf]})


def test_rows_of_all_replies_are_added() -> None:
    assert Gathered((Reply("a", "counts", 0, 5), Reply("b", "counts", 0, 7))).rows == 12


# --- sharing ---------------------------------------------------------------------------------------------------------


def subjects(fold: Fold) -> set[str]:
    return {*fold.train["subject"], *fold.test["subject"]}


def test_sites_dealt_at_random_have_every_subject_once_and_nearly_as_many(fold: Fold) -> None:
    dealt = sharing.at_random(fold, 5)
    held = [s for names in dealt.values() for s in names]
    assert list(dealt) == [f"site {k}" for k in range(1, 6)]
    assert len(held) == len(set(held)) and set(held) == subjects(fold)
    assert {len(v) for v in dealt.values()} == {12}
    assert dealt == sharing.at_random(fold, 5) != sharing.at_random(fold, 5, seed=1)


@pytest.mark.parametrize("seed", range(5))
def test_sites_do_not_follow_the_splits_own_dealing(seed: int) -> None:
    """Each of five sites has test subjects of fold 0, and none has all of them: site 1 is not fold 0."""
    split = Split.make(toy.write(f"many {seed}", subjects=200), "unseen subject", endpoint="ln_ic50", seed=seed)
    fold = split.fold(0)
    unseen = set(fold.test["subject"])
    shares = [len(unseen & set(held)) / len(held) for held in sharing.at_random(fold, 5, seed).values()]
    assert min(shares) > 0.02 and max(shares) < 0.5 and sum(shares) / 5 == pytest.approx(0.2, abs=0.01)


def test_a_patients_subjects_stay_at_one_site(fold: Fold) -> None:
    pairs = pl.col("subject").str.slice(-2).cast(pl.Int64) // 2  # two subjects a person
    twins = replace(
        fold, train=fold.train.with_columns(person=pairs.cast(pl.String)),
        test=fold.test.with_columns(person=pairs.cast(pl.String)),
    )  # fmt: skip
    dealt = sharing.at_random(twins, 4)
    where = {s: site for site, held in dealt.items() for s in held}
    assert all(where[f"subject {2 * k:02d}"] == where[f"subject {2 * k + 1:02d}"] for k in range(30))


def test_sites_by_column_have_the_subjects_with_its_values(fold: Fold) -> None:
    dealt = sharing.by_column(fold, "tissue")
    tissue = dict(fold.study.subjects.select("subject", "tissue").iter_rows())
    assert {site: {tissue[s] for s in held} for site, held in dealt.items()} == {t: {t} for t in dealt}
    assert len(dealt) == 4 and sum(map(len, dealt.values())) == len(subjects(fold))
    grouped = sharing.by_column(fold, "tissue", {"a": ["tissue 0", "tissue 1"], "b": ["tissue 3"]})
    assert {site: {tissue[s] for s in held} for site, held in grouped.items()} == {
        "a": {"tissue 0", "tissue 1"}, "b": {"tissue 3"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda f: sharing.at_random(f, 1), "at least 2 sites; found 1"),
        (lambda f: sharing.at_random(f, 61), "61 sites need at least as many persons"),
        (lambda f: sharing.by_column(f, "tisue"), "no column 'tisue' of subjects. Did you mean 'tissue'"),
        (lambda f: sharing.by_column(f, "tissue", {"a": ["tissue 0"], "b": ["tissue 0"]}), "given to two sites"),
        (lambda f: sharing.by_column(f, "tissue", {"a": ["tissue 0"], "b": ["tisue 1"]}), "no subject has tissue"),
        (lambda f: sharing.by_column(f, "tissue", {"a": ["tissue 0"]}), "makes 1 site"),
    ],
)  # fmt: skip
def test_sites_that_cannot_be_made_say_why(fold: Fold, make, says: str) -> None:
    with pytest.raises(SharingError, match=says):
        make(fold)


def test_a_local_fold_is_the_fold_cut_to_its_subjects_with_its_targets_sealed(fold: Fold) -> None:
    dealt = sharing.at_random(fold, 3)
    cut = {site: sharing.local(fold, held) for site, held in dealt.items()}
    assert sorted(r for f in cut.values() for r in f.train["row"]) == sorted(fold.train["row"])
    assert sorted(r for f in cut.values() for r in f.test["row"]) == sorted(fold.test["row"])
    for site, f in cut.items():
        assert set(f.train["subject"]) | set(f.test["subject"]) == set(dealt[site])
        assert "value" not in f.test.columns and f._targets["row"].to_list() == f.test["row"].to_list()


# --- a site ----------------------------------------------------------------------------------------------------------


def test_a_site_reads_its_own_subjects_and_nobody_elses(both: list[Site]) -> None:
    values, there, features = both[0].block("expression", both[0].subjects)
    assert values.shape == (len(both[0].subjects), 40) and len(features) == 40 and there.any()
    with pytest.raises(SiteError, match="own subjects only"):
        both[0].block("expression", [both[1].subjects[0]])
    with pytest.raises(SiteError, match="no modality 'expresion'"):
        both[0].block("expresion", both[0].subjects)


def test_a_site_counts_what_it_has_and_hides_small_counts(both: list[Site]) -> None:
    site = both[0]
    reply = site.answer(Ask("counts", 4, values={"treatments": [*toy.TREATMENTS, "no such"]}))
    train = site.fold.train
    by = dict(train["treatment"].value_counts().iter_rows())
    assert (reply.site, reply.purpose, reply.round, reply.refused) == ("site 1", "counts", 4, None)
    assert reply.rows == train.height == reply.arrays["rows"][0]
    assert reply.arrays["by_treatment"].tolist() == [*(by[t] for t in toy.TREATMENTS), 0]
    least = min(by.values())
    site.policy = Policy(minimum_cell=least + 1)
    hidden = site.answer(Ask("counts", values={"treatments": toy.TREATMENTS})).arrays["by_treatment"]
    assert hidden.tolist() == [n if n > least else 0 for n in (by[t] for t in toy.TREATMENTS)]


def raising(error: Exception):
    def answer(site: Site, ask: Ask) -> Answer:
        raise error

    return answer


@pytest.mark.parametrize(
    "error",
    [
        KeyError("subject 07"),
        ValueError("expected a number; found 3.14159 at 'subject 07'"),
        IndexError("subject 07"),
        AssertionError("subject 07"),
        MemoryError("subject 07"),
        UnicodeDecodeError("utf-8", b"subject 07", 0, 1, "subject 07"),
        MessageError("value 'subject 07'"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_a_refused_answer_quotes_no_row(both: list[Site], error: Exception, caplog) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "answer", raising(error))
        reply = both[0].answer(Ask("counts", 1))
    assert reply.refused == f"failed with {type(error).__name__}; see the site's log."
    assert reply.arrays == {} and reply.values == {} and reply.rows == 0
    assert any(r.exc_info is not None and r.exc_info[1] is error for r in caplog.records)  # the site itself can see


def test_what_a_site_says_on_purpose_is_told(both: list[Site]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "answer", raising(SiteError("the axes have 7 features, this site 40.")))
        assert both[0].answer(Ask("counts")).refused == "the axes have 7 features, this site 40."
    assert "nobody can be asked for 'count'. Did you mean 'counts'?" in str(both[0].answer(Ask("count")).refused)


def test_text_hidden_in_an_answer_does_not_travel(both: list[Site]) -> None:
    for arrays, values in (({"rows": np.array(["subject 07"])}, {}), ({}, {"rows": {"subject 07": 1}})):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(counts, "answer", lambda site, ask, a=arrays, v=values: Answer(100, a, v))
            reply = both[0].answer(Ask("counts"))
        assert "subject" not in str(reply.refused) and reply.refused and reply.arrays == {}


def test_outgoing_steps_are_passed_in_order_and_any_of_them_may_refuse(both: list[Site]) -> None:
    site, met = both[0], []

    def first(site: Site, ask: Ask, made: Answer) -> Answer:
        met.append("first")
        return replace(made, arrays={"rows": made.arrays["rows"] + 1})

    def second(site: Site, ask: Ask, made: Answer) -> Answer:
        met.append(int(made.arrays["rows"][0]))
        if ask.round:
            raise PolicyError("policy: not in this round.")
        return made

    site.outgoing = [first, second]
    assert site.answer(Ask("counts")).arrays["rows"].tolist() == [site.fold.train.height + 1]
    assert met == ["first", site.fold.train.height + 1]
    assert site.answer(Ask("counts", 1)).refused == "policy: not in this round."


# --- sites -----------------------------------------------------------------------------------------------------------


def test_sums_over_sites_are_those_of_the_union(both: list[Site], fold: Fold) -> None:
    room = Inline(both)
    total, gathered = room.total(Ask("counts", values={"treatments": toy.TREATMENTS}))
    by = dict(fold.train["treatment"].value_counts().iter_rows())
    assert room.names == ("site 1", "site 2") and gathered.rows == fold.train.height
    assert total["by_treatment"].tolist() == [by[t] for t in toy.TREATMENTS]
    assert total["subjects"].tolist() == [fold.train["subject"].n_unique()]


def test_a_site_that_refuses_is_lost_by_name_and_too_few_are_an_error(both: list[Site]) -> None:
    both[1].policy = Policy(allowed=())
    room = Inline(both)
    total, gathered = room.total(Ask("counts"))
    assert list(gathered.lost) == ["site 2"] and total["rows"][0] == both[0].fold.train.height
    with pytest.raises(TooFewSites, match=r"'counts', round 3: 1 of the 2 sites needed answered \(site 2: policy: "):
        room.total(Ask("counts", 3), least=2)
    assert [r.site for r in room.ask(Ask("counts"), of=["site 1"]).replies] == ["site 1"]


def test_sums_are_wide_the_same_whatever_the_order_and_of_one_shape() -> None:
    big = np.array([2**31 - 1], dtype=np.int32)
    replies = [Reply(s, "counts", 0, 1, {"rows": big, "subjects": np.float32([v])}) for s, v in
               (("b", 1e8), ("a", 1.0), ("c", -1e8))]  # fmt: skip
    ask = Ask("counts")
    total = sites.add(ask, sites.sort(ask, replies))
    again = sites.add(ask, sites.sort(ask, replies[::-1]))
    assert total["rows"].dtype == np.int64 and total["rows"][0] == 3 * (2**31 - 1)
    assert total["subjects"].dtype == np.float64 and total["subjects"][0] == 1.0
    assert {k: v.tobytes() for k, v in total.items()} == {k: v.tobytes() for k, v in again.items()}
    wrong = [replies[0], Reply("a", "counts", 0, 1, {"rows": np.array([1, 2])})]
    with pytest.raises(ValueError, match=r"shape \(1,\), others \(2,\)"):
        sites.add(ask, sites.sort(ask, wrong))
    spoilt = [replies[0], Reply("a", "counts", 0, 1, {"rows": big, "subjects": np.float32([np.nan])})]
    with pytest.raises(sites.NotANumber, match=r"'subjects' of a is not a number"):
        sites.finite(ask, sites.sort(ask, spoilt))
    sites.finite(ask, sites.sort(ask, replies))


def test_what_is_no_matter_of_sums_is_not_summed() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "LEAVES", replace(counts.LEAVES, summed=False))
        with pytest.raises(ValueError, match="not a matter of sums"):
            sites.add(Ask("counts"), Gathered(()))


# --- what can be asked -----------------------------------------------------------------------------------------------


def test_names_of_arrays_may_be_a_beginning_and_the_nearest_words_win() -> None:
    leaves = Leaves({"w.*": "weights", "w.head": "the head", "w.own.*": "own"}, summed=True)
    assert [described(leaves, k) for k in ("w.1", "w.head", "w.own.2", "w", "x.w.1")] == [
        "weights", "the head", "own", None, None,
    ]  # fmt: skip


@pytest.mark.parametrize("purpose", PURPOSES)
def test_everything_that_can_be_asked_says_plainly_what_leaves(purpose: str) -> None:
    module = rooms.load(ASKED, purpose)
    assert callable(module.answer) and list(inspect.signature(module.answer).parameters) == ["site", "ask"]
    assert isinstance(module.LEAVES, Leaves)
    assert all(isinstance(w, str) and len(w) > 5 for w in module.LEAVES.arrays.values())
    assert re.fullmatch(r"[A-Z][^\n]+\.", module.PLAIN) and 40 <= len(module.PLAIN) <= 420
    hard = re.findall(r"\b(Gram|tensor|gradient|logit|embedding|dtype|ndarray|eigen\w*|SVD|MSE|_\w+)\b", module.PLAIN)
    assert hard == [], "a data officer reads it"
    assert (module.__doc__ or "").strip()


@pytest.mark.parametrize("purpose", PURPOSES)
def test_the_code_of_what_can_be_asked_reaches_nothing_but_the_site(purpose: str) -> None:
    """No file is opened, no process, no socket; the room's other purposes are not imported."""
    tree = ast.parse(inspect.getsource(rooms.load(ASKED, purpose)))
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not names & {"open", "exec", "eval", "compile", "__import__", "getattr", "setattr", "print"}
    banned = ("os", "sys", "io", "socket", "subprocess", "pickle", "pathlib", "shutil", "requests", "urllib", "ctypes")
    assert not {i for i in imported if i.split(".")[0] in banned}
    assert not {i for i in imported if i.startswith(f"{ASKED}.")}


def honest(both: list[Site]) -> dict[str, Ask]:
    """An ask that each of the simplest purposes answers."""
    agreed = {"modality": "expression", "treatments": toy.TREATMENTS, "of": "features"}
    wide = np.full(40, 4.0)
    return {
        "counts": Ask("counts", values={"treatments": toy.TREATMENTS}),
        "schema": Ask("schema", values={"modality": "expression", "features": True}),
        "moments": Ask("moments", values=agreed),  # type: ignore[arg-type]
        "histogram": Ask("histogram", arrays={"low": -wide, "high": wide}, values={**agreed, "bins": 8}),  # type: ignore[dict-item]
        "value_sums": Ask("value_sums", values={"treatments": toy.TREATMENTS}),
        "secure_keys": Ask("secure_keys", values={"conversation": "0" * 32}),
    }


@pytest.mark.parametrize("purpose", [p for p in honest([]) if p in PURPOSES])
def test_an_answer_holds_only_what_its_purpose_declares(both: list[Site], purpose: str) -> None:
    ask = honest(both)[purpose]
    made = rooms.load(ASKED, purpose).answer(both[0], ask)
    leaves = rooms.load(ASKED, purpose).LEAVES
    assert made.arrays or made.values
    assert [k for k in made.arrays if described(leaves, k) is None] == []
    assert [k for k in made.values if k not in leaves.values] == []
    assert made.rows <= both[0].fold.train.height
    messages.check(made.arrays, made.values, purpose)


def test_the_package_of_what_can_be_asked_holds_nothing_else() -> None:
    assert {n for n in vars(asked) if n[0].isupper()} >= {"Answer", "Leaves"} and "counts" in PURPOSES


# --- the page for the data officer -----------------------------------------------------------------------------------

PAGE = Path(__file__).resolve().parents[2] / "docs" / "federation.md"


@pytest.mark.parametrize("purpose", PURPOSES)
def test_the_page_for_the_data_officer_tells_everything_that_can_be_asked(purpose: str) -> None:
    line = next(row for row in ledger_command.purposes().split("\n") if row.startswith(f"| `{purpose}` |"))
    assert line in PAGE.read_text(encoding="utf-8").split("\n"), (
        "docs/federation.md tells something else: put what `workbench federate ledger --purposes` prints into it"
    )


def test_the_page_names_nothing_that_cannot_be_asked_and_its_policy_can_be_read(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = text.split("<!-- end of purposes -->")[0].split("prints this table -->")[1]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == PURPOSES
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "policy.toml").write_text(example, encoding="utf-8")
    found = policy.read(tmp_path / "policy.toml")
    strict = policy.of({"allowed": ["schema"], **policy.STRICT})
    same = ("minimum_rows", "minimum_subjects", "minimum_cell", "secure", "alone", "axes_per_subject")
    assert {k: getattr(found, k) for k in same} == {k: getattr(strict, k) for k in same}
