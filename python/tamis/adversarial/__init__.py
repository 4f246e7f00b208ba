"""SmoothAdv: attacks on networks and on their smoothed versions, and training against them.

Needs torch, which is loaded with this module (``import tamis`` does not load it). Images are in
[0, 1]; epsilon and sigma are in the same units.

Attacks: `pgd`, `ddn`, `smooth_adv_pgd`, `smooth_adv_ddn`, `eot_pgd`, and classes that keep their
options (`PGD`, `DDN`, `SmoothAdvPGD`, `SmoothAdvDDN`, `EOTPGD`). Losses for a loop of your own:
`smoothadv_loss`, `gaussian_loss`, `adversarial_loss`, `stability_loss`, `macer_loss`,
`consistency_loss`. Training: `train`, `finetune`, `export_onnx`.
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401  (said here once, with what to do about it)
except ImportError as error:
    raise ImportError("training needs torch: python -m pip install 'tamis[torch]'") from error

from tamis.adversarial.architectures import build, mlp, small_cnn
from tamis.adversarial.attacks import EOTPGD, PGD, SmoothAdvPGD, eot_pgd, pgd, smooth_adv_pgd
from tamis.adversarial.ddn import DDN, DDNResult, SmoothAdvDDN, ddn, smooth_adv_ddn
from tamis.adversarial.export import export_onnx
from tamis.adversarial.losses import (
    adversarial_loss,
    consistency_loss,
    gaussian_loss,
    macer_loss,
    smoothadv_loss,
    stability_loss,
)
from tamis.adversarial.noise import BatchNoise
from tamis.adversarial.objective import smoothed_cross_entropy
from tamis.adversarial.trainer import NonFiniteLossError, Run
from tamis.adversarial.training import finetune, train

__all__ = [
    "DDN",
    "EOTPGD",
    "PGD",
    "BatchNoise",
    "DDNResult",
    "NonFiniteLossError",
    "Run",
    "SmoothAdvDDN",
    "SmoothAdvPGD",
    "adversarial_loss",
    "build",
    "consistency_loss",
    "ddn",
    "eot_pgd",
    "export_onnx",
    "finetune",
    "gaussian_loss",
    "macer_loss",
    "mlp",
    "pgd",
    "small_cnn",
    "smooth_adv_ddn",
    "smooth_adv_pgd",
    "smoothadv_loss",
    "smoothed_cross_entropy",
    "stability_loss",
    "train",
]
