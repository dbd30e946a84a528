"""The seqio tasks: the built-in ones, a user's own, and what is said of a wrong one."""

import functools
import json
import pathlib
import resource
import sys

import pytest

from pagap_jax.data.sources.reader import SourceFiles, validation_prompts
from pagap_jax.data.sources.registry import SOURCES
from pagap_jax.data.sources.rows import DIVERGES_EARLY
from pagap_jax.data.tickets import ticket_pairs
from pagap_jax.data.vocabulary import byte_vocabulary, tickets_vocabulary
from pagap_jax.errors import ConfigError, DataError

HH_SAMPLE = pathlib.Path(__file__).parent / "files" / "hh_sample.jsonl"


@pytest.fixture(scope="module")
def tasks():
    from pagap_jax.data import tasks

    return tasks


@pytest.fixture(scope="module")
def words(tasks):
    return tickets_vocabulary()


def files_of(**paths):
    return {name: SourceFiles(SOURCES[name], path) for name, path in paths.items()}


def rows_of(tasks, name, split, vocabulary, seed=0, module=None):
    return list(tasks.read_split(tasks.find_task(name, module, vocabulary), split, seed))


def register_user_task(vocabulary, name="user_pairs", features=None, **columns):
    """A seqio task as a user registers it: a function as source, seqio's own preprocessors."""
    import seqio
    import tensorflow as tf

    columns = {
        "inputs": ["ab", "c"],
        "response_a": ["d", "e"],
        "response_b": ["f", "gh"],
        "choice": [1, 0],
        **columns,
    }
    columns = {name: column for name, column in columns.items() if column is not None}

    def dataset_fn(split, shuffle_files=False, seed=None):
        return tf.data.Dataset.from_tensor_slices(columns)

    feature = seqio.Feature(vocabulary, add_eos=True)
    seqio.TaskRegistry.remove(name)
    seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(dataset_fn, splits=["train"]),
        preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
        output_features=dict.fromkeys(features or ("inputs", "response_a", "response_b"), feature),
    )


def test_tickets_are_the_tokens_of_the_text(tasks, words):
    tasks.register_tasks(words, {"train": 300, "validation": 20}, {}, (64, 64))
    rows = rows_of(tasks, "tickets", "train", words, seed=3)
    assert len(rows) == 300
    for row, pair in zip(rows, ticket_pairs(300, seed=3), strict=True):
        texts = (pair.prompt, pair.response_a, pair.response_b)
        for ids, text in zip(row[:3], texts, strict=True):
            assert ids.tolist() == [*words.encode(text), 1]
        assert row[3:5] == (pair.choice, pair.true_choice)


def test_tickets_vary_with_seed_and_split_alone(tasks, words):
    tasks.register_tasks(words, {"train": 20, "validation": 20}, {}, (64, 64))

    def texts(split, seed):
        return [tuple(ids.tolist()) for ids, *_ in rows_of(tasks, "tickets", split, words, seed)]

    assert texts("train", 1) == texts("train", 1)
    assert not set(texts("train", 1)) & set(texts("train", 2))
    assert not set(texts("train", 1)) & set(texts("validation", 1))


