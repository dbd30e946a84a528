# %% [markdown]
"""# What do trained policies say?

The models of a finished study as objects that take texts. `make demo` makes `studies/tiny`;
another study goes as well: `STUDY_DIR=studies/mine python examples/library.py`.
"""

# %%
import os
from pathlib import Path

import pagap_jax
from pagap_jax.data.prompts import decoded
from pagap_jax.jobs.inputs import open_pairs

seed = Path(os.environ.get("STUDY_DIR", "studies/tiny")) / "seed_0"
online = sorted(seed.glob("online_*"))[0]

# %% [markdown]
# A run says by itself which model, vocabulary, lengths and sampling it has. A run's folder is its
# last checkpoint; `online / "checkpoints" / "100"` is an earlier one.

# %%
sft = pagap_jax.load_policy(str(seed / "sft"))
aligned = pagap_jax.load_policy(str(online))
golden = pagap_jax.load_preference_model(str(seed / "golden"))

# %% [markdown]
# Prompts are texts. Here they are those of the validation data.

# %%
pairs = open_pairs(str(seed / "d_golden"), "validation", sft.texts.vocabulary)
prompts = decoded(pairs.prompt[range(8)], sft.texts.vocabulary)

# %%
before = sft.sample(prompts, n=2, seed=0)
after = aligned.sample(prompts, n=2, seed=0)
for prompt, old, new in zip(prompts[:3], before, after, strict=False):
    print(prompt, "\n  π_sft: ", old[0], "\n  online:", new[0], "\n")

# %% [markdown]
# Log-probs of responses, in nats: how far has the policy moved on its own samples? Their mean
# difference estimates KL(online ‖ π_sft).

# %%
samples = [response for answer in after for response in answer]
repeated = [prompt for prompt in prompts for _ in range(2)]
shift = aligned.log_probs(repeated, samples) - sft.log_probs(repeated, samples)
print(f"KL from π_sft: about {shift.mean():.2f} nats a response, from {len(shift)} samples")

# %% [markdown]
# The golden model's verdict on pairs, asked in both orders.

# %%
verdicts = golden.judge(prompts, [new[0] for new in after], [old[0] for old in before])
wins = sum(verdict.choice == "a" for verdict in verdicts)
print(f"online is preferred to π_sft on {wins} of {len(verdicts)} prompts")
print(verdicts[0])
