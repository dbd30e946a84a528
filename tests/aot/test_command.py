"""What `pagap compile` refuses before it compiles anything, and which job it takes."""

import pytest

from pagap_jax.accelerators import ACCELERATORS, parse_slice, slices
from pagap_jax.aot.command import run_command
from pagap_jax.aot.compiling import raise_if_out_of_memory
from pagap_jax.aot.job import configure
from pagap_jax.errors import ConfigError, RetryError

SFT = ["--gin_file=jobs/sft.gin", "--gin_file=sizes/tiny.gin", "--gin_file=data/tickets.gin"]


@pytest.mark.parametrize(
    ("topology", "said"),
    [
        ("v5p:4x4x3", "found '4x4x3' after the colon, expected one of 2x2x1"),
        ("v5p", "found 'nothing' after the colon"),
        ("v9:2x2", "found 'v9', expected one of v4, v5e, v5p, v6e"),
    ],
)
def test_a_slice_that_is_none(topology, said):
    with pytest.raises(ConfigError, match=said):
        run_command([*SFT, f"--topology={topology}"])


def test_the_job_is_the_one_that_the_files_bind():
    assert configure(SFT) == "sft"
    assert configure(["--gin_file=gin_configs/studies/paper/golden.gin"]) == "preference_model"
    with pytest.raises(ConfigError, match="the gin files configure no job, expected one job"):
        configure(["--gin_file=sizes/tiny.gin"])


def test_a_misspelt_setting_is_refused():
    with pytest.raises(ConfigError, match="NUM_PARTITION "):
        configure([*SFT, "--gin.NUM_PARTITION=2"])


def test_slices_of_one_host_and_of_several():
    hosts = {
        str(s): (s.chips, s.hosts, s.accelerator_type) for a in ACCELERATORS for s in slices(a)
    }
    assert hosts["v5p:2x2x1"] == (4, 1, "v5p-8")
    assert hosts["v5p:4x4x4"] == (64, 16, "v5p-128")
    assert hosts["v5e:2x4"] == (8, 1, "v5litepod-8")
    assert hosts["v5e:4x4"] == (16, 4, "v5litepod-16")
    assert hosts["v6e:16x16"] == (256, 64, "v6e-256")
    assert hosts["v4:2x2x2"] == (8, 2, "v4-16")
    assert str(parse_slice("v4:2x2x2")) == "v4:2x2x2"


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory")]
)
def test_a_compiler_without_memory_ends_with_a_sentence(error):
    with pytest.raises(RetryError, match="sampler: TPUs' compiler ran out of this machine's mem"):
        raise_if_out_of_memory("sampler", error)
    raise_if_out_of_memory("sampler", RuntimeError("INTERNAL: Mosaic failed"))  # a fault
