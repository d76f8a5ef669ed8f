"""CNNs by name, their weights, and features taken through hooks."""

from mvp.networks.build import build, build_view, restore, restore_view
from mvp.networks.capture import Capture
from mvp.networks.inference import inference
from mvp.networks.losses import masked_loss, positive_weights, probabilities, summed_loss
from mvp.networks.network import Network
from mvp.networks.weights import load_weights, save_weights, weights_digest

__all__ = [
    "Capture",
    "Network",
    "build",
    "build_view",
    "inference",
    "load_weights",
    "masked_loss",
    "positive_weights",
    "probabilities",
    "restore",
    "restore_view",
    "save_weights",
    "summed_loss",
    "weights_digest",
]
