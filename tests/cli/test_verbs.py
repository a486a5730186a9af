import pytest

from featlift.cli.verbs import COMMANDS, PAPER_EXAMPLES, PAPERS, Command
from featlift.papers import registry


def paths(commands, *prefix):
    for name, command in commands.items():
        yield from (
            paths(command, *prefix, name) if isinstance(command, dict) else [(" ".join([*prefix, name]), command)]
        )


def test_the_papers_are_those_of_the_registry():
    assert {name: paper.summary for name, paper in registry.PAPERS.items()} == PAPERS
    assert list(COMMANDS["train"]) == list(PAPERS)
    assert set(PAPER_EXAMPLES) == set(PAPERS)


@pytest.mark.parametrize(("words", "command"), paths(COMMANDS))
def test_every_command_has_a_summary_and_an_example(words, command):
    assert isinstance(command, Command)
    assert command.summary
    assert not command.summary.endswith(".")
    assert command.example.startswith(f"featlift {words} ")
