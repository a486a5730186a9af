import pytest

from featlift.cli.option_table import Option, OptionTable, load_option_table, with_hyphens

TABLE = OptionTable(
    "some",
    (
        Option("model", "str", positional=True, required=True),
        Option("data.batch_size", "int", 8, presets={"paper": 16}),
        Option("super_resolvers", "dict[str, str]"),
    ),
)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("data.batch-size", "data.batch_size"),
        ("data.batch_size", "data.batch_size"),
        ("super-resolvers.my-net", "super_resolvers"),
        ("super-resolvers", "super_resolvers"),
        ("data", None),
        ("data.batch", None),
    ],
)
def test_options_are_found_by_their_names(name, found):
    option = TABLE.find(name)
    assert (option and option.name) == found


def test_names_as_they_are_typed():
    assert [option.flag for option in TABLE.options] == ["MODEL", "--data.batch-size", "--super-resolvers"]
    assert TABLE.flags() == ["--data.batch-size", "--super-resolvers"]
    assert TABLE.has_group("data")
    assert not TABLE.has_group("model")


def test_presets_change_defaults():
    option = TABLE.find("data.batch-size")
    assert (option.default_of("quick"), option.default_of("paper")) == (8, 16)


def test_only_names_of_options_get_hyphens():
    text = "batch_size of G_from_M and fasterrcnn_resnet50_fpn, growth_rate"
    assert with_hyphens(text, TABLE) == "batch-size of G_from_M and fasterrcnn_resnet50_fpn, growth_rate"


def test_a_table_is_read_from_the_file():
    table = load_option_table("train afi-gan")
    assert table.find("model.norm").choices == ("frozen", "batch", "sync", "group")
    assert next(iter(table.presets)) == "quick"
    with pytest.raises(KeyError):
        load_option_table("fly")
