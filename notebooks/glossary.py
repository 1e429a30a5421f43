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
# # Glossary
#
# The words of the tutorials, in the order of the alphabet. Each is explained where it is first used, too.
#
# **Ablation.** Taking something out (a head's output, a direction) to see whether it was needed.
#
# **Activation.** Any number that the model computes while it reads: a state, a head's output, a logit.
#
# **Activation patching.** Putting an activation of one run into another run. [04](04_activation_patching.ipynb)
#
# **Attention head.** A part of a layer that brings information from other positions to this one. Only heads do that.
#
# **Attribution patching.** An estimate of patching by gradients: fast, and wrong where the model is far from linear. [04](04_activation_patching.ipynb)
#
# **Bootstrap interval.** The range in which a mean lies in 95 % of samples drawn anew from the same prompts. It says how much the mean
# hangs on *these* prompts, not whether the prompts were well chosen.
#
# **BOS.** A token that marks the beginning of a text. Some models are trained with it; with and without it results differ, so
# it is always shown.
#
# **Causal trace.** Corrupt the subject of a fact, restore one place, see whether the answer comes back. [05](05_causal_tracing.ipynb)
#
# **Clean and corrupt run.** The run with the answer that is explained, and a run in which something decisive differs.
#
# **Contrast pair.** Two texts that differ in one property and, as far as possible, in nothing else. [03](03_protective_instinct.ipynb)
#
# **Control.** What the same procedure says where there is nothing to find: shuffled labels, random directions, an irrelevant change, a rival explanation.
#
# **Deferred execution.** A traced block is taken as a whole, sent, and run beside the weights, inside one forward pass. [00](00_hello.ipynb)
#
# **Denoising, noising.** Patching clean into corrupt (what suffices), or corrupt into clean (what is necessary). [04](04_activation_patching.ipynb)
#
# **Difference of means.** The mean state of the texts with a property minus that of the texts without: a direction. [03](03_protective_instinct.ipynb)
#
# **Entropy.** How undecided a distribution is, in nats; 0 is certain.
#
# **Forward pass.** One computation of the model from tokens to logits.
#
# **Hidden test.** A test of an assignment that students do not see. [10](10_teach.ipynb)
#
# **Indirect effect, total effect.** In a causal trace: what the corruption takes from the answer's probability (total), and what one restored place gives back
# (indirect). [05](05_causal_tracing.ipynb)
#
# **Job.** One trace or session that you have sent; it is yours, and not the kernel's that sent it.
#
# **Kept value.** A value that `edif.keep` has left beside the model. [09](09_big_results.ipynb)
#
# **Key.** The secret word that says who sends a job. [01](01_keys.ipynb)
#
# **KL divergence.** How much one distribution differs from another, in nats; 0 is equal. Not symmetric: it is said from which to which.
#
# **Lab hour.** A time in which each student of a course has a larger weight than others. [10](10_teach.ipynb)
#
# **Layer.** One of the model's equal steps; counting starts at 0.
#
# **Log-odds.** The difference of two tokens' logits: +1 means that the first is 2.7 times as probable.
#
# **Logit.** The score of a token before it becomes a probability.
#
# **Logit lens.** What the model would say if it stopped after a layer. [06](06_logit_lens.ipynb)
#
# **MLP.** The part of a layer that works on each position alone.
#
# **Nat.** The unit of entropy and KL divergence with natural logarithms; one nat is 1.44 bits.
#
# **Normalised logit difference.** 0 for the corrupt run, 1 for the clean one. Undefined where the two hardly differ.
#
# **Position.** The place of a token in the prompt; counting starts at 0.
#
# **Probe.** A small classifier that reads a property from states. What can be read need not be used. [02](02_gender_bias.ipynb)
#
# **Prompt.** The text that the model reads.
#
# **Quantization.** Storing weights in fewer bits. [08](08_quantization_and_sharding.ipynb)
#
# **Rank correlation.** Whether two lists have the same order, whatever the sizes; 1 is the same order. [08](08_quantization_and_sharding.ipynb)
#
# **Relative depth.** The number of a layer divided by that of the last one, so that models of different depth can be laid side by side.
# [07](07_model_comparison.ipynb)
#
# **Residual stream.** The states that run through all layers; each layer adds to them.
#
# **Seed.** The number from which random draws are made: with the same seed the same draws.
#
# **Session.** Several traces sent as one job. [09](09_big_results.ipynb)
#
# **Sharding.** Spreading one model over several devices, layer by layer. [08](08_quantization_and_sharding.ipynb)
#
# **State (hidden state).** What a layer passes on at one position: a list of numbers, as long as the model is wide.
#
# **Steering.** Moving states along a direction to change what the model says. [02](02_gender_bias.ipynb), [03](03_protective_instinct.ipynb)
#
# **Token.** The piece of text that a model reads and writes; the space before a word belongs to its token.
#
# **Trace.** A block in which a model's inside is read or changed. [00](00_hello.ipynb)
#
# **Tuned lens.** A logit lens with a small trained map for each layer. [06](06_logit_lens.ipynb)
