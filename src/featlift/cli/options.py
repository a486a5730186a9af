"""Write ``options.json``, the options of every command: ``python -m featlift.cli.options``.

The options are read from the signatures of the commands' functions, from dataclasses and from presets. The file is committed, and a
test compares it with what this module builds now.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import Field, asdict, fields, is_dataclass, replace
from typing import Any, get_args, get_type_hints

from docstring_parser import DocstringStyle, parse

from featlift.cli.groups import SHORT_HELP, find_heading
from featlift.cli.main import load_function
from featlift.cli.option_table import OPTIONS_FILE, Option
from featlift.cli.verbs import COMMANDS, PAPERS, Command
from featlift.runs.presets import PRESETS

CHOICES: dict[str, tuple[str, ...]] = {
    "model.norm": ("frozen", "batch", "sync", "group"),
    "optimizer.name": ("sgd", "adam", "adamw"),
    "optimizer.schedule": ("constant", "multistep", "cosine"),
    "merge_method": ("nms", "soft-nms"),
    "format": ("onnx", "openvino", "torch-export"),
    "part": ("detector", "extractor", "interpolator"),
    "to": ("coco", "yolo", "voc", "labelme", "masks", "hugging-face"),
    "tracker": ("none", "tensorboard", "wandb", "mlflow"),
    "lists": ("interpolators", "pyramids", "texture-transfers", "detectors", "super-resolvers", "presets"),
}
"""End of an option's name → its values, which the types do not declare."""
_CONFIG = Option("config", "str", "", "YAML file with these options.")


def build_options() -> dict[str, Any]:
    """Return the content of ``options.json``."""
    commands = {
        name: {"options": [_to_json(option) for option in build_command_options(command)]}
        for name, command in list_commands()
    }
    return {"commands": commands | {f"train {paper}": _build_paper(paper) for paper in PAPERS}}


def list_commands() -> Iterator[tuple[str, Command]]:
    """Yield the words and the entry of every command except trainings."""
    for name, command in COMMANDS.items():
        if isinstance(command, Command):
            yield name, command
        elif name != "train":
            yield from ((f"{name} {sub_name}", sub_command) for sub_name, sub_command in command.items())


def build_command_options(command: Command) -> list[Option]:
    """Return the options of a command from the signature and docstring of its function; positional arguments first."""
    options = [*_list_parameters(load_function(command)), _CONFIG]
    return sorted(options, key=lambda option: not option.positional)


def _list_parameters(function: Callable[..., Any]) -> Iterator[Option]:
    hints, texts = get_type_hints(function), read_docstring(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if is_dataclass(hints[name]):
            yield from _list_fields(hints[name], hints[name]())
            continue
        if config_class := _find_dataclass(hints[name]):
            yield from _list_group(config_class, name, texts.get(name, ""))
            continue
        required = parameter.default is inspect.Parameter.empty
        positional = required or hints[name] == tuple[str, ...]
        yield Option(
            name,
            format_type(hints[name]),
            None if required else parameter.default,
            texts.get(name, ""),
            "arguments" if positional else "options",
            positional,
            required,
            choices=_find_choices(name),
        )


def _find_dataclass(hint: Any) -> Any:
    """Return the dataclass that ``hint`` is or, as in ``Config | None``, contains; None if there is none."""
    return next((kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)), None)


def _list_group(config_class: Any, name: str, text: str) -> Iterator[Option]:
    """Yield the options ``--name.field`` of an optional dataclass; the first one's help ends with the parameter's ``text``."""
    first, *others = _list_fields(config_class, config_class(), f"{name}.")
    yield replace(first, help=f"{first.help} {text}".strip())
    yield from others


def _build_paper(paper: str) -> dict[str, Any]:
    options = build_training_options(paper)
    return {
        "presets": {name: PRESETS[name] for name in _build_presets(paper)},
        "options": [_to_json(option) for option in options],
    }


def build_training_options(paper: str) -> list[Option]:
    """Return the options of ``featlift train PAPER``, those of the short help first and in its order."""
    from featlift.papers.registry import PAPERS
    from featlift.runs.options import RunOptions

    presets = _build_presets(paper)
    choice = "finetune on your own images, else quick" if "finetune" in presets else "quick, also on your own images"
    preset = Option("preset", "str", "", f"One of the presets above. Without it: {choice}.")
    run_options = [_set_run_folder(option, paper) for option in _list_fields(RunOptions, RunOptions())]
    if not PAPERS[paper].stages:
        run_options = [option for option in run_options if option.name != "stop_after"]
    settings = list(_list_settings(PAPERS[paper].settings, presets))
    options = [_place(option, paper) for option in (preset, _CONFIG, *run_options, *settings)]
    return sorted(options, key=lambda option: _rank(option.name, paper))


