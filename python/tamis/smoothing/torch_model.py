"""torch modules, TorchScript files and ExportedProgram files as models.

The only file of the smoothing package, beside training, that needs torch to be installed.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from tamis import _arrays
from tamis.smoothing.models import (
    Array,
    PerformanceWarning,
    checked_output,
    host_float32,
    in_fixed_batches,
    refuse_integers,
)

try:
    import torch
except ImportError as error:
    raise ImportError("a torch model needs torch: python -m pip install 'tamis[torch]'") from error

__all__ = ["TorchModel", "load_model_file"]

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

# Where an exported graph says "training": operator -> position of that argument.
_TRAINING_ARGUMENT = {
    "aten.dropout.default": 2,
    "aten.native_dropout.default": 2,
    "aten.feature_dropout.default": 2,
    "aten.alpha_dropout.default": 2,
    "aten.feature_alpha_dropout.default": 2,
    "aten.batch_norm.default": 5,
    "aten.native_batch_norm.default": 5,
    "aten._native_batch_norm_legit.default": 5,
    "aten._native_batch_norm_legit_functional.default": 5,
}


class TorchModel:
    """A torch module, run on its own device, in its own dtype and memory format, in eval mode.

    Device, dtype and memory format are those of the parameters at the time of each call (of the
    buffers, where there are no parameters): a model moved after wrapping is followed.

    Parameters
    ----------
    module
        ``torch.nn.Module`` or ``torch.export.ExportedProgram``.
    name
        The argument that messages name.
    device
        Where to run a module that has no parameter and no buffer.
    """

    def __init__(self, module: Any, *, name: str, device: Any = None) -> None:
        if not isinstance(module, torch.nn.Module):
            module = module.module()  # ExportedProgram
        self.name = name
        self.num_classes: int | None = None
        self._module: torch.nn.Module = module
        self._default = (torch.device("cpu" if device is None else device), torch.float32)
        self._fixed_batch: int | None = None
        if isinstance(module, torch.fx.GraphModule):
            self._read_graph(module)
        self._target()

    def prepare(self, x: Any) -> Array:
        """Return image(s) as a float32 tensor beside the model; see `Classifier.prepare`."""
        if isinstance(x, (list, tuple)) and x and all(_arrays.is_torch(item) for item in x):
            x = torch.stack(list(x))
        if isinstance(x, torch.Tensor):
            refuse_integers(x)
            tensor = x.detach()
        else:
            tensor = torch.from_numpy(np.require(host_float32(x), requirements=["C", "W"]))
        return tensor.to(self._buffer_device(), torch.float32).contiguous()

    def empty(self, shape: tuple[int, ...]) -> Array:
        """Return a buffer beside the model; float64 models get float32, cast after the noise."""
        dtype = self._target()[1]
        dtype = torch.float32 if dtype == torch.float64 else dtype
        return torch.empty(shape, dtype=dtype, device=self._buffer_device())

    def accept(self, batch: Any) -> Array:
        """Return ``batch`` on the model's device and in its dtype."""
        device, dtype = self._target()
        if isinstance(batch, np.ndarray):
            batch = torch.from_numpy(np.require(batch, requirements=["C", "W"]))
        tensor: torch.Tensor = batch.detach().to(device, dtype)
        return tensor

    def forward(self, batch: Any) -> Array:
        """Run the module under ``inference_mode`` and in eval mode; restore what was changed."""
        if self._fixed_batch is None:
            return self._run(batch)
        return in_fixed_batches(self._run, batch, self._fixed_batch)

    def _run(self, batch: Any) -> Array:
        rows = len(batch)
        with torch.inference_mode(), _eval_mode(self._module):
            if batch.ndim == 4 and _is_channels_last(self._module):  # NCHW
                batch = batch.contiguous(memory_format=torch.channels_last)
            return checked_output(self._module(batch), rows, self.name)

    def _target(self) -> tuple[torch.device, torch.dtype]:
        """Device and dtype that the module eats: those of its first floating-point tensor."""
        for tensor in chain(self._module.parameters(), self._module.buffers()):
            if tensor.dtype in _FLOATS:
                if tensor.device.type == "meta":
                    raise ValueError(
                        f"{self.name}: expected a module that holds its weights, got parameters "
                        f"on the meta device"
                    )
                return tensor.device, tensor.dtype
        return self._default

    def _buffer_device(self) -> torch.device:
        # The noise kernel writes CPU and CUDA memory; for other devices `accept` copies.
        device = self._target()[0]
        return device if device.type in {"cpu", "cuda"} else torch.device("cpu")

    def _read_graph(self, module: torch.fx.GraphModule) -> None:
        """Learn from an exported graph: fixed batch size, classes, input dtype, training mode."""
        nodes = list(module.graph.nodes)
        for node in nodes:
            position = _TRAINING_ARGUMENT.get(str(node.target), len(node.args))
            if position < len(node.args) and node.args[position] is True:
                raise ValueError(
                    f"{self.name}: expected a program exported in eval mode, got one whose "
                    f"{node.target} is in training mode; call .eval() before torch.export.export"
                )
        inputs = [node.meta.get("val") for node in nodes if node.op == "placeholder"]
        if len(inputs) == 1 and isinstance(inputs[0], torch.Tensor) and inputs[0].ndim:
            if inputs[0].dtype in _FLOATS:
                self._default = (inputs[0].device, inputs[0].dtype)
            # A free batch dimension is a SymInt, which is no int.
            if isinstance(inputs[0].shape[0], int):
                self._fixed_batch = inputs[0].shape[0]
                warnings.warn(
                    f"{self.name}: the program was exported for batches of exactly "
                    f"{self._fixed_batch} and runs in chunks of that size; export it with "
                    f"dynamic_shapes=({{0: torch.export.Dim('batch')}},) for full speed",
                    PerformanceWarning,
                    stacklevel=5,
                )
        result = nodes[-1].args[0] if nodes and nodes[-1].args else None
        if isinstance(result, (tuple, list)) and len(result) == 1:
            result = result[0]
        value = result.meta.get("val") if isinstance(result, torch.fx.Node) else None
        if isinstance(value, torch.Tensor) and value.ndim > 1 and isinstance(value.shape[1], int):
            self.num_classes = value.shape[1]


