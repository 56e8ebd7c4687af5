"""A site: it holds rows, is asked, and answers; what leaves passes its policy and is written down first.

    ask -> policy.permit -> asked/<purpose>.answer -> policy -> outgoing check -> ledger -> reply

Whatever goes wrong inside becomes a refusal with a reason that names no row; nothing is half sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench import modalities, rooms
from workbench.federated.asked import Answer
from workbench.federated.messages import Ask, Reply
from workbench.federated.policy import Policy, PolicyError
from workbench.splits import Fold
from workbench.text import nearest

ASKED = "workbench.federated.asked"
NO_MODALITY = "this site has no modality"
log = logging.getLogger(__name__)  # stays at the site
Outgoing = Callable[
    ["Site", Ask, Answer], Answer
]  # may refuse (PolicyError), change or write down; the last one writes


class SiteError(ValueError):
    """A site cannot do what it is asked with the data it has; the text is sent and must not quote a row."""


@dataclass
class Site:
    """What one institution runs.

    Attributes
    ----------
    name : how the others call it
    fold : its own rows (``sharing.local``); features are read through ``block``, own subjects only
    policy : its rules
    outgoing : what every answer passes on its way out, in order (checks for rows, noise, the ledger)
    unlabelled : own subjects that the split does not deal (``pretraining.unlabelled``); features without responses
    memory : what ``asked`` files keep at the site between rounds ({purpose: anything}); never sent
    """

    name: str
    fold: Fold
    policy: Policy = field(default_factory=Policy)
    outgoing: Sequence[Outgoing] = ()
    memory: dict[str, Any] = field(default_factory=dict)
    unlabelled: tuple[str, ...] = ()

    @property
    def subjects(self) -> list[str]:
        """Training subjects of the site, sorted."""
        return sorted(self.fold.train["subject"].unique())

    def block(self, modality: str, subjects: Sequence[str], columns: list[str] | None = None):
        """(values (n, f) float32, presence (n,), features) of own ``subjects``; others' raise SiteError."""
        own = {*self.fold.train["subject"].unique(), *self.fold.test["subject"].unique(), *self.unlabelled}
        if not set(subjects) <= own:
            raise SiteError("a site reads its own subjects only.")
        if modality not in self.fold.study.modalities:
            raise SiteError(f"{NO_MODALITY} {modality!r}; it has {self.fold.study.modalities}.")
        block = modalities.read(self.fold.study, modality, endpoint=self.fold.endpoint, columns=columns)
        values, there = block.rows(list(subjects))
        return values, there, block.features

    def made(self, ask: Ask, leaves: bool = True) -> Answer:
        """The Answer to ``ask`` after policy and outgoing steps.

        Parameters
        ----------
        leaves : False where it is to be masked before it leaves: steps with a true attribute ``writes`` are left out,
            and write down the masked answer instead
        """
        self.policy.permit(ask.purpose, self.fold.train.height)
        if ask.purpose not in (known := rooms.names(ASKED)):
            raise SiteError(f"nobody can be asked for {ask.purpose!r}.{nearest(ask.purpose, known)}")
        made = rooms.load(ASKED, ask.purpose).answer(self, ask)
        self.policy.permit(ask.purpose, made.rows)
        if leaves and made.together > 1:
            raise PolicyError(f"policy: {ask.purpose!r} has a part of its noise only; it leaves within a secure sum.")
        for step in self.outgoing:
            if leaves or not getattr(step, "writes", False):
                made = step(self, ask, made)
        return made

    def answer(self, ask: Ask) -> Reply:
        """The Reply to ``ask``; a refusal says why. Never raises for anything the asker can cause."""
        try:
            made = self.made(ask)
            arrays = {k: np.ascontiguousarray(v) for k, v in made.arrays.items()}
            exact = made.releases is None and not self.policy.epsilon  # a private answer tells no exact count
            rows = made.rows if exact and rooms.load(ASKED, ask.purpose).LEAVES.rows else 0
            return Reply(self.name, ask.purpose, ask.round, rows, arrays, dict(made.values))
        except (PolicyError, SiteError) as error:
            return self._refusal(ask, str(error))
        except Exception as error:  # the message may quote a row (a KeyError a subject), so only its kind leaves
            log.warning("%s failed on %r, round %d", self.name, ask.purpose, ask.round, exc_info=True)
            return self._refusal(ask, f"failed with {type(error).__name__}; see the site's log.")

    def _refusal(self, ask: Ask, reason: str) -> Reply:
        """A Reply without numbers; steps that keep a book write the reason down first."""
        for step in self.outgoing:
            if write := getattr(step, "refused", None):
                try:
                    write(self, ask, reason)
                except Exception as error:
                    reason = f"failed with {type(error).__name__} while a refusal was written down; see the site's log."
        return Reply(self.name, ask.purpose, ask.round, refused=reason)
