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
# # Gender bias: a whole study, from a number to what it means
#
# **Goal.** Ask one question with five methods, and see what each can and cannot say: *does the model take the pronoun from
# the profession, and where?* Behaviour, logit lens, patching, a probe with a control, steering. **Time.** Forty minutes, of
# which the model computes about a minute. **You need** [00_hello](00_hello.ipynb); nothing else.
#
# A study of this kind was the first tutorial of the eDIF pilot. The prompts use *he* and *she*, because the model's text
# did; that says nothing about who works where, and nothing about other genders.

# %%
import edif
import numpy as np
import torch
from nnsight import TransformersModel

MODEL = "edif/smollm2-135m-demo"  # the only line to change for another model of edif.models()
model = TransformersModel(MODEL, task="text-generation")
layers = model.transformer.h if "gpt2" in MODEL else model.model.layers
LAST = len(layers) - 1

SHE = ["nurse", "teacher", "secretary", "librarian", "dancer", "housekeeper", "receptionist", "hairdresser", "nanny", "cleaner"]
HE = ["soldier", "farmer", "sheriff", "carpenter", "plumber", "guard", "mechanic", "builder", "pilot", "engineer"]
TEMPLATES = ["The {} said that", "The {} finished work because", "The {} was tired, so"]
she, he = (model.tokenizer.encode(word)[0] for word in (" she", " he"))
PROFESSIONS = SHE + HE

# %% [markdown]
# The lists are of *stereotypes*, mostly from occupations of WinoBias (Zhao et al. 2018) and a few of our own. They were
# written down before looking at the model. Keep it that way: whoever picks the words after seeing the numbers finds
# what they look for.
#
# ## 1. Behaviour: how much does the profession decide?
#
# The measure is the **log-odds** logit(she) − logit(he): 0 means undecided, +1 that *she* is 2.7 times as probable as *he*.
#
# > **What do you expect?** For *The nurse finished work because* and *The soldier finished work because*: which signs? And
# > will the other two sentences give the same order of professions?

# %%
with model.session():
    odds = [].save()
    for template in TEMPLATES:
        row = []
        for profession in PROFESSIONS:
            with model.trace(template.format(profession)):
                logits = model.lm_head.output[0, -1]
                value = (logits[she] - logits[he]).item()
            row.append(value)
        odds.append(row)

odds = np.array(odds)  # (templates, professions)
print(f"{'':14}" + "".join(f"{template.split('{} ')[1]:>24}" for template in TEMPLATES))
for number in np.argsort(odds.mean(0)):
    print(f"{PROFESSIONS[number]:14}" + "".join(f"{value:24.2f}" for value in odds[:, number]))

# %% [markdown]
# How far are the two lists apart, and how sure is that? The unit of sampling is the *profession*, so the interval comes from
# resampling professions. As a control, the same difference with the twenty labels shuffled.
#
# > **What do you expect?** How often will shuffled labels give a gap as large as the true one: one time in ten, in a hundred,
# > never in 2,000?

# %%
rng = np.random.default_rng(0)
labels = np.array([1] * len(SHE) + [0] * len(HE))


def gap(values, labels):
    return values[labels == 1].mean() - values[labels == 0].mean()


gaps = {}
for template, values in zip(TEMPLATES, odds):
    again = [gap(np.r_[rng.choice(values[:10], 10), rng.choice(values[10:], 10)], labels) for _ in range(2000)]
    chance = [gap(values, rng.permutation(labels)) for _ in range(2000)]
    low, high = np.quantile(again, (0.025, 0.975))
    gaps[template] = gap(values, labels)
    p = (1 + sum(abs(c) >= abs(gaps[template]) for c in chance)) / 2001
    print(f"{template:30} gap {gaps[template]:+.2f}  95 % [{low:+.2f}, {high:+.2f}]   shuffled labels: p = {p:.4f}")
order = np.corrcoef(np.argsort(np.argsort(odds, axis=1), axis=1))
print("rank correlation of the sentences:", ", ".join(f"{order[a, b]:.2f}" for a, b in ((0, 1), (0, 2), (1, 2))))

# %% [markdown]
# On the demo model the gaps are +1.12 [0.71, 1.54], +2.50 [1.71, 3.26] and +2.35 [1.47, 3.22], each with p below 0.002, and the
# sentences order the professions alike (rank correlations 0.88 to 0.95). Some professions are not where the list has them: see *pilot*.
#
# The *gap* is stable; the *level* is not: after *said that*, most professions lean to *she*. A single sentence with a single
# profession would have "shown" anything you like.
#
# ## 2. Logit lens: from which layer can the lean be read?
#
# > **What do you expect?** At the last position, does the lens show the lean from the first layers, or only late?

# %%
NURSE, SOLDIER = "The nurse finished work because", "The soldier finished work because"
lens = edif.logit_lens(model, [NURSE, SOLDIER], targets=[" she", " he"], top=3)
lean = lens.difference(" she", " he").isel(position=-1)
for layer in sorted({*range(0, LAST, 4), LAST}):
    print(f"layer {layer:2}   nurse {float(lean.sel(layer=layer)[0]):+6.2f}   soldier {float(lean.sel(layer=layer)[1]):+6.2f}")
