"""Compiled programs: cached on disk, counted, and reported where they took long."""

import jax

from pagap_jax.buckets import cache_folder
from pagap_jax.processes import is_first

_COMPILED = "/jax/core/compile/backend_compile_duration"
_FROM_CACHE = "/jax/compilation_cache/cache_hits"
REPORTED_FROM = 1.0  # seconds
# Programs of one kind that a process keeps traced: a study's worker runs many jobs with the same.
FEW = 4


def keep_compilations() -> None:
    """Keeps compiled programs in ~/.cache/pagap_jax/compiled, unless JAX has its own folder."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))


class Compilations:
    """Tells of each program that takes long to compile, and at the end how many there were.

    A program is compiled for one set of shapes: a new length of prompts is a new program.
    """

    def __init__(self, job: str):
        self.job = job
        self.number = 0
        self.from_cache = 0
        self.seconds = 0.0

    def __enter__(self) -> "Compilations":
        jax.monitoring.register_event_duration_secs_listener(self._add)
        jax.monitoring.register_event_listener(self._add_hit)
        return self

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._add)
        jax.monitoring.unregister_event_listener(self._add_hit)
        if self.seconds >= REPORTED_FROM and is_first():
            print(
                f"{self.job}: {self.number} programs, {self.from_cache} of them from the cache;"
                f" compiled for {self.seconds:.0f} s",
                flush=True,
            )

    def _add(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event != _COMPILED:
            return
        self.number += 1
        self.seconds += duration_secs
        if duration_secs >= REPORTED_FROM and is_first():
            name = kwargs.get("fun_name", "")
            print(f"{self.job}: compiled {name} in {duration_secs:.1f} s", flush=True)

    def _add_hit(self, event: str, **_: object) -> None:
        self.from_cache += event == _FROM_CACHE
