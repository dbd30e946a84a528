"""The report: whole, escaped, by itself, and saying what the rows say."""

import html.parser
import json
import re

import numpy as np
import pytest

from pagap_jax.errors import ConfigError
from pagap_jax.records import row_to_dict
from pagap_jax.study import gaps, statistics
from pagap_jax.study.command import run_command
from pagap_jax.study.context import Context, Gate
from pagap_jax.study.figures import FIGURES
from pagap_jax.study.report import render_report, write_report
from pagap_jax.study.rows import Rows
from tests.study.conftest import outcome_of

LENGTHS = {"limit": 8, "bin_width": 4.0, "counts": [3, 1, 0, 1]}
READ = {
    "dropped": {"same <i>pairs</i>": 1312},
    "noted": {"a post was cut": 7},
    "sources": {
        "tldr": {"files": ["a.json", "b.json"], "recognised": "comparisons", "rows": 99, "pairs": 5}
    },
    "splits": {"train": {"lengths": {"prompt": LENGTHS, "response": LENGTHS}}},
}
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(html.parser.HTMLParser):
    """Collects what a page holds and checks that its tags match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.rows = [], set(), [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):  # noqa: D102 (the parser's own name)
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):  # noqa: D102
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):  # noqa: D102
        assert self.open.pop() == tag

    def handle_data(self, data):  # noqa: D102
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture
def context():
    return Context(
        "tiny",
        "tickets",
        'tiny <i>T5</i> & "tickets"',
        command="pagap study --gin_file='a <b>.gin'",
        experiments={"comparison": ["online", "offline"]},
        gates=[
            Gate("golden <model>", 0.8274, "at least 0.78", True),
            Gate("proxy & labels", 0.91, "at least 0.92", False),
        ],
        data={"seed 0": {"pairs": READ, "golden": {"share": 0.0123, "pairs": 16000}}},
        notes=["A <script>alert(1)</script> T5 of 0.2 million parameters"],
    )


def of(rows, frame):
    """The same outcomes, other rows."""
    return Rows(frame.reset_index(drop=True), rows.stream, rows.outcomes)


@pytest.fixture
def one_beta(make_rows):
    """Few runs, quick to draw: online is above offline by 0.05 a doubling of KL."""
    changes = [{"arm": "sft", "run": "sft", "kl": 0.0, "seed": s, "step": 0} for s in range(3)]
    for seed in range(3):
        for arm, slope in (("online", 0.1), ("offline", 0.05)):
            for doublings in range(4):
                rate = 0.1 + slope * doublings + 0.005 * seed * doublings
                changes.append({
                    "arm": arm, "run": f"{arm}_lr0.001_beta0.1", "seed": seed, "kl": 2.0**doublings,
                    "step": 100 * 2**doublings, "select": rate, "report": rate,
                })  # fmt: skip
    return make_rows(*changes)


@pytest.fixture(scope="module")
def whole(study_rows):
    return render_report(study_rows, [Context("tiny", "tickets", "tiny")])


def test_the_page_is_whole_and_equal_rows_give_equal_bytes(tmp_path, one_beta, context):
    write_report(tmp_path / "new", one_beta, [context])
    text = (tmp_path / "new" / "report.html").read_text()
    assert text.startswith("<!DOCTYPE html>") and text.endswith("</html>\n")
    same = of(one_beta, one_beta.checkpoints.copy())
    assert text == render_report(same, [context], folder=tmp_path / "new")
    ids = [value for name, value in Page(text).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    drawn = {path.name for path in (tmp_path / "new" / "figures").iterdir()}
    assert drawn == {
        f"{name}.{ending}" for name in FIGURES if FIGURES[name].can_draw(one_beta)
        for ending in ("png", "svg")
    }  # fmt: skip
    found = json.loads((tmp_path / "new" / "findings.json").read_text())["tickets"]
    assert [one["verdict"] for one in found][0] == "agrees"
    assert text.index("The paper&#x27;s findings") < text.index("<svg")


def test_nothing_comes_from_elsewhere(whole):
    assert not re.search(r"https?:|//\w|@import|file:", whole)
    page = Page(whole)
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "base"}
    assert all(value.startswith("#") for name, value in page.attributes if name in ("href", "src"))
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", whole))


def test_every_text_is_escaped(one_beta, context):
    frame = one_beta.checkpoints
    frame = frame.assign(run=frame["run"] + "<u>&", loss="ipo<s>")
    outcomes = {(*p[:2], p[2] + "<u>&", p[3]): o for p, o in one_beta.outcomes.items()}
    text = render_report(Rows(frame, one_beta.stream, outcomes), [context])
    page = Page(text)
    assert not page.tags & {"i", "u", "s", "script", "model"}
    assert "tiny &lt;i&gt;T5&lt;/i&gt; &amp; &quot;tickets&quot;" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "online_lr0.001_beta0.1&lt;u&gt;&amp;" in text
    assert ["golden <model>", "0.8274", "at least 0.78", "passed"] in page.rows
    assert ["proxy & labels", "0.91", "at least 0.92", "missed"] in page.rows
    assert ["same <i>pairs</i>", "dropped", "1,312"] in page.rows
    assert ["a post was cut", "noted", "7"] in page.rows
    assert ["tldr", "a.json, b.json", "comparisons", "99", "5"] in page.rows
    assert ["golden model", "pairs", "16,000"] in page.rows
    assert ["golden model", "share", "0.0123"] in page.rows
    assert not [row for row in page.rows if row[0].endswith(("rows", "bin_width"))]


def test_numbers_are_those_of_the_statistics(whole, study_rows, study_frame):
    page = Page(whole)
    apart = gaps.budget_gap(study_rows, {"online": 1, "offline": -1})
    mean = statistics.summarize_seeds(apart["gap"])
    assert f"the win rate differs by {mean.mean:+.3f} (95 % interval {mean.low:+.3f}" in whole
    assert "over 3 seeds" in whole
    for peak in statistics.peak(study_frame).to_dict("records"):
        if peak["arm"] not in ("online", "offline"):
            continue
        (row,) = (r for r in page.rows if r[:3] == [str(peak["seed"]), peak["arm"], peak["run"]])
        assert row[6] == f"{peak['win_rate_report']:.3f}"
    (row,) = (r for r in page.rows if r[:1] == ["3 to 4"])
    bins = statistics.best_by_kl_bin(study_frame)
    online = bins[(bins["arm"] == "online") & (bins["kl_low"] == 3)].iloc[0]
    assert row[1].startswith(f"{online['win_rate']:.3f} ± {online['se']:.3f}")
    runs = [r for r in page.rows if r[0].startswith("offline_lr") and r[1] == "policy, shuffled"]
    assert len(runs) == 15


def test_a_study_in_which_offline_wins_says_so(one_beta):
    names = {"online": "offline", "offline": "online"}
    frame = one_beta.checkpoints
    turned = of(one_beta, frame.assign(arm=frame["arm"].replace(names)))
    text = render_report(turned, [Context("tiny", "tickets")])
    assert "Online is below offline at equal KL" in text and ">disagrees</td>" in text
    one = turned.checkpoints
    text = render_report(of(turned, one[one["seed"] == 0]), [Context("tiny", "tickets")])
    assert "over prompts; one seed was run" in text


def test_a_wide_interval_is_said_to_decide_nothing(one_beta):
    """With one seed above and one below, nothing says that the two are alike."""
    frame = one_beta.checkpoints
    mixed = frame.assign(seed=frame["seed"].where(frame["seed"] < 2, 1)).query("seed < 2")
    mixed = mixed.drop_duplicates(["seed", "run", "step"])
    turned = {"online": "offline", "offline": "online"}
    arms = mixed["arm"].where(mixed["seed"] == 0, mixed["arm"].replace(turned))
    text = render_report(of(one_beta, mixed.assign(arm=arms)), [Context("tiny", "tickets")])
    assert "Online and offline can&#x27;t be told apart at equal KL" in text
    assert "Golden policy</b>: a policy trained online" in text


def test_missing_arms_and_missing_rows_still_give_a_page(one_beta):
    frame = one_beta.checkpoints
    for some in (frame[:0], frame[frame["arm"] == "online"]):
        text = render_report(of(one_beta, some), [Context("tiny", "tickets")])
        assert "there is nothing to compare" in text and "Not asked by this study" in text
        assert not re.search(r"\bnan\b", text)
        Page(text)


def test_a_figure_that_is_not_drawn_names_its_experiment(one_beta):
    frame = one_beta.checkpoints
    text = render_report(of(one_beta, frame[frame["arm"] == "sft"]), [Context("tiny", "tickets")])
    assert "Online and offline at equal KL (experiment comparison)" in text


def test_another_loss_is_another_arm(make_rows):
    """Bo2 rows never count as IPO's peak."""
    rows = make_rows(
        {"arm": "online", "run": "a", "report": 0.3, "select": 0.3},
        {"arm": "online, Bo2", "run": "b", "loss": "bo2", "report": 0.9, "select": 0.9},
        {"arm": "offline", "run": "c", "report": 0.2, "select": 0.2},
    )
    assert gaps.peak_gap(rows, {"online": 1, "offline": -1})["gap"][0] == pytest.approx(0.1)
    page = Page(render_report(rows, [Context("tiny", "tickets")]))
    (row,) = (r for r in page.rows if r[0] == "b" and len(r) > 10)  # the table of runs
    assert row[7].startswith("0.900")


