"""Pictures with objects. Every dataset here obeys :class:`featlift.data.dataset.Pictures`; nothing here knows a
detector.
"""
