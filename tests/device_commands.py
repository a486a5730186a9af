"""Commands of the command line that together run every paper, detector and verb on the device ``other``, as small as possible.

`tests/test_other_device.py` runs them on a device that is computed on the CPU, ``benchmarks/gpu.py`` on a GPU. ``{coco}``, ``{places}``,
``{known}``, ``{file}`` and ``{out}`` stand for the paths that `write_inputs` returns.
"""

import shlex
from pathlib import Path

from featlift.cli import main
from featlift.data.synthetic.landmarks import write_synthetic_landmarks

HEAD = '\'{"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20, "max_detections": 3}\''
FEW = "--model.detector-options '{\"max_detections\": 3}'"
TINY = (
    "--preset quick --model.backbone test_resnet --device other --data.batch-size 2 --model.pyramid-channels 8 "
    "--data {coco}"
)
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


def write_inputs(folder: Path, coco: Path | None = None) -> dict[str, Path]:
    """Write the images and the network that the commands read into ``folder``; return the paths by name."""
    if coco is None:
        coco = folder / "coco"
        assert (
            main.main(["data", "generate", str(coco), "--num-train", "2", "--num-val", "2", "--image-size", "64"]) == 0
        )
    write_synthetic_landmarks(folder / "places", num_landmarks=3, gallery_views=2, query_views=1, image_size=48)
    write_synthetic_landmarks(folder / "known", num_landmarks=4, gallery_views=2, query_views=0, image_size=48, seed=1)
    (folder / "small.py").write_text(SMALL_DETECTOR)
    inputs = {"file": folder / "small.py", "coco": coco, "places": folder / "places", "known": folder / "known"}
    return {**inputs, "out": folder / "runs"}


def split_command(command: str, places: dict[str, Path]) -> list[str]:
    """Return the words of ``command`` with the paths of ``places``."""
    words = shlex.split(command)
    for name, path in places.items():
        words = [word.replace(f"{{{name}}}", str(path)) for word in words]
    return words
