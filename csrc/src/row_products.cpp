// The dispatch of the row kernels, and the first pass that is made of them.
#include "src/detail/row_products_backend.hpp"

#include "src/detail/row_passes.hpp"

namespace tamis::detail {

template <class T>
const RowKernels<T>& row_kernels() {
#define TAMIS_KERNELS(isa)                                                                        \
  static constexpr RowKernels<T> kernels{                                                         \
      cpu::isa::project, cpu::isa::distances2,         cpu::isa::accumulate, cpu::isa::move_sums, \
      cpu::isa::measure, cpu::isa::accumulate_and_add, cpu::isa::judge};                          \
  return kernels;
  switch (active()) {
#define TAMIS_CASE(isa) \
  case Isa::isa: {      \
    TAMIS_KERNELS(isa)  \
  }
    TAMIS_FOR_EACH_ISA(TAMIS_CASE)
#undef TAMIS_CASE
    default: {
      TAMIS_KERNELS(baseline)
    }
  }
#undef TAMIS_KERNELS
}

Moments add_moments(const std::vector<MomentSums>& sums, const double* centre, std::int64_t d) {
  Moments out;
  out.mean.assign(static_cast<std::size_t>(d), 0.0);
  for (const MomentSums& s : sums) {
    for (std::size_t j = 0; j < out.mean.size(); ++j) out.mean[j] += s.shift[j];
    out.trace += s.square;
    out.mass += s.mass;
  }
  double moved2 = 0.0;
  for (std::size_t j = 0; j < out.mean.size(); ++j) {
    const double moved = out.mean[j] / out.mass;
    moved2 += moved * moved;
    out.mean[j] = centre[j] + moved;
  }
  out.trace = std::max(out.trace / out.mass - moved2, 0.0);
  if (!std::isfinite(moved2)) out.trace = moved2;  // max() would hide it
  return out;
}

template <class T>
Moments row_moments(const Rows<T>& rows, const T* weights, const T* centre, int num_threads) {
  const auto& kernels = row_kernels<T>();
  const auto stride = static_cast<std::size_t>(padded<T>(rows.d));
  const Chunks chunks(rows.count, static_cast<std::int64_t>(stride) * 8);
  std::vector<MomentSums> sums(static_cast<std::size_t>(chunks.count));
  parallel_for(chunks.count, num_threads, [&](std::int64_t c) {
    MomentSums& out = sums[static_cast<std::size_t>(c)];
    out.shift.assign(stride, 0.0);
    Aligned<T> y(stride, T(0));
    const T* pointers[kFlush];
    T w[kFlush];
    T square[kFlush];
    const int tile = tile_rows<T>(rows.d);
    const std::int64_t ahead = ahead_of(rows);
    const std::int64_t end = std::min(rows.count, (c + 1) * chunks.rows);
    for (std::int64_t block = c * chunks.rows; block < end; block += kFlush) {
      int count = 0;
      for (std::int64_t i = block; i < std::min(end, block + kFlush); ++i) {
        const T wi = weights == nullptr ? T(1) : weights[rows.number(i)];
        if (!(wi > T(0))) continue;
        pointers[count] = rows[i];
        w[count++] = wi;
      }
      for (int t = 0; t < count; t += tile) {
        RowTile<T> part{pointers + t, std::min(tile, count - t), rows.d, {ahead, 0}};
        kernels.distances2(part, centre, square + t);
        part.ahead = {0, ahead};
        kernels.accumulate(part, centre, w + t, 1, y.data());
      }
      for (int t = 0; t < count; ++t) {
        out.square += static_cast<double>(w[t]) * static_cast<double>(square[t]);
        out.mass += static_cast<double>(w[t]);
      }
      kernels.move_sums(y.data(), static_cast<std::int64_t>(stride), out.shift.data());
    }
  });
  std::vector<double> about(static_cast<std::size_t>(rows.d));
  for (std::size_t j = 0; j < about.size(); ++j) about[j] = static_cast<double>(centre[j]);
  return add_moments(sums, about.data(), rows.d);
}

template <class T>
Aligned<T> near_mean(const Rows<T>& rows, const T* weights, std::int64_t look) {
  std::vector<double> sum(static_cast<std::size_t>(rows.d), 0.0);
  double seen = 0.0;
  const std::int64_t step = std::max<std::int64_t>(rows.count / look, 1);
  for (std::int64_t i = 0; i < rows.count; i += step) {
    const T w = weights == nullptr ? T(1) : weights[rows.number(i)];
    if (!(w > T(0))) continue;
    const T* x = rows[i];
    for (std::size_t j = 0; j < sum.size(); ++j) {
      sum[j] += static_cast<double>(w) * static_cast<double>(x[j]);
    }
    seen += static_cast<double>(w);
  }
  Aligned<T> out(static_cast<std::size_t>(padded<T>(rows.d)), T(0));
  for (std::size_t j = 0; j < sum.size(); ++j) {
    const T near = static_cast<T>(seen > 0.0 ? sum[j] / seen : 0.0);
    out[j] = std::isfinite(near) ? near : T(0);
  }
  return out;
}

#define TAMIS_INSTANTIATE(T)                                             \
  template Moments row_moments(const Rows<T>&, const T*, const T*, int); \
  template Aligned<T> near_mean(const Rows<T>&, const T*, std::int64_t);
TAMIS_INSTANTIATE(float)
TAMIS_INSTANTIATE(double)
#undef TAMIS_INSTANTIATE

template const RowKernels<float>& row_kernels();
template const RowKernels<double>& row_kernels();

}  // namespace tamis::detail
