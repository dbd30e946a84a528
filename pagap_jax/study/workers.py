"""Runs the stages of a study on one machine's cores, each when what it needs is there."""

import concurrent.futures
import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import Queue, SimpleQueue
from pathlib import Path

from pagap_jax import stopping
from pagap_jax.errors import PagapError, RetryError, StoppedError
from pagap_jax.run_directory import KEPT
from pagap_jax.study.place import StudyPlace
from pagap_jax.study.stages import Stage, in_order

RunJob = Callable[[Sequence[str]], object]
# Of a stage's command line and folder: what is wrong with its settings, and with the run there.
CheckJob = Callable[[Sequence[str], str], tuple[str, str]]
LOOK_EVERY = 0.5  # seconds between two looks whether all workers are alive, and whether to stop
STOP_WITHIN = 30.0  # seconds that a worker has to save what it's at

_told: SimpleQueue | None = None  # of a worker


class Workers:
    """Processes that each run one job after another on a core of their own.

    Tiny models gain nothing from a second core, so jobs side by side are what uses the machine. A
    worker is kept from job to job because its imports take longer than many of the jobs.
    """

    def __init__(
        self, run_job: RunJob, place: StudyPlace, workers: int, options: Sequence[str] = ()
    ):
        """Starts no process yet; every stage's command line ends with `options`."""
        self.number = workers
        self._run_job = run_job
        self._options = options
        self._place, self._study_dir = place, place.here
        context = multiprocessing.get_context("spawn")
        cores: Queue = context.Queue()
        self._told: SimpleQueue = context.SimpleQueue()  # what workers that stopped have saved
        allowed = sorted(os.sched_getaffinity(0))
        for i in range(workers):
            cores.put(allowed[i % len(allowed)])
        self._pool = concurrent.futures.ProcessPoolExecutor(
            workers,
            context,
            initializer=_start_worker,
            initargs=(cores, self._told, str(place.here)),
        )
        self._processes = self._pool._processes  # the pool forgets them where one has died

    def check(self, check_job: CheckJob, stages: Sequence[Stage]) -> list[tuple[str, str]]:
        """What `check_job` says of each stage."""
        argvs = [self._argv(stage) for stage in stages]
        folders = [str(self._study_dir / stage.name) for stage in stages]
        share = -(-len(stages) // self.number)
        with _signals_kept():
            found = self._pool.map(check_job, argvs, folders, chunksize=share)
        return list(found)

    def close(self) -> None:
        """Ends the workers, which are at nothing."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, stages: Sequence[Stage], on_finished: Callable[[Stage, float], None]) -> None:
        """Runs all stages; `on_finished` is called in this process with each and its seconds.

        Raises:
            PagapError: of the first stage that failed; stages under way are ended.
            RetryError: a worker died.
            StoppedError: asked to stop; says what each stage under way has saved.
        """
        with stopping.unsaved("the stages under way, to save what they are at"):
            self._run(stages, on_finished)

    def _run(self, stages: Sequence[Stage], on_finished: Callable[[Stage, float], None]) -> None:
        waiting = in_order(stages)
        finished: set[str] = set()
        running: dict[concurrent.futures.Future, Stage] = {}
        try:
            while waiting or running:
                if stopping.is_requested():
                    raise stopping.stopped("asked to stop")
                ready = [stage for stage in waiting if finished.issuperset(stage.needs)]
                for stage in ready:
                    waiting.remove(stage)
                    log = self._study_dir / "logs" / f"{stage.name}.log"
                    job = (self._run_job, stage.name, self._argv(stage), str(log))
                    with _signals_kept():
                        future = self._pool.submit(_work, *job)
                    running[future] = stage
                done, _ = concurrent.futures.wait(
                    running, LOOK_EVERY, return_when=concurrent.futures.FIRST_COMPLETED
                )
                if not done:
                    self._check_alive([stage.name for stage in running.values()])
                for future in done:
                    stage = running.pop(future)
                    self._place.fetch(stage.name)
                    on_finished(stage, self._seconds(future, stage))
                    finished.add(stage.name)
        except (BrokenProcessPool, RetryError) as error:
            self._stop()
            if stopping.is_requested():
                raise stopping.stopped(self._saved(running.values())) from error
            if isinstance(error, RetryError):
                raise
            raise _a_worker_died([stage.name for stage in running.values()]) from error
        except BaseException:
            self._stop()
            raise
        finally:
            self.close()

    def _argv(self, stage: Stage) -> list[str]:
        return [*stage.argv(self._place.directory), *self._options]

    def _stop(self) -> None:
        """Ends the workers; one that trains saves first."""
        processes = list(self._processes.values())
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + STOP_WITHIN
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()

    def _saved(self, under_way: Iterable[Stage]) -> str:
        """What was lost by the stop, which is nothing that a stage could save."""
        said = {}
        while not self._told.empty():
            name, message = self._told.get()
            said[name] = message
        begun = {stage.name for stage in under_way if (self._study_dir / stage.name).exists()}
        others = sorted(begun - said.keys())
        lines = [f"  {name}: {message}" for name, message in sorted(said.items())]
        lines += [f"  {name}: {_saved_before(self._study_dir / name)}" for name in others]
        return "\n".join(["asked to stop; the same command goes on", *lines])

    def _check_alive(self, stages: Sequence[str]) -> None:
        """The pool itself doesn't notice the death of a worker that it started while it waited."""
        workers = list(self._processes.values())
        if not all(worker.is_alive() for worker in workers):
            raise _a_worker_died(stages)

    def _seconds(self, future: concurrent.futures.Future, stage: Stage) -> float:
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise _a_worker_died([stage.name]) from error
        except PagapError as error:
            log = self._study_dir / "logs" / f"{stage.name}.log"
            raise type(error)(f"{stage.name}: {error}\n(log: {log})") from error


def _a_worker_died(stages: Sequence[str]) -> RetryError:
    return RetryError(
        f"a worker died while {', '.join(stages)} was under way; the same command goes on from"
        " the last checkpoints"
    )


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """What starts in the block gets its signals once it watches them: none is lost or fatal."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stopping.NAMES)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _saved_before(run: Path) -> str:
    """What a run that was ended where it was goes on from."""
    steps = [int(path.name) for path in run.glob("checkpoints/*") if path.name.isdecimal()]
    if steps:
        return f"will go on from step {max(steps)}, saved before"
    if (run / KEPT).exists():
        return "will go on from what it had measured before"
    return "had saved nothing yet, and will begin again"


def _start_worker(cores: Queue, told: SimpleQueue, study_dir: str) -> None:
    """One core, a compilation cache that all workers share, and an end when the study's ends."""
    global _told
    _told = told
    stopping.watch("worker")
    signal.pthread_sigmask(signal.SIG_UNBLOCK, stopping.NAMES)
    os.sched_setaffinity(0, {cores.get()})
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(study_dir) / ".compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # a job that nobody waits for must not go on writing


def _work(run_job: RunJob, stage: str, argv: Sequence[str], log: str) -> float:
    start = time.monotonic()
    if stopping.is_requested():  # what is queued isn't begun
        raise stopping.stopped("asked to stop")
    try:
        with _output_to(Path(log)):
            run_job(argv)
    except StoppedError as error:
        assert _told is not None
        _told.put((stage, str(error)))
        raise
    if "jax" in sys.modules:  # else what a job compiled and held stays for the worker's life
        sys.modules["jax"].clear_caches()
        gc.collect()
    return time.monotonic() - start


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Sends this process's stdout and stderr, C++ libraries' too, to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, kept in zip((1, 2), saved, strict=True):
                os.dup2(kept, descriptor)
                os.close(kept)