lens

# %% [markdown]
# On the demo model both prompts look alike up to about layer 24 (both far below zero, with nurse less than one and a half ahead); at
# layer 28 they are apart, +5.81 and −4.75.
# The lens shows when the lean can be *read* at the last position by the unembedding. It does not show where it comes from.
#
# ## 3. Patching: where is it carried?
#
# Both prompts have the same number of tokens and differ in one, so states can be exchanged place by place
# ([04_activation_patching](04_activation_patching.ipynb) explains the scale: 0 is *soldier*, 1 is *nurse*).
#
# > **What do you expect?** Which positions matter in the lower layers, which in the upper ones?

# %%
patched = edif.activation_patching(model, NURSE, SOLDIER, (" she", " he"))
patched

# %%
effect = patched.effect()[0]
for layer in sorted({*range(0, LAST, 4), LAST}):
    row = effect.sel(layer=layer)
    print(f"layer {layer:2}   at the profession {float(row[1]):+.2f}   between {float(abs(row[2:-1]).max()):.2f} at most   at the last token {float(row[-1]):+.2f}")

# %% [markdown]
# On the demo model: everything is at the profession up to layer 20 (+1.00 to +1.08), still +0.92 at layer 24, and at the last
# token from layer 28 on (+1.00). Between them there is nothing beyond 0.05.
# This is a causal statement, for one pair of words.
#
# ## 4. A probe, its control, and what it is worth
#
# A *probe* asks whether a linear classifier can read a property from the states. Here: is the profession on the *she* list? The
# states are those at the profession's last token, in all three sentences. Professions that are tested are never trained on
# (otherwise the probe could learn the words by heart). The control (Hewitt & Liang 2019) gives each profession a *random*
# label: what a probe can do with that is memory, not meaning.
#
# > **What do you expect?** In which layers is the probe better than its control? Higher layers than those where patching the
# > profession matters, lower ones, the same?

# %%
PROBED = sorted({*range(0, LAST, 4), LAST})
with model.session():
    states = [].save()
    for profession in PROFESSIONS:
        place = len(model.tokenizer("The " + profession).input_ids) - 1
        for template in TEMPLATES:
            with model.trace(template.format(profession)):
                here = torch.stack([layers[layer].output[0, place] for layer in PROBED])
            states.append(here)

states = torch.stack(states).numpy().reshape(len(PROFESSIONS), len(TEMPLATES), len(PROBED), -1)


def probe(states, labels, folds, ridge=10.0):
    """Accuracy on professions that were not trained on: states (professions, templates, width)."""
    right = []
    for fold in folds:
        train = np.setdiff1d(np.arange(len(labels)), fold)
        x, y = states[train].reshape(-1, states.shape[-1]), np.repeat(2.0 * labels[train] - 1, states.shape[1])
        mean, scale = x.mean(0), x.std(0) + 1e-6
        x = (x - mean) / scale
        weights = x.T @ np.linalg.solve(x @ x.T + ridge * np.eye(len(x)), y - y.mean())
        tested = ((states[fold].reshape(-1, states.shape[-1]) - mean) / scale) @ weights + y.mean()
        right += list((tested > 0) == np.repeat(labels[fold] == 1, states.shape[1]))
    return float(np.mean(right))


rng = np.random.default_rng(0)
folds = [np.array([n, n + 10]) for n in range(10)]  # one of each list is left out
accuracy, control = {}, {}
for n, layer in enumerate(PROBED):
    accuracy[layer] = probe(states[:, :, n], labels, folds)
    control[layer] = [probe(states[:, :, n], rng.permutation(labels), folds) for _ in range(20)]
print("layer   probe   control (mean, range of 20)   patching the profession here")
for layer in PROBED:
    c = control[layer]
    print(f"{layer:5}   {accuracy[layer]:.2f}    {np.mean(c):.2f} [{min(c):.2f}, {max(c):.2f}]             {float(effect.sel(layer=layer)[1]):+.2f}")

# %% [markdown]
# On the demo model the probe has 0.75 to 0.90 in most layers, the control 0.4 to 0.5; in layers 16 and 20 it is no better than its
# control, and in layer 12 it only equals the best of twenty controls.
#
# Read the two columns on the right together. The probe finds the property **also in layers where changing the state does
# nothing any more**. Information that can be read need not be used: that is the most common wrong conclusion from probes.
#
# ## 5. Steering: does the direction do what the probe says?
#
# Take the difference of mean states of the two lists, and push the model along it. Where the model does not use a
# direction, a push along it should do no more than any other push. The direction is made from the first five professions of each list and tested on the other five; beside it, three
# *random* directions of the same length.
#
# > **What do you expect?** Which sign has the effect of a push towards *she*? Do random directions push too?

