// The product with many columns of V (9 to 32) in float32, where rows have up to 512 columns.
//
// A warp has 64 columns of X to itself. Of a tile of 8 rows it makes its part of the projections
// (each lane: 2 columns of V along 32 of X, V in registers), and, one tile later, when the parts of
// all warps have been added, the sums of projection times row (each lane: 8 x 8 of them, in
// registers). So a block meets once a tile, and a number from shared memory serves 8 products.
#pragma once

#include "src/cuda/product_parts.cuh"

namespace tamis::cuda {

/// How a launch of many_product_kernel is laid out.
struct ManyShape {
  static constexpr int kColumns = 2 * kWarp;  ///< of X, a warp's
  static constexpr int kVectors = kWarp;      ///< columns of V; those from k on are zero
  static constexpr int kRows = 8;             ///< of a tile
  static constexpr int kZ = kRows * kVectors;
  static constexpr int kMostWarps = 8;
  static constexpr int kMostThreads = kMostWarps * kWarp;
  static constexpr int kAtOnce = kWeightsAtOnce;  ///< rows whose places are noted together
  int k;
  int warps;
  std::int64_t rows_per_block = 0;

  ManyShape(std::int64_t d, std::int64_t vectors)
      : k(static_cast<int>(vectors)), warps(static_cast<int>((d + kColumns - 1) / kColumns)) {}
  static constexpr int tile() { return kRows; }
  __host__ __device__ int threads() const { return warps * kWarp; }
  __host__ __device__ int width() const { return warps * kColumns; }
};

/// Shared memory of a block. What is there twice is written for one tile and read for another.
struct ManyShared {
  const float** at;
  double* mass;
  double* sums;  ///< one a thread
  float* tiles;  ///< 2 * kRows rows minus the shift
  float* parts;  ///< 2 * warps * kZ parts of projections
  float* z;      ///< 2 * kZ: weight times projection
  float* shift;  ///< by column
  float* weights;
  float* offset;  ///< (shift - mean) . v

