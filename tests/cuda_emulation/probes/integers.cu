// Integer arithmetic and bit operations. Each thread writes all results for its pair of operands;
// the oracle is Python's integers (test_cuda_emulator.py), in the same order.
#include <cstdint>

template <class T, class U>
__device__ void arithmetic(const T* a, const T* b, const T* c, T* out, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  const T x = a[i], y = b[i], z = c[i];
  T* r = out + i * 16;
  int k = 0;
  r[k++] = static_cast<T>(U(x) + U(y));
  r[k++] = static_cast<T>(U(x) - U(y));
  r[k++] = static_cast<T>(U(x) * U(y));
  r[k++] = static_cast<T>(U(x) * U(y) + U(z));
  r[k++] = x / y;
  r[k++] = x % y;
  r[k++] = x < y ? x : y;
  r[k++] = x > y ? x : y;
  r[k++] = x & y;
  r[k++] = x | y;
  r[k++] = x ^ y;
  r[k++] = ~x;
  const unsigned shift = static_cast<unsigned>(z) % (8 * sizeof(T));
  r[k++] = static_cast<T>(U(x) << shift);
  r[k++] = x >> shift;
  r[k++] = static_cast<T>(x == y ? 1 : 0);
  r[k++] = static_cast<T>(x <= y ? 1 : 0);
}
#define KERNEL(name, T, U)                                                             \
  extern "C" __global__ void name(const T* a, const T* b, const T* c, T* out, int n) { \
    arithmetic<T, U>(a, b, c, out, n);                                                 \
  }
KERNEL(arithmetic_s16, std::int16_t, std::uint16_t)
KERNEL(arithmetic_u16, std::uint16_t, std::uint16_t)
KERNEL(arithmetic_s32, std::int32_t, std::uint32_t)
KERNEL(arithmetic_u32, std::uint32_t, std::uint32_t)
KERNEL(arithmetic_s64, std::int64_t, std::uint64_t)
KERNEL(arithmetic_u64, std::uint64_t, std::uint64_t)

extern "C" __global__ void bits(const std::uint32_t* a, const std::uint32_t* b, std::uint32_t* out,
                                int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  const std::uint32_t x = a[i], y = b[i], s = y & 31;
  std::uint32_t* r = out + i * 16;
  r[0] = static_cast<std::uint32_t>(__clz(static_cast<int>(x)));
  r[1] = static_cast<std::uint32_t>(__popc(x));
  r[2] = __brev(x);
  asm("prmt.b32 %0, %1, %2, 0x4b71;" : "=r"(r[3]) : "r"(x), "r"(y));  // b: the sign of byte 3
  r[4] = __funnelshift_l(x, y, s);
  r[5] = __funnelshift_r(x, y, s);
  r[6] = __funnelshift_lc(x, y, s + 16);
  r[7] = __umulhi(x, y);
  r[8] = static_cast<std::uint32_t>(__mulhi(static_cast<int>(x), static_cast<int>(y)));
  asm("bfe.u32 %0, %1, %2, 7;" : "=r"(r[9]) : "r"(x), "r"(s));
  asm("bfe.s32 %0, %1, %2, 7;" : "=r"(r[10]) : "r"(x), "r"(s));
  asm("bfi.b32 %0, %1, %2, %3, 9;" : "=r"(r[11]) : "r"(x), "r"(y), "r"(s));
  asm("lop3.b32 %0, %1, %2, %3, 0xca;" : "=r"(r[12]) : "r"(x), "r"(y), "r"(s * 0x01010101u));
  asm("bfind.u32 %0, %1;" : "=r"(r[13]) : "r"(x));
  asm("sad.u32 %0, %1, %2, %3;" : "=r"(r[14]) : "r"(x), "r"(y), "r"(s));
  r[15] = static_cast<std::uint32_t>(__ffs(static_cast<int>(x)));
}

extern "C" __global__ void wide(const std::uint64_t* a, const std::uint64_t* b, std::uint64_t* out,
                                int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  const std::uint64_t x = a[i], y = b[i];
  const auto x32 = static_cast<std::uint32_t>(x), y32 = static_cast<std::uint32_t>(y);
  std::uint64_t* r = out + i * 12;
  r[0] = __umul64hi(x, y);
  r[1] =
      static_cast<std::uint64_t>(__mul64hi(static_cast<long long>(x), static_cast<long long>(y)));
  r[2] = static_cast<std::uint64_t>(__clzll(static_cast<long long>(x)));
  r[3] = static_cast<std::uint64_t>(__popcll(x));
  r[4] = __brevll(x);
  asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(r[5]) : "r"(x32), "r"(y32), "l"(x));
  asm("mad.wide.s32 %0, %1, %2, %3;" : "=l"(r[6]) : "r"(x32), "r"(y32), "l"(x));
  // 128-bit sum and difference by carry
  asm("{ add.cc.u64 %0, %2, %3; addc.u64 %1, 0, 0; }" : "=l"(r[7]), "=l"(r[8]) : "l"(x), "l"(y));
  std::uint32_t low, high;
  asm("{ sub.cc.u32 %0, %2, %3; subc.u32 %1, 0, 0; }" : "=r"(low), "=r"(high) : "r"(x32), "r"(y32));
  r[9] = std::uint64_t{high} << 32 | low;
  asm("{ mad.lo.cc.u32 %0, %2, %3, %2; madc.hi.u32 %1, %2, %3, 0; }"
      : "=r"(low), "=r"(high)
      : "r"(x32), "r"(y32));
  r[10] = std::uint64_t{high} << 32 | low;
  asm("bfe.u64 %0, %1, 13, 40;" : "=l"(r[11]) : "l"(x));
}
