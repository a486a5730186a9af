"""The page of the app: one tab for each comparison, on gradio. It loads nothing from other servers and sends nothing to them."""

import os
from typing import Any

from featlift.app.tabs import AppContent, add_detection_tab, add_search_tab, add_super_resolution_tab

SYSTEM_FONTS = ("system-ui", "sans-serif")
CODE_FONTS = ("ui-monospace", "monospace")


def import_gradio() -> Any:
    """Import gradio with its telemetry off.

    Raises:
        ImportError: naming the extra, if gradio is missing or older than version 6.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise ImportError("featlift app needs gradio: pip install 'featlift[app]'.") from error
    if int(gradio.__version__.partition(".")[0]) < 6:
        raise ImportError(f"featlift app needs gradio 6, not {gradio.__version__}: pip install -U 'featlift[app]'.")
    return gradio


def build_page(content: AppContent) -> Any:
    """Return the ``gradio.Blocks`` of the app."""
    gr = import_gradio()
    with gr.Blocks(title="FeatLift", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.Markdown("# FeatLift")
        with gr.Tabs():
            if content.predictors:
                with gr.Tab("Detection"):
                    add_detection_tab(gr, content)
            if content.search:
                with gr.Tab("Search"):
                    add_search_tab(gr, content)
            if content.upscaling:
                with gr.Tab("Super-resolution"):
                    add_super_resolution_tab(gr, content)
    return page


def launch_page(page: Any, host: str, port: int, open_browser: bool, block: bool = True) -> str:
    """Serve ``page`` on ``host:port`` (0: the first free port from 7860), until Ctrl-C if ``block``; return its URL.

    Raises:
        OSError: If the port is in use.
    """
    gr = import_gradio()
    theme = gr.themes.Default(font=SYSTEM_FONTS, font_mono=CODE_FONTS)
    options = {"theme": theme, "quiet": True, "footer_links": [], "share": False, "inbrowser": open_browser}
    _, url, _ = page.launch(
        server_name=host, server_port=port or None, prevent_thread_lock=True, show_error=True, ssr_mode=False, **options
    )
    print(f"{url}  (Ctrl-C ends)", flush=True)
    if block:
        page.block_thread()
    return url
