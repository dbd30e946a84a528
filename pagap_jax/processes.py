"""This process among those of one launch: one a host on a pod, or several on one machine."""

import atexit
import ctypes
import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable

from pagap_jax import stopping
from pagap_jax.errors import ConfigError, PagapError, RetryError
from pagap_jax.peers import Watch
from pagap_jax.roll_call import meet, port_of

COORDINATOR, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
PORT = "JAX_COORDINATOR_PORT"  # where the address is found by JAX
PREEMPTION_SERVICE = "JAX_ENABLE_PREEMPTION_SERVICE"
DETECT = "PAGAP_PROCESSES"  # 'auto': as the machine says, a TPU VM or a pod of GKE
WITHIN = "PAGAP_START_WITHIN"  # seconds that the processes have to find each other
DEFAULT_WITHIN = 300
HEARTBEAT_WITHIN = 60  # seconds after which a silent process counts as lost
# Seconds that those who are done wait for the others: the first one writes data sets alone. One
# that was lost is missed long before.
END_WITHIN = 86_400
# Prefixes of JAX errors that mean a lost peer. INTERNAL may be this process's own fault as well:
# restarts are counted.
LOST = ("UNKNOWN", "UNAVAILABLE", "ABORTED", "CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL")
ABORTED = 134  # as JAX itself ends a process whose peers are lost
FAREWELL = 5  # seconds that the first process lets the others report before JAX aborts them
PATIENCE = 20.0  # seconds until all look whether to stop; a compilation together may take longer

_index, _count = 0, 1
_looks = 0  # of this process, as many as of all others
_trains = False
_peers: Watch | None = None


def join_processes() -> None:
    """Joins the other processes of the launch, if there are any; before anything of JAX runs.

    They are named by JAX's three variables, or found by JAX where PAGAP_PROCESSES is 'auto'.
    Otherwise this process is alone.

    Raises:
        ConfigError: a variable is missing or no number, or the processes run different code.
        RetryError: the others didn't come.
    """
    global _index, _count, _peers
    launch = _launch()
    if launch is None:
        return
    address, count, index = launch
    within = _number(WITHIN, os.environ.get(WITHIN, str(DEFAULT_WITHIN)))
    import jax
    from jax._src import distributed  # what is in it is used by JAX's own public functions

    if not jax.config.values["jax_enable_preemption_service"]:
        raise ConfigError(
            f"{PREEMPTION_SERVICE}: found false, expected true: several processes are asked to stop"
            " by way of JAX's preemption service. Leave the variable away"
        )
    meet(address, count, index, within)
    _peers = Watch(index, count)
    _peers.explain_aborts()
    try:
        jax.distributed.initialize(
            address,
            count,
            index,
            initialization_timeout=within,
            heartbeat_timeout_seconds=HEARTBEAT_WITHIN,
            shutdown_timeout_seconds=END_WITHIN,
        )
    except (RuntimeError, ValueError) as error:
        raise RetryError(
            f"process {index} of {count} didn't join the others at {address}:"
            f" {str(error).splitlines()[0]}"
        ) from error
    _index, _count = index, count
    _share_requests_to_stop()
    _peers.start(distributed.global_state.client)
    atexit.register(_peers.end, jax.distributed.shutdown)  # before JAX does the same


def _share_requests_to_stop() -> None:
    """Takes SIGTERM back from JAX, and hands it on to JAX's handler, which tells the others.

    That one is in C and sets a flag. Left alone it would be the only one to hear of the signal,
    and would say nothing on the console. Ctrl-C is handed on as well.
    """
    libc = ctypes.CDLL(None)
    libc.signal.restype, libc.signal.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    of_jax = libc.signal(signal.SIGTERM, None)  # the handler until now; the default for a moment
    stopping.handle_again()
    if of_jax:
        tell_others = ctypes.CFUNCTYPE(None, ctypes.c_int)(of_jax)
        stopping.share(lambda: tell_others(signal.SIGTERM), end_early, PATIENCE)


def exit_code_of(error: Exception) -> int:
    """Exit code of one of several processes that ends with an error that is none of ours."""
    from jax.errors import JaxRuntimeError

    # JAX raises a ValueError of the same words where it waits for what it has dispatched.
    of_jax = isinstance(error, JaxRuntimeError | ValueError)
    is_lost = of_jax and str(error).startswith(tuple(f"{kind}:" for kind in LOST))
    return ABORTED if is_lost else PagapError.exit_code


