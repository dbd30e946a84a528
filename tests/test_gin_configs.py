"""Every gin file under gin_configs parses with its job: names, types, nothing unused, none missing.

For stage files of studies, with the bindings that the plan gives them. Nothing is trained.
"""

import functools
import re
from pathlib import Path

import gin
import pytest

from pagap_jax.configuration import load_job, packaged_directory, parse, parse_command_line
from pagap_jax.jobs import JOBS
from pagap_jax.study.experiments import EXPERIMENTS

GIN_CONFIGS = packaged_directory()
ALL = sorted(path.relative_to(GIN_CONFIGS).as_posix() for path in GIN_CONFIGS.rglob("*.gin"))
STUDIES = [
    path for path in ALL if re.fullmatch(r"studies/[^/]*\.gin|test/(study|everything)\.gin", path)
]
FOLDERS = {
    name: f"/somewhere/{name.lower()}"
    for name in ("MODEL_DIR", "PAIRS_DIR", "SFT_DIR", "JUDGE_DIR", "GOLDEN_DIR", "PROXY_DIR",
                 "POLICY_DIR", "POLICY_A_DIR", "POLICY_B_DIR", "GOLDEN_RESPONSES_DIR",
                 "GOLDEN_PAIRS_DIR", "STREAM_DIR", "ONLINE_CHECKPOINT_DIR",
                 "OFFLINE_CHECKPOINT_DIR", "INITIAL_CHECKPOINT_PATH", "MODEL_CHECKPOINT_PATH")
}  # fmt: skip
OF_TASKS = ("SUMMARIZATION_FILES", "HH_DIR", "ARENA_FILES")  # of the paper's studies
# What the header of a job's gin file requires beside folders, as `--gin.NAME=`.
REQUIRED = {
    "SEED": "0", "TRAIN_STEPS": "100", "LEARNING_RATE": "1e-4", "MODEL": "%POLICY_MODEL",
    "JUDGE_MODEL": "%PROXY_MODEL", "DATA_FILE": "'pairs.jsonl'",
}  # fmt: skip
# Files that others include, or that a job reads together with others: {file: with what}.
WITH = {
    "data/hh_bytes.gin": ["jobs/prepare.gin"],
    "data/tickets.gin": ["jobs/prepare.gin"],
    "data/t5_vocabulary.gin": ["jobs/sft.gin", "sizes/tiny.gin"],
    "data/mt5_vocabulary.gin": ["jobs/sft.gin", "sizes/tiny.gin"],
    "data/byt5_vocabulary.gin": ["jobs/sft.gin", "sizes/tiny.gin"],
    "data/vocabulary_of_checkpoint.gin": ["jobs/sft.gin", "sizes/of_checkpoint.gin"],
    "data/public_vocabularies.gin": ["jobs/sft.gin", "data/tickets.gin", "sizes/tiny.gin"],
    "studies/tiny_jsonl/models.gin": ["jobs/sft.gin"],
    "sizes/of_checkpoint.gin": ["jobs/sft.gin", "data/tickets.gin"],
    "jobs/partitioning.gin": ["jobs/sft.gin", "data/tickets.gin", "sizes/tiny.gin"],
    "jobs/training.gin": ["jobs/sft.gin", "data/tickets.gin", "sizes/tiny.gin"],
    "jobs/align.gin": ["jobs/align_offline.gin", "data/tickets.gin", "sizes/tiny.gin"],
    "sizes/tiny.gin": ["jobs/sft.gin", "data/tickets.gin"],
    "sizes/tiny_bytes.gin": ["jobs/sft.gin", "data/tickets.gin"],
    **{
        f"sizes/{size}.gin": ["jobs/sft.gin", "data/tickets.gin"]
        for size in ("t5_1_1", "small", "base", "large", "xl", "xxl")
    },
    "studies/tiny_pretraining/prepare.gin": [],
    "studies/tiny_pretraining/tags.gin": [],
    "studies/tiny_pretraining/verdicts.gin": [],
}
JOB_OF = {"align_online": "align", "align_offline": "align", "tags": "pretrain",
          "verdicts": "pretrain"}  # fmt: skip


def includes(path):
    """The files that a gin file includes, and theirs, and itself."""
    text = (GIN_CONFIGS / path).read_text()
    inner = re.findall(r"^include '(.*)'", text, re.M)
    return {path}.union(*map(includes, inner))


def header_requires(paths):
    """The macros that the headers of some gin files require, or that runs may know."""
    found = set()
    for path in paths:
        text = (GIN_CONFIGS / path).read_text()
        header = "\n".join(line for line in text.splitlines() if line.startswith("#"))
        section = r"^# (?:Requires|Taken[a-z ]*):(.*?)(?=^# [A-Z][a-z ]+:|^#$|\Z)"
        for said in re.findall(section, header, re.M | re.S):
            found |= set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", said))
    return found


