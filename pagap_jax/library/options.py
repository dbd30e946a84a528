"""Options of commands for checkpoints that no run of ours made, which say nothing of texts."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imports JAX, which takes seconds: not for --help
    from pagap_jax.library.settings import Given

BYTES = "bytes"
EXTRA_IDS, EXTRA_IDS_OF_BYTES = 100, 125  # T5's, ByT5's


def add_text_options(parser: argparse.ArgumentParser) -> Any:
    """Adds the options that `given_by` reads; the group that they are in."""
    group = parser.add_argument_group("for checkpoints that no run of ours made")
    group.add_argument("--vocabulary", help=f"a sentencepiece model's file, or '{BYTES}'")
    sentinels = f"sentinels ({EXTRA_IDS}; {BYTES} {EXTRA_IDS_OF_BYTES}; mT5 0)"
    group.add_argument("--extra_ids", type=int, help=sentinels)
    for name in ("prompt_length", "response_length"):
        group.add_argument(f"--{name}", type=int, help="tokens at most, end token included")
    return group


def given_by(path: str, arguments: argparse.Namespace) -> "Given":
    """What the options say of a checkpoint: nothing of a run of ours."""
    from pagap_jax.data.vocabulary import byte_vocabulary, sentencepiece_vocabulary
    from pagap_jax.library.settings import Given, RecordedRun

    if RecordedRun.of(path) is not None:
        return Given()
    extra_ids, vocabulary = arguments.extra_ids, None
    if arguments.vocabulary == BYTES:
        vocabulary = byte_vocabulary(EXTRA_IDS_OF_BYTES if extra_ids is None else extra_ids)
    elif arguments.vocabulary:
        number = EXTRA_IDS if extra_ids is None else extra_ids
        vocabulary = sentencepiece_vocabulary(arguments.vocabulary, number)
    return Given(
        vocabulary=vocabulary,
        prompt_length=arguments.prompt_length,
        response_length=arguments.response_length,
        input_length=getattr(arguments, "input_length", None),
    )
