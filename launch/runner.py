"""Runs commands, or prints them as they would be run."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence

from pagap_jax.errors import PagapError


class CommandError(PagapError):
    """A command that this one needs ended badly."""


class Runner:
    """Runs commands one after another; with `dry_run` it only prints them, ready to be pasted."""

    def __init__(self, dry_run: bool = False):
        self.dry_run = dry_run

    def run(self, argv: Sequence[str], stdin: str | None = None) -> None:
        """Runs a command that changes something; its output is the user's to see.

        Raises:
            CommandError: it ended badly.
        """
        if self.dry_run:
            print(shlex.join(argv), flush=True)
            return
        print(f"+ {shlex.join(argv)}", file=sys.stderr, flush=True)
        try:
            ended = subprocess.run(argv, input=stdin, text=True, check=False)
        except FileNotFoundError as error:
            raise _not_found(argv) from error
        if ended.returncode:
            raise CommandError(f"{shlex.join(argv)}: ended with {ended.returncode}")

    def read(self, argv: Sequence[str]) -> str:
        """What a command that only looks prints.

        Raises:
            CommandError: it ended badly; with what it said.
        """
        try:
            ended = subprocess.run(argv, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise _not_found(argv) from error
        if ended.returncode:
            said = ended.stderr.strip() or "without a word"
            raise CommandError(f"{shlex.join(argv)}: ended with {ended.returncode}: {said}")
        return ended.stdout


def _not_found(argv: Sequence[str]) -> PagapError:
    return CommandError(f"found no program {argv[0]!r} on PATH; launch/README.md says what to get")


def exit_code_of(command: Callable[[], int]) -> int:
    """Runs a command of launch/; what it refuses is one sentence on stderr."""
    try:
        return command()
    except PagapError as error:
        print(f"launch: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted: what was started goes on", file=sys.stderr)
        return 130
