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
# # Protective or indifferent? Analysis of a representation
#
# **Goal.** Find a direction in the model's states that separates protective from indifferent behaviour in little stories; find
# out where it is; use it (steering) and take it away (ablation); and find out what it *also* is. **Time.** Forty minutes, of
# which the model computes about a minute. **You need** [00_hello](00_hello.ipynb); [02_gender_bias](02_gender_bias.ipynb) helps.
#
# A study of "protective instinct" was the second tutorial of the eDIF pilot. The word is about the *stories*: nothing here
# shows that a language model has instincts, cares, or protects anybody.

# %%
import edif
import numpy as np
import torch
from nnsight import TransformersModel

MODEL = "edif/smollm2-135m-demo"  # the only line to change for another model of edif.models()
model = TransformersModel(MODEL, task="text-generation")
layers = model.transformer.h if "gpt2" in MODEL else model.model.layers
LAST = len(layers) - 1

READ = sorted({*range(1, LAST, 4), LAST})

# %% [markdown]
# ## 1. Contrast pairs
#
# Twelve scenes with somebody in need, each with a protective and an indifferent end. Both ends of a pair have the same scene
# before them, so what differs is the behaviour, and not who or where.

# %%
SCENES = [
    ("The child slipped near the river.", "She pulled him away from the water.", "She watched him and did nothing."),
    ("The old man fell on the ice.", "The girl helped him to his feet.", "The girl walked past him."),
    ("The dog was shivering in the rain.", "He covered it with his coat.", "He shut the door and left it there."),
    ("A car came towards the boy.", "His mother held him back.", "His mother looked at her phone."),
    ("The baby was crying at night.", "Her father took her in his arms.", "Her father turned over and slept."),
    ("The bird had a broken wing.", "She made it a nest and fed it.", "She kicked it aside."),
    ("The new pupil was bullied.", "Tom stood in front of him.", "Tom laughed and went home."),
    ("The fire reached the house.", "The neighbour carried the children out.", "The neighbour closed his window."),
    ("The soldier was wounded.", "His friend stayed and bandaged him.", "His friend ran on alone."),
    ("The kitten was stuck in the tree.", "He climbed up and brought it down.", "He shrugged and drove away."),
    ("The lost tourist was frightened.", "A woman led her safely home.", "A woman ignored her question."),
    ("The patient was in pain.", "The nurse sat by him all night.", "The nurse finished her coffee."),
]
protective = [f"{scene} {end}" for scene, end, _ in SCENES]
indifferent = [f"{scene} {end}" for scene, _, end in SCENES]


def states_of(texts):
    """States at the last position: (texts, layers read, width)."""
    with model.session():
        rows = [].save()
        for text in texts:
            with model.trace(text):
                row = torch.stack([layers[layer].output[0, -1] for layer in READ])
            rows.append(row)
    return torch.stack(rows).numpy()


with_care, without = states_of(protective), states_of(indifferent)
print(with_care.shape)

# %% [markdown]
# ## 2. A direction, and how well it separates scenes that it has not seen
#
# In each layer: direction = mean of the protective states − mean of the indifferent ones, from eleven scenes. Then project
# the two ends of the twelfth on it, and ask which has the larger value. Every scene is left out once. The control swaps
# the two ends of random scenes before the direction is made.
#
# > **What do you expect?** How many of twelve would a random direction get right? From which layer on will this one be
# > better?

# %%
def right(one, other):
    """Share of left-out pairs in which the first end has the larger projection: (layers)."""
    found = []
    for out in range(len(one)):
        kept = np.arange(len(one)) != out
        direction = one[kept].mean(0) - other[kept].mean(0)  # (layers, width)
        found.append(((one[out] - other[out]) * direction).sum(-1) > 0)
    return np.mean(found, axis=0)


rng = np.random.default_rng(0)
separated = right(with_care, without)
swapped = []
for _ in range(200):
    swap = rng.random(len(SCENES)) < 0.5
    swap = swap[:, None, None]
    swapped.append(right(np.where(swap, without, with_care), np.where(swap, with_care, without)))
