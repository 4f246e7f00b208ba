// One function a topic; module.cpp calls them in order.
#pragma once

#include <pybind11/pybind11.h>

void bind_info(pybind11::module_& m);
void bind_gaussian_noise(pybind11::module_& m);
void bind_vote_counts(pybind11::module_& m);
void bind_confidence(pybind11::module_& m);
void bind_covariance_apply(pybind11::module_& m);
void bind_weighted_sums(pybind11::module_& m);
void bind_linear_gradients(pybind11::module_& m);
void bind_power_iteration(pybind11::module_& m);
void bind_projection_scores(pybind11::module_& m);
void bind_iterative_filter(pybind11::module_& m);
void bind_filter_stream(pybind11::module_& m);