def _build_presets(paper: str) -> dict[str, Any]:
    """Return the settings of every preset of ``paper``, in the order of :data:`PRESETS`."""
    from featlift.papers.registry import PAPERS

    names = sorted(PAPERS[paper].presets, key=list(PRESETS).index)
    return {name: PAPERS[paper].preset(name) for name in names}


def _rank(name: str, paper: str) -> int:
    names = SHORT_HELP[paper]
    return names.index(name) if name in names else len(names)


def _place(option: Option, paper: str) -> Option:
    short = option.name in SHORT_HELP[paper]
    return Option(**{**vars(option), "heading": find_heading(paper, option.name), "short": short})


def _set_run_folder(option: Option, paper: str) -> Option:
    return Option(**{**vars(option), "default": f"runs/{paper}"}) if option.name == "run" else option


def _list_settings(settings_class: type, presets: dict[str, Any]) -> Iterator[Option]:
    """Yield the options of a paper's settings with their values in every preset."""
    values = {name: {o.name: o.default for o in _list_fields(settings_class, s)} for name, s in presets.items()}
    for option in _list_fields(settings_class, presets["paper"]):
        differing = {name: value[option.name] for name, value in values.items() if value[option.name] != option.default}
        yield Option(**{**vars(option), "presets": differing})


def _list_fields(config_class: Any, instance: Any, prefix: str = "") -> Iterator[Option]:
    """Yield an option for each field of a dataclass with its value in ``instance`` (which may be None), nested ones with dots."""
    hints, texts = get_type_hints(config_class), read_docstring(config_class)
    for field in fields(config_class):
        name, hint = f"{prefix}{field.name}", hints[field.name]
        value = _read_field(instance, field)
        if nested := _find_dataclass(hint):
            yield from _list_stage(_list_fields(nested, value, f"{name}."), texts.get(field.name, ""))
        else:
            yield Option(
                name, format_type(hint), to_plain(value), texts.get(field.name, ""), choices=_find_choices(name)
            )


def _list_stage(options: Iterator[Option], text: str) -> Iterator[Option]:
    """Yield ``options``; the help of ``….steps`` begins with the help ``text`` of the stage."""
    for option in options:
        stage = re.split("[;:.]", text)[0]
        if option.help == "Number of training steps." and not stage.startswith("Steps"):
            yield Option(**{**vars(option), "help": f"{stage}: number of training steps."})
        else:
            yield option


def _read_field(instance: Any, field: Field[Any]) -> Any:
    return None if instance is None else getattr(instance, field.name)


def _find_choices(name: str) -> tuple[str, ...]:
    return next((values for end, values in CHOICES.items() if name == end or name.endswith(f".{end}")), ())


def format_type(hint: Any) -> str:
    """Return a type as it is written in Python: "int", "tuple[int, ...]", "Path"."""
    text = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Za-z])", "", text)


def to_plain(value: Any) -> Any:
    """Return a value as JSON holds it."""
    if is_dataclass(value) and not isinstance(value, type):
        return to_plain(asdict(value))
    return json.loads(json.dumps(value, default=str))


def read_docstring(documented: Any) -> dict[str, str]:
    """Return name → text of the arguments or attributes in a Google docstring; inherited attributes count."""
    texts: dict[str, str] = {}
    for owner in reversed(getattr(documented, "__mro__", (documented,))):
        if owner is not object and owner.__doc__:
            params = parse(inspect.cleandoc(owner.__doc__), DocstringStyle.GOOGLE).params
            texts |= {p.arg_name: _clean(p.description or "") for p in params}
    return texts


def _clean(text: str) -> str:
    text = re.sub(r"\(`+featlift\.[\w.]+`+\)|\(see `+featlift\.[\w.]+`+\)", "", text)
    text = re.sub(r":\w+:`~?([^`]+)`", r"\1", text)
    return re.sub(r"\s+([.;,])", r"\1", " ".join(text.replace("`", "").split()))


def _to_json(option: Option) -> dict[str, Any]:
    """Return the fields of ``option`` that differ from their defaults."""
    empty = vars(Option("", ""))
    values = {name: value for name, value in vars(option).items() if name in ("name", "type") or value != empty[name]}
    return to_plain(values)


def write_options() -> None:
    """Write ``options.json``, one option a line."""
    text = json.dumps(build_options(), ensure_ascii=False, indent=1)
    OPTIONS_FILE.write_text(f"{_join_lines(text)}\n", encoding="utf-8")


def _join_lines(text: str) -> str:
    """Write each option of indented JSON on one line."""
    lines: list[str] = []
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip(" "))
        if depth > 4 or (depth == 4 and line.strip().startswith("}")):
            lines[-1] += ("" if lines[-1].endswith(("{", "[")) or line.strip()[0] in "}]" else " ") + line.strip()
        else:
            lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    write_options()
    print(OPTIONS_FILE)
