"""Faults planted in clean studies: what was done, which check must find it, and the rows or names it must give.

``DATA`` are faults of a study, ``LEAKS`` those of a study and a split. A plant changes a ``Draft`` in place and says
what is expected; rows are named by an expression over the outcomes as they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import log

import numpy as np
import polars as pl

from tests.clean_studies import Draft, Matrix, animals, exposure, growth, plates, screen, structured
from tests.toy import COMPOUNDS
from workbench.splits import Split
from workbench.study import Study

Cut = Callable[[Study], Split]


@dataclass
class Expected:
    """``check`` must be found, with all of ``names`` and exactly ``rows`` (where given), at least as bad as said."""

    check: str
    names: Iterable[str] = ()
    rows: pl.Expr | None = None
    severity: str = "warning"
    split: Cut | None = None
    exact: bool = True  # all findings of that check together hold these rows and no others


@dataclass
class Fault:
    """A clean study and what spoils it."""

    clean: Callable[[], Draft]
    plant: Callable[[Draft], Expected]
    also: tuple[str, ...] = field(default_factory=tuple)  # other checks that may rightly speak

    def __str__(self) -> str:
        return self.plant.__name__


def by(rule: str, endpoint: str = "ln_ic50", folds: int = 3, seed: int = 0) -> Cut:
    """A split by rule."""
    return lambda study: Split.make(study, rule, endpoint=endpoint, folds=folds, seed=seed)


def apart(rule: str, *tested: str, column: str = "subject", endpoint: str = "ln_ic50") -> Cut:
    """One fold that tests the rows of the named subjects or treatments."""

    def cut(study: Study) -> Split:
        rows = study.rows.with_row_index("row").filter(pl.col("endpoint") == endpoint)
        inside = pl.col(column).is_in(tested)
        return Split.custom(
            study,
            rule,
            endpoint=endpoint,
            folds=[(rows.filter(~inside)["row"].to_list(), rows.filter(inside)["row"].to_list())],
        )

    return cut


def tested(subject: str, endpoint: str = "ln_ic50") -> pl.Expr:
    """The rows of a subject that a fold tests."""
    return (pl.col("subject") == subject) & (pl.col("endpoint") == endpoint)


def picked(draft: Draft, n: int, endpoint: str = "ln_ic50", seed: int = 5) -> pl.DataFrame:
    """Some rows of an endpoint, no two of one subject, none with a replicate."""
    alone = pl.len().over("subject", "treatment", "endpoint", "time_h") == 1
    frame = draft.outcomes.with_row_index("i").filter(pl.col("endpoint") == endpoint, pl.col("censored") == 0, alone)
    return frame.sample(fraction=1.0, shuffle=True, seed=seed).unique("subject", maintain_order=True).head(n)


def at(rows: pl.DataFrame) -> pl.Expr:
    """These rows, by what they hold before they are changed, as an expression over a draft's outcomes."""
    return pl.int_range(pl.len()).is_in(rows["i"].implode())


def own(draft: Draft, endpoint: str = "ln_ic50") -> dict[str, float]:
    """Mean of each subject less the mean of its treatments."""
    frame = draft.outcomes.filter(pl.col("endpoint") == endpoint)
    less = frame.with_columns(pl.col("value") - pl.col("value").mean().over("treatment"))
    return dict(less.group_by("subject").agg(pl.col("value").mean()).sort("subject").rows())


# --- values ----------------------------------------------------------------------------------------------------------


def negative_concentration(draft: Draft) -> Expected:
    rows = picked(draft, 3, "concentration plasma")
    draft.change(at(rows), -pl.col("value"))
    return Expected("impossible values", rows["subject"], pl.col("value") < 0, "error")


def percent_as_fraction(draft: Draft) -> Expected:
    rows = pl.col("subject") == "cell 3"
    draft.change(rows & (pl.col("value") > 0.2), pl.col("value") * 100)
    return Expected("impossible values", ["cell 3"], pl.col("value") > 2, "error")


def body_weight_zero(draft: Draft) -> Expected:
    rows = picked(draft, 2, "body_weight")
    draft.change(at(rows), pl.lit(0.0))
    return Expected("impossible values", rows["subject"], pl.col("value") == 0, "error")


def absurd_pic50(draft: Draft) -> Expected:
    draft.outcomes = draft.outcomes.with_columns(
        pl.when(endpoint="ln_ic50").then(6 - pl.col("value") / log(10)).otherwise("value").alias("value"),
        pl.col("endpoint").replace("ln_ic50", "pic50"),
        pl.col("unit").replace("ln(uM)", "pIC50"),
    )
    rows = picked(draft, 3, "pic50")
    draft.change(at(rows), pl.lit(6000.0) + pl.col("value"))  # nM that nobody turned into pIC50
    return Expected("impossible values", rows["subject"], pl.col("value") > 5000, "error")