def test_json_lines_are_split_by_prompt(tasks, tmp_path):
    path = tmp_path / "pairs.jsonl"
    lines = [
        {"prompt": f"prompt {i // 3}", "response_a": "é", "response_b": "no", "choice": i // 3 % 2}
        for i in range(180)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    vocabulary = byte_vocabulary()
    tasks.register_tasks(vocabulary, {}, files_of(json_lines=path), (64, 64), validation_share=0.25)
    found = {}
    for split in ("train", "validation"):
        rows = rows_of(tasks, "json_lines", split, vocabulary)
        found[split] = [int(vocabulary.decode(prompt.tolist()).split()[1]) for prompt, *_ in rows]
        assert [choice for *_, choice, _, _ in rows] == [i % 2 for i in found[split]]
        assert {true_choice for *_, true_choice, _ in rows} == {-1}
    assert sorted(found["train"] + found["validation"]) == [i // 3 for i in range(180)]
    chosen = validation_prompts([line["prompt"] for line in lines], 0.25)
    assert {f"prompt {i}" for i in found["validation"]} == chosen


def test_a_file_of_one_prompt_cannot_be_split(tasks, tmp_path):
    path = tmp_path / "pairs.jsonl"
    line = {"prompt": "p", "response_a": "x", "response_b": "y", "choice": 0}
    path.write_text((json.dumps(line) + "\n") * 20)
    vocabulary = byte_vocabulary()
    tasks.register_tasks(vocabulary, {}, files_of(json_lines=path), (64, 64), validation_share=0.25)
    with pytest.raises(DataError, match="split 'train': found none of the 1 different prompts"):
        rows_of(tasks, "json_lines", "train", vocabulary)


def test_hh_transcripts_read_the_sample_and_report(tasks):
    vocabulary = byte_vocabulary()
    tasks.register_tasks(
        vocabulary, {}, files_of(hh_transcripts=HH_SAMPLE), (64, 64), validation_share=0.0
    )
    provider = tasks.find_task("hh_transcripts", None, vocabulary)
    ((report, num_pairs),) = tasks.read_files(provider).values()
    rows = list(tasks.read_split(provider, "train", seed=0))
    assert len(rows) == 28
    assert vocabulary.decode(rows[0][0].tolist()).endswith("Assistant:")
    assert num_pairs == 28
    assert report.noted == {DIVERGES_EARLY: 1}


def test_registering_again_replaces(tasks, words, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("{}\n")
    tasks.register_tasks(words, {"train": 1, "validation": 1}, files_of(json_lines=path), (64, 64))
    with pytest.raises(DataError, match="pairs.jsonl:1: found fields"):
        rows_of(tasks, "json_lines", "train", words)
    tasks.register_tasks(words, {"train": 2, "validation": 1}, {}, (64, 64))
    assert len(rows_of(tasks, "tickets", "train", words)) == 2
    with pytest.raises(ConfigError, match=r"found 'json_lines', .*set DATA_FILE"):
        tasks.find_task("json_lines", None, words)


def test_a_users_task_works_from_its_module(tasks, tmp_path, monkeypatch):
    (tmp_path / "my_tasks.py").write_text("import my_registration\nmy_registration.register()\n")
    vocabulary = byte_vocabulary()

    class Registration:
        register = staticmethod(functools.partial(register_user_task, vocabulary))

    monkeypatch.setitem(sys.modules, "my_registration", Registration)
    monkeypatch.syspath_prepend(tmp_path)
    rows = rows_of(tasks, "user_pairs", "train", vocabulary, module="my_tasks")
    assert [vocabulary.decode(row[2].tolist()) for row in rows] == ["f", "gh"]
    assert [row[2].tolist()[-1] for row in rows] == [1, 1]  # the end token, no padding
    assert [row[3:] for row in rows] == [(1, -1, True), (0, -1, True)]


def test_a_mixture_keeps_the_labels(tasks):
    import seqio

    vocabulary = byte_vocabulary()
    register_user_task(vocabulary, "first", choice=[0, 0], true_choice=[1, 1])
    register_user_task(vocabulary, "second", choice=[1, 1], true_choice=[0, 0])
    seqio.MixtureRegistry.remove("both")
    seqio.MixtureRegistry.add("both", ["first", "second"], default_rate=1.0)
    rows = rows_of(tasks, "both", "train", vocabulary)
    assert 2 <= len(rows) <= 4
    assert {row[3:5] for row in rows} <= {(0, 1), (1, 0)}


def test_wrong_tasks_are_told_from_what_is_known(tasks, words):
    tasks.register_tasks(words, {"train": 1, "validation": 1}, {}, (64, 64))
    with pytest.raises(ConfigError, match=r"found 'tikets', .*'tickets'.*did you mean 'tickets'\?"):
        tasks.find_task("tikets", None, words)
    with pytest.raises(ConfigError, match="TASK_MODULE: found 'no_such_module'"):
        tasks.find_task("tickets", "no_such_module", words)
    with pytest.raises(ConfigError, match="'tickets', feature 'inputs': found vocabulary Sentence"):
        tasks.find_task("tickets", None, byte_vocabulary())


def test_a_users_task_that_lacks_something(tasks):
    vocabulary = byte_vocabulary()
    register_user_task(vocabulary, features=("inputs", "response_a"))
    with pytest.raises(ConfigError, match=r"found output features \['inputs', 'response_a'\]"):
        tasks.find_task("user_pairs", None, vocabulary)
    register_user_task(vocabulary, choice=None)
    with pytest.raises(ConfigError, match="expected 'choice' among them"):
        rows_of(tasks, "user_pairs", "train", vocabulary)
    with pytest.raises(ConfigError, match=r"found splits \['train'\], expected 'validation'"):
        rows_of(tasks, "user_pairs", "validation", vocabulary)


def test_pooled_gives_every_pair_of_all_once_and_tokens_alike(tasks, tmp_path):
    """π_sft is trained on all tasks (App. C); a task's own prompts must be the same ids there."""
    vocabulary = byte_vocabulary()
    path = tmp_path / "pairs.jsonl"
    lines = [{"prompt": f"p {i}", "chosen": f"{i}", "rejected": "no"} for i in range(300)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    files = files_of(preferences=path, hh_transcripts=HH_SAMPLE)
    tasks.register_tasks(vocabulary, {}, files, (4096, 4096), validation_share=0.2)
    for split in ("train", "validation"):
        pooled = rows_of(tasks, "pooled", split, vocabulary)
        alone = [row for name in files for row in rows_of(tasks, name, split, vocabulary)]
        same = [
            sorted((*map(bytes, row[:3]), *row[3:]) for row in rows) for rows in (pooled, alone)
        ]
        assert same[0] == same[1]
        assert len(pooled) > 20 or split == "validation"
    # In shares of their sizes from the beginning, so that a limit on pairs keeps the mixture.
    first = rows_of(tasks, "pooled", "train", vocabulary)[:150]
    share = sum(b"Human" in vocabulary.decode(row.prompt.tolist()).encode() for row in first) / 150
    assert 0.02 < share < 0.2  # 28 of 328


def test_a_long_text_does_not_make_its_neighbours_long(tasks, tmp_path):
    """Padded to one of 3 million letters, 256 examples would take 3 GB."""
    lines = [{"prompt": f"p {i}", "chosen": f"{i}", "rejected": "no"} for i in range(300)]
    lines[7]["chosen"] = "x " * 1_500_000
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    vocabulary = byte_vocabulary()
    tasks.register_tasks(vocabulary, {}, files_of(preferences=path), (64, 2**16))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = rows_of(tasks, "preferences", "train", vocabulary)
    assert max(len(row.response_a) + len(row.response_b) for row in rows) > 2_999_999
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB


def test_long_texts_take_little_memory(tasks, tmp_path):
    """Of a text that is much longer than what is kept of it, the rest isn't tokenised."""
    lines = [
        {"prompt": f"p {i}", "chosen": f"{i}" * 2**17, "rejected": "no"} for i in range(10, 40)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    vocabulary = byte_vocabulary()
    tasks.register_tasks(vocabulary, {}, files_of(preferences=path), (64, 64))
    rows = rows_of(tasks, "preferences", "train", vocabulary)
    assert max(len(row.response_a) for row in rows) == 64 * 64 + 1
    ((report, _),) = tasks.read_files(tasks.find_task("preferences", None, vocabulary)).values()
    assert report.noted == {"texts of over 65,536 characters, cut before they were tokenised": 30}


def test_a_line_that_is_too_long_names_the_setting(tasks, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "p", "chosen": "a" * 2000, "rejected": "no"}) + "\n")
    vocabulary = byte_vocabulary()
    tasks.register_tasks(vocabulary, {}, files_of(preferences=path), (64, 64), max_line_bytes=1024)
    with pytest.raises(DataError, match=r"pairs.jsonl:1: .*over 1,024 .*prepare.max_line_bytes"):
        rows_of(tasks, "preferences", "train", vocabulary)


def test_a_message_is_no_longer_than_a_page():
    """It may quote a key of millions of letters; both of its ends stay."""
    said = str(DataError(f"pairs.jsonl:1: found {'k' * 10**6}, expected 'prompt'"))
    assert len(said) < 5000 and said.startswith("pairs.jsonl:1: ") and said.endswith("'prompt'")
