"""The report: whole, escaped, by itself, and saying what the rows say."""

import html.parser
import re

import pytest
from pagap_jax.study.results import Gate

from pagap_jax.study import statistics
from pagap_jax.study.report import ReportContext, render_report, write_report

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
    return ReportContext(
        study='tiny <i>T5</i> & "tickets"',
        gates=[
            Gate("golden <model>", 0.8274, "at least 0.78", True),
            Gate("proxy & labels", 0.91, "at least 0.92", False),
        ],
        data={"train": {"read": 16000, "dropped": {"same <i>pairs</i>": 312}}, "cut off": 0.0123},
        notes=["A <script>alert(1)</script> T5 of 0.2 million parameters"],
    )


@pytest.fixture
def one_beta(study_frame):
    """Fewer panels to draw."""
    return study_frame[study_frame["beta"] == 0.1]


@pytest.fixture(scope="module")
def whole(study_frame):
    return render_report(study_frame, ReportContext("tiny", [], {}, []))


def test_the_page_is_whole_and_equal_rows_give_equal_bytes(tmp_path, one_beta, context):
    write_report(tmp_path / "new" / "report.html", one_beta, context)
    text = (tmp_path / "new" / "report.html").read_text()
    assert text.startswith("<!DOCTYPE html>") and text.endswith("</html>\n")
    assert text == render_report(one_beta.copy(), context)
    ids = [value for name, value in Page(text).attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_nothing_comes_from_elsewhere(whole):
    assert not re.search(r"https?:|//\w|@import|file:", whole)
    page = Page(whole)
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "base"}
    assert all(value.startswith("#") for name, value in page.attributes if name in ("href", "src"))
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", whole))


def test_every_text_is_escaped(one_beta, context):
    frame = one_beta.assign(run=one_beta["run"] + "<u>&", loss="ipo<s>")
    text = render_report(frame, context)
    page = Page(text)
    assert not page.tags & {"i", "u", "s", "script", "model"}
    assert "tiny &lt;i&gt;T5&lt;/i&gt; &amp; &quot;tickets&quot;" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "online_lr0.001_beta0.1&lt;u&gt;&amp;" in text
    assert ["golden <model>", "0.8274", "at least 0.78", "passed"] in page.rows
    assert ["proxy & labels", "0.91", "at least 0.92", "missed"] in page.rows
    assert ["train › dropped › same <i>pairs</i>", "312"] in page.rows
    assert ["train › read", "16,000"] in page.rows
    assert ["cut off", "0.0123"] in page.rows


def test_numbers_are_those_of_the_statistics(whole, study_frame):
    page = Page(whole)
    gaps = statistics.peak_gap(study_frame)
    mean = statistics.summarize_seeds(gaps["gap"])
    assert f"peaks above offline in 3 of 3 seeds. The mean difference is {mean.mean:+.3f}" in whole
    for peak in statistics.peak(study_frame).to_dict("records"):
        if peak["method"] not in ("online", "offline"):
            continue
        (row,) = (r for r in page.rows if r[:3] == [str(peak["seed"]), peak["method"], peak["run"]])
        assert row[6] == f"{peak['win_rate_report']:.3f}"
    (row,) = (r for r in page.rows if r[:1] == ["3 to 4"])
    bins = statistics.best_by_kl_bin(study_frame)
    online = bins[(bins["method"] == "online") & (bins["kl_low"] == 3)].iloc[0]
    assert row[1].startswith(f"{online['win_rate']:.3f} ± {online['se']:.3f}")
    assert len([r for r in page.rows if r[0].startswith("offline_lr")]) == 15


def test_a_study_in_which_offline_wins_says_so(one_beta):
    names = {"online": "offline", "offline": "online"}
    turned = one_beta.assign(method=one_beta["method"].replace(names))
    text = render_report(turned, ReportContext("tiny", [], {}, []))
    assert "Online peaks above offline in 0 of 3 seeds. The mean difference is -0." in text
    one = render_report(turned[turned["seed"] == 0], ReportContext("tiny", [], {}, []))
    assert "Online peaks not above offline in the one seed that was run" in one


def test_missing_methods_and_missing_rows_still_give_a_page(one_beta):
    context = ReportContext("tiny", [], {}, [])
    for frame in (one_beta[:0], one_beta[one_beta["method"] == "online"]):
        text = render_report(frame, context)
        assert "there is nothing to compare" in text and ">not run<" in text
        assert not re.search(r"\bnan\b", text)
        Page(text)
