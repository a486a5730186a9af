"""Pictures as ``data:`` URIs, so that a page is one file."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image


def data_uri(content: bytes, kind: str) -> str:
    """``content`` of the MIME type ``image/<kind>``."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def pixels_uri(pixels: np.ndarray, form: str = "PNG") -> str:
    """``pixels [H, W, 3]`` uint8; "PNG" keeps every pixel, "JPEG" is for large photographs."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **({"quality": 90} if form == "JPEG" else {"optimize": True}))
    return data_uri(buffer.getvalue(), form.lower())


def figure_uri(figure: Any, transparent: bool = False) -> str:
    """A figure of matplotlib as SVG, the same bytes whenever it is written."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=transparent, metadata={"Date": None})
    return data_uri(buffer.getvalue(), "svg+xml")
