"""Every parameter that gin can bind says which values it takes, and refuses others by its name."""

import collections.abc
import importlib
import types
import typing

import pytest

from pagap_jax.configuration import registry
from pagap_jax.configuration.annotations import fits, type_name
from pagap_jax.jobs import JOBS

HUGE, INFINITE, NAN = 10**40, float("inf"), float("nan")
CONTAINERS = (tuple, collections.abc.Sequence, collections.abc.Mapping)


def parameters():
    for job in JOBS.values():
        importlib.import_module(job.function.partition(":")[0])
    importlib.import_module("pagap_jax.checkpoints.vocabulary")
    for selector, _ in registry._entries():
        if selector.startswith("pagap_jax."):
            configurable = registry._configurable(selector)
            for name in configurable.bindable():
                yield f"{configurable.name}.{name}", configurable.hints.get(name)


def members(annotation):
    """What an annotation is made of, values of containers among it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType, *CONTAINERS):
        for argument in arguments[origin is collections.abc.Mapping :]:
            yield from members(argument)
    elif annotation is not Ellipsis:
        yield annotation


def test_no_parameter_takes_any_number():
    for name, hint in parameters():
        assert hint is not None, f"{name} has no type that can be known at run time"
        assert not {int, float} & {*members(hint)}, f"{name}: give it one of pagap_jax.ranges"


def test_what_no_number_may_be_is_refused_everywhere():
    """Also a text, a bool and what isn't a number at all; the message says what is taken."""
    for name, hint in parameters():
        for one in members(hint):
            if typing.get_origin(one) is typing.Annotated and one.__origin__ in (int, float):
                for value in (-HUGE, HUGE, INFINITE, NAN, True, "1"):
                    assert not fits(value, one), (name, value)
                assert type_name(one)[0] in "a0", name  # in words


@pytest.mark.parametrize(
    ("name", "refused", "taken"),
    [
        ("sft.seed", (-1, 2**32, 0.0), (0, 2**32 - 1)),
        ("sft.batch_size", (0, -1, 1.0), (1,)),
        ("sft.model_dir", ("", " ", "a\0b", 3), ("a",)),
        ("sft.vocabulary", (5, "t5", None), ()),
        ("sft.optimizer", (5, "adam", None), ()),
        ("LearningRate.peak", (0, -1.0, 1e39), (1e-3, 1)),
        ("SamplingMethod.temperature", (-1.0, 1e-300), (0, 0.7)),
        ("SamplingMethod.top_p", (0, 1.1), (1, 0.1)),
        ("sample_pairs.num_prompts", (0,), (None, 1)),
        ("Sizes.kl_prompts", (0, None), (1,)),
        ("Sizes.classification_pairs", (0,), (1,)),
        ("prepare.task_feature_lengths", ({"inputs": 1}, {"inputs": 2**20}), ({"inputs": 8},)),
        ("byte_vocabulary.extra_ids", (-1, "x"), (0,)),
        ("T5Config.dtype", ("float99",), ("float32",)),
        ("T5Config.num_segments", (1, -1), (0, 3)),
        ("Plan.seeds", ((0, -1), 3), ((0, 1),)),
        ("study.workers", (0, 10**6), (2,)),
    ],
)
def test_where_the_ranges_end(name, refused, taken):
    hint = dict(parameters())[name]
    assert not any(fits(value, hint) for value in refused)
    assert all(fits(value, hint) for value in taken)
