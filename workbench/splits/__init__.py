"""Splits with names: which rows teach, which rows test, and proof that nothing leaks between them.

A rule says what is unseen at test time: ``unseen pair``, ``unseen subject``, ``unseen treatment`` (by
compound, so that one compound under two names stays on one side) or ``unseen tissue``. Targets of the
test rows are sealed: a ``Fold`` hands them out only against complete predictions for those rows.

A treatment may be a combination of two drugs (``drug_a`` and ``drug_b`` of the study's treatments). The same two in
either order are one compound, and three more rules say what of it is new: the combination, one drug, or both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from workbench import cohorts
from workbench.splits._combinations import COMBINATIONS, compounds, dealt_drugs, new_members, prove_new
from workbench.splits._combinations import PLAIN_COMBINATIONS as PLAIN_COMBINATIONS
from workbench.splits._groups import LeakError, deal
from workbench.study import SealedError, Study
from workbench.text import nearest

RULES = {
    "unseen pair": "pair",
    "unseen subject": "subject",
    "unseen treatment": "compound",
    "unseen tissue": "tissue",
}
KEPT_TOGETHER = {"subject": "person"}  # subjects of one patient (xenografts of one tumour, say) are never parted
PLAIN = {
    "unseen pair": "the combination of line and drug is new; both occur in training, apart",
    "unseen subject": "the cell line is new; its drugs were seen in training on other lines",
    "unseen treatment": "the compound is new under any of its names; the lines were seen with other drugs",
    "unseen tissue": "every line of the tissue is new; the drugs were seen on other tissues",
}


def rows(study: Study, endpoint: str, require: Sequence[str] = ()) -> pl.DataFrame:
    """Rows of one endpoint with the keys the rules hold apart.

    Parameters
    ----------
    require : names of subject modalities a subject must have for its rows to take part.

    Returns
    -------
    frame with columns row (number in ``study.outcomes``), subject, treatment, compound, tissue, pair, unit, and person:
    the subject's ``patient`` where SUBJECTS has that column and it is known, else the subject. A study of drug pairs
    has member_a and member_b too, the compounds of the two drugs in alphabetical order (member_b is null for one drug)
    """
    outcomes = study.outcomes.with_row_index("row")
    known = outcomes["endpoint"].unique().cast(pl.String).to_list()
    if endpoint not in known:
        raise ValueError(
            f"study {study.name!r} has no endpoint {endpoint!r}.{nearest(endpoint, known)} "
            f"It has: {', '.join(sorted(known))}."
        )
    patient = pl.col("patient").cast(pl.String) if "patient" in study.subjects.columns else pl.lit(None, pl.String)
    tissues = study.subjects.select(
        pl.col("subject").cast(pl.String),
        pl.col("tissue").cast(pl.String).fill_null("unknown"),
        pl.coalesce(patient, pl.col("subject").cast(pl.String)).alias("person"),
    )
    frame = (
        outcomes.filter(pl.col("endpoint").cast(pl.String) == endpoint)
        .select(
            pl.col("row").cast(pl.Int64),
            pl.col("subject", "treatment", "unit").cast(pl.String),
            pl.col("value"),
            pl.col("censored"),
        )
        .join(compounds(study.treatments), on="treatment", how="left", maintain_order="left")
        .join(tissues, on="subject", how="left", maintain_order="left")
        .with_columns(pl.coalesce("compound", "treatment").alias("compound"), pl.col("tissue").fill_null("unknown"))
    )
    if require:
        presence = study.presence()
        missing = [m for m in require if m not in presence.columns]
        if missing:
            raise ValueError(
                f"study {study.name!r} has no modality {missing[0]!r}.{nearest(missing[0], study.modalities)}"
            )
        complete = presence.filter(pl.all_horizontal(list(require))).select(pl.col("subject").cast(pl.String))
        frame = frame.join(complete, on="subject", how="semi", maintain_order="left")
    return frame.with_columns(pl.concat_str("subject", "compound", separator="\x1f").alias("pair"))


@dataclass(frozen=True)
class Fold:
    """One train/test division. Training rows carry values; test rows do not.

    Attributes
    ----------
    rule, number, endpoint, unit, seed : what is unseen, which fold, what is predicted, in which unit
    study : Study with sealed outcomes: features only
    train : frame row, subject, treatment, compound, tissue, pair, unit, value, censored
    test : the same without value and censored
    """

    rule: str
    number: int
    endpoint: str
    unit: str
    seed: int
    study: Study
    train: pl.DataFrame
    test: pl.DataFrame
    _targets: pl.DataFrame = field(repr=False)

    @property
    def group(self) -> str:
        """The column this rule holds apart: subject, compound, tissue or pair."""
        return RULES.get(self.rule, "compound")

    def observed(self, predictions: pl.DataFrame) -> pl.DataFrame:
        """Targets of the test rows (row, observed, censored), for predictions that cover them.

        Raises
        ------
        SealedError
            ``predictions`` lacks a test row, or leaves one without a number and without a reason.
        """
        need = {"row", "predicted", "abstained"}
        if not need <= set(predictions.columns):
            raise SealedError(f"test targets open only against PREDICTIONS; columns {sorted(need)} are needed.")
        answered = predictions.filter(pl.col("predicted").is_finite() | pl.col("abstained").is_not_null())
        lacking = self.test.join(answered, on="row", how="anti")
        if lacking.height:
            raise SealedError(
                f"test targets of fold {self.number} stay sealed: {lacking.height} of {self.test.height} test rows "
                f"have neither a prediction nor a reason to abstain, first row {lacking['row'][0]}. "
                "Predict every row first."
            )
        return self._targets


@dataclass(frozen=True)
class Split:
    """Row numbers into a study's outcomes, by rule. Make with ``make`` or ``custom``; both check it.

    Attributes
    ----------
    folds : tuple of (train rows, test rows), sorted int64 arrays
    """

    rule: str
    study: Study
    endpoint: str
    seed: int
    folds: tuple[tuple[np.ndarray, np.ndarray], ...]
    require: tuple[str, ...] = ()

    @classmethod
    def make(
        cls, study: Study, rule: str, *, endpoint: str, folds: int = 5, seed: int = 0, require: Sequence[str] = ()
    ) -> Split:
        """Divide by rule into ``folds`` parts; whole groups go to one part, chosen by ``seed``.

        Where drugs of combinations are unseen, a fold holds a part of the drugs out: it tests the pairs with one of
        them (or two), learns from the pairs with none, and leaves the rest aside.
        """
        frame = _checked(study, rule, rows(study, endpoint, require))
        if COMBINATIONS.get(rule):
            held = [new_members(frame, rule, out) for out in dealt_drugs(frame, rule, folds, seed)]
            number = frame["row"].to_numpy()
            return cls(
                rule, study, endpoint, seed, tuple((number[a], number[b]) for a, b in held), tuple(require)
            ).check()
        key = _apart(RULES.get(rule, "compound"))
        counts = frame.group_by(key).len().sort(key)
        if counts.height < folds or folds < 2:
            raise ValueError(
                f"{rule!r} with {folds} folds needs at least {max(folds, 2)} groups; found {counts.height}."
            )
        part = deal(counts["len"].to_numpy(), folds, seed, balance=counts.height < 50 * folds)
        of_group = counts.select(key).with_columns(pl.Series("part", part))
        of_row = frame.join(of_group, on=key, how="left", maintain_order="left")["part"].to_numpy()
        number = frame["row"].to_numpy()
        pairs = tuple((number[of_row != k], number[of_row == k]) for k in range(folds))
        return cls(rule, study, endpoint, seed, pairs, tuple(require)).check()

    @classmethod
    def cohort(cls, study: Study, name: str, *, endpoint: str, seed: int = 0, require: Sequence[str] = ()) -> Split:
        """Hold a saved cohort out: its subjects' rows test, all other rows teach ("unseen subject", one fold).

        ``seed`` divides the training rows where a predictor holds some of them out.

        Raises
        ------
        workbench.cohorts.CohortError
            There is no such cohort, or it is one of treatments or cells.
        ValueError
            None, or all, of its subjects have rows of this endpoint.
        """
        held = cohorts.find(study.journal, name, study.name)
        if held.axis != "subject":
            raise cohorts.CohortError(f"cohort {name!r} is one of {held.axis}s; a split holds out subjects.")
        frame = rows(study, endpoint, require)
        inside = frame["subject"].is_in(list(held.members)).to_numpy()
        if inside.all() or not inside.any():
            what = "all" if len(inside) and inside.all() else "none"
            raise ValueError(
                f"cohort {name!r}: {what} of the {len(inside):,} rows of {endpoint!r} are its subjects', so there is "
                f"nothing to {'learn from' if what == 'all' else 'test on'}. Choose another cohort or endpoint."
            )
        number = frame["row"].to_numpy()
        pair = (number[~inside], number[inside])
        return cls("unseen subject", study, endpoint, seed, (pair,), tuple(require)).check()

    @classmethod
    def custom(
        cls, study: Study, rule: str, *, endpoint: str, folds: Sequence[tuple[Sequence[int], Sequence[int]]]
    ) -> Split:
        """A split made elsewhere, held to the rule it claims; a leak raises LeakError and is named."""
        _checked(study, rule, rows(study, endpoint))
        pairs = tuple((np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)) for a, b in folds)
        return cls(rule, study, endpoint, -1, pairs).check()

    def check(self) -> Split:
        """Prove that no fold leaks; returns itself.

        Raises
        ------
        LeakError
            A row, or a group the rule holds apart, stands on both sides of a fold.
        ValueError
            A row number is not one of the endpoint's, or a side is empty.
        """
        frame = rows(self.study, self.endpoint, self.require)
        key = _apart(RULES.get(self.rule, "compound"))
        for k, (train, test) in enumerate(self.folds):
            if not len(train) or not len(test):
                raise ValueError(f"fold {k} has {len(train)} training and {len(test)} test rows; both sides need some.")
            both = np.intersect1d(train, test)
            if len(both):
                raise LeakError(f"fold {k} leaks: row {both[0]} is in training and in test ({len(both)} such rows).")
            a, b = (frame.filter(pl.col("row").is_in(pl.Series(np.unique(side)).implode())) for side in (train, test))
            for side, found, name in ((train, a, "training"), (test, b, "test")):
                if len(side) != found.height:
                    raise ValueError(
                        f"fold {k}: {len(side) - found.height} {name} row numbers repeat or are not rows of "
                        f"{self.endpoint!r} in study {self.study.name!r}."
                    )
            shared = a.join(b, on=key, how="inner", suffix="_test")
            if shared.height:
                one = shared.row(0, named=True)
                what = one[key].replace(chr(31), " x ")
                named = key if key != "person" else "subject" if one["subject"] == one["subject_test"] else "patient"
                raise LeakError(
                    f"fold {k} claims {self.rule!r} but leaks: {named} {what!r} is in training "
                    f"(row {one['row']}, treatment {one['treatment']!r}) and in test (row {one['row_test']}, treatment "
                    f"{one['treatment_test']!r}); {shared[key].n_unique()} such. Put each whole {named} on one side."
                )
            if wanted := COMBINATIONS.get(self.rule):
                prove_new(k, self.rule, a, b, wanted)
        return self

    def fold(self, number: int) -> Fold:
        """Fold ``number`` with sealed test targets."""
        if not 0 <= number < len(self.folds):
            raise ValueError(f"there is no fold {number}; folds are 0 to {len(self.folds) - 1}.")
        train, test = self.folds[number]
        frame = rows(self.study, self.endpoint, self.require)
        a, b = (frame.filter(pl.col("row").is_in(pl.Series(side).implode())) for side in (train, test))
        targets = b.select("row", pl.col("value").alias("observed"), "censored")
        unit = frame["unit"][0]
        return Fold(
            self.rule,
            number,
            self.endpoint,
            unit,
            self.seed,
            self.study.sealed(),
            a,
            b.drop("value", "censored"),
            targets,
        )

    @property
    def digest(self) -> str:
        """SHA-256 over rule, study digest, endpoint and every fold's rows."""
        h = hashlib.sha256(json.dumps([self.rule, self.study.digest, self.endpoint, self.seed]).encode())
        for train, test in self.folds:
            h.update(
                np.ascontiguousarray(train, dtype="<i8").tobytes() + b"|" + np.ascontiguousarray(test, "<i8").tobytes()
            )
        return h.hexdigest()


