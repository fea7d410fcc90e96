"""Read report.json back."""

import json
from pathlib import Path
from typing import Any

from utils.errors import ReidError, one_line

REPORT = "report.json"


def read_report(path: Path) -> dict[str, Any]:
    """What test.py has written.

    Raises:
        ReidError: if the file is missing, damaged or no report.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ReidError(f"{path} must be a {REPORT} that test.py has written, but does not exist") from error
    except (ValueError, RecursionError) as error:
        raise ReidError(f"{path} must be JSON, but cannot be read ({one_line(error)[:200]}); test again") from error
    if not isinstance(report, dict) or not isinstance(report.get("results"), list):
        raise ReidError(f"{path} must be a {REPORT} that test.py has written, but has no results; test again")
    return report
