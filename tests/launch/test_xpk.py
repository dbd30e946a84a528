"""The command line for xpk, as an xpk on PATH gets it."""

import shlex

import pytest

from launch.xpk import main

WORKLOAD = (
    "--name=sft-0", "--cluster=c", "--project=my-project", "--zone=us-east5-a",
    "--slice=v5p:4x4x4", "--image=us-docker.pkg.dev/p/r/pagap:1",
)  # fmt: skip
JOB = ("--", "sft", "--gin_file=studies/tiny/sft.gin", "--gin.MODEL_DIR='/mnt/b/x y'",
       "--gin.PAIRS_DIR='/mnt/b/p'", "--gin.SEED=0", "--gin.BATCH_SIZE=1024")  # fmt: skip
VERSION = 'print("[XPK] xpk_version: {}") if sys.argv[1] == "version" else None'


def test_the_whole_command(programs, capsys):
    programs.add("xpk", VERSION.format("1.16.0"))
    more = ["--namespace=team", "--num_slices=2", "--priority=high", "--max_restarts=5"]
    more += ["--grace=600", "--spot", "--env=A=b c"]
    assert main([*WORKLOAD, *more, *JOB]) == 0
    version, (program, *create) = programs.calls()
    assert version == ["xpk", "version"] and program == "xpk"
    command = shlex.join(["pagap", *JOB[1:], "--gin.NUM_SLICES=2"])
    assert create == [
        "workload", "create", "--workload=sft-0", "--cluster=c", "--project=my-project",
        "--zone=us-east5-a", "--namespace=team", "--tpu-type=v5p-128", "--num-slices=2",
        "--docker-image=us-docker.pkg.dev/p/r/pagap:1", f"--command={command}", "--priority=high",
        "--max-restarts=5", "--termination-grace-period-seconds=600",
        "--restart-on-exit-codes=42,134,137,143", "--spot", "--env=PAGAP_PROCESSES=auto",
        "--env=JAX_COORDINATOR_PORT=8476", "--env=A=b c",
    ]  # fmt: skip
    assert "xpk: found 1.16.0, needs 1.16.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("version", "found"), (("1.15.9", "1.15.9"), ("v0.17.3", "v0.17.3"), ("none", "none"))
)
def test_an_old_xpk_is_refused(programs, capsys, version, found):
    programs.add("xpk", VERSION.format(version))
    assert main([*WORKLOAD, *JOB]) == 2
    said = capsys.readouterr().err
    assert found in said and "expected 1.16.0 or newer" in said
    assert programs.calls() == [["xpk", "version"]]


@pytest.mark.parametrize("version", ("1.16.1", "1.100.0", "v2.0.0"))
def test_a_newer_xpk_will_do(programs, version):
    programs.add("xpk", VERSION.format(version))
    assert main([*WORKLOAD, *JOB]) == 0 and len(programs.calls()) == 2


def test_a_pipe_is_refused(programs, capsys):
    assert main([*WORKLOAD, "--", "sft", "--gin_file=a.gin", "|", "tee", "log"]) == 2
    assert "found a pipe in '|'" in capsys.readouterr().err and programs.calls() == []


def test_dry_run_sends_nothing(programs, capsys):
    assert main([*WORKLOAD, "--dry_run", *JOB]) == 0
    version, create = capsys.readouterr().out.splitlines()
    assert version == "xpk version" and programs.calls() == []
    programs.add("xpk", VERSION.format("1.16.0"))
    assert main([*WORKLOAD, *JOB]) == 0
    assert shlex.split(create) == programs.calls()[1]


@pytest.mark.parametrize(
    ("bad", "message"),
    (
        ("--name=sft_0", "found 'sft_0', expected"),
        ("--slice=v5p:4x4", "found '4x4' after the colon, expected one of"),
        ("--priority=urgent", "invalid choice: 'urgent'"),
    ),
)
def test_bad_values_are_refused_before_anything_is_sent(programs, capsys, bad, message):
    with pytest.raises(SystemExit) as ended:
        main([*WORKLOAD, bad, *JOB])
    assert ended.value.code == 2 and message in capsys.readouterr().err
    assert programs.calls() == []
