import pytest
import torch
from torch import Tensor, nn

from featlift.deployment.export_network import TensorOutputs, export_network

onnxruntime = pytest.importorskip("onnxruntime")


class Nested(nn.Module):
    """Outputs in a tuple and a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, object]]:
        """``[B, 3, H, W]`` → two maps and a shape."""
        y = self.conv(x)
        return y, {"double": 2 * y, "size": (8, None), "index": y.argmax(1)}


def test_outputs_are_named_in_order():
    x, network = torch.rand(1, 3, 9, 9), Nested()
    outputs = TensorOutputs(network)(x)
    assert list(outputs) == ["y0", "y1"]
    assert torch.equal(outputs["y1"], 2 * network(x)[0])


def test_a_file_for_one_size(tmp_path):
    network = Nested()
    result = export_network(network, (17, 33), tmp_path / "network.onnx")
    assert list(result.errors) == ["17x33"]
    x = torch.rand(1, 3, 17, 33)
    first, second = onnxruntime.InferenceSession(tmp_path / "network.onnx").run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(first), network(x)[0])
    torch.testing.assert_close(torch.from_numpy(second), 2 * network(x)[0])
    with pytest.raises(ValueError, match="onnx"):
        export_network(network, (17, 33), tmp_path / "network.pt2", "onnx")
