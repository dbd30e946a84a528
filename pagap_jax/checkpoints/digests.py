"""What a checkpoint's files were when it was written: sizes and CRC32C, in digests.json.

Orbax, T5X and safetensors keep no sums of what arrays hold, so a flipped bit is another number.
"""

import json
import os
from collections.abc import Sequence

from etils import epath

from pagap_jax.buckets import checksums
from pagap_jax.errors import DataError
from pagap_jax.files import read_json, write_atomically
from pagap_jax.processes import first_alone

DIGESTS = "digests.json"
VARIABLE = "PAGAP_VERIFY"  # '0': files aren't read an extra time; of huge models it takes a while


def write_digests(folder: epath.PathLike) -> None:
    """Notes what the files of a checkpoint are, once all of them are there."""
    found = {name: sums for name, sums in checksums(folder).items() if name != DIGESTS}
    text = json.dumps(found, indent=1) + "\n"
    write_atomically(epath.Path(folder) / DIGESTS, text.encode())


def check_digests(folder: epath.PathLike, parts: Sequence[str] = (), hint: str = "") -> None:
    """Reads all files of a checkpoint and compares; in the first process of several.

    A checkpoint without digests (another program's, or one of before there were any) passes.

    Args:
        parts: of its folders, those that will be read; () for all that were written.
        hint: what to do, for the message.

    Raises:
        DataError: a file is another one, or gone; names it.
    """
    first_alone(lambda: _check(epath.Path(folder), parts, hint))


def _check(folder: epath.Path, parts: Sequence[str], hint: str) -> None:
    if not (folder / DIGESTS).exists():
        return
    if os.environ.get(VARIABLE) == "0":
        print(f"{folder}: not compared with its digests ({VARIABLE}=0)", flush=True)
        return
    expected = read_json(folder / DIGESTS)
    found = checksums(folder)
    for name in sorted(expected):  # what was put beside them since, a tokenizer say, may lie there
        if parts and name.partition("/")[0] not in parts:
            continue
        if expected.get(name) != found.get(name):
            raise DataError(
                f"{folder / name}: found {found.get(name, 'no such file')}, expected"
                f" {expected[name]} (bytes, CRC32C), as it was written: the"
                f" checkpoint is damaged{hint}"
            )
