"""The JobSet's YAML: what Kubernetes accepts, and that every given value arrives."""

import copy
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from launch.jobset import main
from pagap_jax.accelerators import parse_slice

KUBERNETES = "1.37"  # whose schemas kubernetes-validate comes with
IMAGE = "us-docker.pkg.dev/p/r/pagap:1"
MINIMUM = ("--name=sft-0", "--slice=v5p:2x2x4", f"--image={IMAGE}")
JOB = ("--", "sft", "--gin_file=studies/tiny/sft.gin", "--gin.MODEL_DIR='/mnt/b/x y'",
       "--gin.PAIRS_DIR='/mnt/b/p'", "--gin.SEED=0", "--gin.BATCH_SIZE=1024")  # fmt: skip
ALL = (
    "--num_slices=2", "--namespace=team", "--queue=tpus", "--priority_class=high",
    "--service_account=trainer", "--max_restarts=7", "--grace=600",
    "--env=JAX_COMPILATION_CACHE_DIR=gs://b/c",
)  # fmt: skip


def fields(required, **known):
    return {
        "type": "object", "properties": known, "required": required, "additionalProperties": False,
    }  # fmt: skip


# What we set of a JobSet and nothing else: Kubernetes would drop a misspelt field without a word.
TEXT, TEXTS = {"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}
NATURAL = {"type": "integer", "minimum": 0}
RULE = fields(
    ["name", "action", "onJobFailureReasons"],
    name=TEXT,
    action={"enum": ["FailJobSet"]},
    onJobFailureReasons={"type": "array", "items": {"enum": ["PodFailurePolicy"]}},
)
SCHEMA = fields(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata=fields(["name"], name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS),
    spec=fields(
        ["failurePolicy", "replicatedJobs"],
        failurePolicy=fields(
            ["maxRestarts"], maxRestarts=NATURAL, rules={"type": "array", "items": RULE}
        ),
        replicatedJobs={
            "type": "array",
            "items": fields(
                ["name", "replicas", "template"],
                name=TEXT, replicas=NATURAL, template={"type": "object"},
            ),
        },
    ),
)  # fmt: skip


def validate(jobset):
    """Raises where Kubernetes or the JobSet controller would refuse or drop something.

    Returns the names of the jobs that it looked at.
    """
    jsonschema.validate(jobset, SCHEMA)
    for replicated in jobset["spec"]["replicatedJobs"]:
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": replicated["name"]},
            **replicated["template"],
        }
        kubernetes_validate.validate(job, KUBERNETES, strict=True)
    return [replicated["name"] for replicated in jobset["spec"]["replicatedJobs"]]


@pytest.fixture
def jobset(capsys):
    """The JobSet that a command line prints."""

    def make(*options):
        assert main([*MINIMUM, *options, *JOB]) == 0
        return yaml.safe_load(capsys.readouterr().out)

    return make


@pytest.mark.parametrize("options", ((), ALL, (*ALL, "--spot"), (*ALL, "--reservation=r/b")))
def test_it_is_valid(jobset, options):
    assert len(validate(jobset(*options))) == 1


@pytest.mark.parametrize(
    "place",
    (
        ("metadata",),
        ("spec",),
        ("spec", "failurePolicy"),
        ("spec", "failurePolicy", "rules", 0),
        ("spec", "replicatedJobs", 0),
        ("spec", "replicatedJobs", 0, "template", "spec"),
        ("spec", "replicatedJobs", 0, "template", "spec", "podFailurePolicy", "rules", 1),
        ("spec", "replicatedJobs", 0, "template", "spec", "template", "spec", "containers", 0),
    ),
    ids=lambda place: ".".join(map(str, place)),
)
def test_a_misspelt_field_would_be_found(jobset, place):
    wrong = copy.deepcopy(jobset(*ALL))
    inside = wrong
    for step in place:
        inside = inside[step]
    inside["paralelism"] = 1
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        validate(wrong)


def test_every_value_arrives(jobset):
    found = jobset(*ALL, "--spot")
    metadata, spec = found["metadata"], found["spec"]
    assert (metadata["name"], metadata["namespace"]) == ("sft-0", "team")
    assert metadata["labels"] == {"kueue.x-k8s.io/queue-name": "tpus"}
    assert metadata["annotations"] == {
        "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
    }
    assert spec["failurePolicy"]["maxRestarts"] == 7
    (replicated,) = spec["replicatedJobs"]
    assert replicated["replicas"] == 2
    job = replicated["template"]["spec"]
    assert job["parallelism"] == job["completions"] == 4 and job["backoffLimit"] == 0
    pod = job["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 600
    assert (pod["priorityClassName"], pod["serviceAccountName"]) == ("high", "trainer")
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5p-slice",
        "cloud.google.com/gke-tpu-topology": "2x2x4",
        "cloud.google.com/gke-spot": "true",
    }
    assert [t["key"] for t in pod["tolerations"]] == ["cloud.google.com/gke-spot"]
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    assert container["command"] == ["pagap", *JOB[1:], "--gin.NUM_SLICES=2"]
    assert container["resources"] == {
        "requests": {"google.com/tpu": 4},
        "limits": {"google.com/tpu": 4},
    }
    assert {one["name"]: one["value"] for one in container["env"]} == {
        "PAGAP_PROCESSES": "auto",
        "JAX_COORDINATOR_PORT": "8476",
        "JAX_COMPILATION_CACHE_DIR": "gs://b/c",
    }


