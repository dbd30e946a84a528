"""`from pagap_jax.data.quiet_seqio import seqio`: seqio without the notes of what it brings.

TensorFlow writes of GPUs it didn't find while it is imported, before anything could set its log
level, and would bury what the job says. What is written while the import fails is shown.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from pagap_jax import stopping


@contextlib.contextmanager
def stderr_held_back() -> Iterator[None]:
    """Keeps what C++ libraries write to stderr; shows it only when the block raises."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            with stopping.said_on(stderr):
                yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


with stderr_held_back():
    import seqio
    import tensorflow as tf

    # Looks for accelerators, says so, and then leaves them all to JAX.
    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)

__all__ = ["seqio"]