def write_study(folder, make_row, name, arms, **fields):
    """A study's folder with a row an arm, as evaluations leave it."""
    for arm, rate in arms.items():
        row = make_row(study=name, arm=arm, run=arm, select=rate, report=rate, **fields)
        rows = folder / "seed_0" / "rows" / arm
        rows.mkdir(parents=True)
        (rows / "rows.jsonl").write_text(json.dumps(row_to_dict(row)) + "\n")
        outcome = outcome_of(row)
        np.savez(
            rows / "outcomes.npz", step=np.array([row.step]), win=outcome.win[None],
            prompt_id=outcome.prompt_id, select=outcome.select,
        )  # fmt: skip
    Context(name, fields["task"], f"The {name} study").write(folder)


def test_several_tasks_make_one_report(tmp_path, make_row, capsys):
    for name in ("helpfulness", "harmlessness"):
        arms = {"online": 0.4, "offline": 0.3}
        write_study(tmp_path / name, make_row, name, arms, task=name)
    studies = [str(tmp_path / name) for name in ("helpfulness", "harmlessness")]
    assert run_command([*studies, f"--out={tmp_path / 'out'}"]) == 0
    text = (tmp_path / "out" / "report.html").read_text()
    assert "The helpfulness study" in text and "The harmlessness study" in text
    assert set(json.loads((tmp_path / "out" / "findings.json").read_text())) == {
        "helpfulness", "harmlessness",
    }  # fmt: skip
    for arguments, message in (
        ([str(tmp_path), "--out=x"], "found no study.json, expected the folder of a study"),
        ([studies[0], studies[0], "--out=x"], "found a second study named 'helpfulness'"),
        ([studies[0]], "required: --out"),
    ):
        with pytest.raises(ConfigError, match=message):
            run_command(arguments)


