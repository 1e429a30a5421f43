"""Cases: PEFT adapters, asked for by a request and gone with its job."""

from __future__ import annotations

import cases
import pytest
import torch
from cases import OTHER, PROMPT, case

ADAPTER = "edif/tiny-lora"


@case("adapters", "a model with an adapter answers as the same model and adapter do locally")
def adapter_output(model, remote):
    adapted = cases.make_model(remote, peft=ADAPTER)
    with adapted.trace(PROMPT, remote=remote):
        hidden = adapted.transformer.h[3].output.save()
        logits = adapted.output.logits.save()
    return hidden, logits


@case("adapters", "the adapter's own modules are read")
def adapter_modules(model, remote):
    adapted = cases.make_model(remote, peft=ADAPTER)
    with adapted.trace(PROMPT, remote=remote):
        down = adapted.transformer.h[1].attn.c_attn.lora_A.default.output.save()
        up = adapted.transformer.h[1].attn.c_attn.lora_B.default.output.save()
    return down, up


@case("adapters", "the adapter's own modules are written to")
def adapter_switched_off(model, remote):
    adapted = cases.make_model(remote, peft=ADAPTER)
    with adapted.trace(PROMPT, remote=remote):
        for block in adapted.transformer.h:
            block.attn.c_attn.lora_B.default.output[:] = 0
            block.mlp.c_fc.lora_B.default.output[:] = 0
        logits = adapted.output.logits.save()
    return [logits]


@case("adapters", "gradients flow through an adapter")
def adapter_gradient(model, remote):
    adapted = cases.make_model(remote, peft=ADAPTER)
    with adapted.trace(PROMPT, remote=remote):
        hidden = adapted.transformer.h[0].output
        hidden.requires_grad_(True)
        with adapted.output.logits[0, -1].max().backward():
            gradient = hidden.grad.save()
    return gradient


@case("adapters", "generation with an adapter")
def adapter_generation(model, remote):
    adapted = cases.make_model(remote, peft=ADAPTER)
    with adapted.generate(OTHER, max_new_tokens=6, do_sample=False, remote=remote) as tracer:
        ids = tracer.result.save()
    return [ids]


@case("adapters", "the next job without an adapter has none, and the two differ", alone=True)
def adapter_gone(model, remote):
    adapted = cases.make_model(remote, peft=ADAPTER)
    with model.trace(PROMPT, remote=remote):
        before = model.output.logits.save()
    with adapted.trace(PROMPT, remote=remote):
        between = adapted.output.logits.save()
    with model.trace(PROMPT, remote=remote):
        after = model.output.logits.save()
    assert torch.equal(before, after)
    assert not torch.allclose(before, between, atol=0.1)
    return True


@case("adapters", "an adapter that is not served is refused", alone=True)
def adapter_unknown(model, remote):
    adapted = cases.make_model(remote, peft=ADAPTER)
    adapted.peft = "edif/another"
    with (
        pytest.raises(Exception, match=f"adapters of it served here: {ADAPTER}"),
        adapted.trace(PROMPT, remote=remote),
    ):
        adapted.output.logits.save()
    return True
