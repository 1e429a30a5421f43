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
# # Big results: ask for less, leave it there, come back later
#
# **Goal.** Know how large a result is before it is sent; reduce it where it is made; leave values beside the model; send a
# job and pick up its result later, or from another machine. **Time.** Twenty minutes. **You need**
# [00_hello](00_hello.ipynb).
#
# In the pilot of this system downloads of activations took half an hour and more. Almost all of those bytes were thrown
# away after a mean, a maximum or a scalar product, and each of these can be taken where the numbers are.

# %%
import edif
from nnsight import TransformersModel

MODEL = "edif/smollm2-135m-demo"  # the only line to change for another model of edif.models()
model = TransformersModel(MODEL, task="text-generation")
layers = model.transformer.h if "gpt2" in MODEL else model.model.layers
LAST = len(layers) - 1

prompt = "The Eiffel Tower is in the city of"
paragraph = " ".join([prompt + " Paris."] * 12)


def received():
    """Bytes of the newest job's result."""
    return edif.jobs(1)[0].result_bytes


# %% [markdown]
# ## 1. The same question, four sizes
#
# > **What do you expect?** The prompt has about 130 tokens, the model 30 layers of 576 numbers and 49,152 tokens in its
# > vocabulary. Which is larger, all hidden states or all logits? (Four bytes a number.)

# %%
sizes = {}
with model.trace(paragraph):
    everything = [layer.output for layer in layers].save()
    logits = model.lm_head.output.save()
sizes["all states and logits"] = received()

with model.trace(paragraph):
    everything = [layer.output for layer in layers].save()
sizes["all states"] = received()

with model.trace(paragraph):
    last = [layer.output[0, -1] for layer in layers].save()
sizes["states at the last position"] = received()

with model.trace(paragraph):
    norms = [layer.output[0, -1].norm() for layer in layers].save()
sizes["their norms"] = received()

for what, size in sizes.items():
    print(f"{size:>12,} bytes   {what}")

# %% [markdown]
# Expected: 35 MB, 9 MB, and less than 100 kB for the other two. Logits are the giants. **Rule 1: index and reduce before
# `.save()`.** Of a slice its own numbers are sent, and not the tensor that it is a part of.
#
# Large results are streamed, checked, resumed where the connection broke, and mapped into memory, so that they arrive; the
# point is that they need not.
#
# ## 2. One session instead of many requests
#
# > **What do you expect?** Twelve traces as twelve jobs, or in one `session` as one job: same numbers? Same time?

# %% tags=["varies"]
import time

import torch

CITIES = ["Paris", "Rome", "Berlin", "London", "Tokyo", "Madrid", "Athens", "Vienna", "Oslo", "Cairo", "Lima", "Delhi"]


def one(city):
    return f"{city} is a city in the country of"


began = time.perf_counter()
single = []
for city in CITIES:
    with model.trace(one(city)):
        top = model.lm_head.output[0, -1].softmax(-1).max().save()
    single.append(float(top))
singly = time.perf_counter() - began

began = time.perf_counter()
with model.session():
    together = [].save()
    for city in CITIES:
        with model.trace(one(city)):
            top = model.lm_head.output[0, -1].softmax(-1).max().item()
        together.append(top)
at_once = time.perf_counter() - began
print("same numbers:", all(abs(a - b) < 1e-5 for a, b in zip(single, together)))
print(f"one session took {at_once / singly:.0%} of the time of twelve jobs")

# %% [markdown]
# Expected: the same numbers, in less time. **Rule 2: loops belong into a `session`**; with a queue in front of the model you
# also wait once instead of twelve times.
#
# ## 3. Leave it beside the model
#
# A direction, a mean state, a cache of activations is often needed again. `edif.keep` leaves it on the server; `edif.kept`
# uses it in any later trace of yours, also tomorrow.
#
# > **What do you expect?** The next cell never receives the mean state. How many bytes does it receive?

