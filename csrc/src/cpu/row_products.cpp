#include "src/cpu/simd_baseline.hpp"
//
#include "src/cpu/wide_baseline.hpp"
//
#include "src/cpu/row_products_impl.hpp"
//
#include "src/cpu/sweep_rows_impl.hpp"
