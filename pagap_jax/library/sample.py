"""`pagap sample RUN`: what a policy answers, as text, with log-probs and a judge's verdicts.

A run of ours says by itself which model, vocabulary, lengths and sampling it has. A checkpoint of
another program, or a converted one, needs --vocabulary and both lengths.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pagap_jax.arguments import ArgumentParser
from pagap_jax.errors import ConfigError, DataError
from pagap_jax.library.options import add_text_options, given_by

if TYPE_CHECKING:  # JAX takes seconds to import: not for --help
    from pagap_jax.library.policy import TextPolicy

SHOWN_PROMPTS = 4
_JUDGE = """\
a preference model's run: says how probable each response is to be preferred, asked in both orders;
to the response of --beside with the same number, or without --beside to the other samples of the
same prompt, on average"""


def run_command(argv: Sequence[str]) -> int:
    """Samples and prints; 0.

    Raises:
        ConfigError: bad arguments, or a checkpoint that can't be opened with them.
        DataError: prompts that can't be read.
    """
    arguments = _parser().parse_args(argv)
    for name in ("n", "limit"):
        if (found := getattr(arguments, name)) is not None and found < 1:
            raise ConfigError(f"--{name}: found {found}, expected 1 or more")
    if arguments.judge and not arguments.beside and arguments.n < 2:
        raise ConfigError("--judge compares responses: expected --beside, or --n of 2 or more")
    from pagap_jax.compilation import keep_compilations
    from pagap_jax.library.answers import collect, print_answers

    keep_compilations()
    paths = [arguments.run, *([arguments.beside] if arguments.beside else [])]
    policies = {path: _policy(path, arguments) for path in paths}
    if len(policies) < len(paths):
        raise ConfigError(f"--beside: found {arguments.beside} again, expected another checkpoint")
    judge = _judge(arguments) if arguments.judge else None
    prompts = _prompts(arguments, policies[arguments.run])
    for path, policy in policies.items():
        _warn_of_unknown(path, policy, prompts)
    answers = collect(prompts, policies, arguments.n, arguments.seed, judge)
    if arguments.json:
        for answer in answers:
            print(json.dumps(answer, ensure_ascii=False))
    else:
        print_answers(prompts, answers)
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="pagap sample",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("run", metavar="RUN_OR_CHECKPOINT", help="a run of sft or align, or a checkpoint")
    add("--prompts", metavar="FILE", help="one prompt a line, or rows with 'prompt' (.jsonl, .json,"
        " .csv, .parquet); else prompts of the validation split of the run's data")  # fmt: skip
    add("--limit", type=int, help=f"so many prompts ({SHOWN_PROMPTS} without --prompts, else all)")
    add("--n", type=int, default=4, help="responses a prompt (4)")
    add("--seed", type=int, default=0, help="the same seed gives the same responses (0)")
    add("--beside", metavar="RUN2", help="another policy, on the same prompts")
    add("--judge", metavar="RUN3", help=_JUDGE)
    add("--json", action="store_true", help="a JSON object a response, one a line")
    sampling = parser.add_argument_group("sampling otherwise than in training")
    sampling.add_argument("--temperature", type=float, help="0: the most probable token each time")
    sampling.add_argument("--top_k", type=int, help="of the k most probable tokens; 0: of all")
    sampling.add_argument("--top_p", type=float, help="of the most probable ones up to this sum")
    foreign = add_text_options(parser)
    foreign.add_argument("--input_length", type=int, help="a judge's: prompt and two responses")
    return parser


def _policy(path: str, arguments: argparse.Namespace) -> "TextPolicy":
    from pagap_jax.library.policy import load_policy

    given = given_by(path, arguments)
    return load_policy(
        path,
        vocabulary=given.vocabulary,
        prompt_length=given.prompt_length,
        response_length=given.response_length,
        sampling=_sampling(path, arguments),
    )


def _judge(arguments: argparse.Namespace) -> Any:
    from pagap_jax.library.preference_model import load_preference_model

    given = given_by(arguments.judge, arguments)
    return load_preference_model(
        arguments.judge,
        vocabulary=given.vocabulary,
        prompt_length=given.prompt_length,
        response_length=given.response_length,
        input_length=given.input_length,
    )


def _sampling(path: str, arguments: argparse.Namespace) -> Any:
    """The run's own way to sample with what the options change; None where they change nothing."""
    import dataclasses

    from pagap_jax.library.settings import RecordedRun
    from pagap_jax.ranges import check_values
    from pagap_jax.sampling.methods import SamplingMethod

    names = ("temperature", "top_k", "top_p")
    changed = {k: getattr(arguments, k) for k in names if getattr(arguments, k) is not None}
    if not changed:
        return None
    run = RecordedRun.of(path)
    try:
        check_values(SamplingMethod, changed)
        return dataclasses.replace(run.sampling() if run else SamplingMethod(), **changed)
    except ConfigError as error:
        raise ConfigError(f"{', '.join(f'--{name}' for name in changed)}: {error}") from error


def _prompts(arguments: argparse.Namespace, policy: "TextPolicy") -> list[str]:
    from pagap_jax.data.sources.prompts import read_prompts

    if arguments.prompts:
        return read_prompts(os.fspath(arguments.prompts))[: arguments.limit]
    try:
        return _validation_prompts(arguments.run, policy, arguments.limit or SHOWN_PROMPTS)
    except (ConfigError, DataError) as error:
        raise ConfigError(f"{error}; or give --prompts=FILE") from error


def _warn_of_unknown(path: str, policy: "TextPolicy", prompts: Sequence[str]) -> None:
    """Says on stderr which prompts hold text that the policy's vocabulary has no pieces for."""
    import numpy as np

    from pagap_jax.data.vocabulary import UNKNOWN_ID

    ids = policy.texts.prompts(prompts)
    (unknown,) = np.nonzero(np.any(ids == UNKNOWN_ID, axis=1))
    if len(unknown):
        read = policy.texts.decoded(ids[unknown[0]].tolist())
        print(
            f"pagap sample: {len(unknown)} of {len(prompts)} prompts hold text that {path}'s"
            f" vocabulary doesn't know; it reads prompt {unknown[0] + 1} as {read!r:.200}",
            file=sys.stderr,
        )


def _validation_prompts(path: str, policy: "TextPolicy", number: int) -> list[str]:
    """Different prompts, evenly spaced."""
    import numpy as np

    from pagap_jax.data.prompts import decoded
    from pagap_jax.jobs.inputs import open_pairs
    from pagap_jax.library.settings import RecordedRun

    run = RecordedRun.of(path)
    if run is None:
        raise DataError(f"{path}: no run of ours made it, so it has no validation data")
    vocabulary = policy.texts.vocabulary
    pairs = open_pairs(run.pairs_dir(), "validation", vocabulary)
    _, first = np.unique(pairs.prompt_id, return_index=True)
    rows = np.sort(first)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, number).round().astype(int))]
    return decoded(pairs.prompt[rows], vocabulary)
