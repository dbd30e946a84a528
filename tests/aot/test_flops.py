"""FLOPs of traced programs: of single operations by hand, of T5's programs by a closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.counts import Counts
from pagap_jax.aot.flops import count_flops
from pagap_jax.aot.programs import Shapes, programs_of
from pagap_jax.jobs.align import Objective
from pagap_jax.jobs.pair_origins import Offline
from pagap_jax.model.attention_blocks import Blocks
from pagap_jax.model.config import t5_1_1
from pagap_jax.model.fused_attention import KeyMask, fused_attention
from pagap_jax.model.sharding import make_mesh
from pagap_jax.train.optimizer import adafactor

A, B = np.ones((4, 6), np.float32), np.ones((6, 5), np.float32)
PRODUCT = 2 * 4 * 6 * 5


def flops(function, *arguments, trips=1):
    return count_flops(jax.jit(function).trace(*arguments).jaxpr.jaxpr, trips)


def test_a_product_is_two_for_each_multiplication():
    assert flops(lambda a, b: a @ b, A, B) == PRODUCT
    batched = flops(
        lambda a, b: jnp.einsum("nij,njk->nik", a, b), A[None].repeat(3, 0), B[None].repeat(3, 0)
    )
    assert batched == 3 * PRODUCT


def test_a_scan_counts_as_often_as_it_turns():
    def scanned(a, b):
        return jax.lax.scan(lambda sum_, _: (sum_ + jnp.sum(a @ b), None), 0.0, length=7)[0]

    assert flops(scanned, A, B) == 7 * PRODUCT


def test_a_loop_without_a_number_counts_as_often_as_is_said():
    def looped(a, b):
        return jax.lax.while_loop(lambda x: x < 100, lambda x: x + jnp.sum(a @ b), 0.0)

    assert flops(looped, A, B, trips=5) == 5 * PRODUCT


def test_of_branches_the_dearest():
    def branching(a, b):
        return jax.lax.cond(a[0, 0] > 0, lambda: jnp.sum(a @ b), lambda: 0.0)

    assert flops(branching, A, B) == PRODUCT


def test_what_is_computed_again_counts_again():
    def loss(a, b):
        return jnp.sum(jnp.sin(a @ b) ** 2)

    def again(a, b):
        return jax.checkpoint(loss)(a, b)

    assert flops(jax.grad(loss), A, B) == 2 * PRODUCT  # the product, and the gradient of `a`
    assert flops(jax.grad(again), A, B) == 3 * PRODUCT


def test_a_kernel_on_every_device_counts_what_it_says():
    """Two products forward, five backward, of which one is computed again."""
    blocks = Blocks(queries=8, keys=8, lanes=16)
    mask = KeyMask(jnp.ones((8, 32), bool), blocks)
    x = jnp.ones((8, 32, 4 * 8))

    def attend(queries, keys, values):
        return jnp.sum(fused_attention(queries, keys, values, mask, None, head_dim=8))

    product = 2 * 8 * 4 * 32 * 32 * 8
    for partitions in (1, 4):
        with jax.set_mesh(make_mesh(partitions)):
            gradient = jax.jit(jax.grad(attend, (0, 1, 2))).trace(x, x, x).jaxpr.jaxpr
            assert flops(attend, x, x, x) == 2 * product
        assert count_flops(gradient, 1) == 7 * product
        assert count_flops(gradient, 1, again=False) == 6 * product


def trace(job, batch_size, size="large", **settings):
    """FLOPs of a job's first program for the paper's lengths, of four layers each."""
    layers = {"num_encoder_layers": 4, "num_decoder_layers": 4}
    model = dataclasses.replace(t5_1_1(size, dropout_rate=0.0, **settings), **layers)
    shapes = Shapes(make_mesh(), prompt_length=1024, response_length=128)
    arguments = {"model": model, "optimizer": adafactor(), "batch_size": batch_size}
    arguments |= {"input_length": 1024}
    arguments |= {"pair_origin": Offline(), "objective": Objective("ipo", beta=0.1)}
    program = programs_of(job, shapes, arguments)[0]
    with jax.set_mesh(shapes.mesh):
        traced = program.function.trace(*program.arguments)
    return count_flops(traced.jaxpr.jaxpr, 128), Counts(model, batch_size, 1024, 2, 128)


@pytest.mark.parametrize(("size", "scan_layers"), [("large", True), ("small", False)])
def test_an_offline_step_is_four_forward_passes(size, scan_layers):
    """The policy's, twice that backward, the reference's; and logits once more (by chunks)."""
    found, counts = trace("align", 32, size, scan_layers=scan_layers)
    again = 2 * 32 * 2 * 128 * counts.config.emb_dim * counts.config.vocab_size
    assert found == pytest.approx(4 * counts.forward() + again, rel=0.01)


def test_a_fine_tuning_step_is_three_forward_passes():
    found, counts = trace("sft", 64)
    assert found == pytest.approx(3 * counts.forward(), rel=0.05)


def test_recomputation_is_a_fourth():
    found, counts = trace("sft", 64, remat_policy="full")
    assert found == pytest.approx(4 * counts.forward(), rel=0.05)


def test_a_preference_model_s_step_is_three_passes_of_its_encoder():
    found, counts = trace("preference_model", 32)
    expected = 3 * Counts(counts.config, 32, 1024, 1, 1).forward()
    assert found == pytest.approx(expected, rel=0.05)
