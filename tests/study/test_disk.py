"""`pagap du`: which bytes of a study are what, and which a thinned run wouldn't have."""

import subprocess
import sys
from collections import Counter

import pytest

from pagap_jax.main import main
from pagap_jax.study.disk import human, kind_of, usage


def write(folder, sizes):
    for path, size in sizes.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"x" * size)


@pytest.fixture
def study(tmp_path):
    """Two stages, one of them with three checkpoints, of which the first was thinned already."""
    online = "seed_0/online"
    write(
        tmp_path,
        {
            "study.json": 7,
            "logs/seed_0/online.log": 20,
            ".compiled/a-cache": 300,
            "seed_0/pairs/run.json": 1,
            "seed_0/pairs/token_pairs-train.array_record-00000": 5000,
            f"{online}/run.json": 2,
            f"{online}/metrics.jsonl": 30,
            f"{online}/d_online/rows.npz": 600,
            f"{online}/checkpoints/80/params/d/0": 10_000,
            f"{online}/checkpoints/90/params/d/0": 10_000,
            f"{online}/checkpoints/90/optimizer/d/0": 20_000,
            f"{online}/checkpoints/100/params/d/0": 10_000,
            f"{online}/checkpoints/100/optimizer/d/0": 21_000,
            f"{online}/checkpoints/100/_CHECKPOINT_METADATA": 3,
        },
    )
    return tmp_path


def test_bytes_by_stage_and_kind(study):
    assert usage(study) == {
        ".": {"other": 7},
        ".compiled": {"compiled": 300},
        "logs": {"logs": 20},
        "seed_0/online": Counter(
            parameters=30_003, optimizer=41_000, data=600, logs=30, other=2, thinning=20_000
        ),
        "seed_0/pairs": {"data": 5000, "other": 1},
    }


def test_one_run_by_itself(study):
    whole = usage(study)["seed_0/online"]
    assert usage(study / "seed_0" / "online") == {".": whole}


def test_what_is_linked_lies_elsewhere(study):
    (study / "seed_0" / "pairs" / "rows.npz").symlink_to(study / ".compiled" / "a-cache")
    assert usage(study)["seed_0/pairs"] == {"data": 5000, "other": 1}


def test_an_exported_checkpoint_is_parameters(tmp_path):
    write(tmp_path, {"export/params/d/0": 10})
    assert usage(tmp_path) == {"export": {"parameters": 10}}
    assert kind_of((tmp_path / "rows.jsonl").relative_to(tmp_path)) == "data"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, ""), (999, "999 B"), (1000, "1 kB"), (2_345_678, "2.35 MB"), (999_600, "1 MB"),
     (12_300_000_000, "12.3 GB"), (4_500_000_000_000, "4.5 TB")],
)  # fmt: skip
def test_sizes_as_people_read_them(size, text):
    assert human(size) == text


def test_the_table_and_its_totals(study, capsys):
    assert main(["du", str(study)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (online,) = [line for line in lines if "seed_0/online" in line]
    assert [cell.strip() for cell in online.strip("│ ").split("│")] == [
        "seed_0/online", "30 kB", "41 kB", "600 B", "", "30 B", "2 B", "71.6 kB", "20 kB",
    ]  # fmt: skip
    (total,) = [line for line in lines if line.strip("│ ").startswith("total")]
    assert "77 kB" in total and total.strip("│ ").endswith("20 kB")


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert main(["du", str(tmp_path / "no")]) == 2
    assert "no: found no folder, expected a study's or a run's" in capsys.readouterr().err


def test_it_loads_no_jax():
    code = "import sys, pagap_jax.study.disk; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
