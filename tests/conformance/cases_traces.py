"""Reading and changing what a model computes: traces, invokes, sessions, skips, sources, caches, edits."""

# ruff: noqa: RET504 - blocks as users write them

from __future__ import annotations

import torch
from cases import OTHER, PROMPT, SHORT, case


@case("Traces", "a module's output")
def output_read(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[1].output.save()
    return hidden


@case("Traces", "a module's input")
def input_read(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[2].input.save()
    return hidden


@case("Traces", "all of a module's inputs")
def inputs_read(model, remote):
    with model.trace(PROMPT, remote=remote):
        arguments, keywords = model.transformer.h[2].mlp.inputs
        first = arguments[0].save()
        names = sorted(keywords).save()
    return first, names


@case("Traces", "the model's own output, a ModelOutput")
def logits_read(model, remote):
    with model.trace(PROMPT, remote=remote):
        logits = model.output.logits.save()
    return logits


@case("Traces", "a whole ModelOutput saved, with its type")
def model_output_saved(model, remote):
    with model.trace(PROMPT, remote=remote, use_cache=False):
        whole = model.output.save()
    return whole


@case("Traces", "tracer.result")
def result_read(model, remote):
    with model.trace(PROMPT, remote=remote) as tracer:
        hidden = model.transformer.h[0].output.save()
        logits = tracer.result.logits.save()
    return hidden, logits


@case("Traces", "several modules, in order, and arithmetic on them")
def several_modules(model, remote):
    with model.trace(PROMPT, remote=remote):
        first = model.transformer.h[0].output
        second = model.transformer.h[3].output
        gap = (second - first).norm(dim=-1).save()
    return gap


@case("Traces", "every layer in a loop, collected in a list")
def every_layer(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = [layer.output[:, -1] for layer in model.transformer.h].save()
    return hidden


@case("Traces", "attention and its tuple output")
def attention_tuple(model, remote):
    with model.trace(PROMPT, remote=remote):
        attention = model.transformer.h[1].attn.output[0].save()
        mlp = model.transformer.h[1].mlp.output.save()
    return attention, mlp


@case("Traces", "token ids as a tensor")
def ids_as_tensor(model, remote):
    with model.trace(torch.tensor([[5, 6, 7, 8]]), remote=remote):
        logits = model.output.logits.save()
    return logits


@case("Traces", "token ids as a list")
def ids_as_list(model, remote):
    with model.trace([5, 6, 7, 8], remote=remote):
        logits = model.output.logits.save()
    return logits


@case("Traces", "an encoding of the tokenizer")
def encoding(model, remote):
    with model.trace(model.tokenizer(PROMPT, return_tensors="pt"), remote=remote):
        logits = model.output.logits.save()
    return logits


@case("Traces", "a list of prompts as one batch")
def batch_of_prompts(model, remote):
    with model.trace([PROMPT, OTHER, SHORT], remote=remote):
        hidden = model.transformer.h[2].output.save()
        logits = model.output.logits[:, -1].save()
    return hidden, logits


@case("Traces", "keyword arguments of the forward (output_hidden_states)")
def forward_keywords(model, remote):
    with model.trace(PROMPT, remote=remote, output_hidden_states=True):
        hidden = model.output.hidden_states.save()
    return hidden


@case("Traces", "a trace of a submodule by its own call")
def trace_false(model, remote):
    with model.trace(PROMPT, remote=remote):
        states = model.transformer.h[3].output
        again = model.transformer.ln_f(states).save()
    return again


@case("Traces", "a negative index and a slice of layers")
def layer_slices(model, remote):
    with model.trace(PROMPT, remote=remote):
        picked = [layer.output.mean() for layer in model.transformer.h[1:3]].save()
        last = model.transformer.h[-1].output.save()
    return picked, last


@case("Traces", "children, paths and names of the tree inside a block")
def tree_walk(model, remote):
    with model.trace(PROMPT, remote=remote):
        paths = [child.path for child in model.transformer].save()
        layer = model.get("transformer.h.1").output.save()
    return paths, layer


@case("Traces", "attributes of the model: config, tokenizer, dtype, device, parameters")
def attributes(model, remote):
    with model.trace(PROMPT, remote=remote):
        facts = [
            model.config.n_layer,
            str(model.device),
            str(model.dtype),
            model.tokenizer.decode([40, 41]),
            sum(parameter.numel() for parameter in model.parameters()),
        ].save()
        weight = model.transformer.wte.weight[:3].save()
    return facts, weight.detach().clone()


@case("Traces", "a block with no save gives nothing and no error")
def nothing_saved(model, remote):
    hidden = "untouched"
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[1].output
    return hidden


@case("Writes", "in place, all positions")
def write_in_place(model, remote):
    with model.trace(PROMPT, remote=remote):
        model.transformer.h[1].output[:] = 0
        logits = model.output.logits.save()
    return logits


@case("Writes", "in place, one position")
def write_one_position(model, remote):
    with model.trace(PROMPT, remote=remote):
        model.transformer.h[1].output[:, 2, 5:9] += 1.5
        logits = model.output.logits.save()
    return logits


@case("Writes", "a new value in place of an output")
def write_replaces(model, remote):
    with model.trace(PROMPT, remote=remote):
        model.transformer.h[1].output = model.transformer.h[1].output * 2
        logits = model.output.logits.save()
    return logits


@case("Writes", "a new value in place of an input")
def write_input(model, remote):
    with model.trace(PROMPT, remote=remote):
        model.transformer.h[2].input = model.transformer.h[2].input.flip(1)
        logits = model.output.logits.save()
    return logits


@case("Writes", "a new value in place of all inputs")
def write_inputs(model, remote):
    with model.trace(PROMPT, remote=remote):
        arguments, keywords = model.transformer.h[2].mlp.inputs
        model.transformer.h[2].mlp.inputs = ((arguments[0] * 0.5,), keywords)
        logits = model.output.logits.save()
    return logits


@case("Writes", "one element of a tuple output")
def write_tuple(model, remote):
    with model.trace(PROMPT, remote=remote):
        output = model.transformer.h[1].attn.output
        model.transformer.h[1].attn.output = (torch.zeros_like(output[0]), *output[1:])
        logits = model.output.logits.save()
    return logits


@case("Writes", "a read after a write sees the write, a clone before it does not")
def write_then_read(model, remote):
    with model.trace(PROMPT, remote=remote):
        before = model.transformer.h[1].output.clone().save()
        model.transformer.h[1].output[:] = 3
        after = model.transformer.h[1].output.save()
    return before, after


@case("Writes", "a value of the script sent along and added (steering)")
def write_from_script(model, remote):
    direction = torch.linspace(-1, 1, 128)
    with model.trace(PROMPT, remote=remote):
        model.transformer.h[2].output = model.transformer.h[2].output + 4 * direction
        logits = model.output.logits.save()
    return logits


@case("Writes", "the logits themselves")
def write_logits(model, remote):
    with model.trace(PROMPT, remote=remote):
        model.lm_head.output[..., 7] = 100.0
        best = model.output.logits.argmax(-1).save()
    return best


@case("Writes", "patching: a value of one trace into the next")
def patching(model, remote):
    with model.trace(PROMPT, remote=remote):
        clean = model.transformer.h[1].output.save()
    with model.trace("The Eiffel Tower is in the Rome of", remote=remote):
        model.transformer.h[1].output[:, -1] = clean[:, -1]
        logits = model.output.logits.save()
    return clean, logits


@case("Skips", "a layer skipped with its input")
def skip_layer(model, remote):
    with model.trace(PROMPT, remote=remote):
        model.transformer.h[1].skip(model.transformer.h[1].input)
        logits = model.output.logits.save()
    return logits


@case("Skips", "several layers skipped from a value of the script")
def skip_several(model, remote):
    given = torch.linspace(-1, 1, 9 * 128).reshape(1, 9, 128)
    with model.trace(torch.arange(9)[None], remote=remote):
        for layer in model.transformer.h[:3]:
            layer.skip(given)
        logits = model.output.logits.save()
    return logits


@case("Skips", "tracer.stop keeps what was saved")
def early_stop(model, remote):
    with model.trace(PROMPT, remote=remote) as tracer:
        hidden = model.transformer.h[1].output.save()
        tracer.stop()
    return hidden


@case("Skips", "code after tracer.stop does not run")
def early_stop_ends(model, remote):
    after = "untouched"
    with model.trace(PROMPT, remote=remote) as tracer:
        hidden = model.transformer.h[0].output.save()
        tracer.stop()
        after = "run".save()
    return hidden, after


@case("Skips", "a module called on another value (logit lens)")
def logit_lens(model, remote):
    with model.trace(PROMPT, remote=remote):
        lens = [model.lm_head(model.transformer.ln_f(layer.output)).argmax(-1) for layer in model.transformer.h].save()
    return lens


@case("Skips", "a whole layer called on another value, its own visit untouched")
def layer_called(model, remote):
    with model.trace(PROMPT, remote=remote):
        states = model.transformer.h[0].output
        ahead = model.transformer.h[2](states).save()
        real = model.transformer.h[2].output.save()
    return ahead, real


@case("Invokes", "two prompts in one batch")
def two_invokes(model, remote):
    with model.trace(remote=remote) as tracer:
        with tracer.invoke(PROMPT):
            first = model.output.logits.save()
        with tracer.invoke(OTHER):
            second = model.output.logits.save()
    return first, second


@case("Invokes", "an invoke without a prompt sees the whole batch")
def promptless_invoke(model, remote):
    with model.trace(remote=remote) as tracer:
        with tracer.invoke(PROMPT):
            mine = model.transformer.h[1].output.save()
        with tracer.invoke([OTHER, SHORT]):
            theirs = model.transformer.h[1].output.save()
        with tracer.invoke():
            whole = model.transformer.h[1].output.save()
    return mine, theirs, whole


@case("Invokes", "a write in one invoke leaves the other alone")
def invokes_apart(model, remote):
    with model.trace(remote=remote) as tracer:
        with tracer.invoke(PROMPT):
            model.transformer.h[1].output[:] = 0
            changed = model.output.logits.save()
        with tracer.invoke(PROMPT):
            clean = model.output.logits.save()
    return changed, clean


@case("Invokes", "a value of one invoke used in the next (barrier)")
def barrier(model, remote):
    with model.trace(remote=remote) as tracer:
        meet = tracer.barrier(2)
        with tracer.invoke(PROMPT):
            embedded = model.transformer.wte.output
            meet()
            first = model.output.logits.save()
        with tracer.invoke("_ _ _ _ _ _ _ _ _"):
            meet()
            model.transformer.wte.output = embedded.expand_as(model.transformer.wte.output).clone()
            second = model.output.logits.save()
    return first, second


@case("Invokes", "a value of an earlier layer flows to a later one without a barrier")
def invokes_share(model, remote):
    with model.trace(remote=remote) as tracer:
        with tracer.invoke(PROMPT):
            early = model.transformer.h[0].output[:, -1]
        with tracer.invoke(OTHER):
            later = model.transformer.h[2].output
            later[:, -1] = early
            logits = model.output.logits[:, -1].save()
    return logits


@case("Invokes", "invokes made in a loop over prompts")
def invokes_in_loop(model, remote):
    with model.trace(remote=remote) as tracer:
        best = [].save()
        for prompt in (PROMPT, OTHER, SHORT):
            with tracer.invoke(prompt):
                best.append(model.output.logits[0, -1].argmax().item())
    return best


@case("Invokes", "padding: each prompt of a batch as if it were alone, on the server", alone=True)
def padded_as_alone(model, remote):
    with model.trace([PROMPT, SHORT], remote=remote):
        together = model.output.logits[:, -1].save()
    alone = []
    for prompt in (PROMPT, SHORT):
        with model.trace(prompt, remote=remote):
            logits = model.output.logits[:, -1].save()
        alone.append(logits)
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
