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
# # Hello: look inside a language model
#
# **Goal.** Load a model, read what one of its layers computes, see what it would say next, and change its mind.
# **Time.** Five minutes; twenty with the exercises. **You need** a little Python, and nothing installed.
#
# Run a cell with **Shift + Enter**, or all of them with *Run → Run All Cells*. Under each cell stands what you should see.
# Words that are new are explained in the [glossary](glossary.ipynb).

# %% [markdown]
# ## 1. Load a model, without its weights
#
# `edif/smollm2-135m-demo` is SmolLM2-135M-Instruct, a small language model: 30 layers, each with 576 numbers for every
# token. Its weights were once rounded to about four bits and are used here in float32, so its figures differ a little from
# those of the original.
#
# This line fetches only the model's *plan* (which parts there are, and of what size) and its tokenizer. The weights stay on
# the eDIF backend, shared by everybody, which is why this takes seconds and no GPU.

# %%
from nnsight import TransformersModel

model = TransformersModel("edif/smollm2-135m-demo", task="text-generation")
print("weights in this notebook:", model.dispatched)

# %% [markdown]
# Expected: `weights in this notebook: False`
#
# What did the model read? Not words but *tokens*; the space before a word belongs to its token.
#
# > **What do you expect?** The prompt below has eight words. How many tokens are they?

# %%
prompt = "The Eiffel Tower is in the city of"
tokens = [model.tokenizer.decode(id) for id in model.tokenizer(prompt).input_ids]
print(len(tokens), tokens)

# %% [markdown]
# Expected: `9 ['The', ' E', 'iffel', ' Tower', ' is', ' in', ' the', ' city', ' of']`
#
# ## 2. One trace: save an activation, look at the prediction
#
# The block under `with model.trace(prompt):` describes *what to look at while the model reads the prompt*. It does not run
# line by line in this notebook: nnsight takes the block as a whole, sends it to the backend, and the model runs there once,
# at the end of the block. That is what **deferred** means.
#
# Inside the block, `model.model.layers[10].output` is what layer 10 passes on. Only what you mark with `.save()` comes back.

# %%
with model.trace(prompt):
    hidden = model.model.layers[10].output.save()
    logits = model.lm_head.output[:, -1].save()

print("hidden:", tuple(hidden.shape), "  logits:", tuple(logits.shape))

# %% [markdown]
# Expected: `hidden: (1, 9, 576)   logits: (1, 49152)`
#
# One prompt, 9 tokens, 576 numbers for each: the state of the model after its eleventh layer (counting starts at 0). `logits`
# holds one score for each of the 49,152 tokens that could come next. The next cell shows them as probabilities.
#
# > **What do you expect?** Which token comes first, and how sure is the model of it?

# %%
import edif

edif.next_tokens(logits, model.tokenizer, k=5, prompt=prompt)

# %% [markdown]
# Expected: **␣Paris** first, with probability 0.656.
#
# ## 3. One intervention: change what the model believes
#
# Is the city stored in the state of the subject, *Eiffel Tower*? Put it to the test: read the states of another subject at
# layer 10, and write them in its place. Both subjects are three tokens long, at positions 1 to 3.
#
# > **What do you expect?** The prompt still says *Eiffel Tower*. Which city will the model name now?

# %%
with model.trace("The Colosseum is in the city of"):
    colosseum = model.model.layers[10].output[:, 1:4].save()

with model.trace(prompt):
    model.model.layers[10].output[:, 1:4] = colosseum
    changed = model.lm_head.output[:, -1].save()

edif.next_tokens(changed, model.tokenizer, k=5, prompt=prompt, title="Subject replaced at layer 10")

# %% [markdown]
# Expected: **␣Rome** first, with probability 0.788. The model still *read* "Eiffel Tower"; three states of one layer were
# enough to move the tower to Rome.
#
# Until which layer does the model look up the subject? The same intervention at several layers, in one `session`: everything
# in it is sent as one job, and values pass from trace to trace without `.save()`.
#
# > **What do you expect?** The model has 30 layers. Up to which of them will Rome win?

# %%
paris, rome = (model.tokenizer.encode(city)[0] for city in (" Paris", " Rome"))

with model.session():
    rows = [].save()
    for layer in (4, 10, 16, 20, 22, 24, 28):
        with model.trace("The Colosseum is in the city of"):
            state = model.model.layers[layer].output[:, 1:4]
        with model.trace(prompt):
            model.model.layers[layer].output[:, 1:4] = state
            chance = model.lm_head.output[0, -1].softmax(-1)
        rows.append((layer, chance[paris].item(), chance[rome].item()))

print("layer   Paris    Rome")
for layer, p, r in rows:
    print(f"{layer:5}   {p:.3f}   {r:.3f}")

# %% [markdown]
# Expected: Rome wins up to layer 22 (0.691) and Paris from layer 24 on (0.600). Around layer 23 the answer has moved from the
# subject to the last token, and changing the subject comes too late. This is one pair of prompts, a hint and not yet a
# finding.

# %% [markdown]
# ## When does the forward pass run?
#
# > **What do you expect?** The next cell prints before the block, twice in it, and after it. In which order do the
# > lines appear, and which of them is printed by this notebook?

# %%
print("1: before the block")
with model.trace(prompt):
    middle = model.model.layers[15].output
    print("2: in the block, length of a state of layer 15:", round(middle[0, -1].norm().item(), 1))
    print("2: in the block, of layer 16:", round(model.model.layers[16].output[0, -1].norm().item(), 1))
print("3: after the block")

