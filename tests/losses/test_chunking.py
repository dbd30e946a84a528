"""Tokens by chunks: the same numbers, less at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pagap_jax.losses.chunking import chunks_within, over_token_chunks

X = np.random.default_rng(0).normal(size=(2, 3, 6, 5)).astype(np.float32)
KERNEL = np.random.default_rng(1).normal(size=(5, 7)).astype(np.float32)


def of_tokens(kernel, x, weight):
    return jax.nn.logsumexp(x @ kernel[None, None], axis=-1) * weight


@pytest.mark.parametrize("chunks", [1, 2, 3, 6])
def test_same_values_and_gradients(chunks):
    weight = np.arange(36, dtype=np.float32).reshape(2, 3, 6)

    def total(kernel, x, chunks):
        y = over_token_chunks(lambda *a: of_tokens(kernel, *a), chunks, x, weight)
        return jnp.sum(y**2), y

    gradient = jax.jit(jax.grad(total, (0, 1), has_aux=True), static_argnums=2)
    (got, values), (expected, expected_values) = (gradient(KERNEL, X, n) for n in (chunks, 1))
    np.testing.assert_allclose(values, expected_values, rtol=1e-6)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_backward_pass_keeps_no_logits():
    """What is saved for it is as large as the input, not as what is made of it."""

    def total(x):
        y = over_token_chunks(lambda x: of_tokens(KERNEL, x, 1.0), 3, x)
        return jnp.sum(y)

    _, backward = jax.vjp(total, X)
    saved = {x.shape for x in jax.tree.leaves(backward) if hasattr(x, "shape")}
    assert (3, 2, 3, 2, 5) in saved  # the input, by chunks
    assert not any(shape[-1:] == (7,) and len(shape) > 4 for shape in saved), saved


@pytest.mark.parametrize(
    "length, size_of_token, size, expected",
    [
        (12, 10, 120, 1),
        (12, 10, 119, 2),
        (12, 10, 59, 3),
        (7, 10, 60, 7),
        (4, 10, 5, 4),
        (1, 9, 1, 1),
    ],
)
def test_chunks_within(length, size_of_token, size, expected):
    assert chunks_within(length, size_of_token, size) == expected
