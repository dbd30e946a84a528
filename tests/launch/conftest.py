"""Programs that stand on PATH instead of those that would send something."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2

_HEAD = """\
#!{python} -IS
import json, os, sys, time
HERE = {here!r}
with open(HERE + "/calls", "a") as calls:
    calls.write(json.dumps([{name!r}, *sys.argv[1:]]) + "\\n")
"""


class Programs:
    """A folder first on PATH, whose programs write down how they were called."""

    def __init__(self, here: Path):
        self.here = here
        self.folder = here / "programs"
        self.folder.mkdir()

    def add(self, name: str, body: str = "") -> None:
        """A program in Python that records its arguments, then does what `body` says."""
        path = self.folder / name
        path.write_text(
            _HEAD.format(python=sys.executable, here=str(self.here), name=name)
            + textwrap.dedent(body)
        )
        path.chmod(0o755)

    def calls(self) -> list[list[str]]:
        """All calls of all programs, in order."""
        file = self.here / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Whatever would send something only writes down that it was called."""
    made = Programs(tmp_path)
    monkeypatch.setenv("PATH", f"{made.folder}:{os.environ['PATH']}")
    for name in ("gcloud", "kubectl", "xpk"):
        made.add(name)
    return made


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
