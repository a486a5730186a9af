from dataclasses import replace

from featlift.commands import demo
from featlift.experiments import demonstration


def test_the_seed_is_one_that_the_settings_were_not_fixed_on(monkeypatch, tmp_path):
    called = {}
    monkeypatch.setattr(demo, "run_demo", lambda *arguments: called.update(arguments=arguments) or {"seed": 3})
    assert demo.demo(str(tmp_path)) == {"seed": 3}
    assert called["arguments"] == (tmp_path, 3, 1.0, "auto")


def test_scenes_and_start_of_both_parts_are_the_same(tmp_path):
    level = demonstration.level_experiment(5, 1.0)
    stages = demonstration.afi_gan_settings(5, 1.0, tmp_path / "detector.safetensors")
    assert level.detector.data == stages.data
    assert stages.data.scene_seed == 5
    assert replace(stages.model, interpolator="nearest") == level.detector.model
    assert stages.teacher_from == str(tmp_path / "detector.safetensors")
