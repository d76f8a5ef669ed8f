"""How networks are fitted: rows, steps, schedules, checkpoints. Knows no folders of a workspace."""

from mvp.training.loop import Loop
from mvp.training.objective import Group, Loss, Objective
from mvp.training.source import ImageSource
from mvp.training.task import Task

__all__ = ["Group", "ImageSource", "Loop", "Loss", "Objective", "Task"]
