"""Sessions, operations inside a forward, caches, edits, scans and gradients."""

# ruff: noqa: RET504, SIM117 - blocks as users write them

from __future__ import annotations

import torch
from cases import OTHER, PROMPT, SHORT, case


@case("Sessions", "values flow from trace to trace without a save")
def session_flows(model, remote):
    with model.session(remote=remote):
        with model.trace(PROMPT):
            hidden = model.transformer.h[1].output
        with model.trace(PROMPT):
            model.transformer.h[2].output = hidden
            logits = model.output.logits.save()
    return logits


@case("Sessions", "only what is saved comes back")
def session_saves(model, remote):
    first = "untouched"
    with model.session(remote=remote):
        with model.trace(PROMPT):
            first = model.transformer.h[1].output
        with model.trace(OTHER):
            second = model.transformer.h[1].output.save()
    return first, second


@case("Sessions", "loops and conditions around traces")
def session_loop(model, remote):
    with model.session(remote=remote):
        best = [].save()
        for prompt in (PROMPT, OTHER, SHORT):
            with model.trace(prompt):
                logits = model.output.logits[0, -1]
            if logits.max() > -1e9:
                best.append(logits.argmax().item())
    return best


@case("Sessions", "a trace inside depends on the answer of the one before")
def session_decides(model, remote):
    with model.session(remote=remote):
        with model.trace(PROMPT):
            norms = torch.stack([layer.output.norm() for layer in model.transformer.h])
        layer = int(norms.argmax())
        with model.trace(PROMPT):
            model.transformer.h[layer].output[:] = 0
            logits = model.output.logits.save()
        layer.save()
    return logits


@case("Sessions", "generate inside a session")
def session_generates(model, remote):
    with model.session(remote=remote):
        with model.generate(PROMPT, max_new_tokens=3, do_sample=False) as tracer:
            ids = tracer.result
        with model.trace(ids):
            logits = model.output.logits.save()
    return logits


@case("Sessions", "invokes inside a session")
def session_invokes(model, remote):
    with model.session(remote=remote):
        with model.trace() as tracer:
            with tracer.invoke(PROMPT):
                first = model.output.logits[:, -1].save()
            with tracer.invoke(OTHER):
                second = model.output.logits[:, -1].save()
    return first, second


@case("Sessions", "a hundred traces in one session")
def session_of_many(model, remote):
    with model.session(remote=remote):
        norms = [].save()
        for token in range(100):
            with model.trace(torch.tensor([[token, token + 1]])):
                norm = model.transformer.h[3].output.norm().item()
            norms.append(norm)
    return norms


@case("Sources", "an operation inside a forward")
def source_read(model, remote):
    with model.trace(PROMPT, remote=remote):
        attention = model.transformer.h[1].attn.source.attention_interface_1.output[0].save()
    return attention


@case("Sources", "an operation's inputs")
def source_inputs(model, remote):
    with model.trace(PROMPT, remote=remote):
        arguments, _ = model.transformer.h[1].attn.source.attention_interface_1.inputs
        query = arguments[1].save()
    return query


@case("Sources", "an operation changed")
def source_written(model, remote):
    with model.trace(PROMPT, remote=remote):
        model.transformer.h[1].mlp.source.self_act_0.output = model.transformer.h[1].mlp.source.self_act_0.output.relu()
        logits = model.output.logits.save()
    return logits


@case("Sources", "an assignment inside a forward")
def source_assignment(model, remote):
    with model.trace(PROMPT, remote=remote):
        residual = model.transformer.h[1].source.residual_0.output.save()
    return residual


@case("Sources", "an operation skipped")
def source_skipped(model, remote):
    with model.trace(PROMPT, remote=remote):
        operation = model.transformer.h[1].mlp.source.self_act_0
        operation.skip(operation.input)
        logits = model.output.logits.save()
    return logits


@case("Sources", "the listing of operations")
def source_listing(model, remote):
    with model.trace(PROMPT, remote=remote):
        listing = str(model.transformer.h[1].mlp.source).save()
    return listing


@case("Sources", "a source inside a source")
def source_nested(model, remote):
    with model.trace(PROMPT, remote=remote):
        inner = model.transformer.h[1].attn.source.attention_interface_1.source
        weights = inner.torch_nn_functional_scaled_dot_product_attention_0.output.save()
    return weights