def doses_in_two_units(draft: Draft) -> Expected:
    rows = (pl.col("treatment") == "caffeine") & (pl.col("subject") == "cell 2")
    draft.outcomes = draft.outcomes.with_columns(
        pl.when(rows).then(pl.lit("nM")).otherwise("dose_unit").alias("dose_unit")
    )
    return Expected("impossible doses", ["caffeine"], pl.col("treatment") == "caffeine")


def dose_against_arm(draft: Draft) -> Expected:
    rat = draft.subjects.filter(arm="arm 2")["subject"][0]
    rows = pl.col("subject") == rat
    draft.outcomes = draft.outcomes.with_columns(pl.when(rows).then(500.0).otherwise("dose").alias("dose"))
    return Expected("impossible doses", [rat], rows, "error")


def repeated_rows(draft: Draft) -> Expected:
    rows = picked(draft, 12)
    draft.outcomes = pl.concat([draft.outcomes, rows.drop("i")])
    keys = ["subject", "treatment", "value"]
    return Expected(
        "repeated rows", rows["subject"], pl.struct(keys).is_in(rows.select(pl.struct(keys)).to_series().implode())
    )


def copied_subject(draft: Draft) -> Expected:
    a, b = draft.subjects["subject"][4], draft.subjects["subject"][9]
    other = draft.outcomes.filter(pl.col("subject") != b)
    draft.outcomes = pl.concat([other, other.filter(subject=a).with_columns(pl.lit(b).alias("subject"))])
    return Expected("copied subjects", [a, b], pl.col("subject").is_in([a, b]), "error")


def wrong_structure(draft: Draft) -> Expected:
    swapped = {"caffeine": COMPOUNDS["nicotine"], "nicotine": COMPOUNDS["caffeine"]}
    draft.treatments = draft.treatments.with_columns(
        pl.coalesce(pl.col("treatment").replace_strict(swapped, default=None), "smiles").alias("smiles")
    )
    return Expected("unreadable or wrong structures", swapped, severity="error")


def unreadable_structure(draft: Draft) -> Expected:
    draft.treatments = draft.treatments.with_columns(
        pl.when(treatment="naproxen").then(pl.lit("C1CC(")).otherwise("smiles").alias("smiles")
    )
    return Expected("unreadable or wrong structures", ["naproxen"])


def counts_not_whole(draft: Draft) -> Expected:
    m = draft.modalities["expression"]
    m.values = np.round(np.abs(m.values) * 50)
    m.unit = "counts"
    m.values[:5] = np.log1p(m.values[:5])
    return Expected("impossible modality values", m.names[:5], severity="error")


def repeated_features(draft: Draft) -> Expected:
    m = draft.modalities["expression"]
    m.values[:, 7] = 3 * m.values[:, 2] + 1
    m.values[:, 9] = 4.0
    return Expected("constant or repeated features", [m.features[i] for i in (2, 7, 9)], severity="note")


# --- far off ---------------------------------------------------------------------------------------------------------


def outliers(draft: Draft) -> Expected:
    rows = picked(draft, 4)
    signs = pl.col("subject").is_in(rows["subject"].head(2).implode())
    draft.change(at(rows), pl.col("value") + pl.when(signs).then(9.2).otherwise(-9.2))
    keys = pl.struct("subject", "treatment").is_in(rows.select(pl.struct("subject", "treatment")).to_series().implode())
    return Expected("outliers", rows["subject"], keys & (pl.col("endpoint") == "ln_ic50"), exact=False)


def thousandfold_ic50(draft: Draft) -> Expected:
    """Values that were ordinary before: within half a unit of what line and drug lead one to expect."""
    frame = draft.outcomes.filter(endpoint="ln_ic50")
    level = dict(frame.group_by("treatment").agg(pl.col("value").mean()).rows())
    usual = pl.col("treatment").replace_strict(level) + pl.col("subject").replace_strict(own(draft))
    rows = picked(draft, 60).filter((pl.col("value") - usual).abs() < 0.5).head(6)
    draft.change(at(rows), pl.col("value") + log(1000))  # nM written as uM
    keys = pl.struct("subject", "treatment").is_in(rows.select(pl.struct("subject", "treatment")).to_series().implode())
    return Expected(
        "thousandfold values", rows["subject"], keys & (pl.col("endpoint") == "ln_ic50"), "error", exact=False
    )


