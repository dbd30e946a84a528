"""A slice that is known to be too small is refused before anything is sent."""

import pytest

from launch.checking import checked_arguments
from launch.needs import Size, check_room, read_needs
from pagap_jax.accelerators import parse_slice, slices
from pagap_jax.errors import ConfigError, DataError

PAPER = "gin_configs/studies/paper"
PLACES = (
    *("--gin.MODEL_DIR='/mnt/b/m'", "--gin.PAIRS_DIR='/mnt/b/p'", "--gin.SEED=0"),
    *("--gin.SFT_DIR='/mnt/b/sft'",),
)
ONLINE = ("align", f"--gin_file={PAPER}/online.gin", *PLACES, "--gin.JUDGE_DIR='/mnt/b/proxy'")
OFFLINE = ("align", f"--gin_file={PAPER}/offline.gin", *PLACES)
GOLDEN = ("preference_model", f"--gin_file={PAPER}/golden.gin", *PLACES[:3])
XXL, XL = ("--gin.POLICY_SIZE='xxl'",), ("--gin.POLICY_SIZE='xl'",)


@pytest.mark.parametrize(
    ("words", "slice_", "message"),
    [
        (GOLDEN, "v5e:2x2", ": the least that preference_model (golden=xxl) is known to need"
         " (v4:2x2x1 with REMAT_POLICY='full';"),
        ((*ONLINE, *XXL), "v5e-4", "align online (policy=xxl proxy=large)"),
        ((*OFFLINE, *XXL), "v5e:2x2", "align offline (policy=xxl)"),
        ((*ONLINE, *XL), "v6e:1x1", "align online (policy=xl proxy=large)"),
    ],
)  # fmt: skip
def test_a_slice_that_is_too_small_is_refused(words, slice_, message):
    with pytest.raises(ConfigError) as refused:
        checked_arguments(words, parse_slice(slice_))
    assert message in str(refused.value)
    assert "--slice: found " in str(refused.value) and ", expected at least " in str(refused.value)


@pytest.mark.parametrize(
    ("words", "slice_"),
    [
        (GOLDEN, "v5e:2x4"),  # more chips of less memory each
        ((*ONLINE, *XXL, "--gin.PROXY_SIZE='xxl'"), "v5e:2x2"),  # nobody asked the compiler
        ((*GOLDEN, "--gin.BATCH_SIZE=8"), "v5e:2x2"),  # half of the paper's
    ],
)
def test_what_fits_and_what_nobody_knows_is_let_through(words, slice_):
    assert checked_arguments(words, parse_slice(slice_)) == list(words)


PROXY = ("preference_model", f"--gin_file={PAPER}/proxy.gin", *PLACES[:3])
FOLDERS = ("POLICY_DIR", "GOLDEN_RESPONSES_DIR", "GOLDEN_PAIRS_DIR", "GOLDEN_DIR", "PROXY_DIR")
EVALUATE = (
    *("evaluate", f"--gin_file={PAPER}/evaluate.gin", PLACES[0], *PLACES[2:]),
    *(f"--gin.{folder}='/mnt/b/{folder}'" for folder in FOLDERS),
)


@pytest.mark.parametrize("need", read_needs(), ids=lambda need: f"{need.size.job} {need.slice}")
def test_a_row_is_of_a_job_as_the_paper_s_files_configure_it(need, monkeypatch):
    """Else it would speak for no job at all."""
    found = []
    monkeypatch.setattr("launch.checking.check_room", lambda size, *_: found.append(size))
    words = {
        "preference_model": GOLDEN if "golden" in need.size.models else PROXY,
        "sft": ("sft", f"--gin_file={PAPER}/sft.gin", *PLACES[:3]),
        "align online": ONLINE,
        "align offline": OFFLINE,
        "evaluate": EVALUATE,
    }[need.size.job]
    size = next((m for m in need.size.models.split() if m.startswith("policy=")), "")
    more = [f"--gin.POLICY_SIZE='{size.removeprefix('policy=')}'"] if size else []
    settings = [f"--gin.{setting}" for setting in need.settings.split()]
    checked_arguments([*words, *more, *settings], need.slice)
    assert found == [need.size]


def test_several_slices_count_together():
    size = Size("preference_model", "golden=xxl", 16, 1024, 128)
    check_room(size, parse_slice("v5e:2x2"), num_slices=2)
    with pytest.raises(ConfigError, match=r"have 63\.0 GiB"):
        check_room(size, parse_slice("v5e:2x2"))


def test_each_row_fits_on_its_slice_and_refuses_a_smaller_one():
    """A row on a generation's smallest slice has nothing below it there."""
    for need in read_needs():
        assert need.gib_a_chip < need.slice.accelerator.hbm
        check_room(need.size, need.slice)
        least = min(n.gib for n in read_needs() if need.size.is_at_least(n.size))
        for one in slices(need.slice.accelerator.name):
            if one.chips * one.accelerator.hbm < least:
                with pytest.raises(ConfigError):
                    check_room(need.size, one)


def test_a_row_that_does_not_read_is_named(tmp_path):
    table = tmp_path / "needs.csv"
    table.write_text("job,models,batch,prompt_length,response_length,slice,settings,gib_a_chip\n"
                     "sft,policy=large,64,1024,128,v9:1x1,,9.3\n")  # fmt: skip
    with pytest.raises(DataError, match=r"needs\.csv:2: .*found 'v9'"):
        read_needs(table)
