"""`python -m launch.tpu_vm create|setup|run|watch|stop|delete`: one slice as a queued resource."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from launch import options
from launch.checking import checked_arguments
from launch.runner import Runner, exit_code_of
from launch.tpu_vm.commands import Machine
from launch.tpu_vm.watch import Watch

VERBS = {
    "create": "asks for the machine; it comes when there is room",
    "setup": "installs what is committed here on all workers",
    "run": "starts pagap on all workers and waits for its end, with its exit code; the run doesn't"
    " need this command or the connection, and the same command finds it again",
    "watch": "create, setup and run, again after preemptions and exit codes worth a restart",
    "stop": "lets the run save and end",
    "delete": "deletes the machine",
}
DEFAULT_POLL = 30.0


def parser() -> argparse.ArgumentParser:
    """All six commands."""
    whole = argparse.ArgumentParser(prog="python -m launch.tpu_vm", description=__doc__)
    verbs = whole.add_subparsers(dest="verb", required=True, metavar="|".join(VERBS))
    for verb, description in VERBS.items():
        one = verbs.add_parser(verb, help=description, description=description)
        one.add_argument("--name", type=options.name, required=True)
        add_machine_options(one)
        one.add_argument("--slice", type=options.slice_of_chips, required=True)
        one.add_argument("--dry_run", action="store_true", help="prints each command instead")
        if verb in ("run", "watch"):
            one.add_argument("--poll", type=float, default=DEFAULT_POLL, help="seconds")
            options.add_job_options(one)
        if verb == "watch":
            one.add_argument("--max_restarts", type=options.at_least(0), default=20)
            one.add_argument(
                "--delete_after", action="store_true", help="deletes the machine at the end"
            )
    return whole


def add_machine_options(to: argparse.ArgumentParser) -> None:
    """Where a machine is asked for, and of which kind."""
    to.add_argument("--project", type=options.project, required=True)
    to.add_argument("--zone", type=options.zone, required=True)
    capacity = to.add_mutually_exclusive_group()
    for kind, description in (
        ("spot", "cheaper, and taken away when others pay more"),
        ("reserved", "from the project's reservation"),
        ("on_demand", "neither; the default"),
    ):
        capacity.add_argument(
            f"--{kind}", dest="capacity", action="store_const", const=kind, help=description
        )
    to.set_defaults(capacity="on_demand")
    to.add_argument(
        "--bucket", type=options.bucket, help="Cloud Storage's; setup mounts it at /mnt/BUCKET"
    )
    for option in ("runtime", "network", "subnetwork", "service_account"):
        to.add_argument(f"--{option}", type=options.resource)


def machine_of(given: argparse.Namespace, **instead: object) -> Machine:
    """The machine that the options describe."""
    fields = {field.name for field in dataclasses.fields(Machine)}
    return Machine(**{k: v for k, v in {**vars(given), **instead}.items() if k in fields})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; that of `run` and `watch` is pagap's."""
    given = parser().parse_args(argv)
    return exit_code_of(lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    machine, runner = machine_of(given), Runner(given.dry_run)
    if given.verb in ("run", "watch"):
        return _run_job(given, machine, runner)
    commands = {
        "create": [machine.create()],
        "setup": machine.setup(),
        "stop": [machine.stop()],
        "delete": [machine.delete()],
    }[given.verb]
    for command in commands:
        runner.run(command)
    return 0


def _run_job(given: argparse.Namespace, machine: Machine, runner: Runner) -> int:
    arguments = checked_arguments(given.arguments, machine.slice)
    environment = options.environment(given.env)
    if given.dry_run:
        _print_round(given.verb, machine, runner, machine.start(environment, arguments))
        return 0
    watch = Watch(runner, machine, environment, arguments, given.poll)
    if given.verb == "run":
        return watch.run()
    code = watch.watch(given.max_restarts)
    if given.delete_after:
        runner.run(machine.delete())
    return code


def _print_round(verb: str, machine: Machine, runner: Runner, start: list[str]) -> None:
    """The commands of one round; what a real one finds decides which of them it runs."""
    steps: list[tuple[str, list[list[str]]]] = [
        ("start", [start]),
        ("each look, until all workers ended", [machine.status()]),
    ]
    if verb == "watch":
        steps = [
            ("state", [machine.describe()]),
            ("where it is FAILED or SUSPENDED", [machine.delete()]),
            ("where there is none", [machine.create()]),
            ("once it is ACTIVE", machine.setup()),
            *steps,
        ]
    for reason, commands in steps:
        print(f"# {reason}")
        for command in commands:
            runner.run(command)


if __name__ == "__main__":
    sys.exit(main())
