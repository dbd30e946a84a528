"""Slices by the names that people have for them."""

import pytest

from pagap_jax.accelerators import ACCELERATORS, parse_slice, slices, slices_of
from pagap_jax.errors import ConfigError


@pytest.mark.parametrize("name", ACCELERATORS)
def test_every_slice_is_known_by_its_topology_and_by_its_accelerator_type(name):
    for one in slices(name):
        assert parse_slice(str(one)) == parse_slice(one.accelerator_type) == one


@pytest.mark.parametrize(
    ("quota", "topology", "hosts"),
    [
        ("v5litepod-8", "v5e:2x4", 1),
        ("v5e-8", "v5e:2x4", 1),
        ("v5e-16", "v5e:4x4", 4),
        ("v6e-8", "v6e:2x4", 1),
        ("v5p-8", "v5p:2x2x1", 1),  # two cores a chip are counted
        ("v4-32", "v4:2x2x4", 4),
    ],
)
def test_names_of_quotas(quota, topology, hosts):
    assert str(parse_slice(quota)) == topology and parse_slice(quota).hosts == hosts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v6e-7", "found '7' after the hyphen, expected one of 1, 4, 8, 16, 32"),
        ("v5p-4", "found '4' after the hyphen, expected one of 8, 16"),
        ("v7-8", "found 'v7', expected one of v4, v5e, v5p, v6e"),
        ("v5e", "found 'nothing' after the colon"),
        ("v5e-", "found '' after the hyphen"),
    ],
)
def test_other_names_are_refused(text, message):
    with pytest.raises(ConfigError) as refused:
        parse_slice(text)
    assert message in str(refused.value)


def test_a_search_takes_both_kinds_of_name():
    assert slices_of("v5e-8,v5e:2x4,v6e-4") == [parse_slice("v6e:2x2"), parse_slice("v5e:2x4")]
    assert slices_of("v5e")[0] == parse_slice("v5e-1")
