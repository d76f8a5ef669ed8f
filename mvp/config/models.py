"""All of `mvp.toml`: names that must fit together, and a view's own settings over the common."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from mvp.config.augment import AugmentConfig
from mvp.config.complaints import complaints, nearest
from mvp.config.draws import require_meaningful_changes, require_meaningful_draws
from mvp.config.extraction import ExtractConfig
from mvp.config.inputs import DataConfig, LabelConfig, SplitConfig, TransformConfig, ViewConfig
from mvp.config.joint import JointConfig
from mvp.config.network import CHAR_CNN, NetworkConfig, TextConfig
from mvp.config.section import NAME, RESERVED_COLUMNS, RESERVED_VIEWS, Protocol, Section
from mvp.config.stage_two import EvaluateConfig, HeadConfig
from mvp.config.training import TrainingConfig
from mvp.config.variants import require_variants
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
    text: TextConfig = TextConfig()
    training: TrainingConfig = TrainingConfig()
    augment: AugmentConfig = AugmentConfig()
    split: SplitConfig = SplitConfig()
    extract: ExtractConfig = ExtractConfig()
    head: HeadConfig = HeadConfig()
    joint: JointConfig = JointConfig()
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
            if view.images == "newest" and self.data.order is None:
                raise ValueError(
                    f'views.{name}.images = "newest" needs data.order, the column that says which '
                    "image is the newest"
                )
        self._require_use_of_columns()
        if len({name.casefold() for name in self.views}) < len(self.views):
            raise ValueError("two views differ in upper and lower case only")
        outputs = [o for n, label in self.labels.items() for o in label.outputs(n)]
        twice = sorted({o for o in outputs if outputs.count(o) > 1})
        if twice:
            raise ValueError(f"two labels have an output called {twice[0]!r}")
        for name in self.labels:
            if name in RESERVED_COLUMNS or name.startswith("has_") or not name.isprintable():
                raise ValueError(f"label name {name!r} is taken by a column of the score table")
        self._require_own_columns(outputs)
        self._require_one_owner()
        sources = {n.casefold() for n, view in self.views.items() if view.own_files}
        for name, view in self.views.items():
            if view.source is not None and view.source.casefold() not in sources:
                raise ValueError(
                    f"views.{name}.source names {view.source!r}, which is no view with own files"
                )
            if self.views[self.source_of(name)].kind != view.kind:
                raise ValueError(f"views.{name} and its source are of different kinds")
        if self.protocol == "crossfit" and not self.split.folds:
            raise ValueError('protocol = "crossfit" needs split.folds, as folds = 5')
        for name in self.head.views or ():
            if name not in self.views:
                raise ValueError(f"head.views names {name!r}, not in [views]")
        require_variants({name: self.view(name) for name in self.views}, self.protocol)
        require_meaningful_changes(self)
        require_meaningful_draws(self)
        return self

    def _require_use_of_columns(self) -> None:
        """Columns of [data] that no view asks for would be passed over in silence."""
        views = self.views.values()
        if self.data.order is not None and all(view.images != "newest" for view in views):
            raise ValueError('data.order has no meaning without a view of images = "newest"')
        if self.data.laterality is not None and all(view.side is None for view in views):
            raise ValueError("data.laterality has no meaning without a view with `side`")

    def _require_own_columns(self, outputs: list[str]) -> None:
        """Beside the probabilities a score table has what is decided of every label."""
        derived = {f"{output}_raw" for output in outputs}
        derived |= {f"{name}_{what}" for name in self.labels for what in ("call", "set")}
        if taken := sorted(derived & set(outputs)):
            raise ValueError(f"label name {taken[0]!r} is taken by a column of the score table")
        classes = [c for label in self.labels.values() for c in label.classes]
        if self.head.conformal and (odd := next((c for c in classes if "|" in c), None)):
            raise ValueError(f"class {odd!r}: head.conformal writes sets of classes with | between")

    def _require_one_owner(self) -> None:
        """No row of the table may belong to two views."""
        owner: dict[tuple[str, str | None], str] = {}
        for name, view in self.views.items():
            if not view.own_files:
                continue
            if view.side is not None and self.data.laterality is None:
                raise ValueError(
                    f"views.{name}.side needs data.laterality, the column that says the side"
                )
            for alias in {name, *view.aliases}:
                # A view of both sides meets those of one.
                sides = [view.side, None] if view.side else ["left", "right", None]
                rivals = [owner.get((alias.casefold(), side)) for side in sides]
                if other := next((r for r in rivals if r not in (None, name)), None):
                    raise ValueError(f"alias {alias!r} belongs to two views: {other}, {name}")
                owner[alias.casefold(), view.side] = name

    def source_of(self, name: str) -> str:
        """The view whose files a view looks at, as [views] writes it; itself where it has none."""
        if self.views[name].imported or self.views[name].columns:
            return name
        wanted = (self.views[name].source or name).casefold()
        return next(n for n, v in self.views.items() if v.own_files and n.casefold() == wanted)

    def view(self, name: str) -> ResolvedView:
        """A view's own settings laid over the common ones."""
        own = self.views[name]
        return ResolvedView(
            name=name,
            kind=own.kind,
            source=self.source_of(name),
            imported=own.imported,
            columns=tuple(own.columns),
            images=own.images,
            labels=tuple(own.labels if own.labels is not None else self.labels),
            # What is said of networks is said of CNNs for images.
            network=NetworkConfig(name=CHAR_CNN)
            if own.kind == "text"
            else _overlay(self.network, own.network, f"views.{name}.network"),
            transform=_overlay(self.transform, own.transform, f"views.{name}.transform"),
            text=_overlay(self.text, own.text, f"views.{name}.text"),
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
    kind: Literal["image", "table", "text"] = "image"
    source: str
    imported: bool = False
    columns: tuple[str, ...] = ()
    images: Literal["all", "first", "newest", "error"]
    labels: tuple[str, ...]
    network: NetworkConfig
    transform: TransformConfig
    text: TextConfig = TextConfig()
    training: TrainingConfig
    augment: AugmentConfig


S = TypeVar("S", bound=Section)


def _overlay(common: S, own: dict[str, Any], place: str) -> S:
    try:
        return type(common).model_validate({**common.model_dump(exclude_unset=True), **own})
    except ValidationError as error:
        raise ValueError("; ".join(complaints(error, type(common), place))) from None
