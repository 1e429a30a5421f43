"""The user's own functions, classes and modules inside a block, and random numbers."""

# ruff: noqa: E731, RET504 - blocks as users write them

from __future__ import annotations

import functools
import random

import nnsight
import numpy as np
import own_module
import torch
from cases import PROMPT, case

FACTOR = 3


def doubled(tensor):
    return tensor * 2


def doubled_and_more(tensor):
    return doubled(tensor) + FACTOR


def adder(amount):
    def add(tensor):
        return tensor + amount

    return add


@case("Own code", "a function of the script that calls another and reads a global")
def own_function(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = doubled_and_more(model.transformer.h[1].output).save()
    return hidden


@case("Own code", "a closure")
def own_closure(model, remote):
    add = adder(1.5)
    with model.trace(PROMPT, remote=remote):
        hidden = add(model.transformer.h[1].output).save()
    return hidden


@case("Own code", "lambdas, defined outside and inside")
def own_lambdas(model, remote):
    outside = lambda tensor: tensor * FACTOR
    with model.trace(PROMPT, remote=remote):
        inside = lambda tensor: outside(tensor) - 1
        hidden = inside(model.transformer.h[1].output).save()
    return hidden


@case("Own code", "a function and a class defined inside the block")
def defined_inside(model, remote):
    with model.trace(PROMPT, remote=remote):

        def centred(tensor):
            return tensor - tensor.mean(-1, keepdim=True)

        class Scaler:
            def __init__(self, by):
                self.by = by

            def __call__(self, tensor):
                return tensor * self.by

        hidden = Scaler(2)(centred(model.transformer.h[1].output)).save()
    return hidden


@case("Own code", "functools.partial, map, comprehensions, generators")
def functional(model, remote):
    power = functools.partial(torch.pow, exponent=2)
    with model.trace(PROMPT, remote=remote):
        hidden = list(map(power, (layer.output[0, -1] for layer in model.transformer.h))).save()
        total = sum(value.sum().item() for value in hidden).save()
    return hidden, total


@case("Own code", "a recursive function")
def recursive(model, remote):
    def halved(tensor, times):
        return tensor if times == 0 else halved(tensor / 2, times - 1)

    with model.trace(PROMPT, remote=remote):
        hidden = halved(model.transformer.h[1].output, 5).save()
    return hidden


@case("Own code", "a module beside the script, sent along by itself")
def own_module_used(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = own_module.scaled(model.transformer.h[1].output).save()
    return hidden


@case("Own code", "a module sent along by nnsight.register")
def own_module_registered(model, remote):
    nnsight.register(own_module)
    scale = own_module.scaled
    with model.trace(PROMPT, remote=remote):
        hidden = scale(model.transformer.h[1].output).save()
    return hidden


@case("Own code", "imports inside the block")
def imports_inside(model, remote):
    with model.trace(PROMPT, remote=remote):
        import itertools

        import torch.nn.functional as F  # noqa: N812

        steps = list(itertools.accumulate([1, 2, 3])).save()
        probabilities = F.softmax(model.output.logits[0, -1], dim=-1).save()
    return steps, probabilities


@case("Own code", "conditions, loops, try and with in the block")
def statements(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[1].output
        kept = [].save()
        for position in range(hidden.shape[1]):
            if position % 2:
                continue
            try:
                kept.append(hidden[0, position].norm().item() / (position - 2))
            except ZeroDivisionError:
                kept.append("zero")
        with torch.no_grad():
            best = model.output.logits.argmax(-1).save()
    return kept, best


@case("Own code", "a helper that opens the trace itself, called with the model")
def helper_traces(model, remote):
    def last_logits(prompt):
        with model.trace(prompt, remote=remote):
            logits = model.output.logits[0, -1].save()
        return logits

    return [last_logits(prompt) for prompt in (PROMPT, "She said")]


@case("Random numbers", "torch.manual_seed")
def seeded_torch(model, remote):
    with model.trace(PROMPT, remote=remote):
        torch.manual_seed(3)
        noise = torch.randn(4, 5).save()
        noisy = (model.transformer.h[1].output + torch.randn(128)).save()
        order = torch.randperm(10).save()
    return noise, noisy, order


@case("Random numbers", "a generator of one's own, numpy and random")
def seeded_others(model, remote):
    with model.trace(PROMPT, remote=remote):
        own = torch.rand(3, generator=torch.Generator().manual_seed(4)).save()
        numbers = np.random.default_rng(5).normal(size=3).save()
        random.seed(6)
        drawn = [random.random() for _ in range(3)].save()
    return own, numbers, drawn


@case("Random numbers", "without a seed, two jobs draw different numbers", alone=True)
def fresh_each_time(model, remote):
    with model.trace(PROMPT, remote=remote):
        first = torch.rand(3).save()
    with model.trace(PROMPT, remote=remote):
        second = torch.rand(3).save()
    assert not torch.equal(first, second), "two jobs without a seed drew the same numbers"
