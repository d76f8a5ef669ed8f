"""Reading `mvp.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import ValidationError

from mvp.config.complaints import complaints
from mvp.config.models import Config
from mvp.errors import ConfigError


def parse_config(text: str, path: Path) -> Config:
    """The settings in a TOML text; a ConfigError names every wrong setting."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("mvp.toml is not valid TOML", path=path, cause=str(error)) from None
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(
            "mvp.toml has wrong settings",
            path=path,
            cause="; ".join(complaints(error, Config)),
            remedy="correct them; docs/configuration.md lists every setting",
        ) from None


def load_config(path: Path) -> Config:
    """Read `mvp.toml`; a ConfigError says what to do when there is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            "there is no mvp.toml here",
            path=path,
            remedy="`mvp init TABLE` writes one, `mvp demo` makes a whole example; "
            "or name its folder with --workspace",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("mvp.toml cannot be read", path=path, cause=str(error)) from None
    return parse_config(text, path)
