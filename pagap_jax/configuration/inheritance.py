"""What a job takes from the runs that it reads: their vocabulary, model, lengths, seed and data.

A run writes into run.json the settings that later jobs need of it (`provided`), as gin. A macro
that a job uses and nobody gave is looked up there (`taken`). It is then as if it had been given: it
stands in the effective configuration and in the run's identity. One that was given and contradicts
such a run is refused (`check_agreement`).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pagap_jax.configuration.annotations import Target
from pagap_jax.configuration.checking import Checked, leaves
from pagap_jax.configuration.statements import Macro, Reference, Statement, read_lines
from pagap_jax.errors import ConfigError
from pagap_jax.lineage import RUN_FILE, folder_of_run, identity_of

OF_CHECKPOINT = "of_checkpoint"  # what rows call a policy of the size of a checkpoint
# Fields of a model in which jobs may differ: how it is computed, not what its parameters are.
FREE = {
    "dtype", "dropout_rate", "remat_policy", "scan_layers", "kernels", "float32_attention_logits",
    "path",
}  # fmt: skip
_LITERALS = (bool, int, float, str, tuple, list, type(None))


class From(NamedTuple):
    """Where a macro's value may be found.

    Attributes:
        source: the macro that names the run.
        provided: which of the settings that it provides.
        parent: instead: the role of a parent of that run, whose folder is the value,
        jobs: which has to be a run of one of these.
    """

    source: str
    provided: str = ""
    parent: str = ""
    jobs: tuple[str, ...] = ()


def _pairs(source: str, *jobs: str) -> From:
    return From(source, parent="pairs", jobs=jobs)


def _judge(source: str) -> From:
    return From(source, parent="judge", jobs=("preference_model",))


def _sft(source: str) -> From:
    return From(source, parent="initial", jobs=("sft",))


_START, _GOLDEN = "INITIAL_CHECKPOINT_PATH", "GOLDEN_DIR"
# By job and macro; folders first, since others are looked up in them.
TAKEN: Mapping[str, Mapping[str, tuple[From, ...]]] = {
    "sft": {
        "VOCABULARY": (From("PAIRS_DIR", "VOCABULARY"),),
        "POLICY_MODEL": (From(_START, "MODEL"),),
        "POLICY_SIZE": (From(_START, "POLICY_SIZE"),),
        "SEED": (From("PAIRS_DIR", "SEED"),),
    },
    "preference_model": {
        "PAIRS_DIR": (_pairs(_START, "prepare"),),
        "VOCABULARY": (From("PAIRS_DIR", "VOCABULARY"),),
        "MODEL": (From(_START, "MODEL"),),
        "INPUT_LENGTH": (From("PAIRS_DIR", "INPUT_LENGTH"),),
        "SEED": (From("PAIRS_DIR", "SEED"), From(_START, "SEED")),
    },
    "relabel": {
        "PAIRS_DIR": (_pairs(_GOLDEN, "prepare"),),
        "VOCABULARY": (From("PAIRS_DIR", "VOCABULARY"),),
        "GOLDEN_MODEL": (From(_GOLDEN, "MODEL"),),
        "INPUT_LENGTH": (From(_GOLDEN, "INPUT_LENGTH"),),
    },
    "reference_scores": {
        "VOCABULARY": (From("PAIRS_DIR", "VOCABULARY"),),
        "POLICY_MODEL": (From("SFT_DIR", "MODEL"),),
    },
    "align": {
        "PAIRS_DIR": (_pairs("JUDGE_DIR", "relabel", "prepare"),),
        "SFT_DIR": (_sft("JUDGE_DIR"),),
        "VOCABULARY": (From("PAIRS_DIR", "VOCABULARY"),),
        "POLICY_MODEL": (From("SFT_DIR", "MODEL"),),
        "POLICY_SIZE": (From("SFT_DIR", "POLICY_SIZE"),),
        "JUDGE_MODEL": (From("JUDGE_DIR", "MODEL"),),
        "INPUT_LENGTH": (From("JUDGE_DIR", "INPUT_LENGTH"),),
        "SEED": (From("SFT_DIR", "SEED"),),
    },
    "sample_pairs": {
        _GOLDEN: (_judge("PAIRS_DIR"),),
        "VOCABULARY": (From("PAIRS_DIR", "VOCABULARY"),),
        "POLICY_MODEL": (From("POLICY_A_DIR", "MODEL"),),
        "GOLDEN_MODEL": (From(_GOLDEN, "MODEL"),),
        "INPUT_LENGTH": (From(_GOLDEN, "INPUT_LENGTH"),),
        "SEED": (From("POLICY_A_DIR", "SEED"),),
    },
    "evaluate": {
        "SFT_DIR": (_sft("POLICY_DIR"),),
        "GOLDEN_PAIRS_DIR": (_pairs("GOLDEN_RESPONSES_DIR", "relabel"),),
        _GOLDEN: (_judge("GOLDEN_RESPONSES_DIR"),),
        "PROXY_DIR": (_judge("POLICY_DIR"),),
        "VOCABULARY": (From("POLICY_DIR", "VOCABULARY"),),
        "POLICY_MODEL": (From("POLICY_DIR", "MODEL"),),
        "GOLDEN_MODEL": (From(_GOLDEN, "MODEL"),),
        "PROXY_MODEL": (From("PROXY_DIR", "MODEL"),),
        "INPUT_LENGTH": (From(_GOLDEN, "INPUT_LENGTH"), From("PROXY_DIR", "INPUT_LENGTH")),
        "SEED": (From("POLICY_DIR", "SEED"),),
    },
    "classify_stream": {
        "VOCABULARY": (From("STREAM_DIR", "VOCABULARY"),),
        "POLICY_MODEL": (From("SFT_DIR", "MODEL"),),
        "GOLDEN_MODEL": (From(_GOLDEN, "MODEL"),),
        "INPUT_LENGTH": (From(_GOLDEN, "INPUT_LENGTH"),),
        "SEED": (From("SFT_DIR", "SEED"),),
    },
}


def provided(checked: Checked, places: Sequence[str]) -> dict[str, list[str]]:
    """The settings that later jobs need of a run of this configuration: lines of gin, by name.

    Args:
        places: macros that say where something lies, which stay macros.
    """
    found: dict[str, Any] = {}
    named = {"vocabulary": "VOCABULARY", "model": "MODEL", "seed": "SEED"}
    for (scope, _), (configurable, in_force) in checked.reached.items():
        own = configurable.selector == checked.job.selector
        names = named if own else {}
        if own or configurable.name == "TrainedJudge":
            names = names | {"input_length": "INPUT_LENGTH"}
        if configurable.name == "RunLabels":
            names = {"policy_size": "POLICY_SIZE"}
        for parameter in in_force.keys() & names.keys():
            value = checked.resolve(in_force[parameter], scope, keep=places)
            found.setdefault(names[parameter], value)
        if own and "task_feature_lengths" in in_force:  # all of a pair, and two markers
            lengths = checked.resolve(in_force["task_feature_lengths"], scope)
            if {"inputs", "targets"} <= lengths.keys():
                found["INPUT_LENGTH"] = lengths["inputs"] + 2 * lengths["targets"] + 2
    return {
        name: [f"{name} = {value!r}", *dict.fromkeys(_closure(checked, value, places))]
        for name, value in sorted(found.items())
    }


def _closure(checked: Checked, value: Any, places: Sequence[str]) -> Iterator[str]:
    """Lines that say all that is bound of what a value refers to."""
    for leaf in leaves(value):
        if isinstance(leaf, Macro):
            statement = checked.macros[leaf.name]
            yield f"{leaf.name} = {checked.resolve(statement)!r}"
        if not isinstance(leaf, Target):
            continue
        yield f"import {leaf.configurable.wrapped.__module__}"
        configurable, in_force = checked.reached[leaf.scopes, leaf.configurable.selector]
        prefix = "/".join((*leaf.scopes, configurable.name))
        for name, parameter in configurable.parameters.items():
            if name in in_force:
                bound = checked.resolve(in_force[name], leaf.scopes, keep=places)
                yield f"{prefix}.{name} = {bound!r}"
                yield from _closure(checked, bound, places)
            elif isinstance(parameter.default, _LITERALS):
                yield f"{prefix}.{name} = {parameter.default!r}"


def taken(job: str, statements: Sequence[Statement]) -> list[Statement]:
    """Statements for the macros that a job uses, nobody gave, and runs that it reads know.

    They are to stand before all others, which so may change a part of what is taken.
    """
    given = {s.selector: s for s in statements if not s.parameter}
    used = {leaf.name for s in statements for leaf in leaves(s.value) if isinstance(leaf, Macro)}
    found: list[Statement] = []
    for macro, sources in TAKEN.get(job, {}).items():
        if macro in given or macro not in used:
            continue
        for source in sources:
            if (folder := _text_of(source.source, given)) and (
                new := _taken_from(macro, source, folder)
            ):
                new = _apart(macro, new, found)
                found += new
                given |= {s.selector: s for s in new if not s.parameter}
                break
    return found


def _text_of(macro: str, given: Mapping[str, Statement]) -> str | None:
    """The text that a macro stands for, also by way of others."""
    for _ in given:
        if macro not in given or not isinstance(given[macro].value, Macro):
            break
        macro = given[macro].value.name
    value = given[macro].value if macro in given else None
    return value if isinstance(value, str) else None


def _taken_from(macro: str, source: From, folder: str) -> list[Statement]:
    run = identity_of(folder)
    if run is None:
        of_checkpoint = source.source == _START and folder
        if of_checkpoint and source.provided == "MODEL":
            text = f"{macro} = @config_of()\nconfig_of.path = %{_START}\n"
            return read_lines(text, Path(folder))
        if of_checkpoint and source.provided == "POLICY_SIZE":
            return read_lines(f"{macro} = {OF_CHECKPOINT!r}\n", Path(folder))
        return []
    file = Path(str(folder_of_run(folder))) / RUN_FILE
    if source.parent:
        path = run["parents"].get(source.parent, {}).get("path")
        parent = identity_of(path) if path else None
        return read_lines(f"{macro} = {path!r}\n", file) if _is_of(parent, source.jobs) else []
    lines = run.get("provides", {}).get(source.provided, [])
    text = "\n".join(lines).replace(f"{source.provided} = ", f"{macro} = ", 1)
    return read_lines(text, file)


def _is_of(run: Mapping[str, Any] | None, jobs: Sequence[str]) -> bool:
    return run is not None and run["job"] in jobs


def _apart(macro: str, new: list[Statement], others: Sequence[Statement]) -> list[Statement]:
    """The same in a scope of the macro's name where it would change what was taken before."""
    before = {other.key: other.value for other in others}
    if all(before.get(one.key, one.value) == one.value for one in new):
        return new
    return [one.in_scope(macro, {macro}) for one in new]


