"""The top eigenpairs of a symmetric operator by block Krylov, in as few products as it takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

__all__ = ["GUARDS", "block_krylov", "random_block", "warm_block"]

Vector = NDArray[np.float64]
GUARDS = 3  # vectors of a block beside those wanted
_TOLERANCE = 3e-3  # of the top eigenvalue; docs/sever.md has what ranks need
_LEAST_LEFT = 0.02  # a block that has not met the next direction thinks too little of it
_ZERO = 1e-12  # of the top eigenvalue
_MAX_BASIS = 120


def block_krylov(
    apply: Callable[[Any], Any], block: Any, k: int, *, warm: bool = False, images: Any = None
) -> tuple[Vector, Vector]:
    """The largest eigenvalues of a symmetric operator, their eigenvectors, and some to spare.

    block : orthonormal columns to start from; ``warm``: better ones than random, but for the first.
    images : what the operator makes of the block, if that is known
    The first k are what is asked for. Their columns are orthonormal, the others merely good to
    start from; other values are at most what they stand for.

    Musco and Musco, NeurIPS 2015: all blocks are kept, and each pass multiplies a few vectors at
    once, which costs little more than one. The images of the last pass are at hand, so that what is
    returned is one power step better than what the residual r was measured on. For k = 1, Mu is
    returned, with a variance of at least ``|Mu|^2 / top``; none exceeds ``top + r^2 / gap``. So at
    most ``r^2 / gap * (top - gap) / top`` is missed.
    """
    side, width = block.shape
    basis, images = block, apply(block) if images is None else images
    before = np.zeros(k)
    while True:
        if not np.isfinite(images[:, -1]).all():
            return np.full(width, np.nan), np.full((side, width), np.nan)
        values, vectors, failed = lapack.dsyevd(basis.T @ images)  # reads one triangle
        if failed:
            raise np.linalg.LinAlgError("eigenvalues of the gradients did not converge")
        values, vectors = values[::-1], vectors[:, : -width - 1 : -1]
        top, found = np.maximum(values[:k], 0.0), vectors[:, :k]
        stepped = images @ vectors
        error = np.square(stepped[:, :k] - basis @ (found * top)).sum()  # over the gap: of top
        gap = values[k - 1] - values[k] if len(values) > k else 0.0
        if gap > 0.0 and top[k - 1] > _ZERO * top[0]:
            error *= max(values[k] / top[k - 1], _LEAST_LEFT)  # what the last step leaves of it
        settled = min(np.abs(top - before).max() * gap, error) <= _TOLERANCE * top[0] * gap
        if basis is block and warm:  # one that is no better than what is random
            settled = settled and top[k - 1] > 2.0 * (basis[:, 0] @ images[:, 0])
        if settled or basis.shape[1] + width > min(side, _MAX_BASIS):
            sizes = np.linalg.norm(stepped[:, :k], axis=0)
            if k == 1 and sizes[0] > 0.0:
                stepped[:, 0] /= sizes[0]
            else:
                stepped[:, :k] = _orthonormal(stepped[:, :k])
            return np.concatenate([sizes, values[k:width]]), stepped
        before, block = top, images[:, -width:]
        for _ in range(2):  # twice is enough
            block = _orthonormal(block - basis @ (basis.T @ block))
        basis, images = np.hstack([basis, block]), np.hstack([images, apply(block)])


def _orthonormal(columns: Any) -> Any:
    """An orthonormal basis of a few columns, by LAPACK alone: NumPy takes three times as long."""
    factored, scales, _, _ = lapack.dgeqrf(columns)
    return np.ascontiguousarray(lapack.dorgqr(factored, scales, overwrite_a=True)[0])


@functools.lru_cache(maxsize=1)
def _random(side: int) -> Vector:
    """The same vector at every call; seeding a generator takes as long as a small product."""
    return np.random.default_rng(0).standard_normal(side)


def random_block(side: int, width: int) -> Any:
    return _orthonormal(np.random.default_rng(0).standard_normal((side, min(width, side))))


def warm_block(start: Any) -> Any:
    """Directions to start from after a random one: what they do not know of is found."""
    return _orthonormal(np.column_stack([_random(len(start)), start[:, :-1]]))
