"""The toy study's models, loaded once for all tests of the library."""

import pytest

import pagap_jax
from pagap_jax.data.reading import read_token_pairs


@pytest.fixture(scope="package")
def study(study):
    """The folder of the toy study's seed."""
    return study.seed


@pytest.fixture(scope="package")
def policy(study):
    """π_sft, whose responses often find no end."""
    return pagap_jax.load_policy(str(study / "sft"))


@pytest.fixture(scope="package")
def judge(study):
    """The golden preference model."""
    return pagap_jax.load_preference_model(str(study / "golden"))


@pytest.fixture(scope="package")
def golden_pairs(study):
    """D_golden's validation pairs: what the golden model said of them, as `relabel` asked it."""
    return read_token_pairs(study / "d_golden", "validation")
