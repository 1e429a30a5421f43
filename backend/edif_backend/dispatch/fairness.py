"""Whose job runs next: start-time fair queueing over the users who wait for one model.

(P. Goyal, H. M. Vin, H. Cheng, "Start-time Fair Queueing", SIGCOMM 1996; for several slots W. Jin, J. S. Chase,
J. Kaur, "Interposed Proportional Sharing for a Storage Service Utility", SIGMETRICS 2004.)  Every user has an account
of the device-seconds they have had, divided by their weight, and whoever has had least is next.  What a job costs is
known only when it has run, so it is charged by an estimate as it starts and settled to the second as it ends.  The
estimate keeps somebody from taking all free slots at once; nobody saves up for a job before it starts.

The level is what the last one chosen had had by then.  Whoever comes is lifted to it, so nothing is saved up while
away, and it rises while others run, so debts shrink.  When nobody waited who could have run, it rises over all debts:
that time was taken from nobody.  Who comes back after jobs that took longer than expected owes a few jobs of
everybody's at most, or their own next one if that is more: an accident is shared, a habit of long jobs is not.

Who runs as many jobs as they may does not compete, is lifted to one job of everybody's below the level, and so comes
next.  A reservation is a larger weight for a while (:meth:`~edif_backend.jobs.policy.Policy.weight`).

No clock, no input or output: called by the dispatcher, and by the simulator of ``edif bench fairness``.  A decision
costs time in the number of users who wait, and none in the number of their jobs.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

#: How much the newest job counts in what a user's next job is expected to cost; of somebody new, everybody's do.
_NEWEST = 0.3

#: How many jobs of everybody's somebody who comes back owes at most, unless one of their own is more.
_OWED_JOBS = 5


@dataclass(slots=True)
class _Account:
    """One user's standing with one model."""

    had_s: float = 0.0  #: device-seconds by weight, at least the level since they came
    weight: float = 1.0
    expected_s: float = 0.0  #: cost of the next job; 0 for somebody new, whose is that of everybody
    running: int = 0
    charged_s: float = 0.0  #: what the running jobs have been charged
    came: int = 0  #: of those who have had as much, who came first is next


