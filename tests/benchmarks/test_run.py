"""The benchmark runs, and counts what it says it counts."""

import json

import jax
import numpy as np
import pytest

from benchmarks.counts import Counts, Machine
from benchmarks.measures import T5_1_1_SMALL, TINY
from pagap_jax.model.transformer import Transformer
from pagap_jax.policies import Encoded, Policy
from tests.fixtures import toy
from tests.fixtures.tiny import random_params


def test_counts_of_the_issue_s_example():
    """T5 1.1 small, 8 prompts of 512, 2 responses of 64: 1.16 TFLOP an offline step."""
    counts = Counts(T5_1_1_SMALL, 8, 512, 2, 64)
    assert 4 * counts.forward() == pytest.approx(1.16e12, rel=0.01)
    # At each token: the decoder's 38 million weights, and 8 layers' caches of 8 prompts.
    assert counts.token_bytes == pytest.approx(4 * 38.5e6 + 4 * 2 * 8 * 384 * 8 * 512, rel=0.06)
    machine = Machine(flops=3.4e11, bandwidth=3.4e10)
    assert 8 * 2 * 64 / counts.sampling_seconds(machine) == pytest.approx(870, rel=0.15)


def test_counts_are_the_compiler_s():
    """But for norms, activations and softmax, of which a larger model has a smaller share."""
    policy = Policy(Transformer(TINY), 200, 4)
    params = random_params(TINY)
    prompt, responses = np.ones((2, 256), np.int32), np.ones((2, 2, 4), np.int32)
    counts = Counts(TINY, 2, 256, 2, 4)
    hidden = jax.ShapeDtypeStruct((2, 256, TINY.emb_dim), np.float32)

    def flops(function, *arguments):
        return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]

    encoder = flops(lambda prompt: policy.encode(params, prompt).hidden, prompt)
    assert 1 <= encoder / counts.encoder < 1.3

    def logits(hidden):
        encoded = Encoded(hidden, prompt > 0)
        return policy.logits(params, policy.decode(params, encoded, responses))

    assert 1 <= flops(logits, hidden) / counts.decoder < 1.3


def test_runs_and_writes_results(tmp_path):
    file = tmp_path / "results.json"
    command = ["-m", "benchmarks.run", "--size=tiny", "--rounds=1", f"--results={file}"]
    running = toy.start([*command, f"--profile={tmp_path / 'trace'}"], toy.one_device())
    toy.end([running], 0)
    measures = json.loads(file.read_text())["measures"]
    names = {name.partition(",")[0] for name in measures}
    assert names == {"sampling", "offline step", "preference model", "online step", "evaluation"}
    for name, row in measures.items():
        assert set(row) == {"seconds", "rate", "unit", "ratio_to_reference", "fraction_of_limit"}
        assert all(value > 0 for key, value in row.items() if key != "unit"), name
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))
