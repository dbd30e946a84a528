"""This process among those of one launch: one a host on a pod, or several on one machine."""

import hashlib
import os
from collections.abc import Callable

from pagap_jax.errors import ConfigError, PagapError, RetryError

COORDINATOR, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
START_WITHIN = 300  # seconds that the processes of a launch have to find each other

_index, _count = 0, 1


def join_processes() -> None:
    """Joins the other processes of the launch, where the environment names a coordinator.

    Before anything of JAX runs. Without the three variables this process is alone.

    Raises:
        ConfigError: one of them is missing or no number.
        RetryError: the others didn't come.
    """
    global _index, _count
    given = {name: os.environ.get(name) for name in (COORDINATOR, COUNT, INDEX)}
    if given[COORDINATOR] is None or given[COUNT] is given[INDEX] is None:
        return
    try:
        count, index = int(given[COUNT] or ""), int(given[INDEX] or "")
    except ValueError as error:
        raise ConfigError(f"found {given}, expected an address and two numbers") from error
    import jax

    try:
        jax.distributed.initialize(
            given[COORDINATOR], count, index, initialization_timeout=START_WITHIN
        )
    except (RuntimeError, ValueError) as error:
        raise RetryError(
            f"process {index} of {count} didn't find the others at {given[COORDINATOR]} within"
            f" {START_WITHIN} s: {str(error).splitlines()[0]}"
        ) from error
    _index, _count = index, count


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


def all_asked_to_stop(step: int) -> bool:
    """Whether one of several processes got SIGTERM, as all of them agree on at the same step.

    JAX passes the signal on. A process that is alone hears of it itself.
    """
    if _count == 1:
        return False
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(step)
