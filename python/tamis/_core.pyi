"""Private native core; the contracts stand in ``csrc/include/tamis``."""

from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

__version__: str

class CudaInfo(TypedDict):
    built: bool
    toolkit: str
    architectures: str
    driver: bool
    status: str
    devices: list[str]

class NaNRowError(ValueError):
    row: int

def default_num_threads() -> int: ...
def built_isas() -> list[str]: ...
def available_isas() -> list[str]: ...
def active_isa() -> str: ...
def cuda_info() -> CudaInfo: ...
def gaussian_noise(
    x: Any,
    out: Any,
    sigma: float,
    seed: int,
    image: int,
    stream: int,
    start: int,
    num_threads: int,
    cuda_stream: int = 0,
    affine: Any = None,
) -> None: ...
def vote_counts(logits: Any, out: Any, cuda_stream: int = 0) -> None: ...
def clopper_pearson(
    successes: NDArray[np.int64], trials: NDArray[np.int64], alpha: NDArray[np.float64], side: str
) -> NDArray[np.float64]: ...
def confidence_sequence(
    successes: NDArray[np.int64], trials: NDArray[np.int64], alpha: NDArray[np.float64], side: str
) -> NDArray[np.float64]: ...
def binomial_test_half(
    successes: NDArray[np.int64], trials: NDArray[np.int64]
) -> NDArray[np.float64]: ...
def certified_radius(
    p_lower: NDArray[np.float64], sigma: float, p_upper: NDArray[np.float64] | None = None
) -> NDArray[np.float64]: ...