def _checked(study: Study, rule: str, frame: pl.DataFrame) -> pl.DataFrame:
    """``frame``, once ``rule`` is known and the study has the combinations that it speaks of."""
    if rule not in RULES and rule not in COMBINATIONS:
        known = [*RULES, *COMBINATIONS]
        raise ValueError(f"unknown split {rule!r}.{nearest(rule, known)} Known: {', '.join(known)}.")
    if rule in COMBINATIONS and ("member_b" not in frame.columns or frame["member_b"].null_count() == frame.height):
        raise ValueError(
            f"{rule!r} needs combinations of two drugs; study {study.name!r} has none (its treatments need columns "
            f"drug_a and drug_b). For single drugs use {'unseen treatment'!r}."
        )
    return frame


def _apart(group: str) -> str:
    """The column that a rule really holds apart."""
    return KEPT_TOGETHER.get(group, group)


def inner_parts(fold: Fold, parts: int, seed: int) -> np.ndarray:
    """Part (0 .. parts-1) of each training row, whole groups of the fold's own rule together: int32 (n_train,).

    Where all rows are of one group, it is divided by subject, so that there is always something to hold out.
    """
    key = next((k for k in (_apart(fold.group), "person", "subject") if fold.train[k].n_unique() > 1), "pair")
    counts = fold.train.group_by(key).len().sort(key)
    part = deal(counts["len"].to_numpy(), min(parts, counts.height), seed, balance=counts.height < 50 * parts)
    of_group = counts.select(key).with_columns(pl.Series("part", part))
    return fold.train.join(of_group, on=key, how="left", maintain_order="left")["part"].to_numpy()


