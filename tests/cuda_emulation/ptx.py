"""Reads PTX text, as nvcc writes it, into plain data: modules, functions, instructions.

Syntax only. What a name stands for is decided in `lower`, what an instruction does in `native/`.
The language: NVIDIA's "Parallel Thread Execution ISA".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

SIZES = {
    **dict.fromkeys(("b8", "s8", "u8"), 1),
    **dict.fromkeys(("b16", "s16", "u16", "f16", "bf16"), 2),
    **dict.fromkeys(("b32", "s32", "u32", "f32", "f16x2", "bf16x2"), 4),
    **dict.fromkeys(("b64", "s64", "u64", "f64"), 8),
}

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_FILE = re.compile(r'^\s*\.file\s+(\d+)\s+"([^"]*)"[^\n]*$', re.MULTILINE)
_DIRECTIVE = re.compile(r"^\s*\.(?:version|target|address_size)\b[^\n]*$", re.MULTILINE)
_LOCATION = re.compile(r"^\s*\.loc\b[^\n]*$", re.MULTILINE)  # ends with its line, no semicolon
_SECTION = re.compile(r"^\s*\.section\b[^{]*\{[^}]*\}", re.MULTILINE)
_FUNCTION = re.compile(r"(?:\.(?:visible|weak|extern)\s+)*\.(entry|func)\b")
# A label, an opening or closing brace of a scope, or a statement; braces inside a statement hold
# the operands of a vector instruction.
_STATEMENT = re.compile(
    r"\s*(?:(?P<label>[$\w]+)\s*:(?!:)|(?P<brace>[{}])|(?P<text>[^;{}]*(?:\{[^{};]*\}[^;{}]*)*);)"
)
_VARIABLE = re.compile(
    r"(?:\.(?:visible|weak|extern|common)\s+)*\.(?P<space>global|const|shared|local|param)\s+"
    r"(?P<attributes>(?:\.(?:align\s+\d+|ptr|[\w]+)\s+)*)(?P<name>[%$\w]+)"
    r"(?P<extents>(?:\s*\[\s*\d*\s*\])*)\s*(?:=\s*(?P<initial>.*))?$",
    re.DOTALL,
)
_NAME = re.compile(r"[%$\w]+")


class PtxSyntaxError(ValueError):
    pass


@dataclass
class Variable:
    """Something in memory. ``size`` 0: declared without one (``extern __shared__``)."""

    name: str
    space: str
    size: int
    align: int
    initial: bytes = b""


@dataclass
class Instruction:
    opcode: str
    operands: list[str]
    guard: str = ""  # a predicate register; "!" in front: negated
    line: str = ""  # of the CUDA source, where the module was compiled with -lineinfo

    def __str__(self) -> str:
        guard = f"@{self.guard} " if self.guard else ""
        return f"{guard}{self.opcode} {', '.join(self.operands)}".strip()


@dataclass
class Function:
    name: str
    entry: bool
    parameters: list[Variable] = field(default_factory=list)
    results: list[Variable] = field(default_factory=list)
    registers: dict[str, str] = field(default_factory=dict)  # name -> type
    variables: dict[str, Variable] = field(default_factory=dict)
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)  # name -> index into code
    tables: dict[str, list[str]] = field(default_factory=dict)  # .branchtargets
    max_threads: int = 1024


@dataclass
class Module:
    variables: dict[str, Variable] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)

    @property
    def kernels(self) -> list[str]:
        return [name for name, function in self.functions.items() if function.entry]


def parse(text: str) -> Module:
    """A module from its PTX text."""
    text = _COMMENT.sub("", text)
    files = dict(_FILE.findall(text))
    for noise in (_FILE, _DIRECTIVE, _SECTION):
        text = noise.sub("", text)
    text = _LOCATION.sub(r"\g<0>;", text)
    module = Module()
    position = 0
    for head in _FUNCTION.finditer(text):
        if head.start() < position:
            continue
        _module_variables(module, text[position : head.start()])
        brace, semicolon = text.find("{", head.end()), text.find(";", head.end())
        if 0 <= semicolon < brace or brace < 0:  # a declaration without a body
            position = semicolon + 1
            continue
        position = _closing_brace(text, brace) + 1
        function = _signature(head.group(1) == "entry", text[head.end() : brace])
        _body(function, text[brace + 1 : position - 1], files)
        module.functions[function.name] = function
    _module_variables(module, text[position:])
    return module


def split_operands(text: str) -> list[str]:
    """``"{%a, %b}, [%c+4], 1"`` -> three operands."""
    operands, depth, start = [], 0, 0
    for k, character in enumerate(text):
        if character in "{[(":
            depth += 1
        elif character in "}])":
            depth -= 1
        elif character == "," and depth == 0:
            operands.append(text[start:k].strip())
            start = k + 1
    last = text[start:].strip()
    return [*operands, last] if last else operands


def immediate(text: str) -> int | None:
    """The 64 bits of a constant, or None: decimal, hexadecimal, ``0f`` and ``0d`` bit patterns."""
    if text[:2] in ("0f", "0F", "0d", "0D"):
        return int(text[2:], 16)
    if text == "WARP_SZ":
        return 32
    try:
        return int(text.rstrip("U"), 0) & (2**64 - 1)
    except ValueError:
        return None


def rename(text: str, names: dict[str, str]) -> str:
    """``text`` with every whole name replaced that ``names`` knows."""
    return _NAME.sub(lambda match: names.get(match[0], match[0]), text)


def _closing_brace(text: str, opening: int) -> int:
    depth = 0
    for match in re.compile(r"[{}]").finditer(text, opening):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return match.start()
    raise PtxSyntaxError("a function's body does not end")


def _variable(statement: str) -> Variable | None:
    match = _VARIABLE.match(statement)
    if match is None:
        return None
    words = match["attributes"].replace(".", " ").split()
    align = int(words[words.index("align") + 1]) if "align" in words else 0
    if "ptr" in words:  # of a pointer parameter: what it points to, which is not its own layout
        words, align = words[: words.index("ptr")], 0
    types = [word for word in words if word in SIZES]
    if not types:
        return None
    item = SIZES[types[0]]
    count = 1
    for extent in re.findall(r"\[\s*(\d*)\s*\]", match["extents"]):
        count *= int(extent or 0)
    initial = _initial_bytes(match["initial"], types[0]) if match["initial"] else b""
    if initial and not count:
        count = len(initial) // item
    return Variable(match["name"], match["space"], item * count, align or item, initial)


def _initial_bytes(text: str, type_name: str) -> bytes:
    data = b""
    for value in text.replace("{", " ").replace("}", " ").split(","):
        bits = immediate(value.strip())
        if bits is None:
            raise PtxSyntaxError(f"cannot read the initial value {value.strip()!r}")
        data += struct.pack("<Q", bits)[: SIZES[type_name]]
    return data


def _module_variables(module: Module, text: str) -> None:
    for match in _STATEMENT.finditer(text):
        variable = _variable((match["text"] or "").strip())
        if variable is not None:
            module.variables[variable.name] = variable


def _signature(entry: bool, head: str) -> Function:
    """``(results) name (parameters) directives``; an entry has no results."""
    match = re.match(r"\s*(?:\(([^)]*)\)\s*)?([$\w]+)\s*(?:\(([^)]*)\))?(.*)", head, re.DOTALL)
    if match is None:
        raise PtxSyntaxError(f"cannot read the head of a function: {head.strip()[:80]}")
    function = Function(match[2], entry)
    for group, target in ((match[1], function.results), (match[3], function.parameters)):
        for part in (group or "").split(","):
            variable = _variable(part.strip())
            if variable is not None:
                target.append(variable)
            elif part.strip():
                raise PtxSyntaxError(f"cannot read a parameter of {match[2]}: {part.strip()}")
    limit = re.search(r"\.(?:max|req)ntid\s+([\d,\s]+)", match[4])
    if limit is not None:
        function.max_threads = 1
        for extent in limit[1].replace(",", " ").split():
            function.max_threads *= int(extent)
    return function


def _body(function: Function, body: str, files: dict[str, str]) -> None:
    scopes: list[dict[str, str]] = [{}]  # register as written -> its unique name
    line, count = "", 0
    for label, brace, text in _statements(body):
        if brace == "{":
            count += 1
            scopes.append({})
        elif brace == "}":
            scopes.pop()
        elif label:
            rest = text.split()
            if rest[:1] == [".branchtargets"]:
                function.tables[label] = split_operands(text.split(None, 1)[1])
            else:
                function.labels[label] = len(function.code)
        elif text.startswith(".loc "):
            numbers = text.split()
            line = f"{files.get(numbers[1], '?').rpartition('/')[2]}:{numbers[2]}"
        elif text.startswith(".reg"):
            _registers(function, scopes, text, count)
        elif text.startswith("."):
            variable = _variable(text)
            if variable is not None:
                known = function.variables.get(variable.name)
                if known is None or known.size < variable.size:
                    function.variables[variable.name] = variable
        else:
            names = {old: new for scope in scopes[1:] for old, new in scope.items()}
            function.code.append(_instruction(rename(text, names) if names else text, line))


def _statements(body: str) -> Iterator[tuple[str, str, str]]:
    """(label, brace, statement); only a branch table has both a label and a statement."""
    for match in _STATEMENT.finditer(body):
        label, brace, text = match["label"] or "", match["brace"] or "", match["text"]
        statement = " ".join(text.split()) if text else ""
        if label and body[match.end() :].lstrip().startswith(".branchtargets"):
            end = body.index(";", match.end())
            yield label, "", " ".join(body[match.end() : end].split())
        elif label or brace or (statement and not statement.startswith(".branchtargets")):
            yield label, brace, statement


def _registers(function: Function, scopes: list[dict[str, str]], text: str, scope: int) -> None:
    _, type_name, names = text.split(None, 2)
    for name in split_operands(names):
        match = re.match(r"(.*)<(\d+)>$", name)
        for one in [f"{match[1]}{k}" for k in range(int(match[2]))] if match else [name]:
            unique = one if len(scopes) == 1 else f"{one}__s{scope}"
            scopes[-1][one] = unique
            function.registers[unique] = type_name[1:]


def _instruction(text: str, line: str) -> Instruction:
    guard = ""
    if text[0] == "@":
        guard, text = text[1:].split(None, 1)
    opcode, _, rest = text.partition(" ")
    return Instruction(opcode, split_operands(rest), guard, line)
