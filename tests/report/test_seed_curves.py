from featlift.report.seed_curves import plot_seed_curves


def test_curves_over_seeds_are_plotted(tmp_path):
    plot_seed_curves({"raw": {1.0: [0.9, 0.8], 2.0: [0.5, 0.6]}}, tmp_path / "a.png", "ratio", "mAP")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
