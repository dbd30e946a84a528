"""`python -m launch.study print|rehearsal|jobset|tpu_vm`: a study as the jobs it is made of.

After `--` comes `study --gin_file=... --gin.STUDY_DIR="'/mnt/...'"`, as for `pagap`. `print` gives
the jobs' commands in order; `rehearsal` the same as processes of this machine; `jobset` a folder of
manifests and a script that submits them in order;
`tpu_vm` the commands that run one job after another on TPU VMs. Nothing is sent.
"""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from launch import options
from launch.jobset import add_cluster_options, jobset_of
from launch.placing import Job, place, read_study
from launch.runner import exit_code_of
from launch.tpu_vm.__main__ import add_machine_options, machine_of
from pagap_jax.accelerators import Slice

LONGEST_PREFIX = 14  # of a name: what follows tells the stages apart
SUBMIT_FILE = "submit.sh"

# A job is submitted once what it needs is finished; the cluster's queue does the rest.
_SUBMIT = """\
#!/usr/bin/env bash
# Submits each job once the jobs that it waits for are completed. May be run again at any time.
set -euo pipefail
cd "$(dirname "$0")"

submit() { # MANIFEST NAMES...: a job and what it waits for
  local manifest=$1 state
  shift
  for needed in "$@"; do
    while true; do
      state=$(kubectl --namespace=NAMESPACE get "jobset/$needed" \\
        --output='jsonpath={.status.terminalState}')
      [[ $state == Completed ]] && break
      if [[ $state == Failed ]]; then
        echo "$manifest: the job $needed, which it waits for, failed" >&2
        exit 1
      fi
      sleep "${POLL:-30}"
    done
  done
  kubectl apply --filename="$manifest"
}

"""


def slice_of_kind(text: str) -> tuple[str, Slice]:
    """An argparse type: 'v5p:4x4x4', or 'golden=v5p:4x4x4'."""
    kind, equals, slice_text = text.rpartition("=")
    if equals and not re.fullmatch(r"[a-z]\w*", kind):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected SLICE or KIND=SLICE")
    return kind, options.slice_of_chips(slice_text)


def as_shell(jobs: Sequence[Job], commands: Sequence[Sequence[str]]) -> str:
    """A command a job, with what it waits for above it."""
    lines: list[str] = []
    for job, command in zip(jobs, commands, strict=True):
        waits = f", waits for {', '.join(job.stage.needs)}" if job.stage.needs else ""
        slice_text = f", {job.slice}" if job.slice else ""
        lines += [f"# {job.stage.name}{slice_text}{waits}", shlex.join(command)]
    return "\n".join(lines) + "\n"


def print_shell(jobs: Sequence[Job], given: argparse.Namespace) -> None:
    """The jobs for any machine that can hold them."""
    print(as_shell(jobs, [["pagap", *job.arguments] for job in jobs]), end="")


def print_rehearsal(jobs: Sequence[Job], given: argparse.Namespace) -> None:
    """Each job as processes of this machine, and at the end the results: to be piped to bash."""
    rehearsal = ["launch/rehearsal.sh", f"--devices={given.devices}", str(given.processes)]
    print("set -e  # what comes later needs what comes before")
    print(as_shell(jobs, [[*rehearsal, *job.arguments] for job in jobs]), end="")
    print(
        "# all is finished: this gathers rows and draws\n" + shlex.join(["pagap", *given.arguments])
    )


def print_tpu_vm(jobs: Sequence[Job], given: argparse.Namespace) -> None:
    """The jobs on TPU VMs, one after another, a machine a kind of slice; deleted at the end."""

    def command(verb: str, slice_: Slice) -> list[str]:
        name = f"{given.prefix}-{slice_.accelerator_type}"
        machine = machine_of(given, name=name, slice=slice_)
        options_ = [
            f"--{option}={value}"
            for option in ("name", "project", "zone", "slice", "runtime", "network", "subnetwork",
                           "service_account", "bucket")
            if (value := getattr(machine, option))
        ]  # fmt: skip
        return [
            *("python", "-m", "launch.tpu_vm", verb), *options_, f"--{machine.capacity}",
        ]  # fmt: skip

    variables = [f"--env={key}={value}" for key, value in given.env]
    placed = [(job, job.slice) for job in jobs if job.slice]
    watches = [[*command("watch", s), *variables, "--", *job.arguments] for job, s in placed]
    print("set -e  # what comes later needs what comes before; the machines stay where one fails")
    print(as_shell(jobs, watches), end="")
    print("# nothing is left to pay for")
    for one in sorted({s for _, s in placed}, key=str):
        print(shlex.join(command("delete", one)))


def write_manifests(jobs: Sequence[Job], given: argparse.Namespace) -> None:
    """A manifest a job, named in order, and a script that submits each when its turn has come."""
    folder = Path(given.folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    names = {job.stage.name: job.name(given.prefix) for job in jobs}
    for number, job in enumerate(jobs, 1):
        name = names[job.stage.name]
        file = f"{number:03d}-{name}.yaml"
        manifest = jobset_of(given, name=name, slice=job.slice, arguments=job.arguments)
        (folder / file).write_text(manifest.as_yaml())
        needs = [names[need] for need in job.stage.needs]
        lines += [f"# wave {job.wave}: {job.stage.name}", shlex.join(["submit", file, *needs])]
    script = _SUBMIT.replace("NAMESPACE", given.namespace) + "\n".join(lines) + "\n"
    (folder / SUBMIT_FILE).write_text(script)
    print(f"{len(jobs)} manifests in {folder}; bash {folder / SUBMIT_FILE} submits them in order")


ENGINES = {
    "print": print_shell,
    "rehearsal": print_rehearsal,
    "jobset": write_manifests,
    "tpu_vm": print_tpu_vm,
}
HERE = ("print", "rehearsal")  # engines that need no slices


def parser() -> argparse.ArgumentParser:
    """The engines."""
    whole = argparse.ArgumentParser(prog="python -m launch.study", description=__doc__)
    engines = whole.add_subparsers(dest="engine", required=True, metavar="|".join(ENGINES))
    for engine in ENGINES:
        one = engines.add_parser(engine, description=ENGINES[engine].__doc__)
        if engine == "rehearsal":
            one.add_argument("--processes", type=int, required=True, help="of each job")
            one.add_argument("--devices", type=int, default=4, help="of each process")
        one.add_argument(
            "--slice", dest="slices", type=slice_of_kind, action="append", default=[],
            metavar="[KIND=]SLICE",
            help="for all stages, or for those of a kind; else what the gin files say",
        )  # fmt: skip
        if engine not in HERE:
            prefix = options.matching(
                options.LABEL, f"a name of at most {LONGEST_PREFIX} letters, digits and hyphens",
                LONGEST_PREFIX,
            )  # fmt: skip
            one.add_argument("--prefix", type=prefix, required=True, help="of all names")
        if engine == "jobset":
            one.add_argument("--folder", required=True, help="for the manifests")
            add_cluster_options(one)
        if engine == "tpu_vm":
            add_machine_options(one)
        options.add_job_options(one)
    return whole


def main(argv: Sequence[str] | None = None) -> int:
    """Prints or writes one study and returns the exit code."""
    given = parser().parse_args(argv)
    return exit_code_of(lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    study = read_study(given.arguments)
    here = given.processes * given.devices if given.engine == "rehearsal" else None
    num_slices = vars(given).get("num_slices", 1)
    jobs = place(study, given.slices, given.engine in HERE, here, num_slices)
    ENGINES[given.engine](jobs, given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
