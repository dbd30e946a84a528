"""What gcloud is asked for, command by command: queued resources and ssh to all workers."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence

from launch.options import MOUNT_OPTIONS
from pagap_jax.accelerators import Slice

RUNTIMES = {
    "v4": "tpu-ubuntu2204-base",
    "v5e": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
ARCHIVE = "pagap_jax.tar.gz"
ON_WORKER = "pagap/source/launch/tpu_vm"  # below the home directory, where ssh arrives
RUN = f"{ON_WORKER}/run_worker.sh"

Command = list[str]


@dataclasses.dataclass(frozen=True)
class Machine:
    """One slice as a queued resource.

    Attributes:
        name: of the queued resource and of its node.
        capacity: 'spot', 'reserved' or 'on_demand'.
        runtime: the image; without one that which fits the generation.
        bucket: of Cloud Storage; `setup` mounts it at /mnt/BUCKET.
    """

    name: str
    project: str
    zone: str
    slice: Slice
    capacity: str = "on_demand"
    runtime: str | None = None
    network: str | None = None
    subnetwork: str | None = None
    service_account: str | None = None
    bucket: str | None = None

    @property
    def _place(self) -> Command:
        return [f"--project={self.project}", f"--zone={self.zone}", "--quiet"]

    def create(self) -> Command:
        """Asks for the machine; it comes when there is room."""
        options = {
            "network": self.network,
            "subnetwork": self.subnetwork,
            "service-account": self.service_account,
        }
        return [
            *_queued_resources("create", self.name),
            f"--node-id={self.name}",
            f"--accelerator-type={self.slice.accelerator_type}",
            f"--runtime-version={self.runtime or RUNTIMES[self.slice.accelerator.name]}",
            *([] if self.capacity == "on_demand" else [f"--{self.capacity}"]),
            *(f"--{option}={value}" for option, value in options.items() if value),
            "--async",
            *self._place,
        ]

    def describe(self) -> Command:
        """Prints its state alone."""
        return [
            *_queued_resources("describe", self.name),
            "--format=value(state.state)",
            *self._place,
        ]

    def delete(self) -> Command:
        """Deletes the queued resource and its node; returns when both are gone."""
        return [*_queued_resources("delete", self.name), "--force", *self._place]

    def setup(self) -> list[Command]:
        """Copies what is committed to all workers, mounts the bucket and installs there."""
        flags = [f"--{option}" for option in MOUNT_OPTIONS]
        steps = [
            "rm -rf pagap/source",
            "mkdir -p pagap/source",
            f"tar -xzf {ARCHIVE} -C pagap/source",
            *([f"bash {ON_WORKER}/mount_bucket.sh {self.bucket} {' '.join(flags)}"]
              if self.bucket else []),
            f"bash {ON_WORKER}/setup_worker.sh",
        ]  # fmt: skip
        return [
            ["mkdir", "-p", "dist"],
            ["git", "archive", "--format=tar.gz", f"--output=dist/{ARCHIVE}", "HEAD"],
            [*_tpu_vm("scp"), f"dist/{ARCHIVE}", f"{self.name}:", "--worker=all", *self._place],
            self._on_workers(" && ".join(steps)),
        ]

    def start(self, environment: Mapping[str, str], arguments: Sequence[str]) -> Command:
        """Starts `pagap` on all workers; where the same run is under way nothing happens."""
        variables = [f"{key}={value}" for key, value in environment.items()]
        run = ["env", *variables, "bash", RUN, "start", "pagap", *arguments]
        return self._on_workers(shlex.join(run))

    def status(self) -> Command:
        """A line a worker: how its run is. A machine that isn't set up has none."""
        none = "echo pagap_status none 0 0"
        return self._on_workers(f"if [ -e {RUN} ]; then bash {RUN} status; else {none}; fi")

    def stop(self) -> Command:
        """Lets the run save and end."""
        return self._on_workers(f"bash {RUN} stop")

    def show_log(self, worker: str = "0") -> Command:
        """Follows the log of one worker."""
        return self._on_workers("tail -n 100 -F pagap/run/log", worker)

    def _on_workers(self, command: str, worker: str = "all") -> Command:
        ssh = [*_tpu_vm("ssh"), self.name, f"--worker={worker}", f"--command={command}"]
        return [*ssh, *self._place]


def _queued_resources(verb: str, name: str) -> Command:
    return ["gcloud", "compute", "tpus", "queued-resources", verb, name]


def _tpu_vm(verb: str) -> Command:
    return ["gcloud", "compute", "tpus", "tpu-vm", verb]
