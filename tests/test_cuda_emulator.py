"""Are the emulator's warps, control flow, memory and atomics right? Small kernels of known results.

Oracles: Python's integers and NumPy; sums are of small integers, so exact in any order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cuda_emulation.probing import Probes, edges, wrapped

pytest_plugins = ["cuda_emulation.fixtures"]

RNG = np.random.default_rng(20240)


# ---- warps and control flow --------------------------------------------------------------------


def test_shuffles(probes: Probes) -> None:
    """Oracle: the lane arithmetic of the CUDA programming guide."""
    values = RNG.integers(0, 10**6, 96).astype(np.int32)
    out = probes.emulator.empty((96, 8), np.int32)
    probes("warps", "shuffles").launch(1, 96, probes.emulator.array(values), out)
    for t, row in enumerate(out.numpy().tolist()):
        lane, base = t % 32, t - t % 32
        sources = [
            5, lane // 8 * 8 + (t + 1) % 8, lane - 3 if lane >= 3 else lane,
            lane - 2 if lane % 16 >= 2 else lane, lane + 7 if lane + 7 < 32 else lane,
            lane + 1 if lane % 4 < 3 else lane, lane ^ 16, lane ^ 3,
        ]  # fmt: skip
        assert row == [int(values[base + source]) for source in sources]


def test_wide_shuffles(probes: Probes) -> None:
    """Oracle: the sum of a warp's integers, exact in double precision."""
    values = RNG.integers(0, 10**6, 96).astype(np.float64)
    out = probes.emulator.empty(96, np.float64)
    probes("warps", "wide_shuffles").launch(1, 96, probes.emulator.array(values), out)
    assert (out.numpy() == values.reshape(3, 32).sum(1).repeat(32)).all()


