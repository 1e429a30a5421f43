"""Whose job runs next: deficit round robin over the users who wait for one model.

(M. Shreedhar, G. Varghese, "Efficient Fair Queueing Using Deficit Round Robin", SIGCOMM 1995.)  Users take turns.
Each turn gives a user a quantum of device-seconds, times their weight; as long as their account covers the cost of
their next job it may run.  What a job costs is known only when it has run, so it is charged by an estimate and settled
afterwards: whoever runs longer than expected pays with later turns.  A debt shrinks by the turns that others have while
its owner stays away, as it would if they waited, and none is kept when nobody waited: that time was taken from nobody.

Who runs as many jobs as they may is passed over and comes next.  A reservation is a larger weight for a while
(:meth:`~edif_backend.jobs.policy.Policy.weight`).

No clock, no input or output: called by the dispatcher, and by the simulator of ``edif bench fairness``.  A decision
costs time in the number of users who wait, and none in the number of their jobs.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

#: How much the newest job counts in what a user's next job is expected to cost.
_NEWEST = 0.3


@dataclass(slots=True)
class _Account:
    """One user's standing with one model."""

    balance_s: float = 0.0  #: device-seconds that may be spent; negative after jobs that took longer than expected
    expected_s: float = 0.0  #: cost of the next job, by those before; 0 for somebody new
    left_at: float = 0.0  #: the round in which they last waited


class FairShare:
    """The turns and accounts of the users of one model.

    Args:
        quantum_s: device-seconds per turn at weight 1; also what a job of somebody new is taken to cost.
    """

    def __init__(self, quantum_s: float = 1.0) -> None:
        if not quantum_s > 0:
            raise ValueError("A turn must be worth some time.")
        self._quantum_s = quantum_s
        self._accounts: dict[str, _Account] = {}
        self._turns: deque[str] = deque()  # who waits, next first
        self._rounds = 0.0  # how many turns everybody who waited has had
        self._passed_over: set[str] = set()  # of them, who ran as many jobs as they may

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
            room: how many more jobs of a user may start.  Who has no room gets the worth of one turn on their account
                at most, and is next when there is some.
        """
        left = {user: count for user, count in waiting.items() if count > 0}
        self._come_and_go(left, weight)
        able = {user: most for user, count in left.items() if (most := min(count, room(user))) > 0}
        self._take_back(able)
        chosen: list[str] = []
        passed = 0  # turns in a row in which nothing started
        while able and len(chosen) < slots:
            user = self._turns[0]
            account = self._accounts[user]
            if user in able and account.balance_s >= self._cost(account):
                account.balance_s -= self._cost(account)
                chosen.append(user)
                self._count_down(user, left, able)
                passed = 0
                continue
            self._turns.rotate(-1)
            self._rounds += 1 / len(self._turns)
            self._credit(user, weight(user), 1, user in able)
            passed += 1
            if passed > len(self._turns):
                self._skip_rounds(able, weight)
                passed = 0
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
        copied = FairShare(self._quantum_s)
        copied._accounts = {user: replace(self._accounts[user]) for user in users if user in self._accounts}
        copied._turns, copied._passed_over, copied._rounds = self._turns.copy(), self._passed_over.copy(), self._rounds
        return copied

    def expected_s(self, user: str) -> float:
        """What the next job of ``user`` is expected to cost, in device-seconds."""
        return self._cost(self._accounts.get(user) or _Account())

    def settle(self, user: str, seconds: float) -> None:
        """A job of ``user`` has ended after ``seconds`` device-seconds: charge what the estimate did not cover."""
        account = self._accounts.setdefault(user, _Account())
        account.balance_s -= seconds - self._cost(account)
        account.expected_s = (
            seconds if not account.expected_s else account.expected_s + _NEWEST * (seconds - account.expected_s)
        )

    def give_back(self, user: str) -> None:
        """A job of ``user`` was lost by no fault of theirs: what it was charged is given back, nothing is learnt."""
        if account := self._accounts.get(user):
            account.balance_s += self._cost(account)

    def _cost(self, account: _Account) -> float:
        return account.expected_s or self._quantum_s

    def _credit(self, user: str, weight: float, turns: int, able: bool) -> None:
        """Put the worth of turns on an account; of somebody who may start nothing, until it can pay one turn's jobs."""
        account = self._accounts[user]
        turn_s = self._quantum_s * weight
        most_s = math.inf if able else max(account.balance_s, turn_s, self._cost(account))
        account.balance_s = min(account.balance_s + turns * turn_s, most_s)

    def _count_down(self, user: str, left: dict[str, int], able: dict[str, float]) -> None:
        """One job less of the user whose turn it is."""
        left[user] -= 1
        able[user] -= 1
        if able[user]:
            return
        del able[user]
        if left[user]:
            self._passed_over.add(user)
        else:
            self._turns.popleft()
            account = self._accounts[user]
            account.left_at = self._rounds
            account.balance_s = min(account.balance_s, 0.0)  # turns are not saved up while nobody waits

    def _take_back(self, able: Mapping[str, float]) -> None:
        """Put in front who was passed over for want of room, has room again, and something to spend."""
        back = [
            user
            for user in self._turns
            if user in self._passed_over
            and user in able
            and self._accounts[user].balance_s >= self._cost(self._accounts[user])
        ]
        if back:
            self._turns = deque((*back, *(user for user in self._turns if user not in back)))
        self._passed_over = {user for user in self._turns if user not in able}

    def _come_and_go(self, waiting: Mapping[str, int], weight: Callable[[str], float]) -> None:
        for user in self._turns:
            if user not in waiting:
                self._accounts[user].left_at = self._rounds
        self._turns = deque(user for user in self._turns if user in waiting)
        if not self._turns:
            for account in self._accounts.values():
                account.balance_s = max(account.balance_s, 0.0)
        known = set(self._turns)
        for user in waiting:
            if user not in known:
                account = self._accounts.setdefault(user, _Account())
                away_s = (self._rounds - account.left_at) * self._quantum_s * weight(user)
                account.balance_s = min(account.balance_s + away_s, max(account.balance_s, 0.0))
                self._turns.append(user)

    def _skip_rounds(self, able: Mapping[str, float], weight: Callable[[str], float]) -> None:
        """Give everybody the turns in which nobody could have run anything, at once."""
        rounds = math.inf
        for user in able:
            account = self._accounts[user]
            missing_s = self._cost(account) - account.balance_s
            rounds = min(rounds, math.ceil(missing_s / (self._quantum_s * weight(user))) - 1)
        if math.isfinite(rounds) and rounds > 0:
            self._rounds += rounds
            for user in self._turns:
                self._credit(user, weight(user), int(rounds), user in able)


def jain_index(amounts: list[float]) -> float:
    """Jain's fairness index of what each got: 1 when all are equal, 1/n when one has all (Jain et al. 1984)."""
    total, squares = sum(amounts), sum(amount * amount for amount in amounts)
    return total * total / (len(amounts) * squares) if squares else 1.0
