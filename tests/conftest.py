"""What every test runs with: 8 virtual CPU devices, strict ranks and a cache of compilations.

The environment is set before anything imports JAX or TensorFlow.
"""

import os
from pathlib import Path

import gin
import pytest

import pagap_jax  # noqa: F401  # its settings for buckets come before gcsfs is imported

_DEVICES = "--xla_force_host_platform_device_count=8"
# Tests compile much and compute little: without optimisation that takes a third of the time. The
# names are those of the jaxlib in constraints.txt; another one may not know them, and say so.
_QUICK_COMPILATION = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1"
)
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pagap_jax" / "tests"

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), _DEVICES, _QUICK_COMPILATION]
).strip()
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
# Whatever took a tenth of a second to compile is worth the file.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """The toy study, finished."""
    from tests.fixtures import toy

    return toy.toy_study(tmp_path_factory)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first that needs the toy study makes it at once: it's there when others ask for it."""
    needs_it = (item.path for item in items if "study" in getattr(item, "fixturenames", ()))
    first = next(needs_it, None)
    items.sort(key=lambda item: item.path != first)


def pytest_collection_finish() -> None:
    import tests.fixtures.frozen  # noqa: F401


@pytest.fixture(autouse=True)
def _no_gin_left_behind():
    """What one test's configuration bound must not reach the next: gin's state is the process's."""
    yield
    gin.clear_config()
