"""`pagap compile` with TPUs' real compiler on tiny models: `make pods` installs it and runs these.

In processes of their own: the compiler comes with a TPU backend that other tests have no use for.
"""

import importlib.util
import json
import math
import os
import subprocess
import sys

import jax
import pytest

from pagap_jax.errors import RetryError
from pagap_jax.model.config import T5Config
from tests.fixtures import toy
from tests.fixtures.tiny import abstract_params

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="TPUs' compiler isn't here: make pods"
)
FILES = ["--gin_file=sizes/tiny.gin", "--gin_file=data/tickets.gin"]
ONLINE = ["--gin_file=jobs/align_online.gin", *FILES, "--gin.JUDGE_MODEL=%PROXY_MODEL"]
SFT = ["--gin_file=jobs/sft.gin", *FILES]


def run(*command):
    path = os.pathsep.join([str(toy.ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", *command], env=os.environ | {"PYTHONPATH": path}, cwd=toy.ROOT,
        capture_output=True, text=True, timeout=toy.TIME_LIMIT,
    )  # fmt: skip


def compiled(*arguments, exit_code=0):
    """What `pagap compile` prints, read."""
    result = run("pagap_jax.main", "compile", *arguments, "--json")
    if result.returncode < 0 or result.returncode == RetryError.exit_code:
        said = result.stderr or "nothing: this machine's memory may be too small"
        pytest.fail(f"TPUs' compiler ended with {result.returncode}, and said {said}", False)
    assert result.returncode == exit_code, result.stderr
    return json.loads(result.stdout) if exit_code in (0, 3) else result.stderr


@pytest.fixture(scope="module")
def data_parallel():
    return compiled(*SFT, "--topology=v5e:2x2", "--gin.BATCH_SIZE=64")


def number_of_parameters():
    """Of the built-in study's policy, from the numbers of sizes/tiny.gin."""
    config = T5Config(
        vocab_size=72, emb_dim=64, num_heads=2, head_dim=32, mlp_dim=128, num_encoder_layers=2,
        num_decoder_layers=2, mlp_activations=("gelu", "linear"), num_segments=3,
    )  # fmt: skip
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract_params(config)))


def test_parameters_take_four_bytes_each(data_parallel):
    (program,) = data_parallel["programs"]
    assert program["hbm"]["parameters"] == 4 * number_of_parameters()
    assert program["hbm"]["total"] == pytest.approx(
        sum(v for k, v in program["hbm"].items() if k != "total")
    )


def test_data_parallel_gradients_are_added_up_once(data_parallel):
    """In float32."""
    (program,) = data_parallel["programs"]
    added_up = program["collectives"]["all-reduce"]
    assert added_up == pytest.approx(4 * number_of_parameters(), rel=0.05)
    assert not set(program["collectives"]) - {"all-reduce"}


def test_one_chip_sends_nothing():
    report = compiled(*SFT, "--topology=v6e:1x1", "--gin.BATCH_SIZE=64")
    assert report["chips"] == 1 and report["programs"][0]["collectives"] == {}
    assert report["programs"][0]["seconds"]["interconnect"] == 0


@pytest.mark.parametrize("topology", ["v4:2x2x1", "v5p:2x2x1"])
def test_the_online_step_compiles_fully_sharded(topology):
    settings = ["--gin.PARAMETER_PARTITIONING_DIMS=2", "--gin.NUM_PARTITIONS=2"]
    (program,) = compiled(*ONLINE, f"--topology={topology}", *settings)["programs"]
    assert program["program"] == "online step" and program["fits"]
    assert program["hbm"]["caches"] > 0
    (whole,) = compiled(*ONLINE, f"--topology={topology}")["programs"]
    assert program["hbm"]["parameters"] < 0.3 * whole["hbm"]["parameters"]


def test_slices_are_compiled_for_together():
    settings = ["--topology=v5p:2x2x1", "--gin.NUM_SLICES=2", "--gin.BATCH_SIZE=64"]
    (program,) = compiled(*SFT, *settings)["programs"]
    assert program["fits"] and program["seconds"]["interconnect"] > 0


def test_what_does_not_fit_is_exit_3():
    sizes = [
        "--gin_file=jobs/sft.gin",
        "--gin_file=sizes/xxl.gin",
        "--gin_file=data/t5_vocabulary.gin",
    ]
    report = compiled(*sizes, "--topology=v5e:2x2", "--lengths=64,8", exit_code=3)
    (program,) = report["programs"]
    assert not report["fits"] and program["hbm"]["total"] > program["limit"]
    assert report["would_help"][0].startswith("--gin.PARAMETER_PARTITIONING_DIMS=2: ")


def test_a_search_finds_the_smallest_slice():
    report = compiled(*SFT, "--topology=v5e", "--search", "--gin.BATCH_SIZE=64")
    assert report["fits"] and report["topology"] == "v5e:1x1"
    assert report["settings"]["PARAMETER_PARTITIONING_DIMS"] == 2


def test_recomputation_costs_flops_that_are_not_the_model_s():
    """Utilisation is of the model's; and memory is never less than what goes in."""
    sft = [*SFT, "--topology=v6e:1x1", "--gin.BATCH_SIZE=64"]
    (plain,) = compiled(*sft)["programs"]
    (full,) = compiled(*sft, "--gin.policy/T5Config.remat_policy='full'")["programs"]
    assert plain["model_flops"] == plain["flops"] == full["model_flops"] < 0.9 * full["flops"]
    for program in (plain, full):
        held = sum(program["hbm"][kind] for kind in ("parameters", "optimizer", "batch"))
        assert program["hbm"]["total"] > held and program["hbm"]["temporaries"] > 0


@pytest.mark.parametrize("topology", ["v4:2x2x1", "v5e:1x1", "v5p:2x2x1", "v6e:1x1"])
def test_kernels_compile_for_every_generation(topology):
    """One layer of T5 Large at the paper's lengths, 8 prompts."""
    options = ["--topology", topology, "--layers", "1", "--ways", "kernels", "--bundles", "--json"]
    result = run("benchmarks.tpu", "--programs", "layer", "sampler", *options)
    assert result.returncode == 0, result.stderr
    layer, sampler = map(json.loads, result.stdout.splitlines())
    (calls, forward), (_, backward) = (
        layer["kernels"][f"attention_{way}"] for way in ("forward", "backward")
    )
    # 2^17 tiles of 8 x 128 logits, of which each takes a few operations; a bundle holds four.
    assert calls == 1 and 2**17 / 2 < forward < 0.8e6 and forward < backward < 2.6e6
    assert sampler["kernels"]["token_attention"][0] == 2 * 128
