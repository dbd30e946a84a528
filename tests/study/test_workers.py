"""The workers of a study: order, side by side, failures, deaths, and no orphans."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pagap_jax import stopping
from pagap_jax.errors import DataError, RetryError
from pagap_jax.study import workers as workers_module
from pagap_jax.study.place import StudyPlace
from pagap_jax.study.stages import Artefact, Stage
from pagap_jax.study.workers import Workers

TIME_LIMIT = 30  # seconds


def toy_job(argv):
    """What a worker runs; `argv` is that of a stage: its settings say what happens."""
    settings = dict(a.removeprefix("--gin.").split("=", 1) for a in argv[2:])
    folder = Path(settings["MODEL_DIR"].strip("'"))
    print("said by", folder.name)
    os.system(f"echo said by a child of {folder.name} >&2")
    folder.mkdir(parents=True)
    (folder / "began").write_text(f"{os.getpid()} {time.monotonic()} {os.sched_getaffinity(0)}")
    match settings.get("ACT", "''").strip("'"):
        case "fail":
            raise DataError("pairs.jsonl:3: no field 'prompt'")
        case "bug":
            raise ZeroDivisionError("a bug")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "wait":
            time.sleep(TIME_LIMIT)
        case "loop":  # a training loop, which saves when it's asked to stop
            with stopping.unsaved("the step under way"):
                while not stopping.is_requested():
                    time.sleep(0.01)
                (folder / "ended").write_text("saved")
            raise stopping.stopped("saved step 3")
        case "meet":  # another stage has to run at the same time
            deadline = time.monotonic() + TIME_LIMIT
            while len(list(folder.parent.glob("*/began"))) < 2:
                assert time.monotonic() < deadline, "alone"
                time.sleep(0.01)
    (folder / "ended").write_text(str(time.monotonic()))


def stage(name, *needs, act=""):
    return Stage(
        name, "toy", "toy.gin", {f"DIR_{i}": Artefact(n) for i, n in enumerate(needs)}, {"ACT": act}
    )


def run(tmp_path, stages, workers=2, on_finished=lambda stage, seconds: None):
    Workers(toy_job, StudyPlace(str(tmp_path)), workers).run(stages, on_finished)


def began(folder):
    return (folder / "began").read_text().split(" ", 2)


def start(code, tmp_path, *stages):
    """A study in a process of its own, once these stages are under way."""
    root = Path(__file__).resolve().parents[2]
    script = tmp_path / "script.py"
    script.write_text(code)
    study = subprocess.Popen(
        # A shell's background job ignores SIGINT, and what it starts as well: this may run in one.
        ["env", "--default-signal=INT", sys.executable, str(script), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(root)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + TIME_LIMIT
    while not all((tmp_path / name / "began").exists() for name in stages):
        assert study.poll() is None and time.monotonic() < deadline, "stages never began"
        time.sleep(0.01)
    return study


def test_each_runs_after_what_it_needs_and_keeps_its_log(tmp_path):
    finished = []
    stages = [stage("c", "a", "b"), stage("a"), stage("b", "a")]
    run(tmp_path, stages, on_finished=lambda stage, seconds: finished.append((stage.name, seconds)))
    assert [name for name, _ in finished] == ["a", "b", "c"]
    assert all(0 <= seconds < TIME_LIMIT for _, seconds in finished)
    for earlier, later in ("ab", "bc"):
        assert float((tmp_path / earlier / "ended").read_text()) <= float(
            began(tmp_path / later)[1]
        )
    log = (tmp_path / "logs" / "a.log").read_text().splitlines()
    assert sorted(log) == ["said by a", "said by a child of a"]


def test_two_run_side_by_side_on_cores_of_their_own(tmp_path):
    run(tmp_path, [stage("a", act="meet"), stage("b", act="meet")])
    (pid_a, _, core_a), (pid_b, _, core_b) = (began(tmp_path / name) for name in "ab")
    assert pid_a != pid_b
    assert len(eval(core_a)) == 1
    if len(os.sched_getaffinity(0)) > 1:
        assert core_a != core_b


def test_a_failure_names_the_stage_and_its_log_and_ends_the_rest(tmp_path):
    start = time.monotonic()
    with pytest.raises(DataError) as caught:
        run(tmp_path, [stage("bad", act="fail"), stage("slow", act="wait"), stage("next", "bad")])
    assert str(caught.value) == (
        f"bad: pairs.jsonl:3: no field 'prompt'\n(log: {tmp_path}/logs/bad.log)"
    )
    assert time.monotonic() - start < TIME_LIMIT
    assert not (tmp_path / "next").exists() and not (tmp_path / "slow" / "ended").exists()


def test_a_bug_stays_what_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, [stage("bad", act="bug")], workers=1)


def test_a_dead_worker_is_worth_a_retry(tmp_path):
    start = time.monotonic()
    with pytest.raises(RetryError, match="a worker died while .*(bad|slow).* was under way"):
        run(tmp_path, [stage("slow", act="wait"), stage("bad", act="die")])
    assert time.monotonic() - start < TIME_LIMIT
    assert not (tmp_path / "slow" / "ended").exists()


@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGINT))
def test_when_asked_to_stop_workers_save_first(number, tmp_path):
    """SIGTERM to the study alone, Ctrl-C to all of it: a loop saves, anything else just ends."""
    code = (
        "import sys; from pathlib import Path\n"
        "from pagap_jax import stopping\n"
        "from tests.study.test_workers import run, stage\n"
        "stages = [stage('loop', act='loop'), stage('slow', act='wait'), stage('next')]\n"
        "if __name__ == '__main__':\n"
        "    stopping.watch('study')\n"
        "    run(Path(sys.argv[1]), stages)"
    )
    study = start(code, tmp_path, "loop", "slow")
    if number == signal.SIGINT:
        os.killpg(study.pid, number)
    else:
        study.terminate()
    stderr = study.communicate(timeout=TIME_LIMIT)[1]
    error = "InterruptError" if number == signal.SIGINT else "StoppedError"
    assert f"{error}: asked to stop; the same command goes on\n  loop: saved step 3\n" in stderr
    assert "  slow: had saved nothing yet, and will begin again\n" in stderr
    assert "KeyboardInterrupt" not in stderr
    assert (tmp_path / "loop" / "ended").exists()
    assert not (tmp_path / "slow" / "ended").exists() and not (tmp_path / "next").exists()


def test_what_an_ended_run_goes_on_from_is_said_as_it_is(tmp_path):
    assert workers_module._saved_before(tmp_path) == "had saved nothing yet, and will begin again"
    (tmp_path / "kept").mkdir()
    assert workers_module._saved_before(tmp_path) == "will go on from what it had measured before"
    for name in ("2", "10", "12.orbax-checkpoint-tmp"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert workers_module._saved_before(tmp_path) == "will go on from step 10, saved before"


def test_ctrl_c_while_workers_start_is_kept_for_them(tmp_path):
    """No worker dies of it with a traceback, however early it came."""
    code = (
        "import os, signal, sys, threading; from pathlib import Path\n"
        "from pagap_jax import stopping\n"
        "from tests.study.test_workers import run, stage\n"
        "if __name__ == '__main__':\n"
        "    stopping.watch('study')\n"
        "    threading.Timer(0.1, os.killpg, (0, signal.SIGINT)).start()\n"
        "    run(Path(sys.argv[1]), [stage('slow', act='wait')])"
    )
    stderr = start(code, tmp_path).communicate(timeout=TIME_LIMIT)[1]
    assert "KeyboardInterrupt" not in stderr and "InterruptError: asked to stop" in stderr


def test_what_on_finished_raises_ends_the_study(tmp_path):
    def refuse(stage, seconds):
        raise DataError(f"refused {stage.name}")

    start = time.monotonic()
    with pytest.raises(DataError, match="refused quick"):
        run(tmp_path, [stage("quick"), stage("slow", act="wait"), stage("b", "quick")], 2, refuse)
    assert time.monotonic() - start < TIME_LIMIT and not (tmp_path / "b").exists()


def test_workers_end_when_the_study_is_killed(tmp_path):
    """Else a worker would go on writing beside the next study's."""
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.study.test_workers import run, stage\n"
        "if __name__ == '__main__': run(Path(sys.argv[1]), [stage('slow', act='wait')], 1)"
    )
    study = start(code, tmp_path, "slow")
    watch = threading.Timer(TIME_LIMIT, study.kill)
    watch.start()
    worker = int(began(tmp_path / "slow")[0])
    study.kill()
    study.communicate()
    watch.cancel()
    deadline = time.monotonic() + TIME_LIMIT
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() < deadline, "the worker goes on"
        time.sleep(0.01)
    assert not (tmp_path / "slow" / "ended").exists()
