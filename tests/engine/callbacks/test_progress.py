"""The bar of a training."""

import io

from tqdm import tqdm

from engine.callbacks.progress import EpochBar
from tests.engine.callbacks.support import Trainer, module


def test_an_error_closes_the_bars_so_that_its_message_is_the_last_line() -> None:
    bar = EpochBar()
    bar.train_progress_bar = tqdm(total=3, file=io.StringIO())
    bar.val_progress_bar = tqdm(total=3, file=io.StringIO())
    bar.on_exception(Trainer(1), module(), ValueError("x"))  # type: ignore[arg-type]
    with tqdm(total=1, file=io.StringIO()) as another:
        assert another.pos == 0
