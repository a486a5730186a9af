from dataclasses import replace

from featlift.data.config import DataConfig
from featlift.experiments.equal_steps import control_settings, scale_steps, stage_steps
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


def test_the_control_has_as_many_steps_and_the_same_start(tmp_path):
    settings = scale_steps(afi_gan.Settings.quick(), 0.5)
    control = control_settings(settings, tmp_path / "teacher.safetensors")
    assert control.train.steps == settings.interpolator.steps + settings.extractor.steps + settings.target.steps == 200
    assert control.model == replace(settings.model, interpolator="nearest")
    assert (control.init_from, control.data) == (str(tmp_path / "teacher.safetensors"), settings.data)


def test_no_stage_is_shortened_away():
    assert set(stage_steps(scale_steps(afi_gan.Settings.quick(), 1e-9)).values()) == {1}
