"""A model cut by layers, and its pieces given to devices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edif_backend.models.layers import DoesNotFit, Piece, Tensor, cut, device_map, evenly

sizes = st.lists(st.integers(1, 100), min_size=1, max_size=12)


def test_the_pieces_come_in_the_order_of_the_forward_pass_and_tied_weights_stay_together() -> None:
    tensors = [
        Tensor("model.embed.weight", 7),
        *(Tensor(f"model.layers.{number}.mlp.weight", 10 + number) for number in range(11)),
        Tensor("model.norm.weight", 2),
        Tensor("lm_head.weight", 7, beside="model.embed.weight"),
        Tensor("model.rotary.inv_freq", 1, weight=False),
    ]
    first, *layers, last = cut(tensors)
    assert first == Piece(("model.embed", "lm_head", "model.rotary"), 8)
    assert [piece.modules for piece in layers] == [(f"model.layers.{number}",) for number in range(11)]
    assert last == Piece(("model.norm",), 2)


@given(sizes, st.integers(1, 6))
def test_even_parts_hold_every_piece_in_order(sizes: list[int], count: int) -> None:
    pieces = [Piece((str(number),), size) for number, size in enumerate(sizes)]
    parts = evenly(pieces, [f"gpu {number}" for number in range(count)])
    placed = device_map(pieces, parts)
    assert list(placed) == [str(number) for number in range(len(sizes))]
    assert list(placed.values()) == sorted(placed.values())
    assert len(parts) == min(count, len(sizes))
    for device, size in parts:
        assert sum(sizes[int(name)] for name, place in placed.items() if place == device) <= size


@given(sizes)
def test_parts_that_are_too_small_are_refused(sizes: list[int]) -> None:
    pieces = [Piece((str(number),), size) for number, size in enumerate(sizes)]
    with pytest.raises(DoesNotFit):
        device_map(pieces, [("gpu", sum(sizes) - 1)])


@given(sizes, st.integers(1, 5), st.floats(1, 3))
def test_parts_with_room_for_jobs_get_the_pieces_that_placement_counted_for_them(
    sizes: list[int], count: int, more: float
) -> None:
    pieces = [Piece((str(number),), size) for number, size in enumerate(sizes)]
    exact = evenly(pieces, [str(number) for number in range(count)])
    roomy = [(device, int(size * more) + 1) for device, size in exact]
    placed = device_map(pieces, roomy)
    assert list(placed) == [str(number) for number in range(len(sizes))]
    assert list(placed.values()) == sorted(placed.values())
    for device, size in roomy:
        assert sum(sizes[int(name)] for name, place in placed.items() if place == device) <= size
    if more == 1:
        assert placed == device_map(pieces, exact)
