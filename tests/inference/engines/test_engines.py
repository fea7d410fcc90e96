"""Every engine gives the vectors of torch; which are offered, and what is refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import inference.create_embeddings as script
from inference import engines
from inference.engines import ENGINES, Plan, Source, build, plans
from inference.extract import Extractor
from modelling.backbones import backbone
from modelling.heads import HEADS, POOLINGS
from modelling.network import ReidNetwork
from tests.support import randomize_statistics
from utils.errors import ReidError

CPU = torch.device("cpu")
OTHERS = [name for name in ENGINES if name != "torch"]


def network_of(name: str, head: str, pooling: str) -> ReidNetwork:
    """Random weights, and statistics that no layer can ignore."""
    body = backbone(name).build(input_size=(64, 32))
    network = ReidNetwork(body, HEADS[head](body, POOLINGS[pooling], 0))
    randomize_statistics(network)
    return network.eval()


def distances(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return 1 - torch.cosine_similarity(left.double(), right.double())


@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize(
    ("name", "head", "pooling"),
    [("resnet18", "bnneck", "gem"), ("osnet_x0_25", "projection", "avg"), ("osnet_ain_x0_25", "bnneck", "max")],
)
def test_an_engine_gives_what_torch_gives(engine: str, name: str, head: str, pooling: str) -> None:
    pytest.importorskip(engine)
    network = network_of(name, head, pooling)
    embed = build(Source(network, CPU, (64, 32)), Plan(engine, "fp32", "contiguous"))
    for batch in (3, 1, 5):
        images = torch.randn(batch, 3, 64, 32)
        with torch.inference_mode():
            reference, vectors = network(images).bn, embed(images)
        assert (vectors.shape, vectors.dtype) == (reference.shape, torch.float32)
        torch.testing.assert_close(vectors, reference, rtol=0, atol=1e-4 * float(reference.abs().max()))
        assert distances(vectors, reference).max() < 1e-4


@pytest.mark.parametrize("engine", OTHERS)
def test_an_engine_embeds_files_in_every_batch(engine: str, checkpoint: Path, images: Path) -> None:
    pytest.importorskip(engine)
    reference = Extractor(checkpoint, "cpu", precision="fp32")(images)
    result = Extractor(checkpoint, "cpu", batch_size=4, precision="fp32", engine=engine)(images)
    assert result.paths.tolist() == reference.paths.tolist()
    assert distances(*map(torch.from_numpy, (result.vectors, reference.vectors))).max() < 1e-4


@pytest.mark.realdata
@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize("name", ["osnet_x0_25_msmt17.pth", "osnet_x0_25_market1501.pth"])
def test_trained_weights_on_real_images(engine: str, name: str, workshop: Path) -> None:
    pytest.importorskip(engine)
    paths = sorted(workshop.glob("data/cuhk03_dev/query/*.*"))[:96]
    weights = workshop / "weights" / name
    reference = Extractor(weights, "cpu", precision="fp32")(paths)
    result = Extractor(weights, "cpu", 64, "fp32", engine=engine)(paths)
    assert distances(*map(torch.from_numpy, (result.vectors, reference.vectors))).max() < 1e-4


def test_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "multiplies_bf16", lambda _: True)
    monkeypatch.setattr("inference.engines.base.find_spec", lambda _: True)
    usual, cuda = Plan(), torch.device("cuda")

    def precisions(*arguments: str, device: torch.device = CPU, safe: bool = True) -> list[str]:
        offered = plans(*arguments, device, safe_in_16_bits=safe)
        assert offered[0] == usual or "auto" not in arguments or "bf16" in arguments
        return list(dict.fromkeys(f"{plan.engine} {plan.precision}" for plan in offered))

    assert plans("torch", "fp32", CPU, safe_in_16_bits=True) == [usual]
    assert precisions("torch", "auto") == ["torch fp32", "torch bf16"]
    assert precisions("torch", "auto", safe=False) == ["torch fp32"]
    assert precisions("torch", "auto", device=cuda) == ["torch fp32", "torch fp16"]
    assert precisions("auto", "auto", device=cuda) == ["torch fp32", "torch fp16"]
    both = ["onnxruntime fp32", "openvino fp32"]
    assert precisions("auto", "auto", safe=False) == ["torch fp32", *both]
    assert precisions("auto", "auto") == ["torch fp32", "torch bf16", *both, "openvino bf16"]
    assert precisions("auto", "bf16") == ["torch bf16", "openvino bf16"]
    monkeypatch.setattr(engines, "multiplies_bf16", lambda _: False)
    assert precisions("torch", "auto") == ["torch fp32"]
    assert precisions("torch", "bf16", safe=False) == ["torch bf16"]  # by hand


def test_auto_takes_only_engines_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.engines.base.find_spec", lambda name: None if name == "openvino" else True)
    offered = plans("auto", "fp32", CPU, safe_in_16_bits=False)
    assert {plan.engine for plan in offered} == {"torch", "onnxruntime"}


def test_an_absent_library_is_one_line_with_the_command(
    checkpoint: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("inference.engines.base.find_spec", lambda name: None if name == "onnxruntime" else True)
    arguments = ["--engine", "onnxruntime", "DATASETS.ROOT_DIR", str(images), "MODEL.PRETRAIN_PATH", str(checkpoint)]
    assert script.main([*arguments, "OUTPUT_DIR", str(tmp_path / "out"), "TRAINER.ACCELERATOR", "cpu"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.endswith("engine onnxruntime needs libraries that are not installed: pip install onnxruntime")


def test_engines_of_the_cpu_are_refused_on_cuda() -> None:
    with pytest.raises(ReidError, match=r"engine openvino computes on cpu only, got cuda; .* to cpu, or .* torch"):
        plans("openvino", "auto", torch.device("cuda"), safe_in_16_bits=False)


@pytest.mark.parametrize("engine", OTHERS)
def test_a_script_embeds_by_an_engine(
    engine: str, checkpoint: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(engine)
    arguments = [
        "DATASETS.ROOT_DIR",
        str(images),
        "MODEL.PRETRAIN_PATH",
        str(checkpoint),
        "TRAINER.ACCELERATOR",
        "cpu",
    ]
    for name in ("torch", engine):
        output = ["OUTPUT_DIR", str(tmp_path / name)]
        assert script.main(["--engine", name, "--precision", "fp32", *arguments, *output]) == 0
    assert f"{engine} fp32 contiguous embeds on cpu" in capsys.readouterr().err
    one, other = (torch.from_numpy(np.load(tmp_path / name / "embeddings.npy")) for name in ("torch", engine))
    assert distances(one, other).max() < 1e-4


def test_no_engine_is_imported_unless_it_is_named(checkpoint: Path) -> None:
    code = (
        f"from inference.extract import Extractor; Extractor({str(checkpoint)!r}, 'cpu').choose(0); import sys; "
        "print(*[name for name in ('onnx', 'onnxruntime', 'openvino') if name in sys.modules])"
    )
    root = Path(__file__).resolve().parents[3]
    process = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == ""
