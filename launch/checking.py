"""What a job would refuse once its hosts are up is refused before anything is sent."""

import copy
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path

import gin

from launch.needs import check_room, size_of
from pagap_jax.accelerators import Slice
from pagap_jax.configuration import load_job, parse, parse_command_line
from pagap_jax.configuration.statements import import_modules
from pagap_jax.errors import ConfigError


def checked_arguments(
    words: Sequence[str], where: Slice | int | None = None, num_slices: int = 1
) -> list[str]:
    """The command line after `pagap`, with NUM_SLICES where the job is to run on several.

    A gin file of the hosts' own, named by an absolute path or one with `..`, can't be read here:
    then a note says so, and the job itself checks.

    Args:
        words: JOB --gin_file=... --gin.NAME=VALUE
        where: a slice, or a number of devices; None where neither is known.

    Raises:
        ConfigError: a shell's pipe, or what the job itself would refuse: an unknown gin file or
            name, one that is missing, a batch that can't be spread over the chips; or a slice
            that is known to be too small.
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
    given = (command.gin_files, command.gin_bindings, command.search_paths)
    import_modules(command.gin_imports)
    configuration = parse(function, *given)
    if is_spread:
        chips = where.chips if isinstance(where, Slice) else where
        batch = _check_spread(command.job, chips, num_slices)
        size = size_of(command.job, configuration, batch)
        if size and isinstance(where, Slice):
            check_room(size, where, num_slices)
    return arguments


def _is_away(gin_file: str) -> bool:
    path = Path(gin_file)
    return (path.is_absolute() or ".." in path.parts) and not path.exists()


def _check_spread(job: str, chips: int | None, num_slices: int) -> int:
    """Checks the job that gin was configured for last, and returns its batch size."""
    from jax.sharding import AbstractMesh

    from pagap_jax.model.sharding import check_batch_size, mesh_shape

    mesh = gin.get_bindings("make_mesh")
    if (found := mesh.get("num_slices", 1)) != num_slices:
        raise ConfigError(f"NUM_SLICES: found {found}, expected --num_slices, {num_slices}")
    # A copy of a reference is what it refers to, made: gin's way. Not of all: some take long.
    bindings = gin.get_bindings(job, resolve_references=False)
    batch, parts = (copy.deepcopy(bindings.get(k, 1)) for k in ("batch_size", "num_microbatches"))
    if chips is None:
        return batch
    shape = mesh_shape(chips * num_slices, mesh.get("num_partitions", 1), num_slices)
    abstract = AbstractMesh(tuple(shape.values()), tuple(shape))
    check_batch_size(batch, abstract, parts)
    if job == "align":
        origin = gin.get_bindings("Online", resolve_references=False)
        sampled = copy.deepcopy(origin.get("num_sampling_parts", 1))
        check_batch_size(batch, abstract, sampled, "NUM_SAMPLING_PARTS")
    return batch
