"""Robust covariances and components that tamis is compared with, as their authors run them.

Ports to NumPy with the published constants and quirks, also the costly ones; where a quirk is a
slip, both are here. Rows are taken as centred at 0, as there.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.sparse.linalg import eigsh

import tamis


def published(X: Any, eps: float, tau: float, constant: float) -> tuple[Any, Any]:
    """The published covariance filter with one tail constant: covariance, numbers of rows kept.

    Diakonikolas et al. 2017: the dense degree-2 matrix from an (n, d^2) array of all products.
    """
    rows = np.arange(len(X))
    while True:
        n, d = X.shape
        if n < d:
            return np.zeros((d, d)), rows[:0]
        S = X.T @ X / n
        w, U = np.linalg.eigh(S)
        if w[-1] > 1e4 * w[0]:
            return np.zeros((d, d)), rows[:0]
        Z = X @ (U / np.sqrt(w)) @ U.T
        near = np.square(Z).sum(axis=1) <= 0.4 * d * np.log(n / tau)
        if not near.all():
            X, rows = X[near], rows[near]
            continue
        products = (Z[:, :, None] * Z[:, None, :]).reshape(n, d * d)
        F = products.T @ products / n
        eye = np.eye(d).ravel()
        F -= np.outer(eye, eye)
        value, vector = eigsh(F, 1, which="LM", v0=np.ones(d * d))
        if value[0] / 2 < 1.0:
            return S, rows
        p = np.einsum("ij,jk,ik->i", Z, vector.reshape(d, d) / np.sqrt(2), Z, optimize=True)
        s = np.abs(p - p.mean())
        order = np.argsort(s)
        tail = n * (12 * np.exp(-constant * s[order]) + 3 * eps / (d * np.log(n / tau)) ** 2)
        cut = np.flatnonzero(n - np.arange(1, n + 1) > tail)
        if not cut.size or cut[0] == 0 or cut[0] == n - 1:
            return S, rows
        chosen = order[: cut[0] + 1]
        X, rows = X[chosen], rows[chosen]


def tuned(X: Any, eps: float = 0.05, tau: float = 0.1) -> tuple[Any, Any]:
    """The search for a constant with which .5 to 1.5 eps n rows go: covariance, rows kept.

    It starts at 2, is halved while too many rows go or doubled while too few, then bisected at most
    nine times; if that fails, the run at the upper bound is the answer.
    """
    n, constant = len(X), 2.0

    def run(constant: float) -> tuple[int, tuple[Any, Any]]:
        found = published(X, eps, tau, constant)
        gone = n - found[1].size
        return (gone >= 1.5 * eps * n) - (gone <= 0.5 * eps * n), found

    first, found = run(constant)
    side = first
    while side and side == first and 1e-3 < constant < 1e3:
        constant = constant / 2 if first > 0 else constant * 2
        side, found = run(constant)
    if not side:
        return found
    low, high = (constant, 2 * constant) if first > 0 else (constant / 2, constant)
    for _ in range(9):
        constant = (low + high) / 2
        side, found = run(constant)
        if not side:
            return found
        low, high = (low, constant) if side > 0 else (constant, high)
    return run(high)[1]


def lrv_covariance(X: Any, eps: float) -> Any:
    """The agnostic mean of Lai, Rao and Vempala 2016 of all products of a row with itself."""
    n, d = X.shape
    products = (X[:, :, None] * X[:, None, :]).reshape(n, d * d)
    C = tamis.lrv_mean(products, eps).reshape(d, d)
    return (C + C.T) / 2


def ransac_covariance(X: Any, eps: float, seed: int, *, as_coded: bool = False) -> Any:
    """Smallest ellipsoid about half of the rows, from 1000 samples of ``ceil(d / eps)`` rows.

    ``as_coded``: the best volume is never written down, so the last sample wins.
    """
    rng = np.random.default_rng(seed)
    n, d = X.shape
    best, least = np.zeros((d, d)), np.inf
    for _ in range(1000):
        chosen = X[rng.choice(n, min(math.ceil(d / eps), n), replace=False)]
        S = chosen.T @ chosen / len(chosen)
        middle = float(np.median(np.einsum("ij,ij->i", X @ np.linalg.inv(S), X)))
        volume = float(np.linalg.slogdet(S)[1]) + d * math.log(middle)
        if as_coded or volume < least:
            best, least = S, volume
    return best


def principal_component_pursuit(M: Any, penalty: float = 0.2, most: int = 2000) -> Any:
    """The low-rank part of rows by Candes, Li, Ma and Wright 2011: ADMM, to 1e-7 or ``most`` steps.

    Sparse corruption is its model, whole bad rows are not.
    """
    n, d = M.shape
    mu = n * d / (4.0 * float(np.linalg.norm(M, "nuc")))
    S, Y = np.zeros_like(M), np.zeros_like(M)
    L = M
    for _ in range(most):
        A = M - S + Y / mu
        w, V = np.linalg.eigh(A.T @ A)
        sigma = np.sqrt(np.maximum(w, 1e-300))
        L = A @ (V * np.maximum(1.0 - 1.0 / (mu * sigma), 0.0)) @ V.T
        B = M - L + Y / mu
        S = np.sign(B) * np.maximum(np.abs(B) - penalty / mu, 0.0)
        rest = M - L - S
        Y += mu * rest
        if np.linalg.norm(rest) <= 1e-7 * np.linalg.norm(M):
            break
    return L
