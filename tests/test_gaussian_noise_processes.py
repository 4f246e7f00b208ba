"""gaussian_noise: instruction sets, thread counts, forks, threads, signals.

Oracle: the same call on one thread of this process, whose values test_gaussian_noise.py checks.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tamis

SIGMA = 0.37
TIMEOUT = 120  # seconds; a hang is what several tests look for


def ramp(*shape: int) -> NDArray[Any]:
    return (
        ((np.arange(np.prod(shape, dtype=int)) % 257) / 256 - 0.5).reshape(shape).astype(np.float32)
    )


def noise(x: Any, n: int, sigma: float = SIGMA, **arguments: Any) -> Any:
    return tamis.gaussian_noise(x, n, sigma, **{"seed": 1, **arguments})


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# ---- environment -------------------------------------------------------------------------------


def run_python(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


BLOCK = """
    import hashlib, numpy as np, tamis
    x = np.arange(3001, dtype=np.float32) / 3001
    digest = hashlib.sha256()
    for dtype in ("float32", "float16"):
        for d in (1, 9, 33, 3001):
            out = tamis.gaussian_noise(x[:d], 17, 0.5, seed=2**63 + 5, image=7, dtype=dtype)
            digest.update(out.tobytes())
    print(tamis.info()["isa"], digest.hexdigest())
"""


def test_every_instruction_set_gives_the_same_bits() -> None:
    digests = set()
    for isa in tamis.info()["isas_available"]:
        result = run_python(BLOCK, TAMIS_FORCE_ISA=isa)
        assert result.returncode == 0, result.stderr
        ran, digest = result.stdout.split()
        assert ran == isa  # the forced one is the one that ran
        digests.add(digest)
    assert len(digests) == 1


def test_an_instruction_set_that_cannot_run_is_an_error() -> None:
    info = tamis.info()
    missing = [isa for isa in info["isas_built"] if isa not in info["isas_available"]]
    for isa in ["sse9", "AVX2", *missing]:
        result = run_python(BLOCK, TAMIS_FORCE_ISA=isa)
        assert result.returncode == 1
        last_line = result.stderr.splitlines()[-1]
        assert last_line.startswith("ValueError: [tamis] expected TAMIS_FORCE_ISA to be one of {")
        assert all(name in last_line for name in (*info["isas_available"], f"'{isa}'"))


@pytest.mark.parametrize("variable", ["TAMIS_NUM_THREADS", "OMP_NUM_THREADS"])
@pytest.mark.parametrize("value", ["many", "0", "-2", "2.5", "2x", "99999999999999"])
def test_a_thread_count_that_is_none(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.delenv("TAMIS_NUM_THREADS", raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"{variable} to be a positive integer, got '{value}'"):
        noise(ramp(3), 2)
    noise(ramp(3), 2, num_threads=1)  # an argument needs no environment


def test_thread_counts_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = noise(ramp(3001), 31, num_threads=1)
    monkeypatch.setenv("TAMIS_NUM_THREADS", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "5,3")
    assert tamis.info()["num_threads"] == 5
    assert same_bits(noise(ramp(3001), 31), expected)
    monkeypatch.setenv("TAMIS_NUM_THREADS", "3")
    assert tamis.info()["num_threads"] == 3
    assert same_bits(noise(ramp(3001), 31), expected)


# ---- processes, threads, signals ---------------------------------------------------------------

WARM_POOL = """
    import multiprocessing, os, signal, sys, warnings
    import numpy as np, tamis

    # Python 3.12 and later warn of any fork beside threads; this one is what is tested.
    warnings.simplefilter("ignore", DeprecationWarning)
    x = np.zeros(3001, np.float32)

    def work(seed):
        signal.alarm(60)  # a child that hangs dies
        return tamis.gaussian_noise(x, 200, 1.0, seed=seed, num_threads=3).tobytes()

    expected = [work(seed) for seed in range(8)]  # starts the pool's threads
"""


def test_a_forked_child_computes_on_its_own_threads() -> None:
    result = run_python(
        WARM_POOL
        + """
    for seed in range(8):
        child = os.fork()
        if child == 0:
            os._exit(0 if work(seed) == expected[seed] else 3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert work(seed) == expected[seed]  # and the parent's pool still serves
    """
    )
    assert result.returncode == 0, result.stderr


def test_a_fork_while_other_threads_compute() -> None:
    result = run_python(
        WARM_POOL
        + """
    import threading
    stop = threading.Event()

    def keep_busy():
        while not stop.is_set():
            work(0)

    threads = [threading.Thread(target=keep_busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    codes = []
    for seed in range(8):
        child = os.fork()
        if child == 0:
            os._exit(0 if work(seed) == expected[seed] else 3)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    stop.set()
    for thread in threads:
        thread.join()
    assert codes == [0] * 8, codes
    """
    )
    assert result.returncode == 0, result.stderr


def test_a_forked_multiprocessing_pool() -> None:
    result = run_python(
        WARM_POOL
        + """
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map_async(work, range(8)).get(60) == expected
    """
    )
    assert result.returncode == 0, result.stderr


def test_calls_from_eight_threads_at_once() -> None:
    x = ramp(3001)
    expected = [noise(x, 40, seed=seed, num_threads=1) for seed in range(32)]
    with ThreadPoolExecutor(8) as executor:
        results = list(executor.map(lambda seed: noise(x, 40, seed=seed, num_threads=2), range(32)))
    assert all(same_bits(a, b) for a, b in zip(results, expected, strict=True))


def test_other_threads_run_meanwhile() -> None:
    """The interpreter lock is released: with forced switches off, the count can move only then."""
    x, out = np.zeros(3001, np.float32), np.empty((1000, 3001), np.float32)
    count, stop = 0, threading.Event()

    def keep_counting() -> None:
        nonlocal count
        while not stop.wait(0.0001):
            count += 1

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=keep_counting)
    sys.setswitchinterval(1000.0)
    try:
        thread.start()
        moved = False
        for _ in range(1000):
            before = count
            noise(x, 1000, out=out, num_threads=1)
            moved = count > before
            if moved:
                break
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        thread.join()
    assert moved


def test_ctrl_c_ends_a_loop_of_calls() -> None:
    script = """
        import signal, numpy as np, tamis
        signal.signal(signal.SIGINT, signal.default_int_handler)
        x = np.zeros(3001, np.float32)
        print("ready", flush=True)
        while True:
            tamis.gaussian_noise(x, 200, 1.0, seed=0, num_threads=2)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert process.returncode == -signal.SIGINT
