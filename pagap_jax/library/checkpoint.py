"""`pagap checkpoint inspect PATH` and `pagap checkpoint convert SRC DST --to FORMAT`."""

import argparse
import ast
import dataclasses
import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, get_args

from rich.console import Console
from rich.table import Table

from pagap_jax.arguments import ArgumentParser
from pagap_jax.checkpoints.stored import Format, StoredCheckpoint
from pagap_jax.errors import ConfigError, DataError
from pagap_jax.library.options import add_text_options, given_by

if TYPE_CHECKING:
    from pagap_jax.checkpoints.usage import Usage
    from pagap_jax.library.settings import RecordedRun

OVERRIDE = "--gin.T5Config."
# Fields of T5Config that shapes tell, the activations' kind apart.
TOLD_BY_SHAPES = (
    *("vocab_size", "emb_dim", "num_heads", "num_encoder_layers", "num_decoder_layers"),
    *("head_dim", "mlp_dim", "logits_via_embedding", "num_segments"),
)


def run_command(argv: Sequence[str]) -> int:
    """Runs `inspect` or `convert`; 0.

    Raises:
        PagapError: bad arguments, or a checkpoint that can't be read or written.
    """
    overrides = dict(_override(a) for a in argv if a.startswith(OVERRIDE))
    arguments = _parser().parse_args([a for a in argv if not a.startswith(OVERRIDE)])
    # Imports tensorstore, JAX and Orbax: not for --help.
    from pagap_jax.checkpoints.architecture import infer_config
    from pagap_jax.checkpoints.converting import convert
    from pagap_jax.checkpoints.opening import open_checkpoint
    from pagap_jax.library.settings import RecordedRun

    checkpoint = open_checkpoint(arguments.path)
    run = RecordedRun.of(arguments.path)
    known = _recorded_model(run) | overrides
    config = infer_config(checkpoint, **known)
    if arguments.command == "inspect":
        facts = _facts(checkpoint, config, known, run)
        print(_as_json(checkpoint, facts)) if arguments.json else _show(checkpoint, facts)
        return 0
    if arguments.optimizer_state and arguments.to != "t5x":
        raise ConfigError("--optimizer_state: only T5X's format holds one (--to t5x)")
    usage = _usage(arguments, run)
    convert(
        checkpoint,
        config,
        arguments.destination,
        arguments.to,
        force=arguments.force,
        drop_segments=arguments.drop_segments,
        usage=usage,
        optimizer_state=arguments.optimizer_state != "none",
    )
    print(f"{arguments.destination}: {checkpoint.num_parameters:,} parameters, {arguments.to}")
    if arguments.to == "t5x":
        print(f"optimizer state: {_written_state(arguments, checkpoint)}")
    elif checkpoint.optimizer:
        print("the optimizer's state was left out: a job takes it from the T5X checkpoint itself")
    if arguments.to == "hf" and usage.vocabulary is None:
        print("no tokenizer was written: --vocabulary names the vocabulary")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="pagap checkpoint", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=ArgumentParser)
    inspect = commands.add_parser(
        "inspect", help="format, step, sizes, parameters and its run's settings; reads no array"
    )
    convert = commands.add_parser("convert", help="writes a checkpoint in another format")
    for command in (inspect, convert):
        command.add_argument("path", help="a run of ours, a T5X or a Hugging Face checkpoint")
        command.epilog = f"{OVERRIDE}NAME=VALUE sets what neither shapes nor a run tell"
    inspect.add_argument("--json", action="store_true", help="for programs")
    convert.add_argument("destination")
    convert.add_argument("--to", required=True, choices=get_args(Format))
    convert.add_argument("--force", action="store_true", help="replaces the destination")
    convert.add_argument(
        "--drop_segments", action="store_true", help="leaves out the segment table of tiny models"
    )
    convert.add_argument(
        "--optimizer_state",
        choices=("adafactor", "none"),
        help="for T5X: the source's Adafactor state, or a new one (default); none is for inference",
    )
    add_text_options(convert)
    return parser


