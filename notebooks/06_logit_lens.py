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
# # The logit lens: what would the model say after every layer?
#
# **Goal.** Read a logit lens and its measures (probability, rank, entropy, KL); know its limits; train a *tuned lens*
# yourself, on the server, and test it on text that it has not seen. **Time.** Twenty minutes, of which the model computes
# about a minute. **You need** [00_hello](00_hello.ipynb).
#
# A language model passes a state from layer to layer and turns the last one into scores for the next token, by a norm and
# the unembedding matrix. The logit lens (nostalgebraist 2020) applies these two to the state after *every* layer, as if the
# model stopped there: `softmax(unembed(norm(h)))`.

# %%
import edif
import numpy as np
import torch
from nnsight import TransformersModel

MODEL = "edif/smollm2-135m-demo"  # the only line to change for another model of edif.models()
model = TransformersModel(MODEL, task="text-generation")
layers = model.transformer.h if "gpt2" in MODEL else model.model.layers
LAST = len(layers) - 1

prompt = "The Eiffel Tower is in the city of"

# %% [markdown]
# ## 1. Read it
#
# > **What do you expect?** After which of the 30 layers does " Paris" first become the most probable token at the last
# > position? And what will the first layers say?

# %%
lens = edif.logit_lens(model, prompt, targets=[" Paris", " Rome"], top=5)
lens

# %% [markdown]
# How to read it: columns are tokens of the prompt, rows are layers, the last one on top. Each cell shows the most probable
# *next* token. Point at a cell, or move with the arrow keys, to see the five best; press Enter on " Paris" to pin it and
# see everywhere where it is on top; `m` changes what the colour means; `t` gives a plain table.

