"""``edif.path_patching(model, clean, corrupt, answer, receivers)``: what a part says to another one directly."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

from edif import asked, beside
from edif.alignment import Alignment
from edif.engine import paths
from edif.engine.decoder import HEADED, READABLE, Paths, layers_of
from edif.engine.metrics import METRICS
from edif.engine.patches import Pair
from edif.engine.paths import SENDERS, THROUGH, order
from edif.engine.sweeps import BATCH_BYTES, Cell
from edif.pairs import DIRECTIONS, prompt_pairs
from edif.patching import ActivationPatching
from edif.patching_map import Map, head_counts


class PathPatching(ActivationPatching):
    """Effects of senders on the metric by way of the receivers alone; arrays as in :class:`edif.ActivationPatching`.

    Senders from which no path leads to a receiver have the metric of the unchanged run.
    """

    kind = "path_patching"
    title: ClassVar[str] = "Path patching"
    sources: ClassVar[tuple[str, ...]] = (
        "Wang et al. (2022): Interpretability in the Wild: a Circuit for IOI in GPT-2 Small. arXiv:2211.00593.",
        "Goldowsky-Dill et al. (2023): Localizing Model Behavior with Path Patching. arXiv:2304.05969.",
    )


def path_patching(
    model: Any,
    clean: str | Sequence[str],
    corrupt: str | Sequence[str],
    answer: tuple[int | str, int | str] | Sequence[tuple[int | str, int | str]],
    receivers: Cell | Sequence[Cell],
    *,
    senders: str | Sequence[str] = "head",
    layers: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    through: str = "nothing",
    direction: str = "denoise",
    alignment: Alignment | Sequence[Alignment] | None = None,
    path: Paths = None,
    batch_tokens: int | None = None,
    batch_bytes: int = BATCH_BYTES,
    remote: bool | str | None = None,
    progress: bool = True,
) -> PathPatching:
    """Let each sender's new output reach the receivers by the residual stream alone, and see what the model then says.

    (Wang et al. 2022, appendix B; Goldowsky-Dill et al. 2023.)  Two batched sweeps in one job: first what the receivers
    get when one sender has changed and everything between is held as it was; then the unchanged run with that put into
    the receivers, all at once.

    Args:
        clean, corrupt, answer, direction, alignment: as in :func:`edif.activation_patching`.
        receivers: for example ``edif.Cell(9, -1, "q", 6)``, the queries of head 6 in layer 9 at the last position; any
            site but ``pattern``.  ``edif.Cell(last layer, -1, "residual")`` gives direct effects on the logits.
        senders: of ``head``, ``attention``, ``mlp``.
        layers, positions: of the senders; all by default.
        through: ``nothing``, or ``mlp``: MLPs on the way pass on what they get, as in Wang et al.
        path: as in :func:`edif.logit_lens`.
        batch_tokens, batch_bytes, remote: as in :func:`edif.sweep`.

    Raises:
        ValueError: as :func:`edif.activation_patching` does; a receiver or sender that is not there.
    """
    pairs = prompt_pairs(model, clean, corrupt, answer, alignment)
    chosen = [senders] if isinstance(senders, str) else list(senders)
    ways = list(DIRECTIONS) if direction == "both" else [direction]
    asked.one_of("sender", chosen, SENDERS)
    asked.one_of("direction", ways, (*DIRECTIONS, "both"))
    asked.one_of("way through", [through], list(THROUGH))
    targets = _Receivers(model, [receivers] if isinstance(receivers, Cell) else list(receivers), path)
    plan = Map(model, pairs, chosen, ways, layers, positions, path, targets.reached_by)
    work = functools.partial(
        paths.path_patching,
        pairs=plan.runs,
        cells=plan.cells,
        receivers=[targets.of(run) for run in plan.runs],
        through=through,
        limits={"layers": path, "batch_tokens": batch_tokens, "batch_bytes": batch_bytes},
    )
    said: dict[str, Any] = {"path": f"to {targets.words()}" + (f", through {through}" if through != "nothing" else "")}
    said |= {"receivers": targets.as_json(), "through": through, **asked.parts_known(path)}
    return beside.result(
        model,
        work,
        2 * sum(map(len, plan.cells)),
        lambda found: PathPatching(*plan.arrays(model, found, None, **said)),
        functools.partial(plan.known, metrics=len(METRICS), sweeps=2),
        remote=remote,
        progress=progress,
        what="path patching",
    )


class _Receivers:
    """Where senders' changes are read and put in."""

    def __init__(self, model: Any, cells: list[Cell], path: Paths) -> None:
        count = len(layers_of(model, path))
        if not cells:
            raise ValueError(
                "Name a receiver: edif.Cell(layer, position, site, head), such as edif.Cell(9, -1, 'q', 6)."
            )
        for cell in cells:
            if cell.site not in READABLE:
                raise ValueError(f"There is no receiver {cell.site!r}: choose a site from {', '.join(READABLE)}.")
            heads = head_counts(model, [cell.site])[cell.site]
            if not -count <= cell.layer < count or not 0 <= (cell.head or 0) < max(heads, 1):
                raise ValueError(
                    f"There is no {cell}: the model has layers 0 to {count - 1}"
                    + (f" and heads 0 to {heads - 1} there." if cell.site in HEADED else ".")
                )
        self._cells = [Cell(cell.layer % count, cell.position, cell.site, cell.head) for cell in cells]

    def of(self, run: Pair) -> list[Cell]:
        """With positions counted from the beginning of the run that is changed."""
        length = len(run.ids)
        if beyond := [cell for cell in self._cells if not -length <= cell.position < length]:
            raise ValueError(f"{beyond[0]} is outside the prompt, which has positions 0 to {length - 1}.")
        return [Cell(cell.layer, cell.position % length, cell.site, cell.head) for cell in self._cells]

    def reached_by(self, sender: Cell, run: Pair) -> bool:
        """Whether a path leads from a sender to one of them."""
        return any(order(sender) < order(cell) and self._sees(sender, cell) for cell in self.of(run))

    @staticmethod
    def _sees(sender: Cell, receiver: Cell) -> bool:
        # only what attention computes from keys and values of other positions reaches later positions
        if receiver.site in ("head", "attention"):
            return sender.position <= receiver.position
        return sender.position == receiver.position

    def words(self) -> str:
        """What they are, for a caption."""
        return ", ".join(
            f"{cell.site} {cell.layer}" + ("" if cell.head is None else f".{cell.head}") + f" at {cell.position}"
            for cell in self._cells
        )

    def as_json(self) -> list[dict[str, Any]]:
        """What they are, for the provenance."""
        return [vars(cell) for cell in self._cells]
