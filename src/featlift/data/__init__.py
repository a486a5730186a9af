"""Pictures with objects. Every dataset here obeys :class:`featlift.data.dataset.ImageDataset`; nothing here knows a
detector.
"""
