#include "src/cpu/simd_neon.hpp"
//
#include "src/cpu/wide_neon.hpp"
//
#include "src/cpu/row_products_impl.hpp"
//
#include "src/cpu/sweep_rows_impl.hpp"
