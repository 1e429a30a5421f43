"""Generating: greedy, sampled, steps, pipelines, and attention implementations."""

# ruff: noqa: RET504 - blocks as users write them

from __future__ import annotations

import cases
import torch
from cases import OTHER, PROMPT, SHORT, case
from transformers import GenerationConfig


@case("Generation", "greedy")
def greedy(model, remote):
    with model.generate(PROMPT, max_new_tokens=6, do_sample=False, remote=remote) as tracer:
        ids = tracer.result.save()
    return ids


@case("Generation", "sampled under torch.manual_seed in the block's first step")
def sampled(model, remote):
    with model.generate(PROMPT, max_new_tokens=6, do_sample=True, remote=remote) as tracer:
        torch.manual_seed(7)
        ids = tracer.result.save()
    return ids


@case("Generation", "sampled with temperature, top-k and top-p")
def sampled_narrowly(model, remote):
    with model.generate(
        PROMPT, max_new_tokens=6, do_sample=True, temperature=0.7, top_k=20, top_p=0.9, remote=remote
    ) as tracer:
        torch.manual_seed(11)
        ids = tracer.result.save()
    return ids


@case("Generation", "beams")
def beams(model, remote):
    with model.generate(PROMPT, max_new_tokens=4, num_beams=3, do_sample=False, remote=remote) as tracer:
        ids = tracer.result.save()
    return ids


@case("Generation", "several sequences of one prompt")
def several_sequences(model, remote):
    with model.generate(
        PROMPT, max_new_tokens=4, num_beams=3, num_return_sequences=3, do_sample=False, remote=remote
    ) as tracer:
        ids = tracer.result.save()
    return ids


@case("Generation", "a GenerationConfig sent along")
def generation_config(model, remote):
    config = GenerationConfig(max_new_tokens=4, do_sample=False, repetition_penalty=1.3)
    with model.generate(PROMPT, generation_config=config, remote=remote) as tracer:
        ids = tracer.result.save()
    return ids


@case("Generation", "scores and a dictionary as the result")
def generation_scores(model, remote):
    with model.generate(
        PROMPT, max_new_tokens=3, do_sample=False, output_scores=True, return_dict_in_generate=True, remote=remote
    ) as tracer:
        ids = tracer.result.sequences.save()
        scores = tracer.result.scores.save()
    return ids, scores


@case("Generation", "the streamer's tokens, one a step")
def streamer(model, remote):
    with model.generate(PROMPT, max_new_tokens=4, do_sample=False, remote=remote) as tracer:
        tokens = [].save()
        for _ in tracer.iter[:5]:
            tokens.append(model.generator.streamer.output.tolist())
    return tokens


@case("Generation", "model.generator.output, deprecated and still there")
def generator_output(model, remote):
    with model.generate(PROMPT, max_new_tokens=4, do_sample=False, remote=remote):
        ids = model.generator.output.save()
    return ids


@case("Generation", "several prompts at once, padded left")
def generate_batch(model, remote):
    with model.generate([PROMPT, SHORT], max_new_tokens=4, do_sample=False, remote=remote) as tracer:
        ids = tracer.result.save()
    return ids


@case("Generation", "invokes, each its own continuation")
def generate_invokes(model, remote):
    with model.generate(max_new_tokens=3, do_sample=False, remote=remote) as tracer:
        with tracer.invoke(PROMPT):
            first = tracer.result.save()
        with tracer.invoke(OTHER):
            second = tracer.result.save()
    return first, second


@case("Generation", "an intervention at the first step alone")
def first_step_changed(model, remote):
    with model.generate(PROMPT, max_new_tokens=4, do_sample=False, remote=remote) as tracer:
        model.transformer.h[1].output[:] = 0
        ids = tracer.result.save()
    return ids


@case("Iteration", "the first steps (iter[:n])")
def iter_first(model, remote):
    with model.generate(PROMPT, max_new_tokens=4, do_sample=False, remote=remote) as tracer:
        hidden = [].save()
        for _ in tracer.iter[:3]:
            hidden.append(model.transformer.h[1].output[:, -1])
    return hidden


@case("Iteration", "a range of steps (iter[a:b])")
def iter_range(model, remote):
    with model.generate(PROMPT, max_new_tokens=5, do_sample=False, remote=remote) as tracer:
        steps = [].save()
        for step in tracer.iter[1:4]:
            steps.append((step, model.lm_head.output[0, -1].argmax().item()))
    return steps


@case("Iteration", "one step (iter[i])")
def iter_one(model, remote):
    with model.generate(PROMPT, max_new_tokens=5, do_sample=False, remote=remote) as tracer:
        for _ in tracer.iter[2]:
            hidden = model.transformer.h[1].output.save()
    return hidden


