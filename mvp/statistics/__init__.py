"""Metrics that know when they are undefined, and intervals from resampling patients."""

from mvp.statistics.bootstrap import PatientBootstrap
from mvp.statistics.intervals import Interval
from mvp.statistics.metrics import accuracy, auprc, auroc, hits

__all__ = ["Interval", "PatientBootstrap", "accuracy", "auprc", "auroc", "hits"]
