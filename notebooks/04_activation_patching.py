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
# # Activation patching: which activations carry the difference?
#
# **Goal.** Replicate the best-known patching experiment, *indirect object identification* (IOI), on a small model; tell
# denoising from noising; look at single heads; know when the fast approximation may be trusted. **Time.** Half an hour,
# of which the model computes about a minute. **You need** [00_hello](00_hello.ipynb).
#
# Two prompts differ in one name and ask for different answers:
#
# - clean: *When Mary and John went to the store, **John** gave a drink to* → Mary
# - corrupt: *When Mary and John went to the store, **Mary** gave a drink to* → John
#
# Patching runs the model on the corrupt prompt, puts *one* activation of the clean run in its place, and asks how much of
# the clean answer comes back. The scale is the **normalised logit difference**: with logit(Mary) − logit(John) = *x*,
# effect = (*x* − corrupt) / (clean − corrupt), so 0 is the corrupt run and 1 the clean one (Heimersheim & Nanda 2024).

# %%
import edif
from nnsight import TransformersModel

MODEL = "edif/smollm2-135m-demo"  # the only line to change for another model of edif.models()
model = TransformersModel(MODEL, task="text-generation")
layers = model.transformer.h if "gpt2" in MODEL else model.model.layers
LAST = len(layers) - 1

clean = "When Mary and John went to the store, John gave a drink to"
corrupt = "When Mary and John went to the store, Mary gave a drink to"
answer = (" Mary", " John")
tokens = [model.tokenizer.decode(id) for id in model.tokenizer(clean).input_ids]
print(len(tokens), list(enumerate(tokens)))

# %% [markdown]
# ## 1. First ask whether the model can do it
#
# > **What do you expect?** Does a model of 135 million parameters know who gets the drink? Which sign must the difference
# > logit(Mary) − logit(John) have in each prompt?

# %%
residual = edif.activation_patching(model, clean, corrupt, answer, direction="both")
baseline = residual.data[["clean", "corrupt"]].sel(metric="logit_difference").isel(pair=0, direction=0)
print(f"clean {float(baseline['clean']):+.2f}   corrupt {float(baseline['corrupt']):+.2f}   "
      f"apart {float(baseline['clean'] - baseline['corrupt']):.1f}")

# %% [markdown]
# On the demo model: clean +6.12, corrupt −5.49. It knows, and the two runs are 11.6 logits apart: there is a difference
# to explain. Where a model does not know the answer, a map of "what carries it" is a map of noise.
#
# ## 2. The residual stream, place by place
#
# > **What do you expect?** The prompts differ at the second name (position 9) only. At which positions can patching have
# > any effect at all? In the first layers, where will it be? In the last layer, where must it be?

# %%
residual

# %% [markdown]
# What you should see: a bright column at the second name, from the bottom up to about layer 20, and one at the last token
# from about there to the top; hardly anything else. The information *which name is repeated* sits where it was read and
# then moves, around two thirds of the way, to where it is needed. Positions before the second name have no effect: there
# the two runs are the same. (The map is hatched where nothing had to be computed.)
#
# Switch between *denoise* and *noise* at the map's edge, or with `m`.
#
# > **What do you expect?** *Noise* puts states of the corrupt run into the clean one. Which value has a cell there that was near 1
# > before?