def kilograms_for_grams(draft: Draft) -> Expected:
    rows = picked(draft, 4, "body_weight")
    draft.change(at(rows), pl.col("value") / 1000)
    return Expected(
        "thousandfold values", rows["subject"], (pl.col("endpoint") == "body_weight") & (pl.col("value") < 1), "error"
    )


def millionfold_concentration(draft: Draft) -> Expected:
    rows = picked(draft, 3, "concentration plasma")
    draft.change(at(rows), pl.col("value") * 1e6)
    return Expected("thousandfold values", rows["subject"], pl.col("value") > 1e5, "error")


def second_screen(draft: Draft, share: float = 0.5) -> pl.DataFrame:
    """Another screen of the same lines and drugs, with noise of its own."""
    draw = np.random.default_rng(8)
    second = draft.outcomes.filter(endpoint="ln_ic50").unique(["subject", "treatment"], maintain_order=True)
    second = second.filter(pl.Series(draw.random(second.height) < share))
    noise = pl.Series(draw.normal(0, 0.3, second.height))
    return second.with_columns(pl.lit("screen B").alias("source"), pl.col("value") + noise)


def log10_for_ln(draft: Draft) -> Expected:
    second = second_screen(draft).with_columns(pl.col("value") / log(10))
    draft.outcomes = pl.concat([draft.outcomes, second])
    return Expected("another unit inside an endpoint", ["source screen B"], pl.col("source") == "screen B", "error")


def nanomolar_source(draft: Draft) -> Expected:
    """A second screen of the same lines and drugs; one drug came in nM."""
    second = second_screen(draft)
    rows = (pl.col("source") == "screen B") & (pl.col("treatment") == "ibuprofen")
    second = second.with_columns(pl.when(rows).then(pl.col("value") + log(1000)).otherwise("value").alias("value"))
    draft.outcomes = pl.concat([draft.outcomes, second])
    return Expected("another unit inside an endpoint", ["ibuprofen from source screen B"], rows, "error")


# --- replicates and sources ------------------------------------------------------------------------------------------


def noisy_replicates(draft: Draft) -> Expected:
    draw = np.random.default_rng(5)
    noise = pl.Series(draw.normal(0, 1.5, draft.outcomes.height))
    draft.change(pl.col("endpoint") == "ln_ic50", pl.col("value") + noise)
    return Expected("replicate noise")


def failed_replicates(draft: Draft) -> Expected:
    keys = ["subject", "treatment", "endpoint"]
    twice = draft.outcomes.with_row_index("i").filter(pl.len().over(keys) == 2, pl.col("endpoint") == "ln_ic50")
    rows = twice.sample(fraction=1.0, shuffle=True, seed=4).unique("subject", maintain_order=True).head(3)
    draft.change(at(rows), pl.col("value") + 4.5)
    pairs = pl.struct(keys).is_in(rows.select(pl.struct(keys)).to_series().implode())
    return Expected("disagreeing replicates", rows["subject"], pairs)


def sources_disagree(draft: Draft) -> Expected:
    second = second_screen(draft, 1.0).with_columns(pl.col("value") + 1.2)
    draft.outcomes = pl.concat([draft.outcomes, second])
    return Expected("inconsistent sources", ["screen A", "screen B"])


def site_offset(draft: Draft) -> Expected:
    draft.change((pl.col("site") == "north") & (pl.col("endpoint") == "ln_ic50"), pl.col("value") + 1.0)
    return Expected("site or batch offset", ["north"])


def batch_in_expression(draft: Draft) -> Expected:
    m = draft.modalities["expression"]
    batch = draft.subjects["batch"].to_list()
    m.values = m.values + 2.0 * np.random.default_rng(2).normal(size=(1, m.values.shape[1])) * np.array(
        [[b == "batch 1"] for b in batch]
    )
    return Expected("batch clusters", ["batch 0", "batch 1", "batch 2"])


def drift(draft: Draft) -> Expected:
    when = dict(draft.subjects.select("subject", "run_order").rows())
    slope = pl.col("subject").replace_strict(when, return_dtype=pl.Float64) / len(when) * 1.8
    draft.change(pl.col("endpoint") == "ln_ic50", pl.col("value") + slope)
    return Expected("drift", ["run_order"])


def two_islands(draft: Draft) -> Expected:
    lines, drugs = draft.subjects["subject"][:12].to_list(), ["naproxen", "theophylline", "nicotine"]
    inside = pl.col("subject").is_in(lines)
    draft.outcomes = draft.outcomes.filter(inside == pl.col("treatment").is_in(drugs))
    return Expected("fragmentation", [*lines, *drugs])


# --- missingness -----------------------------------------------------------------------------------------------------


