"""Networks of other libraries are upgraded where they upsample by 2, or refused; see ``docs/supported.md``."""

import json

import pytest
import torch
from tests.integrations.supported import ENTRIES, PAGE, RESULTS, build_page
from tests.integrations.zoo import noise, random_network
from tests.integrations.zoo_checks import check_refused, check_upgraded, is_same, outputs_at_all_sizes
from tests.integrations.zoo_convolutional import efficientdet
from tests.integrations.zoo_transformers import dpt
from torch import nn

from featlift.upgrading import added_parameters, upgrade
from featlift.upgrading.wrappers import unwrap_module

UPSAMPLING = [entry for entry in ENTRIES if entry.steps]
OTHERS = [entry for entry in ENTRIES if not entry.steps]


def name(entry):
    return f"{entry.package}-{entry.name}".replace(" ", "-")


@pytest.mark.parametrize("entry", UPSAMPLING, ids=name)
def test_upgraded_where_counted(entry):
    pytest.importorskip(entry.module, reason=f"{entry.package} is not installed")
    check_upgraded(entry)


@pytest.mark.parametrize("size", [(128, 256), (384, 128), (256, 384), (512, 128)])
@torch.no_grad()
def test_efficientdet_is_built_for_one_size(size):
    pytest.importorskip("effdet")
    entry = efficientdet(size)
    model = random_network(entry.build)
    before = outputs_at_all_sizes(entry, model)
    assert len(upgrade(model, "light", example_inputs=noise(size)).rows) == entry.steps
    assert is_same(outputs_at_all_sizes(entry, model), before)
    for parameter in added_parameters(model).values():
        parameter.add_(0.05 * torch.randn(parameter.shape))
    assert not is_same(outputs_at_all_sizes(entry, model), before)
    with pytest.raises(RuntimeError, match="expects each tensor to be equal size"):
        model(noise((256, 256)))


@pytest.mark.parametrize("model", ["DPTForSemanticSegmentation", "DPTForDepthEstimation"])
def test_dpt_takes_square_images_only(model):
    pytest.importorskip("transformers")
    with pytest.raises(RuntimeError, match="is invalid for input of size"):
        dpt(model)(noise((64, 96)))


@pytest.mark.parametrize("entry", OTHERS, ids=name)
def test_refused_with_the_reason(entry):
    pytest.importorskip(entry.module, reason=f"{entry.package} is not installed")
    check_refused(entry)


def test_the_page_is_that_of_the_results():
    assert PAGE.read_text() == build_page(json.loads(RESULTS.read_text())), "run python -m tests.integrations.supported"
    assert {f"{entry.package}: {entry.name}" for entry in ENTRIES} == set(json.loads(RESULTS.read_text()))


def test_objects_of_libraries_are_opened():
    yolo = pytest.importorskip("ultralytics").YOLO("yolov8n.yaml", verbose=False)
    assert unwrap_module(yolo) is yolo.model
    models = pytest.importorskip("yolox.models")
    network = models.YoloxModule(models.YoloPafpn(0.33, 0.125), models.YoloxHead(3, 0.125))
    assert unwrap_module(models.Yolox(network, None)) is network


def test_rfdetr_is_opened():
    rfdetr = pytest.importorskip("rfdetr")
    detector = rfdetr.RFDETRNano(pretrain_weights=None)
    network = unwrap_module(detector)
    assert isinstance(network, nn.Module)
    assert network is detector.model.model
    with pytest.raises(ValueError, match="missing for RF-DETR: its backbone is a vision transformer"):
        upgrade(network, level="p3x")
    with torch.no_grad():
        assert network.eval()(torch.rand(1, 3, 384, 384)) is not None
