"""What gin knows by name; the one place that looks inside gin (pinned to 0.5 for it)."""

import functools
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

from gin import config

from pagap_jax.configuration.suggestions import did_you_mean
from pagap_jax.errors import ConfigError
from pagap_jax.jobs import JOBS

REQUIRED = config.REQUIRED


class Configurable:
    """A function or class that gin can bind, with its signature and type hints."""

    def __init__(self, entry: Any) -> None:
        self.selector: str = entry.selector
        self.name: str = entry.name
        self.wrapped: Callable = entry.wrapped
        self._entry = entry

    @functools.cached_property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The parameters by name, `*args` and `**kwargs` left out."""
        variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        found = inspect.signature(self.wrapped).parameters.items()
        return {name: parameter for name, parameter in found if parameter.kind not in variable}

    @functools.cached_property
    def takes_any_keyword(self) -> bool:
        """Whether the signature ends with `**kwargs`."""
        found = inspect.signature(self.wrapped).parameters.values()
        return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in found)

    @functools.cached_property
    def hints(self) -> dict[str, Any]:
        """Type of each annotated parameter, but of those whose names only a type checker knows."""
        function = self.wrapped.__init__ if inspect.isclass(self.wrapped) else self.wrapped
        function = inspect.unwrap(function)
        found: dict[str, Any] = {}
        for name, annotation in getattr(function, "__annotations__", {}).items():
            one = types.SimpleNamespace(__annotations__={name: annotation})
            try:
                found |= typing.get_type_hints(one, function.__globals__, include_extras=True)
            except (NameError, AttributeError, TypeError):
                continue
        return found

    @property
    def product(self) -> Any:
        """What a call returns: the class itself, or the function's return annotation."""
        return self.wrapped if inspect.isclass(self.wrapped) else self.hints.get("return", Any)

    def bindable(self) -> list[str]:
        """Names of the parameters that gin may bind."""
        allowed = self._entry.allowlist or list(self.parameters)
        return [name for name in allowed if name not in (self._entry.denylist or ())]


def find(selector: str, origin: str) -> Configurable:
    """The configurable called `selector` in a statement at `origin`.

    A gin file may name what only other jobs import: all of them are imported before it's refused.

    Raises:
        ConfigError: none, or more than one, of that name.
    """
    matches = config._REGISTRY.matching_selectors(selector)
    if not matches:
        for job in JOBS.values():
            importlib.import_module(job.function.partition(":")[0])
        matches = config._REGISTRY.matching_selectors(selector)
    if len(matches) > 1:
        raise ConfigError(f"{origin}: {selector!r} may be any of {', '.join(sorted(matches))}")
    if not matches:
        names = {entry.name for _, entry in config._REGISTRY.items() if entry.module != "gin"}
        raise ConfigError(
            f"{origin}: no configurable named {selector!r}{did_you_mean(selector, names)}"
        )
    return _configurable(matches[0])


def of_function(function: Callable) -> Configurable | None:
    """The configurable that `function` is, if gin knows it."""
    for selector, entry in _entries():
        if function is entry.wrapper or function is entry.wrapped:
            return _configurable(selector)
    return None


def constant(name: str) -> tuple[bool, Any]:
    """Whether `%name` is a gin constant (`gin.REQUIRED`, an enum's value), and its value."""
    matches = config._CONSTANTS.matching_selectors(name)
    return (True, config._CONSTANTS[matches[0]]) if len(matches) == 1 else (False, None)


def _entries() -> Iterator[tuple[str, Any]]:
    yield from config._REGISTRY.items()


def _configurable(selector: str) -> Configurable:
    return Configurable(config._REGISTRY[selector])