# %% [markdown]
# Expected: the lines in the order 1, 2, 2, 3, as they stand there; but the two in the middle were printed *on the
# backend* and sent here. When Python leaves the block, this happens: the block's source is sent; the model starts to read
# the prompt; each time the block asks for a value, it waits until the model has computed that layer, and the model waits
# while the block looks at the value or changes it. So there is **one forward pass, run when the block ends**, and your
# lines run inside it, in the order in which the model computes. Python's `if`, `for` and `print` work as usual, because
# the values in the block are real numbers and not placeholders.
#
# ## Four common mistakes
#
# **1. A value was not saved.** It existed on the backend while the block ran, and is gone.

# %%
with model.trace(prompt):
    forgotten = model.model.layers[10].output

try:
    forgotten.shape
except NameError as error:
    print("NameError:", error)

# %% [markdown]
# Expected: `NameError: name 'forgotten' is not defined`. Mend: `.save()` at the end of that line.
#
# **2. Values were asked for against the order in which the model computes them.** Layer 20 runs after layer 5, so a block
# that has already waited for layer 20 has missed layer 5.

# %%
try:
    with model.trace(prompt):
        late = model.model.layers[20].output.save()
        early = model.model.layers[5].output.save()
except Exception as error:
    print(str(error).strip().splitlines()[-1])

# %% [markdown]
# Expected: the error's last line, `OutOfOrderError: 'model.model.layers.5.output.i0' was requested but the model already ran
# past it`. Without the `try`, the message also shows the line of your block. Mend: ask for layer 5 first.
#
# **3. A shape that does not fit.** The error is PyTorch's own, raised on the backend, and it comes back with your line.

# %%
try:
    with model.trace(prompt):
        model.model.layers[10].output[:, -1] = colosseum
        never = model.lm_head.output.save()
except Exception as error:
    print(str(error).strip().splitlines()[-1])

# %% [markdown]
# Expected: a `RuntimeError` that names the sizes: three states were put where one is. Mend: look at `.shape` on both sides.
#
# **4. A model that is not served here.** A mistyped name is answered with the list of what there is.

# %% tags=["varies"]
try:
    TransformersModel("edif/smollm2-135m-dmeo", task="text-generation")
except edif.ModelUnknown as error:
    print(error)

# %% [markdown]
# Expected: a sentence that ends with the models you can use.
#
# ## Exercises
#
# **Exercise 1.** How sure would the model be of " Paris" if it read "The Louvre" instead of "The Eiffel Tower"? Write a
# trace of your own. Predict the number first: higher or lower than 0.656?

# %%
# your code


# %% [markdown]
# <details><summary>Solution of exercise 1</summary>
#
# ```python
# with model.trace("The Louvre is in the city of"):
#     louvre = model.lm_head.output[:, -1].save()
# sure = louvre.softmax(-1)[0, paris].item()
# print(f"{sure:.3f}")
# ```
#
# On the demo model: 0.831, higher. Which building is taller says nothing about which one the model has read more about.
#
# </details>
#
# **Exercise 2.** In the table above the states of all three subject tokens were replaced. Is the *last* of them alone
# (position 3) enough, at layer 10?

# %%
# your code


# %% [markdown]
# <details><summary>Solution of exercise 2</summary>
#
# ```python
# with model.trace(prompt):
#     model.model.layers[10].output[:, 3] = colosseum[:, 2]
#     last = model.lm_head.output[:, -1].softmax(-1).save()
# moved = {"Paris": last[0, paris].item(), "Rome": last[0, rome].item()}
# print({city: round(p, 3) for city, p in moved.items()})
# ```
#
# On the demo model: Paris 0.481, Rome 0.300. With the whole subject it was 0.000 and 0.788 (the table above), so the last token
# is not enough: what is missing was carried by the tokens before it.
#
# </details>
#
# ## Sources
#
# Traces, deferred execution and remote execution are those of NNsight and NDIF (Fiotto-Kaufman et al. 2024, arXiv:2407.14561). Moving
# an activation from one prompt to another to see what it carries: Vig et al. 2020 (arXiv:2004.12265) and Geiger et al. 2021
# (arXiv:2106.02997); how to do it soundly: Heimersheim and Nanda 2024 (arXiv:2404.15255). The platform: *eDIF: A European Deep
# Inference Fabric for Remote Interpretability of LLM*, 2025 (arXiv:2508.10553).
#
# ## Where to go from here
#
# - Next: [01_keys](01_keys.ipynb) (your key, and working from your own machine), then one of the studies:
#   [02_gender_bias](02_gender_bias.ipynb) (one question, five methods), [03_protective_instinct](03_protective_instinct.ipynb)
#   (a direction, and what else it is), [04_activation_patching](04_activation_patching.ipynb) (the experiment of section 3
#   done properly), [05_causal_tracing](05_causal_tracing.ipynb) (where facts are recalled), [06_logit_lens](06_logit_lens.ipynb)
#   (what the model would say after each layer).
# - For your own research: [07_model_comparison](07_model_comparison.ipynb),
#   [08_quantization_and_sharding](08_quantization_and_sharding.ipynb), [09_big_results](09_big_results.ipynb). For a course of your
#   own: [10_teach](10_teach.ipynb).
# - `%edif` shows where your traces go and whose key this notebook has, `%edif help` how to change it.
# - Your own work belongs outside the folder `tutorials`, or under another name: files you have not edited are brought up to
#   date when your server starts.
# - The [nnsight documentation](https://nnsight.net) explains everything a trace can do; it works here unchanged.
# - These are the models you can load:

# %%
edif.models()
