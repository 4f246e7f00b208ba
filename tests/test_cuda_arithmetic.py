"""Is the emulator's arithmetic right? Small kernels whose results are known without it.

Oracles: Python's integers and fractions (exact), NumPy, ``math``; each named at its test.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from cuda_emulation.probing import Probes, edges, wrapped

pytest_plugins = ["cuda_emulation.fixtures"]

RNG = np.random.default_rng(20240)


# ---- integers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["s16", "u16", "s32", "u32", "s64", "u64"])
def test_integer_arithmetic(probes: Probes, name: str) -> None:
    """Oracle: Python's integers; division truncates as in C."""
    dtype = np.dtype(("i" if name[0] == "s" else "u") + str(int(name[1:]) // 8))
    a, b, c = edges(dtype, RNG), edges(dtype, RNG)[::-1].copy(), edges(dtype, RNG)
    b[b == 0] = 3
    if name[0] == "s":
        b[b == -1] = 5  # the quotient of the least integer by -1 is undefined
    b[1:3] = a[1:3]
    result = probes.rows("integers", f"arithmetic_{name}", 16, dtype, a, b, c)
    for row, x, y, z in zip(result.tolist(), a.tolist(), b.tolist(), c.tolist(), strict=True):
        quotient = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        shift = wrapped(z, "u4") % (8 * dtype.itemsize)
        exact = [
            x + y, x - y, x * y, x * y + z, quotient, x - y * quotient, min(x, y), max(x, y),
            x & y, x | y, x ^ y, ~x, x << shift, x >> shift, int(x == y), int(x <= y),
        ]  # fmt: skip
        assert row == [wrapped(value, dtype) for value in exact]


def test_bit_operations(probes: Probes) -> None:
    """Oracle: Python's integers and the definitions in the PTX ISA."""
    a, b = edges(np.uint32, RNG), edges(np.uint32, RNG)
    a[4] = 0
    result = probes.rows("integers", "bits", 16, np.uint32, a, b)
    for row, x, y in zip(result.tolist(), a.tolist(), b.tolist(), strict=True):
        s, m = y & 31, (1 << 32) - 1
        pair, signed_x, signed_y = y << 32 | x, wrapped(x, "i4"), wrapped(y, "i4")
        by = list(pair.to_bytes(8, "little"))
        field, width = x >> s & 127, min(7, 32 - s)
        sign = x >> min(s + 6, 31) & 1
        insert = ((1 << 9) - 1) << s & m
        t = s * 0x01010101
        exact = [
            32 - x.bit_length(), x.bit_count(), int(f"{x:032b}"[::-1], 2),
            by[1] | by[7] << 8 | (255 if by[3] & 128 else 0) << 16 | by[4] << 24,
            (pair << s & (1 << 64) - 1) >> 32, pair >> s & m,
            (pair << min(s + 16, 32) & (1 << 64) - 1) >> 32, x * y >> 32,
            signed_x * signed_y >> 32, field,
            (field | -(sign << width) & m) & m,
            y & ~insert | x << s & insert, (x & y) | (~x & t) & m,
            m if x == 0 else x.bit_length() - 1, abs(x - y) + s,
            (x & -x).bit_length(),
        ]  # fmt: skip
        assert row == [value & m for value in exact]


def test_wide_integers_and_carries(probes: Probes) -> None:
    """Oracle: Python's integers."""
    a, b = edges(np.uint64, RNG), edges(np.uint64, RNG)
    result = probes.rows("integers", "wide", 12, np.uint64, a, b)
    m64, m32 = (1 << 64) - 1, (1 << 32) - 1
    for row, x, y in zip(result.tolist(), a.tolist(), b.tolist(), strict=True):
        x32, y32 = x & m32, y & m32
        total = x + y
        exact = [
            x * y >> 64, wrapped(x, "i8") * wrapped(y, "i8") >> 64,
            64 - x.bit_length(), x.bit_count(), int(f"{x:064b}"[::-1], 2),
            x32 * y32 + x, wrapped(x32, "i4") * wrapped(y32, "i4") + x,
            total & m64, total >> 64, x32 - y32, x32 * y32 + x32, x >> 13 & (1 << 40) - 1,
        ]  # fmt: skip
        assert row == [value & m64 for value in exact]


# ---- floating point ----------------------------------------------------------------------------


def rounded(value: Fraction, digits: int, mode: str = "nearest") -> float:
    """``value`` to ``digits`` binary digits; far from overflow and subnormals."""
    if value == 0:
        return 0.0
    exponent = math.floor(math.log2(abs(value))) - digits + 2
    scale = Fraction(2) ** exponent
    while abs(value) / scale < 2 ** (digits - 1):
        scale /= 2
    while abs(value) / scale >= 2**digits:
        scale *= 2
    steps = value / scale
    whole = {"nearest": round, "down": math.floor, "up": math.ceil, "zero": math.trunc}[mode](steps)
    return float(whole * scale)


@pytest.mark.parametrize(("name", "digits"), [("doubles", 53), ("floats", 24)])
def test_float_arithmetic_is_correctly_rounded(probes: Probes, name: str, digits: int) -> None:
    """Oracle: exact fractions, rounded once. Halfway cases of fma among them."""
    dtype = np.float64 if digits == 53 else np.float32
    a, b, c = (RNG.standard_normal(60).astype(dtype) for _ in range(3))
    half = digits // 2
    a[:2], b[:2], c[:2] = 1 + 2.0**-half, 1 - 2.0**-half, -1  # the product's tail decides
    a[2], b[2], c[2] = 1 + 2.0 ** (1 - digits), 1 + 2.0 ** (1 - digits), 2.0 ** (-3 * digits + 2)
    columns = probes.rows("floats", name, 14, dtype, a, b, c)
    for row, x, y, z in zip(columns.tolist(), a.tolist(), b.tolist(), c.tolist(), strict=True):
        p, q, s = Fraction(x), Fraction(y), Fraction(z)
        exact = [p * q + s, p + q, p * q, p / q]
        assert row[:4] == [rounded(value, digits) for value in exact]
        assert row[5:9] == [min(x, y), max(x, y), -x, math.copysign(x, y)]
        directed = [(p + q, "down"), (p + q, "up"), (p * q, "zero")]
        assert row[9:12] == [rounded(value, digits, mode) for value, mode in directed]
        assert row[12] == (x if x < y else z)
        # |r - sqrt(x)| <= half an ulp, checked on squares
        ulp = Fraction(math.ldexp(1, math.frexp(row[4])[1] - digits))
        assert (Fraction(row[4]) - ulp / 2) ** 2 <= abs(p) <= (Fraction(row[4]) + ulp / 2) ** 2
        assert row[13] == (rounded(1 / q, digits) if digits == 53 else min(max(x, 0.0), 1.0))


def test_nan_in_minimum_and_maximum(probes: Probes) -> None:
    """One NaN loses; two give a NaN. In single precision it is the canonical one."""
    nan, one = np.float32(np.nan), np.float32(1)
    a, b = np.array([nan, one, nan]), np.array([one, nan, nan])
    result = probes.rows("floats", "floats", 14, np.float32, a, b, a)
    assert result[:2, 5].tolist() == [1, 1]
    assert result[:2, 6].tolist() == [1, 1]
    assert np.isnan(result[2, 5:7]).all()
    assert result[2, 1].view(np.uint32) == 0x7FFFFFFF


def test_float_to_integer_conversions(probes: Probes) -> None:
    """Oracle: Python's rounding, then the nearest number in range; NaN gives 0."""
    a = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.7, 1e5 + 0.25, -3e9, 3e9, 7e9, 1e19, -1e19, np.nan])
    result = probes.rows("floats", "to_integers", 10, np.int64, a)

    def limited(value: float, low: int, high: int) -> int:
        return 0 if math.isnan(value) else int(min(max(value, low), high))

    i64, i32 = (-(2**63), 2**63 - 1), (-(2**31), 2**31 - 1)
    for row, x in zip(result.tolist(), a.tolist(), strict=True):
        f = float(np.float32(x))
        finite = not math.isnan(x)
        near, down, up = (float(g(x)) if finite else x for g in (np.rint, np.floor, np.ceil))
        exact = [
            limited(near, *i64), limited(x, *i64), limited(down, *i64), limited(up, *i32),
            limited(float(np.rint(f)), *i32), limited(f, *i32),
            limited(float(np.rint(f)), 0, 2**32 - 1), wrapped(limited(x, 0, 2**64 - 1), "i8"),
            limited(near, *i64), limited(float(np.floor(f)), *i64),
        ]  # fmt: skip
        assert row == exact


