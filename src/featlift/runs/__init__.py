"""Run folders: opening, evaluating and comparing them."""