def missing_where_resistant(draft: Draft) -> Expected:
    effect = own(draft)
    rank = {s: i / len(effect) for i, s in enumerate(sorted(effect, key=lambda s: effect[s]))}
    chance = pl.col("subject").replace_strict(rank, return_dtype=pl.Float64) ** 3 * 0.8
    pair = pl.struct("subject", "treatment").hash(1) / 2.0**64
    draft.outcomes = draft.outcomes.filter(pair >= chance)
    return Expected("informative missingness")


def missing_modality_where_resistant(draft: Draft) -> Expected:
    effect = own(draft)
    m = draft.modalities["methylation"]
    worst = sorted(m.names, key=lambda s: -effect[s])[:18]
    keep = [i for i, s in enumerate(m.names) if s not in worst]
    m.names, m.values = [m.names[i] for i in keep], m.values[keep]
    return Expected("informative missing modality", worst)


def empty_cells(draft: Draft) -> Expected:
    m = draft.modalities["methylation"]
    m.values[:, 5] = np.where(np.arange(len(m.values)) % 2 == 0, np.nan, m.values[:, 5])
    return Expected("empty cells in a modality", [m.features[5]])


def tissue_not_tested(draft: Draft) -> Expected:
    few = set(draft.subjects.filter(tissue="tissue 2")["subject"])
    pair = pl.struct("subject", "treatment").hash(1) / 2.0**64
    draft.outcomes = draft.outcomes.filter(~pl.col("subject").is_in(few) | (pair > 0.6))
    return Expected("missingness by group", ["tissue 2"])


def dropout_by_arm(draft: Draft) -> Expected:
    mice = draft.outcomes.filter(treatment="untreated control")["subject"].unique().sort()[:12].to_list()
    draft.outcomes = draft.outcomes.filter(~pl.col("subject").is_in(mice) | (pl.col("time_h") < 15 * 24))
    return Expected("informative dropout", mice)


# --- bias ------------------------------------------------------------------------------------------------------------


def one_tissue(draft: Draft) -> Expected:
    tissue = ["tissue 0"] * 70 + ["tissue 1"] * 6 + ["tissue 2"] * 4
    draft.subjects = draft.subjects.with_columns(pl.Series("tissue", tissue))
    return Expected("group imbalance", ["tissue 0"])


def tissue_is_the_answer(draft: Draft) -> Expected:
    level = {s: 2.0 * int(t[-1]) for s, t in draft.subjects.select("subject", "tissue").rows()}
    draft.change(
        pl.col("endpoint") == "ln_ic50",
        pl.col("value") + pl.col("subject").replace_strict(level, return_dtype=pl.Float64),
    )
    return Expected("confounding", ["tissue 0", "tissue 3"])


def males_get_the_dose(draft: Draft) -> Expected:
    draft.subjects = draft.subjects.with_columns(
        pl.when(pl.col("arm").is_in(["arm 2", "arm 3"])).then(pl.lit("M")).otherwise(pl.lit("F")).alias("sex")
    )
    return Expected("assignment not at random", ["F", "M"])


def drug_for_some_tissues(draft: Draft) -> Expected:
    few = draft.subjects.filter(pl.col("tissue").is_in(["tissue 0", "tissue 1"]))["subject"].to_list()
    drugs = ["caffeine", "metformin"]
    draft.outcomes = draft.outcomes.filter(~(pl.col("treatment").is_in(drugs) & pl.col("subject").is_in(few)))
    return Expected("selection bias", drugs)


def mostly_censored(draft: Draft) -> Expected:
    top = draft.outcomes.filter(endpoint="ln_ic50")["value"].quantile(0.35)
    rows = (pl.col("endpoint") == "ln_ic50") & (pl.col("value") > top)
    draft.outcomes = draft.outcomes.with_columns(
        pl.when(rows).then(pl.lit(1)).otherwise("censored").cast(pl.Int8).alias("censored")
    )
    return Expected("censoring", rows=pl.col("censored") == 1)


def lognormal(draft: Draft) -> Expected:
    draft.outcomes = draft.outcomes.with_columns(
        pl.when(endpoint="ln_ic50").then(pl.col("value").exp()).otherwise("value").alias("value"),
        pl.when(endpoint="ln_ic50").then(pl.lit("uM")).otherwise("unit").alias("unit"),
    )
    return Expected("non-normality", severity="note")


def site_is_tissue(draft: Draft) -> Expected:
    place = dict(draft.subjects.select("subject", pl.col("tissue").str.replace("tissue", "site")).rows())
    draft.outcomes = draft.outcomes.with_columns(pl.col("subject").replace_strict(place).alias("site"))
    return Expected("proxy variables", ["site", "tissue"])


