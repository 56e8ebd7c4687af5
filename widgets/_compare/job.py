"""One piece of work beside the page: started, watched, and its end told to whoever waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import panel as pn

LOOK_MS = 250
Work = Callable[[Callable[[float, str], None]], Any]


class Job:
    """``work(say)`` on a thread of its own; it may ``say(fraction, words)`` how far it is.

    Attributes
    ----------
    fraction, doing : how far it is, and with what
    result : what it returned, when it is done and nothing went wrong
    error : what went wrong, in words; empty otherwise
    """

    def __init__(self, work: Work) -> None:
        self.result: Any = None
        self.error, self.fraction, self.doing = "", 0.0, ""
        self._began = time.monotonic()
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True, name="comparison")
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._work(self._say)
        except Exception as error:  # a page must say what is wrong, not die of it
            ours = type(error).__module__.startswith("workbench")  # then the message says all there is to say
            self.error = str(error) if ours else f"{type(error).__name__}: {error}"

    def _say(self, fraction: float, doing: str) -> None:
        self.fraction, self.doing = fraction, doing

    @property
    def done(self) -> bool:
        """Has it ended, well or not?"""
        return not self._thread.is_alive()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    def wait(self, seconds: float) -> bool:
        """Wait for the end; whether it has come."""
        self._thread.join(seconds)
        return self.done


class Desk:
    """One job at a time for a page: a new one makes it forget the one before, whose end is then told to nobody."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self._watch: Any = None

    def start(
        self, work: Work, ended: Callable[[Job], None], going: Callable[[Job], None], patience: float = 0.2
    ) -> None:
        """Begin; ``going`` is called while it runs, ``ended`` once, both where the page may be changed.

        ``patience`` [s] is how long the page itself waits, so that what is quick needs no word of waiting.
        """
        self.stop()
        job = self.job = Job(work)
        if job.wait(patience):
            ended(job)
            return
        going(job)

        def look() -> None:
            if job is not self.job:
                return
            if job.done:
                self.stop()
                ended(job)
            else:
                going(job)

        def watch() -> None:
            if job is self.job:
                self._watch = pn.state.add_periodic_callback(look, period=LOOK_MS)

        pn.state.onload(watch)  # what changes while a page's connection still opens may never reach the browser

    def stop(self) -> None:
        """Listen no longer; the thread ends by itself."""
        if self._watch is not None:
            self._watch.stop()
        self._watch = self.job = None
