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
# # Keys: who you are, here and on your own machine
#
# **Goal.** Know which key this notebook uses, get one for your laptop, know when it ends and what it may do, and read what
# the backend says when it does not accept one. **Time.** Ten minutes. **You need** [00_hello](00_hello.ipynb).
#
# A *key* is a secret word that says to the backend who sends a job. Whoever has it can compute in your name, so it belongs
# in no notebook, no e-mail and no repository. Nothing below prints one.

# %% [markdown]
# ## 1. The key of this notebook
#
# Your server in the hub was started with a key of its own, which your kernels find in the variable `NDIF_API_KEY`. It can
# send traces and nothing else: with it nobody can open your files or start a server. It ends when your server stops.
#
# > **What do you expect?** You have typed no key anywhere. Does the backend know your name?

# %%
import os

import edif

print("a key is here:", bool(os.environ.get("NDIF_API_KEY")))
print("the backend knows the owner of this key:", edif.status().user is not None)

# %% [markdown]
# Expected: twice `True`. `edif.status().user` is the name itself, and `%edif` shows it with the backend's address.
#
# ## 2. What you may use
#
# A key is not a purse: limits belong to *you*, and all your keys share them.

# %% tags=["varies"]
usage = edif.usage()
may = usage.limits
print(f"one job may run {may['time_limit_s']:.0f} s")
print(f"{may['queued_jobs']:.0f} jobs of yours may wait at once; now {usage.use['queued_jobs']:.0f}")
print(f"results of yours may take {may['stored_bytes'] / 1e9:.0f} GB")

# %% [markdown]
# Expected: three lines with the limits that your operator has set. `print(edif.usage())` shows all of them with what you
# use. Over a limit the backend answers with a sentence and the time after which it is worth asking again (HTTP 429); a
# trace is then *refused*, never silently dropped.
#
# ## 3. A key for your laptop
#
# In the hub's menu, *Keys* (`/hub/edif-keys`) makes one. Say what it is for, choose after how many days it ends (90 at
# most), and copy the three lines that appear, **once**, into your terminal:
#
# ```sh
# export NDIF_HOST=https://…        # the gateway
# export NDIF_API_KEY=…             # the key: a secret
# export HF_ENDPOINT=https://…/hf   # configs and tokenizers of the models served here
# ```
#
# Then any Python with `pip install "nnsight==0.8.*"` can trace here. No part of eDIF is needed; only `remote=True` has to be
# written out, because plain nnsight does not decide that by itself. The next cell does exactly this in a new process: a
# plain Python that imports nnsight and nothing of ours.
#
# > **What do you expect?** Will it give the same probability of " Paris" as [00_hello](00_hello.ipynb), 0.656?

# %%
import subprocess
import sys

SCRIPT = """
from nnsight import TransformersModel
from nnsight.schema.config import CONFIG

CONFIG.APP.REMOTE_LOGGING = False  # no lines about the job's states
model = TransformersModel("edif/smollm2-135m-demo", task="text-generation")
paris = model.tokenizer.encode(" Paris")[0]
with model.trace("The Eiffel Tower is in the city of", remote=True):
    chance = model.lm_head.output[0, -1].softmax(-1)[paris].save()
print(f"{chance.item():.3f}")
"""
done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
outside = done.stdout.strip()
print(outside or done.stderr[-2000:])

# %% [markdown]
# Expected: `0.656`. It is the same protocol, the same job and the same weights.
#
# ## 4. What a rejection looks like
#
# The next cell replaces the key, for a moment, by one that nobody has.
#
# > **What do you expect?** An empty answer, a wrong answer, or a sentence?

# %%
from contextlib import contextmanager


@contextmanager
def key(word):
    """Use another key in this block."""
    mine = os.environ["NDIF_API_KEY"]
    os.environ["NDIF_API_KEY"] = word
    try:
        yield
    finally:
        os.environ["NDIF_API_KEY"] = mine


with key("this-key-belongs-to-nobody"):
    try:
        edif.jobs()
    except edif.BackendRefused as refusal:
        said = str(refusal)
        print(said.split(".")[0] + ". …")

# %% [markdown]
# Expected: *The API key is wrong, has ended or was revoked. …* The rest of the sentence (not shown here, for it holds your hub's
# address) says where to get a new one. A key that has ended, one that you have
# revoked and one that never was are answered alike: somebody who guesses keys learns nothing.
#
# | You read | It means | Do this |
# |---|---|---|
# | *The API key is wrong, has ended or was revoked.* in a notebook | your server's key has ended | File → Hub Control Panel → *Stop My Server*, then start it again; your files stay |
# | the same on your laptop | the key has reached its date, or you revoked it | make another one on *Keys* |
# | *… jobs of yours are waiting, and at most … may wait at once* | a limit, not a key | wait for some, or do more in one trace |
# | *Your jobs have run … s on the devices today …* | today's share is used up | go on after midnight UTC, or ask your operator |
# | *The eDIF backend at … does not answer* | nobody is at that address | is `NDIF_HOST` right, is the network there? |
#
# ## 5. Ending a key
#
# A laptop was lost, a key was pasted into a chat: open *Keys* and press *End* beside its line. From then on it is
# refused, within half a minute everywhere. The keys of your other machines are not touched. Jobs that were sent with it
# are yours and go on; `edif.jobs()` lists them whatever key sent them, and `edif.jobs()[0].cancel()` ends one.
#
# ## Exercise
#
# **Exercise 1.** Write a function `accepted(word)` that says whether the backend accepts a key, without an exception. Try
# it with a wrong one and with your own.

# %%
# your code


# %% [markdown]
# <details><summary>Solution of exercise 1</summary>
#
# ```python
# def accepted(word):
#     with key(word):
#         return edif.status().user is not None
#
#
# tried = [accepted("this-key-belongs-to-nobody"), accepted(os.environ["NDIF_API_KEY"])]
# print(tried)
# ```
#
# `[False, True]`: `edif.status()` may be asked without a key, and says nobody's name then.
#
# </details>
#
# ## Sources
#
# The guide to API tokens was part of the onboarding of the eDIF pilot (*eDIF: A European Deep Inference Fabric for Remote
# Interpretability of LLM*, 2025, arXiv:2508.10553). The protocol is that of NDIF and nnsight
# (Fiotto-Kaufman et al. 2024, arXiv:2407.14561).
