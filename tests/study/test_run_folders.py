"""What the report shows of single runs: warnings, samples, curves, links, times."""

import json
import re
import shutil

import pytest

from pagap_jax.errors import DataError
from pagap_jax.study import stage_times
from pagap_jax.study.command import run_command
from pagap_jax.study.figures.training_curves import MOST_POINTS, Curve, draw_training, thinned
from pagap_jax.study.report_runs import Links
from pagap_jax.study.run_folders import runs_of
from pagap_jax.study.wording import data_name
from tests.study.conftest import _row
from tests.study.test_report import Page, write_study

ARMS = {"sft": 0.1, "online": 0.4, "offline": 0.3}
PROMPTS = ("short <b>prompt</b>", "long prompt " * 100)


def write_run(folder, job, **facts):
    folder.mkdir(parents=True, exist_ok=True)
    identity = {"job": job, "fingerprint": "f0", "configuration": [], "parents": {}}
    (folder / "run.json").write_text(json.dumps(identity))
    (folder / "result.json").write_text(json.dumps(facts))


def write_lines(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study's folder with all that its runs leave, of one seed, and its report."""
    folder = tmp_path_factory.mktemp("made") / "study"
    write_study(folder, _row, "tiny", ARMS, task="tickets")
    seed = folder / "seed_0"
    for arm in ARMS:
        write_run(seed / arm, "sft" if arm == "sft" else "align", arm=arm)
        steps = [{"step": s, "loss": 1 / s, "ties": 0.0, "fancy_number": s * s} for s in (10, 20)]
        write_lines(seed / arm / "metrics.jsonl", *steps)
        write_run(seed / "rows" / arm, "evaluate", rows=1)
        write_lines(seed / "rows" / arm / "samples.jsonl", *[
            {"step": step, "prompt": prompt, "response": f"{arm} at {step} <i>says</i>",
             "golden_response": f"gold {i}" * (1 + 99 * i), "golden_probability": 0.25 + 0.5 * i}
            for step in (100, 200) for i, prompt in enumerate(PROMPTS)
        ])  # fmt: skip
    write_run(seed / "golden", "preference_model")
    warning = {"kind": "order_disagreement", "value": 1.0, "threshold": 0.3, "step": None}
    write_lines(seed / "golden" / "warnings.jsonl", warning | {"message": "orders <u>differ</u>"})
    warning = {"kind": "ties", "message": "many ties", "value": 0.625, "threshold": 0.5, "step": 20}
    write_lines(seed / "online" / "warnings.jsonl", warning)
    stage_times.note_stage(folder, "seed_0/golden", 1200.0)
    stage_times.note_stage(folder, "seed_0/online", 34.4)
    assert run_command([str(folder), f"--out={folder}"]) == 0
    return folder


@pytest.fixture
def text(study):
    """The report."""
    return (study / "report.html").read_text()


@pytest.fixture
def own_study(study, tmp_path):
    """A copy, to be changed."""
    return shutil.copytree(study, tmp_path / "study")


def test_the_report_shows_what_runs_left(study, text):
    page = Page(text)
    assert not page.tags & {"i", "u"}
    # Warnings come first, each with its stage.
    warned = text[text.index('class="alert"') : text.index("<nav")]
    assert "2 warnings from 2 stages" in warned
    assert '<a href="seed_0/golden/">golden, seed 0</a>' in warned
    assert "orders &lt;u&gt;differ&lt;/u&gt; (1, threshold 0.3)" in warned
    assert "many ties (0.625, threshold 0.5, step 20)" in warned
    # Every link leads to a file beside the report, or to a section.
    hrefs = [value for name, value in page.attributes if name == "href"]
    ids = {value for name, value in page.attributes if name == "id"}
    files = [href for href in hrefs if not href.startswith("#")]
    assert all((study / href).exists() for href in files)
    assert all(href[1:] in ids for href in hrefs if href.startswith("#"))
    assert {"rows.csv", "seed_0/online/run.json", "seed_0/rows/online/samples.jsonl"} <= {*files}
    # Training: what changes is drawn by name, what doesn't is said.
    assert ">fancy number</text>" in text and ">loss</text>" in text
    assert "The same at every step: share of ties 0." in text
    assert "<title>online, seed 0</title>" in text


def test_samples_stand_side_by_side(text):
    section = text[text.index('id="samples-tickets"') :]
    section = section[: section.index("<h2")]
    place = section.index("long prompt")
    first, second = section[:place], section[place:]
    for arm in ARMS:
        assert first.count(f"{arm} at 100 &lt;i&gt;says&lt;/i&gt;") == 1
    assert "at 200" not in section  # the best checkpoints are those of step 100
    assert "gold 0" in first and "gold 1" in second
    assert first.count("loses, P 0.250") == second.count("wins, P 0.750") == 3
    assert "short &lt;b&gt;prompt&lt;/b&gt;" in first
    assert "the whole prompt" in second and "the whole prompt" not in first
    assert '<details class="words">' in second and '<details class="words">' not in first


def test_links_are_relative_and_only_to_what_is_there(study):
    links = Links(study.parent / "some where" / "out")
    golden = study / "seed_0" / "golden"
    assert links.to(golden, "golden") == ("golden", "../../study/seed_0/golden/")
    assert links.to(golden / "run.json", "a") == ("a", "../../study/seed_0/golden/run.json")
    assert links.to(golden / "metrics.jsonl", "none here") == "none here"
    assert Links(study.parent).to(study, "#?")[1] == "study/"
    assert Links().to(golden, "golden") == "golden"


def test_points_and_lines_are_named(study, text):
    for arm in ("online", "offline"):
        named = f"<title>{arm}, seed 0, step 100: KL 1.00, win rate {ARMS[arm]:.3f}</title>"
        assert text.count(named) >= 2  # fig. 1, over-optimisation
    drawn = (study / "figures" / "fig_1.svg").read_text()
    assert named in drawn and "tooltip:" not in drawn + text


def test_a_study_says_when_it_was_made(own_study, text):
    (said,) = re.findall(r'<p class="about made">(.*?)</p>', text)
    assert re.match(r"2 stages, 1,234 s of work, ended \d{4}-\d\d-\d\d \d\d:\d\d UTC; ", said)
    assert "pagap_jax" in said
    stage_times.note_stage(own_study, "seed_0/online", 100.0)  # made anew
    assert "2 stages, 1,300 s" in stage_times.in_words(own_study)


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", "expected the JSON"),
        ('{"kind": "a", "message": "b", "value": "1", "threshold": 1}', "'value': found '1'"),
    ],
)
def test_a_damaged_line_is_refused_by_its_number(own_study, line, message):
    path = own_study / "seed_0" / "golden" / "warnings.jsonl"
    path.write_text(path.read_text() + line + "\n")
    (run,) = (run for run in runs_of(own_study, "tiny", "tickets") if run.name == "golden")
    with pytest.raises(DataError, match=f"warnings.jsonl:2: .*{message}"):
        run.warnings()
    path.write_text(path.read_text().split("\n")[0] + "\n" + line)  # still being written
    assert len(run.warnings()) == 1


def test_long_curves_are_thinned_to_means(own_study):
    (run,) = (run for run in runs_of(own_study, "tiny", "tickets") if run.name == "online")
    write_lines(run.path / "metrics.jsonl", *[{"step": s, "loss": s % 2} for s in range(1000)])
    frame = run.metrics()
    shown = thinned(frame, "loss")
    assert len(shown) == MOST_POINTS and shown["step"].iloc[-1] == 999
    assert shown["loss"].mean() == pytest.approx(frame["loss"].mean())
    assert draw_training([Curve("online", "online", frame[["step"]])]) is None


def test_numbers_of_data_are_named_in_words():
    assert data_name(("splits", "train", "share_unknown", "prompt")) == (
        "train: unknown tokens in prompts (share)"
    )
    assert data_name(("train", "ties")) == "train: ties"
    assert data_name(("my_own_count",)) == "my own count"
