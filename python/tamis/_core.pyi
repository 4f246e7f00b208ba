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
    image: Any,
    stream: int,
    start: int,
    num_threads: int,
    cuda_stream: int = 0,
    affine: Any = None,
) -> None: ...
def vote_counts(logits: Any, out: Any, cuda_stream: int = 0, wait: bool = True) -> None: ...
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
def covariance_apply(
    X: Any,
    V: Any,
    out: Any,
    weights: Any,
    mean: Any,
    num_threads: int,
    cuda_stream: int = 0,
) -> None: ...
def weighted_sums(X: Any, U: Any, out: Any, num_threads: int, cuda_stream: int = 0) -> None: ...
def projection_scores(
    X: Any, V: Any, out: Any, mean: Any, num_threads: int, cuda_stream: int = 0
) -> None: ...
def power_iteration(
    X: Any,
    k: int,
    weights: Any,
    mean: Any,
    method: str,
    tol: float,
    max_iter: int,
    init: Any,
    seed: int,
    num_threads: int,
    cuda_stream: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], int, bool, bool]: ...
def iterative_filter(
    X: Any,
    weights: Any,
    scores: Any,
    contamination: float,
    automatic: bool,
    rule: str,
    assume: str,
    prune: bool,
    readmit: bool,
    max_rounds: int,
    max_removed: float,
    seed: int,
    num_threads: int,
    cuda_stream: int = 0,
) -> dict[str, Any]: ...

class FilterStream:
    def __init__(
        self,
        contamination: float,
        automatic: bool,
        rule: str,
        assume: str,
        prune: bool,
        max_removed: float,
        seed: int,
        num_threads: int,
    ) -> None: ...
    def fit(self, rows: Any) -> str: ...
    def keep(self, chunk: Any) -> NDArray[np.uint8]: ...
    def absorb(self, chunk: Any) -> None: ...
    def finish_pass(self) -> bool: ...
    @property
    def mean(self) -> NDArray[np.float64]: ...
    @property
    def kept(self) -> float: ...
    @property
    def seen(self) -> float: ...
    @property
    def passes(self) -> int: ...
    @property
    def limited(self) -> bool: ...

def linear_gradients(
    X: Any,
    coef: Any,
    intercept: float,
    y: Any,
    epsilon: float,
    weights: Any,
    center_weights: Any,
    V: Any,
    coefficients: Any,
    center: Any,
    sums: Any,
    product: Any,
    num_threads: int,
    cuda_stream: int = 0,
) -> None: ...
