"""Which distance means the same person, read back from a report."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from utils.errors import ReidError, one_line

_LARGEST_DISTANCE = 2.0


@dataclass(frozen=True)
class Thresholds:
    """Cosine distances below which a test took two images for the same person.

    Attributes:
        dataset: on whose pairs they were measured.
        fpr: the false positive rate that the user of the test wanted.
        at_fpr: false positive rate -> threshold; None = the pairs were too few to measure it.
        scales: low-resolution scales of query and gallery.
        flip: of vectors that are the mean over an image and its mirror image.
    """

    dataset: str
    fpr: float
    at_fpr: Mapping[float, float | None]
    scales: tuple[int, int]
    flip: bool = False

    @classmethod
    def of_report(cls, report: Mapping[str, Any]) -> "Thresholds | None":
        """Those of a report.json; None if its test could not measure any.

        Raises:
            ReidError: if they are damaged.
        """
        if "verification" not in report:
            return None
        try:
            entry = report["verification"]
            rows = {float(fpr): value for fpr, value in entry["threshold_at_fpr"].items()}
            rows[float(entry["fpr"])] = entry["threshold"]
            at_fpr = {fpr: None if value is None else float(value) for fpr, value in rows.items()}
            scales = int(entry["query_scale"]), int(entry["gallery_scale"])
            if not all(value is None or 0 <= value <= _LARGEST_DISTANCE for value in at_fpr.values()):
                raise ValueError(f"a threshold is no cosine distance: {list(at_fpr.values())}")
            return cls(str(report["dataset"]), float(entry["fpr"]), at_fpr, scales, bool(entry.get("flip", False)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ReidError(
                f"the thresholds of a report must be those that test.py wrote, but are damaged "
                f"({type(error).__name__}: {one_line(error)[:100]}); test the weights again"
            ) from error

    def at(self, fpr: float | None = None) -> float:
        """The threshold of a false positive rate.

        Args:
            fpr: one of :attr:`at_fpr`; None = :attr:`fpr`.

        Raises:
            ReidError: if it was not measured.
        """
        rate = self.fpr if fpr is None else fpr
        if (value := self.at_fpr.get(rate)) is not None:
            return value
        rates = ", ".join(f"{rate:g}" for rate, value in sorted(self.at_fpr.items()) if value is not None) or "none"
        raise ReidError(
            f"a threshold must be of a false positive rate that the test on {self.dataset} has measured ({rates}), "
            f"got {rate:g}; set TEST.FPR to one of them, or test again with this TEST.FPR"
        )