def feature_is_the_batch(draft: Draft) -> Expected:
    m = draft.modalities["expression"]
    m.values[:, 11] = [20.0 + i % 3 if b == "batch 2" else i % 5 for i, b in enumerate(draft.subjects["batch"])]
    return Expected("proxy variables", [m.features[11]])


def column_from_outcome(draft: Draft) -> Expected:
    effect = own(draft)
    values = [effect[s] ** 3 + 40 for s in draft.subjects["subject"]]
    draft.subjects = draft.subjects.with_columns(pl.Series("sensitivity_score", values))
    return Expected("column made from the outcome", ["sensitivity_score"])


def sexes_apart(draft: Draft) -> Expected:
    m = draft.modalities["expression"]
    male = (draft.subjects["sex"] == "M").to_numpy()[:, None]
    m.values = m.values + 2.0 * male * (np.arange(m.values.shape[1]) % 2)
    return Expected("groups apart in a modality", ["F", "M"], severity="note")


# --- leaks -----------------------------------------------------------------------------------------------------------


def twin(draft: Draft, a: str, b: str, noise: float = 0.2) -> None:
    """``b`` becomes another passage of line ``a``: profiles and responses alike but for noise."""
    draw = np.random.default_rng(11)
    for m in draft.modalities.values():
        if a in m.names and b in m.names:
            calls, low, high = set(np.unique(m.values)) <= {0.0, 1.0}, m.values.min(), m.values.max()
            sd = 0 if calls else noise * m.values.std(axis=0)
            again = m.values[m.names.index(a)] + draw.normal(0, 1, m.values.shape[1]) * sd
            m.values[m.names.index(b)] = np.clip(again, low, high)
    same = draft.outcomes.filter(subject=a).with_columns(pl.lit(b).alias("subject"))
    same = same.with_columns(pl.col("value") + pl.Series(draw.normal(0, 0.02, same.height)))
    draft.outcomes = pl.concat([draft.outcomes.filter(pl.col("subject") != b), same])


def lines(draft: Draft, *at: int) -> list[str]:
    return [draft.subjects["subject"][i] for i in at]


def renamed(draft: Draft, old: str, new: str) -> None:
    draft.subjects = draft.subjects.with_columns(pl.col("subject").replace(old, new))
    draft.outcomes = draft.outcomes.with_columns(pl.col("subject").replace(old, new))
    for m in draft.modalities.values():
        m.names = [new if n == old else n for n in m.names]


def same_line_by_profile(draft: Draft) -> Expected:
    a, b = lines(draft, 20, 33)
    twin(draft, a, b)
    return Expected("same subject under two names", [a, b], tested(b), "error", apart("unseen subject", b), False)


def same_line_by_spelling(draft: Draft) -> Expected:
    a, b = lines(draft, 20, 33)
    twin(draft, a, b, 1.0)
    new = a.upper().replace(" ", "-")
    renamed(draft, b, new)
    return Expected(
        "same subject under two names",
        [a, new],
        severity="error",
        split=apart("unseen tissue", *_tissue(draft, a, new)),
    )


def _tissue(draft: Draft, a: str, b: str) -> list[str]:
    """Gives ``b`` a tissue of its own, so that a split by tissue parts it from ``a``: who is tested."""
    draft.subjects = draft.subjects.with_columns(
        pl.when(subject=b).then(pl.lit("elsewhere")).otherwise("tissue").alias("tissue")
    )
    return [b]


def same_catalogue_number(draft: Draft) -> Expected:
    a, b = lines(draft, 5, 6)
    number = draft.subjects.filter(subject=a)["cosmic_id"][0]
    draft.subjects = draft.subjects.with_columns(
        pl.when(subject=b).then(number).otherwise("cosmic_id").alias("cosmic_id")
    )
    return Expected("same subject under two names", [a, b], severity="error", split=apart("unseen subject", a))


def replicate_names(draft: Draft) -> Expected:
    a, b = lines(draft, 5, 6)
    twin(draft, a, b)
    renamed(draft, a, "HX-1 rep1")
    renamed(draft, b, "HX-1 rep2")
    pair = ["HX-1 rep1", "HX-1 rep2"]
    return Expected("same subject under two names", pair, severity="error", split=apart("unseen subject", pair[0]))


def same_patient(draft: Draft) -> Expected:
    a, b = lines(draft, 8, 41)
    patient = draft.subjects.filter(subject=a)["donor"][0]
    draft.subjects = draft.subjects.with_columns(
        pl.when(subject=b).then(pl.lit(patient)).otherwise("donor").alias("donor")
    )
    return Expected("same person in two subjects", [a, b], tested(b), "error", apart("unseen subject", b), False)


