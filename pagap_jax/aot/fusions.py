"""Bytes of HBM that one instruction of a compiled program reads and writes.

A fusion that takes slices of a large array reads the slices, and one that puts a slice into an
array in place writes the slice: a scan's stacked weights and saved activations are such arrays.
"""

from pagap_jax.aot.hlo import ARRAY, Computation, Instruction, bytes_of

# Which array of its shape an instruction makes that another one waits for.
STARTS = {"copy-start": 0, "all-gather-start": 1, "collective-permute-start": 1}
ALLOCATION = 'custom_call_target="AllocateBuffer"'  # makes room, and writes nothing


def hbm_bytes(
    instruction: Instruction, around: Computation, computations: dict[str, Computation]
) -> float:
    """Of an instruction of the computation `around`."""
    if ALLOCATION in instruction.rest:
        return 0.0
    opcode, operands = instruction.opcode, instruction.operands
    if opcode in STARTS:  # its shape holds what it reads, too
        arrays = list(ARRAY.finditer(instruction.shape))
        written = bytes_of(arrays[STARTS[opcode]][0], on_chip=False)
        return written + sum(_whole(operand, around) for operand in operands)
    if opcode in ("dynamic-slice", "gather"):
        return 2 * bytes_of(instruction.shape, on_chip=False)
    if opcode == "dynamic-update-slice":
        return 2 * _whole(operands[1], around)
    fused = computations.get(instruction.called("calls"))
    if fused is None:
        written = bytes_of(instruction.shape, on_chip=False)
        return written + sum(_whole(operand, around) for operand in operands)
    read = sum(
        _taken(fused, number, computations)
        for number, operand in enumerate(operands)
        if _whole(operand, around)
    )
    return read + _put(instruction, fused)


def _whole(operand: str, around: Computation) -> float:
    """An operand's bytes in HBM."""
    return bytes_of(around[operand].shape, on_chip=False) if operand in around else 0.0


def _taken(fused: Computation, number: int, computations: dict[str, Computation]) -> float:
    """Bytes that a fused computation reads of one of its parameters."""
    parameter = next(
        i for i in fused.values() if i.opcode == "parameter" and i.rest.startswith(f"{number})")
    )
    whole = bytes_of(parameter.shape)

    def of_users(name: str) -> float:
        total = 0.0
        for user in fused.values():
            for place, operand in enumerate(user.operands):
                if operand == name:
                    total += of_user(user, place)
        return total

    def of_user(user: Instruction, place: int) -> float:
        if place == 0 and user.opcode == "dynamic-slice":
            return bytes_of(user.shape)
        if place == 0 and user.opcode == "dynamic-update-slice":
            return 0.0  # what isn't overwritten stays where it is
        if user.opcode == "bitcast" or _is_relaid(user):
            return of_users(user.name)
        inner = computations.get(user.called("calls"))
        return whole if inner is None else _taken(inner, place, computations)

    return min(whole, of_users(parameter.name))


def _is_relaid(instruction: Instruction) -> bool:
    """Whether it only reads an array in another layout, and what is sliced of it later alone."""
    return instruction.opcode == "fusion" and "output_to_operand_aliasing" in instruction.rest


def _put(instruction: Instruction, fused: Computation) -> float:
    """Bytes that a fusion writes: of its results those in HBM, of updates in place the update."""
    root = next(i for i in fused.values() if i.is_root)
    arrays = list(ARRAY.finditer(instruction.shape))
    results = root.operands if root.opcode == "tuple" else [root.name]
    if len(results) != len(arrays):  # one operation that makes several arrays
        return bytes_of(instruction.shape, on_chip=False)
    total = 0.0
    for name, array in zip(results, arrays, strict=True):
        made = fused[name]
        while made.opcode == "bitcast" or _is_relaid(made):
            made = fused[made.operands[0]]
        in_place = made.opcode == "dynamic-update-slice" and "S(" not in array[0]
        total += bytes_of(fused[made.operands[1]].shape if in_place else array[0], on_chip=in_place)
    return total
