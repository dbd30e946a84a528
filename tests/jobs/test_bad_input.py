"""Bad input to any job: its exit code, one message that names the place, nothing overwritten."""

import json
import re

import pytest

from tests.fixtures import toy

GOOD = {"prompt": "p", "response_a": "x", "response_b": "y", "choice": 0}
BOOKKEEPING = {"run.json", ".lock"}


def refused(argv, exit_code=2):
    """Runs a job, checks that it refuses, and gives its message."""
    found, said = toy.job_runner().run(argv)
    assert found == exit_code  # a traceback would be an exception here
    assert said.startswith(f"pagap {argv[0]}: ")
    return said


def accepted(argv):
    assert toy.job_runner().run(argv)[0] == 0


def content(folder):
    """What lies in a folder, with the times of writing."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def prepare_argv(model_dir, **macros):
    given = {
        "MODEL_DIR": str(model_dir), "SEED": 0, "MIXTURE_OR_TASK_NAME": "json_lines",
        "TASK_FEATURE_LENGTHS": {"inputs": 8, "targets": 8}, "NUM_TRAIN": None,
        "NUM_VALIDATION": None, **macros,
    }  # fmt: skip
    vocabulary = "--gin.VOCABULARY=@byte_vocabulary()"
    return ["prepare", "--gin_file=jobs/prepare.gin", vocabulary, *toy.bindings(given)]


def sft_argv(model_dir, study, **macros):
    given = {
        "MODEL_DIR": str(model_dir), "PAIRS_DIR": str(study.seed / "pairs"), "SEED": 0, **macros
    }  # fmt: skip
    return ["sft", "--gin_file=test/toy/sft.gin", *toy.bindings(given)]


@pytest.mark.parametrize(
    ("last_line", "message"),
    [
        ('{"prompt": "p", "response_a"', r"pairs\.jsonl:3: "),
        (json.dumps({k: v for k, v in GOOD.items() if k != "response_b"}),
         r"pairs\.jsonl:3: .*response_b"),
        (json.dumps(GOOD | {"choice": 2}), r"pairs\.jsonl:3: .*choice.*2"),
        (json.dumps(GOOD | {"prompt": 5}), r"pairs\.jsonl:3: .*prompt.*5"),
        (b'{"prompt": "\xff"}', r"pairs\.jsonl:3: "),
        (None, r"pairs\.jsonl"),  # an empty file
    ],
)  # fmt: skip
def test_a_bad_data_file(last_line, message, tmp_path):
    lines = [json.dumps(GOOD).encode()] * 2
    lines += [last_line if isinstance(last_line, bytes) else str(last_line).encode()]
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"" if last_line is None else b"\n".join(lines) + b"\n")
    said = refused(prepare_argv(tmp_path / "pairs", DATA_FILE=str(path)))
    assert re.search(message, said) and said.count("\n") == 0
    assert {file.name for file in (tmp_path / "pairs").iterdir()} <= BOOKKEEPING
    # The corrected file goes through in the same folder.
    rows = [GOOD | {"prompt": f"prompt {i}"} for i in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    accepted(prepare_argv(tmp_path / "pairs", DATA_FILE=str(path)))


def test_settings_of_the_data_that_do_not_exist(tmp_path):
    said = refused(prepare_argv(tmp_path / "a", MIXTURE_OR_TASK_NAME="ticket"))
    assert "MIXTURE_OR_TASK_NAME: found 'ticket', expected" in said and "'tickets'?" in said
    said = refused(prepare_argv(tmp_path / "b", DATA_FILE=str(tmp_path / "nothing.jsonl")))
    assert "nothing.jsonl" in said
    for folder in "ab":
        assert {f.name for f in (tmp_path / folder).glob("*")} <= BOOKKEEPING


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--gin.LEARNING_RAT=1e-3", r"--gin.LEARNING_RAT=1e-3: LEARNING_RAT.*LEARNING_RATE"),
        ("--gin.sft.batch_sice=8", r"--gin.sft.batch_sice=8: .*batch_sice.*batch_size"),
        ("--gin.stf.batch_size=8", r"--gin.stf.batch_size=8: .*stf.*sft"),
        ("--gin.LEARNING_RATE='1e-3'", r"LEARNING_RATE is the string '1e-3'"),
        ("--gin_file=test/toy/sfd.gin", r"no gin file 'test/toy/sfd.gin'"),
    ],
)
def test_a_wrong_setting_is_found_before_anything_is_written(option, message, study, tmp_path):
    said = refused([*sft_argv(tmp_path / "run", study), option])
    assert re.search(message, said), said
    assert not (tmp_path / "run").exists()


def test_a_gin_file_is_named_with_its_line(study, tmp_path):
    gin_file = tmp_path / "mine.gin"
    gin_file.write_text("include 'test/toy/sft.gin'\n\nBATCH_SIZ = 4\n")
    argv = [*sft_argv(tmp_path / "run", study), f"--gin_file={gin_file}"]
    assert f"{gin_file}:3: BATCH_SIZ has no effect" in refused(argv)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TRAIN_STEPS", -5, "TRAIN_STEPS is the int -5, but TrainLoop.train_steps ("),
        ("BATCH_SIZE", 0, "takes an integer from 1 to 2,147,483,647"),
        ("LEARNING_RATE", -1.0, "takes a number above 0, up to 3.4e+38"),
        ("SEED", -1, "SEED is the int -1, but sft.seed ("),
        ("SEED", 2**64 - 1, "takes an integer from 0 to 2^32-1"),
    ],
)
def test_a_number_that_makes_no_sense(name, value, message, study, tmp_path):
    assert message in refused(sft_argv(tmp_path / "run", study, **{name: value}))
    assert not (tmp_path / "run").exists()
    accepted(sft_argv(tmp_path / "run", study))  # the folder isn't lost


def test_parents_of_the_wrong_kind(study, tmp_path):
    """A preference model as the policy, a policy as the judge: trained, both would mean nothing."""

    def align(gin_file, **places):
        macros = {
            "MODEL_DIR": str(tmp_path / "run"), "SEED": 0, "LEARNING_RATE": 1e-2, "BETA": 0.1,
            "PAIRS_DIR": str(study.seed / "d_golden"), "SFT_DIR": str(study.seed / "sft"), **places,
        }  # fmt: skip
        return ["align", f"--gin_file=test/toy/{gin_file}.gin", *toy.bindings(macros)]

    said = refused(align("offline", SFT_DIR=str(study.seed / "proxy")))
    assert "proxy: found a run of `preference_model`, expected a policy, of sft or align" in said
    said = refused(align("online", JUDGE_DIR=str(study.seed / "sft")))
    assert "sft: found a run of `sft`, expected a preference model, of preference_model" in said
    assert "takes a number from 0 to 3.4e+38" in refused(align("offline", BETA=-1.0))


def test_a_checkpoint_of_another_size(study, tmp_path):
    argv = sft_argv(tmp_path / "run", study, INITIAL_CHECKPOINT_PATH="package:tickets_t5_64")
    said = refused(argv)
    assert "package:tickets_t5_64 is a checkpoint of another model:" in said
    assert re.search(r"\S+/\S+: the checkpoint has \(.*64.*\), the model \(.*16.*\)", said)
    accepted(sft_argv(tmp_path / "run", study))  # the folder isn't lost


def test_a_checkpoint_that_is_not_there(study, tmp_path):
    argv = sft_argv(tmp_path / "run", study, INITIAL_CHECKPOINT_PATH=str(tmp_path / "none"))
    assert f"no checkpoint at {tmp_path}/none: expected a run's folder" in refused(argv)


def test_a_folder_that_holds_another_configuration(study):
    run = study.seed / "sft"
    before = content(run)
    said = refused(sft_argv(run, study, LEARNING_RATE=3e-3))
    assert f"{run} holds another run: LearningRate.peak was 0.01, is now 0.003." in said
    said = refused(
        ["preference_model", "--gin_file=test/toy/golden.gin",
         *toy.bindings({"MODEL_DIR": str(run), "PAIRS_DIR": str(study.seed / "pairs"), "SEED": 0})]
    )  # fmt: skip
    assert f"{run} holds another run: job was 'sft', is now 'preference_model'" in said
    assert content(run) == before


def test_a_vocabulary_that_does_not_fit(study, tmp_path):
    bytes_instead = "--gin.VOCABULARY=@byte_vocabulary()"
    said = refused([*sft_argv(tmp_path / "a", study), bytes_instead])
    pairs = study.seed / "pairs"
    assert f"{pairs} was tokenised with" in said
    assert "SentencePieceVocabulary" in said and "ByteVocabulary" in said
    said = refused([*sft_argv(tmp_path / "b", study), "--gin.T5Config.vocab_size=64"])
    assert "the vocabulary has 70 ids, the model's vocab_size is 64" in said


def test_pairs_that_are_not_there(study, tmp_path):
    said = refused(sft_argv(tmp_path / "run", study, PAIRS_DIR=str(tmp_path / "none")))
    assert f"{tmp_path}/none: found no pairs.json" in said
    said = refused(sft_argv(tmp_path / "run", study, PAIRS_DIR=str(study.seed / "sft")))
    assert f"{study.seed}/sft: found no pairs.json" in said


def test_batches_that_cannot_be(study, tmp_path):
    said = refused(sft_argv(tmp_path / "b", study, BATCH_SIZE=128))
    assert "BATCH_SIZE: found 128, expected 120 at most: as many pairs as the split" in said
    said = refused(sft_argv(tmp_path / "c", study, NUM_PARTITIONS=3))
    assert "num_partitions=3 doesn't divide the 1 devices" in said


@pytest.mark.parametrize("name", ["LOSS", "REDUCTION", "DATA_ORDER"])
def test_a_choice_that_does_not_exist(name, study, tmp_path):
    argv = toy.align_argv(
        tmp_path / "run", study.directory, study.seed / "d_golden", **{name: "other"}
    )
    assert "'other'" in refused(argv)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_an_evaluation_of_an_unfinished_run(study, tmp_path):
    folders = {
        "MODEL_DIR": str(tmp_path / "rows"), "POLICY_DIR": str(tmp_path / "none"),
        **{name: str(study.seed / stage) for name, stage in (
            ("SFT_DIR", "sft"), ("GOLDEN_RESPONSES_DIR", "golden_responses"),
            ("GOLDEN_PAIRS_DIR", "d_golden"), ("GOLDEN_DIR", "golden"), ("PROXY_DIR", "proxy"))},
    }  # fmt: skip
    argv = ["evaluate", "--gin_file=test/toy/evaluate.gin", *toy.bindings(folders | {"SEED": 0})]
    assert f"{tmp_path}/none holds no finished run of a policy" in refused(argv)


def test_a_learning_rate_that_bursts_is_exit_3(study, tmp_path):
    argv = sft_argv(tmp_path / "run", study, LEARNING_RATE=1e30)
    said = refused(argv, exit_code=3)
    assert said.count("\n") == 0
    assert re.match(r"pagap sft: (loss|gradient_norm|update_norm) is (nan|inf) at step [12]:", said)
    assert not (tmp_path / "run" / "result.json").exists()
    assert not list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))
    assert toy.metrics(tmp_path / "run")[-1]["step"] in (1, 2)
