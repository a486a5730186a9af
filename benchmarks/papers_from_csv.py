"""Convert the papers' tables from CSV files to ``benchmarks/papers/*.toml``: ``python benchmarks/papers_from_csv.py FOLDER_OF_CSV``.

Values are in percent (AP) unless the column name says otherwise; "" is an empty cell. Columns that list cells whose decimal point was
missing in the text of the paper, and marks that were inferred, are kept.
"""

import csv
import sys
from pathlib import Path

AFI = "AFI-GAN: Improving feature interpolation of feature pyramid networks via adversarial training, Pattern Recognition 2023"
SRF = "SRF-GAN: Super-resolved feature GAN for multi-scale representation, arXiv 2020"
README = "the README of the SRF-GAN repository (August 2021), not the paper"
EFPN = "Extended feature pyramid network for small object detection, IEEE Transactions on Multimedia 2021"
TT100K = "TT100K test, ResNeXt-101: accuracy, recall, F1 in percent"
R50 = "Mask R-CNN on ResNet-50 and FPN"

PAPERS = {
    "afi_gan": (
        AFI,
        "Table 2 is missing from the transcribed text, which has its caption but no rows.",
        {
            "1": ("afi_table1_testdev.csv", "Against other detectors", "test-dev"),
            "3": ("afi_table3_val2017.csv", "Extractors trained under one head, reused under another", "val2017"),
            "4": ("afi_table4_val2017.csv", f"Progressive learning, A1 to A6; {R50}", "val2017"),
            "5": ("afi_table5_val2017.csv", "Multi-scale networks under RetinaNet", "val2017"),
            "6": ("afi_table6_val2017.csv", f"Interpolation methods; {R50}", "val2017"),
            "7": ("afi_table7_val2017.csv", f"Semantic levels compared in the extractor's loss; {R50}", "val2017"),
            "8": ("afi_table8_val2017.csv", f"Degradation of the image; {R50}", "val2017"),
            "9": (
                "afi_table9_val2017.csv",
                f"Higher-times up-sampling without (B1) and with laterals (B2); {R50}",
                "val2017",
            ),
        },
    ),
    "efpn": (
        EFPN,
        "Table lambda is from the text. Table 4, row 2: F1 of large signs is printed 93.1; its accuracy and recall give 93.0.",
        {
            "1": ("efpn_table1_c2prime.csv", "Stage 2 with and without pooling", ""),
            "2": ("efpn_table2_components_tt100k.csv", "What each component adds", TT100K),
            "3": ("efpn_table3_efficiency_tt100k.csv", "Time and memory against larger images, GTX 1080 Ti", TT100K),
            "4": ("efpn_table4_distillation_tt100k.csv", "What each loss adds, with ESPCN in FTT's place", TT100K),
            "5": ("efpn_table5_ftt_io.csv", "Detection on FTT's input, target and output alone", TT100K),
            "6": ("efpn_table6_sota_tt100k.csv", "Against other detectors", TT100K),
            "7": ("efpn_table7_coco_testdev.csv", "Against other detectors", "COCO test-dev"),
            "8": ("efpn_table8_tt100k_ap.csv", "AP at IoU 0.5 and AR by size, 45 classes", "TT100K test"),
            "9": ("efpn_table9_coco_val.csv", "AP and AR by size", "COCO val2017"),
            "lambda": ("efpn_lambda_ablation_text.csv", "The weight of the foreground term", TT100K),
        },
    ),
    "srf_gan": (
        SRF,
        "Table readme has rows that are only in the repository.",
        {
            "1": (
                "srf_table1_val2017.csv",
                "Nearest neighbor, the generator G reused, the whole extractor M reused",
                "val2017",
            ),
            "2": ("srf_table2_testdev.csv", "Against other detectors", "test-dev"),
            "3": ("srf_table3_val2017.csv", "Extractors trained under one head, reused under another", "val2017"),
            "4": ("srf_table4_val2017.csv", f"Progressive learning, A1 to A5; {R50}", "val2017"),
            "5": ("srf_table5_val2017.csv", f"Interpolation methods; {R50}", "val2017"),
            "6": ("srf_table6_val2017.csv", f"Degradation of the image; {R50}", "val2017"),
            "7": ("srf_table7_val2017.csv", f"Semantic levels compared in the extractor's loss; {R50}", "val2017"),
            "readme": ("extra_srf_repo_readme_testdev.csv", f"From {README}", "test-dev"),
        },
    ),
}


def toml_value(text: str) -> str:
    """Format a cell as TOML: numbers verbatim, anything else as a string."""
    try:
        float(text)
    except ValueError:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


def toml_table(path: Path, caption: str, split: str) -> str:
    """Convert a CSV file to the body of a TOML table."""
    with path.open(newline="", encoding="utf-8") as file:
        columns, *rows = csv.reader(file)
    lines = [f"  [{', '.join(map(toml_value, row))}]," for row in rows]
    header = [f'caption = "{caption}"', f'split = "{split}"', f"columns = [{', '.join(map(toml_value, columns))}]"]
    return "\n".join([*header, "rows = [", *lines, "]"])


def main(folder: Path) -> None:
    """Write the file of every paper to ``benchmarks/papers``."""
    for stem, (source, note, tables) in PAPERS.items():
        sections = [f'source = "{source}"\nnote = "{note}"']
        sections += [
            f"[table.{name}]\n{toml_table(folder / file, caption, split)}"
            for name, (file, caption, split) in tables.items()
        ]
        (Path(__file__).parent / "papers" / f"{stem}.toml").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
