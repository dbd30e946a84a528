"""How long prompts and responses are, beside what they are cut to: a small picture."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # takes a second
    from matplotlib.figure import Figure

LENGTHS_FILE = "lengths.png"


def draw_lengths(report: Mapping[str, Any]) -> "Figure":
    """A panel for prompts and one for responses, from a prepare job's report."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.2), layout="constrained")
    splits = report["splits"].values()
    for axes, name in zip(figure.subplots(1, 2), ("prompt", "response"), strict=True):
        found = [split["lengths"][name] for split in splits]
        width, limit = found[0]["bin_width"], found[0]["limit"]
        counts = [sum(column) for column in zip(*(one["counts"] for one in found), strict=True)]
        starts = [width * i for i in range(len(counts))]
        axes.bar(starts, counts, width, align="edge", color="#4477aa")
        axes.axvline(limit, color="#cc3311", linestyle="--", label=f"cut at {limit}")
        axes.set(
            xlabel=f"tokens of a {name} (last bar: or more)",
            ylabel="pairs" if name == "prompt" else "responses",
        )
        axes.legend(frameon=False, fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def lengths_picture(report: Mapping[str, Any]) -> bytes:
    """The same as PNG."""
    figure = draw_lengths(report)
    content = io.BytesIO()
    # Without the date and the version, so that the same data give the same bytes.
    figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    return content.getvalue()
