"""Reads gin files and command-line bindings into statements that know where they stand."""

import dataclasses
import functools
import importlib
import io
import os
import re
import sys
import tokenize
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from gin import config_parser

from pagap_jax.configuration.gin_files import find_gin_file, shown_path
from pagap_jax.errors import ConfigError

_OURS = __name__.partition(".")[0]
_VALUES = "a number, True, False, None, a 'string', a list, %MACRO or @reference"
# No text begins as gin's strings, containers, macros and references do.
_TEXT = re.compile(r"(?P<key>[\w./]+)\s*=(?P<text>\s*[^\s'\"\[({%@,=#].*)")
_BRACKET = re.compile(r"[\[\](){}]")
_MAX_DEPTH = 100
_PLACE = re.compile(r"(?:^|[._/])(?:dirs?|paths?)$", re.IGNORECASE)
_UNQUOTED = re.compile(r"[^\s'\"\[\](){}%@,][^'\"\[\](){}%@]*")


@dataclasses.dataclass(frozen=True)
class Reference:
    """`@scopes/selector`, or `@scopes/selector()` when evaluated."""

    scopes: tuple[str, ...]
    selector: str
    evaluate: bool

    def __repr__(self) -> str:
        """As gin writes it."""
        return "@" + "/".join((*self.scopes, self.selector)) + ("()" if self.evaluate else "")


@dataclasses.dataclass(frozen=True)
class Macro:
    """`%name`: a macro, or one of gin's constants."""

    name: str

    def __repr__(self) -> str:
        """As gin writes it."""
        return "%" + self.name


@dataclasses.dataclass(frozen=True)
class Statement:
    """One binding as it stands in a file or on the command line; a macro has no parameter."""

    scope: str
    selector: str
    parameter: str
    value: Any
    origin: str  # 'file:line', or '--gin.NAME=VALUE' as given
    file: Path | None = None  # None: on the command line
    # Why the value, a text, isn't gin; only a parameter that is a string may have it.
    not_gin: str = ""

    def in_scope(self, scope: str, macros: Collection[str]) -> "Statement":
        """The same of a scope of its own; macros in `macros` keep their names."""
        value = in_scope(scope, self.value, macros)
        if not self.parameter:
            name = self.selector if self.selector in macros else f"{scope}/{self.selector}"
            return dataclasses.replace(self, selector=name, value=value)
        return dataclasses.replace(
            self, scope="/".join((scope, *[self.scope] * bool(self.scope))), value=value
        )

    @property
    def on_command_line(self) -> bool:
        return self.file is None

    @property
    def key(self) -> str:
        """What is bound, as gin writes it."""
        name = f"{self.selector}.{self.parameter}" if self.parameter else self.selector
        return f"{self.scope}/{name}" if self.scope else name


