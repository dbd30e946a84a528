"""`python -m launch.tpu_vm` against a gcloud that plays two workers on this machine."""

import json
import subprocess

import pytest

from launch.tpu_vm.__main__ import main

WORKERS = 2
MACHINE = ("--name=sft-0", "--project=my-project", "--zone=us-east5-a", "--slice=v5p:2x2x2")
JOB = ("--", "sft", "--gin_file=studies/tiny/sft.gin", "--gin.MODEL_DIR='/mnt/b/x y'",
       "--gin.PAIRS_DIR='/mnt/b/p'", "--gin.SEED=0", "--gin.BATCH_SIZE=1024")  # fmt: skip
PLACE = ["--project=my-project", "--zone=us-east5-a", "--quiet"]
QUEUED = ["gcloud", "compute", "tpus", "queued-resources"]
SSH = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "sft-0", "--worker=all"]


CREATED = [
    "--node-id=sft-0", "--accelerator-type=v5p-16", "--runtime-version=v2-alpha-tpuv5",
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "flags"),
    (
        ([], []),
        (["--on_demand"], []),
        (["--spot"], ["--spot"]),
        (
            ["--reserved", "--network=n", "--service_account=a@p.iam.gserviceaccount.com"],
            ["--reserved", "--network=n", "--service-account=a@p.iam.gserviceaccount.com"],
        ),
    ),
)
def test_create(programs, options, flags):
    assert main(["create", *MACHINE, *options]) == 0
    assert programs.calls() == [[*QUEUED, "create", "sft-0", *CREATED, *flags, "--async", *PLACE]]


def test_delete_and_stop(programs):
    assert main(["delete", *MACHINE]) == main(["stop", *MACHINE]) == 0
    assert programs.calls() == [
        [*QUEUED, "delete", "sft-0", "--force", *PLACE],
        [*SSH, "--command=bash pagap/source/launch/tpu_vm/run_worker.sh stop", *PLACE],
    ]


def test_setup_copies_what_is_committed_to_every_worker(programs, plan, tmp_path):
    plan(state="ACTIVE")
    assert main(["setup", *MACHINE]) == 0
    copy, unpack = [call for call in programs.calls() if call[0] == "gcloud"]
    assert copy == [
        *QUEUED[:3], "tpu-vm", "scp", "dist/pagap_jax.tar.gz", "sft-0:", "--worker=all", *PLACE,
    ]  # fmt: skip
    assert unpack == [
        *SSH,
        "--command=rm -rf pagap/source && mkdir -p pagap/source && tar -xzf pagap_jax.tar.gz"
        " -C pagap/source && bash pagap/source/launch/tpu_vm/setup_worker.sh",
        *PLACE,
    ]
    for i in range(WORKERS):
        home = tmp_path / f"worker_{i}" / "pagap"
        assert (home / "source" / "constraints.txt").exists()
        assert not (home / "source" / "not_committed").exists()
        assert (home / "venv" / "bin" / "pagap").exists()


# A machine without gcsfuse, which apt-get installs; it alone makes a folder a mount.
MOUNTING = {
    "gcsfuse": "open(HERE + '/mounted_' + os.environ['HOME'][-1], 'w')",
    "mountpoint": "sys.exit(not os.path.exists(HERE + '/mounted_' + os.environ['HOME'][-1]))",
    "curl": "print('a key')",
    "lsb_release": "print('jammy')",
    "sudo": """
        if "tee" in sys.argv:
            sys.stdin.read()
        if "install" in sys.argv:
            os.rename(HERE + "/package", HERE + "/programs/gcsfuse")
    """,
}


def test_setup_mounts_the_bucket_on_every_worker_once(programs, plan, tmp_path):
    for name, body in MOUNTING.items():
        programs.add(name, body)
    (programs.folder / "gcsfuse").rename(tmp_path / "package")
    plan(state="ACTIVE")
    bucket = "--bucket=my-bucket"
    assert main(["setup", *MACHINE, bucket]) == 0
    mounts = [call[1:] for call in programs.calls() if call[0] == "gcsfuse"]
    one = ["--implicit-dirs", "--rename-dir-limit=200000", "my-bucket", "/mnt/my-bucket"]
    assert mounts == [one] * WORKERS
    installs = [c for c in programs.calls() if c[:2] == ["sudo", "apt-get"] and "install" in c]
    assert len(installs) == 1  # of two homes on one machine
    assert main(["setup", *MACHINE, bucket]) == 0
    assert len([call for call in programs.calls() if call[0] == "gcsfuse"]) == WORKERS
    (tmp_path / "mounted_0").unlink()  # as on a machine that was made anew
    assert main(["setup", *MACHINE, bucket]) == 0
    assert len([call for call in programs.calls() if call[0] == "gcsfuse"]) == WORKERS + 1