def test_studies_of_several_sizes_make_one_comparison(tmp_path, make_row, capsys):
    """Fig. 10, 11 and 14 of a task: its studies at each size, read together."""
    arms = {"online": 0.4, "offline": 0.2, "golden": 0.5}
    write_study(tmp_path / "large", make_row, "large", arms, task="a", policy_size="large")
    more = dict(task="a", policy_size="xl", policy_parameters=10**9)
    write_study(tmp_path / "xl", make_row, "xl", {"online": 0.6, "offline": 0.5}, **more)
    studies = [str(tmp_path / name) for name in ("large", "xl")]
    assert run_command([*studies, f"--out={tmp_path / 'out'}"]) == 0
    drawn = {path.stem for path in (tmp_path / "out" / "figures").glob("*.svg")}
    assert {"fig_1", "fig_10", "fig_11", "fig_14"} <= drawn
    found = json.loads((tmp_path / "out" / "findings.json").read_text())["a"]
    effects = {one["name"]: one["effect"] for one in found}
    assert effects["larger policies peak higher"] == pytest.approx(0.2)
    assert effects["online peaks higher"] == pytest.approx(0.2)  # of the golden policy's size
    # The same size twice: which of both would be meant?
    write_study(tmp_path / "again", make_row, "again", arms, task="a", policy_size="large")
    with pytest.raises(ConfigError, match="task a, policy_size large, seed 0 in the studies again"):
        run_command([studies[0], str(tmp_path / "again"), f"--out={tmp_path / 'twice'}"])


def test_figures_of_rows_that_are_gone_are_deleted(tmp_path, one_beta):
    stale = tmp_path / "figures" / "fig_99.png"
    stale.parent.mkdir()
    stale.write_bytes(b"old")
    write_report(tmp_path, one_beta, [Context("tiny", "tickets")])
    assert not stale.exists() and (tmp_path / "figures" / "fig_1.png").exists()
