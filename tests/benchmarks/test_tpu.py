"""What is read from a TPU's compiled program, and from what its compiler leaves of kernels."""

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import on_tpu
from benchmarks.cycles import bundles_of, read_costs, read_kernels

# As the compiler writes them, shortened.
PROGRAM = """HloModule jit_sample

%condition.1 (arg: (s32[])) -> pred[] {
  %turns = s32[] constant(3)
  ROOT %less = pred[] compare(%i, %turns)
}

%body.1 (arg: (s32[])) -> (s32[]) {
  %fusion.1 = f32[8] fusion(%x), metadata={op_name="jit(f)/layers_0/mlp/wi/dot_general"}, backend_config={"estimated_cycles":"700"}
  %fusion.22 = f32[8] fusion(%x), metadata={op_name="jit(f)/layers_1/mlp/wi/dot_general"}, backend_config={"estimated_cycles":"800"}
  %attention.7 = f32[8]{0} custom-call(%x), custom_call_target="tpu_custom_call", operand_layout_constraints={f32[8]{0}}, metadata={op_name="jit(f)/attention"}
  ROOT %copy.3 = f32[8] copy(%x), backend_config={"estimated_cycles":"50"}
}

ENTRY %main.7 (p: f32[8]) -> f32[8] {
  %loop = (s32[]) while(%p), condition=%condition.1, body=%body.1
  ROOT %fusion.9 = f32[8] fusion(%p), backend_config={"estimated_cycles":"2000"}
}
"""  # noqa: E501
ANALYSIS = """Schedule analysis:
  95.00 scheduled bundles: %attention.4 = f32[8]{0} custom-call(%x), custom_call_target="tpu_custom_call", operand_layout_constraints={f32[8]{0:T(8)}}, frontend_attributes={}
"""  # noqa: E501
BUNDLES = """= control target key end
     0   :  { %6 = vsyncpa [#allocation3], 0 }
   0x1   :  { %8 = vsyncpa [#allocation3 + $0x1], 0
iteration_bounds: (2, 4)
strides: (32, 1) */ }
   0x2 LB: > { %s659_s10 = sadd.s32 4294967295, %s622_s9 }
   0x3   : > { %s663_s12 = sadd.s32 1, %s622_s9 }
   0x4 PF: > { %v1 = vld [vmem:[%s1]] }
"""
# Each branch is followed by four bundles that are issued anyway; the outer one isn't counted.
BRANCHES = """   0x5   : > { %60 = sbr.rel (%p4) target = $region52 }
   0x6   : > { %77 = sbr.rel (%p5) target = $region88 }
   0x7   : > {}
   0x8   : > {}
   0x9   : > {}
   0xa   : > {}
   0xb   : > { %22 = vst [vmem:[#allocation5]] %v32 }
   0xc   : > { %23 = vst [vmem:[#allocation5]] %v32 }
   0xd PF: > { %s1 = sld [smem:[#allocation51_spill]] } /* Start/End empty region 88 :: Start */
   0xe PF: > { %s4 = sld [smem:[#allocation51_spill]] } /* Start/End empty region 52 */
"""


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    (tmp_path / "17-attention.4-71-schedule-analysis_final_bundles.txt").write_text(ANALYSIS)
    (tmp_path / "17-attention.4-72-final_bundles.txt").write_text(BUNDLES)
    return tmp_path


def test_loops_count_as_often_as_they_turn():
    total, loops = read_costs(PROGRAM, None)
    ((name, (turns, body)),) = loops.items()
    assert (name, turns) == ("body.1", 3)
    assert body.cycles == {"wi/dot_general (fusion)": 1500, "copy": 50}
    assert body.number["wi/dot_general (fusion)"] == 2
    assert sum(total.cycles.values()) == 2000 + 3 * 1550
    assert not sum(total.bundles.values())


def test_kernels_count_by_name_and_shapes(dump):
    """Two bundles around the loop over the grid, three in each of its eight steps."""
    assert bundles_of(BUNDLES) == 2 + 3 * 8
    assert read_kernels(dump) == {("attention", "f32[8]"): 26}
    total, _ = read_costs(PROGRAM, read_kernels(dump))
    assert total.bundles == {"attention": 3 * 26} and total.number["attention"] == 3
    assert total.total == 2000 + 3 * (1550 + 26)


def test_what_a_branch_jumps_over_counts_once_for_the_last_axis():
    """Two of ten bundles more, which run in two of the eight steps."""
    assert bundles_of(BUNDLES + BRANCHES) == bundles_of(BUNDLES) + 8 * 8 + 2 * 2


def test_a_loop_within_a_grid_step_is_refused():
    with pytest.raises(AssertionError, match="nobody counts"):
        bundles_of(BUNDLES + "   0x5 LB: > > { %v2 = vld [vmem:[%s2]] }\n")


def test_the_script_for_a_real_tpu_runs(monkeypatch, capsys):
    """Kernels interpreted; errors are those of bfloat16."""
    sizes = ["--prompts", "1", "--length", "256", "--heads", "2", "--repeats", "1"]
    monkeypatch.setattr("sys.argv", ["on_tpu", *sizes])
    on_tpu.main()
    printed = capsys.readouterr().out
    assert "no TPU here: interpreted" in printed
    errors = [float(x) for x in re.findall(r"\d\.\de-\d\d", printed)]
    assert len(errors) == 3 and max(errors) < 0.05


def test_what_is_no_number_is_an_error_wherever_it_is():
    ones = np.ones(2, np.float32)
    assert on_tpu.largest_error((ones, ones), (ones, 2 * ones)) == 0.5
    assert np.isnan(on_tpu.largest_error((ones, np.nan * ones), (ones, ones)))
