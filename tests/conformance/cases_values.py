"""What can be saved and sent: values of every kind, the user's own code, dtypes, random numbers."""

# ruff: noqa: PERF401, RET504 - blocks as users write them

from __future__ import annotations

import collections
import dataclasses
import math

import nnsight
import numpy as np
import own_module
import torch
from cases import PROMPT, case
from nnsight.schema.config import CONFIG


@dataclasses.dataclass
class Finding:
    """A user's record."""

    layer: int
    direction: torch.Tensor


class Meter:
    """A user's class with a method."""

    def __init__(self, scale):
        self.scale = scale
        self.seen = []

    def take(self, tensor):
        self.seen.append(tensor.norm().item() * self.scale)
        return self


Pair = collections.namedtuple("Pair", "left right")  # noqa: PYI024 - as users write it


@case("Values", "numbers, strings, None, booleans, bytes")
def scalars(model, remote):
    with model.trace(PROMPT, remote=remote):
        norm = model.transformer.h[1].output.norm().item()
        facts = [norm, 3, 2.5, "ä text", None, True, b"\x00\xff", 1j, ...].save()
    return facts


@case("Values", "a plain number under its own name")
def number(model, remote):
    with model.trace(PROMPT, remote=remote):
        count = model.transformer.h[1].output.numel().save()
    return count


@case("Values", "a string under its own name")
def text(model, remote):
    with model.trace(PROMPT, remote=remote):
        word = model.tokenizer.decode(model.output.logits[0, -1].argmax()).save()
    return word


@case("Values", "None under its own name")
def none_saved(model, remote):
    value = "untouched"
    with model.trace(PROMPT, remote=remote):
        value = None
        nnsight.save(value)
    return [value]


@case("Values", "integers of any size")
def large_integers(model, remote):
    with model.trace(PROMPT, remote=remote):
        numbers = [2**63, -(2**200), math.factorial(60)].save()
    return numbers


@case("Values", "not-a-number and infinities")
def not_numbers(model, remote):
    with model.trace(PROMPT, remote=remote):
        odd = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0]).save()
        plain = [float("nan"), float("inf")].save()
    return odd, plain


@case("Values", "numpy arrays")
def arrays(model, remote):
    with model.trace(PROMPT, remote=remote):
        array = model.transformer.h[1].output.numpy().copy().save()
        whole = np.arange(6, dtype=np.int16).reshape(2, 3).save()
    return array, whole


@case("Values", "nested lists, tuples and dictionaries")
def nested(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[1].output
        tree = {"a": [hidden[0, 0], (hidden[0, 1], {"deep": hidden[0, 2]})], 3: {4, 5}, (1, 2): "key"}.save()
    return tree


@case("Values", "sets, named tuples, ordered and default dictionaries")
def collections_saved(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[1].output
        pair = Pair(hidden[0, 0], 2).save()
        ordered = collections.OrderedDict(b=1, a=2).save()
        counted = collections.Counter("hello").save()
        chosen = frozenset({1, 2}).save()
    return pair, ordered, counted, chosen


@case("Values", "an instance of a dataclass of the script, isinstance intact")
def dataclass_saved(model, remote):
    with model.trace(PROMPT, remote=remote):
        finding = Finding(1, model.transformer.h[1].output[0, -1]).save()
    assert isinstance(finding, Finding)
    return finding


@case("Values", "an instance of a class of the script, filled inside")
def instance_filled(model, remote):
    meter = Meter(2.0)
    with model.trace(PROMPT, remote=remote):
        for layer in model.transformer.h:
            meter.take(layer.output)
        meter.save()
    assert isinstance(meter, Meter)
    return meter


@case("Values", "a list of the script filled and saved inside")
def outer_list(model, remote):
    found = []
    with model.trace(PROMPT, remote=remote):
        for layer in model.transformer.h:
            found.append(layer.output[0, -1])
        found.save()
    return found


@case("Values", "a dictionary of the script filled and saved inside")
def outer_dictionary(model, remote):
    found = {}
    with model.trace(PROMPT, remote=remote):
        for number, layer in enumerate(model.transformer.h):
            found[number] = layer.output.mean().item()
        nnsight.save(found)
    return found


@case("Values", "a name rebound after its save does not come back")
def rebound(model, remote):
    hidden = "untouched"
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[1].output.save()
        hidden = hidden + 1
    return hidden


@case("Values", "two names for one saved value")
def aliases(model, remote):
    with model.trace(PROMPT, remote=remote):
        first = model.transformer.h[1].output.save()
        second = first
    return first, second


@case("Values", "views that share storage, and strides")
def views(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[1].output
        pieces = [hidden[..., ::2], hidden.transpose(1, 2), hidden[:, -1:]].save()
    return pieces


@case("Values", "empty tensors and tensors without dimensions")
def empty_tensors(model, remote):
    with model.trace(PROMPT, remote=remote):
        odd = [torch.empty(0), torch.empty(0, 3), torch.tensor(5), model.transformer.h[1].output.mean()].save()
    return odd


@case("Values", "every dtype")
def dtypes(model, remote):
    kinds = ("float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64").split()
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[1].output[0, :2, :4]
        converted = {kind: hidden.to(getattr(torch, kind)) for kind in kinds}.save()
    return converted


@case("Values", "sparse tensors")
def sparse(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[1].output[0].relu().to_sparse().save()
    return hidden


@case("Values", "a parameter and a module of the user's own")
def own_parameters(model, remote):
    probe = own_module.Probe(128)
    with model.trace(PROMPT, remote=remote):
        scores = probe(model.transformer.h[1].output).save()
    return scores.detach()


@case("Values", "nnsight.save instead of .save")
def save_function(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = nnsight.save(model.transformer.h[1].output)
    return hidden


@case("Values", "a result too large for the websocket")
def large_result(model, remote):
    with model.trace(PROMPT, remote=remote):
        big = torch.arange(2_000_000).reshape(2, -1).save()
    return big


@case("Values", "compressed both ways, and not")
def compressed(model, remote):
    results = []
    before = CONFIG.API.COMPRESS
    try:
        for compress in (True, False):
            CONFIG.API.COMPRESS = compress
            with model.trace(PROMPT, remote=remote):
                hidden = model.transformer.h[1].output.save()
            results.append(hidden)
    finally:
        CONFIG.API.COMPRESS = before
    return results


@case("Values", "a large result compressed")
def large_compressed(model, remote):
    before, CONFIG.API.COMPRESS = CONFIG.API.COMPRESS, True
    try:
        with model.trace(PROMPT, remote=remote):
            # noise: what does not shrink
            big = torch.arange(1_500_000).mul(2654435761).bitwise_xor(0x5BD1E995).save()
    finally:
        CONFIG.API.COMPRESS = before
    return big


@case("Values", "a large value sent along")
def large_payload(model, remote):
    given = torch.arange(3_000_000, dtype=torch.float32)
    with model.trace(PROMPT, remote=remote):
        total = given.sum().save()
    return total
