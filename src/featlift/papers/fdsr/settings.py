"""Settings of FDSR."""

from dataclasses import dataclass, field

from featlift.data.image_io import MAX_PIXELS
from featlift.image_sr.degradation import DegradationConfig
from featlift.image_sr.network import SuperResolverConfig
from featlift.training import OptimizerConfig
from featlift.training.schedules import StageConfig


@dataclass(frozen=True)
class FeatureExtractorConfig:
    """Network F and layers whose features are compared.

    Attributes:
        network: A run folder or detector file of FeatLift, a torchvision model ("maskrcnn_resnet50_fpn", "vgg19"; weights are downloaded
            once), or a timm model.
        layers: Feature layers: "c4", "p3" and the like in any detector, or the dotted name of a module
            (`featlift.detectors.feature_extraction.extract_features`). VGG19-54 is "vgg19" with "features.34".
    """

    network: str = "maskrcnn_resnet50_fpn"
    layers: tuple[str, ...] = ("c4",)


@dataclass(frozen=True)
class LossWeights:
    """Weights and form of G's losses, Eq. (3).

    Attributes:
        pixels: Weight α of the pixel loss (Sec. 3.2); 0 uses the features alone.
        features: Weight β of the feature loss; 0 is plain super-resolution.
        detection: Weight of the frozen detector's losses (TDSR, Haris et al. 2018); needs annotations and a detector as feature extractor.
        power: Form of the feature loss: 2 for the mean square, 1 for its root (Eq. (2) as printed).
        scale_free: Divide the feature loss by the features' magnitude, so that the ratio α : β is independent of F.
    """

    pixels: float = 0.5
    features: float = 1.0
    detection: float = 0.0
    power: int = 2
    scale_free: bool = False


@dataclass(frozen=True)
class CropDataConfig:
    """Training crops of G.

    Attributes:
        root: Dataset: a folder of images, a folder in COCO format, or "scenes".
        crop_size: Side of the crops in pixels; smaller images are skipped (Sec. 3.1). The receptive field of a ResNet's c4 is 267 px.
        batch_size: Crops per step.
        num_images: Number of images drawn from those that are large enough; 0 for all.
        hflip_prob: Probability of a horizontal flip.
        num_workers: Worker processes that load images.
        max_pixels: Maximum number of pixels of an image.
    """

    root: str = "coco"
    crop_size: int = 384
    batch_size: int = 8
    num_images: int = 20_000
    hflip_prob: float = 0.5
    num_workers: int = 2
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class EvaluationConfig:
    """Which detector evaluates G, on which images (Sec. 3.2).

    Attributes:
        detector: Run folder, detector file or torchvision detector (COCO weights) that detects in the upscaled images; "" for the network
            of the feature extractor, "none" for no evaluation.
        data: Dataset with annotations; "" for the training data of the detector's run, or ``data.root`` if it has none.
        num_quality_images: Number of first images on which PSNR, SSIM and FSIM are computed; None for all, 0 for none.
        image_size: Size to which images are resized first, without keeping their aspect ratio, as "300x300" (Table 3); empty keeps theirs.
        class_map: Detector's class → dataset's class, for names that differ: ``--evaluation.class-map.human person``.
    """

    detector: str = ""
    data: str = ""
    num_quality_images: int | None = 50
    image_size: str = ""
    class_map: dict[str, str] | None = None


@dataclass(frozen=True)
class Settings:
    """FDSR as published: D-DBPN at 4x, Mask R-CNN's c4, 2 million steps of eight crops of 384 px.

    Attributes:
        network: Super-resolution network G.
        feature_extractor: Network F and its layers.
        loss_weights: Loss weights.
        degradation: Degradation of the images besides downscaling.
        data: Images and crops.
        train: Steps and optimizer: Adam, lr 1e-4, no weight decay (Sec. 3.1).
        evaluation: Detector and images of the evaluation after the training.
        detector_optimizer: Optimizer of the detector in alternating training (SR4IR, Kim et al. 2024); None keeps it frozen (the paper).
    """

    network: SuperResolverConfig = field(default_factory=SuperResolverConfig)
    feature_extractor: FeatureExtractorConfig = field(default_factory=FeatureExtractorConfig)
    loss_weights: LossWeights = field(default_factory=LossWeights)
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    data: CropDataConfig = field(default_factory=CropDataConfig)
    train: StageConfig = field(
        default_factory=lambda: StageConfig(2_000_000, OptimizerConfig("adam", 1e-4, weight_decay=0.0))
    )
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    detector_optimizer: OptimizerConfig | None = None

    @classmethod
    def short(cls) -> "Settings":
        """One night on one GPU: 100,000 steps with a cosine schedule and gradient checkpointing."""
        optimizer = OptimizerConfig("adam", 1e-4, weight_decay=0.0, schedule="cosine")
        return cls(network=SuperResolverConfig(gradient_checkpointing=True), train=StageConfig(100_000, optimizer))

    @classmethod
    def quick(cls) -> "Settings":
        """Laptop preset: a network initialized as bicubic, crops of 96 px; set ``feature_extractor.network`` to a run folder."""
        return cls(
            network=SuperResolverConfig("compact"),
            feature_extractor=FeatureExtractorConfig("runs/detector", ("c4",)),
            loss_weights=LossWeights(scale_free=True),
            data=CropDataConfig("scenes", crop_size=96, batch_size=8, num_workers=0),
            train=StageConfig(
                600,
                OptimizerConfig("adam", 1e-3, weight_decay=0.0, warmup_steps=20, schedule="cosine", max_grad_norm=10.0),
            ),
        )
