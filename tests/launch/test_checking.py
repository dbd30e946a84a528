"""What a job would refuse once its hosts are up is refused before anything is sent."""

import pytest

from launch.checking import checked_arguments
from pagap_jax.errors import ConfigError

PLACES = ("--gin.MODEL_DIR='/mnt/b/m'", "--gin.PAIRS_DIR='/mnt/b/p'", "--gin.SEED=0")
ONLINE = (
    "align",
    "--gin_file=studies/tiny/online.gin",
    *PLACES,
    "--gin.SFT_DIR='sft'",
    "--gin.JUDGE_DIR='proxy'",
)
SFT = ("sft", "--gin_file=studies/tiny/sft.gin", *PLACES)
PREPARE = ("prepare", "--gin_file=studies/tiny/prepare.gin", PLACES[0], PLACES[2])


@pytest.mark.parametrize("words", [SFT, PREPARE])
def test_what_fits_is_left_as_it_is(words):
    assert checked_arguments(words, where=16) == list(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (SFT[:-1], "SEED"),
        ((*SFT, "--gin.LERNING_RATE=1"), "LERNING_RATE"),
        ((*SFT, "--gin_file=nothing.gin"), "no gin file 'nothing.gin'"),
        ((*SFT, "--gin.BATCH_SIZE=24"), "BATCH_SIZE=24 isn't a multiple of the 16 data shards"),
        (
            (*SFT, "--gin.NUM_MICROBATCHES=4"),
            "16 data shards of each of NUM_MICROBATCHES=4",
        ),
        ((*ONLINE, "--gin.NUM_SAMPLING_PARTS=4"), "data shards of each of NUM_SAMPLING_PARTS=4"),
        ((*SFT, "--gin.NUM_PARTITIONS=3"), "num_partitions=3 doesn't divide the 16 devices"),
        ((*SFT, "--gin.NUM_SLICES=2"), "NUM_SLICES: found 2, expected --num_slices, 1"),
        ((*SFT, ">log", "| tee"), "found a pipe in '| tee'"),
    ],
)
def test_what_the_job_would_refuse_is_refused(words, message):
    with pytest.raises(ConfigError) as refused:
        checked_arguments(words, where=16)
    assert message in str(refused.value)


def test_a_job_on_several_slices_is_told_so():
    """Without it each would end once its hosts are up, as the devices say otherwise."""
    assert checked_arguments(SFT, 4, num_slices=2) == [*SFT, "--gin.NUM_SLICES=2"]
    said = (*SFT, "--gin.NUM_SLICES=2")
    assert checked_arguments(said, 4, num_slices=2) == list(said)
    assert checked_arguments(PREPARE, 4, num_slices=2) == list(PREPARE)
    with pytest.raises(ConfigError, match="multiple of the 64 data shards"):
        checked_arguments(SFT, 32, num_slices=2)


def test_gin_files_of_the_hosts_own_are_told_of(capsys):
    words = (*SFT, "--gin_file=../source/my.gin", "--gin.ANYTHING=1")
    assert checked_arguments(words, where=16) == list(words)
    assert "../source/my.gin can't be read here, and isn't checked" in capsys.readouterr().err