# %%
data = lens.data.isel(prompt=0, position=-1)
print("layer   top token          p      entropy   KL to final   rank of Paris")
for layer in sorted({*range(0, LAST, 5), *range(LAST * 3 // 4, LAST, 2), LAST}):
    row = data.sel(layer=layer)
    print(f"{layer:5}   {str(row['top_token'].values[0])!r:16} {float(row['top_probability'][0]):.3f}   "
          f"{float(row['entropy']):7.2f}   {float(row['kl']):11.2f}   {int(row['target_rank'][0]):13,}")

# %% [markdown]
# On the demo model " Paris" is on top in the last layer alone (0.656). Its rank falls long before: 5,960 at layer 20, 778 at layer 23, 126 at
# layer 25, 4 at layer 27. What the lower layers "say" (" my", "(", ".") makes no sense, and they say it with *low* entropy: a lens can
# be sure and wrong. The KL does not even fall steadily (25 at layer 0, 40 at layer 15).
#
# - **Probability** of the top token: how peaked the layer's guess is.
# - **Entropy** (in nats): how undecided. A uniform guess over 49,152 tokens has 10.8.
# - **KL** to the final layer's distribution: how far the layer is from what the model says in the end.
# - **Rank** of a token, exact, also where it is in nobody's top ten: it often falls long before the token comes on top.
#
# At the last layer the lens *is* the model: KL 0. That is worth checking in any implementation:

# %%
print(f"KL at the last layer: {float(data['kl'].sel(layer=LAST)):.1e}")

# %% [markdown]
# ## 2. Many prompts: when does a model make up its mind?
#
# > **What do you expect?** Take eight facts. In all of them, does the answer come on top at about the same depth?

# %%
FACTS = {
    "The capital of Germany is": " Berlin",
    "The capital of France is": " Paris",
    "The capital of Japan is": " Tokyo",
    "The capital of Greece is": " Athens",
    "The capital of China is": " Beijing",
    "The author of Hamlet is William": " Shakespeare",
    "The Louvre is in the city of": " Paris",
    "The Colosseum is in the city of": " Rome",
}
several = edif.logit_lens(model, list(FACTS), targets=list(dict.fromkeys(FACTS.values())), top=1)
targets = several.data["target_token"].values.tolist()
depths = []
for number, (text, answer) in enumerate(FACTS.items()):
    here = several.data.isel(prompt=number)
    last = int((here["place"].values >= 0).sum()) - 1
    rank = here["target_rank"].isel(position=last, target=targets.index(answer))
    first = next(int(layer) for layer in rank["layer"].values if (rank.sel(layer=slice(layer, None)) == 1).all())
    depths.append(first)
    print(f"on top to the end from layer {first:2}: {text}{answer}")

rng = np.random.default_rng(0)
means = np.array(depths)[rng.integers(0, len(depths), (2000, len(depths)))].mean(1)
low, high = np.quantile(means, (0.025, 0.975))
mean_depth = float(np.mean(depths))
print(f"mean {mean_depth:.1f}, 95 % interval over facts [{low:.1f}, {high:.1f}]")

# %% [markdown]
# On the demo model: in the last layer for six of eight, in layer 27 and 28 for the other two; the mean is 28.6 [28.1, 29.0]. So late
# a decision says more about the lens than about the model: in [00_hello](00_hello.ipynb), changing the subject makes little difference from layer
# 24 on. By then the city *is* at the last position, and the lens cannot read it yet.
#
# The facts were chosen because the model knows them, so this is about known facts.
#
# ## 3. What the lens does not say
#
# The unembedding was trained for the last layer's states alone. That it makes sense at others is a property of *residual*
# networks, and it holds less the further down one looks. Early rows of a lens are often not "what the model thinks" but
# what a reading glass made for another distance shows. In some families (GPT-Neo, OPT, BLOOM) it shows little below the last
# few layers (Belrose et al. 2023). So: *absence of a token in the lens is no evidence of its absence in the state.*
#
# > **What do you expect?** If a layer's states are only shifted and turned against those of the last layer, what would a
# > better glass look like? How would you know that it is better and has not just learned the answers?
#
# A **tuned lens** puts an affine map between layer and unembedding, trained to predict the last layer. Here you train one
# for four layers: by ridge regression of the *difference* between the last layer's state and this one's, on text that
# the model writes itself. Training and testing use different texts.

# %% tags=["long", "varies"]
STARTS = [
    "Once upon a time", "The history of", "In the kitchen", "My favourite book", "The government said", "Water is",
    "To solve the equation", "The first computer", "She walked into", "Plants need", "The war began", "A good teacher",
    "The river", "Music has", "In the morning", "The scientists found", "He opened the door", "The market price",
    "Children learn", "The moon",
]
TUNED = [round(LAST * part) for part in (0.28, 0.48, 0.69, 0.9)]
LENGTH = 32

with model.session():
    texts = [].save()
    with model.generate(STARTS, max_new_tokens=LENGTH, do_sample=True) as tracer:
        torch.manual_seed(0)
        written = tracer.result
    texts.extend(row.tolist() for row in written)

print(len(texts), "texts, the first:", repr(model.tokenizer.decode(texts[0], skip_special_tokens=True))[:90])

# %% [markdown]
# Now the states, and the regression, in one job. The states of 20 texts are some megabytes; what comes back is four
# matrices. (The ridge strength was fixed beforehand, not tuned on the test texts.) As a control, `shifted` adds the mean difference and no
# matrix: how much of the gain is only a shift, the same for every token?

# %% tags=["long", "varies"]
end = model.tokenizer.eos_token_id
ids = [[token for token in row if token not in (end, model.tokenizer.pad_token_id)] for row in texts]
train, test = ids[:16], ids[16:]
RIDGE = 300.0

with model.session():
    fitted, shifted = {}.save(), {}.save()
    states = {layer: [] for layer in TUNED}
    finals = []
    for row in train:
        with model.trace(row):
            for layer in TUNED:
                states[layer].append(layers[layer].output[0, 1:])
            finals.append(layers[LAST].output[0, 1:])
    final = torch.cat(finals)
    for layer in TUNED:
        h = torch.cat(states[layer])  # (tokens, width)
        centre, goal = h.mean(0), (final - h).mean(0)
        x, y = h - centre, (final - h) - goal
        matrix = torch.linalg.solve(x.T @ x + RIDGE * torch.eye(x.shape[1]), x.T @ y).T
        fitted[layer] = (matrix, goal - matrix @ centre)
        shifted[layer] = (torch.zeros_like(matrix), goal)

print({layer: tuple(matrix.shape) for layer, (matrix, _) in fitted.items()}, f"trained on {sum(map(len, train))} tokens")

# %% [markdown]
# > **What do you expect?** On the four texts that were not used, at which layers will the tuned lens be closer to the final
# > distribution than the plain one: everywhere, early, late? And will it be closer than the shift?

# %% tags=["long", "varies"]
lenses = {"plain": None, "shifted": shifted, "tuned": fitted}
found = {name: edif.logit_lens(model, test, layers=TUNED, top=1, tuned=maps) for name, maps in lenses.items()}
far = {}
print("layer   KL plain   shifted   tuned   tuned − shifted, over 4 test texts")
for layer in TUNED:
    each = {name: np.array([float(one.data["kl"].sel(layer=layer).isel(prompt=n).mean()) for n in range(len(test))]) for name, one in found.items()}
    far[layer] = {name: float(values.mean()) for name, values in each.items()}
    gain = each["tuned"] - each["shifted"]
    print(f"{layer:5}   {far[layer]['plain']:8.2f}   {far[layer]['shifted']:7.2f}   {far[layer]['tuned']:5.2f}   {gain.mean():+.2f} (from {gain.min():+.2f} to {gain.max():+.2f})")

# %% [markdown]
# On the demo model the tuned lens is closer at every layer (at layer 14: KL 3.99 instead of 16.82); but most of that is the *shift* (5.21), which
# knows nothing of the token at hand. What the matrix adds is smaller (−1.22, in all four texts), and at layer 26 nothing that can be told from zero
# (−0.20, from −0.71 to +0.70). Without that control the matrix would have had all the credit.
#
# A few hundred tokens are little for matrices of 576 × 576: a published tuned lens is trained on millions. This one shows the
# principle and no more; it should not be used for research.
#
# ## What may be concluded
#
# - The lens shows *when the state can be read by the unembedding*, and not when the model "knows".
# - Nothing is shown about causes: a token may be readable at a layer and be used by nothing. For that,
#   [patch](04_activation_patching.ipynb).
#
# ## Exercises
#
# **Exercise 1.** Does the *MLP's* output alone point to " Paris"? Read the lens of the site `mlp` at the last position and
# give the layer with the best rank of " Paris".

# %%
# your code


# %% [markdown]
# <details><summary>Solution of exercise 1</summary>
#
# ```python
# mlp = edif.logit_lens(model, prompt, site="mlp", positions=[-1], targets=[" Paris"])
# rank = mlp.data["target_rank"].isel(prompt=0, position=0, target=0)
# best = int(rank["layer"][int(rank.values.argmin())])
# print(f"best rank {int(rank.min())} at layer {best}")
# ```
#
# On the demo model: rank 222 of 49,152, at layer 24. It points there, weakly: no MLP alone writes the answer, and the answer of the last layer is a sum.
#
# </details>
#
# **Exercise 2.** Which tokens of the prompt were hard to predict? Give the cross-entropy of each token of *"The Eiffel Tower
# is in the city of"* at the last layer, from `next_log_probability`.

# %%
# your code


# %% [markdown]
# <details><summary>Solution of exercise 2</summary>
#
# ```python
# last = lens.data.isel(prompt=0).sel(layer=LAST)
# surprise = {str(last["token"].values[n + 1]): round(-float(last["next_log_probability"][n]), 2) for n in range(8)}
# print(surprise)
# ```
#
# On the demo model " Tower" costs 0.08 nats: after "Eiffel" hardly anything else comes. The beginning of the name is the hard part: " E" 9.73,
# "iffel" 6.05.
#
# </details>
#
# ## Sources
#
# nostalgebraist (2020), *interpreting GPT: the logit lens*, LessWrong. Belrose, Furman, Smith, Halawi, Ostrovsky, McKinney,
# Biderman & Steinhardt (2023), *Eliciting Latent Predictions from Transformers with the Tuned Lens*, arXiv:2303.08112.
