"""What to train together: an experiment file with a table ``[federation]``, each key checked when it is read.

name = "federation_gdsc2_random"
study = "gdsc2"                      # the sites' rows are parts of it; at real sites each opens its own
endpoint = "ln_ic50"
split = "unseen subject"
only = [0]
require = ["expression", "mutation", "copy_number"]
predictors = ["ridge"]               # one: what is trained
[federation]
rounds = 20
least = 3                            # fewest sites a round may rest on
[federation.sites]
random = 5                           # or: column = "tissue", and [federation.sites.groups] blood = ["leukemia", ...]
[federation.settings]                # of the method, see ``methods``
[federation.policy]                  # of every site, in a simulation; a real site has its own
minimum_rows = 20
[federation.faults]                  # sites that fail or lie, in a rehearsal: see ``robust.planted``
"site 2" = { fault = "gone", rounds = [3] }
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from workbench import experiment, toml_file
from workbench.experiment import Experiment, ExperimentError
from workbench.federated import methods, sharing
from workbench.federated import policy as policies
from workbench.federated import settings as asked_for
from workbench.splits import Fold, Split
from workbench.study import Study
from workbench.text import nearest

SHARED = ("name", "question", "study", "endpoint", "split", "folds", "seed", "cohort", "only", "require", "draws",
          "predictors", "parameters")  # fmt: skip
PRETRAINED = ("own pretraining", "pretrained together")  # arms of method "pretraining": a site's own head on either
ARMS = ("alone", "pooled", *PRETRAINED)
KINDS: dict[str, tuple[Any, str]] = {
    "rounds": (int, "a whole number"), "least": (int, "a whole number"), "timeout_s": ((int, float), "a number"),
    "most_share": ((int, float), "a number"), "secure": (bool, "true or false"), "gated": (bool, "true or false"),
    "arms": ((list, tuple), "a list of names"),
} | dict.fromkeys(("sites", "settings", "policy", "faults"), (dict, "a table"))  # fmt: skip
GATED = ("minimum_subjects", "secure", "alone", "most_bytes_a_round", "most_bytes_a_day", "most_rounds_a_run",
         "most_rounds_a_day")  # of a policy: only the gate looks at them  # fmt: skip
SECURE = 3  # fewest sites of a secure sum: of two, each knows the other's part


class FederationError(ValueError):
    """A federation file says something that cannot be done; names the key, what was found and the nearest known."""


@dataclass(frozen=True)
class Federation:
    """A federation to run.

    Attributes
    ----------
    experiment : study, endpoint, split, folds, seed, rows and the one predictor, as in any experiment
    sites : {"random": n} or {"column": name, "groups": {site: [values]}}; {} where the sites are real ones
    method : how it is trained, a name of ``methods.METHODS``
    rounds : most rounds of a method that has rounds
    least : fewest sites whose answers a round may rest on; with fewer it stops
    timeout_s : longest wait for one site's answer [s]
    secure : sums by secure aggregation, so that no site's part is seen
    most_share : most of all sites' training rows that one site may claim; one that claims more is dropped by name
    settings : of the method
    arms : what is trained beside it, to be compared in each site: names of ``ARMS``
    gated : True where each answer passes a site's whole gate, ledger and checks for rows included, as at a real site
    policy : of every site of a simulation
    faults : {site: how it fails or lies} of a simulation, planted to rehearse it (``robust.planted``)
    """

    experiment: Experiment
    method: str
    sites: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 10
    least: int = 2
    timeout_s: float = 600.0
    secure: bool = False
    most_share: float = 1.0
    gated: bool = False
    arms: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    faults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.experiment.name

    @property
    def predictor(self) -> str:
        """Name of the predictor that is trained."""
        return self.experiment.predictors[0]

    def divide(self, study: Study) -> Split:
        """The split of ``study`` asked for."""
        return self.experiment.divide(study)

    def dealt(self, fold: Fold) -> dict[str, list[str]]:
        """{site: its subjects} of a simulation; faults of sites that there are none of raise FederationError."""
        if "random" in self.sites:
            made = sharing.at_random(fold, self.sites["random"], self.experiment.seed)
        elif "column" in self.sites:
            made = sharing.by_column(fold, self.sites["column"], self.sites.get("groups"))
        else:
            raise FederationError("[federation.sites] is empty; a simulation needs random = N or column = NAME.")
        if self.least > len(made):
            raise FederationError(f"least = {self.least} sites, but there are {len(made)}: {', '.join(made)}.")
        for site in self.faults:
            if site not in made:
                raise FederationError(
                    f"[federation.faults] names {site!r}.{nearest(site, made)} Sites: {', '.join(made)}."
                )
        return made

    def plain(self) -> dict[str, Any]:
        """As ``of`` reads it: plain values only."""
        shared = {k: v for k in SHARED if (v := getattr(self.experiment, k)) not in ("", (), {})}
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "experiment"}
        return json.loads(json.dumps(shared | {"federation": {k: v for k, v in own.items() if v not in ({}, ())}}))


def read(path: Path | str) -> Federation:
    """Read a federation file.

    Raises
    ------
    FederationError
        No such file, not TOML, an unknown key (with the nearest), a missing or ill-typed one.
    """
    path = Path(path)
    given = toml_file.read(path, FederationError)
    return of(given, str(path))


def of(given: Mapping[str, Any], where: str = "federation") -> Federation:
    """A Federation of plain values; unknown keys, types and names raise FederationError."""
    if "federation" not in given:
        raise FederationError(f"{where}: no table [federation]; for a run in one house use `workbench run`.")
    own = given["federation"]
    if not isinstance(own, dict):
        raise FederationError(f"{where}: [federation] should be a table, found {own!r}.")
    known = [f.name for f in fields(Federation) if f.name != "experiment"]
    _known(f"{where}: [federation]", own, known)
    shared = {k: v for k, v in given.items() if k != "federation"}
    _known(where, shared, SHARED)
    for key in ("name", "study", "endpoint", "split"):
        if key not in shared:
            raise FederationError(
                f"{where}: the key {key} is missing. Needed: name, study, endpoint, split, predictors."
            )
    method = _method(where, own.get("method"), shared.get("predictors"))
    shared.setdefault("predictors", [methods.METHODS[method].predictors[0]])
    try:
        plan = experiment.of(shared, where)
    except ExperimentError as error:
        raise FederationError(str(error)) from None
    if len(plan.predictors) != 1:
        raise FederationError(f"{where}: a federation trains one predictor; predictors names {len(plan.predictors)}.")
    if others := [name for name in plan.parameters if name != plan.predictors[0]]:
        raise FederationError(
            f"{where}: [parameters.{others[0]}] is of no predictor trained here, {plan.predictors[0]!r}."
        )
    if not isinstance(settings := own.get("settings", {}), dict):
        raise FederationError(f"{where}: [federation]: settings should be a table, found {settings!r}.")
    try:
        methods.check(method, plan.predictors[0], settings, where)
    except (methods.MethodError, asked_for.SettingError) as error:
        raise FederationError(str(error)) from None
    made = _typed(where, plan, {**own, "method": method})
    try:
        asked_for.check(method, plan.predictors[0], settings, plan.parameters.get(plan.predictors[0], {}), made.rounds)
    except ValueError as error:
        raise FederationError(f"{where}: [federation.settings]: {error}") from None
    return made


def _method(where: str, told: Any, predictors: Any) -> str:
    if told is None:
        if predictors is not None and not isinstance(predictors, list):
            raise FederationError(
                f'{where}: predictors should be a list, predictors = ["ridge"]; found {predictors!r}.'
            )
        if not predictors:
            raise FederationError(f'{where}: say what is trained: predictors = ["ridge"], or method in [federation].')
        try:
            return methods.of(str(predictors[0]))
        except methods.MethodError as error:
            raise FederationError(f"{where}: {error}") from None
    if not isinstance(told, str) or told not in methods.METHODS:
        hint = nearest(str(told), methods.METHODS)
        raise FederationError(f"{where}: unknown method {told!r}.{hint} Known: {', '.join(methods.METHODS)}.")
    return str(told)


def _typed(where: str, plan: Experiment, own: dict[str, Any]) -> Federation:
    where = f"{where}: [federation]"
    for key, (kind, words) in KINDS.items():
        if key in own and (not isinstance(own[key], kind) or (isinstance(own[key], bool) and kind is not bool)):
            raise FederationError(f"{where}: {key} should be {words}, found {own[key]!r}.")
    for key in ("rounds", "least", "timeout_s"):
        if key in own and not 1 <= own[key] < math.inf:
            raise FederationError(f"{where}: {key} should be at least 1, found {own[key]}.")
    if not 0 < own.get("most_share", 1.0) <= 1:
        raise FederationError(f"{where}: most_share should be above 0, at most 1; found {own['most_share']}.")
    _idle(where, plan, own)
    _sites(f"{where[:-1]}.sites]", own.get("sites", {}))
    try:
        policies.of(own.get("policy", {}), f"{where[:-1]}.policy]")
    except policies.PolicyFileError as error:
        raise FederationError(str(error)) from None
    for arm in own.get("arms", ()):
        if arm not in ARMS:
            raise FederationError(f"{where}: arms names {arm!r}.{nearest(str(arm), ARMS)} Known: {', '.join(ARMS)}.")
        if own["arms"].count(arm) > 1:
            raise FederationError(f"{where}: arms names {arm!r} twice; once is enough.")
        if arm in PRETRAINED and own["method"] != "pretraining":
            raise FederationError(f'{where}: arm {arm!r} needs method = "pretraining"; found {own["method"]!r}.')
    if own.get("secure") and own.get("settings", {}).get("rule"):
        raise FederationError(f"{where}: a robust rule looks at each site's change, which secure sums hide; give one.")
    if own.get("secure") and own.setdefault("least", SECURE) < SECURE:
        raise FederationError(
            f"{where}: least = {own['least']}: of a secure sum of two, each knows the other's part; at least {SECURE}."
        )
    if "random" in own.get("sites", {}) and own.get("least", 2) > own["sites"]["random"]:
        raise FederationError(f"{where}: least = {own['least']} sites, but there are {own['sites']['random']}.")
    if own.get("faults"):
        from workbench.federated.robust import planted

        planted.check(own["faults"], f"{where[:-1]}.faults]")
    values: dict[str, Any] = own | {"arms": tuple(own.get("arms", ()))}
    return Federation(plan, **values)


def _idle(where: str, plan: Experiment, own: Mapping[str, Any]) -> None:
    """Raise FederationError for what does nothing in this federation."""
    method, settings, policy = own["method"], own.get("settings", {}), own.get("policy", {})
    private = method == "private_ridge" or bool(settings.get("privacy"))
    if own.get("rounds", Federation.rounds) != Federation.rounds and not methods.METHODS[method].rounds:
        raise FederationError(
            f"{where}: rounds = {own['rounds']} does nothing: method {method!r} needs as many as it needs."
        )
    if private and own.get("most_share", 1.0) != 1.0:
        raise FederationError(
            f"{where}: most_share does nothing: in a private training no site says how many rows it has."
        )
    if private and settings.get("honest", 1) > 1 and not own.get("secure"):
        raise FederationError(
            f"{where}: settings.honest: sites share noise within secure sums only; say secure = true too."
        )
    epochs = "epochs" in plan.parameters.get(plan.predictors[0], {})
    if epochs and method in ("network", "pretraining") and not {"alone", "pooled"} & set(own.get("arms", ())):
        raise FederationError(
            f"{where}: [parameters.{plan.predictors[0]}]: epochs does nothing: sites train local_epochs (a setting) in "
            'each of rounds; epochs are of the arms "alone" and "pooled".'
        )
    dead = [k for k in policy if k in GATED or (k == "delta" and not policy.get("epsilon"))]
    if dead and not own.get("gated"):
        raise FederationError(
            f"{where[:-1]}.policy]: {dead[0]} is looked at by a site's gate, which this simulation goes without: say "
            "gated = true in [federation], or leave it out."
        )


def _sites(where: str, sites: dict[str, Any]) -> None:
    _known(where, sites, ("random", "column", "groups"))
    if "random" in sites:
        n = sites["random"]
        if not isinstance(n, int) or isinstance(n, bool) or n < 2:
            raise FederationError(f"{where}: random should be a number of sites, at least 2; found {n!r}.")
        if len(sites) > 1:
            raise FederationError(f"{where}: sites are dealt at random or by a column; found both.")
    elif sites:
        if not isinstance(sites.get("column"), str):
            raise FederationError(f"{where}: column should be the name of a column, found {sites.get('column')!r}.")
        groups = sites.get("groups", {})
        bad = not isinstance(groups, dict) or [
            k for k, v in groups.items() if not isinstance(v, list) or not all(isinstance(x, str) for x in v)
        ]
        if bad:
            raise FederationError(f'{where}: groups should be site = ["value", ...], found {groups!r}.')
        if "groups" in sites and len(groups) < 2:
            raise FederationError(f"{where}: groups makes {len(groups)} site; a federation needs at least 2.")
        if empty := [k for k, v in groups.items() if not v]:
            raise FederationError(f"{where}: group {empty[0]!r} holds no value; a site without rows trains nothing.")


def _known(where: str, given: Mapping[str, Any], known: Any) -> None:
    for key in given:
        if key not in known:
            raise FederationError(f"{where}: unknown key {key!r}.{nearest(key, known)} Known: {', '.join(known)}.")
