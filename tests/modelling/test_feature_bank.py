import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from modelling import feature_bank
from modelling.feature_bank import FeatureBank


def test_rows_come_back_in_order() -> None:
    vectors = torch.randn(5, 3)
    bank = FeatureBank(5)
    bank.put(torch.tensor([4, 0]), vectors[[4, 0]].double())
    bank.put(torch.tensor([2, 1, 3]), vectors[[2, 1, 3]])
    torch.testing.assert_close(bank.gather(3, torch.device("cpu")), vectors)


def test_a_row_doubled_within_one_batch_is_noticed() -> None:
    bank = FeatureBank(2)
    bank.put(torch.tensor([0, 0, 1]), torch.ones(3, 2))
    with pytest.raises(RuntimeError, match="row 0 was filled 2 times"):
        bank.gather(2, torch.device("cpu"))


@pytest.mark.parametrize(("rows", "message"), [([0, 1], "row 2 was filled 0"), ([0, 1, 1, 2], "row 1 was filled")])
def test_rows_filled_never_or_twice_are_our_mistake(rows: list[int], message: str) -> None:
    bank = FeatureBank(3)
    for row in rows:
        bank.put(torch.tensor([row]), torch.ones(1, 2))
    with pytest.raises(RuntimeError, match=message):
        bank.gather(2, torch.device("cpu"))


def test_rows_that_nobody_needs_stay_zero() -> None:
    bank = FeatureBank(4, slice(1, 3))
    bank.put(torch.tensor([2, 1]), torch.tensor([[2.0], [1.0]]))
    assert bank.gather(1, torch.device("cpu")).flatten().tolist() == [0, 1, 2, 0]
    bank = FeatureBank(4, slice(1, 3))
    bank.put(torch.tensor([0, 1, 2]), torch.ones(3, 1))
    with pytest.raises(RuntimeError, match="row 0 was filled 1 times instead of 0"):
        bank.gather(1, torch.device("cpu"))


def _gather(rank: int, port: int, queue: mp.Queue) -> None:
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=3)
    feature_bank._PIECE_BYTES = 4 * 4 * 2  # two rows a piece
    bank = FeatureBank(7)
    mine = torch.arange(rank, 7, 2) if rank < 2 else torch.arange(0)  # 4, 3 and 0 rows
    if len(mine):
        bank.put(mine, torch.stack([mine.float() * 10 + k for k in range(4)], 1))
    queue.put((rank, bank.gather(4, torch.device("cpu")).tolist()))
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
