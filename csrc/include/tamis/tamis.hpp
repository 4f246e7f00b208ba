// Everything public, for those who prefer one include.
#pragma once

#include "tamis/confidence.hpp"
#include "tamis/exec.hpp"
#include "tamis/gaussian_noise.hpp"
#include "tamis/normal.hpp"
#include "tamis/philox.hpp"
#include "tamis/views.hpp"
#include "tamis/vote_counts.hpp"
