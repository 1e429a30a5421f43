"""What is thrown away: payloads once their job has ended, results past their time or beyond their owner's room.

Called by the dispatcher, in a thread, now and then.  The job says first that its result has gone, then the object goes,
so nobody is sent after something that is not there; what a crash leaves behind is found by the next sweep, for every
object that no job speaks for is removed as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from edif_backend.objects.store import Objects

#: An object that no job speaks for may be one that is being stored just now; after this long it is not.
_ORPHAN_S = 600.0

_PAST_TIME = "The result was kept for {days:g} days and is gone now; run the trace again to get it back."
_NO_ROOM = (
    "The result made room for newer ones of yours, of which {limit_bytes:,} bytes are kept; "
    "run the trace again to get it back."
)

#: How many bytes of results are kept of a user; 0: all.
Room = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Kept:
    """A result that a job still promises."""

    job: str
    user: str
    object: str
    bytes: int
    ended_at: float  #: when the job ended, seconds since the epoch


class Ledger(Protocol):
    """What a sweep asks of the jobs table."""

    def now(self) -> float:
        """The time by which its moments are written."""

    def kept_results(self) -> list[tuple[str, str, str, int, float]]:
        """Job, user, object, bytes and end of every result that is promised, oldest first."""

    def unfinished(self) -> set[str]:
        """Ids of the jobs that have not ended."""

    def expire(self, job: str, description: str) -> bool:
        """Say that the job's result is gone; False when it was not there to begin with."""


def overdue(kept: Iterable[Kept], now: float, keep_s: float, room: Room) -> Iterator[tuple[Kept, str]]:
    """Which results go, and what their owners are told; ``kept`` comes oldest first.

    A result older than ``keep_s`` goes; of each user the newest stay, as far as they fit into the user's room, and the
    newest of all stays in any case.
    """
    stored: dict[str, int] = defaultdict(int)
    for result in reversed(list(kept)):
        newest = result.user not in stored
        stored[result.user] += result.bytes
        if now - result.ended_at > keep_s:
            yield result, _PAST_TIME.format(days=round(keep_s / 86400, 2))
        elif 0 < room(result.user) < stored[result.user] and not newest:
            yield result, _NO_ROOM.format(limit_bytes=room(result.user))


def sweep(jobs: Ledger, objects: Objects, keep_s: float, room: Room) -> int:
    """Throw away what is not to be kept; gives how many objects that were.

    Raises:
        NotServing: the object store does not answer; the next sweep tries again.
    """
    # Objects are listed before the jobs are asked: one that comes meanwhile is not judged by an older list.
    old = jobs.now() - _ORPHAN_S
    payloads, results = list(objects.listing("payloads")), list(objects.listing("results"))
    unfinished, kept = jobs.unfinished(), [Kept(*row) for row in jobs.kept_results()]
    gone = []
    for result, why in overdue(kept, jobs.now(), keep_s, room):
        if jobs.expire(result.job, why):
            gone.append(result.object)
    spoken_for = {f"payloads/{id}" for id in unfinished} | {result.object for result in kept}
    gone += [found.name for found in payloads + results if found.name not in spoken_for and found.stored_at < old]
    for name in gone:
        objects.delete(name)
    return len(gone)


class Shelves(Protocol):
    """What a sweep asks about kept values."""

    def expire(self, used_before: float) -> int:
        """Keep no longer what was not used since."""

    def all(self) -> Sequence[HasObject]:
        """The values that are kept."""


class HasObject(Protocol):
    """A kept value, as far as a sweep is concerned."""

    @property
    def object(self) -> str:
        """Name of its object."""


def sweep_kept(shelves: Shelves, objects: Objects, now: float, keep_s: float) -> int:
    """Throw away values that were not used for ``keep_s``, and objects that no value has any more; gives their number.

    Raises:
        NotServing: the object store does not answer; the next sweep tries again.
    """
    found = list(objects.listing("kept"))
    shelves.expire(now - keep_s)
    spoken_for = {value.object for value in shelves.all()}
    gone = [one.name for one in found if one.name not in spoken_for and one.stored_at < now - _ORPHAN_S]
    for name in gone:
        objects.delete(name)
    return len(gone)
