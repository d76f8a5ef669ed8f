"""An imported view for `mvp.toml`, added at its end; what stands there stays byte for byte."""

from __future__ import annotations

from mvp.config import NAME, parse_config
from mvp.errors import ConfigError
from mvp.files import write_bytes
from mvp.pipeline.project import Project

SECTION = """
# Features from elsewhere; filled by `mvp import-features`.
[views.{view}]
imported = true
"""


def require_room_for(project: Project, view: str) -> bytes | None:
    """The text of mvp.toml with the view in it, None where it is there already.

    Raises:
        ConfigError: the name cannot be used, or belongs to a view with images.
    """
    path = project.workspace.config
    known = project.config.views
    if view in known and known[view].imported:
        return None
    if view in known:
        raise ConfigError(
            "the view has images: its features come from them",
            view=view,
            path=path,
            remedy="import under another name, as --view radiomics",
        )
    if not NAME.fullmatch(view):
        raise ConfigError(
            f"{view!r} cannot be the name of a view", remedy="use letters, digits, - and _ only"
        )
    old = path.read_bytes()
    text = (b"" if old.endswith(b"\n") else b"\n") + SECTION.format(view=view).encode()
    by_hand = f"add [views.{view}] with imported = true to mvp.toml yourself, or use another name"
    try:
        config = parse_config((old + text).decode("utf-8-sig"), path)
    except ConfigError as error:
        raise ConfigError(
            "the view cannot be added to mvp.toml",
            view=view,
            path=path,
            cause=error.cause,
            remedy=by_hand,
        ) from None
    # Whatever the file's own way of writing, nothing else may come to mean something else.
    others = {name: settings for name, settings in config.views.items() if name != view}
    if config.model_copy(update={"views": others}) != project.config:
        raise ConfigError(
            "the view cannot be added to mvp.toml",
            view=view,
            path=path,
            cause="the file has changed meanwhile, or other settings would change",
            remedy=f"run the command again, or {by_hand}",
        )
    return old + text


def add_imported_view(project: Project, view: str) -> bool:
    """Add an imported view at the end of mvp.toml; False where it is there already.

    Raises:
        ConfigError: as `require_room_for`.
    """
    text = require_room_for(project, view)
    if text is None:
        return False
    # Where mvp.toml is a link, what it leads to is written.
    write_bytes(project.workspace.config.resolve(), text)
    return True