class FairShare:
    """The accounts of the users of one model.

    Args:
        newcomer_s: what a job is taken to cost before any has ended, in device-seconds.
    """

    def __init__(self, newcomer_s: float = 1.0) -> None:
        if not newcomer_s > 0:
            raise ValueError("A job must be worth some time.")
        self._newcomer_s = newcomer_s
        self._usual_s = newcomer_s  # what a job is expected to cost, mean over users
        self._known = 0  # of whom it is the mean
        self._accounts: defaultdict[str, _Account] = defaultdict(_Account)
        self._competing: set[str] = set()  # who was left waiting though they might have run
        self._held: set[str] = set()  # who was left waiting because as many of theirs run as may
        self._level_s = 0.0
        self._came = 0

    def choose(
        self,
        waiting: Mapping[str, int],
        slots: int,
        weight: Callable[[str], float] = lambda _: 1.0,
        room: Callable[[str], float] = lambda _: math.inf,
    ) -> list[str]:
        """Users whose oldest job is to start now, in order (one entry a job, at most ``slots``).

        Args:
            waiting: number of waiting jobs by user.
            weight: a user's weight, positive.
            room: how many more jobs of a user may start.  Who has no room is next when there is some.
        """
        able = {user: most for user, count in waiting.items() if (most := min(count, room(user))) > 0}
        self._come(able, weight)
        line = [(_compared(self._accounts[user].had_s), self._accounts[user].came, user) for user in able]
        heapq.heapify(line)
        chosen: list[str] = []
        while line and len(chosen) < slots:
            had_s, came, user = line[0]
            chosen.append(user)
            self._level_s = max(self._level_s, had_s)
            able[user] -= 1
            following = (_compared(self._charge(self._accounts[user])), came, user)
            if able[user] > 0:
                heapq.heapreplace(line, following)
            else:
                heapq.heappop(line)
        self._competing = {user for _, _, user in line}
        started = Counter(chosen)
        self._held = {user for user, count in waiting.items() if count > started.get(user, 0)} - self._competing
        return chosen

    def order(
        self, waiting: Mapping[str, int], weight: Callable[[str], float] = lambda _: 1.0, newcomer: str = ""
    ) -> list[str]:
        """Users in the order in which all waiting jobs start if they cost what is expected; nothing is changed.

        Args:
            newcomer: somebody who has never run anything and waits with one job, as well.
        """
        everybody = {**waiting, newcomer: 1} if newcomer else waiting
        return self.copy(everybody).choose(everybody, sum(everybody.values()), weight)

    def copy(self, users: Iterable[str]) -> FairShare:
        """One to think ahead with, of these users' accounts."""
        copied = FairShare(self._newcomer_s)
        copied._accounts.update({user: replace(self._accounts[user]) for user in users if user in self._accounts})
        copied._competing, copied._held = self._competing.copy(), self._held.copy()
        copied._usual_s, copied._known = self._usual_s, self._known
        copied._level_s, copied._came = self._level_s, self._came
        return copied

    def expected_s(self, user: str) -> float:
        """What the next job of ``user`` is expected to cost, in device-seconds."""
        return self._cost(self._accounts.get(user) or _Account())

    def settle(self, user: str, seconds: float) -> None:
        """A job of ``user`` has ended after ``seconds`` device-seconds: charge what the estimate did not cover."""
        account = self._accounts[user]
        account.had_s += (seconds - self._charged(account)) / account.weight
        before_s, new = self._cost(account), not account.expected_s
        guess_s = before_s if self._known else seconds  # the first job of all is what is known of jobs
        account.expected_s = guess_s + _NEWEST * (seconds - guess_s)
        self._known += new
        self._usual_s += (account.expected_s - before_s) / self._known

    def give_back(self, user: str) -> None:
        """A job of ``user`` was lost by no fault of theirs: what it was charged is given back, nothing is learnt."""
        if account := self._accounts.get(user):
            account.had_s -= self._charged(account) / account.weight

    def _cost(self, account: _Account) -> float:
        return account.expected_s or self._usual_s

    def _charge(self, account: _Account) -> float:
        """One more job of theirs runs; gives what they have had with it."""
        cost_s = self._cost(account)
        account.running += 1
        account.charged_s += cost_s
        account.had_s += cost_s / account.weight
        return account.had_s

    def _charged(self, account: _Account) -> float:
        """One job less of theirs runs; gives what it was charged, which is nothing for one of a dispatcher before."""
        if not account.running:
            return 0.0
        charged_s = account.charged_s / account.running
        account.running -= 1
        account.charged_s -= charged_s
        return charged_s

    def _come(self, able: Iterable[str], weight: Callable[[str], float]) -> None:
        """Take in who competes from now on."""
        stay = self._competing.intersection(able)
        if not stay:
            self._level_s = max([self._level_s, *(account.had_s for account in self._accounts.values())])
        for user in able:
            account = self._accounts[user]
            account.weight = weight(user)
            if user not in stay:
                saved_s = self._usual_s if user in self._held else 0.0
                owed_s = max(_OWED_JOBS * self._usual_s, self._cost(account)) / account.weight
                account.had_s = min(max(account.had_s, self._level_s - saved_s), self._level_s + owed_s)
                account.came = self._came = self._came + 1


def _compared(had_s: float) -> float:
    """What is compared: who have had as much to the nanosecond are equals, in whichever order it was added up."""
    return round(had_s, 9)


def jain_index(amounts: list[float]) -> float:
    """Jain's fairness index of what each got: 1 when all are equal, 1/n when one has all (Jain et al. 1984)."""
    total, squares = sum(amounts), sum(amount * amount for amount in amounts)
    return total * total / (len(amounts) * squares) if squares else 1.0
