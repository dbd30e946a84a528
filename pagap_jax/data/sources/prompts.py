"""Prompts alone, from a file: one a line, or the field 'prompt' of rows in any format."""

import pathlib

from pagap_jax.data.sources.conversations import ChatTemplate, turns_of
from pagap_jax.data.sources.files import expand, rows_of
from pagap_jax.data.sources.rows import BadRowError, DroppedRowError, Fields, field, text
from pagap_jax.errors import DataError

_ROWS = (".jsonl", ".json", ".csv", ".parquet")
_LARGEST = 2**27  # bytes of a file of lines, which is read whole
_PACKED = (".gz", ".zst")


def read_prompts(path: str) -> list[str]:
    """The prompts of a file, in its order; blank lines of a plain text are left out.

    Raises:
        DataError: it can't be read, a row has no prompt, or there are none; names file and line.
    """
    prompts = [prompt for file in expand(path) for prompt in _prompts_of(file)]
    if not prompts:
        raise DataError(f"{path}: found no prompts, expected at least one")
    return prompts


def _prompts_of(file: pathlib.Path) -> list[str]:
    suffixes = [suffix.lower() for suffix in file.suffixes if suffix.lower() not in _PACKED]
    if not suffixes or suffixes[-1] not in _ROWS:
        return _lines(file)
    prompts = []
    for row in rows_of(file):
        try:
            prompts.append(_prompt(row.fields()))
        except (BadRowError, DroppedRowError) as error:
            raise DataError(f"{row.where}: {error}") from error
    return prompts


def _prompt(row: Fields) -> str:
    if isinstance(field(row, "prompt"), list | dict):
        prompt = ChatTemplate().prompt(turns_of(row["prompt"], "field 'prompt'"))
    else:
        prompt = text(row, "prompt")
    if not prompt.strip():
        raise BadRowError("field 'prompt': found an empty text, expected a prompt")
    return prompt


def _lines(file: pathlib.Path) -> list[str]:
    try:
        if file.stat().st_size > _LARGEST:
            raise DataError(f"{file}: found over {_LARGEST:,} bytes, expected fewer of prompts")
        lines = file.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{file}: found {error.strerror}, expected a file to read") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: found {error.reason} at byte {error.start}, expected UTF-8"
        ) from error
    return [line for line in lines if line.strip()]
