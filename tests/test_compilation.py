"""Compilations are counted, reported and cached."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pagap_jax import compilation
from pagap_jax.align.online import OnlinePairs
from pagap_jax.align.step import AlignStep, Reduction
from pagap_jax.compilation import Compilations, keep_compilations
from pagap_jax.evaluation.examine import Functions
from pagap_jax.jobs.align import compile_align_step
from pagap_jax.jobs.reference_scores import compile_scorer
from pagap_jax.losses.alignment import AlignmentLoss
from pagap_jax.mapping.judging import compile_judge
from pagap_jax.model.sharding import make_mesh
from pagap_jax.model.transformer import Transformer
from pagap_jax.policies import Policy
from pagap_jax.preference_models import PreferenceModel
from pagap_jax.sampling.methods import SamplingMethod
from pagap_jax.train.optimizer import adam
from tests.fixtures.tiny import CONFIG, SPECIAL


def test_each_new_shape_is_a_program(capsys, monkeypatch):
    monkeypatch.setattr(compilation, "REPORTED_FROM", 0.0)
    function = jax.jit(lambda x: jnp.sum(x * 3) - 1)
    arrays = [np.ones(n, np.float32) for n in (3, 4, 3)]
    with Compilations("align") as compilations:
        for x in arrays:
            function(x)
    assert compilations.number == 2
    function(np.ones(5, np.float32))  # nobody counts any more
    assert compilations.number == 2
    told = capsys.readouterr().out.splitlines()
    assert [line.startswith("align: compiled jit(<lambda>) in ") for line in told[:2]] == [True] * 2
    assert told[2].startswith("align: 2 programs, ")
    assert len(told) == 3


def test_quick_compilations_are_not_told(capsys):
    with Compilations("align"):
        jax.jit(lambda x: x + 1)(np.ones(3, np.float32))
    assert capsys.readouterr().out == ""


@pytest.fixture
def cache_setting():
    before = jax.config.values["jax_compilation_cache_dir"]
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_kept_in_the_user_s_cache_unless_told_otherwise(cache_setting, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep_compilations()  # the tests have a folder of their own
    told = jax.config.values["jax_compilation_cache_dir"]
    assert told is not None and not told.startswith(str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    keep_compilations()
    kept = jax.config.values["jax_compilation_cache_dir"]
    assert kept == str(tmp_path / "pagap_jax" / "compiled")


def programs(b1=0.9, temperature=1.0, **settings):
    """Those of jobs with these settings, whose objects are made anew for each job."""
    transformer, mesh = Transformer(dataclasses.replace(CONFIG, **settings)), make_mesh()
    policy, sampling = Policy(transformer, 16, 4), SamplingMethod(temperature)
    judge = PreferenceModel(transformer, dataclasses.replace(SPECIAL), 16)
    source = OnlinePairs(policy, judge, sampling)
    step = AlignStep(policy, source, AlignmentLoss("ipo"), Reduction("sum"), adam(b1=b1))
    return (
        compile_align_step(step, mesh, True), Functions.compiled(policy, sampling, 0, mesh),
        compile_judge(judge, mesh), compile_scorer(policy, mesh),
    )  # fmt: skip


def same(one, other):
    return [a is b for a, b in zip(one, other, strict=True)]


def test_jobs_of_equal_settings_share_what_is_traced():
    assert same(programs(), programs()) == [True] * 4
    assert same(programs(), programs(b1=0.8)) == [False, True, True, True]
    assert same(programs(), programs(temperature=0.5)) == [False, False, True, True]
    assert same(programs(), programs(dropout_rate=0.2)) == [False] * 4
