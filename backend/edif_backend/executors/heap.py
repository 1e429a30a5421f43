"""Is every object that was there before the first job what it was?  Answered for the whole heap in a millisecond.

Used inside the jail by :mod:`~edif_backend.executors.pristine`.  The zygote notes, for each object that can change,
the words of memory that change with it: of a dict its version tag (CPython gives a new one with every change, PEP 509),
of a list its length and items, of a function its code and defaults, and so on.  Afterwards numpy reads all of them at
once and compares.  What a rehearsed job changes as well (caches, ``sys.stdout``) is put back instead.

The places of these words are those of one version of CPython, so :func:`works` changes one object of each kind and sees
whether that is noticed; where it is not, no executor is kept.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import mmap
import reprlib
import types
import warnings
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from edif_backend.executors.own_pages import Numbers, OwnPages

_WORD = 8
_HEADER = 16  # reference count and type
#: Offsets in bytes: what of an object of the kind changes when it does.
_DICT_TAG = 24
_LIST = (16, 24)  # length, place of the items
_FUNCTION = (48, 56, 64, 88)  # code, defaults, keyword defaults, __dict__
_SET = (16, 24, 32, 40)  # filled, used, mask, place of the table
_TYPE = (24, 264, 336, 344)  # name, dict, bases, method resolution order
_MANAGED_DICT = 1 << 4
_HEAP_TYPE = 1 << 9
_MAX_SLOTS_BYTES = 256
_REHEARSALS = 6
_PAGE_WORDS = mmap.PAGESIZE // _WORD

#: This process's memory, word by word, from address 8 on (numpy takes no array at address 0).
_memory = np.ctypeslib.as_array((ctypes.c_uint64 * (1 << 44)).from_address(_WORD))


#: Writes things out without going through all that they hold: ``sys.modules`` holds thousands.
_BRIEFLY = reprlib.Repr()


class Heap:
    """The objects of this process as they are now, and what has changed since."""

    def __init__(self, objects: list[Any], places: list[list[int]]) -> None:
        self._objects = objects
        self._caches: dict[int, _Cache] = {}
        counts = np.fromiter(map(len, places), np.int64, len(places))
        self._words = _Words(np.repeat(np.arange(len(places)), counts), _flat(places, int(counts.sum())))
        # What lists and sets hold lies elsewhere, at places that are good as long as the words above are unchanged.
        tables = np.array([(i, *table) for i, thing in enumerate(objects) if (table := _table(thing))], dtype=np.int64)
        owners, starts, counts, steps = tables.reshape(-1, 4).T
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        self._items = _Words(np.repeat(owners, counts), np.repeat(starts, counts) + within * np.repeat(steps, counts))
        #: Numbers of the pages that all of it lies on, ascending.
        self.pages: Numbers = np.union1d(self._words.pages, self._items.pages)

    @classmethod
    def of(cls, objects: list[Any]) -> Heap:
        """These objects alone."""
        return cls(objects, [_places(thing) for thing in objects])

    @classmethod
    def settled(cls, rehearse: Callable[[], None]) -> Heap:
        """All objects of this process; what ``rehearse`` changes is put back after each job instead of being minded.

        Raises:
            NotImplementedError: it changes what cannot be put back; the message names it.
        """
        gc.collect()  # what is garbage, its collection would change
        objects: list[Any] = []
        places: list[list[int]] = []
        caches: dict[int, Any] = {}
        gc.disable()  # it would go through all that is gathered here, again and again
        try:
            for _ in range(_REHEARSALS):
                # What the rehearsal before has left is put back as well from now on, so it must be minded too.
                more, theirs = _mutable(caches, {id(thing) for thing in objects})
                befores = {id(thing): thing.copy() for thing in more if objects and type(thing) in _RESTORERS}
                objects, places = [*objects, *more], [*places, *theirs]
                heap = cls(objects, places)
                heap._put_back_later([number for number, thing in enumerate(objects) if id(thing) in caches])
                gc.freeze()  # the next round goes through what is new alone
                rehearse()
                heap.let_go()
                heap._put_back()
                changed = heap._changed()
                if not changed:
                    return heap
                for thing in (objects[number] for number in changed):
                    caches[id(thing)] = thing
                    if id(thing) in befores:  # as it was when all that is put back was noted
                        _RESTORERS[type(thing)](thing, befores[id(thing)])
        finally:
            gc.enable()
        raise NotImplementedError(f"jobs keep changing {heap._names(changed)}")

    def let_go(self) -> None:
        """Put caches back and let go of what the job has left."""
        self._put_back()
        gc.collect()

    def _put_back(self) -> None:
        for cache in self._caches.values():
            cache.put_back()

    def changed(self, own: OwnPages | None = None) -> str:
        """Put caches back, then name the first things that are not what they were; empty when all are.

        Args:
            own: tells pages of this process; with it, only those that are not shared any more are read.
        """
        self._put_back()
        return self._names(self._changed(own))

    def accept(self, own: OwnPages) -> None:
        """In a fork: what has changed by now, by its own set-up, is how a job must leave it."""
        pages = own.since_fork(self.pages)
        moved = [number for number in self._changed_on(pages) if type(self._objects[number]) in (list, set)]
        if moved:
            self._put_back_later(moved)
        self._words.note_again(pages)
        # All as of one moment: what is put back together must belong together.
        self._caches = {i: _Cache(cache.thing) for i, cache in self._caches.items()}

    def settle(self, own: OwnPages, rehearse: Callable[[], None]) -> None:
        """In a fork that has changed where its jobs compute: put back what they change there, too.

        Raises:
            NotImplementedError: they change what cannot be put back; the message names it.
        """
        for _ in range(_REHEARSALS):
            rehearse()
            self.let_go()
            changed = self._changed(own)
            if not changed:
                return
            self._put_back_later(changed)
            self._words.note_again(own.among(self.pages))
            self._caches = {i: _Cache(cache.thing) for i, cache in self._caches.items()}
        raise NotImplementedError(f"jobs keep changing {self._names(changed)}")

    def _changed(self, own: OwnPages | None = None) -> list[int]:
        return self._changed_on(None if own is None else own.among(self.pages))

    def _changed_on(self, pages: Numbers | None) -> list[int]:
        """What is not as it was, as far as it lies on these pages (None: on any)."""

        def minded(numbers: list[int]) -> list[int]:
            return [number for number in numbers if number not in self._caches]

        return minded(self._words.changed(pages)) or minded(self._items.changed(pages))

    def _put_back_later(self, numbers: list[int]) -> None:
        strange = [number for number in numbers if type(self._objects[number]) not in _RESTORERS]
        if strange:
            raise NotImplementedError(f"a job changes what cannot be put back: {self._names(strange)}")
        for number in numbers:
            self._caches[number] = _Cache(self._objects[number])
        if any(not issubclass(type(self._objects[number]), dict) for number in numbers):
            self._items.forget(numbers)  # they may have moved away from there

    def _names(self, numbers: list[int]) -> str:
        shown = (self._objects[i] for i in numbers[:3])
        return "; ".join(f"{type(thing).__name__} {_BRIEFLY.repr(thing):.100}" for thing in shown)


class _Cache:
    """What is put back after each job, and as what."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing
        self._before = thing.copy()
        self._restore = _RESTORERS[type(thing)]
        self._tag_at = _places(thing)[0] if isinstance(thing, dict) else None
        self._tag = self._read_tag()

    def put_back(self) -> None:
        """Put it back; most of the dicts have not changed since, and say so by their tag."""
        if self._tag is not None and self._tag == self._read_tag():
            return
        self._restore(self.thing, self._before)
        self._tag = self._read_tag()

    def _read_tag(self) -> int | None:
        return None if self._tag_at is None else int(_memory[self._tag_at])


