"""What a compiled program reads, writes and launches, by module of the network, from its text.

The compiler's own count (`cost_analysis`) is one number for the whole program. This one goes over
the instructions of the optimized HLO, which carry the name of what they were made of:

- bytes: operands and results of every instruction that runs; of an operand of which a fusion only
  gathers or slices, what it takes. Loops count as often as they run, where the compiler knows it.
  Tiled layouts (TPU) count with their padding.
- kernels: instructions that run, a fusion is one.
- FLOP: two for each product of a matrix product or convolution.

Caches are not modeled: what is read twice counts twice.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

BYTES = {"pred": 1, "bf16": 2, "f16": 2, "f32": 4, "f64": 8, "c64": 8}
FREE = {
    *("parameter", "constant", "iota", "tuple", "get-tuple-element", "bitcast"),
    *("after-all", "opt-barrier", "partition-id", "replica-id"),
}
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute")
_TAKES = ("gather", "dynamic-slice")
# Loops and calls, names with signs, and classes: "jvp(Mprm)", "mkh,mhc->mkc", "Mprm._scores".
_NO_MODULE = re.compile(r"^(while|body|cond|closed_call|shard_map|branch_\d.*|.*[(,>].*|[A-Z].*)$")

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?")
_TILE = re.compile(r"T\((\d+),(\d+)\)")


@dataclasses.dataclass
class Instruction:
    """One line of the program."""

    name: str
    opcode: str
    shapes: list[tuple[str, tuple[int, ...], str]]  # of the result: type, axes, layout
    operands: list[str]
    attributes: str
    number: int | None = None  # of a parameter

    @property
    def num_bytes(self) -> int:
        """Of the result."""
        return sum(_num_bytes(*shape) for shape in self.shapes)

    def called(self, key: str) -> str | None:
        """The computation in an attribute."""
        found = re.search(rf"\b{key}=%?([\w.\-]+)", self.attributes)
        return found and found.group(1)

    @property
    def module(self) -> str:
        """Path of the module that it was made of; "" outside of all."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return _module(found.group(1)) if found else ""


@dataclasses.dataclass
class Costs:
    """What a part of a program takes."""

    bytes: float = 0.0
    flop: float = 0.0
    kernels: float = 0.0

    def add(self, num_bytes: float, flop: float, kernels: float) -> None:
        """Counts one instruction, which may run several times."""
        self.bytes += num_bytes
        self.flop += flop
        self.kernels += kernels


class Program:
    """The optimized HLO of a compiled program, `compiled.as_text()`."""

    def __init__(self, text: str):
        self._computations: dict[str, dict[str, Instruction]] = {}
        self._entry = ""
        for line in text.splitlines():
            if header := _COMPUTATION.match(line):
                current = self._computations[header.group(1)] = {}
                if line.startswith("ENTRY"):
                    self._entry = header.group(1)
            elif found := _INSTRUCTION.match(line):
                instruction = _parse(*found.groups())
                current[instruction.name] = instruction

    def by_module(self) -> dict[str, Costs]:
        """Costs of each module, the largest first."""
        found: dict[str, Costs] = collections.defaultdict(Costs)
        for instruction, times, within in self._running(self._entry, 1):
            costs = (
                times * self._bytes(instruction, within),
                times * self._flop(instruction, within),
            )
            found[instruction.module].add(*costs, times)
        return dict(sorted(found.items(), key=lambda item: -item[1].bytes))

    def collectives(self) -> dict[str, int]:
        """How often each kind of exchange between devices runs."""
        found: collections.Counter[str] = collections.Counter()
        for instruction, times, _ in self._running(self._entry, 1):
            opcode = instruction.opcode.removesuffix("-start")
            if opcode in COLLECTIVES:
                found[opcode] += times
        return dict(found)

    def largest(self, count: int) -> list[tuple[float, str, str]]:
        """The largest results: bytes, shape and module."""
        found = [
            (instruction.num_bytes, _shape_text(instruction), instruction.module)
            for instruction, _, _ in self._running(self._entry, 1)
            if instruction.opcode != "while"
        ]
        return sorted(set(found), reverse=True)[:count]

    def _running(
        self, computation: str, times: int
    ) -> Iterator[tuple[Instruction, int, Mapping[str, Instruction]]]:
        """Every instruction that runs, how often, and those beside it."""
        within = self._computations[computation]
        for instruction in within.values():
            if instruction.opcode == "while":
                body = instruction.called("body")
                yield from self._running(body, times * _trips(instruction))
            elif instruction.opcode == "call":
                yield from self._running(instruction.called("to_apply"), times)
            elif instruction.opcode == "conditional":
                names = re.search(r"branch_computations=\{([^}]*)\}", instruction.attributes)
                names = names.group(1) if names else instruction.called("true_computation")
                yield from self._running(names.split(",")[0].strip(" %"), times)
            elif instruction.opcode not in FREE and not instruction.opcode.endswith("-done"):
                yield instruction, times, within

    def _bytes(self, instruction: Instruction, within: Mapping[str, Instruction]) -> float:
        operands = [within[name] for name in instruction.operands if name in within]
        if instruction.opcode in _TAKES:
            return 2 * instruction.num_bytes + sum(x.num_bytes for x in operands[1:])
        if instruction.opcode == "dynamic-update-slice":
            return 2 * operands[1].num_bytes
        if instruction.opcode == "fusion":
            body = self._computations[instruction.called("calls")]
            return instruction.num_bytes + sum(
                _read(number, body) for number in range(len(operands))
            )
        return instruction.num_bytes + sum(x.num_bytes for x in operands)

    def _flop(self, instruction: Instruction, within: Mapping[str, Instruction]) -> float:
        if instruction.opcode == "fusion":
            body = self._computations[instruction.called("calls")]
            return sum(self._flop(inner, body) for inner in body.values())
        if instruction.opcode == "dot":
            of_sum = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
            axes = within[instruction.operands[0]].shapes[0][1]
            summed = math.prod(axes[int(axis)] for axis in of_sum.group(1).split(",") if axis)
        elif instruction.opcode == "convolution":
            # Of a product: all of the kernel but its output features, which axis labels name.
            labels = re.search(r"dim_labels=\w+_(\w+)->", instruction.attributes).group(1)
            axes = within[instruction.operands[1]].shapes[0][1]
            summed = math.prod(axes) // axes[labels.index("o")]
        else:
            return 0.0
        return 2.0 * math.prod(instruction.shapes[0][1]) * summed