@case("Iteration", "chosen steps (iter[[i, j]])")
def iter_chosen(model, remote):
    with model.generate(PROMPT, max_new_tokens=5, do_sample=False, remote=remote) as tracer:
        hidden = [].save()
        for _ in tracer.iter[[0, 2, 4]]:
            hidden.append(model.transformer.h[1].output[:, -1])
    return hidden


@case("Iteration", "an open end (iter[:]) is a warning; what was kept arrives", tells="transformer.h.1.output")
def iter_open(model, remote):
    with model.generate(PROMPT, max_new_tokens=3, do_sample=False, remote=remote) as tracer:
        hidden = [].save()
        for _ in tracer.iter[:]:
            hidden.append(model.transformer.h[1].output[:, -1])
    return hidden


@case("Iteration", "tracer.all()")
def iter_all(model, remote):
    with model.generate(PROMPT, max_new_tokens=3, do_sample=False, remote=remote) as tracer:
        best = [].save()
        for _ in tracer.all():
            best.append(model.lm_head.output[0, -1].argmax().item())
    return best


@case("Iteration", "a loop cut short is a warning, and code after it does not run", tells="min_new_tokens")
def iter_cut_short(model, remote):
    after = "untouched"
    with model.generate(PROMPT, max_new_tokens=2, do_sample=False, remote=remote) as tracer:
        hidden = [].save()
        for _ in tracer.iter[:5]:
            hidden.append(model.transformer.h[1].output[:, -1])
        after = "run".save()
    return hidden, after


@case("Iteration", "a different intervention at each step")
def iter_varied(model, remote):
    with model.generate(PROMPT, max_new_tokens=4, do_sample=False, remote=remote) as tracer:
        for step in tracer.iter[:4]:
            if step % 2:
                model.transformer.h[1].output[:] = step
            best = model.lm_head.output[0, -1].argmax().save()
    return best


@case("Iteration", "the deprecated block form (with tracer.iter[…])", tells="is deprecated")
def iter_block(model, remote):
    with model.generate(PROMPT, max_new_tokens=3, do_sample=False, remote=remote) as tracer:
        best = [].save()
        with tracer.iter[:3]:
            best.append(model.lm_head.output[0, -1].argmax().item())
    return best


@case("Iteration", "steps of two invokes")
def iter_invokes(model, remote):
    with model.generate(max_new_tokens=3, do_sample=False, remote=remote) as tracer:
        first, second = [].save(), [].save()
        with tracer.invoke(PROMPT):
            for _ in tracer.iter[:3]:
                first.append(model.lm_head.output[0, -1].argmax().item())
        with tracer.invoke(OTHER):
            for _ in tracer.iter[:2]:
                second.append(model.lm_head.output[0, -1].argmax().item())
    return first, second


@case("Pipelines", "model.pipe gives what the task's pipeline gives")
def pipe(model, remote):
    with model.pipe(PROMPT, max_new_tokens=4, do_sample=False, remote=remote) as tracer:
        records = tracer.result.save()
    return records


@case("Pipelines", "several prompts")
def pipe_batch(model, remote):
    with model.pipe([PROMPT, OTHER], max_new_tokens=3, do_sample=False, remote=remote) as tracer:
        records = tracer.result.save()
    return records


@case("Pipelines", "an intervention inside")
def pipe_changed(model, remote):
    with model.pipe(PROMPT, max_new_tokens=3, do_sample=False, remote=remote) as tracer:
        model.transformer.h[1].output[:] += 1
        records = tracer.result.save()
    return records


@case("Attention", "eager, by request: attention weights")
def eager_weights(model, remote):
    eager = cases.make_model(remote, attn_implementation="eager")
    with eager.trace(PROMPT, remote=remote, output_attentions=True):
        pattern = eager.transformer.h[1].attn.output[1].save()
    return pattern


@case("Attention", "sdpa again after eager")
def sdpa_after_eager(model, remote):
    eager = cases.make_model(remote, attn_implementation="eager")
    with eager.trace(PROMPT, remote=remote):
        first = eager.output.logits.save()
    with model.trace(PROMPT, remote=remote):
        second = model.output.logits.save()
        kind = model.config._attn_implementation.save()
    return first, second, kind


@case("Attention", "an implementation that does not exist", alone=True)
def attention_unknown(model, remote):
    said = ""
    model._module.config._attn_implementation, before = "nonsense", model._module.config._attn_implementation
    try:
        with model.trace(PROMPT, remote=remote):
            model.output.logits.save()
    except Exception as error:  # noqa: BLE001
        said = str(error)
    finally:
        model._module.config._attn_implementation = before
    assert "nonsense" in said