@contextmanager
def _eval_mode(module: torch.nn.Module) -> Iterator[None]:
    """Run a block in eval mode; afterwards every submodule has the mode that it had."""
    # Frozen TorchScript modules have no mode at all.
    modes = [(m, m.training) for m in module.modules() if hasattr(m, "training")]
    if not any(training for _, training in modes):
        yield
        return
    try:
        try:
            module.eval()
        except NotImplementedError:
            # Exported programs: their mode was fixed on export, and _read_graph has checked it.
            if not isinstance(module, torch.fx.GraphModule):
                raise
        yield
    finally:
        # First through train(), since modules may do work there (merge weights, freeze parts),
        # parents before children; then the flags themselves, which a parent may have overwritten.
        for submodule, training in modes:
            if submodule.training != training:
                submodule.train(training)
        for submodule, training in modes:
            submodule.training = training


def _is_channels_last(module: torch.nn.Module) -> bool:
    """Say how the first convolution weight whose memory format can be told is stored."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            channels_last = parameter.is_contiguous(memory_format=torch.channels_last)
            if channels_last != parameter.is_contiguous():
                return channels_last
    return False


def load_model_file(path: Path, *, name: str, device: Any = None) -> TorchModel:
    """Load a TorchScript or ExportedProgram file onto ``device`` (default CPU).

    What the file is shows in its content, not in its suffix.  A pickled module or state dict is
    refused.  An ExportedProgram is refused where torch's reader would unpickle a part of it freely,
    or run compiled code from it.  This narrows what a hostile file can do; it does not make loading
    one safe (torch also evaluates the shape expressions of such a file).
    """
    target = _device(device)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except zipfile.BadZipFile as error:
        with path.open("rb") as file:
            pickled = file.read(1) == b"\x80"  # every pickle protocol since 2 begins so
        raise ValueError(
            _refusal(name, path, "a pickle" if pickled else "none of these")
        ) from error
    inner = {member.partition("/")[2] for member in members} | set(members)
    if inner & {"constants.pkl"}:
        return TorchModel(_load_torchscript(path, name, target), name=name, device=target)
    if inner & {"archive_format", "serialized_exported_program.json"}:
        program = _load_exported(path, name)
        if device is not None:
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, target)
        return TorchModel(program, name=name, device=target)
    kind = "a pickled module or state dict" if inner & {"data.pkl"} else "another kind of zip file"
    raise ValueError(_refusal(name, path, kind))


def _device(device: Any) -> torch.device:
    try:
        target = torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device: expected one of torch's, got {device!r}: {error}") from error
    if target.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device: expected one of this machine, got {target}; torch finds no GPU")
    return target


def _refusal(name: str, path: Path, kind: str) -> str:
    return (
        f"{name}: expected an ONNX (.onnx), TorchScript or ExportedProgram file, got {path}, which "
        f"is {kind}; pickles are not loaded, since they can run any code. Where the model's class "
        f"is at hand, export it once: torch.export.save(torch.export.export(module.eval(), "
        f"(example,), dynamic_shapes=({{0: torch.export.Dim('batch')}},)), 'model.pt2')"
    )


def _load_torchscript(path: Path, name: str, device: torch.device) -> torch.nn.Module:
    try:
        with warnings.catch_warnings():
            # Whoever holds a TorchScript file cannot act on "switch to torch.export" here.
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
            module: torch.nn.Module = torch.jit.load(  # type: ignore[no-untyped-call]
                str(path), map_location=device
            )
    except RuntimeError as error:
        raise ValueError(f"{name}: {path} is no readable TorchScript file: {error}") from error
    return module


def _load_exported(path: Path, name: str) -> Any:
    # The checked bytes and the loaded bytes are the same ones: the file is read once.
    data = path.read_bytes()
    try:
        _refuse_free_pickles(data)
        return torch.export.load(io.BytesIO(data))
    except Exception as error:  # torch raises AssertionError, KeyError, RuntimeError and others
        raise ValueError(f"{name}: {path} is no readable ExportedProgram: {error}") from error


def _refuse_free_pickles(data: bytes) -> None:
    """Raise where ``torch.export.load`` would unpickle freely or load machine code.

    It reads tensors as plain bytes, but falls back to unrestricted unpickling for payloads marked
    so, for opaque constants, and for sample inputs that its restricted reader does not take.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.namelist()
        if len(set(members)) != len(members):
            raise ValueError("it holds two members of one name")
        for member in members:
            if "/aotinductor/" in member or member.endswith((".so", ".dll", ".dylib")):
                raise ValueError(f"it holds compiled code ({member}), which is not run")
            if member.endswith("_config.json"):
                payloads = json.loads(archive.read(member)).get("config", {})
                for key, payload in payloads.items():
                    plain = payload["path_name"].startswith(("weight_", "tensor_"))
                    if payload.get("use_pickle", True) or not plain:
                        raise ValueError(f"it holds {key} as a pickle, which is not loaded")
            elif member.endswith(".pt"):
                torch.load(io.BytesIO(archive.read(member)), weights_only=True)