def _parse(name: str, text: str) -> Instruction:
    shape, rest = _split_shape(text)
    opcode, _, rest = rest.partition("(")
    end = _closing(rest, 0)
    operands = re.findall(r"%([\w.\-]+)", rest[: end - 1])
    shapes = [
        (kind, tuple(int(axis) for axis in axes.split(",") if axis), layout)
        for kind, axes, layout in _ARRAY.findall(shape)
    ]
    number = int(rest[: end - 1]) if opcode == "parameter" else None
    return Instruction(name, opcode, shapes, operands, rest[end:], number)


def _split_shape(text: str) -> tuple[str, str]:
    """The shape of a result, in parentheses if there are several, and what follows it."""
    if not text.startswith("("):
        shape, _, rest = text.partition(" ")
        return shape, rest
    end = _closing(text, 1)
    return text[:end], text[end + 1 :]


def _closing(text: str, start: int) -> int:
    """Where the parenthesis that is open at `start` has been closed."""
    depth, end = 1, start
    while depth:
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        end += 1
    return end


def _num_bytes(kind: str, axes: tuple[int, ...], layout: str) -> int:
    """Of an array, with the padding of its tiles."""
    size = BYTES.get(kind) or int(re.sub(r"\D", "", kind) or 8) / 8
    axes = list(axes)
    if (tile := _TILE.search(layout)) and len(axes) > 1:
        order = [int(axis) for axis in layout.partition(":")[0].split(",")]
        for axis, multiple in zip(order, (int(tile.group(2)), int(tile.group(1))), strict=False):
            axes[axis] = -(-axes[axis] // multiple) * multiple
    return math.ceil(size * math.prod(axes))


def _read(number: int, body: Mapping[str, Instruction]) -> float:
    """Bytes that a fusion reads of one of its parameters."""
    (name,) = (x.name for x in body.values() if x.number == number)
    users = [x for x in body.values() if name in x.operands]
    if users and all(x.opcode in _TAKES and x.operands[0] == name for x in users):
        return sum(x.num_bytes for x in users)
    return body[name].num_bytes


def _trips(loop: Instruction) -> int:
    """How often a loop runs; once if the compiler does not know."""
    found = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.attributes)
    return int(found.group(1)) if found else 1


def _module(op_name: str) -> str:
    """ "encoder/level0_block/conv" of "jit(train_step)/jvp(UNet)/encoder/level0_block/conv/max"."""
    return "/".join(part for part in op_name.split("/")[:-1] if not _NO_MODULE.match(part))


def _shape_text(instruction: Instruction) -> str:
    return " ".join(f"{kind}[{','.join(map(str, axes))}]" for kind, axes, _ in instruction.shapes)
