"""One name for each part of a decoder, whatever its family calls it; the only place that knows families.

Used by every method, beside the weights.  Names are looked for on the model itself, so a new family with usual names
works unnamed; what is missing is said with the names that were tried.  Families that are tested: GPT-2, GPT-NeoX
(Pythia), Llama (and DeepSeek distills of it), Qwen 2 and 3, Gemma 1 and 2, Mistral.
"""

from __future__ import annotations

from typing import Any

import torch

#: Paths from the model, in the order in which they are tried.
LAYERS = (
    *("model.layers", "transformer.h", "gpt_neox.layers", "model.decoder.layers", "model.language_model.layers"),
    *("transformer.blocks", "layers"),
)
_EMBEDDING = ("model.embed_tokens", "transformer.wte", "gpt_neox.embed_in", "model.decoder.embed_tokens")
_EMBEDDING_MORE = ("model.language_model.embed_tokens", "embed_tokens")
_NORM = ("model.norm", "transformer.ln_f", "gpt_neox.final_layer_norm", "model.decoder.final_layer_norm")
_NORM_MORE = ("model.language_model.norm", "transformer.norm_f", "norm")
_HEAD = ("lm_head", "embed_out", "output_projection")
#: Paths from a layer.
_ATTENTION = ("self_attn", "attn", "attention")
_MLP = ("mlp", "feed_forward", "block_sparse_moe")
_PROJECTION = ("o_proj", "c_proj", "dense", "out_proj")

#: Places that can be read and changed, in the order in which a layer computes them.
SITES = ("residual_pre", "q", "k", "v", "pattern", "head", "attention", "residual_mid", "mlp", "residual")
#: Sites that have one part for each attention head (keys and values: for each group of heads).
HEADED = ("q", "k", "v", "pattern", "head")
#: Sites that are tensors of the model; a pattern is given by what it makes of the values, at ``head``.
READABLE = tuple(site for site in SITES if site != "pattern")


