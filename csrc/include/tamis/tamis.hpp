// Everything public, for those who prefer one include.
#pragma once

#include "tamis/confidence.hpp"
#include "tamis/covariance_apply.hpp"
#include "tamis/exec.hpp"
#include "tamis/filter_stream.hpp"
#include "tamis/gaussian_noise.hpp"
#include "tamis/iterative_filter.hpp"
#include "tamis/linear_gradients.hpp"
#include "tamis/normal.hpp"
#include "tamis/philox.hpp"
#include "tamis/power_iteration.hpp"
#include "tamis/projection_scores.hpp"
#include "tamis/views.hpp"
#include "tamis/vote_counts.hpp"
#include "tamis/weighted_sums.hpp"
