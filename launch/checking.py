"""What a job would refuse once its hosts are up is refused before anything is sent."""

import copy
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path

import gin

from pagap_jax.configuration import load_job, parse, parse_command_line
from pagap_jax.errors import ConfigError


def checked_arguments(
    words: Sequence[str], chips: int | None = None, num_slices: int = 1
) -> list[str]:
    """The command line after `pagap`, with NUM_SLICES where the job is to run on several.

    A gin file of the hosts' own, named by an absolute path or one with `..`, can't be read here:
    then a note says so, and the job itself checks.

    Args:
        words: JOB --gin_file=... --gin.NAME=VALUE
        chips: of a slice; None where that isn't known.

    Raises:
        ConfigError: a shell's pipe, or what the job itself would refuse: an unknown gin file or
            name, one that is missing, a batch that can't be spread over the chips.
    """
    for word in words:
        if "|" in word:
            raise ConfigError(
                f"found a pipe in {word!r}, expected pagap's arguments alone: behind a pipe SIGTERM"
                " and the exit code get lost, and with them the last checkpoint and the restart"
            )
    command = parse_command_line(words)
    function, arguments = load_job(command.job), list(words)
    is_spread = "mesh_maker" in inspect.signature(function).parameters
    said = any(binding.startswith("NUM_SLICES=") for binding in command.gin_bindings)
    if is_spread and num_slices > 1 and not said:
        arguments.append(f"--gin.NUM_SLICES={num_slices}")
        command = parse_command_line(arguments)
    if away := [name for name in command.gin_files if _is_away(name)]:
        print(f"note: {', '.join(away)} can't be read here, and isn't checked", file=sys.stderr)
        return arguments
    parse(function, command.gin_files, command.gin_bindings, command.search_paths)
    if is_spread:
        _check_spread(command.job, chips, num_slices)
    return arguments


def _is_away(gin_file: str) -> bool:
    path = Path(gin_file)
    return (path.is_absolute() or ".." in path.parts) and not path.exists()


def _check_spread(job: str, chips: int | None, num_slices: int) -> None:
    """Checks the batch and the mesh of the job that gin was configured for last."""
    from jax.sharding import AbstractMesh

    from pagap_jax.model.sharding import check_batch_size, mesh_shape

    mesh = gin.get_bindings("make_mesh")
    if (found := mesh.get("num_slices", 1)) != num_slices:
        raise ConfigError(f"NUM_SLICES: found {found}, expected --num_slices, {num_slices}")
    if chips is None:
        return
    shape = mesh_shape(chips * num_slices, mesh.get("num_partitions", 1), num_slices)
    # A copy of a reference is what it refers to, made: gin's way. Not of all: some take long.
    bindings = gin.get_bindings(job, resolve_references=False)
    batch, parts = (copy.deepcopy(bindings.get(k, 1)) for k in ("batch_size", "num_microbatches"))
    abstract = AbstractMesh(tuple(shape.values()), tuple(shape))
    check_batch_size(batch, abstract, parts)
    if job == "align":
        origin = gin.get_bindings("Online", resolve_references=False)
        sampled = copy.deepcopy(origin.get("num_sampling_parts", 1))
        check_batch_size(batch, abstract, sampled, "NUM_SAMPLING_PARTS")
