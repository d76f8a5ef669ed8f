"""All of `mvp.toml`: names that must fit together, and a view's own settings over the common."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from mvp.config.complaints import complaints, nearest
from mvp.config.inputs import DataConfig, LabelConfig, SplitConfig, TransformConfig, ViewConfig
from mvp.config.section import NAME, RESERVED_COLUMNS, RESERVED_VIEWS, Protocol, Section
from mvp.config.sections import (
    AugmentConfig,
    EvaluateConfig,
    ExtractConfig,
    HeadConfig,
    NetworkConfig,
    TrainingConfig,
)
from mvp.errors import ConfigError


class Config(Section):
    """All of `mvp.toml`."""

    data: DataConfig
    views: dict[str, ViewConfig] = Field(min_length=1)
    labels: dict[str, LabelConfig] = Field(min_length=1)
    protocol: Protocol = "holdout"
    seed: int = 0
    device: str = "auto"
    workers: int = Field(default=0, ge=0)
    network: NetworkConfig = NetworkConfig()
    transform: TransformConfig = TransformConfig()
    training: TrainingConfig = TrainingConfig()
    augment: AugmentConfig = AugmentConfig()
    split: SplitConfig = SplitConfig()
    extract: ExtractConfig = ExtractConfig()
    head: HeadConfig = HeadConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="after")
    def _names_fit_together(self) -> Config:
        for name, view in self.views.items():
            if not NAME.fullmatch(name) or name in RESERVED_VIEWS:
                raise ValueError(
                    f"view name {name!r} cannot be used: letters, digits, - and _ only, and "
                    f"neither of {sorted(RESERVED_VIEWS)}"
                )
            for label in view.labels or ():
                if label not in self.labels:
                    raise ValueError(f"views.{name}.labels names {label!r}, not in [labels]")
        if len({name.casefold() for name in self.views}) < len(self.views):
            raise ValueError("two views differ in upper and lower case only")
        outputs = [o for n, label in self.labels.items() for o in label.outputs(n)]
        twice = sorted({o for o in outputs if outputs.count(o) > 1})
        if twice:
            raise ValueError(f"two labels have an output called {twice[0]!r}")
        for name in self.labels:
            if name in RESERVED_COLUMNS or name.startswith("has_") or not name.isprintable():
                raise ValueError(f"label name {name!r} is taken by a column of the score table")
        owner: dict[str, str] = {}
        for name, view in self.views.items():
            if not view.own_images:
                continue
            for alias in {name, *view.aliases}:
                if owner.setdefault(alias.casefold(), name) != name:
                    raise ValueError(
                        f"alias {alias!r} belongs to two views: {owner[alias.casefold()]}, {name}"
                    )
        sources = {n.casefold() for n, view in self.views.items() if view.own_images}
        for name, view in self.views.items():
            if view.source is not None and view.source.casefold() not in sources:
                raise ValueError(
                    f"views.{name}.source names {view.source!r}, which is no view with own images"
                )
        for name in self.head.views or ():
            if name not in self.views:
                raise ValueError(f"head.views names {name!r}, not in [views]")
        for name in self.views:
            self.view(name)
        return self

    def source_of(self, name: str) -> str:
        """The view whose images a view looks at, as [views] writes it; imported ones have none."""
        if self.views[name].imported:
            return name
        wanted = (self.views[name].source or name).casefold()
        return next(n for n, v in self.views.items() if v.own_images and n.casefold() == wanted)

    def view(self, name: str) -> ResolvedView:
        """A view's own settings laid over the common ones."""
        own = self.views[name]
        return ResolvedView(
            name=name,
            source=self.source_of(name),
            imported=own.imported,
            images=own.images,
            labels=tuple(own.labels if own.labels is not None else self.labels),
            network=_overlay(self.network, own.network, f"views.{name}.network"),
            transform=_overlay(self.transform, own.transform, f"views.{name}.transform"),
            training=_overlay(self.training, own.training, f"views.{name}.training"),
            augment=_overlay(self.augment, own.augment, f"views.{name}.augment"),
        )

    def require_views(self, names: list[str] | None) -> list[str]:
        """The named views, or all; a ConfigError for one that nobody configured."""
        for name in names or ():
            if name not in self.views:
                raise ConfigError(
                    f"there is no view {name!r}" + nearest(name, self.views),
                    cause=f"mvp.toml configures {', '.join(self.views)}",
                    remedy=f"name one of these, or add [views.{name}] to mvp.toml",
                )
        return list(dict.fromkeys(names)) if names else list(self.views)


class ResolvedView(Section):
    """A view with every setting filled in."""

    name: str
    source: str
    imported: bool = False
    images: Literal["all", "first", "error"]
    labels: tuple[str, ...]
    network: NetworkConfig
    transform: TransformConfig
    training: TrainingConfig
    augment: AugmentConfig


S = TypeVar("S", bound=Section)


def _overlay(common: S, own: dict[str, Any], place: str) -> S:
    try:
        return type(common).model_validate({**common.model_dump(), **own})
    except ValidationError as error:
        raise ValueError("; ".join(complaints(error, type(common), place))) from None
