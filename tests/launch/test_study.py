"""A study as jobs: all of them, in an order that works, with slices, names and waits."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from launch import options
from launch.placing import in_waves, read_study
from launch.study import main
from launch.tpu_vm.__main__ import parser as tpu_vm_parser
from pagap_jax.configuration import parse_command_line
from pagap_jax.errors import ConfigError

TINY = (
    "study", "--gin_file=gin_configs/studies/tiny.gin",
    "--gin.Plan.sweeps={'online': ({'BETA': 0.1},), 'offline': ({'BETA': 0.1}, {'BETA': 0.03})}",
)  # fmt: skip
BUCKET = "/mnt/b/tiny"
ON_PODS = (*TINY, f"--gin.STUDY_DIR='{BUCKET}'")
SLICES = ("--slice=v5e:2x4", "--slice=golden=v5p:2x2x4")
CLUSTER = ("--prefix=tiny", "--image=r/pagap:1", "--namespace=team", *SLICES)
MACHINES = ("--prefix=tiny", "--project=my-project", "--zone=us-east5-a", "--spot",
            "--bucket=my-bucket", *SLICES)  # fmt: skip
# Shared ones and reference log-probs; one online and two offline runs, each with its rows.
STAGES = 10 + 2 * (1 + 2)


def made_and_needed(words):
    """The folder that a job's command line writes, and those that it reads."""
    macros = dict(w.removeprefix("--gin.").split("=", 1) for w in words if w.startswith("--gin."))
    folders = {
        key: value.strip("'") for key, value in macros.items() if key.endswith(("_DIR", "_PATH"))
    }
    folders.pop("STUDY_DIR", None)
    return folders.pop("MODEL_DIR"), set(folders.values())


def assert_in_order(command_lines):
    finished = set()
    for words in command_lines:
        made, needed = made_and_needed(words)
        assert needed <= finished, f"{made} comes before {needed - finished}"
        finished.add(made)
    assert len(finished) == STAGES


def test_print_gives_commands_that_pagap_takes_in_order(capsys):
    assert main(["print", "--", *TINY]) == 0
    lines = capsys.readouterr().out.splitlines()
    comments, commands = lines[::2], [shlex.split(line) for line in lines[1::2]]
    assert all(command[0] == "pagap" for command in commands)
    assert_in_order([command[1:] for command in commands])
    for comment, words in zip(comments, commands, strict=True):
        assert parse_command_line(words[1:]).gin_files
        made, needed = made_and_needed(words)
        assert comment.startswith(f"# {made.removeprefix('studies/tiny/')}")
        waits = comment.partition(", waits for ")[2]
        named = {f"studies/tiny/{name}" for name in waits.split(", ") if name}
        assert named == needed


def test_a_wave_waits_for_earlier_ones_alone():
    stages = read_study([*TINY, "--gin.Plan.seeds=(0, 1)"]).stages
    waves = {stage.name: wave for wave, stage in in_waves(stages)}
    assert len(waves) == len(stages) == 2 * STAGES
    for stage in stages:
        assert all(waves[need] < waves[stage.name] for need in stage.needs)
    assert waves["seed_0/online_beta0.1"] == waves["seed_1/online_beta0.1"]


