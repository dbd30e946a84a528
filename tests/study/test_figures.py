"""Figures: the same bytes for the same rows, and every checkpoint in the picture."""

import math
import re
import subprocess
import sys
import xml.etree.ElementTree

import numpy as np
import pytest

from pagap_jax.study import drawing, figures


def test_figure_1_bytes_are_the_same_in_png_and_svg(tmp_path, study_frame):
    first = figures.figure_1(study_frame, tmp_path / "a" / "fig1")
    second = figures.figure_1(study_frame.copy(), tmp_path / "b" / "fig1")
    assert [path.name for path in first] == ["fig1.png", "fig1.svg"]
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
    svg = first[1].read_text()
    assert "<dc:date>" not in svg and "metadata" not in svg
    xml.etree.ElementTree.fromstring(svg)
    assert first[0].read_bytes().startswith(b"\x89PNG")
    assert b"Software" not in first[0].read_bytes()


def test_figure_1_does_not_depend_on_the_users_settings(tmp_path, study_frame):
    import matplotlib

    plain = figures.figure_1(study_frame, tmp_path / "plain")
    with matplotlib.rc_context({"font.size": 30, "lines.markersize": 20, "axes.facecolor": "red"}):
        changed = figures.figure_1(study_frame, tmp_path / "changed")
    assert plain[0].read_bytes() == changed[0].read_bytes()
    assert plain[1].read_bytes() == changed[1].read_bytes()


def test_figure_1_shows_every_checkpoint_and_only_the_methods_asked_for(study_frame):
    (axes,) = figures.draw_figure_1(study_frame).axes
    points = [np.asarray(c.get_offsets()) for c in axes.collections if hasattr(c, "get_sizes")]
    points = [p for p in points if len(p)]
    for method, drawn in zip(("online", "offline"), points, strict=True):
        rows = study_frame[study_frame["method"] == method]
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


@pytest.mark.parametrize("count", [0, 1, 2])
def test_figures_of_hardly_any_rows_can_be_drawn(tmp_path, make_frame, count):
    rows = [{"kl": 0.0, "step": 0}, {"kl": 2.0, "step": 1, "accuracy": math.nan}]
    frame = make_frame(*rows[:count])
    drawing.save_figure(figures.draw_figure_1(frame), tmp_path / "fig1")
    drawing.save_figure(figures.draw_over_steps(frame), tmp_path / "training")
    for name in ("fig1.png", "fig1.svg", "training.png", "training.svg"):
        assert (tmp_path / name).stat().st_size > 0


def test_over_steps_has_a_panel_per_measure_and_beta_and_averages_seeds(make_frame):
    def point(beta, seed, step, rate):
        return {"beta": beta, "seed": seed, "step": step, "select": rate, "report": rate}

    frame = make_frame(
        point(0.1, 0, 10, 0.2), point(0.1, 1, 10, 0.4), point(0.1, 0, 20, 0.6),  # seed 1 is behind
        point(0.03, 0, 10, 0.8), point(0.03, 1, 10, 0.8),
    )  # fmt: skip
    figure = figures.draw_over_steps(frame)
    assert len(figure.axes) == 3 * 2
    assert [axes.get_title() for axes in figure.axes[:2]] == ["β = 0.03", "β = 0.1"]
    mean = figure.axes[1].lines[-1]
    np.testing.assert_allclose(mean.get_xydata(), [[10, 0.3]])


def test_inline_svg_takes_colours_from_the_page_and_keeps_its_ids_apart(study_frame):
    texts = [
        drawing.inline_svg(figures.draw_figure_1(study_frame), prefix, 'a "b" <c>')
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
