"""`mvp`: two-stage learning for multi-view studies.

Every verb of the command line is a function here: `mvp.init`, `mvp.check`, `mvp.split`,
`mvp.finetune`, `mvp.extract`, `mvp.fit_head`, `mvp.evaluate`, `mvp.score`, `mvp.run`, `mvp.demo`,
`mvp.finetune_joint`, `mvp.list_networks`, `mvp.lr_find`, `mvp.compare`, `mvp.next_view`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvp.pipeline import (
        check,
        compare,
        demo,
        evaluate,
        extract,
        finetune,
        finetune_joint,
        fit_head,
        import_dataset,
        import_features,
        init,
        list_networks,
        lr_find,
        next_view,
        run,
        score,
        split,
    )

__all__ = [
    "check",
    "compare",
    "demo",
    "evaluate",
    "extract",
    "finetune",
    "finetune_joint",
    "fit_head",
    "import_dataset",
    "import_features",
    "init",
    "list_networks",
    "lr_find",
    "next_view",
    "run",
    "score",
    "split",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mvp import pipeline

    return getattr(pipeline, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