  static std::size_t bytes(const ManyShape& s) {
    const int floats =
        2 * (s.kRows * s.width() + s.warps * s.kZ + s.kZ) + s.width() + s.kAtOnce + s.kVectors;
    return s.kAtOnce * (sizeof(float*) + sizeof(double)) + s.threads() * sizeof(double) +
           static_cast<std::size_t>(floats) * sizeof(float);
  }
  __device__ ManyShared(unsigned char* memory, const ManyShape& s) {
    at = reinterpret_cast<const float**>(memory);
    mass = reinterpret_cast<double*>(at + s.kAtOnce);
    sums = mass + s.kAtOnce;
    tiles = reinterpret_cast<float*>(sums + s.threads());
    parts = tiles + 2 * s.kRows * s.width();
    z = parts + 2 * s.warps * s.kZ;
    shift = z + 2 * s.kZ;
    weights = shift + s.width();
    offset = weights + s.kAtOnce;
  }
};

template <bool kVector>
__global__ void __launch_bounds__(ManyShape::kMostThreads, 1)
    many_product_kernel(Product<float> task, ManyShape shape, BlockSums sums,
                        ProductStatus* status) {
  constexpr int kRows = ManyShape::kRows;
  constexpr int kVectors = ManyShape::kVectors;
  constexpr int kZ = ManyShape::kZ;
  extern __shared__ __align__(16) unsigned char memory[];
  const ManyShared shared(memory, shape);
  const int d = static_cast<int>(task.rows.d);
  const int width = shape.width();
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarp;
  const int warp = thread / kWarp;
  const int base = warp * ManyShape::kColumns;

  // For projections: columns base + 8 q + 4 half .. + 3 of X, and two columns of V from `pair` on.
  const int half = lane / 16;
  const int pair = lane % 16 * 2;
  float v[8][4][2];
#pragma unroll
  for (int q = 0; q < 8; ++q) {
#pragma unroll
    for (int o = 0; o < 4; ++o) {
      const int j = base + 8 * q + 4 * half + o;
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int c = pair + e;
        v[q][o][e] =
            j < d && c < shape.k
                ? static_cast<float>(task.v[j * task.element_stride + c * task.vector_stride])
                : 0.0f;
      }
    }
    __syncthreads();  // not all loads at once: registers
  }
  const auto project = [&](const float* tile, float* parts) {
    float sum[kRows][2] = {};
#pragma unroll
    for (int q = 0; q < 8; ++q) {
      __syncwarp();  // here and below: loads stay near their use, or registers would spill
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        float x[4];
        load_vector(tile + r * width + base + 8 * q + 4 * half, x);
#pragma unroll
        for (int o = 0; o < 4; ++o) {
#pragma unroll
          for (int e = 0; e < 2; ++e) sum[r][e] = mul_add(x[o], v[q][o][e], sum[r][e]);
        }
      }
    }
    // The two halves meet: each ends with half of the rows.
    float* to = parts + warp * kZ + half * (kZ / 2) + pair;
#pragma unroll
    for (int r = 0; r < kRows / 2; ++r) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const float low = sum[r][e];
        const float high = sum[r + kRows / 2][e];
        to[r * kVectors + e] =
            (half == 1 ? high : low) + __shfl_xor_sync(kAllLanes, half == 1 ? low : high, 16);
      }
    }
  };
  const auto whole = [&](const float* parts, int e) {
    float sum = parts[e];
#pragma unroll 1
    for (int w = 1; w < shape.warps; ++w) sum += parts[w * kZ + e];
    return sum;
  };

  // shift - mean is projected like a row.
  for (int j = thread; j < width; j += blockDim.x) {
    const float at = j < d ? shift_of(task, j) : 0.0f;
    const double off = task.mean != nullptr && j < d ? static_cast<double>(at) - task.mean[j] : 0.0;
    shared.shift[j] = at;
    shared.tiles[j] = static_cast<float>(off);
#pragma unroll
    for (int r = 1; r < kRows; ++r) shared.tiles[r * width + j] = 0.0f;
  }
  __syncthreads();
  project(shared.tiles, shared.parts);
  __syncthreads();
  if (thread < kVectors) shared.offset[thread] = whole(shared.parts, thread);

  // For sums: columns base + column and + kWarp, four each, and eight columns of V from `eight` on.
  const int eight = lane % 4 * 8;
  const int column = base + lane / 4 * 4;
  float y[8][2][4] = {};
  float y_mean[2] = {};  // columns 2 * thread and behind
  const auto multiply = [&](const float* tile, const float* z, const float* weights) {
#pragma unroll
    for (int i0 = 0; i0 < 8; i0 += 4) {
      __syncwarp();
      float part[4][2][4] = {};  // by itself first, so that errors grow with tiles
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r % 2 == 0) __syncwarp();
        float four[4];
        load_vector(z + r * kVectors + eight + i0, four);
#pragma unroll
        for (int b = 0; b < 2; ++b) {
          float x[4];
          load_vector(tile + r * width + column + b * kWarp, x);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
#pragma unroll
            for (int o = 0; o < 4; ++o) part[i][b][o] = mul_add(four[i], x[o], part[i][b][o]);
          }
        }
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int b = 0; b < 2; ++b) {
#pragma unroll
          for (int o = 0; o < 4; ++o) y[i0 + i][b][o] += part[i][b][o];
        }
      }
    }
    if (task.mean != nullptr) return;
    float part[2] = {};
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float x[2];
      load_pair(tile + r * width + 2 * thread, x);
#pragma unroll
      for (int o = 0; o < 2; ++o) part[o] = mul_add(weights[r], x[o], part[o]);
    }
