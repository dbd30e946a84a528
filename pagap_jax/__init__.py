"""Online and offline preference optimisation of T5 in JAX, after Tang et al. 2024.

As a library: `load_policy` and `load_preference_model` (docs/library.md). JAX is imported when one
of them is asked for, not before.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pagap_jax.library.policy import load_policy
    from pagap_jax.library.preference_model import load_preference_model

__all__ = ["load_policy", "load_preference_model"]
_FOUND_IN = {"load_policy": "policy", "load_preference_model": "preference_model"}
__version__ = "0.1.0"

# Buckets are reached by gcsfs, TensorFlow installed or not, and by tensorstore; before etils and
# gcsfs are imported.
os.environ.setdefault("EPATH_USE_TF", "false")
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # would ask for each one's kind
if _emulator := os.environ.get("STORAGE_EMULATOR_HOST"):  # gcsfs's switch; tensorstore has its own
    os.environ.setdefault("TENSORSTORE_GCS_HTTP_URL", _emulator)


def __getattr__(name: str) -> Any:
    if name not in _FOUND_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"pagap_jax.library.{_FOUND_IN[name]}"), name)
