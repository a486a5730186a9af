import pytest

from featlift.cli.arguments import UsageError, read_assignments
from featlift.cli.option_table import load_option_table

PREDICT, TRAIN = load_option_table("predict"), load_option_table("train baseline")


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("run a.png b.png", {"model": "run", "sources": '["a.png", "b.png"]'}),
        ("run --skip-broken a.png", {"model": "run", "sources": '["a.png"]', "skip_broken": "true"}),
        ("--model run a.png", {"model": "run", "sources": '["a.png"]'}),
        ("run a.png --score_threshold=0.3", {"model": "run", "sources": '["a.png"]', "score_threshold": "0.3"}),
    ],
)
def test_words_of_a_verb(words, values):
    assert read_assignments(words.split(), PREDICT).values == values


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("--data F --skip-broken", {"data.root": "F", "data.skip_broken": "true"}),
        ("--data.min-size 640,800", {"data.min_size": "[640,800]"}),
        ("--model.interpolator-options.growth-rate 16", {"model.interpolator_options.growth_rate": "16"}),
        ("--train.optimizer.ema-decay none", {"train.optimizer.ema_decay": "null"}),
        ("--tracker wandb", {"tracker": "wandb"}),
        ("--data.skip-broken no", {"data.skip_broken": "false"}),
        ("--data.batch-size 4 --data.batch-size 8", {"data.batch_size": "8"}),
        ('--model {"norm":"group","pyramid-channels":64}', {"model.norm": "group", "model.pyramid_channels": "64"}),
    ],
)
def test_words_of_a_training(words, values):
    assert read_assignments(words.split(), TRAIN).values == values


def test_a_yaml_file_stands_for_its_options(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("data: F\ntrain:\n  steps: 7\nmodel:\n  detector-options: {fc_dim: 64}\ndevice: cpu\n")
    expected = {"data.root": "F", "train.steps": "7", "model.detector_options": '{"fc_dim": 64}', "device": "cpu"}
    assert read_assignments(["--config", str(file)], TRAIN).values == expected
    assert read_assignments(["--config", str(file), "--train.steps", "8"], TRAIN).values == {
        **expected,
        "train.steps": "8",
    }


def test_assignments_are_words_again():
    words = read_assignments(["--data", "F"], TRAIN).as_words()
    assert words == ["--data.root=F"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--conf 0.3", "--score-threshold"),
        ("", "MODEL is missing: Run folder"),
        ("run", "SOURCES … is missing|SOURCES is missing"),
        ("run a.png --device", "--device needs a value"),
    ],
)
def test_wrong_words(words, message):
    with pytest.raises(UsageError, match=message):
        read_assignments(words.split(), PREDICT)
