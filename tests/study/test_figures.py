"""Figures: the same bytes for the same rows, and every checkpoint in the picture."""

import math
import re
import subprocess
import sys
import xml.etree.ElementTree

import numpy as np
import pytest

from pagap_jax.study import drawing
from pagap_jax.study.figures import FIGURES
from pagap_jax.study.figures.fig_1 import draw_win_rate_over_kl
from pagap_jax.study.figures.fig_8 import TRAINING, draw_over_steps
from pagap_jax.study.figures.preference_models import draw_validation


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


@pytest.mark.parametrize("count", [1, 2])
def test_figures_of_hardly_any_rows_can_be_drawn(tmp_path, make_rows, count):
    changes = [{"kl": 0.0, "step": 0}, {"kl": 2.0, "step": 1, "accuracy": math.nan}]
    rows = make_rows(*changes[:count])
    for figure in FIGURES.values():
        assert figure.can_draw(rows)
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


def test_over_steps_has_a_panel_per_measure_and_beta_and_averages_seeds(make_rows):
    def point(beta, seed, step, rate):
        return {"beta": beta, "seed": seed, "step": step, "select": rate, "report": rate}

    rows = make_rows(
        point(0.1, 0, 10, 0.2), point(0.1, 1, 10, 0.4), point(0.1, 0, 20, 0.6),  # seed 1 is behind
        point(0.03, 0, 10, 0.8), point(0.03, 1, 10, 0.8),
    )  # fmt: skip
    figure = draw_over_steps(rows, TRAINING)
    assert len(figure.axes) == len(TRAINING) * 2
    assert [axes.get_title() for axes in figure.axes[:2]] == ["β = 0.03", "β = 0.1"]
    mean = figure.axes[1].lines[-1]
    np.testing.assert_allclose(mean.get_xydata(), [[10, 0.3]])


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
        assert "var(--online)" in text and "var(--offline)" in text and "var(--ink)" in text
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
