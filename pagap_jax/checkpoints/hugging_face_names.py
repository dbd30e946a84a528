"""Parameter names, T5X's and Hugging Face's: one table, read both ways."""

import re
from collections.abc import Mapping

TABLE, LM_HEAD = "shared.weight", "lm_head.weight"
COPIES = ("decoder.embed_tokens.weight", "encoder.embed_tokens.weight")  # of the table
# T5X's name, Hugging Face's, and whether it's a matrix that torch keeps transposed. {} is a layer.
_ATTENTION = (("query", "q"), ("key", "k"), ("value", "v"), ("out", "o"))
_MLP = ("wi", "wi_0", "wi_1", "wo")


def _table() -> list[tuple[str, str, bool]]:
    rows = [
        ("token_embedder/embedding", TABLE, False),
        ("decoder/logits_dense/kernel", LM_HEAD, True),
    ]
    blocks = {
        "encoder": [("attention", "pre_attention_layer_norm", "SelfAttention")],
        "decoder": [
            ("self_attention", "pre_self_attention_layer_norm", "SelfAttention"),
            ("encoder_decoder_attention", "pre_cross_attention_layer_norm", "EncDecAttention"),
        ],
    }
    for stack, attentions in blocks.items():
        rows.append((f"{stack}/{stack}_norm/scale", f"{stack}.final_layer_norm.weight", False))
        first = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        rows.append((f"{stack}/relpos_bias/rel_embedding", first, True))
        ours, theirs = f"{stack}/layers_{{}}", f"{stack}.block.{{}}.layer"
        for i, (attention, norm, name) in enumerate(attentions):
            rows += [
                (f"{ours}/{attention}/{flax}/kernel", f"{theirs}.{i}.{name}.{torch}.weight", True)
                for flax, torch in _ATTENTION
            ]
            rows.append((f"{ours}/{norm}/scale", f"{theirs}.{i}.layer_norm.weight", False))
        last = len(attentions)
        rows += [
            (f"{ours}/mlp/{w}/kernel", f"{theirs}.{last}.DenseReluDense.{w}.weight", True)
            for w in _MLP
        ]
        norm = f"{theirs}.{last}.layer_norm.weight"
        rows.append((f"{ours}/pre_mlp_layer_norm/scale", norm, False))
    return rows


_TO_HF = {ours: (theirs, is_matrix) for ours, theirs, is_matrix in _table()}
_TO_T5X = {theirs: (ours, is_matrix) for ours, theirs, is_matrix in _table()}
# A table of old files that no T5 uses.
_UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"


def is_ignored(name: str, is_tied: bool) -> bool:
    """Whether a tensor says nothing that others don't."""
    return name in COPIES or name == _UNUSED or (is_tied and name == LM_HEAD)


def to_t5x(name: str) -> tuple[str | None, bool]:
    """T5X's name of a tensor and whether it's transposed; (None, False) for one of no T5."""
    return _translated(_TO_T5X, name, r"block\.(\d+)\.", "block.{}.")


def to_hf(name: str) -> tuple[str | None, bool]:
    """The same the other way."""
    return _translated(_TO_HF, name, r"layers_(\d+)/", "layers_{}/")


def shapes_in_hf(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Shapes by T5X's names as Hugging Face's files have them; a name of no T5 stays."""
    renamed = {}
    for key, shape in shapes.items():
        name, is_matrix = to_hf(key)
        renamed[name or key] = shape[::-1] if is_matrix else shape
    return renamed


def _translated(
    table: dict[str, tuple[str, bool]], name: str, layer: str, placeholder: str
) -> tuple[str | None, bool]:
    if name in table:  # those of no layer, and the position tables, which stand in layer 0
        return table[name]
    match = re.search(layer, name)
    if match is None or str(int(match[1])) != match[1]:
        return None, False
    found, is_matrix = table.get(name.replace(match[0], placeholder, 1), (None, False))
    return (found.format(match[1]) if found else None), is_matrix
