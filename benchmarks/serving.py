"""The service under many clients at once, against the bare Extractor.

The service runs in a process of its own, the clients in another; both share this machine. Each round embeds the same
photos with the bare Extractor, a batch of as many images as there are clients, and then lets the clients send them to
POST /search over connections that stay open, each its next photo when it has its answer. Beside them one client sends
garbage, breaks off in the middle of photos, and goes away without its answer. The ratio is requests/s over the
Extractor's images/s of the same round; latencies are of all rounds; memory is the service's after the first round, in
which it grows to its size, and after the last.

    python -m benchmarks.serving [--backbone resnet50] [--clients 32] [--requests 512] [--rounds 3]
"""

import argparse
import http.client
import json
import multiprocessing
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.embedding import make_model
from datasets.readers.market import labels_of
from datasets.synthetic import SyntheticSpec, draw_dataset
from inference.extract import Extractor
from inference.gallery.store import Embeddings, Gallery
from inference.index import build_index
from utils.cpu import flush_subnormals, keep_freed_memory

_GALLERY = 20_000  # vectors
_PIXELS = 2**24
_BOUNDARY = "photo"


class Round(NamedTuple):
    """What one round gave: rates per second, seconds of each request, wrong answers, MiB of the service."""

    extractor: float
    service: float
    seconds: list[float]
    errors: int
    memory: float


def serve(backbone: str, batch: int, connection: Connection) -> None:
    """The process of the service: it sends its port, and ends when it is terminated."""
    from inference.service.access import Access
    from inference.service.app import create_app
    from inference.service.gallery import FixedGallery
    from inference.service.server import bind, run
    from inference.service.service import Service
    from inference.service.uploads import Limits

    flush_subnormals()
    keep_freed_memory()
    extractor = Extractor(make_model(backbone), batch_size=batch, workers=0)
    extractor.choose(10**6)
    vectors = np.random.default_rng(0).standard_normal((_GALLERY, extractor.card.dim), np.float32)
    paths = np.array([f"/gallery/{row:05d}_c{row % 6}_0.jpg" for row in range(_GALLERY)])
    gallery = Gallery(Embeddings(vectors, paths), extractor.card, False, *labels_of(paths))
    service = Service(extractor, FixedGallery(gallery, build_index(vectors), "flat"), Limits(2**22, _PIXELS), batch)
    listener = bind("127.0.0.1", 0)
    connection.send(listener.getsockname()[1])
    run(create_app(service, Access()), listener)


def body_of(photo: bytes) -> bytes:
    """A multipart body with one image."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    return head.encode() + photo + f"\r\n--{_BOUNDARY}--\r\n".encode()


class Clients:
    """Clients with connections that stay open.

    Args:
        port: of the service.
        bodies: of requests.
        number: of clients.
    """

    def __init__(self, port: int, bodies: Sequence[bytes], number: int) -> None:
        self._port, self._bodies, self._number = port, bodies, number

    def run(self, requests: int) -> tuple[list[float], int]:
        """Send so many requests in all: the seconds of each, and the number of wrong answers."""
        shares = [range(first, requests, self._number) for first in range(self._number)]
        with ThreadPoolExecutor(self._number) as threads:
            results = list(threads.map(self._client, shares))
        return [second for seconds, _ in results for second in seconds], sum(errors for _, errors in results)

    def _client(self, places: range) -> tuple[list[float], int]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
        seconds, errors = [], 0
        for place in places:
            begin = time.perf_counter()
            connection.request("POST", "/search?k=10", self._bodies[place % len(self._bodies)], headers)
            answer = connection.getresponse()
            content = answer.read()
            seconds.append(time.perf_counter() - begin)
            errors += answer.status != 200 or len(json.loads(content)["matches"]) != 10
        connection.close()
        return seconds, errors


def disturb(port: int, body: bytes, end: threading.Event) -> None:
    """Send garbage, half of a photo, and a whole one without waiting for the answer, in turn until the end."""
    head = f"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary={_BOUNDARY}\r\n"
    while not end.is_set():
        for content in (body_of(b"\xff\xd8 garbage"), body[: len(body) // 2], body):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + content)
            end.wait(1.0)  # whole photos must not be many beside those of the clients


def memory_of(process: int) -> float:
    """Resident MiB (Linux only)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def measure(options: argparse.Namespace, folder: Path) -> list[Round]:
    """All rounds."""
    spec = SyntheticSpec(train_ids=2, test_ids=8, cameras=4, images_per_camera=2, height=256, width=128)
    draw_dataset(folder, spec)
    photos = sorted((folder / "bounding_box_test").glob("*.jpg"))
    bodies = [body_of(photo.read_bytes()) for photo in photos]
    extractor = Extractor(make_model(options.backbone), batch_size=options.clients)
    extractor.choose(10**6)  # before the service, which takes the stored choice
    paths = [str(photos[place % len(photos)]) for place in range(options.requests)]
    rounds = []
    with _service(options) as (process, port), _disturbance(port, bodies[0]):
        clients = Clients(port, bodies, options.clients)
        clients.run(options.clients)  # threads and memory of the first batches
        for _ in range(options.rounds):
            begin = time.perf_counter()
            extractor(paths)
            middle = time.perf_counter()
            seconds, errors = clients.run(options.requests)
            rates = (options.requests / span for span in (middle - begin, time.perf_counter() - middle))
            rounds.append(Round(*rates, seconds, errors, memory_of(process)))
            print(rounds[-1]._replace(seconds=[]), flush=True)
    return rounds


@contextmanager
def _service(options: argparse.Namespace) -> Iterator[tuple[int, int]]:
    """The number of the process and its port."""
    here, there = multiprocessing.Pipe()
    arguments = (options.backbone, options.clients, there)
    process = multiprocessing.get_context("spawn").Process(target=serve, args=arguments)
    process.start()
    there.close()  # so that the end of the process is noticed
    try:
        port = here.recv()
        _wait_for(port)
        yield process.pid or 0, port
    finally:
        process.terminate()
        process.join()


@contextmanager
def _disturbance(port: int, body: bytes) -> Iterator[None]:
    end = threading.Event()
    thread = threading.Thread(target=disturb, args=(port, body, end))
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _wait_for(port: int) -> None:
    with socket.socket() as client:
        while client.connect_ex(("127.0.0.1", port)):
            time.sleep(0.1)


def main() -> None:
    """Parse, measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=512, help="in a round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    flush_subnormals()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        rounds = measure(options, Path(folder))
    seconds = np.concatenate([entry.seconds for entry in rounds])
    figures = {
        "clients": options.clients,
        "extractor_per_s": statistics.median(entry.extractor for entry in rounds),
        "service_per_s": statistics.median(entry.service for entry in rounds),
        "ratio": statistics.median(entry.service / entry.extractor for entry in rounds),
        **{f"p{share}_ms": float(np.percentile(seconds, share)) * 1000 for share in (50, 95, 99)},
        "errors": sum(entry.errors for entry in rounds),
        "MiB_first": rounds[0].memory,
        "MiB_last": rounds[-1].memory,
    }
    for name, value in figures.items():
        print(f"{name:16} {value:10.2f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
