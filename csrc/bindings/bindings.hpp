// One function a topic; module.cpp calls them in order.
#pragma once

#include <pybind11/pybind11.h>

void bind_info(pybind11::module_& m);
void bind_gaussian_noise(pybind11::module_& m);
void bind_vote_counts(pybind11::module_& m);
void bind_confidence(pybind11::module_& m);
