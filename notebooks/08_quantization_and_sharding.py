# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: eDIF
#     language: python
#     name: edif
# ---

# %% [markdown]
# # Fewer bits, and a model in parts: do the results survive?
#
# **Goal.** Measure what quantization does to a logit lens and a patching map, with a scale on which "the same" has a meaning; know
# the command that makes a table of it for any served model. **Time.** Twenty minutes, of which the model computes about a minute. **You
# need** [04_activation_patching](04_activation_patching.ipynb) and [06_logit_lens](06_logit_lens.ipynb).
#
# This is the first open question of the eDIF paper: how do quantization and sharding affect the fidelity of interpretability methods? Large models are
# served in few bits and over several GPUs because they would not fit otherwise, so the question is not academic.

# %%
import edif
import numpy as np
import torch
from nnsight import TransformersModel

MODEL = "edif/smollm2-135m-demo"  # the only line to change for another model of edif.models()
model = TransformersModel(MODEL, task="text-generation")
layers = model.transformer.h if "gpt2" in MODEL else model.model.layers
LAST = len(layers) - 1

clean = "When Mary and John went to the store, John gave a drink to"
corrupt = "When Mary and John went to the store, Mary gave a drink to"
mary, john = (model.tokenizer.encode(name)[0] for name in (" Mary", " John"))

# %% [markdown]
# ## 1. Round the weights yourself
#
# Every job starts from a pristine model, and what a job does to weights is gone after it. So you can quantize in your own job and
# nobody notices. The function below rounds the matrices of all layers (not the embedding) to `bits`, with one scale a row. That is *simulated*
# quantization: the numbers that come out are those of a quantized weight, the arithmetic stays float32.
#
# **A caveat about the demo model:** its weights were once rounded to about four bits, in groups of 32, and are stored as float32. So "full precision" here
# is already a rounded model. What follows measures what *further* rounding does.

# %%
def round_weights(model, bits):
    """Round every matrix of the layers to so many bits, one scale a row; 16 means bfloat16, 32 nothing."""
    for name, weight in model._module.named_parameters():
        if weight.ndim != 2 or "embed" in name or "wte" in name or "lm_head" in name or bits == 32:
            continue
        if bits == 16:
            weight.data.copy_(weight.data.bfloat16().float())
        else:
            scale = weight.data.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
            weight.data.copy_((weight.data / scale).round() * scale)


TEXTS = [
    "The Eiffel Tower is in the city of", "Water boils at a temperature of", "The author of Hamlet is William",
    "She opened the window because the room was", "In the morning the farmer went out to milk his",
    "The opposite of hot is", "My favourite season is winter, because I like the", "The capital of Germany is",
]
BITS = (32, 16, 8, 6, 4)

# %% [markdown]
# ## 2. What the model says
#
# > **What do you expect?** At how many bits will the most probable next token first change for one of eight texts?

# %%
said = {}
for bits in BITS:
    with model.session():
        round_weights(model, bits)
        rows = [].save()
        for text in TEXTS:
            with model.trace(text):
                row = model.lm_head.output[0, -1].float().log_softmax(-1)
            rows.append(row)
    said[bits] = torch.stack(list(rows))

rng = np.random.default_rng(0)
divergence = {}
for bits in BITS[1:]:
    each = (said[32].exp() * (said[32] - said[bits])).sum(-1).numpy()
    again = each[rng.integers(0, len(each), (2000, len(each)))].mean(1)
    divergence[bits] = float(each.mean())
    same = int((said[32].argmax(-1) == said[bits].argmax(-1)).sum())
    print(f"{bits:2} bits: KL {each.mean():.4f} nats [{np.quantile(again, 0.025):.4f}, {np.quantile(again, 0.975):.4f}], same top token in {same} of {len(TEXTS)}")

# %% [markdown]
# On the demo model: with 8 bits the KL is 0.0040 nats [0.0017, 0.0074] and every text keeps its top token; with 6 bits 0.059 and one of eight has
# another one; with 4 bits 1.32 [0.76, 2.10], and half of them have. (The four bits in which these weights were once stored had a scale for
# every 32 of them. Here one scale serves a whole row, which is coarser.)
#
# ## 3. What a patching map says
#
# The same IOI map ([04_activation_patching](04_activation_patching.ipynb)) on each rounded model: correlation with the map in float32, rank correlation of the
# cells, how many of the five strongest cells stay, and the largest difference of a cell.
#
# > **What do you expect?** Does the *map* suffer before or after what the model *says* does? What would a correlation of 0.99
# > hide?

