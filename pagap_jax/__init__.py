"""Online and offline preference optimisation of T5 in JAX, after Tang et al. 2024.

As a library: `load_policy` and `load_preference_model` (docs/library.md). JAX is imported when one
of them is asked for, not before.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pagap_jax.library.policy import load_policy
    from pagap_jax.library.preference_model import load_preference_model

__all__ = ["load_policy", "load_preference_model"]
_FOUND_IN = {"load_policy": "policy", "load_preference_model": "preference_model"}
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _FOUND_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"pagap_jax.library.{_FOUND_IN[name]}"), name)