# %%
for way in ("denoise", "noise"):
    effect = residual.effect(direction=way)[0]
    name, last = effect.isel(position=9), effect.isel(position=-1)
    for layer in (LAST // 3, LAST * 5 // 6):
        print(f"{way:8} layer {layer:2}: at the name {float(name[layer]):+.2f}, at the last token {float(last[layer]):+.2f}")

# %% [markdown]
# **Denoising** (clean into corrupt, values near 1 matter) shows what *suffices* to bring the answer back. **Noising**
# (corrupt into clean, values near 0 matter) shows what is *necessary*. On a single stream of states the two agree almost
# by definition; for parts that back one another up they do not: a head whose work another one also does is
# sufficient and not necessary. Always say which of the two was done.
#
# ## 3. A control: a difference that should not matter
#
# An effect is a finding only against something that has none. Here two prompts differ in a word that does not decide the
# answer: *store* and *market*. The normalised effect would divide by almost nothing, so look at plain logits.
#
# > **What do you expect?** By how many logits can patching move Mary − John now? Compare with 11.6.

# %%
control = edif.activation_patching(
    model, clean, clean.replace("store", "market"), answer, layers=range(0, LAST, 3),
)
moved = control.effect(normalised=False)[0] - float(control.data["corrupt"].sel(metric="logit_difference")[0, 0])
largest_control = float(abs(moved).max())
largest = float(abs(residual.effect(normalised=False)[0] - float(baseline["corrupt"])).max())
print(f"largest change: control {largest_control:.2f} logits, IOI {largest:.2f} logits")

# %% [markdown]
# On the demo model: 0.24 logits against 11.75. What patching moves in the first map is not just any disturbance.
#
# ## 4. One pair is an anecdote: eight pairs with an interval
#
# > **What do you expect?** The two columns of the map cross somewhere around layer 20. Is that a property of *Mary and
# > John*, or of the task?

# %%
names = [("Mary", "John"), ("Anna", "Tom"), ("Sarah", "Paul"), ("Kate", "David")]
template = "When {} and {} went to the store, {} gave a drink to"
pairs = [(a, b) for a, b in names] + [(b, a) for a, b in names]
several = edif.activation_patching(
    model,
    [template.format(a, b, b) for a, b in pairs],
    [template.format(a, b, a) for a, b in pairs],
    [(f" {a}", f" {b}") for a, b in pairs],
    layers=range(0, LAST, 4),
    positions=[9, 13],
)
mean = several.mean()
print("layer    at the name            at the last token    (mean of 8 pairs, 95 % interval over pairs)")
for layer in mean["layer"].values:
    row = mean.sel(layer=layer)
    cells = [f"{float(row['mean'][p]):+.2f} [{float(row['low'][p]):+.2f}, {float(row['high'][p]):+.2f}]" for p in (9, 13)]
    print(f"{layer:5}    " + "    ".join(cells))

# %% [markdown]
# On the demo model: at layer 16 all of the effect is at the name (+1.02 [+1.01, +1.03]), at layer 20 it is shared (+0.47 and
# +0.38), at layer 24 nine tenths are at the last token (+0.90 [+0.88, +0.92]), and the intervals are narrow. Eight pairs of one template say something about this template. They say nothing yet about
# other sentences: that is exercise 1.
#
# ## 5. Heads: who moves the information?
#
# Something must carry the information from position 9 to position 13, and only attention moves anything between positions. So
# patch the output of each head alone, at the last position: 30 layers × 9 heads.
#
# > **What do you expect?** How many of the 270 heads matter? Do all of them help?

# %%
heads = edif.activation_patching(model, clean, corrupt, answer, sites="head", positions=[-1])
effects = heads.effect("head")[0].isel(position=-1)
ranked = sorted(
    ((float(effects.sel(layer=layer)[head]), int(layer), head) for layer in effects["layer"].values for head in range(effects.sizes["head"])),
    key=lambda cell: -abs(cell[0]),
)
print("layer.head   effect")
for effect, layer, head in ranked[:8]:
    print(f"{layer:6}.{head}    {effect:+.3f}")
share = sum(abs(e) > 0.05 for e, *_ in ranked) / len(ranked)
print(f"heads with an effect beyond ±0.05: {share:.0%}")

# %% [markdown]
# On the demo model: 3 % of the 270 heads (seven) go beyond ±0.05. The strongest is 23.3 with +0.55: alone it brings back half of the
# difference. 29.1 follows (+0.27), and two write against the answer: 24.4 (−0.23) and 29.0 (−0.20).
#
# A negative effect is not an error: such a head writes *against* the answer, as the "negative name movers" that Wang et al.
# (2022) found in GPT-2. With probabilities instead of logit differences one would miss them (Zhang & Nanda 2024).
#
# > **What do you expect?** Where do the three strongest heads look from the last position: at *Mary*, at one of the two *John*, elsewhere?

# %%
chosen = ranked[:3]
seen = edif.attention(model, clean, layers=sorted({layer for _, layer, _ in chosen}))
for effect, layer, head in chosen:
    row = seen.weights().sel(layer=layer, head=head)[-1]
    best = sorted(((float(weight), place) for place, weight in enumerate(row.values)), reverse=True)[:3]
    print(f"{layer}.{head} ({effect:+.3f}):", ", ".join(f"{tokens[place]!r} at {place}: {weight:.2f}" for weight, place in best))

# %% [markdown]
# On the demo model: 23.3 looks at the second *John* (weight 0.74), the place where the two prompts differ; 24.4, which works against
# the answer, looks at *Mary* (0.81); 29.1 looks mostly at its own position. Where a head looks is a hint at what it does and not a proof: the patching is the evidence, the pattern a reading of it.
#
# ## 6. The fast approximation, and when not to trust it
#
# *Attribution patching* (Nanda 2023) estimates every cell from gradients, with two forward passes and one backward pass for
# the whole map, where exact patching needs one pass for every cell. But it is a first-order
# approximation, and where the model is far from linear it misleads.
#
# > **What do you expect?** Of head outputs, MLP outputs and the residual stream: for which will the estimates follow the
# > exact effects best, for which worst?

# %%
import numpy as np

SITES = ["head", "mlp", "residual"]
estimated = edif.attribution_patching(model, clean, corrupt, answer, sites=SITES)
exact = edif.activation_patching(model, clean, corrupt, answer, sites=["mlp"], positions=[9, 13])


def correlation(one, other, seed=0):
    """Pearson's r, and its 95 % interval by resampling cells."""
    one, other = np.ravel(one), np.ravel(other)
    known = ~(np.isnan(one) | np.isnan(other))
    one, other = one[known], other[known]
    draws = np.random.default_rng(seed).integers(0, len(one), (1000, len(one)))
    again = [np.corrcoef(one[draw], other[draw])[0, 1] for draw in draws]
    return np.corrcoef(one, other)[0, 1], *np.quantile(again, (0.025, 0.975))


measured = {
    "head": (effects.values, estimated.data["head"][0].isel(position=-1).values),
    "mlp": tuple(found.values[:, [9, 13]] for found in (exact.effect("mlp")[0], estimated.data["mlp"][0])),
    "residual": tuple(found.values[:, [9, 13]] for found in (residual.effect()[0], estimated.data["residual"][0])),
}
agreement = {site: correlation(*both) for site, both in measured.items()}
for site, (r, low, high) in agreement.items():
    print(f"{site:9} r = {r:+.2f}  [{low:+.2f}, {high:+.2f}]")

# %% [markdown]
# On the demo model: heads r = 0.99 [0.94, 1.00], MLPs 0.85 [0.82, 0.97], the residual stream 0.76 [0.70, 0.83]. Heads are
# best, as in GPT-2, whose figures are in the warning below. How far the others go wrong depends on the model.
#
# (The interval comes from resampling cells of one pair of prompts. Cells of neighbouring layers are alike, so it is
# narrower than one over many pairs would be.) Where an estimate leads somewhere, patch that place exactly: `refine` does
# it for the top cells. The result warns you by itself:

# %% tags=["long"]
print(estimated.warning)
for cell in edif.attribution_patching(model, clean, corrupt, answer).refine(model, 5):
    print(f"{cell['layer']:3}.{cell['head']} at {cell['position']:2}   estimate {cell['estimate']:+.3f}   exact {cell['exact']:+.3f}")

# %% [markdown]
# ## What may be concluded
#
# - On this model and these prompts, states of the second name up to about layer 20, and states of the last token after
#   that, are *sufficient* to carry the answer (denoise), and *necessary* (noise).
# - A few heads at the last position carry a measurable part of it. This does not make them *the circuit*: nothing here
#   shows that they are enough together, or what they read (`edif.path_patching` asks that).
# - Nothing here is about other models. The layer at which the information moves is a property of this one.
#
# ## Exercises
#
# **Exercise 1.** Does the information move at the same layers in another sentence? Use *After {} and {} had lunch, {} handed
# a book to* with the same eight pairs of names, and give mean and
# interval at layers 12, 20 and 24.

# %%
# your code


# %% [markdown]
# <details><summary>Solution of exercise 1</summary>
#
# ```python
# lunch = "After {} and {} had lunch, {} handed a book to"
# place = [model.tokenizer.decode(id) for id in model.tokenizer(lunch.format("Mary", "John", "Tom")).input_ids].index(" Tom")
# other = edif.activation_patching(
#     model,
#     [lunch.format(a, b, b) for a, b in pairs],
#     [lunch.format(a, b, a) for a, b in pairs],
#     [(f" {a}", f" {b}") for a, b in pairs],
#     layers=[12, 20, 24],
#     positions=[place, -1],
# ).mean()
# for layer in (12, 20, 24):
#     row = other.sel(layer=layer)
#     print(layer, [f"{float(row['mean'][p]):+.2f} [{float(row['low'][p]):+.2f}, {float(row['high'][p]):+.2f}]" for p in (place, -1)])
# at_name, at_last = float(other["mean"].sel(layer=12)[place]), float(other["mean"].sel(layer=24)[-1])
# ```
#
# The move is in the same range of layers. On the demo model: +1.00 at the name at layer 12, +0.42 and +0.45 at both places at layer 20, +0.90
# at the last token at layer 24.
#
# </details>
#
# **Exercise 2.** Are the three strongest helping heads together stronger than three heads drawn at random? Patch them
# together, in a trace of your own, and compare with five random draws (set a seed).

# %%
# your code


# %% [markdown]
# <details><summary>Solution of exercise 2</summary>
#
# ```python
# from edif.engine.decoder import Decoder
#
# mary, john = (model.tokenizer.encode(name)[0] for name in answer)
# helping = [(layer, head) for effect, layer, head in ranked if effect > 0][:3]
# rng = np.random.default_rng(0)
# every = [(layer, head) for _, layer, head in ranked]
# groups = [helping, *([every[n] for n in rng.choice(len(every), 3, replace=False)] for _ in range(5))]
# parts = Decoder(model)
#
# with model.session():
#     together = [].save()
#     for group in groups:
#         with model.trace(clean):
#             states = [parts.projection(layer).input[0, -1] for layer, _ in sorted(group)]
#         with model.trace(corrupt):
#             for (layer, head), state in zip(sorted(group), states):
#                 part = slice(head * parts.head_width, (head + 1) * parts.head_width)
#                 parts.projection(layer).input[0, -1, part] = state[part]
#             logits = model.lm_head.output[0, -1]
#             found = (logits[mary] - logits[john]).item()
#         together.append(found)
#
# low, high = float(baseline["corrupt"]), float(baseline["clean"])
# shares = [(x - low) / (high - low) for x in together]
# print(f"helping {shares[0]:+.2f}   random", [f"{share:+.2f}" for share in shares[1:]])
# ```
#
# On the demo model: +0.97 for the three together, and nothing above 0.00 for the random ones. The three single effects in the table add up to
# 1.02. Sum and joint effect need not be equal: later heads read what earlier ones write, so the parts of a circuit do not simply add up.
#
# </details>
#
# ## Sources
#
# Wang et al. (2022), *Interpretability in the Wild: a Circuit for Indirect Object Identification in GPT-2 Small*,
# arXiv:2211.00593. Heimersheim & Nanda (2024), *How to use and interpret activation patching*, arXiv:2404.15255. Zhang &
# Nanda (2024), *Towards Best Practices of Activation Patching in Language Models*, arXiv:2309.16042. Nanda (2023),
# *Attribution Patching: Activation Patching At Industrial Scale*. `print(residual.cite())` prints what to cite with your own
# result.