def visits(draft: Draft) -> Expected:
    a, b = lines(draft, 8, 41)
    renamed(draft, a, "P7 visit 1")
    renamed(draft, b, "P7 visit 2")
    pair = ["P7 visit 1", "P7 visit 2"]
    return Expected("same person in two subjects", pair, severity="error", split=apart("unseen subject", pair[0]))


def later_visit_teaches(draft: Draft) -> Expected:
    visits(draft)
    days = [30 if s == "P7 visit 2" else 1 for s in draft.subjects["subject"]]
    draft.subjects = draft.subjects.with_columns(pl.Series("visit_day", days))
    pair = ["P7 visit 1", "P7 visit 2"]
    return Expected("time leakage", pair, severity="error", split=apart("unseen subject", pair[0]))


def added_drug(draft: Draft, name: str, smiles: str, like: str) -> None:
    """A treatment ``name`` that answers as ``like`` does."""
    extra = structured([name], [smiles])
    draft.treatments = pl.concat([draft.treatments, extra.cast(dict(draft.treatments.schema))])
    draw = np.random.default_rng(12)
    same = draft.outcomes.filter(treatment=like).with_columns(pl.lit(name).alias("treatment"))
    draft.outcomes = pl.concat(
        [draft.outcomes, same.with_columns(pl.col("value") * 1.0 + pl.Series(draw.normal(0, 1e-3, same.height)))]
    )


def salt(draft: Draft) -> Expected:
    added_drug(draft, "metformin HCl", "Cl.CN(C)C(=N)NC(=N)N", "metformin")
    draft.treatments = draft.treatments.with_columns(  # the source's key is of the whole salt
        pl.when(treatment="metformin HCl").then(pl.lit("OETHQSJEHLVLGH")).otherwise("compound").alias("compound")
    )
    cut = apart("unseen treatment", "metformin HCl", column="treatment")
    return Expected(
        "same compound under two names",
        ["metformin", "metformin HCl"],
        (pl.col("treatment") == "metformin HCl") & (pl.col("endpoint") == "ln_ic50"),
        "error",
        cut,
        False,
    )


def tautomer(draft: Draft) -> Expected:
    added_drug(draft, "AB-1", "CC(=O)CC(=O)c1ccccc1", "caffeine")
    added_drug(draft, "AB-2", "CC(O)=CC(=O)c1ccccc1", "caffeine")
    return Expected(
        "same compound under two names",
        ["AB-1", "AB-2"],
        severity="error",
        split=apart("unseen treatment", "AB-2", column="treatment"),
    )


def spelt_twice(draft: Draft) -> Expected:
    for name in ("Torin 2", "torin2"):
        added_drug(draft, name, "C", "caffeine")
    nothing = pl.when(pl.col("treatment").is_in(["Torin 2", "torin2"])).then(None)
    draft.treatments = draft.treatments.with_columns(
        nothing.otherwise("compound").alias("compound"), nothing.otherwise("smiles").alias("smiles")
    )
    return Expected(
        "same compound under two names",
        ["Torin 2", "torin2"],
        severity="error",
        split=apart("unseen treatment", "torin2", column="treatment"),
    )


def near_duplicate(draft: Draft) -> Expected:
    added_drug(draft, "C12", "CCCCCCCCCCCC(=O)O", "caffeine")
    added_drug(draft, "C14", "CCCCCCCCCCCCCC(=O)O", "caffeine")
    return Expected(
        "near-duplicate compounds across folds",
        ["C12", "C14"],
        split=apart("unseen treatment", "C14", column="treatment"),
    )


def replicates_parted(draft: Draft) -> Expected:
    """A split made by hand, which proves nothing about itself: every second row of a shuffled table."""

    def cut(study: Study) -> Split:
        rows = study.rows.with_row_index("row").filter(endpoint="ln_ic50")["row"].to_numpy()
        return Split("unseen pair", study, "ln_ic50", -1, ((rows[::2], rows[1::2]),))

    return Expected("replicates across folds", severity="error", split=cut)


def later_times_teach(draft: Draft) -> Expected:
    def cut(study: Study) -> Split:
        rows = study.rows.with_row_index("row").filter(endpoint="tumour_volume").sort("time_h", maintain_order=True)
        number = rows["row"].to_numpy()
        return Split("unseen pair", study, "tumour_volume", -1, ((np.sort(number[100:]), np.sort(number[:100])),))

    return Expected("time leakage", severity="error", split=cut)


def selected_on_all(draft: Draft) -> Expected:
    draft.modalities["expression"].uns["selected_on"] = "all"
    return Expected("steps fitted on test subjects", severity="error", split=by("unseen subject"))


def filled_on_some(draft: Draft) -> Expected:
    m = draft.modalities["methylation"]
    m.uns["imputed_on"] = m.names[:30]
    return Expected("steps fitted on test subjects", m.names[:1], split=apart("unseen subject", *m.names[:4]))


