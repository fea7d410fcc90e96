"""Figures of the service for Prometheus, in its text format."""

from collections import Counter, defaultdict
from collections.abc import Iterable

ROUTES = frozenset({"search", "embed", "gallery", "images", "health", "metrics"})
"""Paths by their first part; all others count as one, because clients could think up millions."""


class Counts:
    """How many answers of which status each route gave, and how long they took."""

    def __init__(self) -> None:
        self._answers: Counter[tuple[str, int]] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def add(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        name = path.strip("/").partition("/")[0]
        route = f"/{name}" if name in ROUTES else "other"
        self._answers[route, status] += 1
        self._seconds[route] += seconds

    def text(self, more: Iterable[tuple[str, str, float]]) -> str:
        """All figures.

        Args:
            more: of the service: name, ``counter`` or ``gauge``, value.
        """
        answers = [
            f'{{route="{route}",status="{status}"}} {number}' for (route, status), number in self._answers.items()
        ]
        seconds = [f'{{route="{route}"}} {value:.6f}' for route, value in self._seconds.items()]
        lines = ["# TYPE reid_requests_total counter", *(f"reid_requests_total{line}" for line in answers)]
        lines += [
            "# TYPE reid_request_seconds_total counter",
            *(f"reid_request_seconds_total{line}" for line in seconds),
        ]
        for name, kind, value in more:
            lines += [f"# TYPE reid_{name} {kind}", f"reid_{name} {value:.12g}"]
        return "\n".join([*lines, ""])
