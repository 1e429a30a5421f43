"""``edif bench fairness``: 500 users and 10,000 jobs through the dispatcher's own fair share, without a wall clock.

Also what a decision costs in milliseconds, from 100 to 10,000 waiting jobs of the same 50 users.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from edif_backend.dispatch.fairness import FairShare, jain_index


@dataclass
class Simulation:
    """Slots, a clock, and jobs that arrive and take their time; no wall clock."""

    slots: int
    share: FairShare = field(default_factory=FairShare)
    weight: Callable[[str], float] = lambda _: 1.0
    now: float = 0.0
    queues: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    served: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def run(self, arrivals: list[tuple[float, str, float]], until: float = float("inf")) -> None:
        """``arrivals`` are (time, user, cost in seconds), sorted."""
        running: list[tuple[float, str, float]] = []
        coming = iter([*arrivals, (float("inf"), "", 0.0)])
        at, user, cost = next(coming)
        while self.now < until:
            while at <= self.now:
                self.queues[user].append((at, cost))
                at, user, cost = next(coming)
            waiting = {name: len(queue) for name, queue in self.queues.items()}
            for name in self.share.choose(waiting, self.slots - len(running), self.weight):
                arrived, seconds = self.queues[name].pop(0)
                self.waits[name].append(self.now - arrived)
                heapq.heappush(running, (self.now + seconds, name, seconds))
            self.now = min(at, running[0][0] if running else float("inf"))
            if self.now == float("inf"):
                return
            while running and running[0][0] <= self.now:
                _, name, seconds = heapq.heappop(running)
                self.served[name] += seconds
                self.share.settle(name, seconds)


def p95(values: list[float]) -> float:
    """The value that 95 % of them do not exceed."""
    return sorted(values)[int(0.95 * (len(values) - 1))]


def population(seed: int) -> dict[str, Any]:
    """500 users, 10,000 jobs of very different sizes, all there from the start."""
    rng = random.Random(seed)
    users = [f"user{number}" for number in range(500)]
    # One user's jobs are alike, different users' are not: a tenth of a second here, five seconds there.
    size_s = {user: rng.choice([0.1, 0.5, 1.0, 5.0]) for user in users}
    arrivals = [(0.0, user, size_s[user] * rng.uniform(0.5, 1.5)) for user in users for _ in range(20)]
    rng.shuffle(arrivals)
    halfway = Simulation(slots=8)
    halfway.run(arrivals, until=600)
    # Equals are those who always had a job waiting until then.
    backlogged = [halfway.served.get(user, 0.0) for user, queue in halfway.queues.items() if queue]
    everything = Simulation(slots=8)
    everything.run(arrivals)
    return {
        "users": len(users),
        "jobs": len(arrivals),
        "backlogged": len(backlogged),
        "jain_index": round(jain_index(backlogged), 3),
        "never_served": len(set(users) - set(everything.waits)),
        "left_waiting": sum(len(queue) for queue in everything.queues.values()),
    }


def flood(seed: int) -> dict[str, Any]:
    """100 light users, who come and go, beside one who sends 1,000 jobs at once; fair share in seconds."""
    rng = random.Random(seed)
    light = [f"light{number}" for number in range(100)]
    arrivals = [(0.0, "flood", 1.0)] * 1000
    arrivals += [(rng.uniform(0, 400), user, 0.2) for user in light for _ in range(20)]
    simulation = Simulation(slots=2)
    simulation.run(sorted(arrivals))
    fair_s = 1.0 + len(light) * 0.2 / 2
    wait_s = p95([wait for user in light for wait in simulation.waits[user]])
    return {"light_p95_wait_s": round(wait_s, 2), "fair_share_s": fair_s, "ratio": round(wait_s / fair_s, 2)}


def decision_ms(jobs: int, users: int = 50, repeats: int = 200) -> float:
    """Median milliseconds of one decision with ``jobs`` waiting."""
    share = FairShare()
    waiting = {f"user{number}": jobs // users for number in range(users)}
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        chosen = share.choose(waiting, 1)
        taken.append(time.perf_counter() - began)
        share.settle(chosen[0], 0.5)
    return statistics.median(taken) * 1000


def main() -> None:
    """Print the figures as a table or as one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    decisions = {jobs: round(decision_ms(jobs), 4) for jobs in (100, 1000, 10_000)}
    figures = {"benchmark": "fairness", **population(seed=1), **flood(seed=1), "decision_ms": decisions}
    if as_json:
        print(json.dumps(figures))
        return
    table = Table("Fair share", "")
    for name, value in figures.items():
        table.add_row(name, str(value))
    Console().print(table)


if __name__ == "__main__":
    main()
