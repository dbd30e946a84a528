"""Compilations are counted, reported and cached."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pagap_jax import compilation
from pagap_jax.compilation import Compilations, keep_compilations


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