# %% tags=["long"]
CELLS = [(layer, position) for layer in range(0, LAST + 1, 3) for position in (9, 13)]


def states_rounded(bits):
    """Round, then the clean run's states: what the sweep puts into the corrupt run."""

    def prepare(model):
        round_weights(model, bits)
        with model.trace(clean):
            states = [layer.output for layer in (model.transformer.h if "gpt2" in MODEL else model.model.layers)]
            logits = model.lm_head.output[0, -1]
        return states, float(logits[mary] - logits[john])

    return prepare


def patch(model, batch):
    hidden = (model.transformer.h if "gpt2" in MODEL else model.model.layers)[batch.layer].output
    for rows, cell in batch:
        hidden[rows, batch.at(cell.position)] = batch.given[0][cell.layer][:, cell.position]


def difference(model, batch):
    logits = model.lm_head.output[:, -1]
    return torch.stack([logits[:, mary] - logits[:, john], torch.full_like(logits[:, 0], batch.given[1])], -1)


maps = {}
for bits in BITS:
    found = edif.sweep(model, corrupt, CELLS, patch, difference, prepare=states_rounded(bits))
    start, goal = found.base[0]
    maps[bits] = (found.values[:, 0, 0] - start) / (goal - start)
    print(f"{bits:2} bits: clean {goal:+.2f}, corrupt {start:+.2f}")


def ranks(values):
    return np.argsort(np.argsort(abs(values)))


fidelity = {}
print("bits   r       rank r   top 5 kept   largest difference")
for bits in BITS[1:]:
    one, other = maps[32], maps[bits]
    kept = len(set(np.argsort(-abs(one))[:5]) & set(np.argsort(-abs(other))[:5]))
    fidelity[bits] = float(np.corrcoef(one, other)[0, 1])
    print(f"{bits:4}   {fidelity[bits]:.4f}  {np.corrcoef(ranks(one), ranks(other))[0, 1]:.3f}    {kept}            {abs(one - other).max():.3f}")

