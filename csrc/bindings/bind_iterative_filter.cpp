#include "bindings/array.hpp"
#include "bindings/bindings.hpp"
#include "bindings/filter_options.hpp"
#include "bindings/matrix_arguments.hpp"
#include "tamis/iterative_filter.hpp"

namespace py = pybind11;
using namespace tamis::bindings;

void bind_iterative_filter(py::module_& m) {
  m.def(
      "iterative_filter",
      [](py::object x_object, py::object weights_object, py::object scores_object,
         double contamination, bool automatic, const std::string& rule, const std::string& assume,
         bool prune, bool readmit, std::int64_t max_rounds, double max_removed, std::uint64_t seed,
         int num_threads, std::uintptr_t cuda_stream) {
        const auto x = view(x_object, "X", cuda_stream);
        const auto weights = view(weights_object, "weights", cuda_stream);
        const auto scores = view(scores_object, "scores", cuda_stream);
        const auto matrix = matrix_of(x);
        auto options = filter_options(contamination, automatic, rule, assume);
        options.prune = prune;
        options.readmit = readmit;
        options.max_rounds = max_rounds;
        options.max_removed = max_removed;
        options.seed = seed;
        options.checkpoint = interruptible();
        const auto exec = exec_for({&x, &weights, &scores}, num_threads, cuda_stream);
        tamis::FilterResult result;
        {
          py::gil_scoped_release release;
          result =
              tamis::iterative_filter(matrix, output_of(weights), output_of(scores), options, exec);
        }
        const auto count = static_cast<py::ssize_t>(result.scales.size());
        py::dict out;
        out["mean"] = numpy_of(result.mean, {matrix.cols});
        out["rounds"] = result.rounds;
        out["eigenvalues"] =
            numpy_of(result.eigenvalues, {static_cast<py::ssize_t>(result.eigenvalues.size())});
        out["directions"] = numpy_of(result.directions, {matrix.cols, count});
        out["centers"] = numpy_of(result.centers, {count});
        out["scales"] = numpy_of(result.scales, {count});
        out["cuts"] = result.cuts;
        out["ball_center"] = numpy_of(result.ball_center, {matrix.cols});
        out["ball_radius"] = result.ball_radius;
        out["ball_scale"] = result.ball_scale;
        out["stop_reason"] = stop_reason(result);
        out["contamination"] = result.contamination;
        out["passes"] = result.passes;
        return out;
      },
      py::arg("X"), py::arg("weights"), py::arg("scores"), py::arg("contamination"),
      py::arg("automatic"), py::arg("rule"), py::arg("assume"), py::arg("prune"),
      py::arg("readmit"), py::arg("max_rounds"), py::arg("max_removed"), py::arg("seed"),
      py::arg("num_threads"), py::arg("cuda_stream") = 0);
}