def test_a_bucket_is_mounted(jobset):
    job = jobset("--bucket=my-bucket")["spec"]["replicatedJobs"][0]["template"]["spec"]
    template = job["template"]
    assert template["metadata"]["annotations"] == {"gke-gcsfuse/volumes": "true"}
    (volume,), (container,) = template["spec"]["volumes"], template["spec"]["containers"]
    assert volume["csi"]["driver"] == "gcsfuse.csi.storage.gke.io"
    attributes = volume["csi"]["volumeAttributes"]
    assert attributes["bucketName"] == "my-bucket"
    assert "rename-dir-limit=200000" in attributes["mountOptions"].split(",")
    # Who runs the image may write to it.
    assert template["spec"]["securityContext"] == {"fsGroup": 1000}
    assert "useradd --uid=1000 " in Path("launch/Dockerfile").read_text()
    assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/mnt/my-bucket"}]


def test_what_restarts_and_what_does_not(jobset):
    spec = jobset()["spec"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    evicted, failed = job["podFailurePolicy"]["rules"]
    assert evicted["action"] == "Count"
    assert evicted["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    container = job["template"]["spec"]["containers"][0]["name"]
    assert failed == {
        "action": "FailJob",
        "onExitCodes": {
            "containerName": container,
            "operator": "NotIn",
            "values": [42, 134, 137, 143],
        },
    }
    (rule,) = spec["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] >= 300


@pytest.mark.parametrize(
    ("text", "hosts", "chips"), (("v5e:2x4", 1, 8), ("v6e:16x16", 64, 4), ("v4:2x2x1", 1, 4))
)
def test_hosts_and_chips_are_those_of_the_slice(jobset, text, hosts, chips):
    job = jobset(f"--slice={text}")["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    assert job["parallelism"] == hosts
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": chips}
    selector = pod["nodeSelector"]
    label = parse_slice(text).accelerator.gke
    assert selector["cloud.google.com/gke-tpu-accelerator"] == label
    assert selector["cloud.google.com/gke-tpu-topology"] == text.partition(":")[2]


def test_what_is_not_given_is_left_to_the_cluster(jobset):
    found = jobset()
    pod = found["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert "labels" not in found["metadata"]
    assert not {"priorityClassName", "serviceAccountName", "tolerations"} & set(pod)
    reserved = jobset("--reservation=r1")
    pod = reserved["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"]["cloud.google.com/reservation-name"] == "r1"


def test_apply_sends_what_is_printed_otherwise(programs, capsys, tmp_path):
    programs.add("kubectl", 'open(HERE + "/manifest", "w").write(sys.stdin.read())')
    assert main([*MINIMUM, *JOB]) == 0
    printed = capsys.readouterr().out
    assert programs.calls() == []
    assert main([*MINIMUM, "--apply", "--context=c", "--dry_run", *JOB]) == 0
    assert capsys.readouterr().out == f"{printed}# kubectl --context=c apply --filename=-\n"
    assert programs.calls() == []
    assert main([*MINIMUM, "--apply", "--context=c", *JOB]) == 0
    assert programs.calls() == [["kubectl", "--context=c", "apply", "--filename=-"]]
    assert (tmp_path / "manifest").read_text() == printed


def test_what_kubectl_says_is_passed_on(programs, capsys):
    programs.add("kubectl", "sys.exit(1)")
    assert main([*MINIMUM, "--apply", *JOB]) == 1
    assert "kubectl apply --filename=-: ended with 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bad", "message"),
    (
        ("--name=sft_0", "found 'sft_0', expected"),
        ("--slice=v5e:3x3", "found '3x3' after the colon, expected one of 1x1"),
        ("--image=us-docker.pkg.dev/p/r/pagap", "expected an image with its tag or digest"),
        ("--grace=30", "found '30', expected a whole number of at least 300"),
        ("--num_slices=0", "found '0', expected a whole number of at least 1"),
        ("--queue=My queue", "found 'My queue', expected a Kubernetes name"),
        ("--env=A", "found 'A', expected NAME=VALUE"),
    ),
)
def test_bad_values_are_refused_before_anything_is_sent(programs, capsys, bad, message):
    with pytest.raises(SystemExit) as ended:
        main([*MINIMUM, bad, "--apply", *JOB])
    assert ended.value.code == 2 and message in capsys.readouterr().err
    assert programs.calls() == []