# %% [markdown]
# On the demo model: r is 1.0000 with 8 bits, 0.9995 with 6 and still 0.992 with 4, where half of the texts get another answer, the corrupt run's
# difference is −0.38 instead of −5.49, and one cell is off by 0.21. **The map survives longer than the model**, for it is normalised by the two
# runs; and a correlation of 0.99 hides both.
#
# One pair of prompts has no interval. The table below has. (For results of `edif`'s own methods on two models that are served,
# `edif.agreement(one, other)` computes these figures.)
#
# ## 4. The table for a paper
#
# `./edif bench fidelity` (operators run it, for any model of the catalogue) compares the model as the workbench really loads it: in
# bfloat16, in int8 (torchao, weights of linear layers, one scale a row), in nf4 (bitsandbytes, the same weights in four bits), and in float32 spread
# over two devices, with float32 on one device; eight IOI pairs, ten facts, eight texts; next token, lens, patching map and causal trace, each figure
# a mean over prompts with its 95 % interval. On the demo model, every sixth layer:
#
# | | bfloat16 | int8 | nf4 |
# |---|---|---|---|
# | next token: KL in nats | 0.0014 [0.0008, 0.0021] | 0.0042 [0.0023, 0.0069] | 0.24 [0.15, 0.32] |
# | next token: the same on top | 8 of 8 | 8 of 8 | 6 of 8 |
# | lens (KL to the end): r | 0.9998 [0.9997, 0.9999] | 0.9997 [0.9995, 0.9998] | 0.967 [0.950, 0.982] |
# | patching map: r | 1.0000 [0.9999, 1.0000] | 1.0000 [1.0000, 1.0000] | 0.9996 [0.9994, 0.9998] |
# | patching map: rank correlation | 0.55 [0.46, 0.65] | 0.98 [0.95, 1.00] | 0.49 [0.40, 0.59] |
# | patching map: largest difference | 0.010 [0.008, 0.011] | 0.004 [0.004, 0.005] | 0.039 [0.028, 0.053] |
# | causal trace: r | 0.9997 [0.9996, 0.9999] | 0.9999 [0.9998, 1.0000] | 0.930 [0.870, 0.968] |
# | causal trace: top-10 overlap | 1.00 | 1.00 | 1.00 |
# | causal trace: largest difference | 0.017 [0.012, 0.021] | 0.026 [0.017, 0.035] | 0.30 [0.20, 0.40] |
#
# All of it, and what has not been measured, is in `docs/benchmarks.md` of the workbench. A rank correlation of 0.55 beside r = 1.0000 is no
# contradiction: most cells of such a map are 0 or 1, and the order among them is rounding. And the causal traces' top-10 overlap of 1.00 says
# nothing here: their prompts are five tokens long, five layers were looked at, and the three tokens before the subject cannot have an effect, so
# there are only ten cells to choose from. Choose the measure for the question.
#
# The four bits of nf4 (Dettmers et al. 2023) are not those of sections 2 and 3: every 64 weights have a scale of their own, the sixteen values
# are closer to each other near zero, and the model computes in bfloat16. That is another rounding, so a KL of 0.24 nats here and of 1.32 there
# (with seven of the eight texts in common) is no contradiction either.
#
# The model in two parts, which has no column, agrees with that on one device in every figure: KL 0.0000, every r and overlap 1.0000, largest differences 0.0000.
# Its two devices are *simulated* on a CPU: numbers are moved as between GPUs and computed by the same kernels, so it can say whether
# *splitting* changes a result, and nothing about GPUs, which round in their own way.
#
# ## What may be concluded
#
# - For this model, one pair of prompts and eight texts: rounding to 8 bits with one scale a row leaves the pattern of the map as it is; single
#   cells move by up to 0.008, and an effect smaller than that cannot be read off such a model. With 4 bits rounded in this way the model is another one.
# - In nf4, on the prompts of the bench: the patching map keeps its pattern (r 0.9996). What the model says does not stay the same (KL 0.24 nats [0.15, 0.32],
#   6 of 8 the same on top), nor do lens (r 0.967) and causal trace (r 0.930, largest difference 0.30): what they show is this model in nf4, and
#   not the same model in float32. How it is with other models in nf4 these figures do not tell.
# - A high correlation over a map is easy to get, because most cells are near 0 or 1. Look at rank correlation and largest
#   differences too.
# - Nothing follows for models with large outlier features, which small models have less (Dettmers et al. 2022): run the bench on the model
#   that you use.
#
# ## Exercise
#
# **Exercise 1.** Which layers are to blame at 4 bits? Round only the first third, and only the last third of the layers, and give the mean KL of
# the eight texts for both.

# %%
# your code


# %% [markdown]
# <details><summary>Solution of exercise 1</summary>
#
# ```python
# def round_some(model, first, end):
#     blocks = model._module.transformer.h if "gpt2" in MODEL else model._module.model.layers
#     for block in blocks[first:end]:
#         for weight in block.parameters():
#             if weight.ndim == 2:
#                 scale = weight.data.abs().amax(1, keepdim=True) / 7
#                 weight.data.copy_((weight.data / scale).round() * scale)
#
#
# third = (LAST + 1) // 3
# blame = {}
# for part, (first, end) in {"first third": (0, third), "last third": (2 * third, LAST + 1)}.items():
#     with model.session():
#         round_some(model, first, end)
#         rows = [].save()
#         for text in TEXTS:
#             with model.trace(text):
#                 row = model.lm_head.output[0, -1].float().log_softmax(-1)
#             rows.append(row)
#     blame[part] = float((said[32].exp() * (said[32] - torch.stack(list(rows)))).sum(-1).mean())
# print({part: round(value, 2) for part, value in blame.items()})
# ```
#
# On the demo model: 0.53 nats for the first third, 0.39 for the last, and 1.32 for all layers together. Neither end is to blame alone.
#
# </details>
#
# ## Sources
#
# *eDIF: A European Deep Inference Fabric for Remote Interpretability of LLM* (2025), arXiv:2508.10553, section VIII. Dettmers, Lewis, Belkada &
# Zettlemoyer (2022), *LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale*, arXiv:2208.07339. Dettmers, Pagnoni, Holtzman &
# Zettlemoyer (2023), *QLoRA: Efficient Finetuning of Quantized LLMs*, arXiv:2305.14314.