def test_run_brings_back_the_exit_code(programs, plan, tmp_path):
    plan([0, 3], state="ACTIVE")
    main(["setup", *MACHINE])
    before = len(programs.calls())
    cache = "JAX_COMPILATION_CACHE_DIR=gs://b/compiled"
    assert main(["run", *MACHINE, "--poll=0.05", f"--env={cache}", *JOB]) == 3
    calls = [call for call in programs.calls()[before:] if call[0] == "gcloud"]
    assert calls[0] == [
        *SSH,
        f"--command=env PAGAP_PROCESSES=auto JAX_COORDINATOR_PORT=8476 {cache}"
        " bash pagap/source/launch/tpu_vm/run_worker.sh start pagap sft"
        """ --gin_file=studies/tiny/sft.gin '--gin.MODEL_DIR='"'"'/mnt/b/x y'"'"''"""
        """ '--gin.PAIRS_DIR='"'"'/mnt/b/p'"'"'' --gin.SEED=0 --gin.BATCH_SIZE=1024""",
        *PLACE,
    ]
    script = "pagap/source/launch/tpu_vm/run_worker.sh"
    status = f"if [ -e {script} ]; then bash {script} status; else echo pagap_status none 0 0; fi"
    assert all(call == [*SSH, f"--command={status}", *PLACE] for call in calls[1:])
    for i in range(WORKERS):
        lines = (tmp_path / f"worker_{i}" / "pagap" / "run" / "log").read_text().splitlines()
        arguments, variables = json.loads(lines[1])
        assert arguments == list(JOB[1:])
        assert variables == {
            "PAGAP_PROCESSES": "auto",
            "JAX_COORDINATOR_PORT": "8476",
            "JAX_COMPILATION_CACHE_DIR": "gs://b/compiled",
        }


@pytest.mark.parametrize("verb", ("create", "setup", "run", "watch", "stop", "delete"))
@pytest.mark.parametrize(
    ("bad", "message"),
    (
        ("--name=Sft_0", "found 'Sft_0', expected at most 28 lower-case"),
        ("--name=" + "a" * 29, "expected at most 28"),
        ("--name=sft-", "found 'sft-', expected"),
        ("--project=My Project", "found 'My Project', expected a project's id"),
        ("--zone=mars", "found 'mars', expected a zone"),
        ("--slice=v5p:3x3x3", "found '3x3x3' after the colon, expected one of 2x2x1"),
        ("--slice=v7:2x2x1", "found 'v7', expected one of v4"),
    ),
)
def test_bad_values_are_refused_before_anything_is_sent(programs, capsys, verb, bad, message):
    job = JOB if verb in ("run", "watch") else ()
    with pytest.raises(SystemExit) as ended:
        main([verb, *MACHINE, bad, *job])
    assert ended.value.code == 2 and message in capsys.readouterr().err
    assert programs.calls() == []


@pytest.mark.parametrize(
    ("job", "message"),
    (
        (["sfft", "--gin_file=x.gin"], "did you mean 'sft'"),
        (["sft", "--gin_fil=x.gin"], "unknown option"),
        (["sft | tee log"], "found a pipe"),
    ),
)
def test_what_pagap_would_refuse_is_refused_here(programs, capsys, job, message):
    assert main(["run", *MACHINE, "--poll=0.01", "--", *job]) == 2
    assert message in capsys.readouterr().err and programs.calls() == []


@pytest.mark.parametrize("verb", ("create", "setup", "run", "watch", "stop", "delete"))
def test_dry_run_prints_what_would_be_sent(programs, plan, capfd, verb):
    plan(0, state="ACTIVE" if verb != "watch" else "SUSPENDED")
    job = ("--poll=0.05", *JOB) if verb in ("run", "watch") else ()
    if verb in ("run", "stop"):
        main(["setup", *MACHINE])
    sent_before = len(programs.calls())
    capfd.readouterr()
    assert main([verb, *MACHINE, "--dry_run", *job]) == 0
    assert len(programs.calls()) == sent_before
    printed = [line for line in capfd.readouterr().out.splitlines() if not line.startswith("#")]
    assert main([verb, *MACHINE, *job]) == 0
    sent = [call for call in programs.calls()[sent_before:] if call[0] == "gcloud"]
    assert verb != "watch" or len(sent) > 8
    pasted_before = len(programs.calls())
    for line in printed:  # as a shell reads it
        subprocess.run(["bash", "-c", line])
    pasted = [call for call in programs.calls()[pasted_before:] if call[0] == "gcloud"]
    assert {json.dumps(call) for call in pasted} == {json.dumps(call) for call in sent}
