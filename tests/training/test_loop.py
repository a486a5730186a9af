import os
import signal

import pytest
import torch
from torch import nn

from featlift.training import Learner, OptimizerConfig, Run, fit
from featlift.training.loop import move_to_device


def test_the_log_has_means_per_record_and_the_learning_rates(tmp_path, make_training, batches):
    run = Run(tmp_path, log_every=4)
    step, learners = make_training(10, lr=0.01, schedule="multistep", milestones=(6,))
    contents = []

    def recorded_step(images, targets):
        losses = step(images, targets)
        contents.append(losses["content"].item())
        return losses

    fit(recorded_step, batches, 10, run, learners)
    lines = run.read_log()
    assert [line["step"] for line in lines] == [4, 8, 10]
    expected = [sum(contents[a:b]) / (b - a) for a, b in ((0, 4), (4, 8), (8, 10))]
    assert [line["content"] for line in lines] == pytest.approx(expected)
    assert [line["lr/generator"] for line in lines] == pytest.approx([0.01, 0.001, 0.001])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_reports_it_and_resumes_exactly(tmp_path, make_training, batches, number, capsys):
    options = {"name": "adam", "lr": 0.01, "accumulation_steps": 2}
    uninterrupted_run, interrupted_run = (
        Run(tmp_path / "uninterrupted", log_every=3),
        Run(tmp_path / "interrupted", log_every=3),
    )
    torch.manual_seed(0)
    step, learners = make_training(12, **options)
    fit(step, batches, 12, uninterrupted_run, learners)
    torch.manual_seed(0)
    step, learners = make_training(12, **options)

    def interrupted(images, targets):
        if learners["discriminator"].num_calls == 6:
            os.kill(os.getpid(), number)
        return step(images, targets)

    with pytest.raises(SystemExit, match=r"Stopped at step 7 of 12; run the same command to resume \(.*interrupted\)"):
        fit(interrupted, batches, 12, interrupted_run, learners)
    step, learners = make_training(12, **options)
    fit(step, batches, 12, interrupted_run, learners)
    assert "train resumes at step 7 of 12" in capsys.readouterr().out
    assert interrupted_run.read_log() == uninterrupted_run.read_log()


def test_a_finished_stage_is_loaded_and_leaves_the_same_seed(tmp_path, make_training, batches):
    run = Run(tmp_path)
    step, learners = make_training(3)
    fit(step, batches, 3, run, learners)
    drawn = torch.rand(1)
    again = make_training(3)[1]

    def never(images, targets):
        raise AssertionError("the stage is finished")

    fit(never, batches, 3, run, again)
    assert torch.equal(torch.rand(1), drawn)
    for name, tensor in learners["generator"].module.state_dict().items():
        assert torch.equal(again["generator"].module.state_dict()[name], tensor)


def test_draws_within_a_step_do_not_depend_on_the_steps_before(tmp_path, make_training, batches):
    drawn = []
    for name, num_extra_draws in (("a", 0), ("b", 5)):
        step, learners = make_training(2)

        def drawing_step(images, targets, step=step, num_extra_draws=num_extra_draws):
            drawn.append(torch.rand(1).item())
            torch.rand(num_extra_draws)
            return step(images, targets)

        fit(drawing_step, batches, 2, Run(tmp_path / name), learners)
    assert drawn[:2] == drawn[2:]


@pytest.mark.parametrize(
    ("precision", "expected_dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_precision_is_that_of_the_step_and_the_parameters_stay_whole(tmp_path, batches, precision, expected_dtype):
    module, kinds = nn.Conv2d(3, 1, 3), []
    learner = Learner(module, OptimizerConfig(lr=0.01, max_grad_norm=1.0), 3)

    def step(images, targets):
        y = module(torch.stack(images))
        kinds.append(y.dtype)
        return learner.step({"loss": y.square().mean()})

    fit(step, batches, 3, Run(tmp_path, precision=precision), {"only": learner})
    assert set(kinds) == {expected_dtype}
    assert module.weight.dtype == torch.float32
    assert module.weight.isfinite().all()


def test_batches_that_end_are_an_error(tmp_path, make_training, batches):
    class Short:
        def iter_from(self, step, rank=0, world_size=1):
            yield from [next(batches.iter_from(k)) for k in range(2)]

    step, learners = make_training(5)
    with pytest.raises(RuntimeError, match=r"The batches ended before step 2 of 5.*endless"):
        fit(step, Short(), 5, Run(tmp_path), learners)


def test_modules_are_set_to_training(tmp_path, make_training, batches):
    step, learners = make_training(1)
    learners["generator"].module.eval()
    fit(step, batches, 1, Run(tmp_path), learners)
    assert learners["generator"].module.training


def test_everything_in_a_batch_is_moved():
    images, targets = move_to_device(
        ([torch.zeros(1)], [{"boxes": torch.zeros(2, 4), "name": "x"}]), torch.device("meta")
    )
    assert images[0].is_meta
    assert targets[0]["boxes"].is_meta
    assert targets[0]["name"] == "x"
