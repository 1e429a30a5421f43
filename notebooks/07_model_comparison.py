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
# # Two models, one question
#
# **Goal.** Run the same trace on two models; compare layers of networks of different depth and tokens of different
# tokenizers without fooling yourself; know what switching models costs. **Time.** Twenty minutes, of which the models compute
# about half a minute. **You need** [00_hello](00_hello.ipynb) and [06_logit_lens](06_logit_lens.ipynb).
#
# **Know beforehand:** a small installation serves two models, SmolLM2-135M and `edif/tiny-gpt2`, whose weights are *random*. That is a poor
# pair for a finding and a good one for learning: the random model is the control. Every "difference between models" that
# it shows too is an artefact of the method. Where two trained models are served (`edif.models()`), change `SECOND`, for
# example to GPT-2 or a DeepSeek-R1 distill, and everything below runs unchanged.

# %%
import edif
import numpy as np
from nnsight import TransformersModel

FIRST, SECOND = "edif/smollm2-135m-demo", "edif/tiny-gpt2"
models = {name: TransformersModel(name, task="text-generation") for name in (FIRST, SECOND)}
edif.models()

# %% [markdown]
# ## 1. What switching costs
#
# A model that nobody has used yet must be loaded first; then it stays as long as there is room. The first job waits for it, the second
# does not.
#
# > **What do you expect?** Is loading a small cost beside a trace, or a large one?

# %% tags=["varies"]
import time

PROMPT = "The capital of France is"
for name, model in models.items():
    for turn in ("first", "second"):
        began = time.perf_counter()
        with model.trace(PROMPT):
            top = model.lm_head.output[0, -1].argmax().save()
        print(f"{turn:6} job on {name:24} {time.perf_counter() - began:6.1f} s   says {model.tokenizer.decode(int(top))!r}")

# %% [markdown]
# Your figures depend on whether somebody else has used the models before you: a model that is in use is loaded once for
# everybody. So do all of one model's work before you go on to the next (a `session` helps), and do not switch back and forth in
# a loop.
#
# ## 2. Tokens: not the same places
#
# > **What do you expect?** Do both models read the sentence as the same number of tokens?

# %%
SENTENCE = "The Eiffel Tower is located in the city of"
pieces = {name: [model.tokenizer.decode(id) for id in model.tokenizer(SENTENCE).input_ids] for name, model in models.items()}
for name, tokens in pieces.items():
    print(f"{name}: {len(tokens)} tokens  {tokens}")


def ends(tokens):
    """Where each token ends in the text, in characters."""
    return np.cumsum([len(token) for token in tokens]).tolist()


shared = sorted(set(ends(pieces[FIRST])) & set(ends(pieces[SECOND])))
places = {name: [ends(tokens).index(end) for end in shared] for name, tokens in pieces.items()}
print("both have a token that ends after:", [SENTENCE[:end].split(" ")[-1] for end in shared])

# %% [markdown]
# Position 5 of one model is not position 5 of the other. What *can* be compared are states at the same place **in the
# text**: where both have a token that ends at the same character. All else is left out, and that is said.
#
# ## 3. Layers: not the same depth
#
# One model has 30 layers and the other 4. Layer 3 of both is nothing to compare; a *relative depth* (0 the first layer, 1 the
# last) is a convention that at least treats both alike.
#
# > **What do you expect?** How fast does the lens come near the final distribution (KL) in a trained and in a random model?
# > If both curves fell alike, what would that say about the curve?

# %%
PROMPTS = [SENTENCE, "The capital of Germany is", "When Mary and John went to the store, John gave a drink to", "The nurse said that she"]
DEPTHS = [0.0, 0.25, 0.5, 0.75, 1.0]
curves = {}
for name, model in models.items():
    lens = edif.logit_lens(model, PROMPTS, top=1)
    layers = lens.data["layer"].values
    each = []
    for number in range(len(PROMPTS)):
        here = lens.data.isel(prompt=number, position=lens.data["place"].values[number] >= 0)
        each.append(np.interp(DEPTHS, layers / layers[-1], here["kl"].mean("position").values))
    curves[name] = np.array(each)  # (prompts, depths)

print("KL to the final distribution in nats, mean of four prompts (smallest to largest)")
print(f"{'relative depth':24}" + "".join(f"{depth:>22}" for depth in DEPTHS))
for name, values in curves.items():
    cells = [f"{column.mean():.2f} ({column.min():.2f}–{column.max():.2f})" for column in values.T]
    print(f"{name:24}" + "".join(f"{cell:>22}" for cell in cells))

