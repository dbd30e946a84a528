"""What a run was given, built again from the configuration in its run.json; gin binds nothing."""

from collections.abc import Callable, Sequence
from typing import Any

from pagap_jax.configuration import registry
from pagap_jax.configuration.statements import Macro, Reference, read_statements
from pagap_jax.errors import ConfigError


def _no_place(name: str) -> Any:
    raise ConfigError(f"%{name} says where something lies, which isn't recorded")


class RecordedConfiguration:
    """The lines 'NAME = VALUE' that a job wrote, every parameter of what it reached among them."""

    def __init__(self, lines: Sequence[str], where: str):
        """Parses nothing yet.

        Args:
            where: the file, for messages.
        """
        self._lines = dict(line.partition(" = ")[::2] for line in lines)
        self._where = where

    def build(self, key: str, place: Callable[[str], Any] = _no_place) -> Any:
        """The value of 'job.parameter', with what it refers to constructed.

        Modules with the configurables must be imported already.

        Args:
            place: gives what a macro for a place stands for, by its name.

        Raises:
            ConfigError: no such key, or its value can't be built again; names file and key.
        """
        if key not in self._lines:
            raise ConfigError(f"{self._where}: found no {key}, expected it among the settings")
        try:
            (statement,) = read_statements((), (f"{key} = {self._lines[key]}",))
            if statement.not_gin:  # what would be text on a command line
                raise ConfigError(statement.not_gin)
            return self._built(statement.value, place)
        except ConfigError as error:
            raise ConfigError(
                f"{self._where}: {key} = {self._lines[key]} can't be built again: {error}"
            ) from error

    def _built(self, value: Any, place: Callable[[str], Any]) -> Any:
        if isinstance(value, Macro):
            return place(value.name)
        if isinstance(value, dict):
            return {key: self._built(item, place) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._built(item, place) for item in value)
        if not isinstance(value, Reference):
            return value
        configurable = registry.find(value.selector, self._where)
        if not value.evaluate:
            return configurable.wrapped
        prefix = "/".join((*value.scopes, configurable.name)) + "."
        given = {
            key.removeprefix(prefix): self.build(key, place)
            for key in self._lines
            if key.startswith(prefix)
        }
        try:
            return configurable.wrapped(**given)
        except TypeError as error:  # written by a version with other parameters
            raise ConfigError(str(error)) from error
