"""Images and figures as ``data:`` URIs, so that a page is a single file."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image


def encode_data_uri(content: bytes, image_format: str) -> str:
    """Encode ``content`` as a data URI of MIME type ``image/<image_format>``."""
    return f"data:image/{image_format};base64,{base64.b64encode(content).decode('ascii')}"


def image_data_uri(pixels: np.ndarray, format: str = "PNG") -> str:
    """Encode ``pixels [H, W, 3]`` uint8; "PNG" is lossless, "JPEG" is for large photographs."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **({"quality": 90} if format == "JPEG" else {"optimize": True}))
    return encode_data_uri(buffer.getvalue(), format.lower())


def figure_data_uri(figure: Any, transparent: bool = False) -> str:
    """Encode a matplotlib figure as SVG without a date, so that equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=transparent, metadata={"Date": None})
    return encode_data_uri(buffer.getvalue(), "svg+xml")
