"""The sizes of a T5, under T5X's field names."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import gin
import jax.numpy as jnp

from pagap_jax.ranges import Activation, Dtype, Layers, ShareBelowOne, VocabularySize, Width

# T5 1.1: emb_dim, num_heads, layers of encoder and decoder each, mlp_dim; heads are 64 wide.
T5_1_1 = {
    "small": (512, 6, 8, 1024),
    "base": (768, 12, 12, 2048),
    "large": (1024, 16, 24, 2816),
    "xl": (2048, 32, 24, 5120),
    "xxl": (4096, 64, 24, 10240),
}


@gin.configurable
@dataclasses.dataclass(frozen=True)
class T5Config:
    """T5X's `T5Config`, field by field, and two fields of our own at the end.

    T5 1.0 is `mlp_activations=('relu',), logits_via_embedding=True`; T5 1.1 is
    `('gelu', 'linear'), False`. Parameters are float32 always; `dtype` is that of activations.

    Attributes:
        remat_policy: what the backward pass finds saved of a layer: 'none' saves all, 'minimal'
            the products with weights, 'full' nothing but the layer's input.
        scan_layers: compiles one layer and scans over all of them. The same parameters, the same
            checkpoints, the same numbers up to rounding; dropout's masks are others.
        kernels: attention by kernels on TPUs; without, by the plain formula as everywhere else.
    """

    vocab_size: VocabularySize
    dtype: Dtype = "bfloat16"
    emb_dim: Width = 512
    num_heads: Width = 8
    num_encoder_layers: Layers = 6
    num_decoder_layers: Layers = 6
    head_dim: Width = 64
    mlp_dim: Width = 2048
    mlp_activations: Sequence[Activation] = ("relu",)
    dropout_rate: ShareBelowOne = 0.1
    logits_via_embedding: bool = False
    float32_attention_logits: bool = False
    remat_policy: Literal["none", "minimal", "full"] = "none"
    scan_layers: bool = False
    # Ours: rows of a zero-initialised table added to the encoder's input, which tells the prompt
    # from the two responses (measured: a T5 without pretraining learns nothing without it).
    # 0 leaves the parameter tree exactly T5X's.
    num_segments: Literal[0, 3] = 0
    kernels: bool = True

    def __post_init__(self):
        object.__setattr__(self, "dtype", jnp.dtype(self.dtype).name)
        object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))

    @property
    def joined_heads(self) -> int:
        """Width of all heads side by side, T5X's 'joined_kv' axis."""
        return self.num_heads * self.head_dim


@gin.configurable
def t5_1_1(
    size: Literal["small", "base", "large", "xl", "xxl"],
    dtype: Dtype = "bfloat16",
    dropout_rate: ShareBelowOne = 0.1,
    scan_layers: bool = True,
    remat_policy: Literal["none", "minimal", "full"] = "none",
    vocab_size: VocabularySize = 32128,
    kernels: bool = True,
) -> T5Config:
    """T5 1.1 by the name of its size, as the paper names its policies and preference models."""
    emb_dim, num_heads, num_layers, mlp_dim = T5_1_1[size]
    return T5Config(
        vocab_size=vocab_size,
        dtype=dtype,
        emb_dim=emb_dim,
        num_heads=num_heads,
        num_encoder_layers=num_layers,
        num_decoder_layers=num_layers,
        mlp_dim=mlp_dim,
        mlp_activations=("gelu", "linear"),
        dropout_rate=dropout_rate,
        scan_layers=scan_layers,
        remat_policy=remat_policy,
        kernels=kernels,
    )


@gin.configurable
def by_size(size: Literal["large", "xl", "xxl"], large: Any, xl: Any, xxl: Any) -> Any:
    """What depends on the policy's size, so that a study names the size once."""
    return {"large": large, "xl": xl, "xxl": xxl}[size]
