"""Every part of every family is found under one name, and what is written there is what the model goes on with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from nnsight import TransformersModel
from tests.unit.conftest import FAMILIES

import edif
from edif.engine import decoder
from edif.engine.decoder import HEADED, READABLE, Decoder, layers_of

IDS = torch.tensor([[3, 14, 15, 9, 26, 5]])


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, families: Callable[[str], TransformersModel]) -> TransformersModel:
    return families(request.param)


def _logits(model: TransformersModel, site: str, change: float, head: int | None = None) -> torch.Tensor:
    decoder = Decoder(model)
    with model.trace(IDS):
        value = decoder.read(site, 2)[:, 3]
        if head is not None:
            value = value[:, head]
        decoder.write(site, 2, slice(None), 3, value + change, head)
        logits = model.output.logits.save()
    return logits  # noqa: RET504 - what a trace assigns is there after it


def _sites(model: TransformersModel) -> list[str]:
    parallel = getattr(model._module.config, "use_parallel_residual", False)
    return [site for site in READABLE if not (parallel and site == "residual_mid")]


def test_the_last_layers_output_through_norm_and_head_is_what_the_model_says(model: TransformersModel) -> None:
    decoder = Decoder(model)
    with model.trace(IDS):
        states = decoder.read("residual", 3).save()
        logits = model.output.logits.save()
    assert torch.equal(decoder.logits(states), logits)


def test_what_is_written_at_a_site_changes_that_position_and_later_ones_only(model: TransformersModel) -> None:
    with model.trace(IDS):
        before = model.output.logits.save()
    for site in _sites(model):
        same, after = _logits(model, site, 0.0), _logits(model, site, 1.0)
        assert torch.equal(same, before), site
        moved = (after - before).abs().amax(dim=(0, 2))
        assert (moved[:3] == 0).all(), site
        if site in ("q", "k"):  # a shift of one query or of all keys moves the pattern of its own position
            assert moved[3:].amax() >= 0, site
        else:
            assert (moved[3:] > 0).any(), site


def test_one_head_is_written_alone(model: TransformersModel) -> None:
    decoder = Decoder(model)
    for site in (site for site in HEADED if site in READABLE):
        with model.trace(IDS):
            value = decoder.read(site, 1)
            shape = tuple(value.shape).save()
            decoder.write(site, 1, slice(None), 2, value[:, 2, 1] + 1, head=1)
            after = decoder.read(site, 1).save()
        assert shape == (1, 6, decoder.parts(site), 8), site
        with model.trace(IDS):
            before = decoder.read(site, 1).save()
        moved = (after - before)[0].abs().amax(-1) > 0
        assert moved.nonzero().tolist() == [[2, 1]], site


def test_keys_and_values_have_one_part_for_each_group_of_heads(model: TransformersModel) -> None:
    decoder = Decoder(model)
    assert decoder.parts("head") == decoder.parts("q") == 4
    assert (
        decoder.parts("k")
        == decoder.parts("v")
        == model._module.config.get_text_config().to_dict().get("num_key_value_heads", 4)
    )
    assert decoder.parts("mlp") == 1


def test_heads_write_what_attention_gives(model: TransformersModel) -> None:
    # zeroing every head leaves attention with its bias alone: the same at every position
    decoder = Decoder(model)
    with model.trace(IDS):
        for head in range(4):
            decoder.write("head", 1, slice(None), slice(None), torch.tensor(0.0), head)
        attention = decoder.attention(1).output[0].save()
    assert torch.allclose(attention, attention[:, :1].expand_as(attention), atol=1e-6)


@pytest.mark.parametrize("model", ["neox"], indirect=True)
def test_a_parallel_family_has_no_middle(model: TransformersModel) -> None:
    with pytest.raises(ValueError, match="attention and MLP at once"), model.trace(IDS):
        Decoder(model).read("residual_mid", 0)


@pytest.mark.parametrize("model", ["llama"], indirect=True)
def test_what_is_not_there_is_said_with_the_places_that_were_tried(model: TransformersModel) -> None:
    with pytest.raises(AttributeError, match=r"keeps its list of layers not at model\.blocks\."):
        layers_of(model, "model.blocks")
    with (
        pytest.raises(ValueError, match="There is no site 'neuron' to be read: choose from residual_pre"),
        model.trace(IDS),
    ):
        Decoder(model).read("neuron", 0)
    with pytest.raises(ValueError, match=r"no part 'mixer' of a model to name: there is layers, embedding, norm"):
        Decoder(model, {"mixer": "self_attn"})
    del model._module.lm_head
    del model.__dict__["lm_head"]
    with pytest.raises(AttributeError, match=r"keeps the unembedding at none of the places .*lm_head, embed_out"):
        Decoder(model).head  # noqa: B018


class TestOfAnUnknownFamily:
    """One whose parts have names that nobody knows: each is named by the user."""

    NAMED: ClassVar[dict[str, str]] = {
        "layers": "model.layers",
        "embedding": "model.embed_tokens",
        "norm": "model.norm",
        "head": "lm_head",
        "attention": "self_attn",
        "mlp": "mlp",
        "mlp_norm": "post_attention_layernorm",
        "projection": "o_proj",
        **{part: f"{part}_proj" for part in "qkv"},
    }

    @pytest.fixture
    def named(self, model: TransformersModel, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        monkeypatch.setattr(decoder, "PLACES", dict.fromkeys(decoder.PLACES, ("nowhere", "else")))
        return dict(self.NAMED)

    @pytest.mark.parametrize("model", ["llama"], indirect=True)
    @pytest.mark.parametrize("part", NAMED)
    def test_what_is_missing_is_said_with_what_is_needed_and_how_to_name_it(
        self, model: TransformersModel, named: dict[str, str], part: str
    ) -> None:
        del named[part]
        how = r"path='…' \(in edif.sweep" if part == "layers" else rf"path=\{{'{part}': '…'\}}"
        with pytest.raises(AttributeError, match=rf"Methods need .*{part} \(missing\).* name what is missing: {how}"):
            self._everything(model, named)

    @pytest.mark.parametrize("model", ["llama"], indirect=True)
    def test_with_its_parts_named_it_is_like_any_other(
        self, model: TransformersModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = self._everything(model, {})
        monkeypatch.setattr(decoder, "PLACES", dict.fromkeys(decoder.PLACES, ("nowhere", "else")))
        for one, other in zip(known, self._everything(model, self.NAMED), strict=True):
            assert one.equals(other)

    @staticmethod
    def _everything(model: TransformersModel, named: dict[str, str]) -> list[Any]:
        how: dict[str, Any] = {"path": named or None, "progress": False}
        clean, corrupt = "Mary and John gave", "Mary and Mary gave"
        return [
            edif.logit_lens(model, clean, **how).data,
            edif.activation_patching(
                model,
                clean,
                corrupt,
                (" Mary", " John"),
                sites=[site for site in edif.SITES if site != "pattern"],
                **how,
            ).data,
            edif.causal_trace(model, clean, "Mary", samples=2, **how).data,
        ]
