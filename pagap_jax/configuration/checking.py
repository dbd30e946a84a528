"""Checks a configuration before anything runs, and says what of it a job reaches.

gin 0.5 takes a misspelt macro, a binding of a function that is never called and a string for a
number without a word. Here each is an error that names the file and line, or the option.

What a job reaches: the job's own function; every configurable that a reached one is given by
`@reference`, also through macros; and every configurable that is a reached parameter's default.
So a job passes on what it is given and calls no other configurable by itself.
"""

import inspect
import typing
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from pagap_jax.configuration import registry
from pagap_jax.configuration.annotations import (
    Target,
    fits,
    is_range,
    kind_of,
    takes_text,
    type_name,
)
from pagap_jax.configuration.gin_files import macros_used_beside
from pagap_jax.configuration.registry import Configurable
from pagap_jax.configuration.statements import Macro, Reference, Statement
from pagap_jax.configuration.suggestions import did_you_mean
from pagap_jax.errors import ConfigError

Scope = tuple[str, ...]

_UNDEFINED = object()  # stands for a macro without a definition until all of them are known


class Checked:
    """Statements whose names exist, and what `job_function` reaches of them.

    Attributes:
        bindings: the statement in force by (scope, full selector, parameter).
        macros: the statement in force by macro name.
        reached: for each (scope, full selector) reached, its configurable and the statements
            in force for it by parameter.
    """

    def __init__(
        self, job_function: Callable, statements: Sequence[Statement], injected: Collection[str]
    ) -> None:
        job = registry.of_function(job_function)
        if job is None:
            raise TypeError(f"{job_function} is not gin configurable")
        self.job = job
        self.bindings: dict[tuple[str, str, str], Statement] = {}
        self.macros: dict[str, Statement] = {}
        self.reached: dict[tuple[Scope, str], tuple[Configurable, dict[str, Statement]]] = {}
        self._injected = injected
        self._macros_reached: set[str] = set()
        self._missing: dict[str, str] = {}  # messages by the name that lacks a value
        for statement in statements:
            self._collect(statement)
        self._reach(Target((), job, evaluate=True))
        if self._missing:  # first: what is reached isn't known without it
            raise ConfigError("\n".join(self._missing.values()))
        self._refuse_unused(statements)

    def resolve(self, statement: Statement, scope: Scope = (), keep: Collection[str] = ()) -> Any:
        """The value of a statement with macros filled in, except those named in `keep`."""
        return self._fill_in(statement.value, scope, statement.origin, frozenset(keep), ())

    def _collect(self, statement: Statement) -> None:
        """Files a statement under what it binds, after looking up every name in it."""
        for reference in _references(statement.value):
            registry.find(reference.selector, statement.origin)
        if not statement.parameter:
            self.macros[statement.selector] = statement
            return
        configurable = registry.find(statement.selector, statement.origin)
        names = [
            name for name in configurable.bindable() if not self._is_injected(configurable, name)
        ]
        if statement.parameter not in names and not configurable.takes_any_keyword:
            raise ConfigError(
                f"{statement.origin}: {configurable.name} has no parameter "
                f"{statement.parameter!r}{did_you_mean(statement.parameter, names)}"
            )
        self.bindings[statement.scope, configurable.selector, statement.parameter] = statement

    def _is_injected(self, configurable: Configurable, name: str) -> bool:
        return configurable.selector == self.job.selector and name in self._injected

    def _reach(self, target: Target) -> None:
        """Marks a configurable and everything it is given, and checks each value's type."""
        configurable, scope = target.configurable, target.scopes
        if (scope, configurable.selector) in self.reached:
            return
        in_force: dict[str, Statement] = {}
        for depth in range(len(scope) + 1):  # as gin: an inner scope adds to the outer ones
            outer = "/".join(scope[:depth])
            for (bound_scope, selector, parameter), statement in self.bindings.items():
                if (bound_scope, selector) == (outer, configurable.selector):
                    in_force[parameter] = statement
        self.reached[scope, configurable.selector] = (configurable, in_force)
        for parameter, statement in in_force.items():
            self._check_value(statement, scope, configurable, parameter)
        for name, parameter_ in configurable.parameters.items():
            if name not in in_force and not self._is_injected(configurable, name):
                self._check_default(target, name, parameter_.default)

    def _check_value(
        self, statement: Statement, scope: Scope, configurable: Configurable, parameter: str
    ) -> None:
        value = self.resolve(statement, scope)
        self._note_macros(statement.value)
        source = self._source(statement)
        name = f"{configurable.name}.{parameter}"
        if any(leaf is _UNDEFINED for leaf in leaves(value)):
            return
        if any(leaf is registry.REQUIRED for leaf in leaves(value)):
            wanted = list(self._required_in(statement)) or [source]
            for lacking in wanted:
                self._note_missing(lacking.key, f"{lacking.origin}: {lacking.key} is required")
            return
        annotation = configurable.hints.get(parameter, Any)
        if source.not_gin and not takes_text(annotation):
            raise ConfigError(_as_list(source, annotation) or source.not_gin)
        if not fits(value, annotation):
            expected = f"expected {type_name(annotation)}"
            if source is not statement:
                verb = "takes" if is_range(annotation) else "is of type"
                expected = f"but {name} ({statement.origin}) {verb} {type_name(annotation)}"
            said = f"{source.origin}: {source.key} is {kind_of(value)}, {expected}"
            raise ConfigError(said + _with_quotes(source, annotation))
        for leaf in leaves(value):
            if isinstance(leaf, Target):
                self._reach(leaf)

    def _check_default(self, target: Target, name: str, default: Any) -> None:
        no_default = default is registry.REQUIRED or default is inspect.Parameter.empty
        if no_default and target.evaluate:  # what isn't evaluated may get it from its caller
            scope = "".join(f"{part}/" for part in target.scopes)
            wanted = f"{scope}{target.configurable.name}.{name}"
            self._note_missing(wanted, f"{wanted} is required")
        elif callable(default) and (configurable := registry.of_function(default)):
            self._reach(Target(target.scopes, configurable, evaluate=False))

    def _note_missing(self, name: str, message: str) -> None:
        others = [other for other in self.macros if other != name]
        hint = did_you_mean(name, others, cutoff=0.8)  # the names of real macros are alike too
        self._missing.setdefault(name, f"{message}: give --gin.{name}=VALUE{hint}")

    def _source(self, statement: Statement) -> Statement:
        """The statement that holds the value: the last of a chain of macros."""
        while isinstance(statement.value, Macro) and statement.value.name in self.macros:
            statement = self.macros[statement.value.name]
        return statement

    def _required_in(self, statement: Statement) -> Iterator[Statement]:
        """The macros in a value that a file leaves to its user, however deep in dictionaries."""
        if statement.value == Macro("gin.REQUIRED"):
            yield statement
            return
        for name in _macro_names(statement.value):
            if name in self.macros:
                yield from self._required_in(self.macros[name])

    def _note_macros(self, value: Any) -> None:
        for name in _macro_names(value):
            if name in self.macros and name not in self._macros_reached:
                self._macros_reached.add(name)
                self._note_macros(self.macros[name].value)

    def _fill_in(
        self, value: Any, scope: Scope, origin: str, keep: frozenset[str], inside: tuple[str, ...]
    ) -> Any:
        def fill(part: Any) -> Any:
            return self._fill_in(part, scope, origin, keep, inside)

        if isinstance(value, Macro) and value.name not in keep:
            return self._macro_value(value.name, origin, keep, inside)
        if isinstance(value, Reference):
            configurable = registry.find(value.selector, origin)
            return Target(value.scopes or scope, configurable, value.evaluate)
        if isinstance(value, dict):
            return {fill(key): fill(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(fill, value))
        return value

    def _macro_value(
        self, name: str, origin: str, keep: frozenset[str], inside: tuple[str, ...]
    ) -> Any:
        is_constant, value = registry.constant(name)
        if is_constant:
            return value
        if name in inside:
            raise ConfigError(f"{origin}: %{name} is defined by itself")
        if name not in self.macros:
            self._note_missing(name, f"{origin}: %{name} is not defined")
            return _UNDEFINED
        statement = self.macros[name]
        # gin evaluates what a macro holds in a scope of the macro's name.
        scope = tuple(name.split("/"))
        return self._fill_in(statement.value, scope, statement.origin, keep, (*inside, name))

    def _refuse_unused(self, statements: Sequence[Statement]) -> None:
        """Raises for a statement that can't change what the job does.

        What stands on the command line has to reach the job. A file may serve other jobs too: what
        it sets has to be used somewhere in them, a macro in any file of the package or beside it.
        """
        reached = {(outer, selector) for scope, selector in self.reached for outer in _outer(scope)}
        mentioned = set(_macro_names([statement.value for statement in statements]))
        scopes, selectors = self._referred_to(statements)
        for (scope, selector, _), statement in self.bindings.items():
            used = (scope, selector) in reached
            in_files = selector in selectors and (not scope or scope in scopes)
            if not used and (statement.on_command_line or not in_files):
                given = "/".join(filter(None, (scope, statement.selector)))
                raise ConfigError(
                    f"{statement.origin}: {statement.key} has no effect: "
                    f"{self.job.name} is never given @{given}"
                )
        for name, statement in self.macros.items():
            wanted = self._macros_reached if statement.on_command_line else mentioned
            if name in wanted or (statement.file and name in macros_used_beside(statement.file)):
                continue
            hint = did_you_mean(name, [other for other in wanted if other != name])
            raise ConfigError(
                f"{statement.origin}: {name} has no effect: "
                f"nothing that {self.job.name} reads uses %{name}{hint}"
            )

    def _referred_to(self, statements: Sequence[Statement]) -> tuple[set[str], set[str]]:
        """Scopes and configurables that some statement refers to."""
        found = [(ref, place) for place in statements for ref in _references(place.value)]
        scopes = {outer for ref, _ in found for outer in _outer(ref.scopes)} | set(self.macros)
        return scopes, {registry.find(ref.selector, place.origin).selector for ref, place in found}


def _with_quotes(source: Statement, annotation: Any) -> str:
    """How to say a string that gin reads as something else; '' where none is meant."""
    is_one = not isinstance(source.value, str | list | tuple | dict)
    if not source.on_command_line or not is_one or not takes_text(annotation):
        return ""
    text = source.origin.partition("=")[2].strip()
    return f'; the text keeps its own quotes: --gin.{source.key}="{text!r}"'


def _as_list(source: Statement, annotation: Any) -> str:
    """How to say several strings where one is given that isn't gin; '' where none are meant."""
    if not any(map(takes_text, typing.get_args(annotation))):
        return ""
    return (
        f"{source.origin}: {source.key} is the text {source.value!r}, expected"
        f" {type_name(annotation)}: several have brackets and quotes of their own:"
        f' --gin.{source.key}="({source.value!r},)"'
    )


def leaves(value: Any) -> Iterator[Any]:
    """Everything inside nested lists, tuples and dicts."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(key)
            yield from leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def _references(value: Any) -> Iterator[Reference]:
    return (leaf for leaf in leaves(value) if isinstance(leaf, Reference))


def _macro_names(value: Any) -> Iterator[str]:
    return (leaf.name for leaf in leaves(value) if isinstance(leaf, Macro))


def _outer(scope: Scope) -> list[str]:
    return ["/".join(scope[:depth]) for depth in range(len(scope) + 1)]
