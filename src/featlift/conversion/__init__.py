"""Import of published weights: the layouts of AFI-GAN, SRF-GAN, CenterMask and Detectron2's model zoo.

``print(import_weights(detector, "model_final.pth"))`` reports the result for every key. Nothing is downloaded. Supported modules:

* `AFI`: the stage-1 generator, or the generator inside a detector's file.
* `PatchDiscriminator`: the stage-1 discriminator.
* Detectors of :mod:`featlift.detectors` on :func:`detectron2_resnet` or :func:`detectron2_resnest` with FPN or PAFPN: Mask, Faster and
  Cascade (mask) R-CNN, RetinaNet, FCOS, CenterMask.
* Cascade R-CNN on :func:`detectron2_swin` with a :class:`PublishedBiFPN`: AFI-GAN's Swin-L model.
* :class:`PublishedBiFPN`: the neck of that model alone.
"""

from featlift.conversion.backbones import detectron2_resnest, detectron2_resnet, detectron2_swin
from featlift.conversion.convert import import_weights
from featlift.conversion.pickles import read_detectron2_pickle
from featlift.conversion.rules import ImportReport
from featlift.pyramids.published_bifpn import PublishedBiFPN

__all__ = [
    "ImportReport",
    "PublishedBiFPN",
    "detectron2_resnest",
    "detectron2_resnet",
    "detectron2_swin",
    "import_weights",
    "read_detectron2_pickle",
]
