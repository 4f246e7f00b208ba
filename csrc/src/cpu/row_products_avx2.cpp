#include "src/cpu/simd_avx2.hpp"
//
#include "src/cpu/wide_avx2.hpp"
//
#include "src/cpu/row_products_impl.hpp"
//
#include "src/cpu/sweep_rows_impl.hpp"
