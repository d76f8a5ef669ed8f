"""What a view's files hold, in numbers and in one line for a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mvp.data.reading.inventory import FileRecord


def summarise(records: Iterable[FileRecord]) -> dict[str, Any]:
    """What some files hold; those that cannot be read are left out.

    Returns:
        `images`: readable files; `volumes`: those of them with several instances; `instances`: of
        all of them together; `slices`: fewest and most instances of a volume, [] without one;
        `bits`: per sample, ascending; `smallest` and `largest`: [H, W] by area, [] without files;
        `texts`: readable texts, and `characters`: fewest and most of one, [] without one.
    """
    everything = [r for r in records if not r.error]
    readable = [r for r in everything if len(r.shape) > 1]
    lengths = [r.shape[0] for r in everything if len(r.shape) == 1]
    slices = [r.instances for r in readable if r.instances > 1]
    sizes = sorted((r.shape[0] * r.shape[1], r.shape[:2]) for r in readable)
    return {
        "images": len(readable),
        "volumes": len(slices),
        "instances": sum(r.instances for r in readable),
        "slices": [min(slices), max(slices)] if slices else [],
        "bits": sorted({r.bits for r in readable}),
        "smallest": list(sizes[0][1]) if sizes else [],
        "largest": list(sizes[-1][1]) if sizes else [],
        "texts": len(lengths),
        "characters": [min(lengths), max(lengths)] if lengths else [],
    }


def summary_text(name: str, summary: Mapping[str, Any]) -> str:
    """One line: how many images, volumes and texts, how deep and how large."""
    single = summary["images"] - summary["volumes"]
    parts = [f"{single} images"] if single or not (summary["volumes"] or summary["texts"]) else []
    if summary["texts"]:
        parts.append(f"{summary['texts']} texts, {_span(*summary['characters'])} characters")
    if summary["volumes"]:
        volumes = f"{summary['volumes']} volumes, {_span(*summary['slices'])} slices"
        parts.append(f"{volumes}, {summary['instances']} rows in all")
    if summary["bits"]:
        parts.append(f"{' and '.join(str(b) for b in summary['bits'])} bit")
        parts.append(_span(*("×".join(map(str, summary[k])) for k in ("smallest", "largest"))))
    return f"{name}: {', '.join(parts)}"


def _span(low: object, high: object) -> str:
    if low == high:
        return str(low)
    return f"{low}–{high}" if isinstance(low, int) else f"{low} to {high}"
