"""Backdoors: poisoned training examples, found in what a network makes of them.

`SpectralSignatures`, `Spectre` and `ActivationClustering` score the rows of a layer's
representations, class by class; `representations` takes these from a torch network, `clean` trains,
scores, removes and trains again; `Trigger` and `poison` make attacks to test it with.
"""

from __future__ import annotations

from tamis.backdoor._classes import ClassReport
from tamis.backdoor.activation_clustering import ActivationClustering
from tamis.backdoor.cleaning import Cleaned, clean
from tamis.backdoor.extraction import representations
from tamis.backdoor.poisoning import Poisoned, Trigger, poison
from tamis.backdoor.report import report_table
from tamis.backdoor.signatures import SpectralSignatures
from tamis.backdoor.spectre import Spectre
from tamis.backdoor.training import SGDTrainer

__all__ = [
    "ActivationClustering",
    "ClassReport",
    "Cleaned",
    "Poisoned",
    "SGDTrainer",
    "SpectralSignatures",
    "Spectre",
    "Trigger",
    "clean",
    "poison",
    "report_table",
    "representations",
]
