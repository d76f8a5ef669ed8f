"""scikit-learn models on disk without pickle: skops, and a fixed list of types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mvp.errors import ConfigError, StoreDamagedError

# Classes that scikit-learn's classifiers consist of beside those that skops trusts by itself.
# Names, not prefixes: numpy and scikit-learn also hold functions that run code given as text
# (numpy.testing.runstring). A stranger's `Tree` is as trustworthy as the stranger: skops warns
# that indices in it are not checked, so that a forged one may crash the process.
TRUSTED = frozenset(
    {
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.metrics._dist_metrics.EuclideanDistance32",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._dist_metrics.ManhattanDistance32",
        "sklearn.metrics._dist_metrics.ManhattanDistance64",
        "sklearn.metrics._dist_metrics.MinkowskiDistance32",
        "sklearn.metrics._dist_metrics.MinkowskiDistance64",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
    }
)


def dump(model: Any, path: Path) -> None:
    """Write a fitted model, if it can be read back.

    Raises:
        ConfigError: it consists of types that are not on the list.
    """
    import skops.io  # imports torch too, 3.7 s

    data = skops.io.dumps(model)
    foreign = sorted(set(skops.io.get_untrusted_types(data=data)) - TRUSTED)
    if foreign:
        raise ConfigError(
            f"{type(model).__name__} cannot be stored without pickle",
            cause=f"it holds {', '.join(foreign)}",
            remedy="choose another classifier or other options",
        )
    path.write_bytes(data)


def load(path: Path) -> Any:
    """Read a model that `dump` wrote.

    Raises:
        StoreDamagedError: the file is not readable, or holds types that are not on the list.
    """
    import skops.io

    data = path.read_bytes()
    try:
        untrusted = set(skops.io.get_untrusted_types(data=data))
    except Exception as error:
        raise StoreDamagedError(
            "the model cannot be read", path=path, cause=f"{type(error).__name__}: {error}"
        ) from error
    foreign = sorted(untrusted - TRUSTED)
    if foreign:
        raise StoreDamagedError(
            "the model holds types that are not trusted, and was not loaded",
            path=path,
            cause=", ".join(foreign),
            remedy="fit the head again with `mvp fit-head`; do not use files of unknown origin",
        )
    return skops.io.loads(data, trusted=sorted(untrusted))