def test_integer_to_float_conversions(probes: Probes) -> None:
    """Oracle: exact fractions, rounded once."""
    a = edges(np.int64, RNG)
    a[4] = 0
    result = probes.rows("floats", "from_integers", 6, np.float64, a)
    for row, x in zip(result.tolist(), a.tolist(), strict=True):
        exact = [
            rounded(Fraction(x), 53), rounded(Fraction(x), 24), rounded(Fraction(x), 24, "down"),
            rounded(Fraction(wrapped(x, "i4")), 24), rounded(Fraction(wrapped(x, "u8")), 24),
            float(wrapped(x, "i1")),
        ]  # fmt: skip
        assert row == exact


def test_16_bit_floats(probes: Probes) -> None:
    """Oracle: NumPy's float16; bfloat16 by rounding the upper half of the float32 to even."""
    emulator = probes.emulator
    a = np.concatenate([RNG.standard_normal(500) * 10.0 ** RNG.integers(-9, 6, 500)]).astype("f4")
    a[:6] = [0, -0.0, 65520, 65519, 2**-25, np.inf]
    half, bfloat = emulator.empty(a.size, np.uint16), emulator.empty(a.size, np.uint16)
    back = emulator.empty((a.size, 2), np.float32)
    kernel = probes("floats", "halves")
    kernel.launch(8, 64, emulator.array(a), half, bfloat, back, a.size)
    with np.errstate(over="ignore"):
        assert (half.numpy() == a.astype(np.float16).view(np.uint16)).all()
        assert (back.numpy()[:, 0] == a.astype(np.float16)).all()
    bits = a.view(np.uint32).astype(np.uint64)
    upper = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    assert (bfloat.numpy() == upper).all()
    assert (back.numpy()[:, 1].view(np.uint32) == upper.astype(np.uint32) << 16).all()