def parse_with_required(job, paths):
    """Parses gin files with what their headers ask for, and nothing else."""
    wanted = header_requires(set().union(*map(includes, paths)))
    given = {name: repr(place) for name, place in FOLDERS.items()} | REQUIRED
    given = [f"{name}={value}" for name, value in given.items() if name in wanted]
    return parse(load_job(job), paths, given)


def job_files():
    return [path for path in ALL if re.match("jobs/", path) and path not in WITH]


@pytest.mark.parametrize("path", job_files())
def test_a_job_runs_with_what_its_header_requires(path):
    """Its own file, and one each for data and sizes, whatever the job needs of them."""
    name = Path(path).stem
    job = JOB_OF.get(name, name)
    assert job in JOBS
    models = [] if job == "prepare" else ["sizes/tiny.gin"]
    paths = [*models, "data/tickets.gin", path]
    text = parse_with_required(job, paths).operative_config_text()
    assert f"{job}.model_dir = '{FOLDERS['MODEL_DIR']}'" in text


@pytest.mark.parametrize("path", sorted(WITH))
def test_a_file_for_several_jobs_parses_with_one(path):
    paths = list(dict.fromkeys([*WITH[path], path]))
    name = Path(WITH[path][0] if WITH[path] else path).stem
    job = JOB_OF.get(name, name)
    text = parse_with_required(job, paths).operative_config_text()
    assert f"{job}.model_dir = '{FOLDERS['MODEL_DIR']}'" in text


@functools.cache
def planned(path):
    """The stages of a study."""
    known = {"DATA_FILE", "MIXTURE_OR_TASK_NAME", "MODEL_CHECKPOINT_PATH", *OF_TASKS}
    required = header_requires([path]) & known
    given = {"STUDY_DIR": "/study", **dict.fromkeys(required, "pairs.jsonl")}
    if path == "studies/own.gin":  # all that its folder is for
        given["EXPERIMENTS"] = tuple(EXPERIMENTS)
    parse(load_job("study"), [path], [f"{name}={value!r}" for name, value in given.items()])
    return gin.get_bindings("study")["plan"].stages()


@pytest.mark.parametrize("path", STUDIES)
def test_every_stage_of_a_study_parses(path):
    stages = planned(path)
    assert len(stages) >= 15
    kinds = {(stage.gin_file, *sorted(stage.settings)): stage for stage in stages}
    for stage in kinds.values():
        command = parse_command_line(stage.argv("/somewhere/study"))
        config = parse(load_job(command.job), command.gin_files, command.gin_bindings)
        assert f"'/somewhere/study/{stage.name}'" in config.operative_config_text()


def test_every_file_of_a_study_s_folder_is_of_a_stage():
    stages = {stage.gin_file for path in STUDIES for stage in planned(path)}
    used = set().union(*map(includes, stages))
    folders = {Path(gin_file).parent for gin_file in stages}
    assert {name for name in ALL if Path(name).parent in folders} <= used


def test_no_file_is_left_out():
    """Each is a study, a stage of one, included by one of those, or in a test above."""
    folders = {path.removesuffix(".gin") for path in STUDIES} | {"test/toy"}
    stages = [path for path in ALL if Path(path).parent.as_posix() in folders]
    named = {*STUDIES, *job_files(), *WITH, *stages}
    assert set(ALL) == named.union(*map(includes, named))


def test_online_and_offline_differ_in_the_source_of_pairs_alone():
    """App. B: the same optimisation; a diff of the two configurations is the whole difference."""
    texts = []
    for job in ("online", "offline"):
        given = [
            *(
                f"{k}={v!r}"
                for k, v in FOLDERS.items()
                if k in ("MODEL_DIR", "PAIRS_DIR", "SFT_DIR")
            ),
            "SEED=0",
        ]
        if job == "online":
            given.append(f"JUDGE_DIR={FOLDERS['JUDGE_DIR']!r}")
        text = parse(load_job("align"), [f"studies/tiny/{job}.gin"], given).operative_config_text()
        texts.append(set(text.splitlines()))
    keys = {line.split(" = ")[0] for line in texts[0] ^ texts[1]}
    shared = {key for key in keys if key.startswith("align.")}
    assert shared == {"align.pair_origin"}
    for key in keys - shared:
        expected = ("Online.", "Offline.", "SamplingMethod.", "TrainedJudge.", "proxy/T5Config.")
        assert key.startswith(expected) or key in ("RunLabels.arm", "RunLabels.pairs"), key
