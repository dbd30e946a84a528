"""What is read from a TPU's compiled program."""

from benchmarks.tpu import read_loops

PROGRAM = """HloModule jit_sample

%body.1 (arg: (s32[])) -> (s32[]) {
  %fusion.1 = f32[8] fusion(%x), metadata={op_name="jit(f)/layers_0/mlp/wi/dot_general"}, backend_config={"estimated_cycles":"700"}
  %fusion.22 = f32[8] fusion(%x), metadata={op_name="jit(f)/layers_1/mlp/wi/dot_general"}, backend_config={"estimated_cycles":"800"}
  ROOT %copy.3 = f32[8] copy(%x), backend_config={"estimated_cycles":"50"}
}

%small (arg: s32[]) -> s32[] {
  ROOT %add = s32[] add(%a, %b), backend_config={"estimated_cycles":"9"}
}

ENTRY %main.7 (p: f32[8]) -> f32[8] {
  ROOT %fusion.9 = f32[8] fusion(%p), backend_config={"estimated_cycles":"2000"}
}
"""  # noqa: E501


def test_cycles_by_loop_and_kind():
    loops = read_loops(PROGRAM)
    assert list(loops) == ["outside of loops", "body.1"]  # the dearest first, the small one not
    assert loops["outside of loops"].cycles == 2000
    assert loops["body.1"].cycles == 1550
    assert loops["body.1"].instructions == [
        ("wi/dot_general (fusion)", 2, 1500),
        ("copy", 1, 50),
    ]
