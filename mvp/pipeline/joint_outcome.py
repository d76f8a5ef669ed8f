"""What a joint training did, in numbers and in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from mvp.errors import REJECTED_EXIT_CODE
from mvp.pipeline.recording import Reject
from mvp.pipeline.workspace import JOINT
from mvp.stages.finetune_joint import JointResult


@dataclass
class JointOutcome:
    """What was trained, what it gained, and what it cost.

    Attributes:
        reason: why it was trained, or not.
        views: of the joint network, in order; `bodies` are those with a network.
        learner: its head, as a learner of stage two.
        result: how training went; None where the network was fresh.
        forward_passes: images that went through the trained bodies for the features of its head.
        head: the head's name.
        digest: of the head.
        rejects: images that could not be used.
        reject_table: where they are listed.
    """

    reason: str = ""
    views: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    learner: str = ""
    result: JointResult | None = None
    forward_passes: int = 0
    head: str = JOINT
    digest: str = ""
    folder: str = ""
    rejects: list[Reject] = field(default_factory=list)
    reject_table: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0, or 4 when images were rejected."""
        return REJECTED_EXIT_CODE if self.rejects else 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {
            "reason": self.reason,
            "views": self.views,
            "bodies": self.bodies,
            "learner": self.learner,
            "result": asdict(self.result) if self.result else None,
            "forward_passes": self.forward_passes,
            "head": self.head,
            "digest": self.digest,
            "folder": self.folder,
            "rejected": len(self.rejects),
            "reject_table": self.reject_table,
            "notes": self.notes,
        }

    @property
    def text(self) -> str:
        """For a person."""
        lines = [f"joint network of {' + '.join(self.views)}, head {self.learner}: {self.reason}"]
        if (one := self.result) is not None:
            kept = (
                "no epoch was better than the start, which was kept"
                if not one.trained.best_epoch
                else f"best epoch {one.trained.best_epoch}"
            )
            lines += [
                f"{one.trained.epochs_run} epochs on {one.studies} studies in "
                f"{one.trained.seconds:.0f} s, {one.trained.images_seen + one.probe_inputs} image "
                f"passes; {kept}",
                f"validation AUROC {_area(one.start_auroc)} at the start, "
                f"{_area(one.trained.best_auroc)} now (loss {_area(one.start_loss)}, "
                f"{_area(one.trained.best_loss)})",
            ]
        lines.append(
            f"head {self.head} on the features of its bodies, {self.forward_passes} forward "
            f"passes; {self.folder}"
        )
        if self.rejects:
            lines.append(f"{len(self.rejects)} images rejected: {self.reject_table}")
        return "\n".join([*lines, *self.notes])


def _area(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
