#include "bindings/array.hpp"
#include "bindings/bindings.hpp"
#include "bindings/filter_options.hpp"
#include "bindings/matrix_arguments.hpp"
#include "tamis/filter_stream.hpp"

namespace py = pybind11;
using namespace tamis::bindings;

namespace {

/// The stream, and the sample that it goes on reading.
struct Stream {
  tamis::FilterStream native;
  std::optional<Array> sample;
};

}  // namespace

void bind_filter_stream(py::module_& m) {
  py::class_<Stream>(m, "FilterStream")
      .def(py::init([](double contamination, bool automatic, const std::string& rule,
                       const std::string& assume, bool prune, double max_removed,
                       std::uint64_t seed, int num_threads) {
        auto options = filter_options(contamination, automatic, rule, assume);
        options.prune = prune;
        options.max_removed = max_removed;
        options.seed = seed;
        return Stream{tamis::FilterStream(options, num_threads), std::nullopt};
      }))
      .def("fit",
           [](Stream& self, py::object rows_object) {
             auto rows = view(rows_object, "rows");
             tamis::FilterResult result;
             {
               py::gil_scoped_release release;
               result = self.native.fit(matrix_of(rows));
             }
             self.sample = std::move(rows);
             return std::string(stop_reason(result));
           })
      .def("keep",
           [](Stream& self, py::object chunk_object) {
             const auto chunk = view(chunk_object, "chunk");
             const auto matrix = matrix_of(chunk);
             py::array_t<std::uint8_t> keep(matrix.rows);
             auto* out = keep.mutable_data();
             {
               py::gil_scoped_release release;
               self.native.keep(matrix, out);
             }
             return keep;
           })
      .def("absorb",
           [](Stream& self, py::object chunk_object) {
             const auto chunk = view(chunk_object, "chunk");
             py::gil_scoped_release release;
             self.native.absorb(matrix_of(chunk));
           })
      .def("finish_pass",
           [](Stream& self) {
             py::gil_scoped_release release;
             return self.native.finish_pass();
           })
      .def_property_readonly("mean",
                             [](const Stream& self) {
                               const auto& mean = self.native.mean();
                               return numpy_of(mean, {static_cast<py::ssize_t>(mean.size())});
                             })
      .def_property_readonly("kept", [](const Stream& self) { return self.native.kept(); })
      .def_property_readonly("seen", [](const Stream& self) { return self.native.seen(); })
      .def_property_readonly("passes", [](const Stream& self) { return self.native.passes(); })
      .def_property_readonly("limited", [](const Stream& self) { return self.native.limited(); });
}
