"""What a prepared data set was made from, and what became of it: for its result and the report."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from pagap_jax.data.preprocessors import PairPacker
from pagap_jax.data.sources.rows import SourceReport


def report(
    packers: Mapping[str, PairPacker],
    prompts: Mapping[str, np.ndarray],
    sources: Mapping[str, tuple[SourceReport, int]],
) -> dict[str, Any]:
    """Counts of all together, of each source before its texts were tokenised, and of each split.

    Args:
        packers: of each split.
        prompts: int64[E] for each split, which prompt a pair has.
        sources: of each source its report and how many pairs it handed on.
    """
    splits = {split: packer.report() for split, packer in packers.items()}
    dropped = sum((Counter(split["dropped"]) for split in splits.values()), Counter[str]())
    noted = Counter[str]()
    read = taken = sum(split["read"] for split in splits.values())
    for source, _ in sources.values():
        dropped += source.dropped
        noted += source.noted
        read += source.dropped.total()  # these never came to a packer
    return {
        "read": read,
        "dropped": dict(sorted(dropped.items())),
        "noted": dict(sorted(noted.items())),
        "not_needed": max(sum(pairs for _, pairs in sources.values()) - taken, 0),
        "sources": {name: one.as_json(num_pairs) for name, (one, num_pairs) in sources.items()},
        "splits": {
            split: counts | {"prompts": len(np.unique(prompts[split]))}
            for split, counts in splits.items()
        },
        "overlap": _overlap(packers, prompts),
    }


def told(found: Mapping[str, Any], seconds: float) -> str:
    """The same in a few lines; `seconds` is how long reading, tokenising and writing took."""
    kept = sum(split["examples"] for split in found["splits"].values())
    rows = found["read"] + found["not_needed"]
    rate = rows / max(seconds, 1e-9)
    lines = [f"{rows:,} rows, {kept:,} pairs kept, {rate:,.0f} rows a second"]
    if found["not_needed"]:
        lines.append(f"not needed {found['not_needed']:,}: NUM_TRAIN or NUM_VALIDATION was reached")
    for name, source in found["sources"].items():
        files = ", ".join(source["files"][:3]) + ", ..." * (len(source["files"]) > 3)
        lines.append(f"{name}: {source['rows']:,} rows of {files}: {source['recognised']}")
    lines += [f"dropped {count:,}: {reason}" for reason, count in found["dropped"].items()]
    lines += [f"noted {count:,}: {reason}" for reason, count in found["noted"].items()]
    unknown = found["splits"]["train"]["share_unknown"]
    if max(unknown.values()):
        shares = ", ".join(f"{share:.2%} of {name}" for name, share in unknown.items())
        lines.append(f"unknown to the vocabulary: {shares}")
    overlap = found["overlap"]
    if overlap["prompts"]:
        lines.append(
            f"note: {overlap['prompts']} prompts of validation are in train as well, with "
            f"{overlap['pairs_of_these_prompts']} pairs there, {overlap['pairs']} of them the same "
            "as in train"
        )
    return "\n".join(f"prepare: {line}" for line in lines)


def _overlap(
    packers: Mapping[str, PairPacker], prompts: Mapping[str, np.ndarray]
) -> dict[str, int]:
    """What of validation is in train as well.

    A file is split by prompt, before it's tokenised: only prompts that truncation or words the
    vocabulary lacks made equal are shared there. Other tasks have splits of their own.

    Args:
        packers: of the splits 'train' and 'validation'.
        prompts: int64[E] for each split, which prompt a pair has.

    Returns:
        The number of prompts, of all pairs of these prompts, and of pairs that are in train with
        the same two responses.
    """
    shared = np.intersect1d(prompts["train"], prompts["validation"])
    contents = {
        split: [
            (ids[i], packers[split].responses(int(i))) for i in np.flatnonzero(np.isin(ids, shared))
        ]
        for split, ids in prompts.items()
    }
    of_train = set(contents["train"])
    return {
        "prompts": len(shared),
        "pairs_of_these_prompts": len(contents["validation"]),
        "pairs": sum(content in of_train for content in contents["validation"]),
    }
