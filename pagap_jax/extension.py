"""More training steps for a run: what it was before stays known, and what was made of it then.

All of it is of a run's identity, run.json: {'job', 'fingerprint', 'configuration', 'parents'}, and
'history' where the run was extended.
"""

from collections.abc import Mapping, Sequence
from typing import Any

EXTENDABLE = "TrainLoop.train_steps"  # its line of the configuration
CHECKPOINTS = "checkpoints"  # a run's folder of them, by step


def values_by_name(configuration: Sequence[str]) -> dict[str, str]:
    """The lines 'NAME = VALUE' as a dictionary."""
    return dict(line.partition(" = ")[::2] for line in configuration)


def extends(now: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether a run is another one with more training steps, and nothing else is different.

    A schedule that depends on their number has another configuration as well.
    """
    was, is_now = (values_by_name(one["configuration"]) for one in (found, now))
    parents = [
        {role: parent["fingerprint"] for role, parent in one["parents"].items()}
        for one in (found, now)
    ]
    changed = {name for name in {*was, *is_now} if was.get(name) != is_now.get(name)}
    same = found["job"] == now["job"] and parents[0] == parents[1]
    return same and changed == {EXTENDABLE} and int(was[EXTENDABLE]) < int(is_now[EXTENDABLE])


def history_with(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a run was, the oldest first, once the one that is `found` is extended."""
    steps = int(values_by_name(found["configuration"])[EXTENDABLE])
    before = {"fingerprint": found["fingerprint"], "train_steps": steps}
    return [*found.get("history", ()), before]


def fingerprint_at(place: Sequence[str], identity: Mapping[str, Any]) -> str:
    """The run's fingerprint when it made what lies at a place in its folder.

    A checkpoint of before an extension has that of then; all else is made anew.
    """
    if len(place) > 1 and place[0] == CHECKPOINTS and place[1].isdecimal():
        for before in identity.get("history", ()):
            if int(place[1]) <= before["train_steps"]:
                return before["fingerprint"]
    return identity["fingerprint"]
