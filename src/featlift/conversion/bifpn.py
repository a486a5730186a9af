"""Rules for the keys of the BiFPN published with AFI-GAN's Swin-L model (`featlift.pyramids.published_bifpn`)."""

from featlift.conversion.rules import KeyRule


def bifpn_rules() -> list[KeyRule]:
    """Return the rules for :class:`PublishedBiFPN` without G. In the published keys, "up" is the upsampling (top-down) path."""
    rest = r"\.(.+)"
    layer = r"BiFPNLayer_(\d+)_"
    return [
        KeyRule(r"before_bifpn\.lateral([345])" + rest, r"laterals.c\1.\2"),
        KeyRule(r"before_bifpn\.p([45])_skip" + rest, r"skips.c\1.\2"),
        KeyRule(r"before_bifpn\.top_block\.p6\.conv" + rest, r"p6.0.\1"),
        KeyRule(r"before_bifpn\.top_block\.p6\.norm" + rest, r"p6.1.\1"),
        KeyRule(layer + r"conv([3456])_up" + rest, lambda m: f"layers.{m[1]}.down.{6 - int(m[2])}.{m[3]}"),
        KeyRule(layer + r"conv([4567])_down" + rest, lambda m: f"layers.{m[1]}.up.{int(m[2]) - 4}.{m[3]}"),
        KeyRule(layer + r"p([3456])_w1", lambda m: f"layers.{m[1]}.down.{6 - int(m[2])}.weights"),
        KeyRule(layer + r"p([4567])_w2", lambda m: f"layers.{m[1]}.up.{int(m[2]) - 4}.weights"),
    ]
