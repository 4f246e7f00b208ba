"""What several test files share, beyond the fixtures of conftest.py."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tamis

SEED = 0xFEDCBA9876543210
KEY: dict[str, int] = {"seed": SEED, "image": 0x89ABCDEF, "stream": 3}
SIGMA = 0.37


def ramp(*shape: int, dtype: Any = np.float32) -> NDArray[Any]:
    """Values that every one of the three types holds exactly."""
    return ((np.arange(np.prod(shape, dtype=int)) % 257) / 256 - 0.5).reshape(shape).astype(dtype)


def noise(x: Any, n: int, sigma: float = SIGMA, **arguments: Any) -> Any:
    return tamis.gaussian_noise(x, n, sigma, **{**KEY, **arguments})


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def images(count: int, seed: int = 0, shape: tuple[int, ...] = (3, 8, 8)) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).random((count, *shape), np.float32)


def fill(classifier: Any, values: Any) -> Any:
    """Put ``values`` into the classifier's own buffer, as the noise kernel would."""
    buffer: Any = classifier.empty(values.shape)
    if isinstance(buffer, np.ndarray):
        buffer[...] = values
    else:
        import torch

        buffer.copy_(torch.from_numpy(values))
    return buffer


# ---- fresh interpreters ------------------------------------------------------------------------


def run_python(script: str, timeout: float = 120, **environment: str) -> str:
    """What the script prints; a script that fails or hangs fails the test."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def outputs_per_isa(script: str) -> set[str]:
    """What the script prints under each instruction set of this machine, after its name."""
    outputs = set()
    for isa in tamis.info()["isas_available"]:
        ran, output = run_python(script, TAMIS_FORCE_ISA=isa).split(maxsplit=1)
        assert ran == isa  # the forced one is the one that ran
        outputs.add(output)
    return outputs


# ---- matrices of rows, as the spectral operations take them ------------------------------------


def layouts(x: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The same matrix in other memory layouts; all but the first few are copied once."""
    n, d = x.shape
    wide = np.full((n, d + 3), np.nan, x.dtype)
    wide[:, :d] = x
    alternate_rows = np.full((2 * n, d), np.nan, x.dtype)
    alternate_rows[::2] = x
    alternate_columns = np.full((n, 2 * d), np.nan, x.dtype)
    alternate_columns[:, 1::2] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    return {
        "read-only": read_only,
        "room between rows": wide[:, :d],
        "every other row": alternate_rows[::2],
        "Fortran order": np.asfortranarray(x),
        "every other column": alternate_columns[:, 1::2],
        "rows backwards": x[::-1].copy()[::-1],
        "columns backwards": x[:, ::-1].copy()[:, ::-1],
        "byte offset": np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(n, d),
    }


_GOOD = np.arange(12.0).reshape(4, 3)
_DTYPE = "^X: expected dtype float32 or float64, got "
# name -> (X, exception, pattern of the message); refused by every operation on rows
UNFIT_ROWS: dict[str, tuple[Any, type[Exception], str]] = {
    "list": (_GOOD.tolist(), TypeError, "^X: expected a NumPy array, a torch tensor"),
    "None": (None, TypeError, "^X: expected a NumPy array, a torch tensor"),
    "int64": (_GOOD.astype(int), TypeError, _DTYPE + "int64"),
    "bool": (_GOOD > 1, TypeError, _DTYPE + "bool"),
    "float16": (_GOOD.astype("f2"), TypeError, _DTYPE + "float16"),
    "complex": (_GOOD.astype(complex), TypeError, _DTYPE + "complex128"),
    "object": (_GOOD.astype(object), TypeError, _DTYPE + "object"),
    "text": (_GOOD.astype(str), TypeError, _DTYPE + "<U"),
    "swapped bytes": (_GOOD.astype(">f8"), TypeError, _DTYPE + ">f8"),
    "one axis": (_GOOD[0], ValueError, r"^X: expected shape \(n, d\), got \(3,\)"),
    "three axes": (_GOOD[None], ValueError, r"^X: expected shape \(n, d\), got \(1, 4, 3\)"),
    "no axis": (np.array(1.0), ValueError, r"^X: expected shape \(n, d\), got \(\)"),
    "no columns": (_GOOD[:, :0], ValueError, r"^X: expected .*columns, got shape \(4, 0\)"),
    "too many columns": (np.zeros((1, 65537)), ValueError, r"^X: .*65536 columns, got shape"),
}  # fmt: skip
NO_ROWS = (_GOOD[:0], ValueError, r"^X: expected at least one row.*got shape \(0, 3\)")
NOT_FINITE = [(np.nan, "(?i:nan)"), (np.inf, "inf"), (-np.inf, "-inf")]


def with_bad_values(dtype: Any, value: float) -> NDArray[Any]:
    """(301, 7), not finite from row 130 on: in its column 5, and all over a later row."""
    x = ramp(301, 7, dtype=dtype)
    x[130, 5] = value
    x[257] = np.nan
    return x


BAD_ROW = "X: expected finite values, got {} in row 130, column 5"


def filter_rows(n: int, d: int, dtype: Any = np.float64, seed: int = 0) -> NDArray[Any]:
    """Standard normal rows, of which every tenth lies 5 further along the first axis."""
    X = np.random.default_rng([seed, n, d]).normal(size=(n, d))
    X[3::10, 0] += 5.0
    return X.astype(dtype)


def same_filter_result(a: Any, b: Any) -> bool:
    arrays = ("mean", "weights", "scores", "eigenvalues", "directions", "centers", "scales")
    return all(same_bits(getattr(a, name), getattr(b, name)) for name in arrays) and (
        (a.rounds, a.cuts, a.stop_reason, a.contamination, a.passes)
        == (b.rounds, b.cuts, b.stop_reason, b.contamination, b.passes)
    )
