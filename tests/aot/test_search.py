"""Which settings a search tries next, from what the compiler said of those before."""

import dataclasses
import types

import pytest

from pagap_jax.accelerators import slices_of
from pagap_jax.aot import search as searching
from pagap_jax.aot.compiling import Report
from pagap_jax.aot.job import Job
from pagap_jax.aot.search import _with_less, activation_bytes, fewest_microbatches
from pagap_jax.errors import ConfigError
from tests.fixtures.tiny import CONFIG

GIB = 2.0**30


def job(number=1, batch_size=16, remat_policy="none"):
    model = dataclasses.replace(CONFIG, remat_policy=remat_policy)
    arguments = {"num_microbatches": number, "batch_size": batch_size, "model": model}
    return Job("sft", arguments, 8, 4, 1, 1)


def update(temporaries, parameters=2.0, limit=16.0, frozen=0.0):
    """A report of an update that needs so many GiB."""
    hbm = {"parameters": parameters, "optimizer": 0.0, "frozen models": frozen}
    hbm |= {"temporaries": temporaries, "total": parameters + frozen + temporaries}
    return Report(
        "train step", False, {k: v * GIB for k, v in hbm.items()}, limit * GIB, 1.0, 1.0, {},
        {"compute": 1.0}, 0.0,
    )  # fmt: skip


def test_activations_are_what_gradients_and_their_sum_leave():
    assert activation_bytes(job(1), update(10.0)) == 8 * GIB
    assert activation_bytes(job(2), update(10.0)) == 6 * GIB


@pytest.mark.parametrize(
    ("number", "temporaries", "parts"),
    [
        (1, 18.0, 2),  # 2 held, 2 + 2 of gradients, 16 / 2 of activations
        (1, 34.0, 4),
        (2, 20.0, 4),  # 16 of activations in halves already
        (1, 600.0, None),  # more parts than rows
    ],
)
def test_the_fewest_microbatches(number, temporaries, parts):
    assert fewest_microbatches(job(number), update(temporaries), ()) == parts


def test_no_microbatches_make_room_for_gradients():
    assert fewest_microbatches(job(), update(18.0, parameters=6.0), ()) is None


def read(settings):
    remat_policy = settings.get("REMAT_POLICY", "'none'").strip("'")
    return job(settings.get("NUM_MICROBATCHES", 1), remat_policy=remat_policy)


def tried(report, settings, said=()):
    return list(_with_less(read, settings, report, said))


def test_microbatches_come_before_recomputation():
    spread = {"NUM_PARTITIONS": 1}
    full = spread | {"REMAT_POLICY": "'full'"}
    assert tried(update(18.0), spread) == [spread | {"NUM_MICROBATCHES": 2}, full]
    # Recomputation starts from the whole batch again, and is tried once.
    assert tried(update(600.0), spread | {"NUM_MICROBATCHES": 16}) == [full]
    assert tried(update(18.0), full) == [full | {"NUM_MICROBATCHES": 2}]
    assert tried(update(600.0), full) == []


def test_caches_are_cut_last(compiler):
    """An online job samples for half of its prompts at a time."""
    origin = types.SimpleNamespace(num_sampling_parts=2)
    report = update(600.0)
    report = dataclasses.replace(report, hbm=report.hbm | {"caches": 4 * GIB})

    def read(settings):
        found = job(16, remat_policy="full")
        return dataclasses.replace(found, arguments=found.arguments | {"pair_origin": origin})

    assert list(_with_less(read, {}, report, ())) == [{"NUM_SAMPLING_PARTS": 4}]
    assert not list(_with_less(read, {}, report, ("NUM_SAMPLING_PARTS",)))
    lines = searching.advice(read, slices_of("v5e")[0], [report])
    assert any("NUM_SAMPLING_PARTS=4: about 2.00 GiB less" in line for line in lines)


def test_what_the_user_says_stays():
    assert tried(update(18.0), {}, ("REMAT_POLICY", "NUM_MICROBATCHES")) == []


def test_nothing_helps_a_program_that_updates_nothing():
    report = update(18.0)
    hbm = {k: v for k, v in report.hbm.items() if k != "optimizer"}
    assert tried(dataclasses.replace(report, hbm=hbm), {}) == []


@pytest.fixture
def compiler(monkeypatch):
    """Stands for the compiler: what chips hold, what updates need, and what it was asked for."""
    asked, held, needed = [], {}, {}

    def compile_job(job, slice_, all_programs):
        number = job.arguments["num_microbatches"]
        key = (str(slice_), number, job.arguments["model"].remat_policy)
        asked.append(key)
        fits = needed.get(key, 99.0) <= slice_.accelerator.hbm
        report = update(needed.get(key, 99.0) - 2.0, limit=slice_.accelerator.hbm)
        return [dataclasses.replace(report, fits=fits)]

    monkeypatch.setattr(searching, "require_compiler", lambda: None)
    monkeypatch.setattr(searching, "compile_job", compile_job)
    monkeypatch.setattr(searching, "hold", lambda job, slice_: held.get(str(slice_), 4.0) * GIB)
    return asked, held, needed


def test_a_search_goes_from_slice_to_slice_and_compiles_what_may_fit(compiler):
    asked, held, needed = compiler
    held["v5e:1x1"] = 15.5  # not worth a compilation
    needed |= {
        ("v6e:1x1", 1, "none"): 80.0, ("v6e:1x1", 4, "none"): 40.0, ("v6e:1x1", 1, "full"): 34.0,
        ("v6e:1x1", 2, "full"): 32.0, ("v5e:2x2", 1, "none"): 20.0, ("v5e:2x2", 2, "none"): 15.0,
    }  # fmt: skip
    said = []
    found = searching.search(read, slices_of("v5e,v6e"), (), said.append)
    assert str(found.slice) == "v5e:2x2" and found.settings["NUM_MICROBATCHES"] == 2
    assert found.reports[-1].fits and asked[-1] == ("v5e:2x2", 2, "none")
    assert asked[0] == ("v6e:1x1", 1, "none") and ("v6e:1x1", 1, "full") in asked
    assert len(set(asked)) == len(asked)  # nothing is compiled twice
    assert said[0].startswith("v5e:1x1: has to hold 15.5 of 15.75 GiB")


def test_a_search_that_finds_nothing_gives_its_last_attempt(compiler):
    asked, held, _ = compiler
    found = searching.search(read, slices_of("v5e:1x1,v6e:1x1"), (), lambda _: None)
    assert str(found.slice) == "v6e:1x1" and not found.reports[-1].fits
    held |= {"v5e:1x1": 20.0, "v6e:1x1": 40.0}
    asked.clear()
    assert searching.search(read, slices_of("v5e:1x1,v6e:1x1"), (), lambda _: None) is None
    assert not asked


def test_slices_of_several_generations_in_order():
    first = [str(one) for one in slices_of("v6e,v4,v5p,v5e")[:6]]
    assert first == ["v5e:1x1", "v6e:1x1", "v5e:2x2", "v4:2x2x1", "v6e:2x2", "v5p:2x2x1"]
    assert len(slices_of("v5p:2x2x1,v5p")) == len(slices_of("v5p"))
    assert [str(one) for one in slices_of("v6e:4x4,v5p:2x2x1")] == ["v5p:2x2x1", "v6e:4x4"]
    with pytest.raises(ConfigError, match="found 'v9', expected one of v4"):
        slices_of("v4,v9")
