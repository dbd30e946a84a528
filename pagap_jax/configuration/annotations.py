"""Whether a value from gin fits the annotation of the parameter it is bound to."""

import collections.abc
import dataclasses
import inspect
import types
import typing
from typing import Any

from pagap_jax.configuration.registry import Configurable

_SEQUENCES = (
    list,
    tuple,
    collections.abc.Sequence,
    collections.abc.Iterable,
    collections.abc.Collection,
)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_LITERALS = (bool, int, float, complex, str, bytes, list, tuple, dict, type(None))


@dataclasses.dataclass(frozen=True)
class Target:
    """A reference whose configurable and scope are known."""

    scopes: tuple[str, ...]
    configurable: Configurable
    evaluate: bool

    def __repr__(self) -> str:
        """As gin writes it."""
        path = "/".join((*self.scopes, self.configurable.name))
        return f"@{path}()" if self.evaluate else f"@{path}"


def fits(value: Any, annotation: Any) -> bool:
    """Whether `value` may be passed where `annotation` stands; unknown annotations take anything.

    An int passes for a float, nothing else is converted: a bool is no int, 1e4 is no int, and
    a string is no number. Of containers every item is looked at, which beartype doesn't do.
    """
    annotation = _plain(annotation)
    if annotation is Any or isinstance(annotation, str | typing.TypeVar):
        return True
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, member) for member in arguments)
    if origin is typing.Annotated:
        is_target = isinstance(value, Target)
        return fits(value, arguments[0]) and (is_target or _is_of(value, annotation))
    if isinstance(value, Target):
        return _target_fits(value, annotation, origin)
    if origin is typing.Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if (origin or annotation) in (*_SEQUENCES, *_MAPPINGS):
        return _container_fits(value, origin or annotation, arguments)
    return _is_of(value, annotation)


def takes_text(annotation: Any) -> bool:
    """Whether the annotation names strings: `str`, some of them, or a union with either."""
    annotation = _plain(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(map(takes_text, arguments))
    if origin is typing.Annotated:
        return takes_text(arguments[0])
    if origin is typing.Literal:
        return any(isinstance(choice, str) for choice in arguments)
    return annotation is str


def type_name(annotation: Any) -> str:
    """An annotation as messages show it: in words where it is one of a range."""
    from pagap_jax.ranges import text_of  # beartype takes a moment to import: not for --help

    annotation = _plain(annotation)
    if text := text_of(annotation):
        return text
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " | ".join("None" if m is type(None) else type_name(m) for m in arguments)
    if origin and any(text_of(argument) for argument in arguments):
        return f"{origin.__name__}[{', '.join(map(_item_name, arguments))}]"
    if isinstance(annotation, type) and not arguments:
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("collections.abc.", "")


def kind_of(value: Any) -> str:
    """A value's type as messages show it: "the string '0.1'"."""
    names = {str: "the string", bool: "the bool", int: "the int", float: "the float"}
    if isinstance(value, Target):
        return repr(value)
    return f"{names.get(type(value), 'the ' + type(value).__name__)} {value!r}"


def is_range(annotation: Any) -> bool:
    """Whether the annotation says more than a type, as messages show it in words."""
    annotation = _plain(annotation)
    arguments = typing.get_args(annotation)
    return typing.get_origin(annotation) is typing.Annotated or any(map(is_range, arguments))


def _item_name(argument: Any) -> str:
    return "..." if argument is Ellipsis else type_name(argument)


def _plain(annotation: Any) -> Any:
    """The annotation without NewType and aliases."""
    while True:
        if isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif typing.get_origin(annotation) is None and hasattr(annotation, "__value__"):
            annotation = annotation.__value__
        else:
            return annotation


def _is_of(value: Any, annotation: Any) -> bool:
    """beartype's answer; True for what it can't check, as a protocol of the type checker alone."""
    from beartype.roar import BeartypeException

    from pagap_jax.ranges import is_of

    try:
        return is_of(value, annotation)
    except BeartypeException:
        return True


def _container_fits(value: Any, container: Any, arguments: tuple) -> bool:
    if container in _MAPPINGS:
        if not isinstance(value, dict):
            return False
        key, item = arguments if len(arguments) == 2 else (Any, Any)
        return all(fits(k, key) and fits(v, item) for k, v in value.items())
    if container not in (list, tuple):  # abstract: any of gin's own containers, but no text
        return isinstance(value, list | tuple) and _items_fit(value, arguments[:1])
    if not isinstance(value, container):
        return False
    if container is tuple and arguments and arguments[-1] is not Ellipsis:
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    return _items_fit(value, arguments[:1])


def _items_fit(value: Any, arguments: tuple) -> bool:
    return all(fits(item, arguments[0] if arguments else Any) for item in value)


def _target_fits(target: Target, annotation: Any, origin: Any) -> bool:
    """A reference passes unless what it gives is known to be of another kind."""
    expected = origin or annotation
    if not target.evaluate:
        return expected not in _LITERALS and expected not in (*_SEQUENCES, *_MAPPINGS)
    produced = _plain(target.configurable.product)
    produced = typing.get_origin(produced) or produced
    # `Any` is a class since Python 3.11.
    if produced is Any or not inspect.isclass(produced) or not inspect.isclass(expected):
        return True
    if getattr(expected, "_is_protocol", False) or getattr(produced, "_is_protocol", False):
        return True
    if expected is float and produced is int:
        return True
    return issubclass(produced, expected)
