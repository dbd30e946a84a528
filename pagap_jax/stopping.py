"""Requests to stop: SIGTERM (the machine is about to be taken away) and Ctrl-C.

A signal sets a flag, and work looks at it between two steps or batches. No handler raises: an
exception from there may land in a garbage collection's callback, which swallows it, or in a trace.

A thread hears of each signal too, also while the main thread is in a call that can't look
(compiling, reading). It says at once on the console what is waited for. Where nothing is unsaved it
ends the process after a moment: what is on disk is whole or absent, and the kernel's locks go with
the process, so an end is safe at any time. A second Ctrl-C ends the process at once.
"""

import atexit
import contextlib
import dataclasses
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from pagap_jax.errors import InterruptError, StoppedError

PATIENCE = 1.5  # seconds in which work with nothing unsaved may reach its next look
BOUNCE = 0.3  # seconds: a Ctrl-C that a terminal and a wrapper both send counts once
LOOK_EVERY = 0.1  # seconds between two looks whether the process may be ended
NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
ERRORS = {signal.SIGTERM: StoppedError, signal.SIGINT: InterruptError}
_QUIT = 0  # a byte that is no signal: ends the thread
_SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it


@dataclasses.dataclass
class _Watch:
    """What is known of this process.

    Attributes:
        name: of the job, for messages.
        number: the first signal.
        unsaved: what would be lost, by which the next look is waited for; '' where nothing would.
        quiet_since: when there was last something unsaved, or the first signal came.
        patience: seconds that a process with nothing unsaved has until its next look.
        tell: called once with the first request, in the watching thread.
        end: called before the process ends, with its exit code.
        exit_code: of a job that is over.
        console: descriptor on which it is said.
    """

    name: str = "pagap"
    number: int | None = None
    unsaved: str = ""
    quiet_since: float = 0.0
    patience: float = PATIENCE
    tell: Callable[[], object] = lambda: None
    end: Callable[[int], object] = lambda code: None
    exit_code: int | None = None
    console: int = 2


_watch = _Watch()
_restore: Callable[[], None] | None = None  # while signals are watched


def watch(name: str) -> None:
    """Watches signals from now on; only in the main thread, which is the one that gets them.

    An ignored SIGINT (of a shell's background job) stays ignored.
    """
    global _restore
    _watch.name = name
    if _restore or threading.current_thread() is not threading.main_thread():
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    heeded = [n for n in NAMES if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _note) for number in heeded}
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=_listen, args=(reader,), name="stopping", daemon=True)
    thread.start()

    def restore() -> None:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(writer, bytes([_QUIT]))
        thread.join()
        os.close(reader)
        os.close(writer)

    _restore = restore


@contextlib.contextmanager
def watched(name: str = "pagap") -> Iterator[None]:
    """Watches signals in a block; inside of another such block the outer one goes on."""
    global _restore, _watch
    if _restore:
        yield
        return
    watch(name)
    try:
        yield
    finally:
        if _restore:
            _restore()
        _restore, _watch = None, _Watch()


def handle_again() -> None:
    """Takes SIGTERM back from a library that set a handler of its own."""
    if _restore:
        signal.signal(signal.SIGTERM, _note)


def share(tell: Callable[[], object], end: Callable[[int], object], patience: float) -> None:
    """For one of several processes: how the others hear of a request, and how it ends."""
    _watch.tell, _watch.end, _watch.patience = tell, end, patience
    if is_requested():  # before there was anybody to tell
        tell()


def is_requested() -> bool:
    """Whether this process got a signal to stop."""
    return _watch.number is not None


def exit_code_or(otherwise: int) -> int:
    """The exit code that the signal asks for; without one the other, of what it may have caused."""
    return stopped("").exit_code if is_requested() else otherwise


def stopped(said: str) -> StoppedError:
    """The error that ends a job which was asked to stop; its exit code is by the signal."""
    return ERRORS[signal.Signals(_watch.number or signal.SIGTERM)](said)


@contextlib.contextmanager
def unsaved(what: str) -> Iterator[None]:
    """While in the block a request waits for the next look.

    Args:
        what: is waited for: 'the step under way, to save it'.
    """
    before, _watch.unsaved = _watch.unsaved, what
    try:
        yield
    finally:
        _watch.quiet_since = time.monotonic()
        _watch.unsaved = before


@contextlib.contextmanager
def said_on(console: int) -> Iterator[None]:
    """Where it is said in the block, in which stderr's own descriptor leads elsewhere."""
    before, _watch.console = _watch.console, console
    try:
        yield
    finally:
        _watch.console = before


def while_read(run: Callable[[], int]) -> int:
    """The exit code of `run`, which ends as any program does whose reader has seen enough.

    Of `pagap show PAIRS | head`, say.
    """
    try:
        exit_code = run()
        sys.stdout.flush()
        return exit_code
    except BrokenPipeError:
        stdout, look = sys.stdout.fileno(), select.poll()
        look.register(stdout, 0)
        if not look.poll(0):  # it was another pipe
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)
        return 128 + signal.SIGPIPE


def ignore_at_the_very_end() -> None:
    """For a process of its own, first of all: Python gives signals back at last, which would kill.

    The job is over by then, with its exit code, and what is registered first runs last.
    """
    atexit.register(lambda: [signal.signal(number, signal.SIG_IGN) for number in NAMES])


def over(exit_code: int) -> int:
    """Notes and gives back the exit code: a signal while Python shuts down doesn't change it.

    Other processes that this one then waits for have as long as it had itself.
    """
    _watch.exit_code, _watch.quiet_since = exit_code, time.monotonic()
    return exit_code


def _note(number: int, _: FrameType | None) -> None:
    """The handler, in the main thread: a look right behind the signal finds it."""
    if _watch.number is None:
        _watch.quiet_since = time.monotonic()
        _watch.number = number


def _listen(reader: int) -> None:
    """The thread: hears of signals at once, and ends the process where it may."""
    interrupted, told = 0.0, False
    while True:
        if not select.select([reader], [], [], LOOK_EVERY if told else None)[0]:
            if not _watch.unsaved and time.monotonic() - _watch.quiet_since > _watch.patience:
                _end("ended where it was, all that was saved is kept: the same command goes on")
            continue
        for number in os.read(reader, 64):
            if number == _QUIT:
                return
            if number not in NAMES:
                continue
            now = time.monotonic()
            if number == signal.SIGINT and interrupted and now - interrupted > BOUNCE:
                _end("ended at once; the same command goes on from what was saved before")
            if number == signal.SIGINT:
                interrupted = interrupted or now
            if not told:
                told = True
                _note(number, None)
                say(f"{NAMES[signal.Signals(number)]}: {_waiting()}")
                _watch.tell()


def _waiting() -> str:
    if _watch.exit_code is not None:
        return "is over already, and ends"
    if not _watch.unsaved:
        return "stops; there is nothing to save"
    return f"waits for {_watch.unsaved}; Ctrl-C (again) doesn't wait"


def say(text: str) -> None:
    """A line on the console, from any thread."""
    with contextlib.suppress(OSError):  # whoever read it is gone
        os.write(_watch.console, f"{_watch.name}: {text}\n".encode())


def _end(said: str) -> None:
    """Ends this process from the thread, without the main thread, which may be in a long call."""
    exit_code = _watch.exit_code
    if exit_code is None:
        exit_code = stopped("").exit_code
        say(said)
    if sys.stderr.isatty():
        sys.stderr.write(_SHOW_CURSOR)
    sys.stdout.flush()
    sys.stderr.flush()
    _watch.end(exit_code)
    os._exit(exit_code)