# %%
with model.session():
    total = 0
    for city in CITIES:
        with model.trace(one(city)):
            total = total + layers[LAST * 2 // 3].output[0, -1]
    edif.keep(total / len(CITIES), "mean-city")
    done = [True].save()
print(f"received: {received():,} bytes")

with model.trace(one("Lisbon")):
    alike = torch.cosine_similarity(layers[LAST * 2 // 3].output[0, -1], edif.kept("mean-city"), dim=0).save()
print(f"cosine of Lisbon with the mean city: {float(alike):.3f}")
edif.kept()

# %% [markdown]
# Expected: less than a kilobyte, and a cosine close to 1 (all these prompts end alike, so this says little about cities). The
# list shows what you keep; kept values count to your room for results, and `edif.forget("mean-city")` frees it.

# %%
edif.forget("mean-city")
print(len([value for value in edif.kept() if value.name == "mean-city"]), "left")

# %% [markdown]
# ## 4. Send it, close the laptop, come back
#
# `blocking=False` sends a job and does not wait. The job is yours and not this kernel's: from its id any process with a key
# of yours takes up the result, after a restart, on another machine, tomorrow.
#
# > **What do you expect?** What is the state of the job right after it was sent?

# %% tags=["varies"]
with model.trace(prompt, remote=True, blocking=False) as tracer:
    state = layers[LAST * 2 // 3].output[0, -1].save()
id = tracer.backend.job_id
print("sent; its state is", edif.job(id).state)

# %% [markdown]
# Expected: a state on the way, RECEIVED, QUEUED, DISPATCHED or RUNNING; on a quiet machine it may have got to COMPLETED. The next
# cell waits until it has.

# %%
found = edif.job(id).result(show=False)
print({name: tuple(value.shape) for name, value in found.items()})
print(edif.job(id).state)

# %% [markdown]
# Expected: `{'state': (576,)}` and `COMPLETED`. `edif.jobs()` lists your jobs, the newest first; `.cancel()` ends one. A
# result is kept for some days ([01_keys](01_keys.ipynb) shows how to see your limits).
#
# ## 5. Let a method do it
#
# `edif.logit_lens`, `edif.activation_patching`, `edif.causal_trace` and the others are each one job that sends back only
# what it measured. Compare with section 1.
#
# > **What do you expect?** A lens of ten layers over the whole paragraph: how many bytes come back?

# %%
lens = edif.logit_lens(model, paragraph, top=1, stride=3)
print(f"{received():,} bytes for a lens of {lens.data.sizes['layer']} layers over {lens.data.sizes['position']} tokens; all of its logits would be "
      f"{lens.data.sizes['position'] * lens.data.sizes['layer'] * 49152 * 4 / 1e6:,.0f} MB")
lens.save("lens.edif")
print("read again from the file:", edif.load("lens.edif"))

# %% [markdown]
# ## Exercises
#
# **Exercise 1.** Which of the twelve cities has, at layer 19 and the last position, the state closest (cosine) to that of
# *Paris*, itself left out? Bring back one number for each city, in one job.

# %%
# your code


# %% [markdown]
# <details><summary>Solution of exercise 1</summary>
#
# ```python
# with model.session():
#     cosines = {}.save()
#     for city in CITIES:
#         with model.trace(one(city)):
#             here = layers[LAST * 2 // 3].output[0, -1]
#         if city == "Paris":
#             paris_state = here
#         else:
#             cosines[city] = torch.cosine_similarity(here, paris_state, dim=0).item()
# nearest = max(cosines, key=cosines.get)
# print(nearest, round(cosines[nearest], 3))
# ```
#
# On the demo model: London, 0.995. All eleven are close to Paris, for the prompts end alike: without a control (other prompts, other
# endings) this says nothing about geography.
#
# </details>
#
# ## Sources
#
# The half hour is from the eDIF pilot: *eDIF: A European Deep Inference Fabric for Remote Interpretability of LLM* (2025),
# arXiv:2508.10553.
