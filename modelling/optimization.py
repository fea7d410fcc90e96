"""Optimizers by name, and the settings of one run's optimization."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer

from modelling.schedules import Schedule
from utils.errors import ReidError


@dataclass(frozen=True)
class Optimization:
    """How the weights move.

    Attributes:
        name: ``Adam``, ``AdamW``, ``SGD`` or ``Adagrad``.
        base_lr: learning rate where the schedule's factor is 1.
        weight_decay: of the network and the classifier.
        momentum: of SGD.
        schedule: factor on ``base_lr`` by progress in epochs.
        center_lr: rate of the plain SGD that moves the centers; the schedule does not touch it.
        clip: largest norm of the gradient; 0 = no clipping.
    """

    name: str
    base_lr: float
    weight_decay: float
    momentum: float
    schedule: Schedule
    center_lr: float = 0.5
    clip: float = 0.0

    def build(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """The named optimizer over the parameters that need a gradient.

        Raises:
            ReidError: for an unknown name.
        """
        wanted = [parameter for parameter in parameters if parameter.requires_grad]
        match self.name:
            case "Adam":
                return Adam(wanted, lr=self.base_lr, weight_decay=self.weight_decay)
            case "AdamW":
                return AdamW(wanted, lr=self.base_lr, weight_decay=self.weight_decay)
            case "SGD":
                return SGD(wanted, lr=self.base_lr, weight_decay=self.weight_decay, momentum=self.momentum)
            case "Adagrad":
                return Adagrad(wanted, lr=self.base_lr, weight_decay=self.weight_decay)
        raise ReidError(f"SOLVER.OPTIMIZER_NAME must be Adam, AdamW, SGD or Adagrad, got {self.name!r}")