swapped = np.array(swapped)
print("layer   right of 12   control: mean (95 % below)")
for n, layer in enumerate(READ):
    print(f"{layer:5}   {separated[n] * 12:5.0f}         {swapped[:, n].mean() * 12:.1f} ({np.quantile(swapped[:, n], 0.95) * 12:.0f})")

# %% [markdown]
# On the demo model: in layer 1 seven of twelve, which is chance; from layer 5 on ten to twelve, where 95 % of the directions from swapped ends
# stay at nine or ten. All twelve are right in layer 13, but that is the best of eight layers: with twelve scenes, do not choose a layer and report its
# number.
#
# ## 3. But what is it a direction *of*?
#
# "Protective" ends are also *kind*, and kind words are everywhere. The control that matters is not noise but the **rival
# explanation**: eight pairs of pleasant and unpleasant sentences in which nobody is protected.
#
# > **What do you expect?** Will the protective direction separate pleasant from unpleasant soup?

# %%
PLEASANT = [
    ("The soup was delicious.", "The soup was awful."), ("The weather was lovely.", "The weather was terrible."),
    ("The film was a joy to watch.", "The film was a bore to watch."), ("The room was clean and bright.", "The room was dirty and dark."),
    ("The exam went very well.", "The exam went very badly."), ("The music was beautiful.", "The music was ugly."),
    ("The hotel was excellent.", "The hotel was dreadful."), ("The coffee tasted great.", "The coffee tasted horrible."),
]
nice, nasty = (states_of([pair[side] for pair in PLEASANT]) for side in (0, 1))
direction = with_care.mean(0) - without.mean(0)  # (layers, width)
mood = nice.mean(0) - nasty.mean(0)
alike = (direction * mood).sum(-1) / np.linalg.norm(direction, axis=-1) / np.linalg.norm(mood, axis=-1)
transfer = (((nice - nasty) * direction).sum(-1) > 0).mean(0)
print("layer   cosine with the mood direction   pleasant pairs it orders (of 8)")
for n, layer in enumerate(READ):
    print(f"{layer:5}   {alike[n]:+.2f}                            {transfer[n] * 8:.0f}")

# %% [markdown]
# On the demo model: the cosine is +0.14 to +0.30, and the protective direction orders seven or eight of the eight pairs in *every* layer:
# about as well as the scenes it was made for, and in layer 1 better.
#
# A random direction in 576 dimensions has a cosine of about ±0.04 with another one. (Differences of real states do not fill all
# dimensions evenly and are more alike than that: the eight pairs are the better evidence.) So part of what was found is mood, and
# an honest name is "protective *and pleasant* against indifferent *and unpleasant*". A better set of pairs would
# have kind indifference and harsh protection in it (exercise 1).
#
# ## 4. Steering: does it do anything?
#
# Push the model along the direction while it reads a scene with an open end, and measure logit(" help") − logit(" leave").
# Beside it random directions of the same length: any push disturbs.
#
# > **What do you expect?** Which strengths are too weak to see, and which break the model? The unit is the mean norm of the
# > layer's states.

