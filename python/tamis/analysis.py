"""What a certification log says: certified accuracy, its guarantee, and how logs compare.

The certified accuracy at radius r is the share of images that were classified correctly and
certified at r or more, ``mean[correct and radius >= r]`` ([Cohen19] section 4). The comparison
includes r, and a relative 1e-12 of slack only absorbs the binary rounding of r itself (0.1 * 3 >
0.3). Radii in published logs are rounded to 3 significant digits or 4 decimals, which moves a
certificate of .2496 to .25; tables computed from those logs, here as elsewhere, count it at .25.

One file, past the usual 400 lines, because it is one public module and mostly documentation.

Source: Cohen, Rosenfeld and Kolter 2019, "Certified adversarial robustness via randomized
smoothing" [Cohen19].
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtrc, ndtr

from tamis.smoothing.logs import (
    ABSTAIN,
    CertificationLog,
    LogFormatError,
    TruncatedLogWarning,
    load_log,
)

__all__ = [
    "DEFAULT_ALPHA",
    "AnalysisWarning",
    "CertificationLog",
    "LogFormatError",
    "LogSummary",
    "PLowerDistribution",
    "TruncatedLogWarning",
    "UpperEnvelope",
    "abstention_rate",
    "average_certified_radius",
    "certified_accuracy",
    "certified_accuracy_lower_bound",
    "check_comparable",
    "describe_subset",
    "load_log",
    "p_lower_distribution",
    "summary",
    "upper_envelope",
]

Array: TypeAlias = NDArray[np.float64]
BoundMethod: TypeAlias = Literal["binomial", "published"]

#: Failure probability of a certificate that is assumed where a log does not record one ([Cohen19]).
DEFAULT_ALPHA = 0.001
_ROUNDING = 1e-12
# No sample size in use certifies past this many sigma: it takes n > 1e11 at alpha = .001.
_MAX_SIGMAS = 6.5
_MAX_NAMED = 6


class AnalysisWarning(UserWarning):
    """Numbers that are being compared do not describe the same experiment."""


def _rows(log: CertificationLog) -> int:
    if not len(log):
        raise ValueError(f"log expected at least one row, got none in {log.path or 'the log'}")
    return len(log)


def _radii(radius: ArrayLike) -> Array:
    radii = np.asarray(radius, dtype=np.float64)
    if not np.all(np.isfinite(radii) & (radii >= 0)):
        raise ValueError(f"radius expected finite numbers >= 0, got {radius!r}")
    return radii


def _certified(log: CertificationLog, radius: ArrayLike) -> Array:
    """How many images are correct and certified at each radius or more; the shape of `radius`."""
    radii = _radii(radius)
    certified = np.sort(log.radius[log.correct])
    below = np.searchsorted(certified, radii * (1 - _ROUNDING), side="left")
    return np.asarray(certified.size - below, dtype=np.float64)


def _probability(value: float, name: str) -> float:
    if not 0 < value < 1:
        raise ValueError(f"{name} expected a probability strictly between 0 and 1, got {value!r}")
    return float(value)


@overload
def certified_accuracy(log: CertificationLog, radius: float) -> float: ...
@overload
def certified_accuracy(log: CertificationLog, radius: Sequence[float] | Array) -> Array: ...
def certified_accuracy(
    log: CertificationLog, radius: float | Sequence[float] | Array
) -> float | Array:
    """Share of images that are correct and certified at `radius` or more.

    Parameters
    ----------
    log : CertificationLog
        A log with at least one row.
    radius : float or array of float64, any shape
        l2 radii in input units, >= 0. At 0 every correct image counts; abstentions never do.

    Returns
    -------
    float or array of float64
        In [0, 1], of the shape of `radius`; an empty array for no radii.

    Raises
    ------
    ValueError
        If the log has no rows, or a radius is negative or not finite.

    Notes
    -----
    ``mean[correct and radius >= r]`` as in the published tables; see the module's text on rounding.

    Examples
    --------
    >>> log = CertificationLog(idx=[0, 1, 2, 3], label=[5, 5, 5, 5], predict=[5, 5, -1, 2],
    ...                        radius=[.25, .5, 0., .7], correct=[1, 1, 0, 0])
    >>> certified_accuracy(log, .25)
    0.5
    >>> certified_accuracy(log, [0, .3, .6])
    array([0.5 , 0.25, 0.  ])
    """
    share = _certified(log, radius) / _rows(log)
    return float(share) if share.ndim == 0 else share


@overload
def certified_accuracy_lower_bound(
    log: CertificationLog,
    radius: float,
    alpha: float,
    rho: float = ...,
    *,
    method: BoundMethod = ...,
) -> float: ...
@overload
def certified_accuracy_lower_bound(
    log: CertificationLog,
    radius: Sequence[float] | Array,
    alpha: float,
    rho: float = ...,
    *,
    method: BoundMethod = ...,
) -> Array: ...
def certified_accuracy_lower_bound(
    log: CertificationLog,
    radius: float | Sequence[float] | Array,
    alpha: float,
    rho: float = 0.001,
    *,
    method: BoundMethod = "binomial",
) -> float | Array:
    """Certified accuracy of these images that holds with probability 1 - `rho`.

    Each certificate is false with probability at most `alpha`, so some of those counted by
    ``certified_accuracy`` may be. This subtracts as many as chance can explain.

    Parameters
    ----------
    log : CertificationLog
        A log with at least one row, m in all.
    radius : float or array of float64, any shape
        l2 radii in input units, >= 0.
    alpha : float
        Failure probability of one certificate, as the run was configured.
    rho : float, default 0.001
        Failure probability of the statement returned.
    method : {"binomial", "published"}
        "binomial" subtracts q / m, where q is the 1 - `rho` quantile of Binomial(m, alpha).
        "published" subtracts ``alpha + sqrt(alpha (1 - alpha) L / m) + L / (3 m)``, L = ln(1/rho),
        the deduction that [Cohen19]'s published code makes.

    Returns
    -------
    float or array of float64
        In [0, 1], of the shape of `radius`. It speaks of these m images, not of their population.

    Raises
    ------
    ValueError
        If the log has no rows, a radius is negative or not finite, or `alpha` or `rho` is not
        strictly between 0 and 1.

    Notes
    -----
    Certificates of different images use independent noise, so the number of false ones is
    stochastically at most Binomial(m, alpha). The exception: identical images, and two images whose
    hashes collide (2**-32 a pair, see ``tamis.smoothing.image_id``), share their noise; each keeps
    its alpha, but their errors come together, and a log with many copies of one image falls outside
    this bound. A certificate is false as a whole (its radius is too
    large or it is not), so with "binomial" the bound holds at **all radii at once**.

    "published" has no factor 2 under the root, which Bernstein's inequality asks for, and can fall
    short of its 1 - rho: for m = 10000, alpha = rho = .001 it fails with probability up to .0016.
    For m = 500 it is valid and subtracts 0.93 points where "binomial" subtracts 0.8.

    Source: [Cohen19], high-probability certified test set accuracy. The default deviates from it.
    """
    alpha, rho = _probability(alpha, "alpha"), _probability(rho, "rho")
    rows = _rows(log)
    if method == "binomial":
        # First count whose upper tail is at most rho.
        false = float(np.argmax(bdtrc(np.arange(rows + 1), rows, alpha) <= rho))
    elif method == "published":
        surprise = math.log(1 / rho)
        false = alpha * rows + math.sqrt(alpha * (1 - alpha) * surprise * rows) + surprise / 3
    else:
        raise ValueError(f"method expected 'binomial' or 'published', got {method!r}")
    bound = np.asarray(np.maximum(_certified(log, radius) - false, 0.0) / rows)
    return float(bound) if bound.ndim == 0 else bound


def average_certified_radius(log: CertificationLog) -> float:
    """Mean over all images of radius * correct: wrong answers and abstentions count as 0.

    Parameters
    ----------
    log : CertificationLog
        A log with at least one row.

    Returns
    -------
    float
        In input units (l2). Equals the area under the certified accuracy curve.

    Raises
    ------
    ValueError
        If the log has no rows.

    Notes
    -----
    Source: Zhai et al. 2020, "MACER", section 5 (ACR).
    """
    return float(np.sum(log.radius[log.correct])) / _rows(log)


def abstention_rate(log: CertificationLog) -> float:
    """Share of images on which the run abstained, in [0, 1]; ValueError if the log has no rows."""
    return int(np.count_nonzero(log.predict == ABSTAIN)) / _rows(log)


@dataclass(frozen=True, eq=False)
class UpperEnvelope:
    """The best of several logs at each radius.

    Attributes
    ----------
    radii, values : array of float64, shape (k,)
        Radii, and the largest certified accuracy at each.
    winner : array of int64, shape (k,)
        Which log attains it: the first of those tied, -1 where no log certifies anything.
    tied : array of int64, shape (k,)
        How many logs attain it.
    """

    radii: Array
    values: Array
    winner: NDArray[np.int64]
    tied: NDArray[np.int64]


def upper_envelope(
    logs: Sequence[CertificationLog], radii: Sequence[float] | Array
) -> UpperEnvelope:
    """Largest certified accuracy over `logs` at each radius, and which log attains it.

    Parameters
    ----------
    logs : sequence of CertificationLog
        At least one; ``check_comparable`` warns if they differ in images, n or alpha.
    radii : array of float64, shape (k,)
        l2 radii in input units, >= 0.

    Returns
    -------
    UpperEnvelope
        Empty arrays for no radii.

    Raises
    ------
    ValueError
        If there are no logs, a log has no rows, or a radius is negative or not finite.

    Notes
    -----
    Choosing the best of many models on the images they are scored on is optimistic: by 1 to 3
    points for the published tables over 80 to 400 models and 500 images.
    """
    if not logs:
        raise ValueError("logs expected at least one log, got none")
    check_comparable(logs, stacklevel=3)
    at = np.atleast_1d(_radii(radii))
    table = np.stack([certified_accuracy(log, at) for log in logs])
    values = table.max(axis=0)
    return UpperEnvelope(
        radii=at,
        values=values,
        winner=np.where(values > 0, table.argmax(axis=0), -1),
        tied=np.count_nonzero(table == values, axis=0),
    )


def describe_subset(log: CertificationLog) -> str:
    """Which images a log covers, in words: ``"500 images (idx 0 to 9980, every 20th)"``."""
    if len(log) <= 1:
        return f"1 image (idx {log.idx[0]})" if len(log) else "no images"
    idx = np.sort(log.idx)
    steps = np.unique(np.diff(idx))
    if steps.size > 1:
        how = "irregular"
    elif steps[0] == 1:
        how = "all"
    else:
        how = f"every {_ordinal(int(steps[0]))}"
    return f"{len(log)} images (idx {idx[0]} to {idx[-1]}, {how})"


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"


def _samples(log: CertificationLog) -> str | None:
    """Samples per image: ``"100000"``, ``"200 to 100000"``, None if the log does not say."""
    recorded = log.setting("n")
    if recorded is not None:
        return f"{recorded:.0f}"
    if log.n is None or not len(log):
        return None
    least, most = int(log.n.min()), int(log.n.max())
    return str(most) if least == most else f"{least} to {most}"


def check_comparable(
    logs: Sequence[CertificationLog], names: Sequence[str] | None = None, *, stacklevel: int = 2
) -> list[str]:
    """Warn where logs describe different experiments, so that their accuracies do not compare.

    Parameters
    ----------
    logs : sequence of CertificationLog
        Compared are the images, their labels, n, alpha and the hash of the data, as far as the logs
        record them.
    names : sequence of str, optional
        What to call the logs; their ``name`` by default.
    stacklevel : int, default 2
        As for ``warnings.warn``.

    Returns
    -------
    list of str
        The warnings, each also issued as an ``AnalysisWarning``.
    """
    called = [log.name for log in logs] if names is None else list(names)

    def differing(what: str, values: Sequence[str | None]) -> str | None:
        groups: dict[str, list[str]] = {}
        for name, value in zip(called, values, strict=True):
            if value is not None:
                groups.setdefault(value, []).append(name)
        if len(groups) < 2:
            return None
        said = [
            f"{value}: {', '.join(who[:_MAX_NAMED])}{', ...' if len(who) > _MAX_NAMED else ''}"
            for value, who in groups.items()
        ]
        return f"the logs differ in {what} and do not compare ({'; '.join(said)})"

    def alpha(log: CertificationLog) -> str | None:
        recorded = log.setting("alpha")
        return None if recorded is None else f"alpha = {recorded:g}"

    def data(log: CertificationLog) -> str | None:
        recorded = log.metadata or {}
        digest = recorded.get("data_sha256")
        return None if digest is None else f"{recorded.get('data', 'data')} {str(digest)[:8]}"

    def samples(log: CertificationLog) -> str | None:
        recorded = _samples(log)
        return None if recorded is None else f"n = {recorded}"

    subsets = [frozenset(log.idx.tolist()) for log in logs]
    described = [describe_subset(log) for log in logs]
    if len(set(subsets)) > len(set(described)):  # different images, the same description
        order = list(dict.fromkeys(subsets))
        described = [
            f"{d}, set {order.index(s) + 1}" for d, s in zip(described, subsets, strict=True)
        ]
    messages = [
        differing("data", [data(log) for log in logs]),
        differing("the images they cover", described),
        differing("samples per image", [samples(log) for log in logs]),
        differing("alpha", [alpha(log) for log in logs]),
        _differing_labels(logs, called),
    ]
    said = [message for message in messages if message is not None]
    for message in said:
        warnings.warn(message, AnalysisWarning, stacklevel=stacklevel)
    return said


def _differing_labels(logs: Sequence[CertificationLog], names: Sequence[str]) -> str | None:
    known: dict[int, tuple[int, str]] = {}
    for log, name in zip(logs, names, strict=True):
        for idx, label in zip(log.idx.tolist(), log.label.tolist(), strict=True):
            its_label, its_name = known.setdefault(idx, (label, name))
            if its_label != label:
                return (
                    f"{its_name} and {name} are of different data: image {idx} has label "
                    f"{its_label} in one and {label} in the other"
                )
    return None


@dataclass(frozen=True, eq=False)
class PLowerDistribution:
    """Lower confidence bounds on the probability of the predicted class, one per image.

    Attributes
    ----------
    values : array of float64, shape (m,)
        NaN where unknown: abstentions in a log without the column, which are below one half.
    recorded : bool
        True if read from the log, False if reconstructed from the radii.
    """

    values: Array
    recorded: bool

    def quantile(self, q: float | Sequence[float]) -> Array:
        """Smallest value that at least a share `q` of all images does not exceed.

        NaN stands for "unknown, below 0.5". Shape as `q`; ValueError unless 0 <= q <= 1.
        """
        shares = np.asarray(q, dtype=np.float64)
        if not np.all((shares >= 0) & (shares <= 1)):
            raise ValueError(f"q expected numbers from 0 to 1, got {q!r}")
        ordered = np.sort(np.where(np.isnan(self.values), -1.0, self.values))
        rank = np.ceil(shares * ordered.size * (1 - _ROUNDING)).astype(np.int64)
        found = ordered[np.maximum(rank, 1) - 1]
        return np.asarray(np.where(found < 0, np.nan, found), dtype=np.float64)


def p_lower_distribution(log: CertificationLog, sigma: float | None = None) -> PLowerDistribution:
    """Lower confidence bounds on the top class probability, read or reconstructed.

    Parameters
    ----------
    log : CertificationLog
        A log with at least one row.
    sigma : float, optional
        Noise standard deviation in input units, for logs without ``p_lower``; the recorded one by
        default.

    Returns
    -------
    PLowerDistribution
        From the ``p_lower`` column where there is one, else ``Phi(radius / sigma)``, which holds
        for the one-sided bound of [Cohen19] Certify; a radius rounded to 3 digits gives p_lower
        to about 3 digits.

    Raises
    ------
    ValueError
        If the log has no rows, if it has neither ``p_lower`` nor a known sigma, or if `sigma`
        cannot have given its radii.
    """
    _rows(log)
    if log.p_lower is not None:
        return PLowerDistribution(values=log.p_lower.astype(np.float64), recorded=True)
    scale = log.setting("sigma") if sigma is None else sigma
    if scale is None:
        raise ValueError(
            f"sigma expected a number, as {log.name} records neither p_lower nor sigma"
        )
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"sigma expected a finite number > 0, got {scale!r}")
    multiple = log.radius / scale
    if multiple.max() > _MAX_SIGMAS:
        raise ValueError(
            f"sigma expected the noise level of {log.name}, got {scale:g}: its largest radius "
            f"{log.radius.max():g} would be {multiple.max():.1f} sigma, which no sampling certifies"
        )
    values = np.where(log.predict == ABSTAIN, np.nan, ndtr(multiple))
    return PLowerDistribution(values=values, recorded=False)


@dataclass(frozen=True, eq=False)
class LogSummary:
    """What one log says; returned by ``summary``, whose text explains the fields."""

    name: str
    subset: str
    rows: int
    sigma: float | None
    n: str | None
    alpha: float
    alpha_assumed: bool
    rho: float
    seed: int | None
    radii: Array
    certified_accuracy: Array
    lower_bound: Array
    accuracy: float
    abstention_rate: float
    average_certified_radius: float
    seconds_per_image: float | None
    p_lower: PLowerDistribution | None
    metadata: dict[str, Any] = field(default_factory=dict)


def summary(
    log: CertificationLog,
    radii: Sequence[float] | Array = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25),
    *,
    alpha: float | None = None,
    rho: float = 0.001,
    sigma: float | None = None,
    method: BoundMethod = "binomial",
) -> LogSummary:
    """Everything this module computes, for one log.

    Parameters
    ----------
    log : CertificationLog
        A log with at least one row.
    radii : array of float64, shape (k,)
        l2 radii in input units; the published tables' by default.
    alpha : float, optional
        Failure probability of one certificate where the log does not record it; ``DEFAULT_ALPHA``
        by default, and then ``alpha_assumed`` is true.
    rho, method
        As for ``certified_accuracy_lower_bound``.
    sigma : float, optional
        Noise level where the log does not record it; without any, ``p_lower`` may be None.

    Returns
    -------
    LogSummary
        ``subset``, ``n`` and ``seed`` in words or None where not recorded; ``accuracy`` is the
        certified accuracy at radius 0; ``seconds_per_image`` the median of ``time``.

    Raises
    ------
    ValueError
        As the functions it calls.
    """
    rows = _rows(log)
    recorded = log.setting("alpha")
    used = recorded if recorded is not None else DEFAULT_ALPHA if alpha is None else alpha
    noise = log.setting("sigma")
    noise = sigma if noise is None else noise
    seed = log.setting("seed")
    at = np.atleast_1d(_radii(radii))
    return LogSummary(
        name=log.name,
        subset=describe_subset(log),
        rows=rows,
        sigma=noise,
        n=_samples(log),
        alpha=used,
        alpha_assumed=recorded is None and alpha is None,
        rho=rho,
        seed=None if seed is None else int(seed),
        radii=at,
        certified_accuracy=certified_accuracy(log, at),
        lower_bound=certified_accuracy_lower_bound(log, at, used, rho, method=method),
        accuracy=certified_accuracy(log, 0.0),
        abstention_rate=abstention_rate(log),
        average_certified_radius=average_certified_radius(log),
        seconds_per_image=None if log.time is None else float(np.median(log.time)),
        p_lower=(
            None if log.p_lower is None and noise is None else p_lower_distribution(log, noise)
        ),
        metadata={} if log.metadata is None else dict(log.metadata),
    )
