"""Settings of FSR-GAN."""

from dataclasses import dataclass, field

from featlift.data.retrieval_collections import CollectionConfig
from featlift.registry import check_choice
from featlift.retrieval.embedders import EmbedderConfig
from featlift.retrieval.losses import (
    gan_discriminator_loss,
    gan_generator_loss,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)
from featlift.training import OptimizerConfig

GAN_LOSSES = {
    "gan": (gan_discriminator_loss, gan_generator_loss),  # Eqs. (5), (4)
    "wgan-clip": (wasserstein_critic_loss, wasserstein_generator_loss),  # Eqs. (7), (6)
    "wgan-gp": (wasserstein_critic_loss, wasserstein_generator_loss),
}


GENERATORS = ("residual", "conditioned", "paper")


@dataclass(frozen=True)
class GANConfig:
    """Adversarial loss.

    Attributes:
        kind: Loss: "off", "gan", "wgan-clip" or "wgan-gp".
        weight: Weight of the adversarial term; None is 1, as in Eqs. (8) and (9), and 0.1 with "wgan-gp", whose gradient is not limited by
            clipped weights and would else outweigh the distance.
        n_critic: Updates of the critic per update of the generator (not stated); None is 5, as in the cited WGAN paper, and 1 with
            "wgan-gp".
        weight_clip: Maximum absolute weight of the critic with "wgan-clip".
        penalty_weight: Weight of the gradient penalty with "wgan-gp".
    """

    kind: str = "off"
    weight: float | None = None
    n_critic: int | None = None
    weight_clip: float = 0.01
    penalty_weight: float = 10.0

    def __post_init__(self) -> None:
        check_choice(self.kind, ("off", *GAN_LOSSES), "adversarial kind")

    @property
    def term_weight(self) -> float:
        """Weight of the adversarial term, by its kind if it is not given."""
        return self.weight if self.weight is not None else 0.1 if self.kind == "wgan-gp" else 1.0

    @property
    def critic_updates(self) -> int:
        """Updates of the critic per update of the generator, by the kind if they are not given."""
        return self.n_critic if self.n_critic is not None else 1 if self.kind == "wgan-gp" else 5


@dataclass(frozen=True)
class RegularizationConfig:
    """Regularization of G. With few images an unregularized G makes all queries similar: distances decrease, but so does precision.

    Attributes:
        rank: Rank of the space of G's corrections; 0 for full rank.
        relative_loss: Weight errors relative to the lost information, so that queries that lost little are hardly changed.
    """

    rank: int = 0
    relative_loss: bool = False


REGULARIZATION_CANDIDATES = (
    RegularizationConfig(1, relative_loss=True),
    RegularizationConfig(1),
    RegularizationConfig(relative_loss=True),
    RegularizationConfig(),
)
"""Candidates of :func:`select_regularization`, strongest regularization first."""


@dataclass(frozen=True)
class Settings:
    """Training of one generator for one embedder.

    Attributes:
        collection: Images.
        embedder: Embedder F.
        vectors: Instead of images and F: files of vectors of any encoder, LOW.npy ``[N, D]`` (or ``[R, N, D]``, one for each of ``ratios``)
            and HIGH.npy ``[N, D]``, of the same images in the same order.
        adversarial: Adversarial loss.
        generator: Generator G: "residual" (blind), "conditioned" (on the ratio) or "paper" (Table 2).
        hidden_dim: Hidden dimension of "residual" and "conditioned".
        regularization: Regularization of "residual" and "conditioned"; None selects it by validation (not in the paper).
        ratios: Downscaling factors per side; the paper's 1/4 … 1/64 are ratios of areas. 1 preserves full-resolution queries.
        focal_exponent: Exponent r of Eq. (9).
        optimizer: Optimizer of G and D.
        steps: Number of updates of G.
        batch_size: Descriptor pairs per step.
    """

    collection: CollectionConfig = field(default_factory=CollectionConfig)
    embedder: EmbedderConfig = field(default_factory=EmbedderConfig)
    vectors: tuple[str, ...] = ()
    adversarial: GANConfig = field(default_factory=GANConfig)
    generator: str = "residual"
    hidden_dim: int = 1024
    regularization: RegularizationConfig | None = None
    ratios: tuple[float, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    focal_exponent: float = 2.0  # Sec. 3.3
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig("adam", 8e-4, weight_decay=1e-4, schedule="cosine")
    )
    steps: int = 3000
    batch_size: int = 64

    def __post_init__(self) -> None:
        check_choice(self.generator, GENERATORS, "generator")
        if len(self.vectors) not in (0, 2):
            raise ValueError(f"--vectors has {len(self.vectors)} files; give two, LOW.npy,HIGH.npy.")
        if self.embedder.fast_decode:
            raise ValueError(
                "--embedder.fast-decode is for featlift index: training needs images of full size, which it downscales by the ratios."
            )

    @classmethod
    def paper(cls) -> "Settings":
        """As in the text: Tables 2 and 3, clipped Wasserstein critic, r = 2, Adam with lr 8e-4, no ratio 1; 6 epochs of
        4,500 images at 7 ratios.
        """
        return cls(
            collection=CollectionConfig(
                "oxford5k", "data/oxford5k/images", "data/oxford5k/truth", train_images="database"
            ),
            adversarial=GANConfig("wgan-clip"),
            generator="paper",
            regularization=RegularizationConfig(),
            ratios=(2, 3, 4, 5, 6, 7, 8),
            optimizer=OptimizerConfig("adam", 8e-4, weight_decay=0.0),
            steps=6 * 4500 * 7 // 64,
        )

    @classmethod
    def quick(cls) -> "Settings":
        """Laptop preset: synthetic landmarks and GIST descriptors (no weights); two minutes."""
        return cls(embedder=EmbedderConfig("gist", input_size=128), hidden_dim=512, steps=400)