def last_words(error: Exception) -> str:
    """What to say of an error that is none of ours: who is lost; '' where nobody is known to be."""
    if _peers is None or exit_code_of(error) != ABORTED:
        return ""
    lost = _peers.wait_for_loss()
    return f"{str(error).splitlines()[0]}: {lost}" if lost else ""


def end_early(exit_code: int) -> int:
    """Ends this process if it is one of several, otherwise gives the exit code back.

    At an ordinary end JAX waits for the others, who may never get there, and then aborts: the exit
    code that says what happened would be lost.
    """
    if _count > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        if is_first():
            time.sleep(FAREWELL)
        os._exit(exit_code)
    return exit_code


def _launch() -> tuple[str, int, int] | None:
    """Address of the coordinator, number of processes, and which this is."""
    if os.environ.get(DETECT) == "auto":
        return _detected(_number(WITHIN, os.environ.get(WITHIN, str(DEFAULT_WITHIN))))
    given = {name: os.environ.get(name) for name in (COORDINATOR, COUNT, INDEX)}
    if given[COORDINATOR] is None or given[COUNT] is given[INDEX] is None:
        return None
    count, index = (_number(name, given[name] or "") for name in (COUNT, INDEX))
    if not 0 <= index < count:
        raise ConfigError(f"{INDEX}: found {index}, expected a number below {COUNT}, {count}")
    address = str(given[COORDINATOR])
    if port_of(address) is None:
        raise ConfigError(
            f"{COORDINATOR}: found {address!r}, expected HOST:PORT with a port from 1 to 65535"
        )
    return address, count, index


def _detected(within: int) -> tuple[str, int, int] | None:
    if (port := os.environ.get(PORT)) is not None and port_of(f"host:{port}") is None:
        raise ConfigError(f"{PORT}: found {port!r}, expected a port from 1 to 65535")
    # Not documented by JAX: `initialize` would do the same, but not tell what it found.
    from jax._src.clusters import ClusterEnv

    try:
        address, count, index, _ = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, within
        )
    except Exception as error:  # a name that isn't known yet, a metadata server that is away
        raise RetryError(f"{DETECT}=auto: JAX didn't find the other processes: {error}") from error
    if address is None or count is None or index is None:
        raise ConfigError(f"{DETECT}=auto: JAX found neither a TPU VM nor another cluster here")
    return (address, count, index) if count > 1 else None


def _number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"{name}: found {text!r}, expected a whole number")
    return int(text)


def is_first() -> bool:
    """Whether this is the process that writes what is written once: metrics, results, prints."""
    return _index == 0


def first_alone(action: Callable[[], None]) -> None:
    """Runs `action` in the first process; where it refuses there, all of the launch end.

    Raises:
        PagapError: as the action does; elsewhere one that points to the first process.
    """
    error = None
    if is_first():
        try:
            action()
        except PagapError as refused:
            error = refused
    if _count > 1:
        import numpy as np
        from jax.experimental import multihost_utils

        code = multihost_utils.broadcast_one_to_all(np.int32(error.exit_code if error else 0))
        if code and error is None:
            kind = RetryError if code == RetryError.exit_code else ConfigError
            error = kind("the first process of this launch refused to start: its message says why")
    if error is not None:
        raise error


def check_same(what: str, text: str) -> None:
    """Raises ConfigError where the processes of this launch don't agree on something."""
    if _count == 1:
        return
    import numpy as np
    from jax.experimental import multihost_utils

    digest = np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], np.uint32)
    digests = np.asarray(multihost_utils.process_allgather(digest))
    different = [i for i in range(_count) if not np.array_equal(digests[i], digests[0])]
    if different:
        raise ConfigError(
            f"process {_index} of {_count}: {what} of processes {different} isn't that of the"
            " first: all must be started with the same code, gin files and data"
        )


def are_several() -> bool:
    """Whether this launch has more processes than this one."""
    return _count > 1


def asked_to_stop(step: int | None = None) -> bool:
    """Whether work is to stop here: SIGTERM or Ctrl-C came, to this or to another process.

    All processes stop at the same look, so each has to look as often as the others. JAX passes the
    request on in the background: a look costs next to nothing.

    Args:
        step: of training; None between two batches of anything else. Orbax asks JAX with the step
            it saves, and JAX counts one kind of look: once a process of several trains, its looks
            between batches don't count.
    """
    global _looks, _trains
    if _count == 1:
        return stopping.is_requested()
    if _peers:
        _peers.peers.looks += 1
    _trains |= step is not None
    if step is None and _trains:
        return False
    from jax.experimental import multihost_utils

    _looks += 1
    return multihost_utils.reached_preemption_sync_point(_looks if step is None else step)
