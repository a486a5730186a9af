"""One sentence for every error that reaches the command line."""

import errno
import json

KNOWN = (ValueError, TypeError, OSError, ImportError, FloatingPointError)
"""Types of the errors that FeatLift raises with a message of its own."""

WORKER_ERROR = "in DataLoader worker process"
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
TRACEBACK_HINT = "FEATLIFT_TRACEBACK=1 shows where."


def describe_error(error: BaseException) -> str:
    """Return what went wrong and what to do; the last line of what a data loader's worker raised."""
    text = str(error).strip()
    if WORKER_ERROR in text:
        return text.splitlines()[-1].partition(": ")[2] or text.splitlines()[-1]
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"Out of memory ({_first_line(text)}). Lower the batch size, the image size or the number of workers."
    if isinstance(error, OSError):
        return _describe_os_error(error, text)
    if isinstance(error, json.JSONDecodeError):
        return f"A JSON file is damaged: {text}. {TRACEBACK_HINT}"
    if isinstance(error, UnicodeError):
        return f"A name or file is not in UTF-8: {text}. {TRACEBACK_HINT}"
    if isinstance(error, KNOWN) and text:
        return text
    return f"{type(error).__name__}: {_first_line(text)}. A damaged file, or a fault of FeatLift: {TRACEBACK_HINT}"


def _describe_os_error(error: OSError, text: str) -> str:
    place = f" ({error.filename})" if error.filename else ""
    if error.errno in FULL_DISK or "No space left on device" in text:
        return f"The disk is full{place or f' ({text})'}. Make room, and run the same command again."
    if error.errno == errno.EMFILE:
        return f"Too many open files{place}. Raise the limit with ulimit -n 65536, or lower the number of workers."
    return text or type(error).__name__


def _first_line(text: str) -> str:
    return (text.splitlines() or ["no message"])[0].rstrip(".")
