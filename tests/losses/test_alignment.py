"""Losses of a pair against their closed forms, their derivatives and their minima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pagap_jax.losses.alignment import AlignmentLoss, log_ratio_margin, mean_log_ratio

# Chosen, rejected, and the same under the reference: nats a response. h is 3, -1.5, 0 and 12.
SCORES = np.array(
    [[-10.0, -14.0, -11.0, -12.0], [-7.0, -3.0, -6.0, -3.5], [-5, -9, -5, -9], [-1, -30, -8, -25]],
    np.float32,
)
H = np.array([3.0, -1.5, 0.0, 12.0])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# f and df/dh for h, from their formulas (App. B).
CLOSED_FORMS = {
    AlignmentLoss.IPO: (
        lambda h, beta: (beta * h - 0.5) ** 2,
        lambda h, beta: 2 * beta * (beta * h - 0.5),
    ),
    AlignmentLoss.IPO_MARGIN: (
        lambda h, beta: (h - beta / 2) ** 2,
        lambda h, beta: 2 * (h - beta / 2),
    ),
    AlignmentLoss.DPO: (
        lambda h, beta: -np.log(sigmoid(beta * h)),
        lambda h, beta: -beta * sigmoid(-beta * h),
    ),
    AlignmentLoss.SLIC: (
        lambda h, beta: np.maximum(0, 1 - beta * h),
        lambda h, beta: np.where(beta * h < 1, -beta, 0.0),
    ),
}


def evaluate(loss, beta, scores=SCORES):
    """The losses [B] and their derivatives by the four log-probs [B, 4]."""

    def total(scores):
        losses = loss.function(*scores.T, beta)
        return jnp.sum(losses), losses

    (_, losses), gradient = jax.value_and_grad(total, has_aux=True)(jnp.asarray(scores))
    return losses, gradient


def test_every_loss_is_tested():
    assert {*CLOSED_FORMS, AlignmentLoss.BO2} == set(AlignmentLoss)


def test_margin_is_the_difference_of_log_ratios():
    np.testing.assert_allclose(log_ratio_margin(*SCORES.T), H)


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("loss", CLOSED_FORMS, ids=lambda loss: loss.value)
def test_loss_and_gradient(loss, beta):
    closed_form, derivative = CLOSED_FORMS[loss]
    losses, gradient = evaluate(loss, beta)
    np.testing.assert_allclose(losses, closed_form(H, beta), rtol=1e-5, atol=1e-7)
    # h = (chosen - reference_chosen) - (rejected - reference_rejected)
    expected = derivative(H, beta)[:, None] * np.array([1, -1, -1, 1])
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_best_of_2_is_the_likelihood_of_the_chosen_response(beta):
    losses, gradient = evaluate(AlignmentLoss.BO2, beta)
    np.testing.assert_allclose(losses, -SCORES[:, 0])
    np.testing.assert_array_equal(gradient, np.tile([-1.0, 0.0, 0.0, 0.0], (4, 1)))


@pytest.mark.parametrize(
    "loss, beta, margin",
    [
        (AlignmentLoss.IPO, 0.1, 5.0),  # asks for 1 / (2 beta): bigger beta, closer to reference
        (AlignmentLoss.IPO, 1.0, 0.5),
        (AlignmentLoss.IPO_MARGIN, 0.1, 0.05),  # asks for beta / 2: the inverse role
        (AlignmentLoss.IPO_MARGIN, 1.0, 0.5),
    ],
)
def test_both_ipos_pinned(loss, beta, margin):
    """The margin at which the loss is 0 and the slope changes its sign."""
    h = margin + np.array([-0.01, 0.0, 0.01], np.float32)
    scores = np.stack([h - 20, h * 0 - 20, h * 0 - 20, h * 0 - 20], axis=1)
    losses, gradient = evaluate(loss, beta, scores)
    assert losses[1] < 1e-9
    assert losses[0] > losses[1] < losses[2]
    assert gradient[0, 0] < 0 < gradient[2, 0]


def test_both_ipos_at_given_h_and_beta():
    """At h = 3 and beta = 0.1: (0.3 - 0.5)² = 0.04 and (3 - 0.05)² = 8.7025."""
    np.testing.assert_allclose(evaluate(AlignmentLoss.IPO, 0.1)[0][0], 0.04, rtol=1e-5)
    np.testing.assert_allclose(evaluate(AlignmentLoss.IPO_MARGIN, 0.1)[0][0], 8.7025, rtol=1e-5)


def test_losses_stay_finite_far_out():
    scores = np.array([[-1e4, 0, 0, 0], [0, -1e4, 0, 0]], np.float32)
    for loss in AlignmentLoss:
        losses, gradient = evaluate(loss, 1.0, scores)
        assert np.isfinite(losses).all() and np.isfinite(gradient).all(), loss


def test_the_mean_log_ratio_estimates_kl_from_samples_of_the_policy():
    """Two responses are all that there are: the samples have them as often as the policy does."""
    policy, reference = np.log([0.75, 0.25]), np.log([0.5, 0.5])
    sampled = np.array([[0, 1], [0, 0]])  # as [B, 2]
    kl = np.sum(np.exp(policy) * (policy - reference))
    found = mean_log_ratio(
        jnp.float32(policy)[sampled],
        jnp.float32(reference)[sampled],
    )
    np.testing.assert_allclose(found, kl, rtol=1e-6)
    np.testing.assert_array_equal(mean_log_ratio(*[jnp.float32(policy)[sampled]] * 2), 0.0)
