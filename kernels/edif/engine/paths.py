"""What path patching does beside the weights: let one part's new output reach a receiver by the direct way alone.

Called by :mod:`edif.path_patching` through :func:`edif.beside.run`.  Two sweeps for each pair of prompts: the first
measures what the receivers get when a sender has changed and every part between them is held as it was; the second puts
that into the unchanged run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from edif.engine.decoder import SITES, Decoder
from edif.engine.patches import Pair, Patching, shifted
from edif.engine.sweeps import Batch, Cell, Plan, Tell, facts, run

#: Parts that write to the residual stream.
SENDERS = ("head", "attention", "mlp")
#: What is held between sender and receiver: everything that writes, or attention alone, so that MLPs pass it on.
THROUGH = {"nothing": ("attention", "mlp"), "mlp": ("attention",)}
#: Senders of one pair are taken in so many portions at most, each of so many at least.
_PORTIONS, _PORTION = 4, 256


def path_patching(
    model: Any,
    tell: Tell,
    pairs: Sequence[Pair],
    cells: Sequence[Sequence[Cell]],
    receivers: Sequence[Sequence[Cell]],
    through: str,
    limits: dict[str, Any],
) -> dict[str, Any]:
    """Patch the path from each sender to the receivers, all of them at once.

    Args:
        cells: for each pair its senders, at positions of ``pair.ids``.
        receivers: for each pair the sites that the senders reach directly.
        through: a key of :data:`THROUGH`.

    Returns:
        For each pair ``values`` (senders, metrics), ``received`` (senders, receivers, width; not-a-number beyond a
        receiver's own width), ``unchanged`` (receivers, width), ``changed`` and ``source`` (metrics); and ``facts``,
        ``batches``, ``seconds``.
    """
    decoder = Decoder(model, limits["layers"])
    names = ("values", "received", "unchanged", "changed", "source")
    found: dict[str, Any] = {**{name: [] for name in names}, "batches": 0, "seconds": 0.0}
    told = 0
    for number, (pair, senders, targets) in enumerate(zip(pairs, cells, receivers, strict=True)):
        parts = []
        for some in portions(len(senders)):
            places = (told + some.start, told + len(senders) + some.start)
            taken = list(senders)[some]
            parts.append(_swept(model, tell, decoder, pair, taken, targets, through, places, number, limits))
        told += 2 * len(senders)
        for name in ("values", "received"):
            found[name].append(torch.cat([part[name] for part in parts]))
        for name in ("unchanged", "changed", "source"):
            found[name].append(parts[-1][name])
        for name in ("batches", "seconds"):
            found[name] += sum(part[name] for part in parts)
    return {**found, "facts": facts(model)}


def portions(count: int) -> list[slice]:
    """So many senders in a few portions: an effect is known only after both sweeps, and a reader waits for the first.

    Each portion costs both base runs again, so there are few, and of few senders one.
    """
    size = max(_PORTION, -(-count // _PORTIONS))
    return [slice(first, first + size) for first in range(0, count, size)] or [slice(0, 0)]


def _swept(
    model: Any,
    tell: Tell,
    decoder: Decoder,
    pair: Pair,
    senders: Sequence[Cell],
    targets: Sequence[Cell],
    through: str,
    told: tuple[int, int],
    number: int,
    limits: dict[str, Any],
) -> dict[str, Any]:
    """Both sweeps of some senders of one pair; ``told`` are the places of their first cells among all."""
    ids = torch.tensor([pair.ids])
    first = _Sending(decoder, pair, senders, targets, through)
    plan = Plan(senders, first.edit, first.measure, first.prepare, None, logits_to_keep=1, **limits)
    sent = run(model, _silent(tell, told[0]), ids, plan)
    second = _Receiving(decoder, pair, targets, sent["values"][:, 0])
    layer, position = (min(getattr(cell, name) for cell in targets) for name in ("layer", "position"))
    places = [Cell(layer, position, str(sender)) for sender in range(len(senders))]
    plan = Plan(places, second.edit, second.measure, second.prepare, None, logits_to_keep=1, **limits)
    swept = run(model, shifted(tell, told[1], number, second.known), ids, plan)
    return {
        "values": swept["values"][:, 0],
        "received": sent["values"][:, 0],
        "unchanged": sent["base"][0],
        "changed": swept["base"][0],
        "source": second.source,
        **{name: sent[name] + swept[name] for name in ("batches", "seconds")},
    }


class _Sending:
    """The first sweep: each cell's sender is changed, and the receivers are read."""

    def __init__(
        self, decoder: Decoder, pair: Pair, senders: Sequence[Cell], receivers: Sequence[Cell], through: str
    ) -> None:
        self._decoder, self._pair, self._receivers = decoder, pair, receivers
        self._sites = {cell.site for cell in senders}
        self._orders = [order(cell) for cell in receivers]
        self._held = THROUGH[through]
        self._width = max(decoder.width, decoder.heads * decoder.head_width)
        self._got: dict[int, torch.Tensor] = {}
        self._unchanged: dict[int, torch.Tensor] = {}

    def prepare(self, model: Any) -> dict[str, Any]:
        """What the senders give in the source run, and what is held as it is in the changed run."""
        decoder, layers = self._decoder, range(len(self._decoder.layers))
        sites = [site for site in SENDERS if site in self._sites]
        with model.trace(torch.tensor([self._pair.source])):
            source = {(site, layer): decoder.read(site, layer).clone() for layer in layers for site in sites}
        with model.trace(torch.tensor([self._pair.ids])):
            held: dict[tuple[str, int], torch.Tensor] = {}
            unchanged: dict[int, torch.Tensor] = {}
            for layer in layers:
                for site in SITES:
                    unchanged |= self._read(site, layer, 0)
                    if site in self._held:
                        held[site, layer] = decoder.read(site, layer).clone()
        self._unchanged = unchanged
        return {"source": source, "held": held}

    def edit(self, model: Any, batch: Batch) -> None:
        """Change each cell's sender, hold what comes between it and the last receiver, and read the receivers."""
        self._got = {}
        for layer in range(batch.layer, len(self._decoder.layers)):
            for site in SITES:
                self._got |= self._read(site, layer, batch.start)
                if site in SENDERS:
                    self._write(batch, site, layer)

    def measure(self, model: Any, batch: Batch) -> torch.Tensor:
        """What each receiver gets, (rows, receivers, width)."""
        got = self._got if batch.cells else {}
        rows = max(len(batch.cells), 1) * batch.prompts
        here = [got.get(n, self._unchanged[n].expand(rows, -1)) for n in range(len(self._receivers))]
        return torch.stack(here, 1)

    def _read(self, site: str, layer: int, start: int) -> dict[int, torch.Tensor]:
        """The receivers at a site and layer, by their number, as far as they are at positions that are computed."""
        found = {}
        for number, cell in enumerate(self._receivers):
            if (cell.site, cell.layer) == (site, layer) and cell.position >= start:
                state = self._decoder.read(site, layer)[:, cell.position - start].clone()
                flat = (state if cell.head is None else state[:, cell.head]).flatten(1)
                found[number] = torch.nn.functional.pad(flat, (0, self._width - flat.shape[1]), value=torch.nan)
        return found

    def _write(self, batch: Batch, site: str, layer: int) -> None:
        given = batch.given
        for rows, cell in batch:
            if (cell.site, cell.layer) == (site, layer):
                value = given["source"][site, layer][:, self._pair.positions[cell.position]]
                value = value if cell.head is None else value[:, cell.head]
                self._decoder.write(site, layer, rows, batch.at(cell.position), value, cell.head)
            elif site in self._held and self._between(cell, site, layer):
                self._decoder.write(site, layer, rows, slice(None), given["held"][site, layer][:, batch.start :])

    def _between(self, cell: Cell, site: str, layer: int) -> bool:
        own = (cell.site, site, cell.layer) == ("head", "attention", layer)  # a head writes through its attention
        return order(cell) < (layer, SITES.index(site)) < max(self._orders) and not own


class _Receiving(Patching):
    """The second sweep: each cell puts what its sender sent into the receivers of the unchanged run."""

    def __init__(self, decoder: Decoder, pair: Pair, receivers: Sequence[Cell], received: torch.Tensor) -> None:
        Patching.__init__(self, decoder, pair, False, None, set())  # super() does not travel with a job
        self._receivers, self._received = receivers, received

    def edit(self, model: Any, batch: Batch) -> None:
        """Put what was received (senders, receivers, width) into each cell's rows."""
        for number, receiver in sorted(enumerate(self._receivers), key=lambda one: order(one[1])):
            place = self._decoder.read(receiver.site, receiver.layer)
            for rows, cell in batch:
                value = self._received[int(cell.site), number].to(place)
                at = (rows, batch.at(receiver.position))
                where = at if receiver.head is None else (*at, receiver.head)
                shape = place[where].shape
                place[where] = value[: shape[1:].numel()].reshape(shape[1:])


def order(cell: Cell) -> tuple[int, int]:
    """When a model computes it."""
    return cell.layer, SITES.index(cell.site)


def _silent(tell: Tell, before: int) -> Tell:
    """Tell how far it is, among all sweeps, without values."""
    return lambda places, values: tell([place + before for place in places], torch.zeros(len(places), 0))
