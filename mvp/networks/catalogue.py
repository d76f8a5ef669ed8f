"""Networks by name: torchvision's, timm's, and the user's own."""

from __future__ import annotations

import importlib
import inspect
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mvp.config import nearest
from mvp.errors import ConfigError, MissingExtraError
from mvp.networks.network import Network, last_linear

if TYPE_CHECKING:
    from torchvision import models

# The networks of this package, by the names that stand for their factories.
OWN = {"small": "mvp.networks.small:small_cnn", "lenet": "mvp.networks.lenet:lenet"}
TIMM_PREFIX = "timm:"
AUXILIARY = ("aux1", "aux2", "AuxLogits")
NO_WEIGHTS = "none"


def create(name: str, published: str = NO_WEIGHTS) -> Network:
    """The network of that name with its native number of classes.

    Args:
        name: `small`, `lenet`, a classifier of torchvision, `timm:NAME` or
            `package.module:factory`.
        published: the name of a published set of weights, or "none" for random values from
            torch's generator.

    Raises:
        ConfigError: no such network or no such set, or it cannot be downloaded.
        MissingExtraError: timm is not installed.
    """
    if name.startswith(TIMM_PREFIX):
        return _from_timm(name, published)
    if name in OWN or ":" in name:
        if published != NO_WEIGHTS:
            raise ConfigError(
                f"network {name!r} has no published weights called {published!r}",
                remedy='set network.weights to "none" or to a .safetensors, .pt or .pth file',
            )
        module = _from_factory(OWN.get(name, name))
        return Network(name, module, last_linear(module))
    module = _from_torchvision(name, published)
    return Network(name, module, last_linear(module))


def _from_torchvision(name: str, published: str) -> nn.Module:
    from torchvision import models  # takes as long as torch, and few verbs build such a network

    known = models.list_models(module=models)
    if name not in known:
        raise ConfigError(
            f"there is no network {name!r}" + nearest(name, [*OWN, *known]),
            remedy="name one that `mvp networks` lists, timm:NAME, or package.module:factory",
        )
    weights = None
    if published != NO_WEIGHTS:
        sets = models.get_model_weights(name).__members__
        if published not in sets:
            raise _unknown_set(name, published, list(sets))
        weights = sets[published]
    parameters = inspect.signature(_class_of(name)).parameters
    options: dict[str, Any] = {}
    if "transform_input" in parameters:
        # Published GoogLeNet and Inception weights expect it; it must not depend on where the
        # weights came from, or the same weights read back from a file would see other images.
        options["transform_input"] = True
    if weights is None and "init_weights" in parameters:
        options["init_weights"] = True
    try:
        module = models.get_model(name, weights=weights, **options)
    except (OSError, RuntimeError) as error:
        raise download_failed(name, published, error) from error
    if isinstance(module, models.MNASNet):
        # It loads nothing from plain tensors, which do not say what version of it wrote them.
        plain: Any = MethodType(nn.Module._load_from_state_dict, module)
        module._load_from_state_dict = plain
    if isinstance(module, models.SqueezeNet):
        return _with_linear_classifier(module)
    return _without_auxiliary(module)


def _class_of(name: str) -> Any:
    """The class behind the two builders whose options differ from all others'."""
    from torchvision import models

    return {"googlenet": models.GoogLeNet, "inception_v3": models.Inception3}.get(name, nn.Module)


def _without_auxiliary(module: nn.Module) -> nn.Module:
    """Drop auxiliary classifiers: they only change what comes out in training mode."""
    for name in AUXILIARY:
        if getattr(module, name, None) is not None:
            setattr(module, name, None)
            module.aux_logits = False  # type: ignore[assignment]
    return module


def _with_linear_classifier(module: models.SqueezeNet) -> nn.Module:
    """SqueezeNet with the mean over all places before its classifier instead of after it.

    A convolution of 1x1 and a mean may change places, so this is its classifier without the ReLU
    between the two, which only cuts the logits off at 0. Features before it are the same.
    """
    dropout, convolution = module.classifier[0], module.classifier[1]
    linear = nn.Linear(convolution.in_channels, convolution.out_channels)
    with torch.no_grad():
        linear.weight.copy_(convolution.weight.flatten(1))
        linear.bias.copy_(convolution.bias)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), dropout)
    # Under the convolution's name, which files of weights know it by.
    module.classifier = nn.Sequential(pool, linear)
    return module


def _from_timm(name: str, published: str) -> Network:
    try:
        import timm
    except ImportError:
        raise MissingExtraError("timm", "timm", f"network {name!r}") from None
    model = name.removeprefix(TIMM_PREFIX)
    if not timm.is_model(model):
        raise ConfigError(
            f"timm {timm.__version__} has no network {model!r}"
            + nearest(model, timm.list_models()),
            remedy="name one that `mvp networks --timm` lists",
        )
    tagged = model
    if published not in {NO_WEIGHTS, "pretrained", "DEFAULT"}:
        tagged = f"{model.partition('.')[0]}.{published}"
    try:
        module: Any = timm.create_model(tagged, pretrained=published != NO_WEIGHTS)
    # timm, huggingface_hub and the transport below raise families without a common base.
    except Exception as error:
        raise download_failed(name, published, error) from error
    if getattr(module, "num_classes", 1) == 0:
        # Self-supervised networks come without a classifier; features are taken before it.
        module.reset_classifier(1)
    classifier = module.pretrained_cfg.get("classifier") or last_linear(module)
    linear = isinstance(classifier, str) and isinstance(module.get_submodule(classifier), nn.Linear)
    return Network(name, module, classifier if linear else None)


def _from_factory(name: str) -> nn.Module:
    place, _, attribute = name.partition(":")
    remedy = "network.name = 'package.module:factory', where factory() gives a torch.nn.Module"
    try:
        factory = getattr(importlib.import_module(place), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"network {name!r} cannot be imported", cause=str(error), remedy=remedy
        ) from error
    try:
        module = factory()
    # The user's own code may raise anything, and a traceback of ours would not help.
    except Exception as error:
        raise ConfigError(
            f"network {name!r} cannot be made",
            cause=f"{type(error).__name__}: {error}",
            remedy=remedy,
        ) from error
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"network {name!r} gives {type(module).__name__}, not a torch.nn.Module",
            remedy=remedy,
        )
    return module


def _unknown_set(name: str, published: str, sets: list[str]) -> ConfigError:
    return ConfigError(
        f"network {name!r} has no published weights called {published!r}"
        + nearest(published, sets),
        remedy=f'set network.weights to "none", one of {", ".join(sets)}, or the path of a '
        ".safetensors, .pt or .pth file",
    )


def download_failed(name: str, published: str, error: Exception) -> ConfigError:
    """The error for published weights that did not arrive."""
    return ConfigError(
        f"weights {published!r} of network {name!r} cannot be had",
        cause=f"{type(error).__name__}: {error}",
        remedy="check the name and the connection; or download the file elsewhere and set "
        'network.weights to its path; or set it to "none"',
    )
