"""iterative_filter: threads, seeds, instruction sets, forks, signals.

Oracle: the same call on one thread of this process, which test_iterative_filter.py checks.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import tamis
from support import filter_rows, outputs_per_isa, run_python, same_filter_result

DTYPES = (np.float32, np.float64)
RULES = ("gaussian_tail", "bounded_covariance", "fixed_fraction", "soft", "randomized")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_changes_nothing(dtype: Any, rule: Any) -> None:
    X = filter_rows(9_001, 17, dtype)
    one = tamis.iterative_filter(X, rule=rule, num_threads=1)
    for threads in (2, 8):
        assert same_filter_result(tamis.iterative_filter(X, rule=rule, num_threads=threads), one)


def test_seeds() -> None:
    X = filter_rows(9_001, 5)
    first = tamis.iterative_filter(X, rule="randomized", seed=3)
    assert same_filter_result(tamis.iterative_filter(X, rule="randomized", seed=3), first)
    for seed in (4, 2**64 - 1):
        other = tamis.iterative_filter(X, rule="randomized", seed=seed)
        assert not np.array_equal(other.scores, first.scores)
        assert np.abs(other.mean - first.mean).max() < 0.1


def test_every_instruction_set_gives_the_same_bits() -> None:
    script = """
        import hashlib, itertools, numpy as np, tamis
        digest = hashlib.sha256()
        rules = ("gaussian_tail", "bounded_covariance", "fixed_fraction", "soft", "randomized")
        for dtype, rule in itertools.product((np.float32, np.float64), rules):
            for n, d in ((40, 1), (300, 33), (67, 301), (5000, 17)):
                X = np.random.default_rng([n, d]).normal(size=(n, d)).astype(dtype)
                X[::10] += 2.0
                for assume in ("none", "scale"):
                    r = tamis.iterative_filter(X, rule=rule, assume=assume)
                    arrays = r.mean, r.weights, r.scores, r.eigenvalues, r.directions, r.scales
                    for array in arrays:
                        digest.update(array.tobytes())
        print(tamis.info()["isa"], digest.hexdigest())
    """
    assert len(outputs_per_isa(script)) == 1


def test_calls_from_many_threads_and_a_forked_child() -> None:
    X = filter_rows(3_000, 17)
    expected = tamis.iterative_filter(X, num_threads=1)
    with ThreadPoolExecutor(8) as executor:
        results = executor.map(lambda _: tamis.iterative_filter(X, num_threads=2), range(16))
        assert all(same_filter_result(result, expected) for result in results)
    child = os.fork()
    if child == 0:
        os._exit(0 if same_filter_result(tamis.iterative_filter(X, num_threads=2), expected) else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


SLOW_CALL = """
    import os, signal, threading, numpy as np, tamis
    # A wrong assumption: 50 rounds, more than 100 passes over the rows
    X = 5.0 * np.random.default_rng(0).normal(size=(60_000, 16))

    options = {"rule": "fixed_fraction", "assume": "identity"}

    def call(rounds=50):
        return tamis.iterative_filter(X, max_rounds=rounds, **options)
"""


def test_signals_are_handled_between_passes() -> None:
    """A handler of Python runs many times during one call, and what it raises ends the call.

    Oracle: a call that never looks runs the handler at most twice, before and after.
    """
    script = (
        SLOW_CALL
        + """
    expected, times = call(3), 0

    def handler(number, frame):
        global times
        times += 1
        if times == limit:
            raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, handler)

    def run_until(most):
        global times, limit
        times, limit, finished = 0, most, False
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        try:
            call()
            finished = True
        except KeyboardInterrupt:
            pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return finished

    finished = run_until(10**9)
    assert finished and times >= 5, times
    assert not run_until(4)
    again = call(3)  # and nothing is left behind
    assert again.weights.tobytes() == expected.weights.tobytes()
    """
    )
    run_python(script)


def test_ctrl_c_ends_a_call() -> None:
    script = (
        SLOW_CALL
        + """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        while True:
            call()
    except KeyboardInterrupt:
        print("interrupted")
    """
    )
    assert run_python(script) == "interrupted\n"