@case("Caches", "every module's output")
def cache_all(model, remote):
    with model.trace(PROMPT, remote=remote) as tracer:
        cache = tracer.cache()
    return {path: cache[path].output for path in cache.keys() if path.count(".") > 1}  # noqa: SIM118


@case("Caches", "some modules, with their inputs")
def cache_inputs(model, remote):
    with model.trace(PROMPT, remote=remote) as tracer:
        cache = tracer.cache(modules=[model.transformer.h[0], model.transformer.h[2].mlp], include_inputs=True)
    paths = list(cache.keys())
    return {path: (cache[path].output, cache[path].input) for path in paths}


@case("Caches", "modules named by path")
def cache_paths(model, remote):
    with model.trace(PROMPT, remote=remote) as tracer:
        cache = tracer.cache(modules=["model.transformer.h.1"])
    return cache["model.transformer.h.1"].output


@case("Caches", "another dtype")
def cache_dtype(model, remote):
    with model.trace(PROMPT, remote=remote) as tracer:
        cache = tracer.cache(modules=["model.transformer.h.1"], dtype=torch.bfloat16)
    return cache["model.transformer.h.1"].output


@case("Caches", "one entry a step of a generation")
def cache_steps(model, remote):
    with model.generate(PROMPT, max_new_tokens=3, do_sample=False, remote=remote) as tracer:
        cache = tracer.cache(modules=["model.transformer.h.1"])
    return len(cache["model.transformer.h.1"]), cache["model.transformer.h.1"].output


@case("Caches", "values as an intervention left them")
def cache_after_write(model, remote):
    with model.trace(PROMPT, remote=remote) as tracer:
        cache = tracer.cache(modules=["model.transformer.h.1", "model.transformer.h.2"])
        model.transformer.h[1].output[:] = 0
    return cache["model.transformer.h.1"].output, cache["model.transformer.h.2"].output


@case(
    "Caches",
    "a cache walked as a tree (`cache.model.transformer.h[1]`)",
    deviation="nnsight itself drops the model from a cache that travels; by path it works",
)
def cache_tree(model, remote):
    with model.trace(PROMPT, remote=remote) as tracer:
        cache = tracer.cache(modules=["model.transformer.h.1"])
    return cache.model.transformer.h[1].output


@case("Edits", "an edited copy; the model itself stays as it was")
def edit_copy(model, remote):
    with model.edit() as (_, edited):
        edited.transformer.h[1].output[:] = 0
    with model.trace(PROMPT, remote=remote):
        clean = model.output.logits.save()
    with edited.trace(PROMPT, remote=remote):
        changed = edited.output.logits.save()
    return clean, changed


@case("Edits", "in place, and cleared")
def edit_in_place(model, remote):
    with model.edit(inplace=True):
        model.transformer.h[1].output[:] = 0
    try:
        with model.trace(PROMPT, remote=remote):
            changed = model.output.logits.save()
    finally:
        model.clear_edits()
    with model.trace(PROMPT, remote=remote):
        clean = model.output.logits.save()
    return changed, clean


@case("Edits", "two edits, one on the other")
def edits_stack(model, remote):
    with model.edit() as (_, once):
        once.transformer.h[0].output[:, -1] = 1
    with once.edit() as (_, twice):
        twice.transformer.h[1].output = twice.transformer.h[1].output * 0.5
    with twice.trace(PROMPT, remote=remote):
        logits = twice.output.logits.save()
    return logits


@case(
    "Edits",
    "an edit of every step of a generation",
    deviation="nnsight cannot send such an edit: its tracer holds a frame; write the loop in the block itself",
)
def edit_steps(model, remote):
    with model.edit() as (editor, edited):
        for _ in editor.iter[:]:
            edited.transformer.h[2].output[:] = 0
    with edited.generate(PROMPT, max_new_tokens=3, do_sample=False, remote=remote) as tracer:
        ids = tracer.result.save()
    return ids


@case("Edits", "a value of the script inside an edit")
def edit_with_value(model, remote):
    direction = torch.linspace(-1, 1, 128)
    with model.edit() as (_, edited):
        edited.transformer.h[2].output = edited.transformer.h[2].output + direction
    with edited.trace(PROMPT, remote=remote):
        logits = edited.output.logits.save()
    return logits


