"""What a fusion reads and writes of large arrays that it slices, as a scan's programs do."""

import pytest

from pagap_jax.aot.traffic import read_traffic

ROW, STACK = 4 * 1024, 6 * 4 * 1024

# Computations as the TPU compiler writes them, shortened. Each is given a stack, the number of a
# layer and one row.
FUSED = """\
HloModule jit_f, num_partitions=1

%relaid (w: f32[6,1024]) -> f32[6,1024] {
  %w = f32[6,1024]{1,0:T(8,128)} parameter(0)
  ROOT %again = f32[6,1024]{1,0:T(1,128)} copy(%w)
}

%named (v: f32[6,1024]) -> f32[6,1024] {
  %v = f32[6,1024]{1,0:T(8,128)} parameter(0)
  ROOT %name = f32[6,1024]{1,0:T(8,128)} bitcast(%v)
}

%row_of (s: f32[6,1024], n: s32[]) -> f32[1024] {
  %s = f32[6,1024]{1,0} parameter(0)
  %n = s32[] parameter(1)
  %taken = f32[1,1024]{1,0} dynamic-slice(%s, %n), dynamic_slice_sizes={1,1024}
  ROOT %flat = f32[1024]{0} bitcast(%taken)
}

%fused (stack: f32[6,1024], number: s32[], row: f32[1024], other: f32[6,1024]) -> f32[1024] {
  %stack = f32[6,1024]{1,0} parameter(0)
  %number = s32[]{:T(128)S(6)} parameter(1)
  %row = f32[1024]{0} parameter(2)
  %other = f32[6,1024]{1,0} parameter(3)
  LINES
}

ENTRY %main (p: f32[6,1024], k: s32[], r: f32[1024], q: f32[6,1024]) -> f32[1024] {
  %p = f32[6,1024]{1,0} parameter(0)
  %k = s32[]{:T(128)S(6)} parameter(1)
  %r = f32[1024]{0} parameter(2)
  %q = f32[6,1024]{1,0} parameter(3)
  ROOT %x = RESULT fusion(%p, %k, %r, %q), kind=kLoop, calls=%fused
}
"""
ARRAY, VECTOR = "f32[6,1024]{1,0}", "f32[1024]{0}"
FLAT = f"%flat.1 = f32[1,1024]{{1,0}} bitcast(%row)\n  %put = {ARRAY}"


@pytest.mark.parametrize(
    ("result", "lines", "read_and_written"),
    [
        pytest.param(
            VECTOR,
            f"%one = {VECTOR} fusion(%stack, %number), kind=kLoop, calls=%row_of\n"
            f"  ROOT %sum = {VECTOR} add(%one, %row)",
            3 * ROW,
            id="a slice within a nested fusion",
        ),
        pytest.param(
            ARRAY,
            f"{FLAT} dynamic-update-slice(%stack, %flat.1, %number)\n"
            f"  ROOT %b = {ARRAY} bitcast(%put)",
            2 * ROW,
            id="an update in place",
        ),
        pytest.param(
            f"({ARRAY}, {ARRAY})",
            f"{FLAT} dynamic-update-slice(%stack, %flat.1, %number)\n"
            f"  %put.2 = {ARRAY} dynamic-update-slice(%other, %flat.1, %number)\n"
            f"  ROOT %both = ({ARRAY}, {ARRAY}) tuple(%put, %put.2)",
            3 * ROW,
            id="two updates in place",
        ),
        pytest.param(
            ARRAY,
            f"%lay = {ARRAY} fusion(%stack), kind=kLoop, calls=%relaid,"
            " output_to_operand_aliasing={{}: (0, {})}\n"
            f"  {FLAT} dynamic-update-slice(%lay, %flat.1, %number)\n"
            f"  ROOT %b = {ARRAY} bitcast(%put)",
            2 * ROW,
            id="an update in place of an array in another layout",
        ),
        pytest.param(
            ARRAY,
            f"ROOT %sum = {ARRAY} add(%stack, %other)",
            3 * STACK,
            id="whole arrays",
        ),
        pytest.param(
            "f32[6,1024]{1,0:S(1)}",
            f"ROOT %sum = {ARRAY} add(%stack, %other)",
            2 * STACK,
            id="a result on the chip",
        ),
        pytest.param(
            f"({ARRAY}, {VECTOR})",
            f"ROOT %both = ({ARRAY}, {VECTOR}) sort(%stack, %row)",
            2 * (STACK + ROW),
            id="two arrays of one operation",
        ),
        pytest.param(
            VECTOR,
            f"%one = {VECTOR} fusion(%stack, %number), kind=kLoop, calls=%row_of\n"
            f"  ROOT %sum = {VECTOR} custom-call(%one, %stack)",
            ROW + STACK,
            id="sliced, and taken whole as well",
        ),
        pytest.param(
            VECTOR,
            f"%name.2 = {ARRAY} fusion(%stack), kind=kLoop, calls=%named\n"
            f"  ROOT %dot = {VECTOR} convolution(%name.2, %row)",
            STACK + 2 * ROW,
            id="a product of an array that is only named anew",
        ),
    ],
)
def test_bytes_of_a_fusion(result, lines, read_and_written):
    text = FUSED.replace("RESULT", result).replace("LINES", lines)
    assert read_traffic(text, chips_per_slice=1).hbm == read_and_written


def test_room_that_is_made_is_not_written():
    fusion = "RESULT fusion(%p, %k, %r, %q), kind=kLoop, calls=%fused"
    room = 'f32[64]{0} custom-call(), custom_call_target="AllocateBuffer"'
    text = FUSED.replace(fusion, room)
    assert read_traffic(text, chips_per_slice=1).hbm == 0