def _override(argument: str) -> tuple[str, Any]:
    name, equals, value = argument.removeprefix(OVERRIDE).partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError) as error:
        raise ConfigError(f"{argument}: expected {OVERRIDE}NAME=VALUE ({error})") from error


def _recorded_model(run: "RecordedRun | None") -> dict[str, Any]:
    """The fields of the T5Config that a run trained; none where it doesn't say."""
    try:
        return dataclasses.asdict(run.model()) if run else {}
    except (ConfigError, DataError):  # a run of an earlier version, or of another job
        return {}


def _usage(arguments: argparse.Namespace, run: "RecordedRun | None") -> "Usage":
    """What transformers need to use it; of a run of ours, as far as it says so."""
    from pagap_jax.checkpoints.usage import Usage

    if run is None:
        given = given_by(arguments.path, arguments)
        return Usage(given.vocabulary, given.prompt_length, given.response_length)
    try:
        prompt_length, response_length = run.lengths()
        samples = run.job in ("sft", "align")
        return Usage(
            run.vocabulary(),
            prompt_length,
            response_length if samples else None,
            run.sampling() if samples else None,
        )
    except (ConfigError, DataError) as error:
        print(f"how it is used isn't known: {error}")
        return Usage()


def _written_state(arguments: argparse.Namespace, checkpoint: StoredCheckpoint) -> str:
    from pagap_jax.checkpoints.adafactor_state import stored_state

    if arguments.optimizer_state == "none":
        return "none, which T5X takes for inference alone"
    if stored_state(checkpoint):
        return "the source's, of Adafactor"
    return "Adafactor's at its start, all zeros: the source has none of Adafactor"


def _facts(
    checkpoint: StoredCheckpoint, config: Any, known: dict[str, Any], run: "RecordedRun | None"
) -> dict[str, Any]:
    from pagap_jax.checkpoints.opening import optimizer_arrays

    optimizer: Collection[str] = checkpoint.optimizer
    if not optimizer and checkpoint.format == "orbax":
        optimizer = optimizer_arrays(checkpoint.path)
    told = [*TOLD_BY_SHAPES, *known]
    if checkpoint.activations or len(config.mlp_activations) == 1:
        told.append("mlp_activations")
    fields = dataclasses.asdict(config)
    facts = {
        "format": checkpoint.format,
        "step": checkpoint.step,
        "parameters": checkpoint.num_parameters,
        "version": "1.0" if len(config.mlp_activations) == 1 else "1.1",
        "layers_stacked": checkpoint.scanned,
        "optimizer_state": len(optimizer),
        "config": {name: value for name, value in fields.items() if name in told},
        "not_told": [name for name in fields if name not in told],
    }
    if run is not None:
        facts["run"] = run.identity
    return facts


def _as_json(checkpoint: StoredCheckpoint, facts: dict[str, Any]) -> str:
    arrays = {
        key: {"shape": list(array.shape), "dtype": array.dtype.name}
        for key, array in checkpoint.params.items()
    }
    return json.dumps({**facts, "arrays": arrays}, indent=1)


def _show(checkpoint: StoredCheckpoint, facts: dict[str, Any]) -> None:
    console = Console(highlight=False, markup=False)
    fields, not_told, run = (facts.pop(name, None) for name in ("config", "not_told", "run"))
    facts["parameters"] = f"{facts['parameters']:,}"
    facts["optimizer_state"] = f"{facts['optimizer_state']} arrays" * bool(facts["optimizer_state"])
    for name, value in facts.items():
        console.print(f"{name.replace('_', ' ')}: {'none' if value == '' else value}")
    settings = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    console.print(f"T5Config({settings})")
    if not_told:
        console.print(f"not told by the checkpoint: {', '.join(not_told)}")
    if run:
        console.print(f"run: {run['job']}, fingerprint {run['fingerprint']}, with")
        for line in run["configuration"]:
            console.print(f"  {line}")
        for role, parent in run["parents"].items():
            console.print(f"  {role}: {parent['path']} ({parent['fingerprint']})")
    table = Table("parameter", "shape", "dtype")
    for key, array in checkpoint.params.items():
        table.add_row(key, str(array.shape), array.dtype.name)
    console.print(table)
