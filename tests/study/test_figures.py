"""Figures: the same bytes for the same rows, and every checkpoint in the picture."""

import dataclasses
import math
import re
import subprocess
import sys
import xml.etree.ElementTree

import numpy as np
import pandas as pd
import pytest

from pagap_jax.study import drawing
from pagap_jax.study.figures import FIGURES, app_f, fig_6, fig_8, fig_11
from pagap_jax.study.figures.over_kl import draw_win_rate_over_kl
from pagap_jax.study.figures.preference_models import draw_validation
from pagap_jax.study.rows import TRAINING


def test_figure_1_bytes_are_the_same_in_png_and_svg(tmp_path, study_rows):
    first, second = (
        drawing.save_figure(FIGURES["fig_1"].draw(study_rows), tmp_path / name / "fig1")
        for name in ("a", "b")
    )
    assert [path.name for path in first] == ["fig1.png", "fig1.svg"]
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
    svg = first[1].read_text()
    assert "<dc:date>" not in svg and "metadata" not in svg
    xml.etree.ElementTree.fromstring(svg)
    assert first[0].read_bytes().startswith(b"\x89PNG")
    assert b"Software" not in first[0].read_bytes()


def test_figure_1_does_not_depend_on_the_users_settings(tmp_path, study_rows):
    import matplotlib

    draw = FIGURES["fig_1"].draw
    plain = drawing.save_figure(draw(study_rows), tmp_path / "plain")
    with matplotlib.rc_context({"font.size": 30, "lines.markersize": 20, "axes.facecolor": "red"}):
        changed = drawing.save_figure(draw(study_rows), tmp_path / "changed")
    assert plain[0].read_bytes() == changed[0].read_bytes()
    assert plain[1].read_bytes() == changed[1].read_bytes()


def test_figure_1_shows_every_checkpoint_of_both_arms(study_rows, study_frame):
    (axes,) = FIGURES["fig_1"].draw(study_rows).axes
    points = [np.asarray(c.get_offsets()) for c in axes.collections if hasattr(c, "get_sizes")]
    points = [p for p in points if len(p)]
    for arm, drawn in zip(("online", "offline"), points, strict=True):
        rows = study_frame[study_frame["arm"] == arm]
        np.testing.assert_array_equal(drawn, rows[["kl", "win_rate"]])
    low, high = axes.get_xlim()
    assert low < 0 and high > study_frame["kl"].max()
    assert axes.get_ylim()[1] > max(0.5, study_frame["win_rate"].max())
    labels = axes.get_legend_handles_labels()[1]
    assert labels == [
        "online: 4 runs, 3 seeds, 84 checkpoints",
        "offline: 15 runs, 3 seeds, 315 checkpoints",
    ]
    assert [text.get_text() for text in axes.texts] == ["golden policy", "SFT"]


def test_bars_are_not_clipped_where_prompts_are_few(make_rows):
    """Of eight prompts a half, the bar of a best checkpoint reached out of the axes."""
    bounds = {"win_rate_report_low": 0.3, "win_rate_report_high": 0.9}
    rows = make_rows({"kl": 1.0, "select": 0.4, "report": 0.6, **bounds})
    (axes,) = FIGURES["fig_1"].draw(rows).axes
    low, high = axes.get_ylim()
    assert low < 0 and 0.9 < high <= 1.02


@pytest.mark.parametrize("count", [1, 2])
def test_figures_of_hardly_any_rows_can_be_drawn(tmp_path, make_rows, count):
    changes = [{"kl": 0.0, "step": 0}, {"kl": 2.0, "step": 1, "accuracy": math.nan}]
    rows = make_rows(*changes[:count])
    drawable = [figure for figure in FIGURES.values() if figure.can_draw(rows)]
    assert [figure.name for figure in drawable] == ["fig_1", "over_optimisation"]
    for figure in drawable:
        drawing.save_figure(figure.draw(rows), tmp_path / figure.name)
        for ending in ("png", "svg"):
            assert (tmp_path / f"{figure.name}.{ending}").stat().st_size > 0


