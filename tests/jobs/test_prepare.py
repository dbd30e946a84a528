"""The prepare job: what lies on disk afterwards, and that a second run changes nothing."""

import json
import pathlib

import numpy as np
import pytest

from pagap_jax.data import stored_metadata
from pagap_jax.data.reading import open_token_pairs, read_token_pairs
from pagap_jax.data.vocabulary import byte_vocabulary, tickets_vocabulary
from pagap_jax.errors import ConfigError, DataError
from pagap_jax.jobs.prepare import prepare

HH_SAMPLE = pathlib.Path(__file__).parents[1] / "data" / "files" / "hh_sample.jsonl"


def prepare_tickets(directory, seed=0, **changes):
    arguments = {
        "model_dir": str(directory),
        "mixture_or_task_name": "tickets",
        "vocabulary": tickets_vocabulary(),
        "task_feature_lengths": {"inputs": 21, "targets": 20},
        "seed": seed,
        "num_train": 60,
        "num_validation": 8,
    }
    return prepare(**(arguments | changes))


def prepare_file(directory, data_file, **changes):
    arguments = {
        "vocabulary": byte_vocabulary(),
        "task_feature_lengths": {"inputs": 64, "targets": 32},
        "num_train": None,
        "num_validation": None,
        "data_file": str(data_file),
        "validation_share": 0.3,
    }
    return prepare_tickets(directory, **(arguments | changes))


def test_tickets_fit_their_lengths_and_are_labelled(tmp_path):
    report = prepare_tickets(tmp_path / "pairs")
    train = read_token_pairs(tmp_path / "pairs", "train")
    assert (train.prompt.shape, train.response_a.shape) == ((60, 21), (60, 20))
    assert len(read_token_pairs(tmp_path / "pairs", "validation")) == 8
    # Every prompt ends with the end token; a response of full length that doesn't was cut.
    lengths = np.count_nonzero(train.prompt, axis=1)
    assert (train.prompt[np.arange(60), lengths - 1] == 1).all()
    responses = np.concatenate([train.response_a, train.response_b])
    ends = (responses == 1).sum(axis=1)
    assert ((ends == 1) | (np.count_nonzero(responses, axis=1) == 20)).all()
    assert report["splits"]["train"]["share_responses_truncated"] == np.mean(ends == 0)
    assert (report["read"], report["dropped"]) == (68, {})
    assert report["splits"]["validation"]["prompts"] == 8
    assert report["overlap"]["prompts"] == 0
    assert set(train.choice.tolist()) == {0, 1} and -1 not in train.true_choice
    assert np.isnan(train.probability).all() and (train.step == -1).all()


def test_the_data_set_is_a_function_of_the_seed(tmp_path):
    for directory, seed in (("a", 1), ("b", 1), ("c", 2)):
        prepare_tickets(tmp_path / directory, seed)
    a, b, c = ({f.name: f.read_bytes() for f in (tmp_path / d).iterdir()} for d in "abc")
    assert a == b
    assert a["token_pairs-train.array_record-00000"] != c["token_pairs-train.array_record-00000"]


def test_real_transcripts_are_counted(tmp_path):
    report = prepare_file(tmp_path, HH_SAMPLE, mixture_or_task_name="hh_transcripts")
    assert report["read"] == 28
    assert report["dropped"] == {"empty response": 1}
    assert report["noted"] == {"transcripts diverge before the last turn": 1}
    splits = report["splits"]
    assert splits["train"]["examples"] + splits["validation"]["examples"] == 27
    assert json.loads((tmp_path / "result.json").read_text()) == report
    assert stored_metadata.read_metadata(tmp_path)["report"] == report
    # The end of the prompt is kept: what the assistant is to answer.
    vocabulary, pairs = byte_vocabulary(), read_token_pairs(tmp_path, "train")
    for prompt in pairs.prompt:
        assert vocabulary.decode(prompt[prompt > 0].tolist()).endswith("\n\nAssistant:")


def test_bad_lines_and_identical_pairs_add_up(tmp_path):
    path = tmp_path / "pairs.jsonl"
    line = {"prompt": "p", "response_a": "x", "response_b": "y", "choice": 0}
    lines = [{**line, "prompt": f"p {i}"} for i in range(20)]
    lines += [{**line, "response_b": "x"}, {**line, "prompt": " "}, {}]
    path.write_text("".join(json.dumps(row) + "\n" for row in lines))
    report = prepare_file(
        tmp_path / "pairs", path, mixture_or_task_name="json_lines", max_bad_examples=1
    )
    assert report["read"] == 23
    assert report["dropped"] == {"bad line": 1, "empty prompt": 1, "identical responses": 1}
    assert sum(split["examples"] for split in report["splits"].values()) == 20


def test_no_more_pairs_are_kept_than_asked_for(tmp_path):
    report = prepare_file(tmp_path, HH_SAMPLE, mixture_or_task_name="hh_transcripts", num_train=3)
    assert report["splits"]["train"]["examples"] == 3


def test_a_second_run_changes_nothing(tmp_path):
    first = prepare_tickets(tmp_path, config_text="seed = 1")
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert prepare_tickets(tmp_path, config_text="seed = 1") == first
    (tmp_path / "result.json").unlink()  # killed just before the end
    assert prepare_tickets(tmp_path, config_text="seed = 1") == first
    changed = [f for f in tmp_path.iterdir() if f.stat().st_mtime_ns != before[f]]
    assert {file.name for file in changed} <= {"result.json", ".lock"}
    with pytest.raises(ConfigError, match="holds another run: seed was 1, is now 2"):
        prepare_tickets(tmp_path, config_text="seed = 2")


