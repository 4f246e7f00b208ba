// NumPy arrays in, NumPy array out, one bound per element. Broadcasting, dtype conversion and
// argument names are the business of ops.py: here the arrays have one shape, the right dtype and
// C order already, anything else is refused.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "bindings/bindings.hpp"
#include "tamis/confidence.hpp"

namespace py = pybind11;

namespace {

using Counts = py::array_t<std::int64_t, py::array::c_style>;
using Reals = py::array_t<double, py::array::c_style>;

void check_same_shape(const char* op, const char* name, const py::array& first,
                      const py::array& other) {
  bool same = first.ndim() == other.ndim();
  for (py::ssize_t axis = 0; same && axis < first.ndim(); ++axis) {
    same = first.shape(axis) == other.shape(axis);
  }
  if (!same) {
    throw std::invalid_argument("[" + std::string(op) +
                                "] expected arrays of one shape, got another one for " + name);
  }
}

Reals empty_like(const py::array& array) {
  return Reals(std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim()));
}

// out[i] = bound(i) for the whole array without the GIL; an error names the element.
template <typename Bound>
void fill(Reals& out, const Bound& bound) {
  double* const values = out.mutable_data();
  const py::ssize_t size = out.size();
  const py::gil_scoped_release release;
  for (py::ssize_t i = 0; i < size; ++i) {
    try {
      values[i] = bound(i);
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument(error.what() + (" at flat index " + std::to_string(i)));
    }
  }
}

bool is_lower(const char* op, const std::string& side) {
  if (side != "lower" && side != "upper") {
    throw std::invalid_argument("[" + std::string(op) +
                                "] expected side 'lower' or 'upper', got '" + side + "'");
  }
  return side == "lower";
}

using CountBound = double (*)(std::int64_t, std::int64_t, double);

Reals map_counts(const char* op, CountBound bound, const Counts& successes, const Counts& trials,
                 const Reals& alpha) {
  check_same_shape(op, "trials", successes, trials);
  check_same_shape(op, "alpha", successes, alpha);
  Reals out = empty_like(successes);
  fill(out, [bound, k = successes.data(), n = trials.data(), level = alpha.data()](py::ssize_t i) {
    return bound(k[i], n[i], level[i]);
  });
  return out;
}

Reals clopper_pearson(const Counts& successes, const Counts& trials, const Reals& alpha,
                      const std::string& side) {
  const bool lower = is_lower("clopper_pearson", side);
  return map_counts("clopper_pearson",
                    lower ? tamis::clopper_pearson_lower : tamis::clopper_pearson_upper, successes,
                    trials, alpha);
}

Reals confidence_sequence(const Counts& successes, const Counts& trials, const Reals& alpha,
                          const std::string& side) {
  const bool lower = is_lower("confidence_sequence", side);
  return map_counts("confidence_sequence",
                    lower ? tamis::confidence_sequence_lower : tamis::confidence_sequence_upper,
                    successes, trials, alpha);
}

Reals binomial_test_half(const Counts& successes, const Counts& trials) {
  check_same_shape("binomial_test_half", "trials", successes, trials);
  Reals out = empty_like(successes);
  fill(out, [k = successes.data(), n = trials.data()](py::ssize_t i) {
    return tamis::binomial_test_half(k[i], n[i]);
  });
  return out;
}

Reals certified_radius(const Reals& p_lower, double sigma, const std::optional<Reals>& p_upper) {
  Reals out = empty_like(p_lower);
  if (!p_upper) {
    fill(out, [p = p_lower.data(), sigma](py::ssize_t i) {
      return tamis::certified_radius(p[i], sigma);
    });
    return out;
  }
  check_same_shape("certified_radius", "p_upper", p_lower, *p_upper);
  fill(out, [p = p_lower.data(), sigma, q = p_upper->data()](py::ssize_t i) {
    return tamis::certified_radius(p[i], sigma, q[i]);
  });
  return out;
}

}  // namespace

void bind_confidence(py::module_& m) {
  m.def("clopper_pearson", &clopper_pearson, py::arg("successes").noconvert(),
        py::arg("trials").noconvert(), py::arg("alpha").noconvert(), py::arg("side"));
  m.def("confidence_sequence", &confidence_sequence, py::arg("successes").noconvert(),
        py::arg("trials").noconvert(), py::arg("alpha").noconvert(), py::arg("side"));
  m.def("binomial_test_half", &binomial_test_half, py::arg("successes").noconvert(),
        py::arg("trials").noconvert());
  m.def("certified_radius", &certified_radius, py::arg("p_lower").noconvert(), py::arg("sigma"),
        py::arg("p_upper").noconvert() = py::none());
}
