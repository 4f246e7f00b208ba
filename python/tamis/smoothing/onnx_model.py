"""ONNX files and onnxruntime sessions as models.

Most classifiers found in the wild were exported with a batch of 1 baked in.  Run one at a time they
are slow, so the batch dimension is freed in a copy of the graph, and the copy is used only if it
answers a batch exactly as the original answers its rows one by one, up to rounding.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.smoothing.models import (
    Array,
    NumpyModel,
    PerformanceWarning,
    checked_output,
    concatenate,
    in_fixed_batches,
)

__all__ = ["OnnxModel"]

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_BATCH_NAME = "tamis_batch"
_SILENT = 4  # onnxruntime log level: a failed trial is told in our warning, not on its stderr


class OnnxModel(NumpyModel):
    """A network run by onnxruntime; threads are those of the session.

    Parameters
    ----------
    source
        Path of an ``.onnx`` file, or an ``onnxruntime.InferenceSession``.
    name
        The argument that messages name.
    providers
        Execution providers for a file (a session has its own); default CPU.
    """

    def __init__(self, source: Any, *, name: str, providers: Sequence[Any] | None = None) -> None:
        self.name = name
        if isinstance(source, Path):
            runtime = _optional("onnxruntime")
            try:
                session = runtime.InferenceSession(
                    str(source), providers=list(providers or ["CPUExecutionProvider"])
                )
            except Exception as error:  # onnxruntime's own types derive from Exception alone
                raise ValueError(f"{name}: {source} is no readable ONNX model: {error}") from error
        else:
            session = source
        self._session = session
        inputs = session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _DTYPES:
            got = ", ".join(f"{i.name}: {i.type}" for i in inputs)
            raise ValueError(
                f"{name}: expected an ONNX model with one floating-point input (images in [0, 1]), "
                f"got {got or 'none'}"
            )
        self.dtype = np.dtype(_DTYPES[inputs[0].type])
        self._input = inputs[0].name
        self._shape = list(inputs[0].shape or [])
        self._output = self._choose_output(session.get_outputs())
        self._fixed_batch: int | None = None
        self._tried = False  # to free the batch
        if self._shape and isinstance(self._shape[0], int) and self._shape[0] > 0:
            self._fixed_batch = self._shape[0]
            if all(isinstance(size, int) for size in self._shape[1:]):
                self._free_the_batch(tuple(self._shape[1:]))
            # else the image size is open: the first batch brings it, see `forward`

    def _choose_output(self, outputs: Sequence[Any]) -> str:
        """Return the name of the one floating-point output, and note its number of classes."""
        floats = [out for out in outputs if out.type in _DTYPES]
        if len(floats) != 1:
            got = ", ".join(f"{out.name}: {out.type} {out.shape}" for out in outputs)
            raise ValueError(
                f"{self.name}: expected one floating-point output, the logits, got {got or 'none'}"
            )
        shape = floats[0].shape or []
        if len(shape) > 1 and isinstance(shape[1], int):
            self.num_classes = shape[1]
        return str(floats[0].name)

    def forward(self, batch: Any) -> Array:
        """Run the session on ``(B, ...)``, in chunks where its batch size is fixed."""
        wanted = self._shape[1:]
        if self._shape and (
            batch.ndim != len(self._shape)
            or any(
                isinstance(w, int) and w != s for w, s in zip(wanted, batch.shape[1:], strict=True)
            )
        ):
            shape = ", ".join(str(size) for size in ["B", *wanted])
            raise ValueError(
                f"{self.name}: expected batches of shape ({shape}) as input {self._input!r} has, "
                f"got {batch.shape}"
            )
        if self._fixed_batch is not None and not self._tried:
            self._free_the_batch(batch.shape[1:])
        if self._fixed_batch is None:
            return self._run(self._session, batch)
        return in_fixed_batches(lambda b: self._run(self._session, b), batch, self._fixed_batch)

    def _run(self, session: Any, batch: npt.NDArray[Any], **options: Any) -> Array:
        out = session.run([self._output], {self._input: batch}, **options)[0]
        return checked_output(out, len(batch), self.name)

    def _free_the_batch(self, image_shape: tuple[int, ...]) -> None:
        """Replace the session by one with a free batch dimension, or warn why that fails."""
        assert self._fixed_batch is not None
        self._tried = True
        try:
            self._session = self._freed_session(image_shape)
            self._fixed_batch = None
        except _FixedBatchError as reason:
            warnings.warn(
                f"{self.name}: the ONNX model takes batches of exactly {self._fixed_batch}, which "
                f"could not be changed ({reason}); it runs in chunks of that size, more slowly. "
                f"Export it with a free batch dimension (dynamic_axes or dynamic_shapes) for full "
                f"speed",
                PerformanceWarning,
                stacklevel=5,
            )

    def _freed_session(self, image_shape: tuple[int, ...]) -> Any:
        assert self._fixed_batch is not None
        try:
            onnx = _optional("onnx")
        except ImportError as error:
            raise _FixedBatchError(str(error)) from error
        proto = self._model_proto(onnx)
        rows = _probe_rows(image_shape, self.dtype)
        given, size = self._session, self._fixed_batch
        one_by_one = [
            in_fixed_batches(lambda b: self._run(given, b), rows[i : i + 1], size)
            for i in range(len(rows))
        ]
        expected = np.asarray(concatenate(one_by_one))
        try:
            _free_graph(onnx, proto, self._input, self._fixed_batch)
            session = self._like_the_given_one(proto.SerializeToString())
            quiet = _optional("onnxruntime").RunOptions()
            quiet.log_severity_level = _SILENT
            got = np.asarray(self._run(session, rows, run_options=quiet))
        except Exception as error:  # as above; a ValueError also from protobuf's 2 GB limit
            raise _FixedBatchError(" ".join(str(error).split())[:300]) from error
        fault = _disagreement(got, expected, _rounding(proto, self.dtype))
        if fault is not None:
            raise _FixedBatchError(fault)
        return session

    def _model_proto(self, onnx: Any) -> Any:
        """Return the ModelProto behind the session."""
        # onnxruntime keeps where a session came from, but only in private attributes.
        data = getattr(self._session, "_model_bytes", None)
        path = getattr(self._session, "_model_path", None)
        if data is None and path is None:
            raise _FixedBatchError("the session does not say which file it is from; give the path")
        try:
            return onnx.load_from_string(data) if data is not None else onnx.load(str(path))
        except Exception as error:  # protobuf's DecodeError, OSError, onnx's checks
            raise _FixedBatchError(f"its file cannot be read again: {error}") from error

    def _like_the_given_one(self, data: bytes) -> Any:
        """Return a session on other bytes with the options and providers of the present one."""
        given = self._session
        providers = list(given.get_provider_options().items())
        return _optional("onnxruntime").InferenceSession(
            data, sess_options=given.get_session_options(), providers=providers
        )


class _FixedBatchError(Exception):
    """Why a fixed batch dimension stays."""


def _free_graph(onnx: Any, proto: Any, input_name: str, batch: int) -> None:
    """Make the batch dimension of a model symbolic, in place.

    A Reshape of data whose target begins with the batch size gets -1 there, "whatever is left", or,
    where the target has a -1 already, 0, "as in the input".
    """
    graph = proto.graph
    for value in [*(i for i in graph.input if i.name == input_name), *graph.output]:
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_value == batch:
            dims[0].dim_param = _BATCH_NAME
    del graph.value_info[:]  # intermediate shapes would contradict the new batch dimension
    constants = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if len(tensor.dims) == 1
    }
    replaced: set[str] = set()
    data_names = {input_name}  # everything computed from the images; weights are left alone
    for node in graph.node:
        attributes = {a.name: a for a in node.attribute}
        if node.op_type == "Constant" and "value" in attributes:
            constants[node.output[0]] = onnx.numpy_helper.to_array(attributes["value"].t)
        if node.op_type == "Constant" and "value_ints" in attributes:
            constants[node.output[0]] = np.array(attributes["value_ints"].ints, np.int64)
        if not data_names.intersection(node.input):
            continue
        data_names.update(node.output)
        if node.op_type != "Reshape":
            continue
        shape = constants.get(node.input[1]) if len(node.input) > 1 else None
        if shape is None or not shape.size or shape[0] != batch:
            continue
        if "allowzero" in attributes and (shape == 0).any():
            continue  # its zeros mean zero: leave it, and let the check decide
        shape = np.array(shape, np.int64)
        shape[0] = 0 if (shape[1:] == -1).any() else -1
        name = f"tamis_shape_{len(graph.initializer)}"  # its own: others may share the old one
        graph.initializer.append(onnx.numpy_helper.from_array(shape, name))
        replaced.add(node.input[1])
        node.input[1] = name
        if "allowzero" in attributes:
            node.attribute.remove(attributes["allowzero"])
    # What nobody reads any more would make onnxruntime complain on stderr.
    replaced -= {name for node in graph.node for name in node.input}
    if not any(a.HasField("g") for node in graph.node for a in node.attribute):
        for tensor in [t for t in graph.initializer if t.name in replaced]:
            graph.initializer.remove(tensor)
        for node in [n for n in graph.node if replaced.intersection(n.output)]:
            graph.node.remove(node)


def _probe_rows(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Three inputs unlike each other, so that rows mixed up or shared cannot go unnoticed."""
    rng = np.random.default_rng(20190127)
    rows = [rng.random(shape), rng.standard_normal(shape), 0.25 * rng.random(shape) - 1]
    return np.stack(rows).astype(dtype)


