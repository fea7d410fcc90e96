import socket
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from evaluation.protocols import evaluate
from evaluation.results import EvaluationProtocol
from modelling.evaluator import EmbeddingBuffer, Evaluator
from tests.support import memory_budget


def test_rows_come_back_in_order() -> None:
    vectors = torch.randn(5, 3)
    buffer = EmbeddingBuffer(5, slice(0, 5))
    buffer.put(torch.tensor([4, 0]), vectors[[4, 0]].double())
    buffer.put(torch.tensor([2, 1, 3]), vectors[[2, 1, 3]])
    torch.testing.assert_close(buffer.gather(3, torch.device("cpu")), vectors)


def test_a_row_doubled_within_one_batch_is_noticed() -> None:
    buffer = EmbeddingBuffer(2, slice(0, 2))
    buffer.put(torch.tensor([0, 0, 1]), torch.ones(3, 2))
    with pytest.raises(RuntimeError, match="row 0 was filled 2 times"):
        buffer.gather(2, torch.device("cpu"))


@pytest.mark.parametrize(("rows", "message"), [([0, 1], "row 2 was filled 0"), ([0, 1, 1, 2], "row 1 was filled")])
def test_rows_filled_never_or_twice_are_our_mistake(rows: list[int], message: str) -> None:
    buffer = EmbeddingBuffer(3, slice(0, 3))
    for row in rows:
        buffer.put(torch.tensor([row]), torch.ones(1, 2))
    with pytest.raises(RuntimeError, match=message):
        buffer.gather(2, torch.device("cpu"))


def test_rows_that_nobody_needs_stay_zero() -> None:
    buffer = EmbeddingBuffer(4, slice(1, 3))
    buffer.put(torch.tensor([2, 1]), torch.tensor([[2.0], [1.0]]))
    assert buffer.gather(1, torch.device("cpu")).flatten().tolist() == [0, 1, 2, 0]
    buffer = EmbeddingBuffer(4, slice(1, 3))
    buffer.put(torch.tensor([0, 1, 2]), torch.ones(3, 1))
    with pytest.raises(RuntimeError, match="row 0 was filled 1 times instead of 0"):
        buffer.gather(1, torch.device("cpu"))


def _gather(rank: int, port: int, queue: mp.Queue) -> None:
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=3)
    buffer = EmbeddingBuffer(7, slice(0, 7))
    mine = torch.arange(rank, 7, 2) if rank < 2 else torch.arange(0)  # 4, 3 and 0 rows
    if len(mine):
        buffer.put(mine, torch.stack([mine.float() * 10 + k for k in range(4)], 1))
    with memory_budget(4 * 4 * 4 * 2):  # of which two rows at once are a quarter
        queue.put((rank, buffer.gather(4, torch.device("cpu")).tolist()))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_with_unequal_shares_get_the_same_rows() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = mp.get_context("spawn")
    queue = context.Queue()
    mp.spawn(_gather, (port, queue), nprocs=3, join=True)
    rows = [[row * 10.0 + k for k in range(4)] for row in range(7)]
    assert dict(queue.get() for _ in range(3)) == dict.fromkeys(range(3), rows)


class Image(NamedTuple):
    path: Path
    person_id: int
    camera_id: int


QUERY = [Image(Path(f"q{i}"), 1 + i, 1) for i in range(3)]
GALLERY = [Image(Path(f"g{i}"), i % 4, 2) for i in range(8)]
CPU = torch.device("cpu")


def fill(evaluator: Evaluator, vectors: dict[int, torch.Tensor]) -> None:
    """Embed the images in two batches, each scale as far as an evaluation needs it."""
    evaluator.start()
    for rows in (torch.arange(0, 11, 2), torch.arange(1, 11, 2)):
        for scale, buffer in evaluator.buffers.items():
            mask = buffer.mask(rows)
            part = rows if mask is None else rows[mask]
            buffer.put(part, vectors[scale][part])


def test_an_evaluator_gives_what_its_protocols_measure() -> None:
    protocols = [EvaluationProtocol(), EvaluationProtocol("centroid"), EvaluationProtocol("instance", 4, 1)]
    evaluator = Evaluator(protocols, QUERY, GALLERY)
    for seed in (0, 1):  # as validation after validation
        torch.manual_seed(seed)
        vectors = {scale: torch.randn(11, 5) for scale in (1, 4)}
        fill(evaluator, vectors)
        entries, _ = evaluator.finish(5, CPU)
        reference = evaluate(vectors, QUERY, GALLERY, protocols)
        assert [entry.name for entry in entries] == [entry.name for entry in reference]
        for entry, other in zip(entries, reference, strict=True):
            assert entry.result.average_precision.tolist() == other.result.average_precision.tolist()


@pytest.mark.parametrize(
    ("protocol", "rows"),
    [
        (EvaluationProtocol("instance", 4, 1), {1: range(3, 11), 4: range(3)}),
        (EvaluationProtocol("instance", 1, 4), {1: range(3), 4: range(3, 11)}),
        (EvaluationProtocol("instance", 4, 4), {4: range(11)}),
    ],
)
def test_a_side_is_embedded_at_its_own_scale_alone(protocol: EvaluationProtocol, rows: dict[int, range]) -> None:
    evaluator = Evaluator([protocol], QUERY, GALLERY)
    evaluator.start()
    everything = torch.arange(11)
    masks = {scale: buffer.mask(everything) for scale, buffer in evaluator.buffers.items()}
    assert {s: everything.tolist() if m is None else everything[m].tolist() for s, m in masks.items()} == {
        scale: list(part) for scale, part in rows.items()
    }


def test_an_evaluator_returns_its_embeddings_and_keeps_none() -> None:
    evaluator = Evaluator([EvaluationProtocol()], QUERY, GALLERY)
    vectors = {1: torch.randn(11, 5)}
    fill(evaluator, vectors)
    _, data = evaluator.finish(5, CPU)
    assert data.vectors.keys() == {1}
    assert torch.equal(data.vectors[1], vectors[1])
    assert data.retrieval(1, 1) is data.retrieval(1, 1)
    assert not evaluator.buffers


def test_an_evaluation_that_lacks_a_row_is_our_mistake() -> None:
    evaluator = Evaluator([EvaluationProtocol()], QUERY, GALLERY)
    evaluator.start()
    evaluator.buffers[1].put(torch.arange(10), torch.randn(10, 5))
    with pytest.raises(RuntimeError, match="row 10 was filled 0 times instead of 1"):
        evaluator.finish(5, CPU)