class _Words:
    """Words of memory, each with the number of the object that it belongs to."""

    def __init__(self, owners: Numbers, places: Numbers) -> None:
        order = np.argsort(places)
        self._owners, self._places = owners[order], places[order]
        self._before = _memory[self._places]
        self.pages, self._starts = np.unique((self._places + 1) // _PAGE_WORDS, return_index=True)
        self._counts = np.diff(self._starts, append=len(self._places))
        # What lies on pages that are known to be no longer shared: they only ever become more, and few at a time.
        self._is_near = np.zeros(len(self.pages), bool)
        self._near = self._near_places = self._near_before = np.empty(0, np.int64)

    def changed(self, own: Numbers | None) -> list[int]:
        """The objects whose words on the pages ``own`` (None: on all) are not what they were."""
        return [int(number) for number in np.unique(self._owners[self._differing(own)])]

    def note_again(self, own: Numbers) -> None:
        """Take the words as they are now for what they were."""
        differing = self._differing(own)
        self._before[differing] = _memory[self._places[differing]]
        self._near_before = self._before[self._near]

    def _differing(self, own: Numbers | None) -> Numbers:
        if own is None:
            return np.flatnonzero(_memory[self._places] != self._before)
        at = np.searchsorted(self.pages, own)
        at = at[self.pages[np.minimum(at, len(self.pages) - 1)] == own]
        if (fresh := at[~self._is_near[at]]).size:
            starts, counts = self._starts[fresh], self._counts[fresh]
            more = np.arange(counts.sum()) + np.repeat(starts - np.cumsum(counts) + counts, counts)
            self._near = np.concatenate((self._near, more))
            self._near_places, self._near_before = self._places[self._near], self._before[self._near]
            self._is_near[fresh] = True
        differing: Numbers = self._near[_memory[self._near_places] != self._near_before]
        return differing

    def forget(self, numbers: list[int]) -> None:
        """Mind these objects no more; what was theirs may be no memory any more, so it is not read either."""
        forgotten = np.zeros(int(self._owners.max(initial=0)) + 1, bool)
        forgotten[[number for number in numbers if number < len(forgotten)]] = True
        at = np.flatnonzero(forgotten[self._owners])
        self._places[at] = id(self) // _WORD  # its type, which stays what it is
        self._before[at] = _memory[self._places[at]]
        self._near_places, self._near_before = self._places[self._near], self._before[self._near]


def works() -> bool:
    """Whether a change of each kind is noticed by this Python."""

    class Plain(_One):
        pass

    class Slotted:
        __slots__ = ("value",)

    def function(value: int = 0) -> Callable[[], int]:
        return lambda: value

    plain, slotted, closure = Plain(), Slotted(), function()
    plain.value, slotted.value = 0, 0  # type: ignore[attr-defined]
    assert closure.__closure__
    cell = closure.__closure__[0]
    a_dict, a_list, a_set, a_deque = {"a": 0}, [object()], {1, 2}, deque([1])
    kept: list[Any] = [a_dict, a_list, a_set, a_deque, Plain, plain.__dict__, slotted, closure, cell]
    changes: list[Callable[[], Any]] = [
        lambda: a_dict.__setitem__("a", 1),
        lambda: a_list.__setitem__(0, object()),
        lambda: a_set.symmetric_difference_update({1, 9}),
        lambda: a_deque.append(2),
        lambda: setattr(Plain, "__name__", "Other"),
        lambda: setattr(Plain, "__bases__", (_Two,)),
        lambda: setattr(plain, "value", 1),
        lambda: setattr(slotted, "value", 1),
        lambda: setattr(closure, "__code__", (lambda: value).__code__),
        lambda: setattr(closure, "__defaults__", (1,)),
        lambda: setattr(closure, "__kwdefaults__", {"a": 1}),
        lambda: setattr(closure, "note", 1),
        lambda: setattr(cell, "cell_contents", 1),
    ]
    value = 1
    for change in changes:
        heap = Heap.of(kept)
        if heap.changed():
            return False
        change()
        if not heap.changed():
            return False
    return True


class _One:
    pass


class _Two:
    pass


def _mutable(caches: Mapping[int, Any], known: set[int]) -> tuple[list[Any], list[list[int]]]:
    """Every object, but those ``known``, that can change and is not memory alone, with its places.

    Args:
        caches: known ones, by id, that have changed, and may hold new objects.
    """
    tracked = gc.get_objects()
    found: dict[int, tuple[Any, list[int]]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some proxies warn when they are looked at
        for thing in tracked:
            kind = type(thing)
            if kind.__flags__ & _MANAGED_DICT and not issubclass(kind, type):
                getattr(thing, "__dict__", None)  # from now on its attributes are in a dict, which has a tag
            if id(thing) not in known and (places := _places(thing)):
                found[id(thing)] = (thing, places)
        # Dicts of plain values are not the collector's business, so they are found from those that hold them.
        for thing in gc.get_referents(*tracked, *caches.values()):
            if type(thing) is dict and id(thing) not in found and id(thing) not in known:
                found[id(thing)] = (thing, _places(thing))
    # What abstract classes remember of isinstance says nothing new; registering a class is seen by abc's own count.
    remembered = gc.get_referents(*[thing for thing in tracked if type(thing).__name__ == "_abc_data"])
    for passing in (tracked, found, known, caches, *remembered):
        found.pop(id(passing), None)
    return [thing for thing, _ in found.values()], [places for _, places in found.values()]


def _flat(rows: list[list[int]], count: int) -> Numbers:
    return np.fromiter(itertools.chain.from_iterable(rows), np.int64, count)


def _places(thing: Any) -> list[int]:
    """Indices of the words of ``thing`` in memory."""
    # Judged by their type alone: isinstance would ask proxies for what they stand for, and some warn when asked.
    kind, first = type(thing), id(thing) // _WORD - 1
    offsets: Iterable[int]
    if issubclass(kind, dict):
        offsets = (_DICT_TAG,)
    elif issubclass(kind, list):
        offsets = _LIST
    elif kind is types.FunctionType:
        offsets = _FUNCTION
    elif kind is types.CellType:
        offsets = (_HEADER,)
    elif issubclass(kind, set):
        offsets = _SET
    elif issubclass(kind, type):
        offsets = _TYPE if thing.__flags__ & _HEAP_TYPE else ()
    elif kind is deque or (kind.__flags__ & _HEAP_TYPE and "__slots__" in kind.__dict__ and not kind.__itemsize__):
        size = min(kind.__basicsize__, _MAX_SLOTS_BYTES)
        offsets = (at for at in range(_HEADER, size, _WORD) if at != kind.__weakrefoffset__)
    else:
        return []
    return [first + offset // _WORD for offset in offsets]


def _table(thing: Any) -> tuple[int, int, int] | None:
    """Where the items of a list or set are: index of the first in memory, how many, how far apart."""
    kind, first = type(thing), id(thing) // _WORD - 1
    if issubclass(kind, list) and thing:
        return int(_memory[first + _LIST[1] // _WORD]) // _WORD - 1, len(thing), 1
    if issubclass(kind, set) and thing:
        mask, table = (int(_memory[first + offset // _WORD]) for offset in _SET[2:])
        return table // _WORD - 1, mask + 1, 2  # each with its hash
    return None


def _put_dict_back(thing: dict[Any, Any], before: dict[Any, Any]) -> None:
    for key in [key for key in thing if key not in before]:
        del thing[key]
    nothing = object()
    for key, value in before.items():
        if thing.get(key, nothing) is not value:
            thing[key] = value


def _put_list_back(thing: list[Any], before: list[Any]) -> None:
    thing[:] = before


def _put_set_back(thing: set[Any], before: set[Any]) -> None:
    thing.clear()
    thing |= before


_RESTORERS: dict[type, Callable[[Any, Any], None]] = {
    dict: _put_dict_back,
    defaultdict: _put_dict_back,
    OrderedDict: _put_dict_back,
    list: _put_list_back,
    set: _put_set_back,
}
