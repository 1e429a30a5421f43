"""``edif bench fairness``: 500 users and 10,000 jobs through the dispatcher's own fair share, without a wall clock.

Also a lab hour, a sweep beside short jobs, a class, and what a decision and an outlook cost in milliseconds.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from edif_backend.dispatch.fairness import FairShare, jain_index
from edif_backend.dispatch.forecast import forecast


@dataclass
class Simulation:
    """Slots, a clock, and jobs that arrive and take their time; no wall clock."""

    slots: int
    share: FairShare = field(default_factory=FairShare)
    weight: Callable[[str], float] = lambda _: 1.0
    most: Callable[[str], float] = lambda _: math.inf  #: running jobs of one user
    after: Callable[[str], tuple[float, float] | None] = lambda _: None  #: pause and cost of the next job of a user
    now: float = 0.0
    queues: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    served: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    starts: list[tuple[float, str]] = field(default_factory=list)
    idle_s: float = 0.0  #: slots that were free while somebody waited who might have run something
    running: Counter[str] = field(default_factory=Counter)

    def run(self, arrivals: list[tuple[float, str, float]], until: float = float("inf")) -> None:
        """``arrivals`` are (time, user, cost in seconds), sorted."""
        running: list[tuple[float, str, float]] = []
        coming = [(at, number, user, cost) for number, (at, user, cost) in enumerate(arrivals)]
        while self.now < until:
            while coming and coming[0][0] <= self.now:
                at, _, user, cost = heapq.heappop(coming)
                self.queues[user].append((at, cost))
            waiting = {name: len(queue) for name, queue in self.queues.items()}
            room = lambda name: self.most(name) - self.running[name]  # noqa: E731 - the dispatcher's own way to say it
            for name in self.share.choose(waiting, self.slots - len(running), self.weight, room):
                self.starts.append((self.now, name))
                self.running[name] += 1
                assert self.running[name] <= self.most(name), "the limit of running jobs"
                arrived, seconds = self.queues[name].pop(0)
                self.waits[name].append(self.now - arrived)
                heapq.heappush(running, (self.now + seconds, name, seconds))
            assert len(running) <= self.slots, "the slots"
            able = [name for name, queue in self.queues.items() if queue and room(name) > 0]
            before, free = self.now, self.slots - len(running)
            if not coming and not running:
                return
            self.now = min(found[0][0] for found in (coming, running) if found)
            self.idle_s += (self.now - before) * min(free, len(able))
            while running and running[0][0] <= self.now:
                _, name, seconds = heapq.heappop(running)
                self.running[name] -= 1
                self.served[name] += seconds
                self.share.settle(name, seconds)
                if following := self.after(name):
                    pause, cost = following
                    heapq.heappush(coming, (self.now + pause, len(self.starts), name, cost))


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


def lab_hour(seed: int) -> dict[str, Any]:
    """30 students and 10 researchers with sweeps; from 600 s to 1,200 s each student's weight is reserved to be 4.

    Half of the students' share must be theirs again within the time that running jobs need to end.
    """
    rng = random.Random(seed)
    students, researchers = [f"student{n}" for n in range(30)], [f"researcher{n}" for n in range(10)]
    arrivals = [(0.0, user, rng.uniform(0.5, 1.5)) for user in students for _ in range(400)]
    arrivals += [(0.0, user, rng.uniform(5, 15)) for user in researchers for _ in range(200)]
    rng.shuffle(arrivals)
    served = []
    for until in (600.0, 1200.0, 1800.0):
        simulation = Simulation(slots=8)
        simulation.weight = lambda user, of=simulation: 4.0 if user in students and 600 <= of.now < 1200 else 1.0
        simulation.run(arrivals, until)
        served.append(
            (sum(simulation.served[user] for user in students), sum(simulation.served[user] for user in researchers))
        )
    shares = []
    for (mine, others), (mine_before, others_before) in zip(served, [(0.0, 0.0), *served], strict=False):
        got, rest = mine - mine_before, others - others_before
        shares.append(round(got / (got + rest), 3))
    return {"students_share": dict(zip(("before", "lab_hour", "after"), shares, strict=True))}


def interactive(seed: int) -> dict[str, Any]:
    """One user's sweep of 500 jobs of 10 s, beside 10 users who send a short job every half minute; 4 slots."""
    rng = random.Random(seed)
    arrivals = [(0.0, "sweep", 10.0)] * 500
    users = [f"interactive{number}" for number in range(10)]
    arrivals += [(turn * 30 + rng.uniform(0, 30), user, 0.3) for user in users for turn in range(30)]
    waits = {}
    for name, most in (("unlimited", math.inf), ("sweep_may_run_3", 3)):
        simulation = Simulation(slots=4, most=lambda user, most=most: most if user == "sweep" else math.inf)
        simulation.run(sorted(arrivals))
        short = [wait for user in users for wait in simulation.waits[user]]
        waits[name] = {"p50_s": round(statistics.median(short), 2), "p95_s": round(p95(short), 2)}
    return {"interactive_wait": waits}


#: Seconds of a class's jobs, one after the other: those of a notebook.
_NOTEBOOK_S = (1.0, 40.0, 5.0, 20.0, 2.0)