# %% tags=["long"]
made = [(TEMPLATES[1].format(a), TEMPLATES[1].format(b)) for a, b in zip(SHE[:5], HE[:5])]
tested = [TEMPLATES[1].format(profession) for profession in SHE[5:] + HE[5:]]
STEERED = [LAST // 3, LAST * 5 // 6]
steered = edif.steer(
    model, tested, made, answer=(" she", " he"), layers=STEERED, strengths=[-0.2, 0.0, 0.2], controls=3, seed=0
)
mean = steered.mean("logit_difference")
random = (steered.data["control"] - steered.data["unsteered"]).sel(metric="logit_difference").mean("prompt")
for layer in STEERED:
    for strength in (-0.2, 0.2):
        row, other = mean.sel(layer=layer, strength=strength), random.sel(layer=layer, strength=strength)
        print(f"layer {layer:2}, strength {strength:+.1f}: log-odds {float(row['mean']):+.2f} [{float(row['low']):+.2f}, {float(row['high']):+.2f}]"
              f"   random directions {', '.join(f'{value:+.2f}' for value in other.values)}")

# %% [markdown]
# On the demo model the push works in the expected direction in both layers, with intervals far from zero: +0.70 and −0.67 in layer 9,
# +2.02 and −2.48 in layer 24. **And random directions of the same length do as much** (up to 0.70 in layer 9, −3.12 in layer 24). At this
# strength the model is disturbed by any push; three random directions cannot show that this one is special. The interval alone would have
# fooled you: it is over prompts, and says nothing about directions.
#
# ## 6. What may be concluded, and what not
#
# **May be said** of this model and these three sentences: the pronoun depends on the profession in the direction of the
# stereotype, with an interval that excludes zero and a p-value against shuffled labels. States of the profession's token carry it in the
# lower and middle layers, those of the last token in the upper ones. A probe reads it from the profession's token also in the last
# layers, where that token is not used any more. A direction made from ten professions shifts the pronoun of ten others, but not
# beyond what random directions of that length do.
#
# **May not be said.** That the model "is sexist", or more so than another: no other model and no corpus was compared. That these layers
# are "the bias circuit": one word pair was patched. That steering "removes the bias": it moves the odds of everybody, in
# both lists alike. Anything about languages with grammatical gender, about names, about other genders.
#
# ## Exercises
#
# **Exercise 1.** Is it really gender? Test the measure where it cannot mean that: take the log-odds of *" it"* against *"
# they"* for the same prompts and compute the gap of the two lists in sentence 2, with p by shuffling.

# %%
# your code


# %% [markdown]
# <details><summary>Solution of exercise 1</summary>
#
# ```python
# it, they = (model.tokenizer.encode(word)[0] for word in (" it", " they"))
# with model.session():
#     other = [].save()
#     for profession in PROFESSIONS:
#         with model.trace(TEMPLATES[1].format(profession)):
#             logits = model.lm_head.output[0, -1]
#             value = (logits[it] - logits[they]).item()
#         other.append(value)
# other = np.array(other)
# rng = np.random.default_rng(0)
# chance = [gap(other, rng.permutation(labels)) for _ in range(2000)]
# other_gap = gap(other, labels)
# other_p = (1 + sum(abs(c) >= abs(other_gap) for c in chance)) / 2001
# print(f"gap {other_gap:+.2f}, p = {other_p:.3f}")
# ```
#
# Were p small here too, the lists would differ in more than gender, and the first result would need a second look. On the demo model the gap
# is +0.20 with p = 0.55: of such a difference nothing is seen, which with twenty professions is not to say that there is none.
#
# </details>
#
# **Exercise 2.** Does the patching result hold for another pair? Use *librarian* and *farmer*, and give the effect at the
# profession and at the last token in the layers 8 and 24.

# %%
# your code


# %% [markdown]
# <details><summary>Solution of exercise 2</summary>
#
# ```python
# pair = [TEMPLATES[1].format(profession) for profession in ("librarian", "farmer")]
# second = edif.activation_patching(model, *pair, (" she", " he"), layers=[8, 24]).effect()[0]
# held = {layer: (float(second.sel(layer=layer)[1]), float(second.sel(layer=layer)[-1])) for layer in (8, 24)}
# print({layer: [f"{value:+.2f}" for value in values] for layer, values in held.items()})
# ```
#
# On the demo model: +1.05 and +0.01 at layer 8, +0.88 and +0.10 at layer 24. The picture is the same, so it is now two pairs. Still not a
# circuit.
#
# </details>
#
# ## Sources
#
# Zhao, Wang, Yatskar, Ordonez & Chang (2018), *Gender Bias in Coreference Resolution* (WinoBias), arXiv:1804.06876. Vig et al.
# (2020), *Investigating Gender Bias in Language Models Using Causal Mediation Analysis*, NeurIPS. Hewitt & Liang (2019),
# *Designing and Interpreting Probes with Control Tasks*, arXiv:1909.03368. Turner et al. (2023), *Steering Language Models With
# Activation Engineering*, arXiv:2308.10248.