# %% [markdown]
# On the demo model and the random one: the curve that one likes to see, falling step by step to zero, is that of the *random* model (0.61, 0.46, 0.28, 0.12, 0).
# The trained one stays at 14 to 18 nats up to three quarters of its depth. So a falling curve is no sign that a model "works towards its answer": it
# is what a stream of states does when each layer adds a little.
#
# KL in nats also depends on the size of the vocabulary (49,152 tokens against a few hundred), so the *heights* of the two curves
# cannot be compared, and only their shapes can be, with care.
#
# ## 4. Let a method do it
#
# `edif.compare_models` aligns depths and tokens as above, and compares what the two models say *with each other*, over the tokens
# that both vocabularies have: one job on each model. Its control is a model against itself.
#
# > **What do you expect?** At which depth do two models agree most, if one of them has learned nothing?

# %%
compared = edif.compare_models(models[FIRST], models[SECOND], PROMPTS)
itself = edif.compare_models(models[SECOND], models[SECOND], PROMPTS)
agreed, control = compared.mean("kl"), itself.mean("kl")
print(f"{compared.provenance['shared_tokens']} tokens in both vocabularies; KL of the first model from the second, mean of four prompts")
for number, depth in enumerate(agreed["depth"].values):
    row = agreed.isel(depth=number)
    print(f"depth {depth:.2f}: {float(row['mean']):5.2f} [{float(row['low']):.2f}, {float(row['high']):.2f}]"
          f"   a model against itself: {float(control['mean'][number]):.2f}")
compared.cost()

# %% [markdown]
# On the demo model and the random one: 259 tokens are in both vocabularies, and over these the models are 4.3 to 5.2 nats apart, least in the end (4.27 [3.89, 4.70]).
# Against itself a model has 0 at every depth, as it must. With a random model there is no depth at which a number would mean anything: what this shows
# is the size that "nothing in common" has.
#
# The table below the figures is what each model cost on the backend, for these four prompts.
#
# ## 5. Behaviour: does the same probe question have an answer?
#
# > **What do you expect?** Which model prefers Mary in the IOI prompt ([04](04_activation_patching.ipynb)), and by how much? And what
# > is the *sign* of a random model worth?

# %%
NAMES = [("Mary", "John"), ("John", "Mary")]
differences = {}
for name, model in models.items():
    values = []
    for right, wrong in NAMES:
        text = f"When {right} and {wrong} went to the store, {wrong} gave a drink to"
        one, other = (model.tokenizer.encode(f" {word}")[0] for word in (right, wrong))
        with model.trace(text):
            logits = model.lm_head.output[0, -1]
            value = (logits[one] - logits[other]).save()
        values.append(float(value))
    differences[name] = values
    print(f"{name:24} right minus wrong name: " + ", ".join(f"{value:+.2f}" for value in values))

# %% [markdown]
# On the demo model and the random one: +6.12 and +6.47 against +1.91 and −2.16.
#
# With the names swapped a model that *does the task* keeps a positive difference; one that merely likes a name changes its sign.
#
# ## What may be concluded
#
# - Of these two models: one does the task, one does not, which was known beforehand. The use of the random one is to show what a method
#   says where there is nothing.
# - From two models nothing follows about size, training data or architecture: they differ in all of them at once.
#
# ## Exercise
#
# **Exercise 1.** How similar are the two models' next-token distributions? They have different vocabularies, so compare only the probability of
# the *texts* " Paris", " London", " Rome", " Berlin" after *The capital of France is*, renormalised over these four.

# %%
# your code


# %% [markdown]
# <details><summary>Solution of exercise 1</summary>
#
# ```python
# CITIES = [" Paris", " London", " Rome", " Berlin"]
# shares = {}
# for name, model in models.items():
#     ids = [model.tokenizer.encode(city)[0] for city in CITIES]
#     with model.trace(PROMPT):
#         four = model.lm_head.output[0, -1][ids].softmax(-1).save()
#     shares[name] = [round(float(p), 3) for p in four]
#     print(name, dict(zip(CITIES, shares[name])))
# ```
#
# On the demo model 0.982 for " Paris". The random model has " Paris" on top as well, with 0.408 before " Berlin" with 0.405: one right answer
# of one question is no knowledge.
#
# </details>
#
# ## Sources
#
# Model comparison was one of the first three experiments that the eDIF pilot proposed: *eDIF: A European Deep Inference Fabric for Remote
# Interpretability of LLM* (2025), arXiv:2508.10553. SmolLM2: Allal et al. (2025), arXiv:2502.02737. On comparing representations: Kornblith et al.
# (2019), *Similarity of Neural Network Representations Revisited*, arXiv:1905.00414.
