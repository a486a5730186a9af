"""Steps and start of the control."""

from dataclasses import replace

from featlift.experiments.equal_steps import control_settings, scale_steps, stage_steps
from featlift.papers import afi_gan


def test_the_control_has_as_many_steps_and_the_same_start(tmp_path):
    settings = scale_steps(afi_gan.Settings.quick(), 0.5)
    control = control_settings(settings, tmp_path / "teacher.safetensors")
    assert control.train.steps == settings.interpolator.steps + settings.extractor.steps + settings.target.steps == 200
    assert control.model == replace(settings.model, interpolator="nearest")
    assert (control.init_from, control.data) == (str(tmp_path / "teacher.safetensors"), settings.data)


def test_no_stage_is_shortened_away():
    assert set(stage_steps(scale_steps(afi_gan.Settings.quick(), 1e-9)).values()) == {1}
