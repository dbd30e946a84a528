"""What settings may be: the types that say so, and the words that messages have for them.

The check of a configuration refuses other values before a job starts; beartype does in the tests.
"""

import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from beartype import BeartypeConf, FrozenDict
from beartype.door import is_bearable
from beartype.vale import Is

from pagap_jax.errors import ConfigError

# As gin's values are read: an int passes for a float, and a bool for no number.
_NO_BOOL = Is[lambda x: type(x) is not bool]
_NUMBERS = BeartypeConf(
    hint_overrides=FrozenDict(
        {int: Annotated[int, _NO_BOOL], float: Annotated[float | int, _NO_BOOL]}
    )
)

_TEXTS: dict[Any, str] = {}  # what a type takes, by its validator
_FLOAT32 = 3.4e38  # the largest that float32 holds, about
_LITERALS = (bool, int, float, complex, str, bytes, list, tuple, dict, type(None))


def _taking(text: str, test: Callable[[Any], bool]) -> Any:
    validator = Is[test]
    _TEXTS[validator] = text
    return validator


def _whole(low: int, high: int) -> Any:
    return _taking(f"an integer from {low:,} to {high:,}", lambda x: low <= x <= high)


def text_of(annotation: Any) -> str:
    """What one of these types takes, in words; '' for any other annotation."""
    found = (_TEXTS.get(one, "") for one in getattr(annotation, "__metadata__", ()))
    return next(found, "")


def is_of(value: Any, annotation: Any) -> bool:
    """Whether a value, no container, is of a type; raises beartype's error for no type."""
    return is_bearable(value, annotation, conf=_NUMBERS)


def check_values(cls: type, values: Mapping[str, Any]) -> None:
    """Raises ConfigError for a dataclass's field out of its range, where gin doesn't check it."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for name, found in values.items():
        if not is_of(found, hints[name]):
            expected = text_of(hints[name]) or str(hints[name]).replace("typing.", "")
            raise ConfigError(f"{cls.__name__}.{name}: found {found!r}, expected {expected}")


# More bits are no further seeds: JAX's keys of 2^32 and of 0 are the same.
Seed: TypeAlias = Annotated[int, _taking("an integer from 0 to 2^32-1", lambda x: 0 <= x < 2**32)]
# Steps and numbers of examples are int32 on the device.
Count: TypeAlias = Annotated[int, _whole(1, 2**31 - 1)]
CountOrZero: TypeAlias = Annotated[int, _whole(0, 2**31 - 1)]
WorkerCount: TypeAlias = Annotated[int, _whole(1, 1024)]
Length: TypeAlias = Annotated[int, _whole(2, 2**16)]  # tokens of a prompt or a response
InputLength: TypeAlias = Annotated[int, _whole(1, 2**18)]  # of a preference model, in tokens
LineLimit: TypeAlias = Annotated[int, _whole(2**10, 2**27)]  # bytes
Width: TypeAlias = Annotated[int, _whole(1, 2**20)]  # of an array of parameters
Layers: TypeAlias = Annotated[int, _whole(1, 1024)]
VocabularySize: TypeAlias = Annotated[int, _whole(1, 2**24)]
ExtraIds: TypeAlias = Annotated[int, _whole(0, 2**16)]
Dims: TypeAlias = Literal[1, 2]

Positive: TypeAlias = Annotated[
    float, _taking(f"a number above 0, up to {_FLOAT32:g}", lambda x: 0 < x <= _FLOAT32)
]
NotNegative: TypeAlias = Annotated[
    float, _taking(f"a number from 0 to {_FLOAT32:g}", lambda x: 0 <= x <= _FLOAT32)
]
Finite: TypeAlias = Annotated[
    float, _taking(f"a number up to {_FLOAT32:g}", lambda x: -_FLOAT32 <= x <= _FLOAT32)
]
Share: TypeAlias = Annotated[float, _taking("a number from 0 to 1", lambda x: 0 <= x <= 1)]
ShareAboveZero: TypeAlias = Annotated[
    float, _taking("a number above 0, up to 1", lambda x: 0 < x <= 1)
]
ShareBelowOne: TypeAlias = Annotated[
    float, _taking("a number from 0 to below 1", lambda x: 0 <= x < 1)
]
# Logits divided by less overflow.
Temperature: TypeAlias = Annotated[
    float, _taking("0, or a number from 1e-6 to 1e6", lambda x: x == 0 or 1e-6 <= x <= 1e6)
]

Activation: TypeAlias = Literal["relu", "gelu", "silu", "swish", "tanh", "sigmoid", "linear"]
Dtype: TypeAlias = Literal["float32", "bfloat16", "float16"]
Place: TypeAlias = Annotated[
    str, _taking("the path of a file or folder", lambda x: bool(x.strip()) and "\0" not in x)
]
Vocabulary: TypeAlias = Annotated[
    Any, _taking("a vocabulary, @NAME()", lambda x: type(x) not in _LITERALS)
]
Optimizer: TypeAlias = Annotated[
    Any, _taking("an optimizer, @NAME()", lambda x: type(x) not in _LITERALS)
]
