import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from modelling import evaluator
from modelling.evaluator import EmbeddingBuffer


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
    evaluator._PIECE_BYTES = 4 * 4 * 2  # two rows a piece
    buffer = EmbeddingBuffer(7, slice(0, 7))
    mine = torch.arange(rank, 7, 2) if rank < 2 else torch.arange(0)  # 4, 3 and 0 rows
    if len(mine):
        buffer.put(mine, torch.stack([mine.float() * 10 + k for k in range(4)], 1))
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
    expected = [[row * 10.0 + k for k in range(4)] for row in range(7)]
    assert dict(queue.get() for _ in range(3)) == dict.fromkeys(range(3), expected)
