"""Words that must not come back, in code, comments, docstrings, messages and documentation, each with the field's term."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    *sorted((ROOT / "src" / "featlift").rglob("*.py")),
    *sorted((ROOT / "examples").rglob("*.py")),
    *sorted((ROOT / "benchmarks").rglob("*.py")),
    *sorted((ROOT / "benchmarks" / "papers").glob("*.toml")),
    *sorted((ROOT / "docs").glob("*.py")),
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]

WORDS: dict[str, str] = {
    r"pictures?": "image",
    r"doubl(es|ed|ing|ings)": "upsampling, upsampling step, twice as …",
    r"(un)?hasten(s|ed|ing)?": "optimize, restore",
    r"glimpses?": "patch sample",
    r"glanc(e|es|ed|ing)": "prefilter",
    r"doors?": "finder, strategy",
    r"versus": "benchmark, compared with",
    r"beside": "next to, compared with",
    r"nobody|somebody|everybody|everyone|whoever": "name who or what is meant",
    r"critics?": "discriminator",
    r"tell(s|ing)? apart": "discriminator loss",
    r"fool(s|ed|ing)?": "adversarial loss of the generator",
    r"caution": "regularization",
    r"lessons?": "loss weights",
    r"dice": "random number generator",
    r"descends?|descended|descent": "optimizer step, optimizer",
    r"judg(e|es|ed|ing)": "discriminator logits, score",
    r"what is there|what was there": "ground truth, the existing module",
    r"(how|as|so|too) bold": "regularization",
    r"rivals?": "baseline, alternative",
    r"told": "given, printed, reported",
    r"lifted": "super-resolved",
    r"magnif(y|ied|ies)": "upscale",
    r"shrunken": "downscaled",
    r"halving|halvings": "downscale",
    r"taps?": "feature extractor, layer",
    r"describers?": "embedder",
    r"contestants?": "candidate",
    r"adversary|adversaries": "discriminator, adversarial loss",
    r"unstrided": "stride 1",
    r"standings": "ranking",
    r"scenery": "background",
    r"the house|in this house": "the package",
    r"finders? opens?|lets? the old": "plain verbs",
    r"featlift (versus|finer|cost|sr|hasten)": "featlift benchmark, add-level, profile, upscale, optimize",
    r"colou?rings?|colours?|coloured": "color (American spelling)",
    r"optimis(e|es|ed|er|ers|ing|ation)|normalis\w+|initialis\w+|regularis\w+|quantis\w+": "-ize (American spelling)",
    r"neighbours?|neighbouring|behaviours?|favours?|licences?|centres?|centred|grey": "American spelling",
}
"""Regular expression of whole words → the terms to use instead."""

ALLOWED: dict[tuple[str, str], str] = {
    (
        "src/featlift/retrieval/losses.py",
        "critic",
    ): "a Wasserstein GAN has a critic: its outputs are no probabilities (Arjovsky et al., 2017)",
    ("src/featlift/papers/fsr_gan/*", "critic"): "the critic of FSR-GAN, Sec. 3.3",
    ("benchmarks/fsr_gan.py", "critic"): "the critic of FSR-GAN",
    ("docs/papers/fsr_gan.md", "critic"): "the critic of FSR-GAN",
    ("src/featlift/deployment/fused.py", "taps"): "the taps of a filter, a term of signal processing",
}
"""(file pattern, word) → why it may stand there."""


def split_identifiers(text: str) -> str:
    """``num_pictures`` and ``PictureFolder`` become separate words; lines are kept."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text).replace("_", " ")


def find_words(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line number, word and the terms to use instead."""
    for number, line in enumerate(split_identifiers(text).splitlines(), 1):
        for pattern, term in WORDS.items():
            for match in re.finditer(rf"\b(?:{pattern})\b", line, re.IGNORECASE):
                yield number, match[0].lower(), term


def is_allowed(path: Path, word: str) -> bool:
    return any(path.match(pattern) and word.rstrip("s") == allowed.rstrip("s") for pattern, allowed in ALLOWED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_terms_are_those_of_the_field(path):
    found = [
        f"line {n}: '{word}' → {term}" for n, word, term in find_words(path.read_text()) if not is_allowed(path, word)
    ]
    assert not found, f"{path.relative_to(ROOT)}:\n" + "\n".join(found)


@pytest.mark.parametrize("exception", ALLOWED, ids="-".join)
def test_no_exception_is_left_over(exception):
    pattern, word = exception
    texts = [path.read_text().lower() for path in FILES if path.match(pattern)]
    assert any(re.search(rf"\b{word}|_{word}", text) for text in texts), (
        f"ALLOWED has {exception}, but no file needs it"
    )


def test_words_are_found_in_identifiers_comments_and_prose():
    text = "class PictureFolder:\n    num_doublings = 2  # the critic\n\nAt a glance: descending order.\n"
    assert [(number, word) for number, word, _ in find_words(text)] == [
        (1, "picture"),
        (2, "doublings"),
        (2, "critic"),
        (4, "glance"),
    ]
