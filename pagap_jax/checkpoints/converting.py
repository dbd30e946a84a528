"""One checkpoint into another format, all of it or nothing."""

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import orbax.checkpoint as ocp
from etils import epath
from flax import traverse_util

from pagap_jax.buckets import entries, in_bucket, upload
from pagap_jax.checkpoints.adafactor_state import initial_state, stored_state
from pagap_jax.checkpoints.architecture import SEGMENTS
from pagap_jax.checkpoints.digests import write_digests
from pagap_jax.checkpoints.hugging_face import write_hugging_face
from pagap_jax.checkpoints.opening import check_params
from pagap_jax.checkpoints.orbax import PARAMS
from pagap_jax.checkpoints.stored import Format, StoredCheckpoint
from pagap_jax.checkpoints.t5x import write_t5x
from pagap_jax.checkpoints.usage import UNKNOWN, Usage
from pagap_jax.errors import ConfigError
from pagap_jax.model.config import T5Config

# Without one of them a folder is taken for no checkpoint: they are uploaded last.
_TELLS = ("_METADATA", "checkpoint", "config.json")


def convert(
    source: StoredCheckpoint,
    config: T5Config,
    destination: str,
    to: Format,
    force: bool = False,
    drop_segments: bool = False,
    usage: Usage = UNKNOWN,
    optimizer_state: bool = True,
) -> None:
    """Writes `source` anew; every parameter keeps its bits.

    Args:
        config: of the model; goes into Hugging Face's config.json.
        force: takes the place of what is at `destination`.
        drop_segments: leaves out the segment table, which no plain T5 has. A policy never looks at
            it; a preference model does.
        usage: goes into Hugging Face's files for tokenizer and generation.
        optimizer_state: T5X's format gets the source's Adafactor state, or one that starts at zero:
            T5X doesn't train without. The other formats have none.

    Raises:
        ConfigError: `destination` exists, or the format has no place for a parameter.
        DataError: `source` turns out to be damaged; nothing is written.
    """
    check_params(source.path)
    params = dict(source.params)
    if drop_segments:
        params.pop(SEGMENTS, None)
    if to == "hf" and SEGMENTS in params:
        raise ConfigError(
            f"{source.path} has a segment table ({SEGMENTS}), for which Hugging Face's T5 has no"
            " place. A policy doesn't need it: --drop_segments leaves it out"
        )
    with whole_or_nothing(destination, force) as folder:
        if to == "t5x":
            state = initial_state(params) | stored_state(source) if optimizer_state else None
            write_t5x(folder, params, source.step or 0, state)
        elif to == "hf":
            write_hugging_face(folder, params, config, usage)
        else:
            save_params(folder, traverse_util.unflatten_dict(
                {key: array.read() for key, array in params.items()}, sep="/"
            ))  # fmt: skip


def save_params(folder: epath.PathLike, params: object) -> None:
    """Parameters alone, as `open_checkpoint` finds them; takes the place of what was there."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(epath.Path(folder).resolve() / PARAMS, params, force=True)


@contextlib.contextmanager
def whole_or_nothing(destination: str, force: bool) -> Iterator[epath.Path]:
    """A folder that comes to be `destination` when the block ends, and is gone when it fails.

    Raises:
        ConfigError: `destination` exists.
    """
    if in_bucket(destination):
        with _uploaded(destination, force) as folder:
            yield folder
        return
    target = Path(destination).absolute()
    if os.path.lexists(target) and not force:
        raise ConfigError(f"{destination} exists; --force replaces it")
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        aside.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"{destination} can't be written: {error}") from error
    try:
        yield epath.Path(aside)
        write_digests(aside)
        _replace(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def _uploaded(destination: str, force: bool) -> Iterator[epath.Path]:
    if entries(destination) and not force:
        raise ConfigError(f"{destination} exists; --force replaces it")
    with tempfile.TemporaryDirectory() as folder:
        yield epath.Path(folder)
        write_digests(folder)
        if entries(destination):
            epath.Path(destination).rmtree()
        upload(Path(folder), destination, last=_TELLS)


def _replace(new: Path, target: Path) -> None:
    old = new.with_suffix(".old")
    if os.path.lexists(target):
        target.rename(old)
    new.rename(target)
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old)
    elif os.path.lexists(old):
        old.unlink()