#pragma unroll
    for (int o = 0; o < 2; ++o) y_mean[o] += part[o];
  };

  // For reading: four columns of every other row.
  const int own = base + lane % 16 * 4;
  float ahead[kRows / 2][4];
  const auto read_ahead = [&](const float* const* at) {
#pragma unroll
    for (int r = 0; r < kRows / 2; ++r) {
      const float* from = at[2 * r + half] + own;
      if constexpr (kVector) {
#pragma unroll
        for (int o = 0; o < 4; ++o) ahead[r][o] = 0.0f;
        if (own < d) load_vector(from, ahead[r]);
      } else {
#pragma unroll
        for (int o = 0; o < 4; ++o) ahead[r][o] = own + o < d ? from[o] : 0.0f;
      }
    }
  };
  const auto put_down = [&](float* tile) {
    float shift[4];
    load_vector(shared.shift + own, shift);
#pragma unroll
    for (int r = 0; r < kRows / 2; ++r) {
#pragma unroll
      for (int o = 0; o < 4; ++o) ahead[r][o] -= shift[o];
      store_vector(tile + (2 * r + half) * width + own, ahead[r]);
    }
    __syncwarp();
  };

  double* slot = sums.mine();
  float z_sum = 0.0f;  // on column `lane`; it only makes up for the rounding of the mean
  bool add = false;
  const std::int64_t begin = blockIdx.x * shape.rows_per_block;
  const int count = static_cast<int>(min(task.rows.count - begin, shape.rows_per_block));
  int summed = 0;  // rows since sums were last flushed
  for (int first = 0; first < count; first += ManyShape::kAtOnce) {
    __syncthreads();
    note_rows(task, begin + first, count - first, ManyShape::kAtOnce, 0, shared.shift, first > 0,
              shared.at, shared.weights, shared.mass, status);
    __syncthreads();
    const int left = min(count - first, ManyShape::kAtOnce);
    const int tiles = (left + kRows - 1) / kRows;
    read_ahead(shared.at);
    put_down(shared.tiles);
#pragma unroll 1
    for (int t = 0; t <= tiles; ++t) {
      const int here = t % 2;  // this tile's projections, the last one's sums
      if (t + 1 < tiles) read_ahead(shared.at + (t + 1) * kRows);
      float* parts = shared.parts + here * shape.warps * kZ;
      if (t < tiles) project(shared.tiles + here * kRows * width, parts);
      __syncthreads();
      if (t < tiles) {
#pragma unroll 1
        for (int e = thread; e < kZ; e += blockDim.x) {
          const float w = shared.weights[t * kRows + e / kVectors];
          const float z = (whole(parts, e) + shared.offset[lane]) * w;
          shared.z[here * kZ + e] = z;
          z_sum += z;
        }
      }
      const int there = 1 - here;
      float* tile = shared.tiles + there * kRows * width;
      if (t > 0) multiply(tile, shared.z + there * kZ, shared.weights + (t - 1) * kRows);
      __syncwarp();
      if (t + 1 < tiles) put_down(tile);
    }
    summed += left;
    if (first + ManyShape::kAtOnce < count && summed < kRowsAtOnce) continue;
    summed = 0;
    const auto flush = [&](float& sum, int c, int j) {
      if (j < d) {
        double* to = slot + static_cast<std::int64_t>(c) * d + j;
        *to = add ? *to + static_cast<double>(sum) : static_cast<double>(sum);
      }
      sum = 0.0f;
    };
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (eight + i >= shape.k) continue;
#pragma unroll
      for (int b = 0; b < 2; ++b) {
#pragma unroll
        for (int o = 0; o < 4; ++o) flush(y[i][b][o], eight + i, column + b * kWarp + o);
      }
    }
    if (task.mean == nullptr) {
#pragma unroll
      for (int o = 0; o < 2; ++o) flush(y_mean[o], shape.k, 2 * thread + o);
    }
    add = true;
  }

  // behind the columns: the sums of z, then that of the weights
  slot += static_cast<std::int64_t>(shape.k + (task.mean == nullptr ? 1 : 0)) * d;
  __syncthreads();
  double weight = 0.0;
  for (int t = thread; t < ManyShape::kAtOnce; t += blockDim.x) weight += shared.mass[t];
  weight = block_sum(weight, shared.sums);
  __syncthreads();
  shared.sums[thread] = static_cast<double>(z_sum);
  __syncthreads();
  if (thread < shape.k) {
    double sum = 0.0;
    for (int t = thread; t < static_cast<int>(blockDim.x); t += kWarp) sum += shared.sums[t];
    slot[thread] = sum;
  }
  if (thread == 0) slot[shape.k] = weight;
  if (add_up(sums)) finish_product(task, sums.totals, shared.sums, status);
}

/// Has the kernel room for such a product?
inline bool many_product_fits(std::int64_t d, std::int64_t k) {
  return k > kSlice && d <= ManyShape::kMostWarps * ManyShape::kColumns;
}

/// Enqueues it.
inline void launch_many_product(const Product<float>& product, const ManyShape& shape,
                                const BlockSums& sums, ProductStatus* status, const Call& call) {
  const auto launch = [&](auto kernel) {
    const std::size_t bytes = ManyShared::bytes(shape);
    if (bytes > std::size_t{48} << 10) {  // more than a kernel has unasked
      call.check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                      cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(bytes)),
                 "cudaFuncSetAttribute");
    }
    kernel<<<static_cast<unsigned>(sums.blocks), static_cast<unsigned>(shape.threads()), bytes,
             call.stream>>>(product, shape, sums, status);
    call.launched();
  };
  if (product.rows.vectors<4>()) return launch(many_product_kernel<true>);
  launch(many_product_kernel<false>);
}

}  // namespace tamis::cuda
