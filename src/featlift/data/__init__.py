"""Image datasets, augmentations and loaders. Every dataset implements :class:`featlift.data.dataset.ImageDataset`; this
package does not depend on detectors.
"""
