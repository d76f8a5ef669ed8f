"""Order, places and provenance: every verb of the command line as one function.

Importing this costs nothing; torch, pandas and the others come with the verb that is called.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvp.pipeline._cache import run_cache_diff as cache_diff
    from mvp.pipeline._cache import run_cache_export as cache_export
    from mvp.pipeline._cache import run_cache_ls as cache_ls
    from mvp.pipeline._cache_tidy import run_cache_compact as cache_compact
    from mvp.pipeline._cache_tidy import run_cache_gc as cache_gc
    from mvp.pipeline._cache_verify import run_cache_verify as cache_verify
    from mvp.pipeline._check import run_check as check
    from mvp.pipeline._compare import run_compare as compare
    from mvp.pipeline._demo import run_demo as demo
    from mvp.pipeline._evaluate import run_evaluate as evaluate
    from mvp.pipeline._extract import run_extract as extract
    from mvp.pipeline._finetune import run_finetune as finetune
    from mvp.pipeline._finetune_joint import run_finetune_joint as finetune_joint
    from mvp.pipeline._fit_head import parse_options
    from mvp.pipeline._fit_head import run_fit_head as fit_head
    from mvp.pipeline._import import run_import as import_dataset
    from mvp.pipeline._import_features import run_import_features as import_features
    from mvp.pipeline._init import run_init as init
    from mvp.pipeline._lr_find import run_lr_find as lr_find
    from mvp.pipeline._networks import run_networks as list_networks
    from mvp.pipeline._next_view import run_next_view as next_view
    from mvp.pipeline._run import run_all as run
    from mvp.pipeline._score import run_score as score
    from mvp.pipeline._split import run_split as split

_VERBS = {
    "cache_compact": ("_cache_tidy", "run_cache_compact"),
    "cache_diff": ("_cache", "run_cache_diff"),
    "cache_export": ("_cache", "run_cache_export"),
    "cache_gc": ("_cache_tidy", "run_cache_gc"),
    "cache_ls": ("_cache", "run_cache_ls"),
    "cache_verify": ("_cache_verify", "run_cache_verify"),
    "init": ("_init", "run_init"),
    "check": ("_check", "run_check"),
    "compare": ("_compare", "run_compare"),
    "finetune": ("_finetune", "run_finetune"),
    "finetune_joint": ("_finetune_joint", "run_finetune_joint"),
    "extract": ("_extract", "run_extract"),
    "fit_head": ("_fit_head", "run_fit_head"),
    "evaluate": ("_evaluate", "run_evaluate"),
    "import_dataset": ("_import", "run_import"),
    "import_features": ("_import_features", "run_import_features"),
    "list_networks": ("_networks", "run_networks"),
    "lr_find": ("_lr_find", "run_lr_find"),
    "next_view": ("_next_view", "run_next_view"),
    "score": ("_score", "run_score"),
    "split": ("_split", "run_split"),
    "run": ("_run", "run_all"),
    "demo": ("_demo", "run_demo"),
    "parse_options": ("_fit_head", "parse_options"),
}

__all__ = [
    "cache_compact",
    "cache_diff",
    "cache_export",
    "cache_gc",
    "cache_ls",
    "cache_verify",
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
    "parse_options",
    "run",
    "score",
    "split",
]


def __getattr__(name: str) -> Any:
    if name not in _VERBS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, function = _VERBS[name]
    return getattr(importlib.import_module(f"mvp.pipeline.{module}"), function)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
