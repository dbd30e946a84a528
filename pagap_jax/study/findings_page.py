"""findings.md: what the paper found beside what a study says, for a repository's documentation."""

from collections.abc import Mapping, Sequence

from pagap_jax.study.context import Context


def render(found: Mapping[str, Sequence[Mapping]], contexts: Sequence[Context]) -> str:
    """Markdown.

    Args:
        found: what findings.json holds: by task, `Finding.as_json`.
    """
    commands = dict.fromkeys(context.command for context in contexts if context.command)
    lines = ["# What came out", ""]
    lines += ["Made by the report of the study, from its `findings.json`:", "", "```sh", *commands]
    lines += ["```", "", _HOW_TO_READ]
    for task, findings in found.items():
        asked = [one for one in findings if one["verdict"] != "not asked"]
        lines += ["", f"## {task}", "", "| The paper | | This study measured | Effect | Verdict |"]
        lines += ["|---|---|---|---|---|", *map(_line, asked)]
        if not_asked := [one["sentence"] for one in findings if one["verdict"] == "not asked"]:
            lines += ["", f"{_NOT_ASKED}: {' '.join(not_asked)}"]
    return "\n".join(lines) + "\n"


def _line(one: Mapping) -> str:
    bounds = (one["low"], one["high"])
    interval = "no interval" if None in bounds else "[{:+.3f}, {:+.3f}]".format(*bounds)
    seeds = ", ".join(f"{value:+.3f}" for value in one["by_seed"])
    effect = f"{one['effect']:+.3f} {interval}" + f" ({seeds})" * (len(one["by_seed"]) > 1)
    cells = (one["sentence"], one["source"], one["measured"], effect, f"**{one['verdict']}**")
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


_NOT_ASKED = "Not asked, for want of runs or of a range of KL that they share"
_HOW_TO_READ = (
    "Effects are written so that a positive one agrees with the paper; in square brackets the 95 % "
    "interval, over seeds (Student's t) where there are several, else over prompts of the one "
    "seed; in round brackets each seed. A finding agrees where all of the interval is above 0, "
    "disagrees where all of it is below, and is undecided in between."
)
