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
# # Causal tracing: where is a fact recalled?
#
# **Goal.** Replicate the causal traces of Meng et al. (2022, "ROME") on facts that *this* model knows; average over facts
# with an interval; see how much the answer depends on choices that papers mention in a footnote. **Time.** Half an hour,
# of which the model computes about a minute. **You need** [00_hello](00_hello.ipynb).
#
# The idea, in three runs. *Clean*: the model reads the prompt and says the fact with probability P. *Corrupted*: noise is
# added to the embeddings of the subject's tokens, and the probability falls to P\*. *Restored*: the subject is corrupted
# again, and one state of the clean run is put back in one place. What comes back there is that place's **indirect
# effect**, IE = P restored − P\*; what the noise took, TE = P − P\*, is the total effect.

# %%
import edif
from nnsight import TransformersModel

MODEL = "edif/smollm2-135m-demo"  # the only line to change for another model of edif.models()
model = TransformersModel(MODEL, task="text-generation")
layers = model.transformer.h if "gpt2" in MODEL else model.model.layers
LAST = len(layers) - 1

# %% [markdown]
# ## 1. Which facts does this model know?
#
# A trace of a fact that the model does not know shows nothing. Meng et al. kept the prompts that GPT-2 XL completes
# correctly; do the same here, with a threshold that is set before looking.
#
# > **What do you expect?** How many of these ten does a model of 135 million parameters know?

# %%
FACTS = [
    ("The capital of Germany is", "Germany", " Berlin"),
    ("The capital of France is", "France", " Paris"),
    ("The capital of Italy is", "Italy", " Rome"),
    ("The capital of Japan is", "Japan", " Tokyo"),
    ("The capital of Spain is", "Spain", " Madrid"),
    ("The capital of Egypt is", "Egypt", " Cairo"),
    ("The capital of China is", "China", " Beijing"),
    ("The capital of Greece is", "Greece", " Athens"),
    ("The author of Hamlet is William", "Hamlet", " Shakespeare"),
    ("The Great Wall is in", "Great Wall", " China"),
]
KNOWN_FROM = 0.3

with model.session():
    chances = [].save()
    for prompt, subject, answer in FACTS:
        with model.trace(prompt):
            said = model.lm_head.output[0, -1].softmax(-1)
            best = said.argmax().item()
            chances.append((best, said[best].item()))

known = []
for (prompt, subject, answer), (best, chance) in zip(FACTS, chances):
    right = model.tokenizer.decode(best) == answer and chance >= KNOWN_FROM
    known += [(prompt, subject, answer)] if right else []
    print(f"{'known' if right else '  –  '}  {prompt} →{model.tokenizer.decode(best)} {chance:.3f}")
print(len(known), "of", len(FACTS))

# %% [markdown]
# On the demo model: eight of ten (not Cairo, and not the Great Wall). All that follows is about facts *that the model knows*, and not about facts.
#
# ## 2. One fact
#
# > **What do you expect?** The prompt is *The Eiffel Tower is in the city of*; noise is on *Eiffel Tower*. Restoring a state
# > at the last token in the last layer must bring the answer back: why? Where else could it come back, and in which layers?

# %%
eiffel = edif.causal_trace(
    model, "The Eiffel Tower is in the city of", "Eiffel Tower", kinds="state", layers=range(1, LAST, 4), samples=5, seed=0
)
print(f"P = {float(eiffel.data['clean'][0]):.3f}, P* = {float(eiffel.data['corrupted'].mean()):.3f}, "
      f"total effect {float(eiffel.total_effect()[0]):.3f}")
eiffel

# %% [markdown]
# On the demo model: P = 0.656 falls to P\* = 0.036, and two places bring it back. The *late site* is the last token of the prompt
# (+0.48 at layer 25): no surprise, for a state restored there has already been computed from a clean subject. The *early site* is in
# the subject, from layer 1 (+0.55) to layer 21 (+0.30). But it is **not** where the paper has it, at the subject's last token, *Tower*
# (never beyond ±0.02): it is at *iffel*, the token that says which tower. A replication may fail in a detail, and then the
# detail is the result.
#
# The noise is drawn at random. Is the little that is seen at *Tower* (position 3) more than the spread over the five draws?

# %%
effect, spread = eiffel.indirect_effect()[0], eiffel.spread()[0]
subject_end = 3
for layer in effect["layer"].values[1::2]:
    print(f"layer {layer:2}, last subject token: IE {float(effect.sel(layer=layer)[subject_end]):+.3f} "
          f"± {float(spread.sel(layer=layer)[subject_end]):.3f} over draws")

# %% [markdown]
# On the demo model: −0.013 ± 0.010, +0.012 ± 0.008, −0.006 ± 0.007. No.
#
# ## 3. An average over facts, with an interval
#
# One prompt is an anecdote. Prompts of different length have no common positions, so positions are taken together by what
# they *are*: the last token of the subject, the last of the prompt, and so on (Meng et al. 2022, figure 2). `state` restores
# one layer; `mlp` and `attention` restore the outputs of these parts in a window of ten layers around it.
#
# > **What do you expect?** Meng et al. found the MLPs' effect at the last subject token (6.6 % on average) four times
# > that of attention (1.6 %). Will a model a tenth of the size show it?

