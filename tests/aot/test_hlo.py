"""Bytes read from a compiled program's text: a small one by hand, each notation of groups."""

import numpy as np
import pytest

from pagap_jax.aot.hlo import replica_groups
from pagap_jax.aot.traffic import read_traffic

# Two chips; a loop of 6 turns that slices a stacked weight, gathers it and adds something up.
TEXT = """\
HloModule jit_f, num_partitions=2

%fused (param_0: bf16[6,8,16], param_1: s32[]) -> bf16[1,8,16] {
  %param_0 = bf16[6,8,16]{2,1,0} parameter(0)
  %param_1 = s32[]{:T(128)} parameter(1)
  ROOT %slice.1 = bf16[1,8,16]{2,1,0} dynamic-slice(%param_0, %param_1), sizes={1,8,16}
}

%condition (state.1: (s32[], bf16[6,8,16])) -> pred[] {
  %limit = s32[]{:T(128)} constant(6)
  %state.1 = (s32[]{:T(128)}, bf16[6,8,16]{2,1,0}) parameter(0)
  %turn.1 = s32[]{:T(128)} get-tuple-element(%state.1), index=0
  ROOT %less = pred[]{:T(512)} compare(%turn.1, %limit), direction=LT
}

%body (state: (s32[], bf16[6,8,16])) -> (s32[], bf16[6,8,16]) {
  %state = (s32[]{:T(128)}, bf16[6,8,16]{2,1,0}) parameter(0)
  %turn = s32[]{:T(128)} get-tuple-element(%state), index=0
  %weights = bf16[6,8,16]{2,1,0} get-tuple-element(%state), index=1
  %layer = bf16[1,8,16]{2,1,0} fusion(%weights, %turn), kind=kLoop, calls=%fused
  %whole = bf16[1,16,16]{2,1,0:T(8,128)S(1)} all-gather(%layer), replica_groups=[1,2]<=[2]
  %sum = f32[4,4]{1,0} all-reduce(%part), replica_groups={{0,1}}, to_apply=%add
  ROOT %next = (s32[]{:T(128)}, bf16[6,8,16]{2,1,0}) tuple(%turn, %weights)
}

ENTRY %main (p: bf16[6,8,16]) -> bf16[6,8,16] {
  %p = bf16[6,8,16]{2,1,0} parameter(0)
  %start = (s32[]{:T(128)}, bf16[6,8,16]{2,1,0}) tuple(%p)
  %loop = (s32[]{:T(128)}, bf16[6,8,16]{2,1,0}) while(%start), condition=%condition, body=%body
  ROOT %out = bf16[6,8,16]{2,1,0} copy(%p)
}
"""
LAYER, STACK = 2 * 8 * 16, 2 * 6 * 8 * 16


def test_a_loop_counts_as_often_as_it_turns():
    text = TEXT.replace("all-reduce(%part)", "all-reduce(%layer)")
    traffic = read_traffic(text, chips_per_slice=2)
    assert traffic.collectives == {"all-gather": 6 * 2 * LAYER, "all-reduce": 6 * LAYER}
    # A ring of two: half of what is gathered is sent, and of what is added up, all.
    assert traffic.sent == 6 * (2 * LAYER / 2 + LAYER)
    assert traffic.sent_between_slices == 0


def test_a_slice_of_a_stack_is_read_not_the_stack():
    traffic = read_traffic(TEXT, chips_per_slice=2)
    copy = 2 * STACK
    turn = 4  # the number of the turn
    fusion = 2 * LAYER + turn
    gathered = LAYER  # what it makes stays in on-chip memory
    added_up = 4 * 4 * 4
    assert traffic.hbm == copy + 6 * (fusion + gathered + added_up)


def test_what_crosses_slices_is_told_apart():
    assert read_traffic(TEXT, chips_per_slice=1).sent == 0
    assert read_traffic(TEXT, chips_per_slice=1).sent_between_slices > 0


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("replica_groups={{0,2},{1,3}}, to", [[0, 2], [1, 3]]),
        ("replica_groups=[2,2]<=[4], to", [[0, 1], [2, 3]]),
        ("replica_groups=[2,2]<=[2,2]T(1,0), to", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}, to", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2] {'b'}, to", [[0, 1], [2, 3]]),
        ("replica_groups={}, to", [[0, 1, 2, 3]]),
        ("source_target_pairs={{0,1},{1,0}}, to", [[0, 1], [1, 0]]),
    ],
)
def test_groups_in_every_notation(text, groups):
    np.testing.assert_array_equal(
        replica_groups(f"%x), channel_id=1, {text}_apply=%add", 4), groups
    )


HEAD = """\
HloModule jit_f, num_partitions=4

%other (a: f32[1024]) -> f32[1024] {
  %a = f32[1024]{0} parameter(0)
  ROOT %c = f32[1024]{0} copy(%a)
}

ENTRY %main (p: f32[1024]) -> f32[1024] {
  %p = f32[1024]{0} parameter(0)"""


def entry(*lines):
    """A program of these lines around p and q, 4 KiB each."""
    return "\n".join([HEAD, *(f"  {line}" for line in lines), "}"])


@pytest.mark.parametrize(
    ("line", "read_and_written"),
    [
        ("%x = f32[1024]{0} copy(%p)", 8192),
        ("%x = (f32[1024]{0:S(1)}, f32[1024]{0}, u32[]{:S(2)}) copy-start(%p)", 4096),
        ("%x = (f32[1024]{0}, f32[1024]{0:S(1)}, u32[]{:S(2)}) copy-start(%p)", 8192),
        ("%x = ((f32[1024]{0}), f32[1024]{0}) async-start(%p), calls=%other", 8192),
        ("%x = (f32[1024]{0}, f32[4096]{0}) all-gather-start(%p), replica_groups={}", 5 * 4096),
        ("%x = f32[1024]{0} conditional(%p), branch_computations={%other, %other}", 8192),
        ("%x = f32[1024]{0} bitcast(%p)", 0),
        ("%x = f32[16]{0} slice(%p), slice={[0:16]}", 128),
        ("%x = f32[16]{0:S(1)} dynamic-slice(%p, %k), dynamic_slice_sizes={16}", 64),
        (
            "%x = ((f32[1024]{0}), f32[16]{0:S(1)}, s32[]{:S(2)}) slice-start(%p), slice={[0:16]}",
            64,
        ),
    ],
)
def test_what_one_instruction_reads_and_writes(line, read_and_written):
    assert read_traffic(entry(line), chips_per_slice=4).hbm == read_and_written