def test_packed_halves(probes: Probes) -> None:
    """Oracle: NumPy's float16; fma in double, which holds the product exactly."""
    emulator = probes.emulator
    a, b = (RNG.standard_normal((40, 2)).astype(np.float16) for _ in range(2))
    out = emulator.empty((40, 3, 2), np.float16)
    probes("floats", "half_pairs").launch(1, 64, emulator.array(a), emulator.array(b), out, 40)
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    exact = np.stack([a + b, a * b, (wide_a * wide_b + wide_a).astype(np.float16)], axis=1)
    assert out.numpy().tobytes() == exact.tobytes()


def test_double_precision_functions(probes: Probes) -> None:
    """Oracle: ``math``. The CUDA manual promises at most 2 ulp for these; 4 are allowed."""
    a = np.concatenate([RNG.standard_normal(40), [30.0, -30.0, 1e5, 0.01]])
    result = probes.rows("floats", "functions", 8, np.float64, a)
    for row, x in zip(result.tolist(), a.tolist(), strict=True):
        y = abs(x)
        exact = [
            math.exp(x) if x < 700 else math.inf, math.log(y), math.sin(x), y**0.3,
            math.cbrt(x) if hasattr(math, "cbrt") else math.copysign(y ** (1 / 3), x),
            1 / math.sqrt(y), math.hypot(x, 2.0), math.erf(x),
        ]  # fmt: skip
        for got, want in zip(row, exact, strict=True):
            assert got == want or abs(got - want) <= 4 * math.ulp(want)
