"""`python -m launch.slices`: the table of launch/README.md, from `pagap_jax.accelerators`."""

from pagap_jax.accelerators import ACCELERATORS, slices

HEADER = "| `--slice` | accelerator type | GKE label | hosts | chips | chips a host | HBM, GiB |"


def table() -> str:
    """All slices as a table in Markdown."""
    lines = [HEADER, "|---|---|---|---|---|---|---|"]
    for name in ACCELERATORS:
        for one in slices(name):
            hbm = f"{round(one.chips * one.accelerator.hbm, 2):,}"
            lines.append(
                f"| `{one}` | {one.accelerator_type} | {one.accelerator.gke} | {one.hosts:,}"
                f" | {one.chips:,} | {one.chips_per_host} | {hbm} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