def check_agreement(job: str, checked: Checked) -> None:
    """Refuses a given model or length that isn't that of the run which it is said to be of.

    Vocabularies are compared where data are opened, shapes of parameters where they are restored.

    Raises:
        ConfigError: names both.
    """
    for macro, sources in TAKEN.get(job, {}).items():
        for source in sources if macro in checked.macros else ():
            folder = _text_of(source.source, checked.macros)
            # A bucket isn't asked for what need not be known before it's read.
            run = identity_of(folder) if folder and "://" not in folder else None
            statement, theirs = checked.macros[macro], _fields_of_run(run, source.provided)
            for name, found in _fields(checked, statement):
                if name in theirs and theirs[name] != found:
                    key = f"{macro}: {name}".removesuffix(": ")
                    raise ConfigError(
                        f"{statement.origin}: {key} is {found!r}, and {theirs[name]!r} in the run"
                        f" that {source.source} names, {folder}"
                    )


def _fields_of_run(run: Mapping[str, Any] | None, provided: str) -> dict[str, Any]:
    """What a given value has to agree with: a length as '', the fields of a model by name."""
    if run is None or provided not in ("MODEL", "INPUT_LENGTH"):
        return {}
    if provided == "INPUT_LENGTH" and run["job"] != "preference_model":
        return {}  # of data: the most that a preference model may need
    lines = read_lines("\n".join(run.get("provides", {}).get(provided, [])), None)
    by_key = {line.key: line for line in lines}
    if provided not in by_key:
        return {}
    if not isinstance(reference := by_key[provided].value, Reference):
        return {"": reference}
    prefix = f"{'/'.join((*reference.scopes, reference.selector))}."
    fields = {line.parameter: line.value for key, line in by_key.items() if key.startswith(prefix)}
    return {f"{reference.selector}.{k}": v for k, v in fields.items() if k not in FREE}


def _fields(checked: Checked, statement: Statement) -> Iterator[tuple[str, Any]]:
    """The literal that a macro stands for, as '', or the fields of what it refers to."""
    value = checked.resolve(statement, tuple(statement.selector.split("/")))
    if not isinstance(value, Target):
        yield "", value
        return
    reached = checked.reached.get((value.scopes, value.configurable.selector))
    configurable, in_force = reached or (value.configurable, {})
    for name, parameter in configurable.parameters.items() if reached else ():
        bound = in_force.get(name)
        found = checked.resolve(bound, value.scopes) if bound else parameter.default
        yield f"{configurable.name}.{name}", found
