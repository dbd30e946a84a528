"""`python -m launch.tpu_vm` against a gcloud that plays two workers on this machine."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from launch.tpu_vm.__main__ import main
from launch.tpu_vm.watch import Status, exit_code, parse_statuses

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2
MACHINE = ("--name=sft-0", "--project=my-project", "--zone=us-east5-a", "--slice=v5p:2x2x2")
JOB = ("--", "sft", "--gin_file=jobs/sft.gin", "--gin.MODEL_DIR='gs://b/x y'")
PLACE = ["--project=my-project", "--zone=us-east5-a", "--quiet"]
QUEUED = ["gcloud", "compute", "tpus", "queued-resources"]
SSH = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "sft-0", "--worker=all"]

# The state is a file; ssh runs its command for each worker in a home of its own.
GCLOUD = """\
import shutil, subprocess
from pathlib import Path
HERE = Path(HERE)
state = HERE / "state"
now = state.read_text() if state.exists() else "absent"
verb = sys.argv[4]
if sys.argv[3] == "queued-resources":
    if verb == "create":
        state.write_text("WAITING_FOR_RESOURCES")
    elif verb == "delete":
        state.write_text("absent")
        for home in HERE.glob("worker_*"):
            subprocess.run(["bash", home / "pagap/source/launch/tpu_vm/run_worker.sh", "stop", "0"],
                           env={**os.environ, "HOME": str(home)})
            shutil.rmtree(home)
    elif now == "absent":
        sys.exit("NOT_FOUND: no such queued resource")
    else:
        print(now)
        following = {"WAITING_FOR_RESOURCES": "PROVISIONING", "PROVISIONING": "ACTIVE"}
        state.write_text(following.get(now, now))
    sys.exit()
if now != "ACTIVE":
    sys.exit("ssh: connect to host: connection timed out")
worst = 0
for i in range(WORKERS):
    home = HERE / f"worker_{i}"
    home.mkdir(exist_ok=True)
    if verb == "scp":
        shutil.copy(sys.argv[5], home)
        continue
    (command,) = [a.removeprefix("--command=") for a in sys.argv if a.startswith("--command=")]
    ended = subprocess.run(["bash", "-c", command], cwd=home, env={**os.environ, "HOME": str(home)})
    worst = max(worst, ended.returncode)
sys.exit(worst)
"""
# In place of the installation: a pagap that ends as the n-th line of `plan` says.
UV = """\
os.makedirs("venv/bin", exist_ok=True)
for name in ("pagap", "python"):
    if not os.path.exists(f"venv/bin/{name}"):
        os.link(f"{HERE}/programs/pagap", f"venv/bin/{name}")
"""
PAGAP = """\
if sys.argv[1:] == ["--help"]:
    sys.exit()
worker = os.path.basename(os.environ["HOME"])
with open(f"{HERE}/starts_{worker}", "a+") as file:
    file.write("x")
    file.seek(0)
    start = len(file.read()) - 1
step = json.load(open(f"{HERE}/plan"))[start]
print(json.dumps([sys.argv[1:], {k: os.environ.get(k) for k in (
    "PAGAP_PROCESSES", "JAX_COORDINATOR_PORT", "JAX_COMPILATION_CACHE_DIR")}]))
step = step if isinstance(step, (int, str)) else step[int(worker[-1])]
if step == "preempted":
    open(f"{HERE}/state", "w").write("SUSPENDED")
seconds = {"preempted": 20, "hangs": 20, "slow": 0.6}.get(step, 0)
time.sleep(seconds)
sys.exit(step if not seconds else 0)
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A repository with what workers need, and a file that isn't committed."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "launch" / "tpu_vm", folder / "launch" / "tpu_vm")
    (folder / "constraints.txt").write_text("")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "--message=all"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    (folder / "not_committed").write_text("")
    return folder


@pytest.fixture
def plan(programs, checkout, tmp_path, monkeypatch):
    """Says how each start ends; gcloud, uv and pagap play, git and the scripts are real."""
    programs.add("gcloud", GCLOUD.replace("WORKERS", str(WORKERS)))
    programs.add("uv", UV)
    programs.add("pagap", PAGAP)
    monkeypatch.chdir(checkout)

    def write(*steps, state: str = "absent"):
        (tmp_path / "plan").write_text(json.dumps(steps))
        (tmp_path / "state").write_text(state)

    yield write
    for home in tmp_path.glob("worker_*"):
        script = checkout / "launch" / "tpu_vm" / "run_worker.sh"
        subprocess.run(["bash", script, "stop", "0"], env={"HOME": str(home), "PATH": "/bin"})