def nested(fold: Fold, part: np.ndarray, number: int) -> Fold:
    """A fold inside the training rows of ``fold``: part ``number`` of ``part`` tests, the other parts teach.

    The outer test rows are in neither; the inner targets are sealed like any others.

    Parameters
    ----------
    part : part of each row of ``fold.train``, int (n_train,), as ``inner_parts`` gives it
    """
    held = pl.Series(np.asarray(part) == number)
    if len(held) != fold.train.height:
        raise ValueError(f"part has {len(held)} entries for {fold.train.height} training rows; one each.")
    if held.all() or not held.any():
        raise ValueError(f"part {number} holds {int(held.sum())} of {len(held)} training rows; both sides need some.")
    test = fold.train.filter(held)
    targets = test.select("row", pl.col("value").alias("observed"), "censored")
    return replace(
        fold, number=number, train=fold.train.filter(~held), test=test.drop("value", "censored"), _targets=targets
    )


def held_out(fold: Fold, parts: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(teaches, is held out) of each training row, bool (n_train,), for each of ``parts`` inner divisions.

    As ``inner_parts`` divides; but where drugs of combinations are unseen, drugs are held out, by the fold's own rule.
    """
    if COMBINATIONS.get(fold.rule):
        try:
            drugs = dealt_drugs(fold.train, fold.rule, parts, seed)
            made = [new_members(fold.train, fold.rule, out) for out in drugs]
        except ValueError:  # fewer drugs than parts: combinations will have to do
            made = []
        made = [(a, b) for a, b in made if a.any() and b.any()]
        if made:
            return made
    part = inner_parts(fold, parts, seed)
    return [(part != p, part == p) for p in np.unique(part)]
