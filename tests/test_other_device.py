"""Trainings, evaluations and other commands on a device that is not the CPU (``fixtures/other_device.py``).

Each runs in a process of its own: the device is registered with PyTorch for the rest of the process.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from featlift.data.synthetic.landmarks import write_synthetic_landmarks

SCRIPT = Path(__file__).parent / "run_on_other_device.py"
HEAD = '\'{"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20, "max_detections": 3}\''
FEW = "--model.detector-options '{\"max_detections\": 3}'"
TINY = "--preset quick --device other --data.batch-size 2 --model.pyramid-channels 8 --data {coco}"
STAGES = "--teacher.steps 1 --interpolator.steps 1 --extractor.steps 1 --target.steps 1 --adversarial.width 1"
BLOCKS = "--model.interpolator-options '{\"num_blocks\": 1}'"
EFPN = (
    "--detector.steps 1 --extension.steps 1 --head.steps 1 --extended-level.transfer-options '{\"hidden_channels\": 4}'"
)
FSR = (
    "train fsr-gan --device other --data {places} --collection.train-images {known} --embedder.cache-folder {out}/cache "
    "--steps 2 --batch-size 4 --ratios 1,4 --adversarial.n-critic 1 --embedder.encoder gist --embedder.input-size 64 --hidden-dim 8"
)
BASELINE = f"train baseline {TINY} --model.detector-options {HEAD} --train.steps 4 --run {{out}}/baseline"

COMMANDS = {
    "verbs": [
        f"train baseline {TINY} --precision bf16 --model.detector mask-rcnn --model.detector-options {HEAD} --train.steps 1 "
        "--run {out}/mask",
        "upgrade {out}/mask --interpolator light --steps 1 --data {coco} --device other --out {out}/light.safetensors",
        "profile {out}/mask nearest light --image-size 64 --rounds 1 --device other --plot-file ''",
        "add-level {file}:build --images {coco}/train --steps 1 --image-size 64 --batch-size 1 --device other "
        "--out {out}/level.safetensors",
    ],
    "cascade": [
        f"train baseline {TINY} --precision bf16 --model.detector cascade-mask-rcnn --model.detector-options {HEAD} --train.steps 1 "
        "--run {out}/cascade",
        "evaluate {out}/cascade --scales 1,1.5 --flip --device other",
    ],
    "srf-gan": [f"train srf-gan {TINY} --precision bf16 {STAGES} {BLOCKS} --model.detector-options {HEAD} --run {{out}}/srf"],
    "afi-gan": [
        f"train afi-gan {TINY} {STAGES} --model.interpolator-options '{{\"growth_rate\": 4, \"num_blocks\": 1}}' "
        f"--model.detector retinanet {FEW} --model.pyramid bifpn --reuse none --run {{out}}/afi"
    ],
    "centermask": [f"train baseline {TINY} --precision bf16 --model.detector centermask {FEW} --train.steps 1 --run {{out}}/centermask"],
    "light": [
        f"train light {TINY} --precision fp16 --model.detector fcos {FEW} --teacher.steps 1 --interpolator.steps 1 --target.steps 1 "
        "--run {out}/light"
    ],
    "efpn": [
        f"train efpn {TINY} --precision bf16 --model.detector-options {HEAD} {EFPN} --run {{out}}/efpn",
        "evaluate {out}/efpn --device other",
        "predict {out}/efpn {coco}/val --device other --out {out}/efpn-predictions",
    ],
    "fdsr": [
        BASELINE,
        "train fdsr --preset quick --device other --precision bf16 --data {coco} --feature-extractor.network {out}/baseline "
        "--data.crop-size 64 "
        "--data.batch-size 2 --train.steps 1 --network.name compact --loss-weights.detection 0.1 --run {out}/fdsr",
        "upscale {coco}/val --out {out}/upscaled --model {out}/fdsr --device other",
    ],
    "fsr-gan": [
        f"{FSR} --precision bf16 --adversarial.kind wgan-gp --regularization.rank 1 --run {{out}}/fsr",
        "index {places}/gallery --out {out}/index --embedder.encoder gist --embedder.input-size 64 --device other",
        "search {out}/index {places}/gallery/landmark-000/00.png --generator {out}/fsr --device other",
    ],
}  # fmt: skip

SMALL_DETECTOR = """
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

def build():
    extra = LastLevelP6P7(256, 256)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, returned_layers=[2, 3, 4], extra_blocks=extra)
    return RetinaNet(backbone, 3, min_size=64, max_size=64, detections_per_img=3)
"""

STEP_FILES = (
    "training/",
    "losses",
    "distillation/discriminator",
    "distillation/patch",
    "interpolators/",
    "pyramids/",
    "backbones/",
)
"""Files whose lines run in every step; where the loop logs and saves they may read values of the device."""


@pytest.fixture(scope="module")
def places(coco, tmp_path_factory):
    folder = tmp_path_factory.mktemp("other")
    write_synthetic_landmarks(folder / "places", num_landmarks=3, gallery_views=2, query_views=1, image_size=48)
    write_synthetic_landmarks(folder / "known", num_landmarks=4, gallery_views=2, query_views=0, image_size=48, seed=1)
    (folder / "small.py").write_text(SMALL_DETECTOR)
    return {
        "file": folder / "small.py",
        "coco": coco,
        "places": folder / "places",
        "known": folder / "known",
        "out": folder / "runs",
    }


def run_commands(commands: list[str], places: dict[str, Path], tmp_path: Path) -> dict[str, int]:
    """Run ``commands`` on the device; return the lines that read values of it, with their number."""
    words = [shlex.split(command) for command in commands]
    for name, folder in places.items():
        words = [[word.replace(f"{{{name}}}", str(folder)) for word in command] for command in words]
    (tmp_path / "commands.json").write_text(json.dumps(words))
    command = [sys.executable, str(SCRIPT), str(tmp_path / "commands.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"FEATLIFT_TRACEBACK": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["codes"] == [0] * len(commands), done.stderr[-3000:]
    return result["crossings"]


@pytest.mark.slow
@pytest.mark.parametrize("paper", COMMANDS)
def test_no_tensor_is_left_on_the_cpu(paper, places, tmp_path):
    crossings = run_commands(COMMANDS[paper], places, tmp_path)
    steps = {
        line for line in crossings if line.startswith(STEP_FILES) and "grad_scaler" not in line
    }  # PyTorch's own, in fp16
    assert {line.partition(":")[0] for line in steps} <= {"training/loop.py", "training/checkpointing.py"}, steps


@pytest.mark.slow
def test_a_training_waits_for_the_device_only_where_it_logs_and_saves(places, tmp_path):
    command = BASELINE.replace("{out}/baseline", "{out}/sync") + " --log-every 2 --save-every 4"
    crossings = run_commands([command], places, tmp_path)
    training = {
        line: number for line, number in crossings.items() if line.startswith(("training/", "baseline/", "losses"))
    }
    assert {line.partition(":")[0] for line in training} == {"training/loop.py", "training/checkpointing.py"}
    assert sum(training.values()) <= 2 + 1 + 1, training  # two log records, one snapshot, one check of the parameters
