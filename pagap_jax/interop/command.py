"""`pagap checkpoint inspect PATH` and `pagap checkpoint convert SRC DST --to FORMAT`."""

import argparse
import ast
import dataclasses
import json
from collections.abc import Sequence
from typing import Any, NoReturn, get_args

from rich.console import Console
from rich.table import Table

from pagap_jax.errors import ConfigError
from pagap_jax.interop.stored import Format, StoredCheckpoint

OVERRIDE = "--gin.T5Config."


def run_command(argv: Sequence[str]) -> int:
    """Runs `inspect` or `convert`; 0.

    Raises:
        PagapError: bad arguments, or a checkpoint that can't be read or written.
    """
    overrides = dict(_override(a) for a in argv if a.startswith(OVERRIDE))
    arguments = _parser().parse_args([a for a in argv if not a.startswith(OVERRIDE)])
    # Imports tensorstore, JAX and Orbax: not for --help.
    from pagap_jax.interop.architecture import infer_config
    from pagap_jax.interop.converting import convert
    from pagap_jax.interop.opening import open_checkpoint

    checkpoint = open_checkpoint(arguments.path)
    config = infer_config(checkpoint, **overrides)
    if arguments.command == "inspect":
        print(_as_json(checkpoint, config)) if arguments.json else _show(checkpoint, config)
        return 0
    convert(
        checkpoint,
        config,
        arguments.destination,
        arguments.to,
        force=arguments.force,
        drop_segments=arguments.drop_segments,
    )
    print(f"{arguments.destination}: {checkpoint.num_parameters:,} parameters, {arguments.to}")
    if checkpoint.optimizer:
        print("the optimizer's state was left out: a job takes it from the T5X checkpoint itself")
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (`pagap checkpoint --help`)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="pagap checkpoint", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    inspect = commands.add_parser(
        "inspect", help="format, step, sizes and parameters; reads no array"
    )
    convert = commands.add_parser("convert", help="writes a checkpoint in another format")
    for command in (inspect, convert):
        command.add_argument("path", help="a run of ours, a T5X or a Hugging Face checkpoint")
        command.epilog = f"{OVERRIDE}NAME=VALUE sets what the shapes don't tell"
    inspect.add_argument("--json", action="store_true", help="for programs")
    convert.add_argument("destination")
    convert.add_argument("--to", required=True, choices=get_args(Format))
    convert.add_argument("--force", action="store_true", help="replaces the destination")
    convert.add_argument(
        "--drop_segments", action="store_true", help="leaves out the segment table of tiny models"
    )
    return parser


def _override(argument: str) -> tuple[str, Any]:
    name, equals, value = argument.removeprefix(OVERRIDE).partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError) as error:
        raise ConfigError(f"{argument}: expected {OVERRIDE}NAME=VALUE ({error})") from error


def _facts(checkpoint: StoredCheckpoint, config: Any) -> dict[str, Any]:
    return {
        "format": checkpoint.format,
        "step": checkpoint.step,
        "parameters": checkpoint.num_parameters,
        "version": "1.0" if len(config.mlp_activations) == 1 else "1.1",
        "layers_stacked": checkpoint.scanned,
        "optimizer_state": bool(checkpoint.optimizer),
        "config": dataclasses.asdict(config),
    }


def _as_json(checkpoint: StoredCheckpoint, config: Any) -> str:
    arrays = {
        key: {"shape": list(array.shape), "dtype": array.dtype.name}
        for key, array in checkpoint.params.items()
    }
    return json.dumps({**_facts(checkpoint, config), "arrays": arrays}, indent=1)


def _show(checkpoint: StoredCheckpoint, config: Any) -> None:
    console = Console()
    facts = _facts(checkpoint, config)
    fields = facts.pop("config")
    facts["parameters"] = f"{facts['parameters']:,}"
    for name, value in facts.items():
        console.print(f"{name.replace('_', ' ')}: {value}", highlight=False)
    settings = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    console.print(f"T5Config({settings})", highlight=False)
    table = Table("parameter", "shape", "dtype")
    for key, array in checkpoint.params.items():
        table.add_row(key, str(array.shape), array.dtype.name)
    console.print(table)
