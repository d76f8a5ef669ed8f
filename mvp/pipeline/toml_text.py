"""A commented `mvp.toml` as text: one way of writing it for all who start a workspace."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
HEAD = "# What mvp is to do. docs/configuration.md lists every setting and its default."
_PROTOCOL = """
# How stage two is kept honest:
#   "holdout"  networks are fine-tuned on one part of the patients, heads on another;
#   "frozen"   published weights are used as they are, heads may use all training rows.
"""
# Of each table: what to say beside its name, and its settings with what to say beside them.
_COMMON: dict[str, tuple[str, dict[str, tuple[Any, str]]]] = {
    "split": (
        "by patient; what is left goes to stage one",
        {"test": (0.25, ""), "stage2": (0.3, "")},
    ),
    "network": (
        "`mvp networks` lists them; or timm:NAME, or package.module:factory",
        {
            "name": ("resnet18", ""),
            "weights": ("DEFAULT", 'published weights, a file, or "none"'),
        },
    ),
    "transform": ("", {"size": (224, "")}),
    "training": (
        "",
        {"epochs": (20, ""), "learning_rate": (1e-4, ""), "head_learning_rate": (1e-3, "")},
    ),
    "augment": (
        "random changes of training images",
        {"preset": ("cxr", 'the kind of image: "cxr", "mammo", "mri", "photo", "none"')},
    ),
    "head": (
        "",
        {"learner": ("mlp", "or xgboost, logistic, a scikit-learn class by its dotted path")},
    ),
}


def text(value: str) -> str:
    """A TOML basic string."""
    # A JSON string is a TOML basic string, but for DEL and lone surrogates.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def value(item: Any) -> str:
    """A TOML value: text, number, truth, list, or an inline table.

    Raises:
        TypeError: TOML has no such value.
    """
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, str):
        return text(item)
    if isinstance(item, int | float):
        return repr(item)
    if isinstance(item, Mapping):
        return "{ " + ", ".join(f"{key(k)} = {value(v)}" for k, v in item.items()) + " }"
    if isinstance(item, Sequence):
        return "[" + ", ".join(value(v) for v in item) + "]"
    raise TypeError(f"{type(item).__name__} is no value of a TOML file")


def key(name: str) -> str:
    """A TOML key, quoted where it must be."""
    return name if _BARE.fullmatch(name) else text(name)


def remark(words: str) -> list[str]:
    """Lines of comment; none for no words."""
    # Words may hold names from a stranger's table: no control character ends the comment.
    clean = ("".join(c if c.isprintable() else " " for c in line) for line in words.splitlines())
    return [f"# {line}".rstrip() for line in clean]


def setting(name: str, item: Any, why: str = "") -> str:
    """One line `name = value`, and why."""
    return f"{key(name)} = {value(item)}" + (f"    # {why}" if why else "")


def table(
    path: Sequence[str],
    settings: Mapping[str, Any],
    *,
    comment: str = "",
    beside: Mapping[str, str] | None = None,
    hints: Mapping[str, Any] | None = None,
) -> list[str]:
    """The lines of one TOML table, after an empty line.

    Args:
        path: its name, part by part.
        settings: what stands in it.
        comment: lines above it.
        beside: what to say beside a setting.
        hints: settings written as comments, for the reader to switch on.
    """
    why = beside or {}
    return [
        "",
        *remark(comment),
        f"[{'.'.join(key(part) for part in path)}]",
        *(setting(name, item, why.get(name, "")) for name, item in settings.items()),
        *(f"# {setting(name, item, why.get(name, ''))}" for name, item in (hints or {}).items()),
    ]


def top(protocol: str = "holdout") -> list[str]:
    """The lines before the first table."""
    return [HEAD, *_PROTOCOL.rstrip().splitlines(), setting("protocol", protocol), "seed = 0"]


def common(changes: Mapping[str, Mapping[str, Any]] | None = None) -> list[str]:
    """The tables that every start has: split, network, transform, training, augment, head.

    Args:
        changes: other or further settings by table; a table that is none of these follows them.
    """
    wanted = dict(changes or {})
    lines: list[str] = []
    for name, (words, settings) in _COMMON.items():
        mine = wanted.pop(name, {})
        items = {k: mine.get(k, default) for k, (default, _) in settings.items()}
        lines += ["", f"[{name}]" + (f"    # {words}" if words else "")]
        lines += [setting(k, item, settings[k][1]) for k, item in items.items()]
        lines += [setting(k, item) for k, item in mine.items() if k not in settings]
    for name, mine in wanted.items():
        lines += table([name], mine)
    return lines


def relative(path: Path, folder: Path) -> str:
    """A path as seen from a folder, with forward slashes; in full where there is no way."""
    try:
        found = os.path.relpath(path.resolve(), folder.resolve())
    except ValueError:  # another drive
        return path.resolve().as_posix()
    return Path(found).as_posix()
