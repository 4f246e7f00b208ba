"""Randomized smoothing: classifiers whose answers carry an l2 certificate.

``Smooth`` certifies and predicts; ``as_classifier`` adapts models and ``load_images`` data;
``LogWriter`` and ``load_log`` keep the results.
"""

from __future__ import annotations

from tamis.smoothing.certificate import Certificate, Certificates, conclude, samples_needed
from tamis.smoothing.classifiers import Classifier, as_classifier
from tamis.smoothing.datasets import ImageSet, load_images
from tamis.smoothing.identity import Stream, image_id
from tamis.smoothing.logs import ABSTAIN, CertificationLog, LogWriter, load_log
from tamis.smoothing.smooth import Smooth

__all__ = [
    "ABSTAIN",
    "Certificate",
    "Certificates",
    "CertificationLog",
    "Classifier",
    "ImageSet",
    "LogWriter",
    "Smooth",
    "Stream",
    "as_classifier",
    "conclude",
    "image_id",
    "load_images",
    "load_log",
    "samples_needed",
]
