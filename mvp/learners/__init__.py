"""What may be plugged in for stage two.

Importing this costs nothing: torch, scikit-learn and XGBoost are imported with the learner that
needs them, when it is asked for.
"""

from mvp.learners.base import Learner, Validation
from mvp.learners.contract import check_learner
from mvp.learners.guards import require_two_classes
from mvp.learners.head import Head
from mvp.learners.registry import find_learner, learner_names, make_learner, parse_option

__all__ = [
    "Head",
    "Learner",
    "Validation",
    "check_learner",
    "find_learner",
    "learner_names",
    "make_learner",
    "parse_option",
    "require_two_classes",
]