def _rounding(proto: Any, dtype: np.dtype[Any]) -> float:
    """Bound how far two correct runs may differ, as a fraction of the largest logit.

    Two runs round differently because sums are ordered differently.  A sum of n products errs by
    about sqrt(n) eps of the accumulator (float32 at least), storing its result by eps of the
    dtype; over L layers such errors add up as a random walk, hence
    ``sqrt(L) (eps_store + sqrt(n) eps_sum)``, times 8 for cancellation between layers and logits.
    """
    layers = max(1, len(proto.graph.node))
    fan_in = 1
    constants = [a.t for node in proto.graph.node for a in node.attribute if a.name == "value"]
    for tensor in [*proto.graph.initializer, *constants]:
        dims = list(tensor.dims)
        if len(dims) == 2:  # matrices are stored either way round
            fan_in = max(fan_in, *dims)
        elif len(dims) > 2:  # convolutions: output channels first
            fan_in = max(fan_in, int(np.prod(dims[1:])))
    store = float(np.finfo(dtype).eps)
    accumulate = float(np.finfo(np.float64 if dtype == np.float64 else np.float32).eps)
    return float(8 * np.sqrt(layers) * (store + np.sqrt(fan_in) * accumulate))


def _disagreement(got: npt.NDArray[Any], expected: npt.NDArray[Any], rounding: float) -> str | None:
    """Say what is wrong with a batched answer, or None if it equals the answers one by one."""
    if got.shape != expected.shape:
        return f"a batch of 3 gives shape {got.shape} instead of {expected.shape}"
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    if not np.isfinite(got).all() or not np.isfinite(expected).all():
        return "random inputs give NaN or Inf, so the change cannot be checked"
    tolerance = rounding * float(np.abs(expected).max(initial=0.0))
    worst = float(np.abs(got - expected).max(initial=0.0))
    if worst > tolerance:
        return (
            f"a batch of 3 gives answers {worst:.3g} away from those one by one, where rounding "
            f"explains {tolerance:.3g}"
        )
    # Power of the check: had two rows been swapped or shared, this is how far off they would be.
    spread = min(
        float(np.abs(expected[i] - expected[j]).max()) for i, j in ((0, 1), (0, 2), (1, 2))
    )
    if spread <= 2 * tolerance:
        return "the model answers unlike inputs alike, so the change cannot be checked"
    return None


def _optional(module: str) -> Any:
    """Import an optional dependency, or say how to get it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"an ONNX model needs {module}: python -m pip install 'tamis[onnx]'"
        ) from error
