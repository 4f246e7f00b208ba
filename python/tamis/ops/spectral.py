"""The spectral core: covariance products, weighted sums, eigenpairs, scores, the robust filter.

Past 400 lines: nearly half of them are the contracts of these five public functions.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from tamis import _arrays, _core
from tamis.ops.results import ConvergenceWarning, EigenResult, FilterResult

Rule = Literal["gaussian_tail", "bounded_covariance", "fixed_fraction", "soft", "randomized"]
Assume = Literal["identity", "scale", "none"]
RULES: tuple[str, ...] = (
    "gaussian_tail",
    "bounded_covariance",
    "fixed_fraction",
    "soft",
    "randomized",
)
ASSUMPTIONS: tuple[str, ...] = ("identity", "scale", "none")
MAX_COLUMNS = 65536
MAX_VECTORS = 256
MAX_EIGENPAIRS = MAX_VECTORS - 4  # a block has a few guards


def covariance_apply(
    X: Any,
    V: Any,
    *,
    weights: Any = None,
    mean: Any = None,
    num_threads: int | None = None,
) -> Any:
    """The weighted covariance of the rows of ``X`` times ``V``, in one pass and never formed.

    ``sum_i w_i (x_i - mu) (x_i - mu)^T V / sum_i w_i``

    Parameters
    ----------
    X : array of shape (n, d), float32 or float64
        NumPy array, torch tensor or another DLPack array; any stride between rows. One whose rows
        are not dense (a transposed or column-sliced view) is copied once. Never modified.
        n >= 1, 1 <= d <= 65536.
    V : array of shape (d,) or (d, k), k <= 256
    weights : array of shape (n,), optional
        Finite, >= 0, not all zero; default ones. Rows of weight 0 are not looked at.
    mean : array of shape (d,), optional
        Centre; default the weighted mean of the rows, found in the same pass.
    num_threads : int, optional
        CPU threads; never changes the result. Default: see `tamis.info`.

    Returns
    -------
    array of the shape of V
        Of the library, device and dtype of ``X``. Products are summed in the dtype of ``X`` over
        128 rows, those sums in float64: the same bits for any number of threads and any
        instruction set.

    Raises
    ------
    TypeError
        Not an array, or not float32 or float64.
    ValueError
        Shapes or values out of contract; the first row with a NaN or an infinity is named.

    Examples
    --------
    >>> import numpy as np, tamis
    >>> X = np.array([[0.0, 1.0], [2.0, 1.0]])
    >>> tamis.covariance_apply(X, np.array([1.0, 0.0])).tolist()
    [1.0, 0.0]
    """
    X = check_rows(X)
    d = int(X.shape[1])
    block, shape = check_vectors(X, V, "V")
    weight = check_weights(X, weights)
    centre = check_numbers(X, mean, "mean", (d,))
    out = _arrays.empty(X, tuple(block.shape), "float64")
    _core.covariance_apply(
        X,
        block,
        out,
        weight,
        centre,
        _arrays.thread_count(num_threads),
        _arrays.cuda_stream(X),
    )
    return _arrays.cast(out.reshape(shape), X)


def weighted_sums(X: Any, U: Any, *, num_threads: int | None = None) -> Any:
    """A few weighted sums of the rows of ``X``, ``U X``, in one read of them.

    Parameters
    ----------
    X : array of shape (n, d), float32 or float64
        As in `covariance_apply`.
    U : array of shape (n,) or (j, n), 1 <= j <= 256
        Finite numbers of any sign, a row of them for each sum; rounded to the dtype of ``X``. Rows
        of ``X`` whose weights are all 0 are not looked at.
    num_threads : int, optional
        CPU threads; never changes the result. Default: see `tamis.info`.

    Returns
    -------
    float64 array of shape (d,) or (j, d)
        Of the library and device of ``X``. Summed in the dtype of ``X`` over 128 rows, those sums
        in float64: the same bits for any number of threads and any instruction set.

    Raises
    ------
    TypeError, ValueError
        As in `covariance_apply`; sums beyond the dtype of ``X`` are a ValueError.

    Examples
    --------
    >>> import numpy as np, tamis
    >>> X = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> tamis.weighted_sums(X, np.array([[1.0, 1.0, 1.0], [0.5, 0.0, -0.5]])).tolist()
    [[9.0, 12.0], [-2.0, -2.0]]
    """
    X = check_rows(X)
    n, d = (int(extent) for extent in X.shape)
    shape = tuple(int(extent) for extent in np.shape(U))
    if len(shape) not in (1, 2) or shape[-1] != n or not 1 <= math.prod(shape[:-1]) <= MAX_VECTORS:
        raise ValueError(
            f"U: expected shape ({n},) or (j, {n}) with 1 <= j <= {MAX_VECTORS}, got {shape}"
        )
    weights = check_numbers(X, U, "U", shape, _arrays.dtype_name(X)).reshape(-1, n)
    out = _arrays.empty(X, (int(weights.shape[0]), d), "float64")
    _core.weighted_sums(X, weights, out, _arrays.thread_count(num_threads), _arrays.cuda_stream(X))
    return out.reshape((*shape[:-1], d))


def power_iteration(
    X: Any,
    k: int = 1,
    *,
    weights: Any = None,
    mean: Any = None,
    method: Literal["lanczos", "power"] = "lanczos",
    tol: float = 1e-4,
    max_iter: int = 100,
    init: Any = None,
    seed: int = 0,
    num_threads: int | None = None,
) -> EigenResult:
    """The top ``k`` eigenpairs of the weighted covariance of the rows, which is never formed.

    Parameters
    ----------
    X, weights, mean, num_threads
        As in `covariance_apply`.
    k : int
        1 to ``min(d, 252)``.
    method : {"lanczos", "power"}
        Block Lanczos with full reorthogonalisation, or orthogonal iteration (plain power iteration
        for k = 1), which needs no memory beyond the block and many more passes.
    tol : float
        Stop when every residual ``||A v - value v||`` is at most ``tol * values[0]``.
    max_iter : int
        Passes over the rows, at most.
    init : array of shape (d,) or (d, j), optional
        Warm start. Default: the eigenvectors of ``min(max(4096, 4 d), n / 8)`` sampled rows, so
        that full passes only polish them.
    seed : int in [0, 2**64)
        Of the sampled rows and the starting block; the result is a function of the arguments.

    Returns
    -------
    EigenResult
        Rank below k gives zero values with some orthonormal vectors, never NaN. Ending at
        `max_iter` is a `ConvergenceWarning`, and ``converged`` is False.

    Raises
    ------
    TypeError, ValueError
        As in `covariance_apply`.

    Notes
    -----
    Source: Musco and Musco, "Randomized block Krylov methods for stronger and faster approximate
    singular value decomposition", NeurIPS 2015; thick restart after Wu and Simon 2000.

    Examples
    --------
    >>> import numpy as np, tamis
    >>> X = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> result = tamis.power_iteration(X)
    >>> result.values.round(6).tolist(), abs(result.vectors[:, 0]).round(6).tolist()
    ([4.5], [1.0, 0.0])
    """
    X = check_rows(X)
    d = int(X.shape[1])
    k = _arrays.check_int(k, "k", 1, min(d, MAX_EIGENPAIRS) + 1)
    if method not in ("lanczos", "power"):
        raise ValueError(f"method: expected 'lanczos' or 'power', got {method!r}")
    tol = _arrays.check_real(tol, "tol")
    if not (math.isfinite(tol) and tol > 0):
        raise ValueError(f"tol: expected a finite number > 0, got {tol}")
    max_iter = _arrays.check_int(max_iter, "max_iter", 1, 2**31)
    seed = _arrays.check_int(seed, "seed", 0, 2**64)
    start = None
    if init is not None:
        start = np.asarray(_arrays.on_host(check_vectors(X, init, "init")[0]), np.float64)
    values, vectors, residuals, iterations, converged, clustered = _core.power_iteration(
        X,
        k,
        check_weights(X, weights),
        check_numbers(X, mean, "mean", (d,)),
        method,
        tol,
        max_iter,
        start,
        seed,
        _arrays.thread_count(num_threads),
        _arrays.cuda_stream(X),
    )
    if not converged:
        warnings.warn(
            f"power_iteration: not converged after {iterations} passes, largest residual "
            f"{residuals.max() / max(values[0], 1e-300):.1e} of the top eigenvalue (tol {tol:g}); "
            f"a larger max_iter or tol ends it",
            ConvergenceWarning,
            stacklevel=2,
        )
    return EigenResult(
        values=_arrays.like(values, X),
        vectors=_arrays.like(vectors, X),
        residuals=_arrays.like(residuals, X),
        iterations=iterations,
        converged=converged,
        clustered=clustered,
    )


def projection_scores(
    X: Any, V: Any, *, mean: Any = None, out: Any = None, num_threads: int | None = None
) -> Any:
    """How far every row reaches along the columns of ``V``: ``|| V^T (x_i - mu) ||^2``.

    Parameters
    ----------
    X, num_threads
        As in `covariance_apply`; n = 0 is allowed.
    V : array of shape (d,) or (d, k), k <= 256
    mean : array of shape (d,), optional
        Centre; default the mean of the rows (one more pass).
    out : array of shape (n,), optional
        Where to write: library, device and dtype of ``X``, dense, apart from it.

    Returns
    -------
    array of shape (n,)
        ``out`` if given. Summed in the dtype of ``X``; the same bits for any number of threads
        and any instruction set.

    Raises
    ------
    TypeError, ValueError
        As in `covariance_apply`.

    Examples
    --------
    >>> import numpy as np, tamis
    >>> tamis.projection_scores(np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([1.0, 0.0])).tolist()
    [1.0, 1.0]
    """
    given = X
    X = check_rows(X, min_rows=0)
    n, d = (int(extent) for extent in X.shape)
    block, _ = check_vectors(X, V, "V")
    if out is None:
        out = _arrays.empty(X, (n,), _arrays.dtype_name(X))
    else:
        _arrays.check_same_library(out, X, "out")
        if _arrays.dtype_name(out) != _arrays.dtype_name(X):
            raise TypeError(f"out: expected dtype {_arrays.dtype_name(X)}, got {out.dtype}")
        if tuple(out.shape) != (n,):
            raise ValueError(f"out: expected shape ({n},), got {tuple(out.shape)}")
        if X is not given:
            _arrays.check_apart(given, out)  # native code sees the copy only
    _core.projection_scores(
        X,
        block,
        out,
        check_numbers(X, mean, "mean", (d,)),
        _arrays.thread_count(num_threads),
        _arrays.cuda_stream(X),
    )
    return out


def iterative_filter(
    X: Any,
    contamination: float | Literal["auto"] = 0.1,
    *,
    rule: Rule = "gaussian_tail",
    assume: Assume = "none",
    prune: bool = True,
    readmit: bool = True,
    max_rounds: int = 50,
    max_removed: float = 2.5,
    seed: int = 0,
    num_threads: int | None = None,
) -> FilterResult:
    """Mean, weights and outlier scores of rows of which a minority is arbitrary.

    Repeats: top eigenvectors of the surviving rows, projections of *all* rows, drop or down-weight
    what clean rows do not explain, until the spread of the survivors is explained. The error does
    not grow with the dimension.

    Parameters
    ----------
    X : array of shape (n, d), float32 or float64
        As in `covariance_apply`. Finite values of any size with ``prune=True``.
    contamination : float in [0, 0.5) or "auto"
        Share of outliers. It sets the budget only (see `max_removed`): where rows are cut does
        not depend on it, so a wrong value costs nothing until the budget binds. ``"auto"`` raises
        the budget to half of the rows, and the share removed is the estimate.
    rule : str
        ``"gaussian_tail"``: clean rows have sub-Gaussian tails; error O(eps sqrt(log 1/eps)).
        ``"bounded_covariance"``: only their covariance is bounded (heavy tails); O(sqrt eps).
        ``"fixed_fraction"``: drops the contamination / 4 rows of largest score a round.
        ``"soft"``: multiplies weights by a power of ``1 - score / max``.
        ``"randomized"``: keeps a row with that probability.
    assume : str
        Covariance of clean rows: ``"identity"``; ``"scale"``, a multiple of it, estimated; or
        ``"none"``: each direction is compared with its own robust scale.
    prune : bool
        First drop rows outside a ball about the coordinate-wise median whose radius is measured.
    readmit : bool
        Score all rows again against the survivors, until the set is stable.
    max_rounds : int
        Eigensolves, at most.
    max_removed : float >= 1
        At most ``min(max_removed * contamination, 0.5) * n`` rows go, in weight; beyond that the
        least outlying ones come back, and the filter says ``"removal_limit"``.
    seed : int in [0, 2**64)
        The result is a function of the arguments; threads never change it.
    num_threads : int, optional
        CPU threads. Default: see `tamis.info`.

    Returns
    -------
    FilterResult
        Beyond ``weights`` and ``scores`` nothing that grows with n is allocated.

    Raises
    ------
    TypeError, ValueError
        As in `covariance_apply`; the argument or the first bad row is named.

    Notes
    -----
    Source: Diakonikolas, Kamath, Kane, Li, Moitra and Stewart, FOCS 2016 and ICML 2017; Dong,
    Hopkins and Li, NeurIPS 2019. Departures, constants and limits: docs/robust_mean.md.

    Examples
    --------
    >>> import numpy as np, tamis
    >>> X = np.random.default_rng(0).normal(size=(1000, 20))
    >>> X[:100] = 5.0
    >>> result = tamis.iterative_filter(X)
    >>> int(result.support[:100].sum()), bool(abs(result.mean).max() < 0.2)
    (0, True)
    """
    X = check_rows(X)
    n = int(X.shape[0])
    automatic, share = check_contamination(contamination)
    check_choice(rule, "rule", RULES)
    check_choice(assume, "assume", ASSUMPTIONS)
    check_flag(prune, "prune")
    check_flag(readmit, "readmit")
    max_rounds = _arrays.check_int(max_rounds, "max_rounds", 1, 2**31)
    max_removed = check_max_removed(max_removed)
    seed = _arrays.check_int(seed, "seed", 0, 2**64)
    weights = _arrays.empty(X, (n,), _arrays.dtype_name(X))
    scores = _arrays.empty(X, (n,), _arrays.dtype_name(X))
    found = _core.iterative_filter(
        X,
        weights,
        scores,
        share,
        automatic,
        rule,
        assume,
        prune,
        readmit,
        max_rounds,
        max_removed,
        seed,
        _arrays.thread_count(num_threads),
        _arrays.cuda_stream(X),
    )
    mean = _arrays.like(found.pop("mean"), X)
    exact = {
        name: _arrays.like(found.pop(name), X, "float64")
        for name in ("eigenvalues", "directions", "centers", "scales", "ball_center")
    }
    return FilterResult(mean=mean, weights=weights, scores=scores, **exact, **found)


def check_rows(X: Any, min_rows: int = 1) -> Any:
    """``X`` as the core reads it: (n, d), float32 or float64, dense rows."""
    _arrays.check_array(X, "X")
    _arrays.check_float(X, "X", ("float32", "float64"))
    shape = tuple(int(extent) for extent in X.shape)
    if len(shape) != 2:
        raise ValueError(f"X: expected shape (n, d), got {shape}")
    if shape[0] < min_rows or not 1 <= shape[1] <= MAX_COLUMNS:
        rows = "at least one row and " if min_rows else ""
        raise ValueError(f"X: expected {rows}1 to {MAX_COLUMNS} columns, got shape {shape}")
    return _arrays.dense_rows(X)


def check_weights(X: Any, weights: Any) -> Any:
    """``weights`` beside ``X`` in its dtype, or None; the core checks their signs."""
    if weights is None:
        return None
    return check_numbers(X, weights, "weights", (int(X.shape[0]),), _arrays.dtype_name(X))


def check_contamination(contamination: Any) -> tuple[bool, float]:
    """(is it "auto", the number)."""
    if isinstance(contamination, str):
        if contamination != "auto":
            raise ValueError(
                f"contamination: expected a number in [0, 0.5) or 'auto', got {contamination!r}"
            )
        return True, 0.0
    share = _arrays.check_real(contamination, "contamination")
    if not 0.0 <= share < 0.5:
        raise ValueError(f"contamination: expected a number in [0, 0.5) or 'auto', got {share}")
    return False, share


def check_max_removed(value: Any) -> float:
    """``max_removed`` as a float >= 1."""
    number = _arrays.check_real(value, "max_removed")
    if not (math.isfinite(number) and number >= 1.0):
        raise ValueError(f"max_removed: expected a finite number >= 1, got {number}")
    return number


def check_choice(value: Any, name: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless ``value`` is one of the ``choices``."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")


def check_flag(value: Any, name: str) -> None:
    """Raise TypeError unless ``value`` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}")


def check_vectors(
    X: Any, V: Any, name: str, most: int = MAX_VECTORS
) -> tuple[Any, tuple[int, ...]]:
    """V as a dense float64 (d, k) array beside X, and its own shape."""
    d = int(X.shape[1])
    shape = tuple(int(extent) for extent in np.shape(V))
    if len(shape) not in (1, 2) or shape[0] != d or not 1 <= math.prod(shape[1:]) <= most:
        raise ValueError(
            f"{name}: expected shape ({d},) or ({d}, k) with 1 <= k <= {most}, got {shape}"
        )
    return check_numbers(X, V, name, shape).reshape(d, -1), shape


def check_numbers(
    X: Any, values: ArrayLike | None, name: str, shape: tuple[int, ...], dtype: str = "float64"
) -> Any:
    """``values`` of this shape as a dense array of X's library and device; None stays None."""
    if values is None:
        return None
    array = _arrays.beside(X, values, name, dtype)
    if tuple(int(extent) for extent in array.shape) != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {tuple(array.shape)}")
    return array