@case("Scans", "shapes without running, before a remote trace that uses them")
def scan_then_trace(model, remote):
    with model.scan(PROMPT):
        width = model.transformer.h[1].output.shape[-1].save()
    with model.trace(PROMPT, remote=remote):
        half = model.transformer.h[1].output[..., : width // 2].save()
    return width, half


@case("Scans", "a scan inside a session, on the server")
def scan_in_session(model, remote):
    with model.session(remote=remote):
        with model.scan(PROMPT):
            shape = tuple(model.transformer.h[1].output.shape)
        with model.trace(PROMPT):
            hidden = model.transformer.h[1].output.reshape(-1, shape[-1]).save()
    return hidden


@case("Gradients", "of a hidden state, weights being frozen")
def gradient(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[1].output
        hidden.requires_grad_(True)
        loss = model.output.logits[0, -1, 3]
        with loss.backward():
            slope = hidden.grad.save()
    return slope


@case("Gradients", "of several layers, in reverse order")
def gradients(model, remote):
    with model.trace(PROMPT, remote=remote):
        early = model.transformer.h[0].output
        early.requires_grad_(True)
        late = model.transformer.h[2].output
        loss = model.output.logits.logsumexp(-1).sum()
        with loss.backward():
            late_slope = late.grad.save()
            early_slope = early.grad.save()
    return late_slope, early_slope


@case("Gradients", "a gradient changed on its way")
def gradient_written(model, remote):
    with model.trace(PROMPT, remote=remote):
        early = model.transformer.h[0].output
        early.requires_grad_(True)
        late = model.transformer.h[2].output
        loss = model.output.logits.sum()
        with loss.backward():
            late.grad = late.grad * 0.25
            slope = early.grad.save()
    return slope


@case("Gradients", "of the embeddings, and times the input (attribution)")
def attribution(model, remote):
    with model.trace(PROMPT, remote=remote):
        embedded = model.transformer.wte.output
        embedded.requires_grad_(True)
        loss = model.output.logits[0, -1].max()
        with loss.backward():
            share = (embedded.grad * embedded).sum(-1).save()
    return share.detach()


@case("Gradients", "of a weight made trainable in the block", spoils=True)
def weight_gradient(model, remote):
    with model.trace(PROMPT, remote=remote):
        weight = model.transformer.h[1].mlp.c_fc.weight
        weight.requires_grad_(True)
        loss = model.output.logits.sum()
        with loss.backward():
            slope = weight.grad.save()
    return slope


@case("Gradients", "torch.autograd.grad called directly")
def autograd_grad(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[1].output
        hidden.requires_grad_(True)
        (slope,) = torch.autograd.grad(model.output.logits[0, -1, 3], hidden)
        slope = slope.clone().save()
    return slope


@case("Gradients", "two backward passes over one graph")
def two_backwards(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[1].output
        hidden.requires_grad_(True)
        logits = model.output.logits[0, -1]
        with logits[1].backward(retain_graph=True):
            one = hidden.grad.save()
        with logits[2].backward():
            two = hidden.grad.save()
    return one, two


@case("Gradients", "of two invokes, each its own rows")
def gradients_of_invokes(model, remote):
    with model.trace(remote=remote) as tracer:
        with tracer.invoke():
            model.transformer.h[0].output.requires_grad_(True)
        with tracer.invoke(PROMPT):
            mine = model.transformer.h[1].output
            loss = model.output.logits[0, -1, 3]
            with loss.backward(retain_graph=True):
                slope = mine.grad.save()
        with tracer.invoke(OTHER):
            theirs = model.transformer.h[1].output
            loss = model.output.logits[0, -1, 3]
            with loss.backward():
                other = theirs.grad.save()
    return slope, other


@case("Gradients", "integrated over steps in a session")
def integrated_gradients(model, remote):
    with model.session(remote=remote):
        total = torch.zeros(1).save()
        for step in range(1, 4):
            with model.trace(PROMPT):
                model.transformer.wte.output = model.transformer.wte.output * (step / 3)
                scaled = model.transformer.wte.output
                scaled.requires_grad_(True)
                loss = model.output.logits[0, -1].max()
                with loss.backward():
                    slope = scaled.grad.abs().sum()
            total += slope.item()
    return total
