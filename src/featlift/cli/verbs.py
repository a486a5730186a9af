"""Literal tables of the command line: every verb and every paper with its summary, function and example."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    Attributes:
        summary: What the command does, one line.
        function: Its function, ``"module:function"`` below `featlift.commands`.
        example: One example on the user's own data.
    """

    summary: str
    function: str
    example: str


PAPERS: dict[str, str] = {
    "baseline": "a detector with any interpolator in its pyramid, trained with the detection losses",
    "afi-gan": "AFI-GAN: interpolator, extractor and target detector in three stages",
    "srf-gan": "SRF-GAN: the same stages with residual blocks and batch norm",
    "efpn": "EFPN: an extended pyramid level for small objects, distilled from the detector at 2x",
    "light": "a light interpolator, distilled from a heavy one, and its detector fine-tuned",
    "fsr-gan": "FSR-GAN: super-resolution of the descriptors of low-resolution queries",
    "fdsr": "FDSR: image super-resolution trained with a detector's features",
}
"""Paper → what its training trains; equal to the summaries of `featlift.papers.registry.PAPERS`."""

PAPER_EXAMPLES: dict[str, str] = {
    "baseline": "featlift train baseline --data FOLDER --model.interpolator carafe --run runs/carafe",
    "afi-gan": "featlift train afi-gan --data FOLDER --run runs/afi",
    "srf-gan": "featlift train srf-gan --data FOLDER --run runs/srf",
    "efpn": "featlift train efpn --data FOLDER --run runs/efpn",
    "light": "featlift train light --data FOLDER --teachers-from runs/afi --run runs/light",
    "fsr-gan": "featlift train fsr-gan --data FOLDER --embedder.encoder resnet50",
    "fdsr": "featlift train fdsr --data FOLDER --feature-extractor.network runs/afi --run runs/fdsr",
}
"""Paper → example. ``--data FOLDER`` is a COCO folder; for fsr-gan ``gallery/CLASS/`` and ``query/CLASS/``, for fdsr any images."""

COMMANDS: dict[str, Command | dict[str, Command]] = {
    "demo": Command(
        "train, compare and report on synthetic images, about 20 minutes", "demo:demo", "featlift demo --out runs/demo"
    ),
    "train": {name: Command(summary, "train:train", PAPER_EXAMPLES[name]) for name, summary in PAPERS.items()},
    "evaluate": Command(
        "AP and AR of a run by object size; retrieval curves of an FSR-GAN run",
        "evaluate:evaluate",
        "featlift evaluate runs/afi --data FOLDER --scales 1,1.5",
    ),
    "predict": Command(
        "detect objects in images and videos; write annotated images, COCO JSON, YOLO labels",
        "predict:predict",
        "featlift predict runs/afi IMAGES --out predictions",
    ),
    "compare": Command(
        "compare two runs: objects gained and lost, differences in AP, cost",
        "compare:compare",
        "featlift compare runs/nearest runs/afi",
    ),
    "app": Command(
        "compare two detectors on dropped images in the browser; also searches and super-resolution",
        "app:app",
        "featlift app runs/nearest runs/afi",
    ),
    "benchmark": Command(
        "compare interpolators at an equal training budget over several seeds",
        "benchmark:benchmark",
        "featlift benchmark nearest:plain carafe afi --data FOLDER --num-seeds 3",
    ),
    "upgrade": Command(
        "put a learned interpolator into a detector of any library",
        "upgrade:upgrade_detector",
        "featlift upgrade runs/baseline --data FOLDER --steps 1000",
    ),
    "profile": Command(
        "parameters, multiply-adds, latency and memory of each part and of every interpolator",
        "profile:profile",
        "featlift profile runs/afi --image-size 800x1216",
    ),
    "export": Command(
        "export a run to ONNX, OpenVINO or torch.export and verify the outputs",
        "export:export",
        "featlift export runs/afi --format onnx",
    ),
    "import": Command(
        "convert a published detector of Detectron2's model zoo or of the papers",
        "import_weights:import_published",
        "featlift import model_final.pkl --detector mask-rcnn --backbone resnet50 --out runs/zoo",
    ),
    "add-level": Command(
        "add an extended level for small objects to a detector, without labels",
        "add_level:add_level",
        "featlift add-level fasterrcnn_resnet50_fpn --weights DEFAULT --images FOLDER --steps 1000",
    ),
    "upscale": Command(
        "upscale images with a super-resolution network",
        "upscale:upscale",
        "featlift upscale IMAGES --model runs/fdsr --out upscaled",
    ),
    "index": Command(
        "compute descriptors of a folder of images for search", "search:index", "featlift index FOLDER --out index"
    ),
    "search": Command(
        "search by image, with raw and super-resolved queries; write a contact sheet",
        "search:search",
        "featlift search index query.jpg --generator runs/fsr",
    ),
    "lift": Command(
        "super-resolve vectors of low-resolution images, of any encoder",
        "search:lift",
        "featlift lift queries.npy --generator runs/fsr --out super_resolved.npy",
    ),
    "data": {
        "generate": Command(
            "write synthetic images as a COCO folder", "data:generate_data", "featlift data generate FOLDER"
        ),
        "check": Command(
            "read a dataset; print statistics and problems", "data:check_data", "featlift data check FOLDER"
        ),
        "convert": Command(
            "convert a dataset to COCO, YOLO, VOC, LabelMe, masks or Hugging Face",
            "data:convert_data",
            "featlift data convert FOLDER NEW --to yolo",
        ),
    },
    "list": Command(
        "list the names of interpolators, pyramids, detectors, presets",
        "list_names:list_names",
        "featlift list interpolators",
    ),
}