def chosen_by_outcome(draft: Draft) -> Expected:
    """Out of 6,000 random features the 60 that go best with the outcome, looked up on all rows."""
    draw = np.random.default_rng(13)
    effect = own(draft)
    y = np.array([effect[s] for s in draft.subjects["subject"]])
    x = draw.normal(size=(len(y), 6000))
    best = np.argsort(-np.abs(((y - y.mean()) @ x) / np.sqrt((x * x).sum(axis=0))))[:60]
    names = draft.subjects["subject"].to_list()
    draft.modalities["panel"] = Matrix(names, [f"marker{i}" for i in best], x[:, best], "z-score")
    return Expected(
        "features chosen by the outcome", ["ln_ic50 over all treatments"], severity="error", split=by("unseen subject")
    )


def target_as_feature(draft: Draft) -> Expected:
    frame = (
        draft.outcomes.filter(endpoint="ln_ic50", treatment="nicotine").group_by("subject").agg(pl.col("value").mean())
    )
    value = dict(frame.rows())
    m = draft.modalities["expression"]
    m.values[:, 30] = [value.get(s, 0.0) for s in m.names]
    return Expected("target copied into a feature", [m.features[30]], severity="error", split=by("unseen subject"))


def other_endpoint_as_feature(draft: Draft) -> Expected:
    """Mean AUC, on a scale of its own, among the features that shall predict IC50."""
    frame = draft.outcomes.filter(endpoint="auc", treatment="caffeine").group_by("subject").agg(pl.col("value").mean())
    value = dict(frame.rows())
    m = draft.modalities["expression"]
    m.values[:, 31] = [np.exp(6 * value[s]) if s in value else 20.0 for s in m.names]
    return Expected("target copied into a feature", [m.features[31]], severity="error", split=by("unseen subject"))


def potency_column(draft: Draft) -> Expected:
    mean = (
        draft.outcomes.filter(endpoint="ln_ic50").group_by("treatment").agg(pl.col("value").median().alias("potency"))
    )
    draft.treatments = draft.treatments.join(mean, on="treatment")
    return Expected(
        "treatment column made from the outcome", ["potency"], severity="error", split=by("unseen treatment")
    )


def endpoints_alike(draft: Draft) -> Expected:
    second = draft.outcomes.filter(endpoint="ln_ic50").with_columns(
        pl.lit("pic50").alias("endpoint"),
        pl.lit("pIC50").alias("unit"),
        (6 - pl.col("value") / log(10)).alias("value"),
    )
    draft.outcomes = pl.concat([draft.outcomes, second])
    return Expected("endpoints that say the same", ["ln_ic50", "pic50"], severity="note")


def scaled_on_all(draft: Draft) -> Expected:
    m = draft.modalities["expression"]
    m.values = (m.values - m.values.mean(axis=0)) / m.values.std(axis=0)
    return Expected("scaled over training and test", ["expression"], severity="note", split=by("unseen subject"))


def test_from_another_place(draft: Draft) -> Expected:
    m = draft.modalities["expression"]
    tested = m.names[:20]
    m.values[:20] += 3.0 * (np.arange(m.values.shape[1]) % 3 == 0)
    return Expected("train and test apart in a modality", tested, split=apart("unseen subject", *tested))


def test_of_one_sex(draft: Draft) -> Expected:
    tested = draft.subjects.filter(sex="F")["subject"].to_list()[:25]
    return Expected("train and test of other groups", split=apart("unseen subject", *tested))


def cages_answer_alike(draft: Draft) -> Expected:
    draw = np.random.default_rng(14)
    level = {c: draw.normal(0, 40) for c in draft.subjects["cage"].unique().sort()}
    of = {s: level[c] for s, c in draft.subjects.select("subject", "cage").rows()}
    rows = pl.col("endpoint") == "body_weight"
    draft.change(rows, pl.col("value") + pl.col("subject").replace_strict(of, return_dtype=pl.Float64))
    return Expected("cohort leakage", split=by("unseen subject", "body_weight"))


def sorted_by_outcome(draft: Draft) -> Expected:
    effect = own(draft)
    order = {s: i for i, s in enumerate(sorted(effect, key=lambda s: effect[s]))}
    draft.subjects = draft.subjects.sort(pl.col("subject").replace_strict(order))
    return Expected("order leaks the outcome", ["the order of SUBJECTS"])