def in_scope(scope: str, value: Any, macros: Collection[str]) -> Any:
    """A value whose references and macros, but for those in `macros`, are those of a scope."""
    if isinstance(value, Reference):
        return dataclasses.replace(value, scopes=(scope, *value.scopes))
    if isinstance(value, Macro) and value.name not in macros:
        return Macro(f"{scope}/{value.name}")
    if isinstance(value, dict):
        return {in_scope(scope, k, macros): in_scope(scope, v, macros) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(in_scope(scope, part, macros) for part in value)
    return value


class _Delegate(config_parser.ParserDelegate):
    """Keeps references as they are written: names are looked up once everything is read."""

    def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> Reference:
        *scopes, selector = scoped_configurable_name.split("/")
        return Reference(tuple(scopes), selector, evaluate)

    def macro(self, macro_name: str) -> Macro:
        return Macro(macro_name)


def read_statements(
    gin_files: Sequence[str], gin_bindings: Sequence[str], search_paths: Sequence[str] = ()
) -> list[Statement]:
    """All bindings in the order in which they apply: files with their includes, then the rest.

    Modules of ours that the files import are imported.

    Args:
        gin_files: paths, looked up as `find_gin_file` says.
        gin_bindings: 'NAME=VALUE' each, as they follow `--gin.`.
        search_paths: directories in which files and includes are looked up too.

    Raises:
        ConfigError: a file isn't found, isn't gin, includes itself, or imports what is neither ours
            nor imported already (`import_modules`).
    """
    statements: list[Statement] = []
    for name in gin_files:
        path = find_gin_file(name, search_paths, wanted_by=f"--gin_file={name}")
        statements.extend(_read_file(path, search_paths, including=()))
    for binding in gin_bindings:
        statements.append(_read_binding(binding))
    return statements


def _read_file(
    path: Path, search_paths: Sequence[str], including: tuple[Path, ...]
) -> Iterator[Statement]:
    shown = shown_path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{shown}: can't be read: {error}") from error
    for parsed in _parse(text, shown):
        origin = f"{shown}:{parsed.location.line_num}"
        if isinstance(parsed, config_parser.BindingStatement):
            yield dataclasses.replace(_statement(parsed, origin), file=path)
        elif isinstance(parsed, config_parser.ImportStatement):
            _import(parsed, origin)
        elif isinstance(parsed, config_parser.IncludeStatement):
            included = find_gin_file(parsed.filename, search_paths, wanted_by=origin)
            if included.resolve() in (*including, path.resolve()):
                raise ConfigError(f"{origin}: {parsed.filename!r} includes itself")
            yield from _read_file(included, search_paths, (*including, path.resolve()))


def read_lines(text: str, file: Path | None) -> list[Statement]:
    """Bindings of a text as if they stood in `file`; modules of ours that it imports are, too."""
    shown = shown_path(file) if file else "run.json"
    statements = []
    for parsed in _parse(text, shown):
        if isinstance(parsed, config_parser.ImportStatement):
            _import(parsed, shown)
        elif isinstance(parsed, config_parser.BindingStatement):
            statements.append(dataclasses.replace(_statement(parsed, shown), file=file))
    return statements


def _read_binding(binding: str) -> Statement:
    """A value that isn't gin is taken as text, unless it begins as gin does."""
    origin, not_gin = f"--gin.{binding}", ""
    try:
        parsed = _parse(binding, origin)
    except ConfigError as error:
        found = _TEXT.fullmatch(binding)
        if not found or found["text"].strip().capitalize() in ("True", "False", "None"):
            raise
        parsed = _parse(f"{found['key']} = {found['text'].strip()!r}", origin)
        not_gin = str(error)
    if len(parsed) != 1 or not isinstance(parsed[0], config_parser.BindingStatement):
        raise ConfigError(f"{origin}: expected one --gin.NAME=VALUE")
    statement = _statement(parsed[0], origin)
    return dataclasses.replace(statement, not_gin=not_gin)


@functools.lru_cache(1024)  # a study reads the same files for hundreds of stages
def _parse(text: str, shown: str) -> tuple[Any, ...]:
    """All statements of a file, or of one binding from the command line."""
    if _depth(text) > _MAX_DEPTH:  # parsers recurse, and so do the checks
        raise ConfigError(f"{shown}: found brackets over {_MAX_DEPTH} deep, expected fewer")
    try:
        return tuple(config_parser.ConfigParser(io.StringIO(text), _Delegate()))
    except (SyntaxError, tokenize.TokenError, ValueError) as error:
        raise ConfigError(_syntax_message(error, text, shown)) from error


def _depth(text: str) -> int:
    """How deep brackets may be in each other: those in texts and comments count as well."""
    deepest = depth = 0
    for bracket in _BRACKET.findall(text):
        depth = max(0, depth + (1 if bracket in "([{" else -1))
        deepest = max(deepest, depth)
    return deepest


def _statement(parsed: config_parser.BindingStatement, origin: str) -> Statement:
    scope, selector, parameter, value, _ = parsed
    if not parameter and scope:  # a macro's scope is part of its name
        scope, selector = "", f"{scope}/{selector}"
    if _PLACE.search(parameter or selector):  # a shell expands ~ at the beginning of a word alone
        value = _without_tilde(value)
    return Statement(scope, selector, parameter, value, origin)


def _without_tilde(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(map(_without_tilde, value))
    return os.path.expanduser(value) if isinstance(value, str) else value


def _import(parsed: config_parser.ImportStatement, origin: str) -> None:
    if parsed.module.startswith("__gin__"):
        raise ConfigError(f"{origin}: gin's dynamic registration isn't supported")
    # A gin file that came from somewhere must not run what lies about: importing executes.
    if parsed.module.partition(".")[0] == _OURS or parsed.module in sys.modules:
        _import_module(parsed.module, origin)
        return
    raise ConfigError(
        f"{origin}: found an import of {parsed.module}, expected a module of {_OURS}: allow it on"
        f" the command line, --gin_imports={parsed.module}"
    )


def import_modules(names: Sequence[str]) -> None:
    """Imports what the command line allows gin files to import.

    Raises:
        ConfigError: it can't be imported.
    """
    for name in names:
        _import_module(name, f"--gin_imports={name}")


def _import_module(name: str, origin: str) -> None:
    try:
        importlib.import_module(name)
    except (ImportError, TypeError, ValueError) as error:
        raise ConfigError(f"{origin}: can't import {name}: {error}") from error


def _syntax_message(error: Exception, text: str, shown: str) -> str:
    """What gin's parser choked on, with the line, and with quotes where they are missing."""
    on_command_line = shown.startswith("--gin.")
    line_number = getattr(error, "lineno", None)
    if isinstance(error, tokenize.TokenError):
        line_number = min(error.args[1][0], len(text.splitlines()) or 1)
    lines = text.splitlines()
    line = lines[line_number - 1].strip() if line_number and line_number <= len(lines) else text
    key, equals, value = (part.strip() for part in line.partition("="))
    origin = shown if on_command_line or not line_number else f"{shown}:{line_number}"
    if not equals or not _UNQUOTED.fullmatch(value):
        # Python 3.12 and newer say "unexpected EOF" where 3.11 says "EOF".
        reason = str(error.args[0]).splitlines()[0].rstrip(". ").removeprefix("unexpected ")
        return f"{origin}: not gin ({reason})" + ("" if on_command_line else f": {line}")
    if value.capitalize() in ("True", "False", "None"):
        return f"{origin}: {key} = {value}; did you mean {value.capitalize()}?"
    quoted = f"--gin.{key}=\"'{value}'\"" if on_command_line else f"{key} = '{value}'"
    return (
        f"{origin}: can't read the value {value} of {key}: expected {_VALUES}; "
        f"a string keeps its own quotes: {quoted}"
    )
