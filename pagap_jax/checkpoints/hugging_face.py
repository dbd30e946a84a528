"""Hugging Face's T5 checkpoints: config.json and safetensors, one file or several.

In torch a linear layer's weight is [out, in], in Flax [in, out]: matrices are transposed on the
way. Both ways no bit changes.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy
from etils import epath

from pagap_jax.buckets import local_copy
from pagap_jax.checkpoints.architecture import LOGITS
from pagap_jax.checkpoints.hugging_face_checks import CONFIG, check_copies, check_settings
from pagap_jax.checkpoints.hugging_face_names import TABLE, is_ignored, to_hf, to_t5x
from pagap_jax.checkpoints.stored import Index, StoredArray, StoredCheckpoint
from pagap_jax.checkpoints.usage import IDS, UNKNOWN, Usage
from pagap_jax.errors import DataError
from pagap_jax.model.config import T5Config

WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 5 * 10**9
_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
# `mlp_activations` by Hugging Face's `feed_forward_proj`.
_ACTIVATIONS = {
    "relu": ("relu",),
    "gated-gelu": ("gelu", "linear"),
    "gated-silu": ("silu", "linear"),
    "gated-relu": ("relu", "linear"),
}
_TORCH_ACTIVATION = {"gelu": "gelu_new"}  # Flax's gelu is the tanh form, torch calls it new


def is_hugging_face(folder: epath.Path) -> bool:
    """Whether a folder looks like one of `save_pretrained`."""
    return (folder / CONFIG).is_file()


def open_hugging_face(path: str, folder: epath.Path) -> StoredCheckpoint:
    """Opens a T5, mT5, ByT5 or Flan-T5 as `save_pretrained` leaves it.

    Raises:
        DataError: a file is missing or damaged, it is no T5, or its parts contradict each other.
    """
    local = local_copy(folder)  # safetensors reads files only
    config = _read_json(path, local / CONFIG)
    if config.get("model_type") not in ("t5", "mt5"):
        raise DataError(f"{path}: {CONFIG}: found model_type {config.get('model_type')!r}, not T5")
    projection = config.get("feed_forward_proj", "relu")
    if not isinstance(projection, str) or projection not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise DataError(f"{path}: {CONFIG}: feed_forward_proj {projection!r} isn't one of {known}")
    is_tied = config.get("tie_word_embeddings", True)
    if not isinstance(is_tied, bool):
        raise DataError(f"{path}: {CONFIG}: tie_word_embeddings {is_tied!r} isn't true or false")
    tensors = dict(_tensors(path, local))
    check_settings(path, config, tensors)
    tensors[TABLE] = tensors[check_copies(path, is_tied, tensors)]
    params: dict[str, StoredArray] = {}
    for name, array in tensors.items():
        if is_ignored(name, is_tied):
            continue
        key, is_matrix = to_t5x(name)
        if key is None:
            raise DataError(f"{path}: {name}: no parameter of a T5")
        params[key] = array.transposed() if is_matrix else array
    if not is_tied and LOGITS not in params:
        raise DataError(
            f"{path}: {CONFIG} says tie_word_embeddings: false, and there is no lm_head.weight"
        )
    return StoredCheckpoint(path, "hf", None, params, activations=_ACTIVATIONS[projection])


def write_hugging_face(
    folder: epath.Path,
    params: Mapping[str, StoredArray],
    config: T5Config,
    usage: Usage = UNKNOWN,
) -> None:
    """Writes what `T5ForConditionalGeneration.from_pretrained` loads, and what `generate` takes.

    Raises:
        DataError: a parameter has no place in Hugging Face's T5.
    """
    local = Path(folder)
    shards: list[dict[str, StoredArray]] = [{}]
    for key, array in params.items():
        name, is_matrix = to_hf(key)
        if name is None:
            raise DataError(f"{key}: Hugging Face's T5 has no such parameter")
        if shards[-1] and sum(a.nbytes for a in shards[-1].values()) + array.nbytes > SHARD_BYTES:
            shards.append({})
        shards[-1][name] = array.transposed() if is_matrix else array
    files = [WEIGHTS] if len(shards) == 1 else _shard_names(len(shards))
    for file, shard in zip(files, shards, strict=True):
        arrays = {name: np.ascontiguousarray(array.read()) for name, array in shard.items()}
        safetensors.numpy.save_file(arrays, local / file, metadata={"format": "pt"})
    if len(shards) > 1:
        weight_map = {name: f for f, shard in zip(files, shards, strict=True) for name in shard}
        total = sum(array.nbytes for array in params.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        _write_json(local / WEIGHTS_INDEX, index)
    dtype = next(iter(params.values())).dtype.name
    _write_json(local / CONFIG, _hf_config(config, dtype))
    for file in files:  # safetensors writes for its owner alone
        shutil.copymode(local / CONFIG, local / file)
    usage.write(local, config.vocab_size)


def _hf_config(config: T5Config, dtype: str) -> dict[str, Any]:
    (projection,) = [k for k, v in _ACTIVATIONS.items() if v == tuple(config.mlp_activations)]
    activation = config.mlp_activations[0]
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "d_model": config.emb_dim,
        "d_kv": config.head_dim,
        "d_ff": config.mlp_dim,
        "num_heads": config.num_heads,
        "num_layers": config.num_encoder_layers,
        "num_decoder_layers": config.num_decoder_layers,
        "feed_forward_proj": projection,
        "dense_act_fn": _TORCH_ACTIVATION.get(activation, activation),
        "is_gated_act": len(config.mlp_activations) > 1,
        "dropout_rate": config.dropout_rate,
        "layer_norm_epsilon": 1e-6,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "tie_word_embeddings": config.logits_via_embedding,
        "scale_decoder_outputs": config.logits_via_embedding,  # transformers 5 asks for both
        **IDS,
        "dtype": dtype,
        "torch_dtype": dtype,  # transformers 4's name of it
        "use_cache": True,
    }


def _tensors(path: str, folder: Path) -> Iterator[tuple[str, StoredArray]]:
    """Every tensor of every file, by its name in the files."""
    if not (folder / WEIGHTS_INDEX).is_file():
        yield from _tensors_of_file(path, folder / WEIGHTS, None)
        return
    weight_map = _read_json(path, folder / WEIGHTS_INDEX).get("weight_map")
    if not isinstance(weight_map, dict):
        raise DataError(f"{path}: {WEIGHTS_INDEX}: found no 'weight_map'")
    files = sorted({str(file) for file in weight_map.values()})
    for file in files:
        if Path(file).name != file:
            raise DataError(f"{path}: {WEIGHTS_INDEX}: found {file!r}, expected a file's name")
    if WEIGHTS not in files and (folder / WEIGHTS).is_file():
        raise DataError(
            f"{path}: found {WEIGHTS} beside {WEIGHTS_INDEX}, which doesn't name it: expected one"
            " of them, they may be two models"
        )
    for file in files:
        names = {name for name, where in weight_map.items() if where == file}
        yield from _tensors_of_file(path, folder / file, names)


def _tensors_of_file(
    path: str, file: Path, expected: set[str] | None
) -> Iterator[tuple[str, StoredArray]]:
    if not file.is_file():
        raise DataError(f"{path}: {file.name}: no such file")
    try:
        opened = safetensors.safe_open(file, framework="np")
        names = list(opened.keys())
        if expected is not None and expected != set(names):
            key = min(expected ^ set(names))
            raise DataError(f"{path}: {file.name}: {key}: not both in the index and in the file")
        slices = {name: opened.get_slice(name) for name in names}
        for name, tensor in slices.items():
            if tensor.get_dtype() not in _DTYPES:
                raise DataError(f"{path}: {name}: found {tensor.get_dtype()}, expected a float")
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path}: {file.name}: {error}") from error
    for name, tensor in slices.items():
        yield name, _stored(f"{path}: {name}", tensor)


def _stored(where: str, tensor: Any) -> StoredArray:
    def read_slice(index: Index) -> np.ndarray:
        try:
            return np.asarray(tensor[index if len(index) > 1 else index[0]])
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise DataError(f"{where}: {error}") from error

    return StoredArray(tuple(tensor.get_shape()), _DTYPES[tensor.get_dtype()], read_slice)


def _shard_names(count: int) -> list[str]:
    return [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]


def _read_json(path: str, file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: {file.name}: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: {file.name}: found no JSON object")
    return content


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n")
