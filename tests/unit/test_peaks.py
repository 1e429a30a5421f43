"""Peaks of memory foretold from measured points: known curves, the batch, and what lies beyond the points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edif_backend.models.catalogue import TINY_ID, ModelEntry
from edif_backend.models.experience import experience_with, remember
from edif_backend.models.peaks import Point, Profile

LENGTHS = (4, 16, 64, 128, 192, 256)
ENTRY = ModelEntry(id=TINY_ID, title="tiny", source="tiny", repo=TINY_ID)


def points(peak: Callable[[int, int], float], lengths: tuple[int, ...] = LENGTHS) -> tuple[Point, ...]:
    """What a measurement of a model whose peak is ``peak(batch, tokens)`` would find."""
    return tuple((length, round(peak(1, length)), round(peak(2, length))) for length in lengths)


def profile(peak: Callable[[int, int], float], lengths: tuple[int, ...] = LENGTHS) -> Profile:
    found = points(peak, lengths)
    return Profile(attention="sdpa", forward=found, prefill=found, decode=found, backward=found)


def straight(batch: int, tokens: int) -> float:
    return 9_000 * batch * tokens


def with_mask(batch: int, tokens: int) -> float:
    return 9_000 * batch * tokens + 8 * tokens**2 + 5_000


def eager(batch: int, tokens: int) -> float:
    return batch * (5_000 * tokens + 60 * tokens**2) + 4 * tokens**2


def two_layers(batch: int, tokens: int) -> float:
    """The logits are the peak of short prompts, the attention that of long ones."""
    return batch * max(20_000 * tokens, 4_000 * tokens + 200 * tokens**2)


def with_constant(batch: int, tokens: int) -> float:
    """As int8 has it: a layer's weights unpacked are most of the peak."""
    return 6_000_000 + 9_000 * batch * tokens


@pytest.mark.parametrize("peak", [straight, with_mask, with_constant, eager, two_layers])
@pytest.mark.parametrize(("batch", "tokens"), [(1, 8), (3, 48), (7, 100), (2, 255), (1, 1000), (16, 2000)])
def test_a_peak_is_never_far_under_and_seldom_far_over(peak: Callable[..., float], batch: int, tokens: int) -> None:
    foretold = profile(peak).peak_bytes(batch, tokens)
    low, high = (-0.03, 0.25) if peak is two_layers else (-0.02, 0.10)
    assert low <= foretold / peak(batch, tokens) - 1 <= high


def test_a_generation_needs_the_larger_of_its_first_step_and_its_longest_cache() -> None:
    known = Profile(
        attention=None,
        forward=points(straight),
        prefill=points(lambda batch, tokens: 100 * batch * tokens),
        decode=points(lambda batch, tokens: 60 * batch * tokens),
        backward=points(straight),
    )
    assert known.peak_bytes(2, 100, generated=10) == 100 * 2 * 100
    assert known.peak_bytes(2, 100, generated=200) == 60 * 2 * 300
    assert known.peak_bytes(2, 100, gradients=True) == 9_000 * 2 * 100


def test_one_measured_point_is_enough_to_say_something() -> None:
    assert profile(straight, (4,)).peak_bytes(3, 40) == 9_000 * 3 * 40


def test_experience_is_kept_for_each_dtype_and_outlives_nonsense(tmp_path: Path) -> None:
    assert experience_with(ENTRY, tmp_path).profile is None
    remember(ENTRY, tmp_path, load_s=4.5)
    remember(ENTRY, tmp_path, profile=profile(straight))
    found = experience_with(ENTRY, tmp_path)
    assert (found.load_s, found.profile) == (4.5, profile(straight))
    assert experience_with(ENTRY.model_copy(update={"dtype": "bfloat16"}), tmp_path).load_s is None
    next(tmp_path.glob("edif-experience-*")).write_text("{")
    assert experience_with(ENTRY, tmp_path).load_s is None
