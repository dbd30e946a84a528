"""Bytes of HBM that one instruction of a compiled program reads and writes.

A fusion that takes slices of a large array reads the slices, and one that puts a slice into an
array in place writes the slice: a scan's stacked weights and saved activations are such arrays.
"""

from pagap_jax.aot.hlo import ARRAY, Computation, Instruction, bytes_of

# Index of the result array of an asynchronous start operation.
STARTS = {"copy-start": 0, "all-gather-start": 1, "collective-permute-start": 1, "slice-start": 1}
SLICING = ("slice", "dynamic-slice", "gather", "slice-start")  # read what they make, of operand 0
ALLOCATION = 'custom_call_target="AllocateBuffer"'  # makes room, and writes nothing


def hbm_bytes(
    instruction: Instruction, around: Computation, computations: dict[str, Computation]
) -> float:
    """HBM traffic in bytes of an instruction of the computation `around`."""
    if ALLOCATION in instruction.rest:
        return 0.0
    opcode, operands, made = instruction.opcode, instruction.operands, instruction.shape
    if opcode in STARTS:  # its shape holds what it reads, too
        made = list(ARRAY.finditer(made))[STARTS[opcode]][0]
    written = bytes_of(made, on_chip=False)
    if opcode in SLICING:
        return written + (bytes_of(made) if _whole(operands[0], around) else 0.0)
    if opcode == "dynamic-update-slice":
        return 2 * _whole(operands[1], around)
    fused = computations.get(instruction.called("calls"))
    if fused is None:
        return written + sum(_whole(operand, around) for operand in operands)
    read = sum(
        _taken(fused, number, computations)
        for number, operand in enumerate(operands)
        if _whole(operand, around)
    )
    return read + _put(instruction, fused, computations)


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
        if place == 0 and user.opcode in SLICING:
            return bytes_of(user.shape)
        if place == 0 and user.opcode == "dynamic-update-slice":
            return 0.0  # what isn't overwritten stays where it is
        if user.opcode == "bitcast" or _is_relaid(user, computations):
            return of_users(user.name)
        inner = computations.get(user.called("calls"))
        return whole if inner is None else _taken(inner, place, computations)

    return min(whole, of_users(parameter.name))


def _is_relaid(instruction: Instruction, computations: dict[str, Computation]) -> bool:
    """Whether it only names an array anew, or reads it in another layout: what counts is its users.

    Operands of products are often wrapped so.
    """
    inner = computations.get(instruction.called("calls"), {})
    opcodes = {i.opcode for i in inner.values()}
    copies = {"copy"} if "output_to_operand_aliasing" in instruction.rest else set()
    return bool(inner) and opcodes <= {"parameter", "bitcast"} | copies


def _put(
    instruction: Instruction, fused: Computation, computations: dict[str, Computation]
) -> float:
    """Bytes that a fusion writes: of its results those in HBM, of updates in place the update."""
    root = next(i for i in fused.values() if i.is_root)
    arrays = list(ARRAY.finditer(instruction.shape))
    results = root.operands if root.opcode == "tuple" else [root.name]
    if len(results) != len(arrays):  # one operation that makes several arrays
        return bytes_of(instruction.shape, on_chip=False)
    total = 0.0
    for name, array in zip(results, arrays, strict=True):
        made = fused[name]
        while made.opcode == "bitcast" or _is_relaid(made, computations):
            made = fused[made.operands[0]]
        in_place = made.opcode == "dynamic-update-slice" and "S(" not in array[0]
        total += bytes_of(fused[made.operands[1]].shape if in_place else array[0], on_chip=in_place)
    return total