def test_votes_and_matches(probes: Probes) -> None:
    """Oracle: masks made in Python."""
    values = RNG.integers(0, 7, 96).astype(np.int32)
    values[64:] = 105
    out = probes.emulator.empty((96, 8), np.uint32)
    probes("warps", "votes").launch(1, 96, probes.emulator.array(values), out)
    for t, row in enumerate(out.numpy().tolist()):
        warp = values[t - t % 32 :][:32].tolist()
        mine = warp[t % 32]

        def mask(test: Any, warp: list[int] = warp) -> int:
            return sum(1 << k for k, v in enumerate(warp) if test(v))

        same = len({v // 100 for v in warp}) == 1
        equal = mask(lambda v, mine=mine: v == mine)
        last = sum(warp) if probes.architecture >= 80 else 2**32 - 1
        assert row == [
            mask(lambda v: v > 3), int(max(warp) > 8), 1, equal,
            2**32 - 1 if same else 0, int(same), equal, last,
        ]  # fmt: skip


def test_divergent_loops_meet_again(probes: Probes) -> None:
    """Oracle: the Collatz steps counted in Python; the first half of a warp adds its own up."""
    values = np.arange(1, 97, dtype=np.int32)
    out = probes.emulator.empty((96, 2), np.int32)
    probes("warps", "divergence").launch(1, 96, probes.emulator.array(values), out)

    def steps(v: int) -> int:
        count = 0
        while v != 1:
            v, count = 3 * v + 1 if v % 2 else v // 2, count + 1
        return count

    counts = [steps(v) for v in values.tolist()]
    totals = [sum(counts[t - t % 32 :][:16]) if t % 32 < 16 else -1 for t in range(96)]
    assert out.numpy().tolist() == [list(pair) for pair in zip(counts, totals, strict=True)]


def test_switch(probes: Probes) -> None:
    values = np.arange(96, dtype=np.int32)
    out = probes.emulator.empty(96, np.int32)
    probes("warps", "switches").launch(1, 96, probes.emulator.array(values), out)
    cases = [
        lambda v: 3 * v, lambda v: v ^ 77, lambda v: v * v, lambda v: -v,
        lambda v: v << 3, lambda v: 1000 - v, lambda v: v // 3, lambda v: 42,
    ]  # fmt: skip
    assert out.numpy().tolist() == [cases[v % 8](v) for v in values.tolist()]


def test_calls_of_device_functions(probes: Probes) -> None:
    """Oracle: Horner's rule on small integers, exact in double precision."""
    x = np.arange(96, dtype=np.float64)
    coefficients = np.array([3.0, -1.0, 2.0])
    out = probes.emulator.empty(96, np.float64)
    probes("warps", "calls").launch(
        1, 96, probes.emulator.array(coefficients), 3, probes.emulator.array(x), out
    )

    def choose(a: int, b: int) -> int:
        return a if a > b else b - 1

    once = 3 - x + 2 * x * x
    extra = [choose(t, 40) + choose(40, t) for t in range(96)]
    assert (out.numpy() == 3 - once + extra).all()


def test_barriers_that_vote(probes: Probes) -> None:
    values = RNG.integers(0, 7, 96).astype(np.int32)
    out = probes.emulator.empty(96, np.int32)
    probes("warps", "block_votes").launch(1, 96, probes.emulator.array(values), out)
    assert (out.numpy() == int((values > 3).sum()) * 100 + 10).all()


# ---- memory ------------------------------------------------------------------------------------


def test_vector_loads_and_stores(probes: Probes) -> None:
    emulator = probes.emulator
    a = RNG.standard_normal((33, 4)).astype(np.float32)
    b, c = RNG.standard_normal((33, 2)), edges(np.int16, RNG, 132).reshape(33, 4)
    outs = [emulator.empty(x.shape, x.dtype) for x in (a, b, c)]
    kernel = probes("memory", "vectors")
    kernel.launch(1, 64, *(emulator.array(x) for x in (a, b, c)), *outs, 33)
    assert (outs[0].numpy() == a[:, ::-1]).all()
    assert (outs[1].numpy() == b[:, ::-1]).all()
    assert (outs[2].numpy() == c[:, [1, 0, 3, 2]]).all()
    [launch] = emulator.report().launches
    moved = a.nbytes + b.nbytes + c.nbytes
    assert (launch.read, launch.written) == (moved, moved)
    assert (launch.unique_read, launch.unique_written) == (moved, moved)


def test_module_variables_keep_their_values_between_launches(probes: Probes) -> None:
    """And a reset of the machine brings the initial values back."""
    for _ in range(2):
        probes.emulator.reset(architecture=probes.architecture)
        for before in (7, 12):
            out, counter = probes.emulator.empty(8, np.float32), probes.emulator.empty(1, np.int32)
            probes("memory", "variables").launch(1, 8, out, counter)
            assert out.numpy().tolist() == [1.5, -2.0, 0.25, 8.0] * 2
            assert counter.numpy().tolist() == [before]


def test_local_arrays(probes: Probes) -> None:
    order = RNG.permutation(8).astype(np.int32)
    out = probes.emulator.empty(32, np.int32)
    probes("memory", "local_array").launch(1, 32, probes.emulator.array(order), out)
    for t, got in enumerate(out.numpy().tolist()):
        values = [0] * 8
        for k in range(8):
            values[order[k]] = t * 10 + k
        total = 0
        for k in range(8):
            total = total * 3 + values[(t + k) % 8]
        assert got == wrapped(total, "i4")
    assert probes.emulator.report().launches[0].local > 0


def test_shared_memory_and_generic_addresses(probes: Probes) -> None:
    """Oracle: sums of small integers, exact in single precision."""
    values = RNG.integers(-50, 50, 64).astype(np.float32)
    out = probes.emulator.empty(64, np.float32)
    kernel = probes("memory", "shared_memory")
    kernel.launch(1, 64, probes.emulator.array(values), out, shared=512)
    signs = np.array([1, -1, 1], np.float32)[np.arange(64) % 3]
    assert (out.numpy() == signs * values.sum() + 2 * values[::-1]).all()


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_the_last_block_may_read_what_others_released(probes: Probes, order: int) -> None:
    """No race is reported, in any order of the blocks; the sum of integers is exact."""
    emulator = probes.emulator
    emulator.set_order(order)
    values = RNG.integers(-50, 50, 3001).astype(np.float64)
    partial, total = emulator.empty(9, np.float64), emulator.empty(1, np.float64)
    ticket = emulator.array(np.zeros(1, np.uint32))
    for _ in range(2):  # the ticket is ready for another round
        probes("memory", "last_block").launch(
            9, 128, emulator.array(values), values.size, partial, ticket, total
        )
        assert total.numpy().tolist() == [values.sum()]
    assert ticket.numpy().tolist() == [0]


def test_32_bit_atomics(probes: Probes) -> None:
    emulator = probes.emulator
    values = RNG.integers(-(2**31), 2**31, 300).astype(np.int32)
    out = emulator.array(np.array([0, 2**31 - 1, -(2**31), -1, 0, 0, 0, -1], np.int32))
    un = emulator.array(np.array([0, 0, 0, 2**32 - 1, 5], np.uint32))
    probes("memory", "atomics32").launch(3, 128, emulator.array(values), values.size, out, un)
    wide = values.astype(np.int64)
    exact = [
        wide.sum(), wide.min(), wide.max(), np.bitwise_and.reduce(wide),
        np.bitwise_or.reduce(wide), np.bitwise_xor.reduce(wide), -wide.sum(),
    ]  # fmt: skip
    result, bits = out.numpy().tolist(), un.numpy().tolist()
    assert result[:7] == [wrapped(int(value), "i4") for value in exact]
    unsigned = values.view(np.uint32)
    down = 0
    for _ in range(300):
        down = 10 if down == 0 or down > 10 else down - 1
    assert bits[:4] == [300 % 100, down, unsigned.max(), unsigned.min()]
    assert bits[4] == result[7] + 6  # exactly one thread won


def test_64_bit_and_float_atomics(probes: Probes) -> None:
    emulator = probes.emulator
    values = edges(np.int64, RNG, 300)
    out = emulator.array(np.array([0, 0, 2**64 - 1, 0, 0], np.uint64))
    sn = emulator.array(np.array([2**63 - 1, -(2**63)], np.int64))
    f, d = emulator.array(np.zeros(1, np.float32)), emulator.array(np.zeros(2))
    kernel = probes("memory", "atomics64")
    kernel.launch(3, 128, emulator.array(values), values.size, out, sn, f, d)
    unsigned = values.view(np.uint64).astype(object)
    exact = [
        sum(unsigned) & (2**64 - 1), max(unsigned), min(unsigned),
        int(np.bitwise_xor.reduce(values.view(np.uint64))), 17,
    ]  # fmt: skip
    assert out.numpy().tolist() == exact
    assert sn.numpy().tolist() == [values.min(), values.max()]
    assert f.numpy().tolist() == [75.0]
    remainders = [abs(v) % 8 * (1 if v > 0 else -1) for v in values.tolist()]
    assert d.numpy().tolist() == [sum(remainders), 150.0]
