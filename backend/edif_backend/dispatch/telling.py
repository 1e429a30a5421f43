"""What those who wait are told: how many jobs start before theirs, when it will start, and why it does not.

Runs beside the dispatcher's loop.  A job hears something when there is something to say: after :data:`_QUIET_S` of
waiting, then when it has come a good step closer, when its start has moved, and when it stands still.  At most
:data:`_AT_ONCE` jobs are told in one look, those that start first before the others, and a look that takes long is
followed by a longer pause: ten thousand waiting jobs are told bit by bit and cost a twentieth of one core.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edif_backend.dispatch.fairness import FairShare
from edif_backend.dispatch.forecast import Start, forecast
from edif_backend.dispatch.standing import Standing
from edif_backend.jobs import Jobs, Note, WaitingJob
from edif_backend.jobs.accounting import in_words

_QUIET_S = 2.0  #: who waits shorter than this is told nothing
_CALM_S = 2.0  #: shortest time between two words to one job
_STILL_S = 10.0  #: a job that has not moved for so long is told why
_AT_ONCE = 200
_NEWCOMER = "\N{NULL}newcomer"  #: no user has this name


@dataclass(frozen=True, slots=True)
class Scene:
    """One model, seen at one moment."""

    share: FairShare
    slots: int
    running: Mapping[str, Sequence[float]]  #: by user, for how many seconds each running job has run
    load_s: float | None  #: None: it serves; else in how many seconds it is expected to
    of_user: Mapping[str, int]  #: running jobs by user, of all models


@dataclass(slots=True)
class _Told:
    """What one waiting job was told last."""

    position: int | None = None
    starts_at: float = 0.0
    why: str = ""  #: why it stands still, as a word
    at: float = float("-inf")
    seen: int | None = None  #: its position when last looked at
    moved_at: float = 0.0


class Telling:
    """Looks at all waiting jobs, and tells some of them something."""

    def __init__(self, jobs: Jobs, standing: Standing) -> None:
        self._jobs = jobs
        self._standing = standing
        self._told: dict[str, _Told] = {}
        self._expected_s: dict[str, float] = {}

    def look(self, scenes: Mapping[str, Scene]) -> int:
        """Tell whoever is to be told; gives how many that were.

        Args:
            scenes: every model of the catalogue.
        """
        now = self._jobs.now()
        waiting = self._jobs.waiting_jobs()
        by_model: dict[str, list[WaitingJob]] = defaultdict(list)
        for job in waiting:
            by_model[job.model].append(job)
        notes: list[tuple[int, Note]] = []
        reasons: dict[str, str] = {}
        self._told = {job.id: self._told.get(job.id) or _Told() for job in waiting}
        for model, scene in scenes.items():
            starts, newcomer_s = _starts(scene, by_model[model], self._standing)
            self._expect(model, newcomer_s)
            for job, start in _matched(by_model[model], starts):
                self._see(job, start, now)
                reason, why = self._why(job, start, scene, now)
                if _worth_saying(self._told[job.id], job, start, reason, now):
                    place, starts_at = (start.position, now + start.in_s) if start else (None, None)
                    # While its model is loaded, its jobs hear of that; besides they only learn their place.
                    text = " ".join(part for part in (why, _place(start)) if part) if scene.load_s is None else None
                    notes.append((place or 0, Note(job.id, text, place, starts_at)))
                    reasons[job.id] = reason
        notes.sort(key=lambda found: found[0])
        chosen = [note for _, note in notes[:_AT_ONCE]]
        for note in chosen:
            before = self._told[note.job]
            before.position, before.starts_at, before.at = note.position, note.starts_at or 0.0, now
            before.why = reasons[note.job]
        if chosen:
            self._jobs.note(chosen)
        return len(chosen)

    def _expect(self, model: str, wait_s: float) -> None:
        """Note how long a job of somebody new would wait, when that has changed."""
        before = self._expected_s.get(model, float("-inf"))
        if abs(wait_s - before) > max(1.0, 0.2 * before):
            self._expected_s[model] = wait_s
            self._jobs.expect(model, wait_s)

    def _see(self, job: WaitingJob, start: Start | None, now: float) -> None:
        told, position = self._told[job.id], start.position if start else None
        if position != told.seen:
            told.seen, told.moved_at = position, now

    def _why(self, job: WaitingJob, start: Start | None, scene: Scene, now: float) -> tuple[str, str]:
        """Why the job stands still, as a word and for its user; nothing while it moves."""
        if start and now - self._told[job.id].moved_at < _STILL_S:
            return "", ""
        if held := self._standing.held_back(job.user, scene.of_user.get(job.user, 0)):
            return "held", held
        busy = sum(map(len, scene.running.values()))
        if scene.load_s is not None or busy < scene.slots:
            return "", ""
        slots = "The one slot is" if scene.slots == 1 else f"All {scene.slots} slots are"
        users = scene.running.keys()
        others = f"jobs of {len(users)} user{'s' if len(users) > 1 else ''}"
        busy_with = f"{slots} busy with {'jobs of yours' if users == {job.user} else others}."
        if reserved := self._standing.reserved_for_others(job.user):
            return "reserved", f"{busy_with} {reserved}"
        return "busy", busy_with


def _worth_saying(told: _Told, job: WaitingJob, start: Start | None, reason: str, now: float) -> bool:
    if told.at == float("-inf"):
        return now - job.created_at >= _QUIET_S
    age_s = now - told.at
    if age_s < _CALM_S:
        return False
    if reason and reason != told.why and age_s >= _STILL_S:
        return True
    if start is None:
        return False
    if told.position is None:
        return True
    if start.position < told.position and (start.position <= max(3, 0.75 * told.position) or age_s >= 3 * _STILL_S):
        return True
    later_s = now + start.in_s - max(told.starts_at, now)
    return age_s >= _STILL_S and abs(later_s) > max(_STILL_S, 0.5 * (told.starts_at - told.at))


def _place(start: Start | None) -> str:
    """``3 jobs start before this one; it starts in about 40 s.``"""
    if start is None:
        return ""
    soon = f"in about {in_words(start.in_s)}" if start.in_s >= 1 else "in a moment"
    if start.position == 0:
        return f"Next to start, {soon}."
    return f"{start.position} job{'s start' if start.position > 1 else ' starts'} before this one; it starts {soon}."


def _starts(scene: Scene, jobs: Iterable[WaitingJob], standing: Standing) -> tuple[list[Start], float]:
    """When the waiting jobs of one model start, and in how many seconds a job of somebody new would."""
    waiting: dict[str, int] = {}
    for job in jobs:
        waiting[job.user] = waiting.get(job.user, 0) + 1
    share, load_s = scene.share, scene.load_s or 0.0
    # A job that has run longer than expected is taken to be half done.
    ends = {
        user: [max(share.expected_s(user) - ran_s, ran_s / 2, 0.1) for ran_s in times]
        for user, times in scene.running.items()
    }
    busy = sorted(end for times in ends.values() for end in times)[: scene.slots]
    free = [max(load_s, end) for end in busy] + [load_s] * (scene.slots - len(busy))
    weight = lambda user: 1.0 if user == _NEWCOMER else standing.weight(user)  # noqa: E731 - two cases, one use
    most = lambda user: float("inf") if user == _NEWCOMER else standing.most(user)  # noqa: E731
    cost_s = lambda user: 0.0 if user == _NEWCOMER else share.expected_s(user)  # noqa: E731 - they delay nobody
    order = share.order(waiting, weight, newcomer=_NEWCOMER)
    found = forecast(order, free, cost_s, most, ends)
    (newcomer,) = [start for start in found if start.user == _NEWCOMER]
    starts = [start for start in found if start.user != _NEWCOMER]
    return [Start(start.user, start.number, place, start.in_s) for place, start in enumerate(starts)], newcomer.in_s


def _matched(jobs: Iterable[WaitingJob], starts: Iterable[Start]) -> Iterable[tuple[WaitingJob, Start | None]]:
    """Each waiting job (oldest first) with its start; None for those that may not start today."""
    by_place = {(start.user, start.number): start for start in starts}
    seen: dict[str, int] = defaultdict(int)
    for job in jobs:
        yield job, by_place.get((job.user, seen[job.user]))
        seen[job.user] += 1
