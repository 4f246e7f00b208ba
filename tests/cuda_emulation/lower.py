"""From names to numbers: turns a parsed kernel into the tables that the native executor reads.

A thread's registers become rows of a table, predicates bits of a second one. Constants and special
registers such as ``%tid.x`` are rows as well, so that an operand is nothing but a number.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from cuda_emulation.ptx import (
    SIZES,
    Function,
    Instruction,
    Module,
    Variable,
    immediate,
    rename,
    split_operands,
)

_ADDRESS = re.compile(r"\[\s*([%$\w]+)\s*(?:\+\s*(-?\w+))?\s*\]$")
_SINK = "_"
_CALL_DEPTH = 8


class UnsupportedError(ValueError):
    """Valid PTX that the emulation does not know."""


@dataclass
class Step:
    """One instruction, its operands resolved."""

    opcode: str
    text: str
    operands: list[int] = field(default_factory=list)
    offset: int = 0  # of the address operand, or a constant that is no operand
    guard: int = -1
    guard_negated: bool = False
    targets: list[int] = field(default_factory=list)


@dataclass
class Program:
    """What the executor needs to run one kernel."""

    name: str
    steps: list[Step]
    rows: int
    predicates: int
    constants: dict[int, int]  # row -> its 64 bits
    specials: dict[str, int]  # "%tid.x" -> row
    parameters: list[tuple[int, int]]  # offset, size
    shared: int  # bytes, without the dynamic part
    local: int  # bytes a thread
    max_threads: int


def lower(module: Module, name: str, address_of: Callable[[Variable], int]) -> Program:
    """The program of kernel ``name``; ``address_of`` places a global or constant variable."""
    return _Lowering(module, inline_calls(module, module.functions[name]), address_of).program()


def inline_calls(module: Module, function: Function, depth: int = 0) -> Function:
    """``function`` with the bodies of the device functions it calls in place of the calls."""
    if not any(step.opcode.split(".")[0] == "call" for step in function.code):
        return function
    result = Function(function.name, function.entry, function.parameters, function.results)
    result.registers, result.variables = dict(function.registers), dict(function.variables)
    result.tables, result.max_threads = dict(function.tables), function.max_threads
    start_of: dict[int, int] = {}
    for index, step in enumerate(function.code):
        start_of[index] = len(result.code)
        if step.opcode.split(".")[0] == "call":
            _inline_one(module, step, result, depth)
        else:
            result.code.append(step)
    start_of[len(function.code)] = len(result.code)
    result.labels |= {label: start_of[index] for label, index in function.labels.items()}
    return result


def _inline_one(module: Module, call: Instruction, into: Function, depth: int) -> None:
    operands = list(call.operands)
    results = split_operands(operands.pop(0).strip("()")) if operands[0][0] == "(" else []
    name = operands.pop(0)
    arguments = split_operands(operands.pop(0).strip("()")) if operands else []
    if name == "__assertfail":
        into.code.append(Instruction("assertfail", [], call.guard, call.line))
        return
    if name == "vprintf":
        return
    if name not in module.functions or depth > _CALL_DEPTH:
        raise UnsupportedError(f"call of {name}: not in the module, or recursive")
    if call.guard:
        raise UnsupportedError(f"a call under a predicate: {call}")
    callee = inline_calls(module, module.functions[name], depth + 1)
    mark = f"__c{len(into.code)}_{depth}"
    names = {old: old + mark for old in (*callee.registers, *callee.variables, *callee.labels)}
    names |= {table: table + mark for table in callee.tables}
    formal = [variable.name for variable in (*callee.results, *callee.parameters)]
    names |= dict(zip(formal, (*results, *arguments), strict=True))
    into.registers |= {names[old]: kind for old, kind in callee.registers.items()}
    for old, variable in callee.variables.items():
        into.variables[names[old]] = Variable(
            names[old], variable.space, variable.size, variable.align, variable.initial
        )
    first, end = len(into.code), "$END" + mark
    into.labels |= {names[old]: first + index for old, index in callee.labels.items()}
    for old, targets in callee.tables.items():
        into.tables[names[old]] = [names[target] for target in targets]
    for step in callee.code:
        if step.opcode.split(".")[0] == "ret":
            into.code.append(Instruction("bra", [end], rename(step.guard, names), step.line))
        else:
            renamed = [rename(operand, names) for operand in step.operands]
            into.code.append(
                Instruction(step.opcode, renamed, rename(step.guard, names), step.line)
            )
    into.labels[end] = len(into.code)


class _Lowering:
    def __init__(
        self, module: Module, function: Function, address_of: Callable[[Variable], int]
    ) -> None:
        self.function = function
        registers = function.registers
        self.rows = {name: -1 for name, kind in registers.items() if kind != "pred"}
        self.rows = {name: row for row, name in enumerate((*self.rows, _SINK))}
        self.predicates = {name: 0 for name, kind in registers.items() if kind == "pred"}
        self.predicates = {name: bit for bit, name in enumerate((*self.predicates, _SINK))}
        self.count = len(self.rows)
        self.constants: dict[int, int] = {}  # value -> row
        self.specials: dict[str, int] = {}
        self.parameters: list[tuple[int, int]] = []
        self._place(module, address_of)

    def _place(self, module: Module, address_of: Callable[[Variable], int]) -> None:
        """Give every variable in sight an address in its state space."""
        self.addresses: dict[str, int] = {}
        self.spaces: dict[str, str] = {}
        offset = 0
        for parameter in self.function.parameters:
            offset = _align(offset, parameter.align)
            self.parameters.append((offset, parameter.size))
            self.addresses[parameter.name], self.spaces[parameter.name] = offset, "param"
            offset += parameter.size
        operands = (operand for step in self.function.code for operand in step.operands)
        used = {name for operand in operands for name in re.findall(r"[$\w]+", operand)}
        everything = {**module.variables, **self.function.variables}
        ends = {"shared": 0, "local": 0}
        dynamic = []
        for name, variable in everything.items():
            if name not in used:
                continue
            space = "local" if variable.space == "param" else variable.space
            self.spaces[name] = space
            if space in ("global", "const"):
                self.addresses[name] = address_of(variable)
            elif space == "shared" and not variable.size:
                dynamic.append(variable)
            else:
                self.addresses[name] = ends[space] = _align(ends[space], variable.align)
                ends[space] += variable.size
        for variable in dynamic:  # extern __shared__: all begin behind the static variables
            ends["shared"] = _align(ends["shared"], max(16, variable.align))
        self.addresses |= {variable.name: ends["shared"] for variable in dynamic}
        self.shared, self.local = ends["shared"], _align(ends["local"], 16)

    def program(self) -> Program:
        steps = [self._step(instruction) for instruction in self.function.code]
        return Program(
            self.function.name,
            steps,
            self.count,
            len(self.predicates),
            {row: value for value, row in self.constants.items()},
            self.specials,
            self.parameters,
            self.shared,
            self.local,
            self.function.max_threads,
        )

    def _step(self, instruction: Instruction) -> Step:
        opcode, operands = instruction.opcode, instruction.operands
        step = Step(opcode, f"{instruction}  ({instruction.line or 'no source line'})")
        if instruction.guard:
            step.guard_negated = instruction.guard[0] == "!"
            step.guard = self.predicates[instruction.guard.lstrip("!")]
        base = opcode.split(".")[0]
        if base == "bra":
            step.targets = [self.function.labels[operands[0]]]
            return step
        if base == "brx":
            step.targets = [self.function.labels[label] for label in self._table(operands[1])]
            step.operands = [self._row(operands[0])]
            return step
        if base == "mov" and any("{" in operand for operand in operands):
            step.opcode, operands = _as_pack(opcode, operands)
        if opcode == "mov.pred" and immediate(operands[1]) is not None:
            step.opcode, step.offset = "constp", int(immediate(operands[1]) != 0)
            operands = operands[:1]
        if base in ("shfl", "setp", "match"):
            operands = [*_pair(operands[0]), *operands[1:]]
            if base == "setp" and operands[0] == _SINK:
                operands[0] = "_pred"
        if base in ("ld", "st", "atom", "red", "ldu"):
            step.opcode = self._with_space(opcode, operands)
        for operand in operands:
            self._operand(step, operand)
        return step

    def _table(self, name: str) -> list[str]:
        return self.function.tables[name]

    def _operand(self, step: Step, operand: str) -> None:
        if operand[0] == "{":
            for part in split_operands(operand[1:-1]):
                self._operand(step, part)
        elif operand[0] == "[":
            match = _ADDRESS.match(operand)
            if match is None:
                raise UnsupportedError(f"address {operand}")
            step.operands.append(self._row(match[1]))
            step.offset = int(match[2] or "0", 0)
        elif operand.lstrip("!") in self.predicates and operand != _SINK:
            bit = self.predicates[operand.lstrip("!")]
            step.operands.append(~bit if operand[0] == "!" else bit)
        elif operand == "_pred":
            step.operands.append(self.predicates[_SINK])
        else:
            step.operands.append(self._row(operand))

    def _row(self, operand: str) -> int:
        if operand in self.rows:
            return self.rows[operand]
        if operand in self.addresses:
            return self._constant(self.addresses[operand])
        if operand[0] == "%":
            if operand not in self.specials:
                self.specials[operand] = self._new_row()
            return self.specials[operand]
        bits = immediate(operand)
        if bits is None:
            raise UnsupportedError(f"operand {operand!r}")
        return self._constant(bits)

    def _constant(self, bits: int) -> int:
        if bits not in self.constants:
            self.constants[bits] = self._new_row()
        return self.constants[bits]

    def _new_row(self) -> int:
        self.count += 1
        return self.count - 1

    def _with_space(self, opcode: str, operands: list[str]) -> str:
        """Parameters of an inlined function are local memory; constants are global memory."""
        match = next(m for m in map(_ADDRESS.match, operands) if m is not None)
        name = match[1]
        if ".param" in opcode and self.spaces.get(name) != "param" and name not in self.rows:
            return re.sub(r"\.param(::\w+)?", ".local", opcode)
        return opcode.replace(".const", ".global")


def _as_pack(opcode: str, operands: list[str]) -> tuple[str, list[str]]:
    """``mov.b64 {a, b}, c`` -> ``unpack.b32 a, b, c`` and the reverse -> ``pack.b32``."""
    k = 0 if operands[0][0] == "{" else 1
    parts = len(split_operands(operands[k][1:-1]))
    bits = 8 * SIZES[opcode.rpartition(".")[2]] // parts
    return f"{'unpack' if k == 0 else 'pack'}.b{bits}", operands


def _pair(operand: str) -> list[str]:
    """``d|p``, or ``d`` alone with a predicate that nobody reads."""
    first, _, second = (part.strip() for part in operand.partition("|"))
    return [first, second if second not in ("", _SINK) else "_pred"]


def _align(offset: int, to: int) -> int:
    return -(-offset // to) * to
