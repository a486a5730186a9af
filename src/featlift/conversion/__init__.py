"""Published weights into our modules: the layouts of AFI-GAN, SRF-GAN, CenterMask and Detectron2's model zoo.

``print(import_weights(detector, "model_final.pth"))`` tells what became of every key. Nothing is downloaded.

* `AFI`: their stage-1 generator, or the one inside a detector's file.
* `PatchCritic`: their stage-1 discriminator.
* Mask, Faster and Cascade (mask) R-CNN, RetinaNet, FCOS, CenterMask on FPN or PAFPN: detectors of :mod:`featlift.detectors` on
  :func:`detectron2_resnet` or :func:`detectron2_resnest`.
* :class:`PublishedBiFPN`: the neck of the Swin-L model.
"""

from featlift.conversion.backbones import detectron2_resnest, detectron2_resnet
from featlift.conversion.bifpn import PublishedBiFPN
from featlift.conversion.convert import import_weights
from featlift.conversion.pickles import read_detectron2_pickle
from featlift.conversion.rules import ImportReport

__all__ = [
    "ImportReport",
    "PublishedBiFPN",
    "detectron2_resnest",
    "detectron2_resnet",
    "import_weights",
    "read_detectron2_pickle",
]