def test_a_figure_whose_arms_were_not_run_is_not_drawn(make_rows):
    rows = make_rows({"arm": "4k vs 4k"})
    assert not [figure.name for figure in FIGURES.values() if figure.can_draw(rows)]


def test_several_studies_are_panels(make_rows):
    rows = make_rows({"study": "a", "task": "helpfulness"}, {"study": "b", "task": "summarization"})
    panels = draw_win_rate_over_kl(rows, ("online",)).axes
    assert [axes.get_title() for axes in panels] == ["helpfulness", "summarization"]


def test_the_validation_curve_marks_what_is_used():
    point = {"accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9, "loss": 0.5}
    curve = [{"step": s, "best": s == 20, **point} for s in (10, 20, 30)]
    left, right = draw_validation({"proxy, seed 0": curve}).axes
    for axes in (left, right):
        line, mark = axes.lines
        assert line.get_xdata().tolist() == [10, 20, 30] and mark.get_xdata().tolist() == [20]


def test_over_steps_averages_the_seeds_that_have_a_step(make_frame):
    def point(seed, step, accuracy):
        return {"seed": seed, "step": step, "accuracy": accuracy}

    frame = make_frame(point(0, 10, 0.2), point(1, 10, 0.4), point(0, 20, 0.6))  # 1 is behind
    drawn = fig_8.over_steps(frame, "accuracy")
    assert drawn.to_dict("records") == [{"arm": "online", "step": 10, "mean": pytest.approx(0.3)}]


@pytest.fixture
def every_arm(make_rows):
    """Rows for which every figure has something to draw: two checkpoints an arm and seed."""
    arms = ["online", "offline", "shuffled", "replayed", "lightly shuffled", "heavily shuffled"]
    arms += ["sft vs early", "early vs late", "late vs late"]
    arms += [f"{arm}, {other}" for arm in arms[:3] for other in ("bo2", "xl")]
    changes = []
    for seed in (0, 1):
        for number, arm in enumerate(arms):
            size = {"policy_size": "xl", "policy_parameters": 10**6} if arm.endswith("xl") else {}
            loss = {"loss": "bo2"} if arm.endswith("bo2") else {}
            for doubling in range(2):
                rate = 0.1 + 0.01 * number + 0.1 * doubling
                changes.append({
                    "arm": arm, "run": arm, "seed": seed, "step": 100 * (1 + doubling),
                    "kl": 2.0**doubling, "select": rate, "report": rate, **size, **loss,
                })  # fmt: skip
        changes.append({"arm": "golden", "run": "golden", "seed": seed})
    rows = make_rows(*changes)
    stream = [
        {"seed": seed, "step": step, "classifier": classifier, "task": "tickets",
         "accuracy": 0.9 - 0.1 * seed, "accuracy_low": 0.8, "accuracy_high": 0.95}
        for seed in (0, 1) for step in (80, 160) for classifier in fig_6.CLASSIFIERS
    ]  # fmt: skip
    training = [
        ("tiny", "tickets", seed, arm, step, 1.0 + off, 2.0, 4.0)
        for seed in (0, 1) for arm, off in (("online", 0.0), ("replayed", 0.001 * seed))
        for step in (10, 20)
    ]  # fmt: skip
    return dataclasses.replace(
        rows,
        stream=pd.DataFrame(stream),
        baselines=frozenset(("tiny", arm) for arm in arms),
        training=pd.DataFrame(training, columns=list(TRAINING)),
    )


def test_every_figure_is_drawn(tmp_path, every_arm):
    for figure in FIGURES.values():
        assert figure.can_draw(every_arm), figure.name
        drawing.save_figure(figure.draw(every_arm), tmp_path / figure.name)
        assert (tmp_path / f"{figure.name}.svg").stat().st_size > 1000


def lines_of(figure):
    """What stands in the legend."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_figures_over_kl_show_their_arms(every_arm):
    shown = {
        "fig_4": ("online", "shuffled", "offline"),
        "fig_5": ("offline", "late vs late", "online, to compare"),
        "fig_9": ("online, bo2", "online, to compare"),
        "fig_10": ("shuffled, xl", "offline, to compare"),
        "fig_12": ("sft vs early", "early vs late", "late vs late", "offline"),
        "fig_13": ("replayed", "lightly shuffled", "heavily shuffled", "shuffled"),
    }
    for name, arms in shown.items():
        found = lines_of(FIGURES[name].draw(every_arm))
        for arm in arms:
            assert any(line == arm or line.startswith(f"{arm}:") for line in found), (name, found)


def test_best_possible_performance_over_size(every_arm):
    table = fig_11.performance(every_arm, "quantile").set_index(["method", "policy_size"])
    assert table.loc[("online", "tiny"), "size"] == 0
    assert table.loc[("online", "xl"), "size"] == pytest.approx(math.log2(10**6 / 206720))
    rates = [0.1 + 0.1 * d for d in range(2)]
    assert table.loc[("online", "tiny"), "mean"] == pytest.approx(np.quantile(rates, 0.9))
    assert table.loc[("online", "tiny"), "se"] == pytest.approx(0.0)
    relative = fig_11.performance(every_arm, "relative").set_index(["method", "policy_size"])
    assert relative.loc[("online", "xl"), "mean"] == pytest.approx(1.0)


def test_accuracy_along_the_stream_is_a_mean_over_seeds(every_arm):
    table = fig_6.accuracy_along(every_arm.stream).set_index(["classifier", "step"])
    proxy = table.loc[("proxy", 80)]
    assert proxy["mean"] == pytest.approx(0.85)
    assert proxy["high"] - proxy["mean"] == pytest.approx(0.05)  # of two values 0.1 apart
    one = fig_6.accuracy_along(every_arm.stream[every_arm.stream["seed"] == 0])
    assert list(one["low"]) == [0.8] * 6 and list(one["high"]) == [0.95] * 6


def test_how_far_the_replay_is_from_online(every_arm):
    apart = app_f.replay_differences(every_arm.training).set_index(["seed", "step"])
    assert apart.loc[(0, 10), "loss"] == 0 and apart.loc[(1, 20), "loss"] == pytest.approx(0.001)
    assert (apart["margin"] == 0).all()


def test_means_over_other_steps_are_not_compared(every_arm):
    """Online has a checkpoint at step 4: its row at step 10 is of 6 steps, the replay's of 10."""
    training = every_arm.training
    more = training[(training["arm"] == "online") & (training["step"] == 10)].assign(step=4)
    apart = app_f.replay_differences(pd.concat([more, training]))
    assert set(apart["step"]) == {20}


def test_inline_svg_takes_colours_from_the_page_and_keeps_its_ids_apart(study_rows):
    texts = [
        drawing.inline_svg(FIGURES["fig_1"].draw(study_rows), prefix, 'a "b" <c>')
        for prefix in ("one", "two")
    ]
    elements = [xml.etree.ElementTree.fromstring(text) for text in texts]
    ids = [{e.get("id") for e in root.iter() if e.get("id")} for root in elements]
    assert ids[0] and not ids[0] & ids[1]
    for text, known in zip(texts, ids, strict=True):
        targets = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)
        assert targets and {a or b for a, b in targets} <= known
        assert not re.search(r"#[0-9a-f]{6}\b|http|<style|xlink", text)
        assert (
            "var(--line-0072b2)" in text and "var(--line-d55e00)" in text and "var(--ink)" in text
        )
        assert ">win rate against the golden policy</text>" in text
    assert elements[0].get("aria-label") == 'a "b" <c>'
    assert elements[0].get("width") is None and elements[0].get("viewBox")


def test_matplotlib_is_imported_only_to_draw_and_jax_never():
    code = (
        "import sys; import pagap_jax.study.report; "
        "print([m for m in ('matplotlib', 'jax', 'tensorflow', 'flax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
