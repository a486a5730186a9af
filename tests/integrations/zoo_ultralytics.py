"""The zoo: Ultralytics' networks from their YAML files, scale n."""

from functools import partial

from tests.integrations.zoo import ZooEntry
from torch import nn


def ultralytics_model(name: str) -> nn.Module:
    from ultralytics import YOLO

    return YOLO(f"{name}.yaml", verbose=False).model


def rtdetr_model() -> nn.Module:
    from ultralytics import RTDETR

    return RTDETR("rtdetr-resnet50.yaml").model


STEPS = {
    "yolov3-tiny": 1, "yolov5n": 2, "yolov8n": 2, "yolov8n-p2": 3, "yolov8n-p6": 3, "yolov8n-seg": 2, "yolov8n-pose": 2, "yolov8n-obb": 2,
    "yolov8n-worldv2": 2, "yolov9t": 2, "yolov10n": 2, "yolo11n": 2, "yolo11n-seg": 2, "yolo12n": 2, "yolo26n": 2, "yolo26n-p2": 3,
    "yolo26n-seg": 3, "yolo26n-pose": 2, "yolo26n-obb": 2, "yolo26n-sem": 2, "yolo26n-depth": 4,
}  # fmt: skip
"""Name → number of ``nn.Upsample`` in the YAML file and of calls in the head."""
HEADS = {"yolo26n-seg": ", `Proto26` (1; its other factor is 4)", "yolo26n-depth": ", `Depth` (2)"}
"""Calls in heads, counted in ``block.py`` and ``head.py``."""

ULTRALYTICS = partial(
    ZooEntry,
    package="ultralytics",
    module="ultralytics",
    neck="model",
    sizes=((128, 128), (64, 128), (64, 64), (128, 64), (192, 64)),
)
ENTRIES = (
    *(
        ULTRALYTICS(
            name=name,
            build=partial(ultralytics_model, name),
            steps=steps,
            neck="model.17" if steps == 1 else "model",
            source="YAML file" + HEADS.get(name, ""),
        )
        for name, steps in STEPS.items()
    ),
    ULTRALYTICS(name="rtdetr-resnet50", build=rtdetr_model, steps=2, source="YAML file"),
    ULTRALYTICS(name="yolov8n-cls", build=partial(ultralytics_model, "yolov8n-cls"), steps=0),
    ULTRALYTICS(
        name="yolov6n",
        build=partial(ultralytics_model, "yolov6n"),
        steps=0,
        note="transposed convolutions are learned already",
    ),
)
