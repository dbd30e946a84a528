r"""A seqio task of one's own, to copy: what `pagap prepare` asks of one, at its smallest.

    pagap prepare --gin_file=jobs/prepare.gin --gin_file=data/byt5_vocabulary.gin \
        --gin.MIXTURE_OR_TASK_MODULE=pagap_jax.data.example_task \
        --gin.MIXTURE_OR_TASK_NAME=example_sums --gin.MODEL_DIR=/tmp/sums --gin.SEED=0 \
        --gin.NUM_TRAIN=None --gin.NUM_VALIDATION=None \
        --gin.TASK_FEATURE_LENGTHS="{'inputs': 16, 'targets': 8}"

A task or mixture gives, in its splits 'train' and 'validation':

- `inputs`, `response_a`, `response_b`: int32 token ids that end with the end token, of any
  length, by the vocabulary that the job is given; they are output features;
- `choice`: int32, 0 where response_a is preferred, 1 where response_b is, -1 where nobody knows;
- `true_choice`, if there is one: the same of a hidden truth, to measure preference models by.
"""

from pagap_jax.data.quiet_seqio import seqio  # isort: skip  # before TensorFlow, which it quiets
import tensorflow as tf

from pagap_jax.data.vocabulary import byte_vocabulary

NAME = "example_sums"
FIRST = {"train": 1, "validation": 81}  # the first summand of a split's first pair
PAIRS = {"train": 80, "validation": 16}


def sums(split: str, shuffle_files: bool = False, seed: int | None = None) -> tf.data.Dataset:
    """Texts: "81 + 7 =" with the right sum and a wrong one, in turns."""
    del shuffle_files, seed
    rows = []
    for i in range(FIRST[split], FIRST[split] + PAIRS[split]):
        answers = [f"{i + 7}", f"{i + 8}"]
        rows.append((f"{i} + 7 =", answers[i % 2], answers[1 - i % 2], i % 2))
    inputs, a, b, choice = zip(*rows, strict=True)
    texts = {"inputs": inputs, "response_a": a, "response_b": b}
    columns = {name: tf.constant(column) for name, column in texts.items()}
    return tf.data.Dataset.from_tensor_slices(columns | {"choice": tf.constant(choice, tf.int32)})


# ByT5's vocabulary; a task of its own data would take that of its T5, as VOCABULARY does.
_FEATURE = seqio.Feature(byte_vocabulary(extra_ids=125), add_eos=True, dtype=tf.int32)
seqio.TaskRegistry.add(
    NAME,
    source=seqio.FunctionDataSource(dataset_fn=sums, splits=tuple(PAIRS)),
    preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
    output_features={name: _FEATURE for name in ("inputs", "response_a", "response_b")},
)
