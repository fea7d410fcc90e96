"""The progress bar of training, short enough for a terminal."""

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar
from tqdm import tqdm

_SHOWN = {"train/loss_step": "loss", "val/mAP": "mAP"}


class EpochBar(TQDMProgressBar):
    """Lightning's bar with the loss of the step and the last mAP; the log and metrics.csv have the rest."""

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The two figures beside the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        return {short: metrics[name] for name, short in _SHOWN.items() if name in metrics}

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bars: an open one would be drawn again below the message that ends the script."""
        for bar in vars(self).values():
            if isinstance(bar, tqdm):
                bar.close()