# %% tags=["long"]
OPEN = [
    "When the stranger saw the child fall, he decided to",
    "The woman heard somebody cry for help and chose to",
    "The boy found a hurt bird and wanted to",
    "When the old lady dropped her bags, the man began to",
    "The teacher saw that one pupil was sad and went to",
    "The hiker met a lost dog and decided to",
]
CHOICE = (" help", " leave")
STEERED = [LAST // 3, LAST // 2]
pairs = list(zip(protective, indifferent))
steered = edif.steer(model, OPEN, pairs, answer=CHOICE, layers=STEERED, strengths=[-0.2, -0.1, 0.0, 0.1, 0.2], controls=4, seed=0,
                     ablate="everywhere")
mean = steered.mean("logit_difference")
random = (steered.data["control"] - steered.data["unsteered"]).sel(metric="logit_difference").mean("prompt")
for layer in STEERED:
    for strength in (-0.2, -0.1, 0.1, 0.2):
        row, other = mean.sel(layer=layer, strength=strength), random.sel(layer=layer, strength=strength).values
        print(f"layer {layer:2}, strength {strength:+.1f}: {float(row['mean']):+.2f} [{float(row['low']):+.2f}, {float(row['high']):+.2f}]"
              f"   random: {other.min():+.2f} to {other.max():+.2f}")

# %% [markdown]
# On the demo model: in layer 9 nothing is shown, for random directions do about as much (−0.89 against −1.14 to −0.56). In layer 14 the push
# works, in both directions and beyond all four random ones: +1.36 [+0.34, +2.77] against −1.93 to +0.27, and −4.30 [−5.93, −3.19] against −0.75 to
# +0.60. Four random directions are few: that this one is beyond all of them would happen by chance once in five.
#
# ## 5. Ablation: is it needed?
#
# Steering adds; ablation takes the direction *out* of all layers (Arditi et al. 2024) and asks whether the model prefers helping
# less without it.
#
# > **What do you expect?** Will the preference for " help" shrink, vanish, stay as it is, or grow?

# %% tags=["long"]
before = steered.data["unsteered"].sel(metric="logit_difference")
after = steered.data["ablated"].sel(metric="logit_difference", ablation="everywhere")
ablations = {}
for layer in STEERED:
    change = (after.sel(layer=layer) - before).values
    again = change[rng.integers(0, len(change), (2000, len(change)))].mean(1)
    low, high = np.quantile(again, (0.025, 0.975))
    ablations[layer] = float(change.mean())
    print(f"direction of layer {layer:2} taken out everywhere: {change.mean():+.2f} [{low:+.2f}, {high:+.2f}]   (before: {float(before.mean()):+.2f})")

# %% [markdown]
# On the demo model: without the direction of layer 9 nothing changes (+0.06 [−0.28, +0.45]). Without that of layer 14 the preference for " help"
# *grows*, from +1.44 by +1.83 [+0.32, +3.35]. If the direction carried the wish to help, it should fall. So what pushes is not what the
# model itself uses here; and no random direction was taken out beside it, so the growth may be mere disturbance.
#
# ## 6. What may be concluded, and what not
#
# - In these scenes a difference-of-means direction tells protective from indifferent ends that it has not seen, better than
#   with swapped labels.
# - At layer 14, and not at layer 9, pushing along it moves the model's choice more than four random directions do, on six prompts. Taking
#   it out does not do the opposite: what is enough to push the model need not be what the model uses.
# - The direction orders pleasant soup as well as rescued children. By this alone, "protective" is the wrong name.
# - Nothing here shows an "instinct", a value, or what the model would do in a conversation.
#
# ## Exercise
#
# **Exercise 1.** Break the confound. Write four pairs in which the protective end is *harsh* ("He shouted at her to stay away
# from the edge.") and the indifferent end *kind* ("He smiled and let her go on."), with the same scene before them. How many
# does the direction of the middle layer order correctly?

# %%
# your code


# %% [markdown]
# <details><summary>Solution of exercise 1</summary>
#
# ```python
# HARSH = [
#     ("The girl went near the edge.", "He shouted at her to stay away.", "He smiled and let her go on."),
#     ("The boy reached for the knife.", "She slapped his hand away from it.", "She sang happily to herself."),
#     ("The man wanted to drive drunk.", "His wife angrily took the keys.", "His wife kissed him goodbye."),
#     ("The toddler ran to the road.", "The guard grabbed him roughly.", "The guard waved cheerfully."),
# ]
# harsh, kind = (states_of([f"{pair[0]} {pair[side]}" for pair in HARSH]) for side in (1, 2))
# middle = len(READ) // 2
# ordered = int((((harsh - kind)[:, middle] * direction[middle]).sum(-1) > 0).sum())
# print(ordered, "of", len(HARSH), "at layer", READ[middle])
# ```
#
# On the demo model three of four, in layer 17. By chance three or more of four happen in 5 of 16 cases, so this shows nothing either way: what you
# need is not a better direction but more pairs.
#
# </details>
#
# ## Sources
#
# *eDIF: A European Deep Inference Fabric for Remote Interpretability of LLM* (2025), arXiv:2508.10553. Zou et al. (2023),
# *Representation Engineering: A Top-Down Approach to AI Transparency*, arXiv:2310.01405. Rimsky et al. (2023), *Steering Llama
# 2 via Contrastive Activation Addition*, arXiv:2312.06681. Arditi et al. (2024), *Refusal in Language Models Is Mediated by a
# Single Direction*, arXiv:2406.11717.
