"""`python -m launch.xpk`: one job on a GKE cluster that xpk made, by `xpk workload create`."""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence

from launch import options
from launch.checking import checked_arguments
from launch.jobset import DEFAULT_RESTARTS, SHORTEST_GRACE
from launch.runner import Runner, exit_code_of
from pagap_jax.errors import ConfigError

OLDEST = (1, 16, 0)  # the first that takes --namespace
PRIORITIES = ("very-low", "low", "medium", "high", "very-high")
VERSION_COMMAND = ["xpk", "version"]


def create_command(given: argparse.Namespace, arguments: Sequence[str]) -> list[str]:
    """`xpk workload create` with everything that decides about restarts said explicitly."""
    wanted = {
        "workload": given.name,
        "cluster": given.cluster,
        "project": given.project,
        "zone": given.zone,
        "namespace": given.namespace,
        "tpu-type": given.slice.accelerator_type,
        "num-slices": given.num_slices,
        "docker-image": given.image,
        "command": shlex.join(["pagap", *arguments]),
        "priority": given.priority,
        "max-restarts": given.max_restarts,
        "termination-grace-period-seconds": given.grace,
        "restart-on-exit-codes": ",".join(map(str, options.RESTART_CODES)),
        "reservation": given.reservation,
    }
    flags = [f"--{flag}={value}" for flag, value in wanted.items() if value is not None]
    if given.spot:
        flags.append("--spot")
    variables = options.environment(given.env).items()
    flags += [f"--env={name}={value}" for name, value in variables]
    return ["xpk", "workload", "create", *flags]


def check_version(said: str) -> None:
    """Refuses an xpk that doesn't know our flags, and says which one was found.

    Raises:
        ConfigError: it is older, or says nothing that reads as a version.
    """
    found = re.search(r"v?(\d+)\.(\d+)\.(\d+)", said)
    oldest = ".".join(map(str, OLDEST))
    if not found or tuple(map(int, found.groups())) < OLDEST:
        version = found[0] if found else repr(said)
        raise ConfigError(f"xpk: found {version}, expected {oldest} or newer")
    print(f"xpk: found {found[0]}, needs {oldest}", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    """The options of one workload."""
    one = argparse.ArgumentParser(prog="python -m launch.xpk", description=__doc__)
    one.add_argument("--name", type=options.name, required=True)
    one.add_argument("--cluster", type=options.kubernetes_name, required=True)
    one.add_argument("--project", type=options.project, required=True)
    one.add_argument("--zone", type=options.zone, required=True)
    one.add_argument("--slice", type=options.slice_of_chips, required=True)
    one.add_argument("--image", type=options.image, required=True)
    one.add_argument("--num_slices", type=options.at_least(1), default=1)
    one.add_argument("--namespace", type=options.kubernetes_name)
    one.add_argument("--priority", choices=PRIORITIES)
    one.add_argument("--max_restarts", type=options.at_least(0), default=DEFAULT_RESTARTS)
    one.add_argument("--grace", type=options.at_least(SHORTEST_GRACE), default=SHORTEST_GRACE)
    capacity = one.add_mutually_exclusive_group()  # of clusters that make node pools themselves
    capacity.add_argument("--reservation", type=options.resource)
    capacity.add_argument("--spot", action="store_true")
    one.add_argument("--dry_run", action="store_true", help="prints each command instead")
    options.add_job_options(one)
    return one


def main(argv: Sequence[str] | None = None) -> int:
    """Sends one workload, or prints what would, and returns the exit code."""
    given = parser().parse_args(argv)
    return exit_code_of(lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    runner = Runner(given.dry_run)
    arguments = checked_arguments(given.arguments, given.slice, given.num_slices)
    command = create_command(given, arguments)
    if given.dry_run:
        runner.run(VERSION_COMMAND)
    else:
        check_version(runner.read(VERSION_COMMAND))
    runner.run(command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
