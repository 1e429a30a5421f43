"""A model whose numbers are none in its last layers: every method says so, and draws nothing in their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from nnsight import TransformersModel

import edif

CLEAN = "When Mary and John went to the store, John gave a drink to"
CORRUPT = "When Mary and John went to the store, Mary gave a drink to"
ANSWER = (" Mary", " John")

#: Each method, and what must stand in its foot line.
METHODS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "lens": (lambda m: edif.logit_lens(m, CLEAN, progress=False), "not finite in 28 of 56 cells"),
    "patching": (lambda m: edif.activation_patching(m, CLEAN, CORRUPT, ANSWER, progress=False), "2 of 2 baselines"),
    "attribution": (lambda m: edif.attribution_patching(m, CLEAN, CORRUPT, ANSWER, progress=False), "2 of 2 baselines"),
    "trace": (lambda m: edif.causal_trace(m, CLEAN, "Mary", samples=2, progress=False), "3 of 3 baselines"),
    "attention": (lambda m: edif.attention(m, CLEAN, progress=False), "not finite in 4 of 16 heads"),
    "comparison": (
        lambda m: edif.compare_models(m, m, CLEAN, progress=False),
        "second model: what the model computes is not finite in 28 of 56 cells",
    ),
}


@pytest.fixture
def model(families: Callable[[str], TransformersModel]) -> TransformersModel:
    return families("gpt2")


@pytest.mark.parametrize("method", METHODS)
def test_it_says_where_numbers_are_none(method: str, model: TransformersModel) -> None:
    run, said = METHODS[method]
    assert "not finite" not in run(model).as_json()["foot"]
    model._module.transformer.h[2].mlp.c_proj.weight.data.fill_(float("nan"))
    found = run(model)
    assert said in found.as_json()["foot"]
    assert said in found._repr_mimebundle_()["text/plain"]


def test_nothing_is_read_from_such_activations(model: TransformersModel) -> None:
    model._module.transformer.h[2].mlp.c_proj.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="Activations of layer 2 are not finite, and nothing can be read"):
        edif.probe(model, [CLEAN, CORRUPT] * 2, [0, 1] * 2, folds=2, shuffles=1, progress=False)


def test_an_answer_against_itself_is_refused(model: TransformersModel) -> None:
    with pytest.raises(ValueError, match=r"right and the wrong answer are both ' John': name two tokens that differ"):
        edif.attribution_patching(model, CLEAN, CORRUPT, (" John", " John"), progress=False)


def test_layers_of_two_models_are_pairs(model: TransformersModel) -> None:
    layers: Any = [2]
    with pytest.raises(ValueError, match=r"layers takes pairs, a layer of each model, such as \(5, 5\): got 2"):
        edif.compare_models(model, model, CLEAN, layers=layers, progress=False)
