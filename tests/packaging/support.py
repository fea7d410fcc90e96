"""A fresh environment in which the wheel is installed, and what a user does there."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from utils.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
HUGGING_FACE = ("datasets==5.2.0", "dill==0.4.1", "multiprocess==0.70.19", "xxhash==4.1.0")
PEOPLE = ["--train-ids", "8", "--test-ids", "6", "--cameras", "2", "--images-per-camera", "3"]
TRAINING = [
    *("--config_file", "configs/demo.yml", "MODEL.NAME", "osnet_x0_25", "INPUT.SIZE_TRAIN", "[32,16]", "INPUT.SIZE_TEST"),
    *("[32,16]", "DATALOADER.NUM_WORKERS", "1", "DATALOADER.NUM_INSTANCE", "2", "SOLVER.IMS_PER_BATCH", "8"),
    *("SOLVER.MAX_EPOCHS", "1", "SOLVER.WARMUP_EPOCHS", "0", "TRAINER.ACCELERATOR", "cpu", "TEST.VISUALIZE", "yes"),
]  # fmt: skip
# What a user does after the training, in one process, which imports torch once. Workers import this file again.
SESSION = """
import datasets  # whose this is, a test asks
import json
import sys
from importlib.util import find_spec
from pathlib import Path

if __name__ == "__main__":
    from snu_reid.__main__ import main

    best = ["MODEL.PRETRAIN_PATH", str(next(Path("logs").glob("**/best.pth"))), "TRAINER.ACCELERATOR", "cpu"]
    data = Path("demo_data/synthetic")
    codes = [
        main(["test", *best, "OUTPUT_DIR", "tested", "TEST.VISUALIZE", "yes"]),
        main(["embed", *best, "DATASETS.ROOT_DIR", str(data / "bounding_box_test"), "OUTPUT_DIR", "gallery"]),
        main(["search", *best, "--gallery_data", "gallery", "DATASETS.ROOT_DIR", str(data / "query"), "OUTPUT_DIR", "found"]),
        main(["search", *best, "--gallery_data", "nowhere", "DATASETS.ROOT_DIR", str(data / "query"), "OUTPUT_DIR", "no"]),
    ]
    if find_spec("snu_reid.inference.export"):
        assert main(["export", "--format", "onnx", *best[:2], "OUTPUT_DIR", "exported"]) == 0

    from snu_reid import Extractor, build_index

    extract = Extractor(best[1], device="cpu")
    gallery = extract(data / "bounding_box_test")
    distances, rows = build_index(gallery.vectors).search(extract(data / "query").vectors, 3)

    from snu_reid.datasets.readers import READERS
    from snu_reid.engine.builders.objective import TERMS

    result = {"codes": codes, "shape": distances.shape, "places": [READERS["market1501"].__module__, type(TERMS["center"]).__module__]}
    result |= {"datasets": datasets.__file__, "modules": [name for name in sys.modules if "." not in name]}
    Path("session.json").write_text(json.dumps(result))
"""


class Environment:
    """A virtual environment and a working folder.

    Several processes may run these tests: the first one that needs a part makes it, the others wait for it.

    Args:
        folder: that they share.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.work = folder, folder / "venv", folder / "work"
        self.wheel = folder / f"snu_reid-{VERSION}-py3-none-any.whl"
        self.stand_in = self.home / "stand_in"

    def once(self, make: Callable[[], None]) -> None:
        """Make a part that is not there."""
        with FileLock(self.folder / f"{make.__name__}.lock"):
            if not (done := self.folder / f"{make.__name__}.done").exists():
                make()
                done.touch()

    def build(self) -> None:
        """Build the wheel."""
        command = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(self.folder), str(ROOT)]
        run = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr

    def install(self) -> None:
        """Install the wheel and Hugging Face's package, or a stand-in of its name where no registry answers."""
        venv.EnvBuilder(with_pip=False, symlinks=True).create(self.home)
        site = Path(sysconfig.get_path("purelib", vars={"base": str(self.home), "platbase": str(self.home)}))
        here = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
        (site / "tests.pth").write_text("\n".join(here))
        pip = [sys.executable, "-m", "pip", "--python", str(self.home / "bin/python"), "install", "--no-deps"]
        subprocess.run([*pip, "--no-index", str(self.wheel)], check=True, capture_output=True)
        try:
            subprocess.run([*pip, "--retries", "1", *HUGGING_FACE], check=True, capture_output=True, timeout=120)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            (site / "datasets").mkdir(exist_ok=True)
            (site / "datasets/__init__.py").touch()
            self.stand_in.touch()
        self.work.mkdir()

    def train(self) -> None:
        """Draw people, train by the installed command, then do the rest in one process."""
        self.run("snu-reid", "synthetic", "demo_data/synthetic", *PEOPLE)
        training = self.run("snu-reid", "train", *TRAINING)
        (self.work / "session.py").write_text(SESSION)
        rest = self.run("python", "session.py")
        result = json.loads((self.work / "session.json").read_text())
        result |= {"training": training.stderr, "rest": rest.stderr}
        (self.work / "session.json").write_text(json.dumps(result))

    def run(self, program: str, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment."""
        outside = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
        command = [str(self.home / "bin" / program), *words]
        run = subprocess.run(command, cwd=self.work, env=outside, capture_output=True, text=True, check=False)
        assert run.returncode == code, run.stderr[-3000:]
        return run
