"""Offline: the data set's own pairs."""

from pagap_jax.align.pairs import PairBatch


def offline_pairs(params, judge_params, encoded, batch, key) -> PairBatch:
    """The pairs that the batch holds. A `PairSource`."""
    del params, judge_params, encoded, key
    return PairBatch(
        batch["response_a"], batch["response_b"], batch["choice"], batch["probability"]
    )
