"""Packed results: what any client of nnsight can load, in pieces that fit a frame, without a second whole copy."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
import zstandard

from edif_backend.executors import packing
from edif_backend.executors.frames import PIECE_BYTES


def packed(saved: dict[str, Any], compress: bool) -> list[bytes]:
    pieces: list[bytes] = []
    sent = packing.pack(saved, compress, lambda piece: pieces.append(bytes(piece)))
    assert sent == sum(map(len, pieces))
    return pieces


def loaded(pieces: list[bytes], compress: bool) -> dict[str, Any]:
    """What the stock client does with the bytes."""
    data = b"".join(pieces)
    if compress:
        data = zstandard.ZstdDecompressor().decompress(data)
    saved: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=False)
    return saved


NOISE = torch.randn(3_000_000)
SAVES = {
    "small": {"a": torch.arange(10)},
    "dense": {"a": NOISE, "b": [NOISE[:70_001].clone(), {"c": 1}]},
    "loose": {"a": NOISE.bfloat16().repeat(3), "zeros": torch.zeros(2_000_000)},
    "many": {str(n): torch.full((50_000,), float(n)) for n in range(50)},
}


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("name", SAVES)
def test_a_stock_client_loads_what_was_saved(name: str, compress: bool) -> None:
    pieces = packed(SAVES[name], compress)
    assert all(len(piece) <= PIECE_BYTES for piece in pieces)
    back = loaded(pieces, compress)
    torch.testing.assert_close(back, SAVES[name], rtol=0, atol=0)


@pytest.mark.parametrize("compress", [False, True])
def test_a_slice_goes_without_the_tensor_that_it_is_a_part_of(compress: bool) -> None:
    whole = torch.randn(200, 5000, requires_grad=True)
    saved = {"last": whole[-1], "deep": [{"corner": whole[:10, :7]}], "column": whole.detach()[:, 3]}
    pieces = packed(saved, compress)
    assert sum(map(len, pieces)) < 40_000
    back = loaded(pieces, compress)
    torch.testing.assert_close(back, {name: saved[name] for name in back}, rtol=0, atol=0)
    assert back["last"].requires_grad
    assert not back["column"].requires_grad


def test_slices_that_make_up_a_tensor_or_overlap_take_no_more_than_half_of_it_again() -> None:
    whole = torch.randn(100, 1000)
    for views in ([*whole], [whole[n : n + 50] for n in range(50)], [whole, whole[:50]], [whole, whole.T, whole[0]]):
        pieces = packed({"views": views}, compress=False)
        assert sum(map(len, pieces)) < 1.6 * whole.nbytes
        torch.testing.assert_close(loaded(pieces, compress=False)["views"], views, rtol=0, atol=0)


def test_one_slice_under_two_names_is_one_value() -> None:
    part = torch.arange(100.0)[:10]
    back = loaded(packed({"a": part, "b": [part]}, compress=False), compress=False)
    assert back["a"] is back["b"][0]


def test_a_frame_says_its_size() -> None:
    for saved in SAVES.values():
        plain = sum(map(len, packed(saved, compress=False)))
        assert zstandard.frame_content_size(packed(saved, compress=True)[0]) == plain


def test_a_streaming_reader_takes_what_is_stored_as_it_is() -> None:
    data = b"".join(packed(SAVES["dense"], compress=True))
    with zstandard.ZstdDecompressor(max_window_size=1 << 20).stream_reader(data) as reader:
        assert reader.read() == b"".join(packed(SAVES["dense"], compress=False))


def test_what_does_not_shrink_is_not_compressed_and_what_does_is() -> None:
    def share(name: str) -> float:
        return sum(map(len, packed(SAVES[name], True))) / sum(map(len, packed(SAVES[name], False)))

    assert 1 < share("dense") < 1.001
    assert share("loose") < 0.9


class Fickle:
    """Grows each time it is pickled."""

    size = 1

    def __getstate__(self) -> dict[str, Any]:
        self.size *= 3
        return {"data": "x" * self.size * 100_000}


@pytest.mark.parametrize("rest", ["dense", "loose"])
def test_values_that_change_while_they_are_packed_are_refused(rest: str) -> None:
    with pytest.raises(packing.Unsteady, match="changed while they were packed"):
        packed({**SAVES[rest], "fickle": Fickle()}, compress=True)
