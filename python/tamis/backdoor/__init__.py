"""Backdoors: poisoned training examples, found in what a network makes of them.

`SpectralSignatures`, `Spectre` and `ActivationClustering` score the rows of a layer's
representations, class by class; `Trigger` and `poison` make attacks to test them with.
"""

from __future__ import annotations

from tamis.backdoor._classes import ClassReport
from tamis.backdoor.activation_clustering import ActivationClustering
from tamis.backdoor.poisoning import Poisoned, Trigger, poison
from tamis.backdoor.signatures import SpectralSignatures
from tamis.backdoor.spectre import Spectre

__all__ = [
    "ActivationClustering",
    "ClassReport",
    "Poisoned",
    "SpectralSignatures",
    "Spectre",
    "Trigger",
    "poison",
]