# %% tags=["long"]
average = edif.causal_trace(
    model,
    [prompt for prompt, _, _ in known],
    [subject for _, subject, _ in known],
    kinds=("state", "mlp", "attention"),
    layers=range(1, LAST, 9),
    samples=3,
    seed=0,
)
total = average.total_effect()
print(f"total effect: mean {float(total.mean()):.3f} over {len(known)} facts, from {float(total.min()):.3f} to {float(total.max()):.3f}")
for kind in ("state", "mlp", "attention"):
    table = average.average(kind).sel(token_class="last subject")
    for layer in table["layer"].values:
        row = table.sel(layer=layer)
        print(f"{kind:9} last subject token, layer {layer:2}: AIE {float(row['mean']):+.3f} "
              f"[{float(row['low']):+.3f}, {float(row['high']):+.3f}]")

# %% [markdown]
# On the demo model: total effect 0.633; at layer 1 the MLPs give back 0.640 [0.521, 0.752] and attention nothing (0.003 [−0.006, 0.012]). That
# looks like the paper, and more so. **Look again before you believe it.** Most of these subjects are one token long. At layer 1, the lowest
# that was tried, the state of that token *is* the subject and little else: putting it back is putting the subject back, and gives 0.633,
# the whole of the total effect. A window of ten layers around layer 1 holds the first MLPs, for which the same is true; around layer 10 the MLPs
# give back 0.233. Such prompts cannot tell "recalled here" from "read here"; the paper's subjects are mostly longer names.
#
# The interval is over facts (bootstrap, 2,000 draws). Whoever reports only the largest of four layers reports a value that is a little too
# large: fix the layer beforehand, or test on other facts.
#
# ## 4. Choices that matter
#
# How strong the noise is, and how wide the window, are free choices. Their effect is not small.
#
# > **What do you expect?** With weaker noise (1 standard deviation instead of 3), will the total effect be a third? And
# > an MLP window of one layer instead of ten?

# %% tags=["long"]
FACT, SUBJECT = "The capital of Germany is", "Germany"
for noise in (1, 3, 10):
    found = edif.causal_trace(model, FACT, SUBJECT, kinds="state", layers=[LAST // 3], noise=noise, samples=8)
    print(f"noise {noise:2} standard deviations: total effect {float(found.total_effect()[0]):+.3f}")
by_window = {}
for window in (1, 5, 10):
    found = edif.causal_trace(model, FACT, SUBJECT, kinds="mlp", layers=range(1, LAST - 3, 4), window=window, samples=4)
    by_window[window] = float(found.indirect_effect("mlp")[0, :, 3].max())
    print(f"MLP window of {window:2} layers: largest indirect effect at the subject {by_window[window]:+.3f}")

# %% [markdown]
# On the demo model: the total effect is 0.234 with one standard deviation, 0.792 with three and 0.795 with ten: three already take all there is. And
# the MLPs' largest effect is 0.007 with a window of one layer, 0.777 with five, 0.781 with ten: one MLP alone brings nothing back.
#
# So "MLPs at layer *l* matter" is a statement about a window of ten layers around *l*, at one strength of noise. Hase et al.
# (2023) add another warning: where causal tracing finds a fact is *not* where editing it works best.
#
# ## 5. A control: no noise at all
#
# Another corruption asks whether the result hangs on the noise: replace the subject by another one of as many tokens
# (symmetric replacement; Zhang & Nanda 2024 recommend it, for noise takes the model to states it never sees).
#
# > **What do you expect?** The same two sites?

# %% tags=["long"]
replaced = edif.causal_trace(
    model, FACT, SUBJECT, corrupt="The capital of Japan is", kinds="state", layers=range(1, LAST, 4)
)
noisy = edif.causal_trace(model, FACT, SUBJECT, kinds="state", layers=range(1, LAST, 4), samples=4)
import numpy as np

one, other = (found.indirect_effect()[0].values.ravel() for found in (noisy, replaced))
same = float(np.corrcoef(one, other)[0, 1])
print(f"correlation of both maps: {same:.2f} over {len(one)} cells")

# %% [markdown]
# On the demo model: 0.88. Both corruptions tell the same story in the main, and not in every cell.
#
# ## What may be concluded
#
# - Restoring the state of one subject token, up to about layer 21, brings back much of an answer that noise on the subject had
#   taken. For these facts, this model, this noise; and the token is not always the subject's last one.
# - Whether "the MLPs store the fact" is a further step which these traces do not take: they show through which places
#   information *flows*, and not where it is kept.
#
# ## Exercises
#
# **Exercise 1.** Does noise on a word that is *not* the subject do as much harm? Trace the known facts about capitals with
# the subject "capital" and compare the mean total effects. (One layer is enough.)

# %%
# your code


# %% [markdown]
# <details><summary>Solution of exercise 1</summary>
#
# ```python
# prompts = [prompt for prompt, _, _ in known if "capital" in prompt]
# own = edif.causal_trace(model, prompts, [s for p, s, _ in known if "capital" in p], kinds="state", layers=[LAST // 3], samples=4)
# word = edif.causal_trace(model, prompts, ["capital"] * len(prompts), kinds="state", layers=[LAST // 3], samples=4)
# harm = [float(found.total_effect().mean()) for found in (own, word)]
# print([f"{x:+.3f}" for x in harm])
# ```
#
# On the demo model: +0.595 for the country and +0.602 for *capital*. Noise on either word takes the answer away, so the total effect alone
# does not show that the subject carries the fact. What is restored, and where, has to show it.
#
# </details>
#
# ## Sources
#
# Meng, Bau, Andonian & Belinkov (2022), *Locating and Editing Factual Associations in GPT*, arXiv:2202.05262. Zhang & Nanda
# (2024), *Towards Best Practices of Activation Patching in Language Models*, arXiv:2309.16042. Hase, Bansal, Kim &
# Ghandeharioun (2023), *Does Localization Inform Editing?*, arXiv:2301.04213.
