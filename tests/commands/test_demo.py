import json
from dataclasses import replace

from featlift.commands import demo
from featlift.data.config import DataConfig
from featlift.papers import afi_gan
from featlift.papers.afi_gan.settings import STAGES
from featlift.training import OptimizerConfig
from featlift.training.schedules import StageConfig

QUICK = afi_gan.Settings.quick()


def tiny():
    quick = QUICK
    head = {"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20}
    model = replace(
        quick.model, pyramid_channels=8, interpolator_options={"growth_rate": 4, "num_blocks": 1}, detector_options=head
    )
    stages = {name: StageConfig(200 + i, OptimizerConfig(lr=0.01)) for i, name in enumerate(STAGES)}
    return replace(
        quick,
        model=model,
        data=DataConfig(batch_size=2, min_size=(), num_workers=0, num_scenes=4, scene_size=64, num_val_scenes=2),
        **stages,
    )


def test_the_demo_trains_both_and_compares_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo.afi_gan.Settings, "quick", staticmethod(tiny))
    content = demo.demo(str(tmp_path), step_scale=0.01)
    printed = capsys.readouterr().out
    assert "ap boxes" in printed
    assert (tmp_path / "report.html").stat().st_size > 10_000
    saved = json.loads((tmp_path / "result.json").read_text())
    assert saved["steps"] == content["steps"] == {"teacher": 2, "interpolator": 2, "extractor": 2, "target": 2}
    for name in ("afi-gan", "nearest"):
        assert saved[name]["seed"] == 0
        assert saved[name]["settings"]["model"]["pyramid_channels"] == 8
        assert "commit" in saved[name]
    assert saved["nearest"]["stages"]["train"]["step"] == 6
    assert sum(saved["comparison"]["objects"].values()) > 0
