"""Readers and writers of annotation formats: YOLO, PASCAL VOC, LabelMe, mask images, Hugging Face datasets, COCO exports.

Every reader returns a `featlift.data.formats.split_source.SplitSource`, a COCO document, so that checks, ids and masks are those of COCO
datasets.
"""
