"""What `tamis.info` says, and what importing the package costs.

Oracle: the environment variables and machine facts that the docstring of `tamis.info` names.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import textwrap

import pytest

import tamis

ISAS = ("baseline", "avx2", "avx512", "neon")


def run_python(script: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_keys_and_types() -> None:
    info = tamis.info()
    assert set(info) == {
        "version",
        "isas_built",
        "isas_available",
        "isa",
        "cuda",
        "num_threads",
    }
    assert isinstance(info["num_threads"], int)
    assert info["num_threads"] >= 1
    assert json.loads(json.dumps(info)) == info  # plain data, fit for a log


def test_version() -> None:
    assert tamis.info()["version"] == tamis.__version__
    assert tamis.__version__ == importlib.metadata.version("tamis")


def test_instruction_sets() -> None:
    info = tamis.info()
    assert "baseline" in info["isas_available"]
    assert set(info["isas_available"]) <= set(info["isas_built"]) <= set(ISAS)
    assert info["isa"] in info["isas_available"]
    assert info["isas_available"] == sorted(info["isas_available"], key=ISAS.index)
    x86 = {"avx2", "avx512"} & set(info["isas_built"])
    if platform.machine() in ("x86_64", "AMD64"):
        assert "neon" not in info["isas_built"]
    else:
        assert not x86


def test_the_fastest_instruction_set_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAMIS_FORCE_ISA", raising=False)
    script = "import tamis; info = tamis.info(); print(info['isa'], info['isas_available'][-1])"
    used, fastest = run_python(script).split()
    assert used == fastest


def test_a_wrong_instruction_set_is_an_error_but_not_at_import() -> None:
    script = """
        import numpy as np
        import tamis
        for call in (tamis.info, lambda: tamis.vote_counts(np.zeros((1, 2)))):
            try:
                call()
            except ValueError as error:
                print(error)
    """
    lines = run_python(script, TAMIS_FORCE_ISA="mmx").splitlines()
    assert len(lines) == 2
    assert all("TAMIS_FORCE_ISA" in line and "'mmx'" in line for line in lines)


def test_cuda() -> None:
    cuda = tamis.info()["cuda"]
    assert set(cuda) == {"built", "toolkit", "architectures", "driver", "status", "devices"}
    assert cuda["status"]  # "ok", or the reason why there is no device
    if not cuda["built"]:
        assert not cuda["driver"]
        assert cuda["toolkit"] == cuda["architectures"] == ""
    assert bool(cuda["devices"]) == (cuda["status"] == "ok")


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAMIS_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert allowed is not None
    assert 1 <= tamis.info()["num_threads"] <= allowed  # a container's quota may lower it
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert tamis.info()["num_threads"] == 7
    monkeypatch.setenv("TAMIS_NUM_THREADS", "5")
    assert tamis.info()["num_threads"] == 5
    monkeypatch.setenv("TAMIS_NUM_THREADS", "five")
    with pytest.raises(ValueError, match="TAMIS_NUM_THREADS to be a positive integer, got 'five'"):
        tamis.info()


def test_import_loads_nothing_heavy() -> None:
    """A server that imports tamis pays for NumPy and the native core only."""
    script = """
        import sys
        import tamis
        import json
        print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
    """
    loaded = set(json.loads(run_python(script)))
    heavy = {"torch", "scipy", "onnx", "onnxruntime", "matplotlib", "rich", "sklearn", "pandas"}
    assert not loaded & heavy
    assert {"numpy", "tamis"} <= loaded


def test_numpy_calls_do_not_load_torch() -> None:
    script = """
        import sys
        import numpy as np
        import tamis
        tamis.info()
        tamis.gaussian_noise(np.zeros(5, np.float32), 3, 1.0, seed=0)
        tamis.vote_counts(np.zeros((2, 3), np.float32))
        print("torch" in sys.modules)
    """
    assert run_python(script).strip() == "False"


def test_submodules_load_on_first_use() -> None:
    script = """
        import sys
        import tamis
        assert "tamis.analysis" not in sys.modules
        assert tamis.analysis.__name__ == "tamis.analysis"
        assert set(dir(tamis)) >= {"analysis", "smoothing", "gaussian_noise", "info"}
        try:
            tamis.no_such_name
        except AttributeError as error:
            print(error)
    """
    assert run_python(script).strip() == "module 'tamis' has no attribute 'no_such_name'"
