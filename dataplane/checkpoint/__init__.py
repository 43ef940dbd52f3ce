"""Checkpoints of runs, and the models published from them: immutable parts, and one commit that names them all."""

from dataplane.checkpoint.checkpoints import Checkpoints, Restored
from dataplane.checkpoint.models import Model, open_model, publish
from dataplane.checkpoint.record import Checkpoint, Evaluation, Progress, Trained

__all__ = ["Checkpoint", "Checkpoints", "Evaluation", "Model", "Progress", "Restored", "Trained", "open_model", "publish"]
