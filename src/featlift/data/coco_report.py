"""The report of a dataset that was read: its counts, problems, and warnings of odd objects."""

from collections.abc import Sequence

from featlift.data.coco_objects import CocoObject
from featlift.data.coco_reader import CocoImage, CocoReader
from featlift.data.problems import DatasetReport, Finding


def build_report(reader: CocoReader, entries: Sequence[CocoImage], notes: Sequence[str] = ()) -> DatasetReport:
    """Count the ``entries`` that ``reader`` read, with its problems; ``notes`` are those of the format."""
    objects = [instance for entry in entries for instance in entry.objects]
    masked = sum(instance.rle is not None for instance in objects)
    note = f"{masked} of {len(objects)} objects have a mask; masks are only used if all have one"
    return DatasetReport(
        file=reader.annotation_file,
        num_images=len(entries),
        num_objects=sum(not (instance.is_crowd or instance.is_ignored) for instance in objects),
        num_classes=len(reader.classes),
        num_empty_images=sum(not entry.objects for entry in entries),
        num_crowds=sum(instance.is_crowd and not instance.is_ignored for instance in objects),
        num_ignored=sum(instance.is_ignored for instance in objects),
        num_clipped_boxes=sum(instance.was_clipped for instance in objects),
        notes=[*notes, *([note] if 0 < masked < len(objects) else [])],
        problems=reader.problems,
        findings=_find_odd_objects(entries),
    )


def _find_odd_objects(entries: Sequence[CocoImage]) -> list[Finding]:
    """Warn of areas that are not those of their objects, and of masks that fill little of their box."""
    odd = [(entry, instance) for entry in entries for instance in entry.objects if not instance.is_ignored]
    areas = [_describe_object(entry, instance) for entry, instance in odd if instance.has_other_area]
    masks = [_describe_object(entry, instance) for entry, instance in odd if instance.has_other_extent]
    findings = [
        Finding("warning", "areas that are not those of mask or box, which are used instead", areas),
        Finding("warning", "boxes that differ from the extent of their mask (IoU below 0.5)", masks),
    ]
    return [finding for finding in findings if finding.examples]


def _describe_object(entry: CocoImage, instance: CocoObject) -> str:
    left, top, right, bottom = instance.box
    return f"image {entry.image_id} ({entry.file_name}), box {[left, top, right - left, bottom - top]}, area {instance.area:g}"
