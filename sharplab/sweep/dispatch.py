"""Groups in the hands of an executor: submitted, tried again where a worker died, divided, or given up."""

import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait

from sharplab.sweep.claims import LeaseWatch
from sharplab.sweep.plan import Group
from sharplab.sweep.session import SessionLog
from sharplab.sweep.work import Assignment, Report, work

ATTEMPTS = 3  # at a group whose worker dies
SIGHTINGS = 6  # of a group that its workers stored, before it is given up
POLL_SECONDS = 0.5
TOO_LARGE = (
    "one run needs more memory than there is: record fewer eigenvalues, take a smaller probe_size or batch_size, or "
    "another machine; --dry-run tells what each width needs"
)
LONGEST_WAIT = 30.0  # seconds for a network file system to show what was stored


class SweepError(RuntimeError):
    """Some groups could not be trained; all others are stored, and the same call tries these again."""


class Dispatcher:
    """What is under way of one call of `run`, and what became of the rest.

    `assign` makes of a group what a worker needs to know to train it.
    """

    def __init__(self, executor: Executor, assign: Callable[[Group], Assignment], log: SessionLog) -> None:
        self.executor, self.assign, self.log = executor, assign, log
        self.stop_asked = False
        self.cause: BaseException | None = None  # of the last group that failed, where it is known
        self._submitted: dict[Future, Group] = {}
        self._elsewhere: list[Group] = []  # claimed by workers of another call
        self._leases = LeaseWatch(log.store)
        self._deaths: Counter[Group] = Counter()
        self._reported: Counter[str] = Counter()  # identities of runs that workers said are stored
        self._given_up: set[str] = set()

    @property
    def workers(self) -> int:
        """How many groups are trained at once; 1 where the executor does not say."""
        return getattr(self.executor, "_max_workers", 1)

    @property
    def under_way(self) -> tuple[Group, ...]:
        """The groups that are submitted, or trained by another call."""
        return (*self._submitted.values(), *self._elsewhere)

    def settled_ids(self) -> set[str]:
        """The identities of runs that need no further group: under way, or given up."""
        return self._given_up.union(*(group.run_ids for group in self.under_way))

    def stop(self) -> None:
        """Submit nothing more, and ask all workers to end."""
        self.stop_asked = True
        self.log.ask_to_stop()

    def submit(self, groups: Iterable[Group]) -> None:
        """Hand groups to the executor; what it has done at once is settled at once.

        Raises:
            SweepError: if the executor takes no more.
            ValueError: that a worker found in the settings.
        """
        for group in groups:
            if self.stop_asked:
                return
            try:
                future = self.executor.submit(work, self.assign(group))
            except Exception as error:
                self.log.ask_to_stop()
                raise SweepError(
                    f"the executor takes no more work ({type(error).__name__}: {error}): open a new one; what was "
                    "trained is stored."
                ) from error
            if future.done():
                self._settle(group, future)
            else:
                self._submitted[future] = group

    def wait(self) -> bool:
        """Wait half a second, or until a group ends and is settled; whether one has. Raises as `submit`."""
        done: set[Future] = set()
        if self._submitted:
            done, _ = wait(self._submitted, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        elif self._elsewhere:
            time.sleep(POLL_SECONDS)
        for future in done:
            self._settle(self._submitted.pop(future), future)
        if self.stop_asked:
            self._elsewhere.clear()
            for future in self._submitted:
                future.cancel()
        elif self._elsewhere:
            self._submit_freed()
        return bool(done)

    def visible(self, groups: Sequence[Group]) -> list[Group]:
        """The groups apart from those that workers have stored time and again and this process cannot see."""
        sightings = {group: max(self._reported[run] for run in group.run_ids) for group in groups}
        for group, times in sightings.items():
            if times == SIGHTINGS:
                self._give_up(
                    group, f"its workers stored it, and {self.log.store} does not show it: do all see one folder?"
                )
        if most := max(sightings.values(), default=0):
            time.sleep(min(2**most, LONGEST_WAIT))
        return [group for group, times in sightings.items() if times < SIGHTINGS]

    def _submit_freed(self) -> None:
        """Submit the groups whose claims by another call have ended."""
        taken = {run for claim in self._leases.held() for run in claim.run_ids}
        freed = [group for group in self._elsewhere if not taken.intersection(group.run_ids)]
        self._elsewhere = [group for group in self._elsewhere if group not in freed]
        if freed:
            time.sleep(random.random() * POLL_SECONDS)  # two that gave way to each other do not meet again
            self.submit(freed)

    def _settle(self, group: Group, future: Future) -> None:
        if future.cancelled():
            return
        death = future.exception()
        if death is None:
            self._act_on(group, future.result())
            return
        self._deaths[group] += 1
        if self._deaths[group] < ATTEMPTS:
            self.submit([group])
        else:
            self._give_up(group, "".join(traceback.format_exception(death)), death)

    def _act_on(self, group: Group, report: Report) -> None:
        if report.ending == "done":
            self._reported.update(group.run_ids)
            self.log.finish(group, report.best_loss, report.spent)
        elif report.ending == "elsewhere":
            self._elsewhere.append(group)
        elif report.ending == "memory" and len(group.runs) > 1:
            parts = group.parts(-(-len(group.runs) // 2))
            self.log.divide(group, parts)
            self.submit(parts)
        elif isinstance(report.error, ValueError):
            self.log.ask_to_stop()
            self.log.note(ended="failed")
            raise report.error
        elif report.ending == "memory":
            self._give_up(group, f"{report.traceback}\n{TOO_LARGE} ({report.error})", report.error)
        elif report.ending != "stopped":
            self._give_up(group, report.traceback, report.error)

    def _give_up(self, group: Group, trace: str, cause: BaseException | None = None) -> None:
        self.cause = cause or self.cause
        self._given_up.update(group.run_ids)
        self.log.fail(group, trace)