class Eager:
    """Within it a model computes its attention in the plain way.

    A class: the decorator of a generator does not travel with a job, and the server would have a bare generator.

    Raises:
        ValueError: this family cannot.
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        self._before: str = module.config._attn_implementation

    def __enter__(self) -> None:
        try:
            if self._before != "eager":
                self._module.set_attn_implementation("eager")
        except (ValueError, ImportError) as error:
            raise ValueError(f"This family does not give its attention patterns ({error}).") from None

    def __exit__(self, *_: object) -> None:
        if self._before != "eager":
            self._module.set_attn_implementation(self._before)


class Decoder:
    """The parts of ``model`` as nnsight envoys, and what its configuration says about them.

    Args:
        layers: path of the list of layers, where it is at an unusual place.

    Raises:
        AttributeError: a part is at none of the usual places.
    """

    def __init__(self, model: Any, layers: str | None = None) -> None:
        self.model = model
        self.layers = layers_of(model, layers)
        config = model._module.config.get_text_config()
        self.heads: int = config.num_attention_heads
        self.groups: int = getattr(config, "num_key_value_heads", None) or self.heads
        self.width: int = config.hidden_size
        self.head_width: int = getattr(config, "head_dim", None) or self.width // self.heads
        self.softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self.scale: float = getattr(config, "logit_scale", None) or 1.0 / (
            getattr(config, "logits_scaling", None) or 1.0
        )

    @property
    def embedding(self) -> Any:
        """Token embedding: ids to (rows, positions, width)."""
        return _found(self.model, (*_EMBEDDING, *_EMBEDDING_MORE), "the token embedding")

    @property
    def norm(self) -> Any:
        """Norm before the unembedding."""
        return _found(self.model, (*_NORM, *_NORM_MORE), "the final norm")

    @property
    def head(self) -> Any:
        """Unembedding: width to vocabulary."""
        return _found(self.model, _HEAD, "the unembedding")

    def attention(self, layer: int) -> Any:
        """Attention block of a layer."""
        return _found(self.layers[layer], _ATTENTION, "the attention block of a layer")

    def projection(self, layer: int) -> Any:
        """Output projection of a layer's attention: heads' outputs side by side to width."""
        return _found(self.attention(layer), _PROJECTION, "the output projection of attention")

    def mlp(self, layer: int) -> Any:
        """MLP of a layer."""
        return _found(self.layers[layer], _MLP, "the MLP of a layer")

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """What the model would say of hidden states (…, width): norm, unembedding and soft-cap; (…, vocabulary).

        To be called outside of traces: the modules run without nnsight's hooks.
        """
        values: torch.Tensor = self.head._module(self.norm._module(states)) * self.scale
        return values if self.softcap is None else torch.tanh(values / self.softcap) * self.softcap

    # -- attention patterns ---------------------------------------------------

    def eager(self) -> Eager:
        """Attention that gives its pattern, for the traces inside; afterwards it is as it was before."""
        return Eager(self.model._module)

    def pattern(self, layer: int) -> torch.Tensor:
        """Attention pattern, rows sum to 1: (rows, heads, queries, keys); inside a trace, within :meth:`eager`.

        Raises:
            ValueError: this family's attention does not give it.
        """
        given = self.attention(layer).output
        if isinstance(given, torch.Tensor) or len(given) < 2 or given[1] is None:
            raise ValueError("This family's attention gives no pattern: read q and k with a trace of your own.")
        found: torch.Tensor = given[1]
        return found

    def of_heads(self, values: torch.Tensor) -> torch.Tensor:
        """Each head's own values, out of those of groups: (…, groups, head width) to (…, heads, head width)."""
        return values.repeat_interleave(self.heads // values.shape[-2], -2)

    # -- reading and changing a site, inside a trace -------------------------

    def read(self, site: str, layer: int) -> torch.Tensor:
        """The activation at a site: (rows, positions, width), for headed sites (rows, positions, heads, head width).

        A view, so that what is written into it is what the model goes on with.
        """
        return self.shaped(site, self.tensor(site, layer))

    def write(
        self, site: str, layer: int, rows: Any, position: Any, value: torch.Tensor, head: int | None = None
    ) -> None:
        """Put ``value`` in place at some rows and a position of a site, of one head where one is named."""
        place = self.read("head" if site == "pattern" else site, layer)
        if head is None:
            place[rows, position] = value
        else:
            place[rows, position, head] = value

    def parts(self, site: str) -> int:
        """How many heads (or groups of heads) a headed site has; 1 for the others."""
        if site not in HEADED:
            return 1
        return self.groups if site in ("k", "v") else self.heads

    def tensor(self, site: str, layer: int) -> torch.Tensor:
        """The model's own tensor that holds a site: what gradients are taken of."""
        block = self.layers[layer]
        sandwiched = hasattr(block, "pre_feedforward_layernorm")  # Gemma 2 norms what is added to the stream
        if site in ("residual_pre", "residual"):
            return _tensor(block.input if site == "residual_pre" else block.output)
        if site == "residual_mid":
            return self._middle(block, sandwiched)
        if site == "attention":
            return _tensor(block.post_attention_layernorm.output if sandwiched else self.attention(layer).output)
        if site == "mlp":
            return _tensor(block.post_feedforward_layernorm.output if sandwiched else self.mlp(layer).output)
        if site == "head":
            return _tensor(self.projection(layer).input)
        if site in ("q", "k", "v"):
            names = ("c_attn", "query_key_value", f"{site}_proj")
            return _tensor(_found(self.attention(layer), names, f"the {site} projection of attention").output)
        raise ValueError(f"There is no site {site!r} to be read: choose from {', '.join(READABLE)}.")

    def shaped(self, site: str, tensor: torch.Tensor) -> torch.Tensor:
        """A site's part of the tensor that holds it, as a view."""
        if site not in HEADED:
            return tensor
        if site == "head":
            return tensor.unflatten(-1, (self.heads, self.head_width))
        attention = self.attention(0)
        if hasattr(attention, "c_attn"):  # GPT-2: all queries, then all keys, then all values
            part = "qkv".index(site) * self.width
            return tensor[..., part : part + self.width].unflatten(-1, (self.heads, self.head_width))
        if hasattr(attention, "query_key_value"):  # GPT-NeoX: query, key and value of one head after the other
            return tensor.unflatten(-1, (self.heads, 3, self.head_width))[..., "qkv".index(site), :]
        return tensor.unflatten(-1, (self.parts(site), self.head_width))

    def _middle(self, block: Any, sandwiched: bool) -> torch.Tensor:
        if getattr(self.model._module.config, "use_parallel_residual", False):
            raise ValueError("This family adds attention and MLP at once: it has no residual stream between the two.")
        names = ("pre_feedforward_layernorm",) if sandwiched else ("post_attention_layernorm", "ln_2")
        return _tensor(_found(block, names, "the norm before the MLP").input)


def layers_of(model: Any, path: str | None = None) -> Any:
    """The model's list of layers.

    Raises:
        AttributeError: it is at none of the usual places, or not at ``path``.
    """
    for tried in (path,) if path else LAYERS:
        found = _reached(model, tried)
        if found is not None and isinstance(found._module, torch.nn.ModuleList):
            return found
    raise AttributeError(
        f"No list of layers at {path or ', '.join(LAYERS)}: print(model) shows where it is; name it with layers='…'."
    )


def _found(root: Any, paths: tuple[str, ...], what: str) -> Any:
    for path in paths:
        found = _reached(root, path)
        if found is not None:
            return found
    raise AttributeError(
        f"This model keeps {what} at none of the places that are known here ({', '.join(paths)}): print(model) shows "
        "its names; please report its family."
    )


def _reached(root: Any, path: str) -> Any:
    for name in path.split("."):
        root = getattr(root, name, None)
        if root is None:
            return None
    return root


def _tensor(output: Any) -> torch.Tensor:
    """The first tensor of what a module takes or gives; in some families that is a tuple."""
    found: torch.Tensor = output if isinstance(output, torch.Tensor) else output[0]
    return found