def test_manifests_are_named_in_order_and_keep_the_bucket(tmp_path, capsys):
    folder = tmp_path / "manifests"
    assert main(["jobset", f"--folder={folder}", *CLUSTER, "--", *ON_PODS]) == 0
    files = sorted(folder.glob("*.yaml"))
    manifests = [yaml.safe_load(file.read_text()) for file in files]
    assert f"{STAGES} manifests" in capsys.readouterr().out and len(files) == STAGES
    names = [manifest["metadata"]["name"] for manifest in manifests]
    assert len(set(names)) == STAGES
    assert [options.name(name) for name in names] == names
    assert [f"{i:03d}-{name}.yaml" for i, name in enumerate(names, 1)] == [f.name for f in files]
    commands = []
    for manifest in manifests:
        (replicated,) = manifest["spec"]["replicatedJobs"]
        pod = replicated["template"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        commands.append(container["command"][1:])
        is_golden = any("/golden.gin" in word for word in container["command"])
        topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
        assert topology == ("2x2x4" if is_golden else "2x4")
    assert_in_order(commands)
    for words in commands:
        made, needed = made_and_needed(words)
        assert all(path.startswith(f"{BUCKET}/seed_0/") for path in {made, *needed})


KUBECTL = """\
names = open(f"{HERE}/completed", "a+")
names.seek(0)
asked = sys.argv[-2].removeprefix("jobset/")
if "apply" in sys.argv:
    file = sys.argv[-1].removeprefix("--filename=")
    names.write(file.removesuffix(".yaml").split("-", 1)[1] + "\\n")
elif os.environ.get("FAILS", "nothing") in asked:
    print("Failed")
elif asked in names.read().split():
    print("Completed")
"""


def submit(folder, **variables):
    script = folder / "submit.sh"
    return subprocess.run(
        ["bash", script], env={**os.environ, "POLL": "0.01", **variables}, text=True,
        capture_output=True, timeout=30,
    )  # fmt: skip


@pytest.fixture
def manifests(tmp_path, programs):
    """A folder of them, and a kubectl whose jobs are completed at once."""
    folder = tmp_path / "manifests"
    main(["jobset", f"--folder={folder}", *CLUSTER, "--", *ON_PODS])
    programs.add("kubectl", KUBECTL)
    return folder


def test_submit_waits_for_what_each_job_needs(manifests, programs):
    ended = submit(manifests)
    assert ended.returncode == 0, ended.stderr
    applied = [c[-1].removeprefix("--filename=") for c in programs.calls() if c[1] == "apply"]
    assert applied == sorted(file.name for file in manifests.glob("*.yaml"))
    asked = [call for call in programs.calls() if call[2] == "get"]
    assert asked and all(call[1] == "--namespace=team" for call in asked)


def test_submit_ends_where_a_job_failed(manifests, programs):
    ended = submit(manifests, FAILS="golden-policy")
    assert ended.returncode == 1 and "golden-policy, which it waits for, failed" in ended.stderr
    applied = [call[-1] for call in programs.calls() if call[1] == "apply"]
    assert not any("golden-responses" in file for file in applied)


def test_the_submitting_script_is_clean(manifests):
    shellcheck = Path(sys.executable).with_name("shellcheck")
    command = [shellcheck, "--severity=warning", manifests / "submit.sh"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_tpu_vm_prints_commands_that_it_takes(capsys):
    assert main(["tpu_vm", *MACHINES, "--env=A=b", "--", *ON_PODS]) == 0
    lines = capsys.readouterr().out.splitlines()
    commands = [shlex.split(line) for line in lines if line.startswith("python ")]
    given = [tpu_vm_parser().parse_args(command[3:]) for command in commands]
    watched = [one for one in given if one.verb == "watch"]
    assert_in_order([one.arguments for one in watched])
    assert all(one.capacity == "spot" and one.env == [("A", "b")] for one in watched)
    assert all(one.bucket == "my-bucket" for one in given)
    kinds = {str(one.slice) for one in watched if one.arguments[1].endswith("/golden.gin")}
    assert kinds == {"v5p:2x2x4"}
    deleted = given[len(watched) :]
    assert [one.verb for one in deleted] == ["delete", "delete"]
    assert {one.name for one in deleted} == {one.name for one in watched}


def test_names_do_not_change_when_seeds_are_added(tmp_path):
    found = []
    for seeds in ("(1,)", "(0, 1)"):
        folder = tmp_path / seeds
        words = [*ON_PODS, f"--gin.Plan.seeds={seeds}"]
        assert main(["jobset", f"--folder={folder}", *CLUSTER, "--", *words]) == 0
        found.append({file.stem.split("-", 1)[1] for file in folder.glob("*.yaml")})
    assert found[0] < found[1] and len(found[1]) == 2 * STAGES


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([], {"golden": "v5p:2x2x1", "online": "v5p:2x2x1"}),
        (["--slice=golden=v4:2x2x2"], {"golden": "v4:2x2x2", "online": "v5p:2x2x1"}),
        (["--slice=v6e:2x2"], {"golden": "v6e:2x2", "online": "v6e:2x2"}),
        (
            ["--slice=v6e:2x2", "--slice=golden=v4:2x2x2"],
            {"golden": "v4:2x2x2", "online": "v6e:2x2"},
        ),
    ],
)
def test_the_study_s_own_slices_hold_where_none_is_given(given, found, capsys):
    words = ["study", "--gin_file=gin_configs/studies/harmlessness.gin"]
    of_tasks = ("SUMMARIZATION_FILES", "HH_DIR", "ARENA_FILES")
    words += ["--gin.STUDY_DIR='/mnt/b/s'", *(f"--gin.{name}='/d'" for name in of_tasks)]
    assert main(["print", *given, "--", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    for kind, name in found.items():
        lines_of_kind = [
            comment
            for comment, command in zip(lines[::2], lines[1::2], strict=True)
            if f"--gin_file=studies/paper/{kind}.gin" in command
        ]
        assert lines_of_kind and all(f", {name}, waits for" in line for line in lines_of_kind)


@pytest.mark.parametrize(
    ("arguments", "message"),
    (
        (
            ["tpu_vm", *MACHINES, "--", *TINY],
            "found 'studies/tiny', expected one that all hosts reach",
        ),
        (["tpu_vm", *MACHINES[:-2], "--", *ON_PODS], "--slice: found none for evaluate, golden"),
        (["tpu_vm", *MACHINES, "--slice=glod=v5e:2x4", "--", *ON_PODS], "found the kind 'glod'"),
        (
            ["tpu_vm", *MACHINES, "--slice=sft=v5e:8x16", "--", *ON_PODS],
            "seed_0/sft on v5e:8x16: BATCH_SIZE=32 isn't a multiple of the 128 data shards",
        ),
        (
            ["rehearsal", "--processes=3", "--devices=1", "--", *TINY],
            "seed_0/sft on this machine: BATCH_SIZE=32 isn't a multiple of the 3 data shards",
        ),
        (["print", "--", *TINY, "--gin.Plan.settings={'sft': {'LR': 1}}"], "seed_0/sft on this"),
        (["print", "--", "sft", "--gin_file=jobs/sft.gin"], "found the job 'sft' after --"),
        (["print", "--", *TINY, "--gin.STUDY_DIRR='x'"], "STUDY_DIRR"),
        (["print", "--", *TINY, "--gin.Plan.slices={'goldn': 'v5p:2x2x1'}"], "found goldn"),
        (["print", "--", *TINY, "--gin.Plan.slices={'golden': 'v5p:2x2x9'}"], "found '2x2x9'"),
    ),
)
def test_what_does_not_fit_is_refused(capsys, arguments, message):
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert message in said.err and not said.out


def test_a_study_is_read_as_pagap_reads_it():
    with pytest.raises(ConfigError, match="DATA_FILE is required: give --gin.DATA_FILE="):
        read_study(["study", "--gin_file=studies/tiny_jsonl.gin"])