def classroom(seed: int, slots: int, users: int = 20) -> dict[str, float]:
    """Everybody runs one notebook: each job comes when the one before has ended and its user has thought for a while.

    A round is the time in which everybody else's mean job runs once.
    """
    rng = random.Random(seed)
    names = [f"student{number}" for number in range(users)]
    jobs = {
        name: [(rng.expovariate(1 / 20), cost_s * rng.lognormvariate(0, 0.5)) for cost_s in _NOTEBOOK_S]
        for name in names
    }
    simulation, done_at = _in_turn(jobs, slots)
    waits = [wait for name in names for wait in simulation.waits[name]]
    means = {name: statistics.mean(cost_s for _, cost_s in jobs[name]) for name in names}
    short = [
        wait * slots / (sum(means.values()) - means[name])
        for name in names
        for (_, cost_s), wait in zip(jobs[name], simulation.waits[name], strict=True)
        if cost_s <= 5
    ]
    return {
        "wait_p50_s": statistics.median(waits),
        "wait_p95_s": p95(waits),
        "wait_max_s": max(waits),
        "short_max_rounds": max(short),
        "jain_of_waits": jain_index([sum(simulation.waits[name]) for name in names]),
        "first_done_s": min(done_at.values()),
        "last_done_s": max(done_at.values()),
    }


def slow_first(seed: int, slots: int) -> dict[str, float]:
    """Wait of a student's second job after a first of 42 s, in a class of 20 with 17 jobs of some seconds each."""
    rng = random.Random(seed)
    jobs = {
        f"student{number}": [
            (rng.expovariate(1 / 5), cost_s * rng.lognormvariate(0, 0.3)) for cost_s in (5, 2, *((5, 2, 8) * 5))
        ]
        for number in range(20)
    }
    jobs["student3"][0] = (jobs["student3"][0][0], 42.0)
    simulation, _ = _in_turn(jobs, slots)
    wait_s = simulation.waits["student3"][1]
    began_at = [at for at, user in simulation.starts if user == "student3"][1]
    others = Counter(user for at, user in simulation.starts if began_at - wait_s < at < began_at)
    return {"wait_s": wait_s, "jobs_of_another": max(others.values())}


def long_jobs_in_turn(seed: int, users: int = 10) -> float:
    """Share of one who sends jobs of 40 s in turn, beside 10 who do so with jobs of 1 s, on one slot, in an hour."""
    rng = random.Random(seed)
    mean_s = {"long": 40.0, **{f"short{number}": 1.0 for number in range(users)}}
    jobs = {
        user: [(0.0, seconds * rng.uniform(0.8, 1.2)) for _ in range(int(7200 / seconds))]
        for user, seconds in mean_s.items()
    }
    simulation, _ = _in_turn(jobs, 1, until=3600.0)
    return simulation.served["long"] / sum(simulation.served.values())


def _in_turn(
    jobs: Mapping[str, list[tuple[float, float]]], slots: int, until: float = math.inf
) -> tuple[Simulation, dict[str, float]]:
    """Each user's jobs (pause before, cost) one after the other; gives when each was done, too."""
    left = {user: iter(mine) for user, mine in jobs.items()}
    done_at: dict[str, float] = {}
    simulation = Simulation(slots)

    def after(user: str) -> tuple[float, float] | None:
        following = next(left[user], None)
        if following is None:
            done_at[user] = simulation.now
        return following

    simulation.after = after
    simulation.run(sorted((pause, user, cost_s) for user in jobs for pause, cost_s in [next(left[user])]), until)
    return simulation, done_at


def class_figures(seeds: int = 10) -> dict[str, Any]:
    """Means over many seeds, for one slot and for two."""
    found: dict[str, Any] = {}
    for slots in (1, 2):
        for name, scenario in (("class", classroom), ("slow_first", slow_first)):
            runs = [scenario(seed, slots) for seed in range(seeds)]
            found[f"{name}_{slots}_slots"] = {
                figure: round(statistics.mean(run[figure] for run in runs), 2) for figure in runs[0]
            }
    found["long_jobs_share"] = round(statistics.mean(long_jobs_in_turn(seed) for seed in range(3)), 3)
    return found


def outlook_ms(jobs: int, users: int = 500) -> float:
    """Milliseconds to say of every waiting job when it starts."""
    share = FairShare()
    waiting = {f"user{number}": jobs // users for number in range(users)}
    began = time.perf_counter()
    starts = forecast(share.order(waiting), [0.0] * 8, share.expected_s)
    taken = time.perf_counter() - began
    assert len(starts) == jobs
    return taken * 1000


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
    figures = {
        "benchmark": "fairness",
        **population(seed=1),
        **flood(seed=1),
        **lab_hour(seed=1),
        **interactive(seed=1),
        **class_figures(),
    }
    figures |= {"decision_ms": decisions, "outlook_ms": {jobs: round(outlook_ms(jobs), 1) for jobs in (1000, 10_000)}}
    if as_json:
        print(json.dumps(figures))
        return
    table = Table("Fair share", "")
    for name, value in figures.items():
        table.add_row(name, str(value))
    Console().print(table)


if __name__ == "__main__":
    main()