def verbs(programs) -> list[str]:
    """What gcloud was asked for, looks left out."""
    found = []
    for program, *arguments in programs.calls():
        if program != "gcloud" or arguments[3] == "describe":
            continue
        command = next((a for a in arguments if a.startswith("--command=")), "")
        if " status" in command:
            continue
        names = {"setup_worker.sh": "setup", " start ": "start", "run_worker.sh stop": "stop"}
        found.append(next((n for text, n in names.items() if text in command), arguments[3]))
    return found


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
        " bash pagap/source/launch/tpu_vm/run_worker.sh start pagap sft --gin_file=jobs/sft.gin"
        """ '--gin.MODEL_DIR='"'"'gs://b/x y'"'"''""",
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


def watch(*more: str) -> int:
    return main(["watch", *MACHINE, "--poll=0.05", *more, *JOB])


def test_watch_makes_the_machine_and_reruns_after_42(programs, plan):
    plan(42, 0)
    assert watch() == 0
    assert verbs(programs) == ["create", "scp", "setup", "start", "start"]


def test_watch_makes_a_preempted_machine_anew(programs, plan):
    plan("preempted", 0)
    assert watch("--delete_after") == 0
    once = ["create", "scp", "setup", "start"]
    assert verbs(programs) == [*once, "delete", *once, "delete"]


def test_a_restart_waits_until_all_workers_ended(programs, plan, tmp_path):
    plan([42, "slow"], 0)
    assert watch() == 0
    assert verbs(programs) == ["create", "scp", "setup", "start", "start"]
    assert [(tmp_path / f"starts_worker_{i}").read_text() for i in range(2)] == ["xx", "xx"]


def test_workers_that_miss_a_lost_one_too_long_are_stopped(programs, plan, monkeypatch):
    monkeypatch.setattr("launch.tpu_vm.watch.END_WITHIN", 0.2)
    plan([42, "hangs"], 0)
    assert watch() == 0
    assert verbs(programs) == ["create", "scp", "setup", "start", "stop", "start"]


@pytest.mark.parametrize("code", (2, 3))
def test_watch_gives_up_where_no_restart_helps(programs, plan, code):
    plan(code, 0)
    assert watch() == code
    assert verbs(programs) == ["create", "scp", "setup", "start"]


def test_watch_gives_up_after_so_many_restarts(programs, plan, capfd):
    plan(42, 134, 137, 0)
    assert watch("--max_restarts=2") == 137
    assert verbs(programs).count("start") == 3
    assert "gives up after 2 restarts" in capfd.readouterr().err


def test_watch_sets_nothing_up_under_a_run(programs, plan, tmp_path):
    plan(42, 0, state="ACTIVE")
    main(["setup", *MACHINE])
    slow = "#!/bin/sh\nsleep 0.7\n"
    for i in range(WORKERS):
        program = tmp_path / f"worker_{i}" / "pagap" / "venv" / "bin" / "pagap"
        program.unlink()
        program.write_text(slow)
        program.chmod(0o755)
    start = ["bash", "launch/tpu_vm/run_worker.sh", "start", "pagap", *JOB[1:]]
    for i in range(WORKERS):
        home = str(tmp_path / f"worker_{i}")
        subprocess.run(start, env={"HOME": home, "PATH": "/usr/bin:/bin"}, check=True)
    assert watch() == 0
    assert verbs(programs) == ["scp", "setup", "start"]  # no second setup; start found the run
    assert not (tmp_path / "starts_worker_0").exists()


def test_statuses_are_found_among_what_ssh_says():
    text = "Warning: added\npagap_status running 0 0\nWarning\npagap_status ended 42 1700\r\n"
    assert parse_statuses(text) == [Status("running", 0, 0), Status("ended", 42, 1700)]


@pytest.mark.parametrize(
    ("statuses", "code"),
    (
        ([("running", 0, 0), ("ended", 0, 5)], None),
        ([("ended", 0, 9), ("ended", 0, 5)], 0),
        ([("ended", 134, 9), ("ended", 2, 5)], 2),
        ([("ended", 1, 9), ("ended", 42, 5)], 42),
        ([("ended", 1, 9), ("lost", 0, 0)], 137),
        ([("running", 0, 0), ("none", 0, 0)], 137),
    ),
)
def test_the_first_bad_end_decides(statuses, code):
    assert exit_code([Status(*status) for status in statuses]) == code


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
