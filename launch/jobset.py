"""`python -m launch.jobset`: one job as a JobSet for GKE, printed as YAML or applied."""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from launch import options
from launch.checking import checked_arguments
from launch.runner import Runner, exit_code_of
from pagap_jax.accelerators import Slice

CONTAINER = "pagap"
IMAGE_USER = 1000  # launch/Dockerfile's
SHORTEST_GRACE = 300  # seconds: what is saved when a node is taken away needs its time
DEFAULT_RESTARTS = 20


@dataclasses.dataclass(frozen=True)
class JobSet:
    """One job on one or several slices; None leaves to the cluster what it has a default for."""

    name: str
    image: str
    slice: Slice
    arguments: Sequence[str]
    env: Mapping[str, str]
    num_slices: int = 1
    namespace: str = "default"
    queue: str | None = None
    priority_class: str | None = None
    reservation: str | None = None
    spot: bool = False
    service_account: str | None = None
    bucket: str | None = None
    max_restarts: int = DEFAULT_RESTARTS
    grace: int = SHORTEST_GRACE

    def manifest(self) -> dict[str, Any]:
        """The JobSet as Kubernetes reads it."""
        labels = {"kueue.x-k8s.io/queue-name": self.queue} if self.queue else {}
        return {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                **({"labels": labels} if labels else {}),
                # A node pool is a slice: no other job's pods may land on one of its hosts.
                "annotations": {
                    "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
                },
            },
            "spec": {
                "failurePolicy": {
                    "maxRestarts": self.max_restarts,
                    "rules": [
                        {
                            "name": "what-no-restart-mends",
                            "action": "FailJobSet",
                            "onJobFailureReasons": ["PodFailurePolicy"],
                        }
                    ],
                },
                "replicatedJobs": [
                    {"name": "slice", "replicas": self.num_slices, "template": self._job()}
                ],
            },
        }

    def _job(self) -> dict[str, Any]:
        """The processes of one slice, one a host."""
        return {
            "spec": {
                "parallelism": self.slice.hosts,
                "completions": self.slice.hosts,
                "completionMode": "Indexed",
                "backoffLimit": 0,  # one process can't come back alone; the JobSet restarts all
                "podFailurePolicy": {
                    "rules": [
                        # A pod that was evicted may end with anything. It is no fault of the job.
                        {
                            "action": "Count",
                            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                        },
                        {
                            "action": "FailJob",
                            "onExitCodes": {
                                "containerName": CONTAINER,
                                "operator": "NotIn",
                                "values": list(options.RESTART_CODES),
                            },
                        },
                    ]
                },
                "template": {**self._mounting(), "spec": self._pod()},
            }
        }

    def _mounting(self) -> dict[str, Any]:
        """What makes GKE put Cloud Storage FUSE beside the container."""
        if not self.bucket:
            return {}
        return {"metadata": {"annotations": {"gke-gcsfuse/volumes": "true"}}}

    def _pod(self) -> dict[str, Any]:
        selector = {
            "cloud.google.com/gke-tpu-accelerator": self.slice.accelerator.gke,
            "cloud.google.com/gke-tpu-topology": self.slice.topology,
        }
        if self.reservation:
            selector["cloud.google.com/reservation-name"] = self.reservation
        pod: dict[str, Any] = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": self.grace,
            "nodeSelector": selector,
        }
        if self.spot:
            selector["cloud.google.com/gke-spot"] = "true"
            pod["tolerations"] = [
                {
                    "key": "cloud.google.com/gke-spot",
                    "operator": "Equal",
                    "value": "true",
                    "effect": "NoSchedule",
                }
            ]
        if self.priority_class:
            pod["priorityClassName"] = self.priority_class
        if self.service_account:
            pod["serviceAccountName"] = self.service_account
        mounts = {}
        if self.bucket:
            pod["securityContext"] = {"fsGroup": IMAGE_USER}  # may write what is mounted
            mounted = {
                "bucketName": self.bucket,
                "mountOptions": ",".join(options.MOUNT_OPTIONS),
            }
            csi = {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": mounted}
            pod["volumes"] = [{"name": "bucket", "csi": csi}]
            mounts = {"volumeMounts": [{"name": "bucket", "mountPath": f"/mnt/{self.bucket}"}]}
        # Nothing but chips is asked for: queues refuse jobs that name cores or memory without need.
        chips = {"google.com/tpu": self.slice.chips_per_host}
        pod["containers"] = [
            {
                "name": CONTAINER,
                "image": self.image,
                # Without a shell in between, SIGTERM and the exit code are pagap's own.
                "command": ["pagap", *self.arguments],
                "env": [{"name": name, "value": value} for name, value in self.env.items()],
                "resources": {"requests": chips, "limits": dict(chips)},
                **mounts,
            }
        ]
        return pod

    def as_yaml(self) -> str:
        return yaml.safe_dump(self.manifest(), sort_keys=False, width=100)


def add_cluster_options(to: argparse.ArgumentParser) -> None:
    """How a JobSet runs, whatever it runs."""
    to.add_argument("--image", type=options.image, required=True)
    to.add_argument("--num_slices", type=options.at_least(1), default=1)
    to.add_argument("--namespace", type=options.kubernetes_name, default="default")
    to.add_argument("--queue", type=options.kubernetes_name, help="Kueue's local queue")
    to.add_argument("--priority_class", type=options.kubernetes_name)
    capacity = to.add_mutually_exclusive_group()
    capacity.add_argument("--reservation", type=options.resource)
    capacity.add_argument("--spot", action="store_true")
    to.add_argument("--service_account", type=options.kubernetes_name, help="Kubernetes' own")
    to.add_argument(
        "--bucket", type=options.bucket, help="Cloud Storage's; is mounted at /mnt/BUCKET"
    )
    to.add_argument("--max_restarts", type=options.at_least(0), default=DEFAULT_RESTARTS)
    to.add_argument(
        "--grace", type=options.at_least(SHORTEST_GRACE), default=SHORTEST_GRACE, help="seconds"
    )


def jobset_of(given: argparse.Namespace, **instead: object) -> JobSet:
    """The JobSet that the options describe."""
    fields = {field.name for field in dataclasses.fields(JobSet)}
    values = {**vars(given), "env": options.environment(given.env), **instead}
    return JobSet(**{key: value for key, value in values.items() if key in fields})


def apply_command(context: str | None) -> list[str]:
    """What sends a manifest on stdin to a cluster."""
    return ["kubectl", *([f"--context={context}"] if context else []), "apply", "--filename=-"]


def parser() -> argparse.ArgumentParser:
    """The options of one JobSet."""
    one = argparse.ArgumentParser(prog="python -m launch.jobset", description=__doc__)
    one.add_argument("--name", type=options.name, required=True)
    one.add_argument("--slice", type=options.slice_of_chips, required=True)
    add_cluster_options(one)
    one.add_argument("--apply", action="store_true", help="sends it; else it is only printed")
    one.add_argument("--context", type=options.resource, help="kubectl's, with --apply")
    one.add_argument("--dry_run", action="store_true", help="prints what --apply would run too")
    options.add_job_options(one)
    return one


def main(argv: Sequence[str] | None = None) -> int:
    """Prints or applies one JobSet and returns the exit code."""
    given = parser().parse_args(argv)
    return exit_code_of(lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    arguments = checked_arguments(given.arguments, given.slice, given.num_slices)
    text = jobset_of(given, arguments=arguments).as_yaml()
    if given.dry_run or not given.apply:
        print(text, end="")
    if given.dry_run:
        print("# ", end="")
    if given.dry_run or given.apply:
        Runner(given.dry_run).run(apply_command(given.context), stdin=text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
