"""The rules that keep the structure readable, checked on the sources themselves."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
PACKAGE = ROOT / "python" / "tamis"
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)
CONTAINERS = {
    "algorithm", "array", "deque", "functional", "iostream", "list", "map", "memory", "numeric",
    "set", "sstream", "string", "unordered_map", "unordered_set", "utility", "vector",
}  # fmt: skip

# folder under csrc -> forbidden include prefixes (the table of CONTRIBUTING.md)
PYTHON = ("pybind11", "Python.h", "torch", "ATen")
INTRINSICS = ("immintrin", "arm_neon")
CUDA = ("cuda", "cub/")
FORBIDDEN: dict[str, tuple[str, ...]] = {
    "include/tamis": ("src/", "bindings/", *PYTHON, *INTRINSICS, *CUDA),
    "src": ("src/cpu/", "src/cuda/", "bindings/", *PYTHON, *INTRINSICS, *CUDA),
    "src/detail": ("src/cpu/", "src/cuda/", "bindings/", *PYTHON, *INTRINSICS, *CUDA),
    "src/cpu": ("src/cuda/", "bindings/", *PYTHON, *CUDA),
    "src/cuda": ("src/cpu/", "bindings/", *PYTHON, *INTRINSICS),
    "src/no_cuda": ("src/cpu/", "src/cuda/", "bindings/", *PYTHON, *INTRINSICS, *CUDA),
    "bindings": ("src/", "torch", "ATen", *INTRINSICS, *CUDA),
}


def sources(folder: str) -> list[Path]:
    files = sorted((CSRC / folder).iterdir())
    return [f for f in files if f.suffix in {".hpp", ".cpp", ".cu", ".cuh"}]


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_include_rules(folder: str) -> None:
    files = sources(folder)
    assert files, f"no sources in csrc/{folder}: was it moved?"
    wrong = [
        f"{file.name} includes {name}"
        for file in files
        for name in INCLUDE.findall(file.read_text())
        if name.startswith(FORBIDDEN[folder])
    ]
    assert wrong == []


def test_cpu_kernels_use_no_standard_containers() -> None:
    """One inline std function compiled with -mavx2 can end up in the baseline path."""
    wrong = [
        f"{file.name} includes <{name}>"
        for file in sources("src/cpu")
        for name in INCLUDE.findall(file.read_text())
        if name in CONTAINERS
    ]
    assert wrong == []


def test_every_operation_has_all_its_siblings() -> None:
    """One stem runs through all layers: header, dispatch, backend, CPU, CUDA, no_cuda, binding."""
    operations = re.search(r"set\(operations ([^)]+)\)", (ROOT / "CMakeLists.txt").read_text())
    assert operations is not None
    kernels = re.search(r"set\(cpu_kernels ([^)]+)\)", (ROOT / "CMakeLists.txt").read_text())
    assert kernels is not None
    twins = "\n".join(file.read_text() for file in (PACKAGE / "reference").glob("*.py"))
    thin = "\n".join(file.read_text() for file in (PACKAGE / "ops").glob("*.py"))
    for op in operations.group(1).split():
        expected = [
            f"include/tamis/{op}.hpp",
            f"src/{op}.cpp",
            f"src/detail/{op}_backend.hpp",
            f"src/cuda/{op}.cu",
            f"src/no_cuda/{op}.cpp",
            f"bindings/bind_{op}.cpp",
        ]
        assert [name for name in expected if not (CSRC / name).is_file()] == []
        assert (ROOT / "tests" / f"test_{op}.py").is_file()
        assert (ROOT / "tests" / "cpp" / f"test_{op}.cpp").is_file()
        assert f"test_{op}" in (ROOT / "tests" / "cpp" / "CMakeLists.txt").read_text()
        assert f"def {op}(" in twins
        assert f"def {op}(" in thin
    for kernel in kernels.group(1).split():
        expected = [
            f"src/detail/{kernel}_backend.hpp",
            f"src/cpu/{kernel}_impl.hpp",
            *(f"src/cpu/{kernel}{isa}.cpp" for isa in ("", "_avx2", "_avx512", "_neon")),
        ]
        assert [name for name in expected if not (CSRC / name).is_file()] == []


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_no_weak_symbols_in_files_with_extra_instructions(isa: str, tmp_path: Path) -> None:
    """Oracle: nm on unoptimised objects, where nothing has been inlined away.

    A weak symbol compiled with -mavx2 may be the copy that the linker keeps for everybody, and
    then the baseline path crashes on an old machine.
    """
    if shutil.which("g++") is None or shutil.which("nm") is None:
        pytest.skip("needs g++ and nm")
    if not run("g++", "-dumpmachine").startswith("x86_64"):
        pytest.skip("needs an x86-64 compiler")
    flags = ["-mavx2", "-mfma", "-mf16c"]
    if isa == "avx512":
        flags += ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
    flags += ["-std=c++20", "-O0", "-w", "-DTAMIS_HAVE_AVX2", "-DTAMIS_HAVE_AVX512"]
    kernels = sorted((CSRC / "src" / "cpu").glob(f"*_{isa}.cpp"))
    assert kernels
    for kernel in kernels:
        target = tmp_path / f"{kernel.stem}.o"
        run("g++", *flags, f"-I{CSRC}", f"-I{CSRC}/include", "-c", str(kernel), "-o", str(target))
        weak = re.findall(r"^.* [WVu] .*$", run("nm", "-C", str(target)), re.MULTILINE)
        assert weak == [], kernel.name


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def python_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported_modules(file: Path, *, top_level_only: bool) -> set[str]:
    tree = ast.parse(file.read_text())
    nodes = run_at_import(tree) if top_level_only else ast.walk(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module is not None
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The statements that run when a module is imported: not functions, not TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for statement in child.orelse:
                yield statement
                yield from run_at_import(statement)
            continue
        yield child
        yield from run_at_import(child)


def test_the_thin_layer_knows_no_drivers() -> None:
    allowed = ("tamis._arrays", "tamis._core", "tamis._normalisation", "tamis.ops")
    wrong = [
        f"{file.name} imports {name}"
        for file in (PACKAGE / "ops").glob("*.py")
        for name in imported_modules(file, top_level_only=False)
        if name.startswith("tamis.") and not name.startswith(allowed)
    ]
    assert wrong == []


def test_the_library_does_not_know_its_commands() -> None:
    wrong = [
        f"{file.relative_to(PACKAGE)} imports {name}"
        for file in python_files()
        if file.parent != PACKAGE / "cli" and file.name != "__main__.py"
        for name in imported_modules(file, top_level_only=False)
        if name.startswith("tamis.cli")
    ]
    assert wrong == []


def test_only_the_thin_layer_touches_the_core() -> None:
    wrong = [
        file.name
        for file in python_files()
        if "tamis._core" in imported_modules(file, top_level_only=False)
        and file.parent != PACKAGE / "ops"
    ]
    assert wrong == []


def test_reference_twins_are_for_tests_only() -> None:
    """The twins may import one another, and nothing else of the package."""
    twins = PACKAGE / "reference"
    assert list(twins.glob("*.py"))
    wrong = [
        f"{file.relative_to(PACKAGE)} imports {name}"
        for file in python_files()
        for name in imported_modules(file, top_level_only=False)
        if name.split(".")[0] == "tamis"
        and (name.split(".")[:2] == ["tamis", "reference"]) != (file.parent == twins)
    ]
    assert wrong == []


def test_optional_packages_are_imported_where_they_are_used() -> None:
    """Only numpy and scipy may be imported by a module's top level.

    The exceptions are themselves imported where they are asked for: `torch_model.py` where a torch
    model turns up, `estimators/_base.py` (which does without scikit-learn where there is none) with
    the first estimator, `compat/pyod.py` by who has PyOD, `sever/linear.py` with its estimators,
    `adversarial/`, which has to do with nothing but torch, as a submodule on first use.
    """
    optional = {"torch", "onnx", "onnxruntime", "matplotlib", "rich", "sklearn", "pyod"}
    exceptions = {
        "smoothing/torch_model.py",
        "estimators/_base.py",
        "compat/pyod.py",
        "sever/linear.py",
    }
    wrong = [
        f"{file.relative_to(PACKAGE)}: {name}"
        for file in python_files()
        for name in imported_modules(file, top_level_only=True)
        if name.partition(".")[0] in optional
        and file.relative_to(PACKAGE).as_posix() not in exceptions
        and file.parent != PACKAGE / "adversarial"
    ]
    assert wrong == []


def test_import_of_tamis_loads_no_optional_package() -> None:
    """Oracle: the modules of a fresh interpreter, also after a call of a baseline."""
    code = (
        "import sys, tamis; tamis.coordinate_median([[1.0]]); "
        "print([n for n in ('torch', 'matplotlib', 'rich', 'sklearn', 'pyod') if n in sys.modules])"
    )
    assert run(sys.executable, "-c", code) == "[]\n"


def test_long_files_give_their_reason() -> None:
    """A file much past 400 lines says near its top, in these words, why it is one piece."""
    files = [
        *python_files(),
        *(f for d in FORBIDDEN for f in sources(d)),
        *(ROOT / "tests").rglob("*.py"),
    ]
    wrong = [
        f"{file.relative_to(ROOT)}: {len(lines)} lines"
        for file in files
        if len(lines := file.read_text().splitlines()) > 440
        and "400 lines" not in "\n".join(lines[:40])
    ]
    assert wrong == []