def test_a_changed_data_file_is_noticed(tmp_path):
    path = tmp_path / "sample.jsonl"
    lines = HH_SAMPLE.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines))
    prepare_file(tmp_path / "pairs", path, mixture_or_task_name="hh_transcripts")
    path.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(ConfigError, match="holds another run"):
        prepare_file(tmp_path / "pairs", path, mixture_or_task_name="hh_transcripts")


def test_settings_that_do_not_fit(tmp_path):
    with pytest.raises(ConfigError, match=r"num_train.*found None, expected numbers"):
        prepare_tickets(tmp_path / "a", num_train=None)
    with pytest.raises(ConfigError, match=r"TASK_FEATURE_LENGTHS: found \{'inputs': 21\}"):
        prepare_tickets(tmp_path / "b", task_feature_lengths={"inputs": 21})
    with pytest.raises(DataError, match="no_such_file: found No such file"):
        prepare_file(tmp_path / "c", "no_such_file", mixture_or_task_name="json_lines")
    with pytest.raises(DataError, match="'validation': found none of the 28 different pro"):
        prepare_file(
            tmp_path / "d",
            HH_SAMPLE,
            mixture_or_task_name="hh_transcripts",
            validation_share=0.0,
        )
    for directory in "abcd":
        assert not stored_metadata.is_complete(tmp_path / directory)


def write_comparisons_of_posts(path, num_pairs, num_posts):
    """JSON lines of TL;DR's shape: several comparisons a post, its copies not spelled alike."""
    spellings = ("post {} asks for help", "Post {}  asks\nfor help")
    posts = np.random.default_rng(0).integers(num_posts, size=num_pairs).tolist()
    lines = [
        {
            "prompt": spellings[i % 2].format(post),
            "response_a": f"first {i}",
            "response_b": f"second {i}",
            "choice": i % 2,
        }
        for i, post in enumerate(posts)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return set(posts)


def test_no_prompt_is_in_both_splits_of_a_file(tmp_path):
    """Split by line, 99 % of the validation posts of these data were in train as well."""
    path, directory = tmp_path / "pairs.jsonl", tmp_path / "pairs"
    posts = write_comparisons_of_posts(path, num_pairs=4400, num_posts=1000)
    changes = {"mixture_or_task_name": "json_lines", "validation_share": 0.05}
    report = prepare_file(directory, path, **changes)
    found, ids = {}, {}
    for split in ("train", "validation"):
        ids[split] = set(open_token_pairs(directory, split).prompt_id.tolist())
        prompts = read_token_pairs(directory, split).prompt
        texts = (byte_vocabulary().decode(row[row > 0].tolist()) for row in prompts)
        found[split] = {int(text.split()[1]) for text in texts}
        assert report["splits"][split]["prompts"] == len(found[split]) == len(ids[split])
    shared = found["validation"] & found["train"]
    assert not shared, f"{len(shared) / len(found['validation']):.1%} are in train as well"
    assert not ids["validation"] & ids["train"]
    assert found["train"] | found["validation"] == posts
    assert report["overlap"] == {"prompts": 0, "pairs_of_these_prompts": 0, "pairs": 0}
    # Four standard errors of a share of 1000 posts with 4.4 comparisons each, uneven in number.
    assert abs(report["splits"]["validation"]["examples"] / 4400 - 0.05) < 4 * 0.0076


def test_overlap_of_splits_of_their_own_is_counted_and_told(tmp_path, capsys):
    import seqio
    import tensorflow as tf

    rows = {
        "train": [("a", "x", "y"), ("a", "x", "z"), ("b", "x", "y"), ("c", "x", "y")],
        # As in train, the other way round, of a prompt in train, spelled otherwise, new.
        "validation": [(*"axy",), (*"azx",), (*"bvw",), ("B ", "x", "y"), (*"dxy",)],
    }

    def dataset_fn(split, shuffle_files=False, seed=None):
        columns = zip(*rows[split], strict=True)
        named = dict(zip(("inputs", "response_a", "response_b"), map(list, columns), strict=True))
        return tf.data.Dataset.from_tensor_slices(named | {"choice": [0] * len(rows[split])})

    feature = seqio.Feature(byte_vocabulary(), add_eos=True)
    seqio.TaskRegistry.add(
        "overlapping_pairs",
        source=seqio.FunctionDataSource(dataset_fn, splits=list(rows)),
        preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
        output_features=dict.fromkeys(("inputs", "response_a", "response_b"), feature),
    )
    report = prepare_tickets(
        tmp_path,
        mixture_or_task_name="overlapping_pairs",
        vocabulary=byte_vocabulary(),
        num_train=None,
        num_validation=None,
    )
    assert report["splits"]["validation"]["examples"] == 5  # they stay where the task has them
    assert report["overlap"] == {"prompts": 2, "pairs_of_these_prompts": 4, "pairs": 3}
    told = "2 prompts of validation are in train as well, with 4 pairs there, 3 of them the same"
    assert told in capsys.readouterr().out
