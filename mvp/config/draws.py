"""Where `[augment]` and `tta` mean something; elsewhere they would be passed over in silence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mvp.config.models import Config, ResolvedView

# Left and right as tables of films write them: alone, or before a projection.
_SIDE = re.compile(r"(?:l|r|lt|rt|left|right)|[lr](?:cc|mlo|ml|lm|xccl)", re.IGNORECASE)


def flipped_sides(config: Config, name: str) -> str | None:
    """What a user should know who mirrors a view that tells left from right, or None."""
    view = config.view(name)
    if view.kind != "image" or not view.augment.flip:
        return None
    source = config.views[view.source]
    words = [w for alias in (view.source, *source.aliases) for w in re.split(r"[\W_]+", alias)]
    told = next((word for word in words if _SIDE.fullmatch(word)), None)
    if source.side is not None:
        why = f"side = {source.side!r}"
    elif told is not None:
        why = f"the name {told!r}"
    else:
        return None
    return (
        f"{name}: augment.flip mirrors images of a view with {why}: left and right become one to "
        "its network"
    )


def require_meaningful_changes(config: Config) -> None:
    """Refuse changes of colour where every image is grey; ValueError names the setting."""
    images = _image_views(config)
    for view in images:
        own = config.views[view.name].augment
        idle = view.augment.idle(view.transform.color)
        if idle is not None and idle in own:
            raise ValueError(
                f'views.{view.name}.augment.{idle} has no meaning for transform.color = "grey"'
            )
    common = config.augment.idle("grey")
    if common is not None and all(view.transform.color == "grey" for view in images):
        raise ValueError(f'augment.{common} has no meaning for transform.color = "grey"')


def require_meaningful_draws(config: Config) -> None:
    """Refuse `tta` where nothing is drawn; ValueError names the setting."""
    if config.extract.tta == 1:
        if config.head.tta == "augment":
            raise ValueError('head.tta = "augment" needs draws: set extract.tta to 2 or more')
        return
    images = _image_views(config)
    if not images:
        raise ValueError("extract.tta has no meaning without a view of images")
    for view in images:
        if view.network.pooling in ("rows", "map"):
            raise ValueError(
                f"extract.tta draws vectors: views.{view.name} has network.pooling = "
                f"{view.network.pooling!r}"
            )
        if not view.augment.changes:
            raise ValueError(
                f"extract.tta = {config.extract.tta} has nothing to draw for views.{view.name}: "
                "every setting of its [augment] is off"
            )


def _image_views(config: Config) -> list[ResolvedView]:
    views = [config.view(name) for name in config.views]
    return [view for view in views if view.kind == "image" and not view.imported]