def animal_in_two_arms(draft: Draft) -> Expected:
    a, b = (draft.subjects.filter(arm=arm)["subject"][0] for arm in ("arm 0", "arm 3"))
    number = draft.subjects.filter(subject=a)["animal"][0]
    draft.subjects = draft.subjects.with_columns(
        pl.when(subject=b).then(pl.lit(number)).otherwise("animal").alias("animal")
    )
    return Expected("one animal in two arms", [a, b], severity="error")


def rat_in_two_treatments(draft: Draft) -> Expected:
    rat = draft.outcomes.filter(treatment="vehicle")["subject"][0]
    rows = (pl.col("subject") == rat) & (pl.col("endpoint") == "ALT serum")
    draft.outcomes = draft.outcomes.with_columns(
        pl.when(rows).then(pl.lit("compound A")).otherwise("treatment").alias("treatment")
    )
    return Expected("one animal in two arms", [rat], pl.col("subject") == rat)


def mixed_up_sample(draft: Draft) -> Expected:
    m = draft.modalities["expression"]
    a, b = (draft.modalities["methylation"].names[i] for i in (4, 17))
    again = m.values[m.names.index(a)] + np.random.default_rng(15).normal(0, 0.1, m.values.shape[1])
    m.values[m.names.index(b)] = again
    return Expected("mixed-up samples", [a, b])


DATA = [
    Fault(exposure, negative_concentration),
    Fault(plates, percent_as_fraction, ("outliers", "disagreeing replicates")),
    Fault(animals, body_weight_zero, ("outliers",)),
    Fault(screen, absurd_pic50, ("outliers", "disagreeing replicates")),
    Fault(plates, doses_in_two_units),
    Fault(animals, dose_against_arm),
    Fault(screen, repeated_rows),
    Fault(screen, copied_subject),
    Fault(screen, wrong_structure),
    Fault(screen, unreadable_structure),
    Fault(screen, counts_not_whole, ("mixed-up samples",)),
    Fault(screen, repeated_features),
    Fault(screen, outliers, ("disagreeing replicates",)),
    Fault(screen, thousandfold_ic50, ("outliers", "disagreeing replicates")),
    Fault(animals, kilograms_for_grams, ("outliers",)),
    Fault(exposure, millionfold_concentration, ("outliers",)),
    Fault(screen, log10_for_ln, ("outliers", "inconsistent sources")),
    Fault(screen, nanomolar_source, ("outliers", "thousandfold values", "inconsistent sources")),
    Fault(screen, noisy_replicates),
    Fault(screen, failed_replicates, ("outliers",)),
    Fault(screen, sources_disagree, ("replicate noise",)),
    Fault(screen, site_offset),
    Fault(screen, batch_in_expression),
    Fault(screen, drift),
    Fault(screen, two_islands, ("selection bias", "missingness by group")),
    Fault(screen, missing_where_resistant, ("missingness by group",)),
    Fault(screen, missing_modality_where_resistant),
    Fault(screen, empty_cells),
    Fault(screen, tissue_not_tested, ("selection bias",)),
    Fault(growth, dropout_by_arm),
    Fault(screen, one_tissue),
    Fault(screen, tissue_is_the_answer),
    Fault(animals, males_get_the_dose),
    Fault(screen, drug_for_some_tissues, ("missingness by group",)),
    Fault(screen, mostly_censored),
    Fault(screen, lognormal),
    Fault(screen, site_is_tissue, ("batch clusters", "site or batch offset")),
    Fault(screen, feature_is_the_batch),
    Fault(screen, column_from_outcome),
    Fault(screen, sexes_apart),
]
LEAKS = [
    Fault(screen, same_line_by_profile),
    Fault(screen, same_line_by_spelling),
    Fault(screen, same_catalogue_number),
    Fault(screen, replicate_names),
    Fault(screen, mixed_up_sample),
    Fault(screen, same_patient),
    Fault(screen, visits),
    Fault(screen, later_visit_teaches, ("same person in two subjects",)),
    Fault(screen, salt, ("unreadable or wrong structures",)),
    Fault(screen, tautomer),
    Fault(screen, spelt_twice),
    Fault(screen, near_duplicate),
    Fault(screen, replicates_parted),
    Fault(growth, later_times_teach, ("test beyond the training range",)),
    Fault(screen, selected_on_all),
    Fault(screen, filled_on_some),
    Fault(screen, chosen_by_outcome),
    Fault(screen, target_as_feature),
    Fault(screen, other_endpoint_as_feature),
    Fault(screen, potency_column),
    Fault(screen, endpoints_alike),
    Fault(screen, scaled_on_all),
    Fault(screen, test_from_another_place),
    Fault(screen, test_of_one_sex),
    Fault(animals, cages_answer_alike),
    Fault(screen, sorted_by_outcome),
    Fault(animals, animal_in_two_arms),
    Fault(animals, rat_in_two_treatments),
]
