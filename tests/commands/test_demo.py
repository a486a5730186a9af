import json
from dataclasses import replace

from featlift.commands import demo
from featlift.papers import afi_gan
from featlift.papers.baseline import DataConfig, StageConfig
from featlift.training import OptimizerConfig

QUICK = afi_gan.Settings.quick()


def tiny():
    quick = QUICK
    head = {"anchor_scale": 4.0, "width": 16, "proposals": 20}
    model = replace(
        quick.model, pyramid_channels=8, interpolator_options={"growth": 4, "blocks": 1}, detector_options=head
    )
    stages = {name: StageConfig(200 + i, OptimizerConfig(lr=0.01)) for i, name in enumerate(afi_gan.STAGES)}
    return replace(
        quick,
        model=model,
        data=DataConfig(batch_size=2, min_size=(), num_workers=0, num_scenes=4, scene_size=64, num_val_scenes=2),
        **stages,
    )


def test_the_demo_trains_both_and_compares_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo.afi_gan.Settings, "quick", staticmethod(tiny))
    whole = demo.demo(str(tmp_path), step_scale=0.01)
    told = capsys.readouterr().out
    assert "ap boxes" in told
    assert (tmp_path / "report.html").stat().st_size > 10_000
    kept = json.loads((tmp_path / "result.json").read_text())
    assert kept["steps"] == whole["steps"] == {"teacher": 2, "interpolator": 2, "extractor": 2, "target": 2}
    for name in ("afi-gan", "nearest"):
        assert kept[name]["seed"] == 0
        assert kept[name]["settings"]["model"]["channels"] == 8
        assert "commit" in kept[name]
    assert kept["nearest"]["stages"]["train"]["step"] == 6
    assert sum(kept["comparison"]["objects"].values()) > 0


def test_the_control_has_as_many_steps_and_the_same_start(tmp_path):
    ours = demo.scale_steps(afi_gan.Settings.quick(), 0.5)
    plain = demo.control_settings(ours, tmp_path / "teacher.safetensors")
    assert plain.train.steps == ours.interpolator.steps + ours.extractor.steps + ours.target.steps == 200
    assert plain.model == replace(ours.model, interpolator="nearest")
    assert (plain.init_from, plain.data) == (str(tmp_path / "teacher.safetensors"), ours.data)


def test_no_stage_is_shortened_away():
    assert set(demo.stage_steps(demo.scale_steps(afi_gan.Settings.quick(), 1e-9)).values()) == {1}
