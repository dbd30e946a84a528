"""The axes of every array, named once.

B  prompts in a batch (one pair each)      N  responses a prompt (two in a pair)
P  prompt length in tokens                 R  response length in tokens
L  length of the preference-model input    S  length of any sequence
D  embedding width    H  attention heads    K  width of a head    F  width of the MLP
V  vocabulary         E  examples in a data set

Token ids are int32: 0 is padding, 1 ends a sequence. In tests these types are checked at run time.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Key, Shaped

# On the host or on devices. Static checkers can't follow one function through both.
if TYPE_CHECKING:
    Array: TypeAlias = Any
else:
    Array = jax.Array | np.ndarray

PromptTokens: TypeAlias = Int[Array, "B P"]
ResponseTokens: TypeAlias = Int[Array, "B R"]
SampledTokens: TypeAlias = Int[Array, "B N R"]
PreferenceTokens: TypeAlias = Int[Array, "B L"]
SequenceTokens: TypeAlias = Int[Array, "B S"]
TokenMask: TypeAlias = Bool[Array, "B S"]

EncodedPrompts: TypeAlias = Float[Array, "B P D"]
TokenLogits: TypeAlias = Float[Array, "*batch V"]
TokenLogProbs: TypeAlias = Float[Array, "B N R"]  # nats a token
SequenceLogProbs: TypeAlias = Float[Array, "B N"]  # nats a response
PerPair: TypeAlias = Float[Array, " B"]
PerPairMask: TypeAlias = Bool[Array, " B"]
Scalar: TypeAlias = Float[Array, ""] | float
RandomKey: TypeAlias = Key[jax.Array, ""]
AnyArray: TypeAlias = Shaped[Array, "..."]
