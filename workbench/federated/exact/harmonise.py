"""Before round one: do the sites speak of the same things? Differences are named, then refused or harmonised.

    endpoint      another quantity is refused
    its unit      converted exactly (``workbench.units``) where both are logarithms, or neither; else refused
    features      those that all have; a site that lacks too many of them is refused, so that it does not rob the others
    feature unit  another one is refused: expression cannot be converted without its raw data
    treatments    the union; one under two names is matched by its compound key, where no site has both names

Majority rules: what most sites have is what the others are compared with (ties: what comes first in the alphabet).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from workbench import units
from workbench.federated.exact.rows import digest
from workbench.federated.messages import Ask, Gathered, Reply, Value
from workbench.federated.sites import Sites, TooFewSites

SHARE = 0.8  # of the features of most sites that a site has to have


@dataclass(frozen=True)
class Difference:
    """One difference of one site: what it has, what most have, and what was done ("refused" or "harmonised")."""

    site: str
    what: str
    found: str
    expected: str
    done: str

    def __str__(self) -> str:
        return f"{self.site}: {self.what} is {self.found}; most sites have {self.expected}: {self.done}."


@dataclass(frozen=True)
class Plan:
    """What the sites agreed on.

    Attributes
    ----------
    sites : those that take part; ``rows`` of each, for training, and ``axes``, the most it answers for
    refused : {site: why}, also of sites that did not answer
    modality, feature_unit, features : the inputs, in order
    endpoint, unit, treatments : the outputs; sites convert to ``unit``
    alias : {name of a treatment at a site: agreed name}
    differences : every one found
    same : True where every site's own features are the agreed ones, so that the list need not travel
    """

    sites: tuple[str, ...]
    rows: Mapping[str, int]
    axes: Mapping[str, int]
    refused: Mapping[str, str]
    modality: str
    feature_unit: str
    features: list[str]
    endpoint: str
    unit: str
    treatments: list[str]
    alias: Mapping[str, str] = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()
    same: bool = True

    def values(self) -> dict[str, Value]:
        """What every later ask says of it."""
        said: dict[str, Value] = {
            "sites": list(self.sites),
            "modality": self.modality,
            "feature_unit": self.feature_unit,
            "feature_digest": digest(self.features),
            "endpoint": self.endpoint,
            "unit": self.unit,
            "treatments": self.treatments,
            "alias_from": list(self.alias),
            "alias_to": list(self.alias.values()),
        }
        return said if self.same else said | {"features": self.features}

    def text(self) -> str:
        """As JSON, for a state file."""
        plain = {k: getattr(self, k) for k in self.__dataclass_fields__ if k != "differences"}
        return json.dumps(plain | {"differences": [vars(d) for d in self.differences]})

    @classmethod
    def of(cls, text: str) -> Plan:
        """What ``text`` gave."""
        plain = json.loads(text)
        differences = tuple(Difference(**d) for d in plain.pop("differences"))
        return cls(**{**plain, "sites": tuple(plain["sites"]), "differences": differences})


def agree(
    sites: Sites,
    modality: str = "expression",
    endpoint: str | None = None,
    least: int = 1,
    share: float = SHARE,
    without: Mapping[str, str] | None = None,
    axes: int = 0,
) -> Plan:
    """Ask every site for its schema and agree.

    Parameters
    ----------
    endpoint : the one wanted; None takes that of most sites
    share : least share of most sites' features that a site has to have
    without : {site: why it shall not take part}
    axes : fewest axes that a site has to answer for

    Raises
    ------
    workbench.federated.sites.TooFewSites
        Fewer than ``least`` sites fit together; the message names each that does not, and why.
    """
    ask = Ask("schema", values={"modality": modality})
    without = dict(without or {})
    gathered = sites.ask(ask, of=[n for n in sites.names if n not in without] if without else None)
    refused, found = {**without, **gathered.lost}, list[Difference]()
    replies = {r.site: r for r in gathered.replies}

    def hold(key: str, what: str, wanted: str | None = None) -> str:
        """Refuse every site whose ``key`` is not the common one; returns that."""
        common = wanted or _most([str(r.values[key]) for r in replies.values()])
        for site, reply in list(replies.items()):
            if (own := str(reply.values[key])) != common:
                _refuse(replies, refused, found, Difference(site, what, repr(own), repr(common), "refused"))
        return common

    _some(replies, refused, least)
    agreed_endpoint = hold("endpoint", "the endpoint", endpoint)
    _some(replies, refused, least)
    unit = _unit(replies, refused, found)
    feature_unit = hold("feature_unit", f"the unit of {modality}")
    _some(replies, refused, least)
    for site, reply in list(replies.items()):
        if (most := int(reply.arrays["axes"].sum())) < axes:
            said = Difference(site, "the number of axes it answers for", f"{most}", f"at least {axes}", "refused")
            _refuse(replies, refused, found, said)
    _some(replies, refused, least)
    features, same = _features(sites, replies, refused, found, modality, share)
    _some(replies, refused, least)
    treatments, alias = _treatments(replies, found)
    rows, most_axes = ({s: int(r.arrays[k].sum()) for s, r in replies.items()} for k in ("rows", "axes"))
    return Plan(
        tuple(replies), rows, most_axes, refused, modality, feature_unit, features, agreed_endpoint, unit, treatments,
        alias, tuple(found), same,
    )  # fmt: skip


def _most(values: Sequence[str]) -> str:
    count = Counter(values)
    return min(count, key=lambda v: (-count[v], v))


def _refuse(replies: dict[str, Reply], refused: dict[str, str], found: list[Difference], why: Difference) -> None:
    del replies[why.site]
    refused[why.site] = str(why)
    found.append(why)


def _some(replies: Mapping[str, Reply], refused: Mapping[str, str], least: int) -> None:
    if len(replies) < max(least, 1):
        told = (f"{site}: {reason.removeprefix(f'{site}: ')}" for site, reason in sorted(refused.items()))
        why = "; ".join(told) or "none was there"
        raise TooFewSites(f"{len(replies)} of the {max(least, 1)} sites needed fit together ({why}).")


def _unit(replies: dict[str, Reply], refused: dict[str, str], found: list[Difference]) -> str:
    common = _most([str(r.values["unit"]) for r in replies.values()])
    for site, reply in list(replies.items()):
        if (own := str(reply.values["unit"])) == common:
            continue
        what = f"the unit of {reply.values['endpoint']}"
        if _convertible(own, common):
            found.append(Difference(site, what, repr(own), repr(common), "harmonised"))
        else:
            _refuse(replies, refused, found, Difference(site, what, repr(own), repr(common), "refused"))
    return common


def _convertible(own: str, common: str) -> bool:
    """Is the conversion one of any value? From plain to logarithm it is not: 0 has none."""
    try:
        a, b = units.parse(own), units.parse(common)
        units.convert(np.ones(1), own, common)
    except units.UnitError:
        return False
    return (a.log is None) == (b.log is None)


def _features(
    sites: Sites,
    replies: dict[str, Reply],
    refused: dict[str, str],
    found: list[Difference],
    modality: str,
    share: float,
) -> tuple[list[str], bool]:
    """Common features in the order of most sites, and whether all sites have just these."""
    digests = {site: str(r.values["feature_digest"]) for site, r in replies.items()}
    named: Gathered = sites.ask(Ask("schema", values={"modality": modality, "features": True}), of=_tellers(digests))
    lists = {digests[r.site]: [str(n) for n in _list(r.values["features"])] for r in named.replies}
    for site in [s for s in replies if digests[s] not in lists]:  # nobody told its names
        refused[site] = named.lost.get(site, f"its features of {modality!r} are not known")
        del replies[site]
    _some(replies, refused, 1)
    digests = {site: digests[site] for site in replies}
    most = _most(list(digests.values()))
    common = lists[most]
    agreed = common
    for site in list(replies):
        own = set(lists[digests[site]])
        lacks, more = [n for n in common if n not in own], len(own - set(common))
        if len(lacks) > (1 - share) * len(common):
            said = f"lacking {len(lacks):,} features, {lacks[0]!r} first"
            _refuse(replies, refused, found, Difference(site, modality, said, f"{len(common):,} features", "refused"))
            continue
        if lacks or more:
            said = f"lacking {len(lacks):,} features" + (f" ({', '.join(lacks[:5])})" if lacks else "")
            said += f" and has {more:,} others" if more else ""
            wanted = f"{len(common):,} features"
            found.append(Difference(site, modality, said, wanted, "harmonised"))
        agreed = [n for n in agreed if n in own]
    wanted_digest = digest(agreed)
    return agreed, all(digests[s] == wanted_digest for s in replies)


def _tellers(digests: Mapping[str, str]) -> list[str]:
    """One site for each list of features there is; where all agree, one alone tells the names."""
    first: dict[str, str] = {}
    for site, own in digests.items():
        first.setdefault(own, site)
    return list(first.values())


def _list(value: Value) -> list:
    return value if isinstance(value, list) else []


def _treatments(replies: Mapping[str, Reply], found: list[Difference]) -> tuple[list[str], dict[str, str]]:
    """The union of treatments, and {name: agreed name} of those that one compound has at different sites."""
    held: dict[str, set[str]] = {}  # treatment: sites
    keys: dict[str, set[str]] = {}  # compound key: treatments
    for site, reply in replies.items():
        for name, key in zip(_list(reply.values["treatments"]), _list(reply.values["compounds"]), strict=True):
            held.setdefault(str(name), set()).add(site)
            keys.setdefault(str(key), set()).add(str(name))
    alias: dict[str, str] = {}
    for names in keys.values():
        ordered = sorted(names, key=lambda n: (-len(held[n]), n))
        for name in ordered[1:]:
            to = ordered[0]
            if held[name] & held[to]:
                continue  # a site has both: two treatments of its own
            alias[name] = to
            for site in sorted(held[name]):
                found.append(Difference(site, "a treatment's name", repr(name), repr(to), "harmonised"))
            held[to] |= held[name]
    return sorted(set(held) - set(alias)), alias
