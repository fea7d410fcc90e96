import logging
import sys

import pytest
from tqdm import tqdm

from utils.log import setup_logging


def test_a_line_does_not_break_a_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging()
    with tqdm(total=10, file=sys.stderr, mininterval=0) as bar:
        bar.update(3)
        logging.getLogger("somebody").info("in between")
        bar.update(7)
    lines = capsys.readouterr().err.replace("\r", "\n").split("\n")
    (line,) = [line for line in lines if "in between" in line]
    assert line[8:] == " INFO in between"  # a line of its own after the time
