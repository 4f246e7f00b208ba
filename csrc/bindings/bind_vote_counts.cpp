#include "bindings/array.hpp"
#include "bindings/bindings.hpp"
#include "tamis/vote_counts.hpp"

namespace py = pybind11;

void bind_vote_counts(py::module_& m) {
  static py::handle nan_row_error =
      py::exception<tamis::NanRowError>(m, "NaNRowError", PyExc_ValueError).release();
  m.def(
      "vote_counts",
      [](py::object logits_object, py::object out_object, std::uintptr_t cuda_stream, bool wait) {
        const auto logits = tamis::bindings::view(logits_object, "logits", cuda_stream);
        const auto out = tamis::bindings::view(out_object, "out", cuda_stream);
        const auto logits_view = logits.rows();
        std::int64_t* counts = out.writable().int64_data();
        const std::int64_t size = logits_view.cols + (wait ? 0 : 1);
        if (logits.shape.size() != 2 || out.shape.size() != 1 || out.shape[0] != size ||
            (out.strides[0] != 1 && out.shape[0] > 1)) {
          throw std::invalid_argument(std::string("vote_counts: expected logits (B, C) and a ") +
                                      (wait ? "dense out (C,), got " : "dense out (C + 1,), got ") +
                                      logits.shape_text() + " and " + out.shape_text());
        }
        const auto exec = tamis::bindings::exec_for({&logits, &out}, 1, cuda_stream);
        try {
          py::gil_scoped_release release;
          if (wait) {
            tamis::vote_counts(logits_view, counts, exec);
          } else {
            tamis::vote_counts_deferred(logits_view, counts, exec);
          }
        } catch (const tamis::NanRowError& error) {
          py::object raised = nan_row_error(error.what());
          raised.attr("row") = error.row();
          PyErr_SetObject(nan_row_error.ptr(), raised.ptr());
          throw py::error_already_set();
        }
      },
      py::arg("logits"), py::arg("out"), py::arg("cuda_stream") = 0, py::arg("wait") = true);
}
