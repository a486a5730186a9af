from demo_seeds import merge_small_detections


def detection(image_id, box, score, label=1):
    return {"image_id": image_id, "category_id": label, "bbox": box, "score": score}


def test_only_small_detections_are_added_and_duplicates_suppressed():
    plain = [detection(1, [0, 0, 40, 40], 0.9), detection(2, [10, 10, 10, 10], 0.4)]
    same, better = detection(2, [10, 10, 10, 9], 0.3), detection(1, [60, 60, 8, 8], 0.8)
    other = [same, better, detection(1, [0, 50, 30, 30], 0.9), detection(2, [10, 10, 10, 10], 0.2, label=2)]
    merged = merge_small_detections(plain, other, 24.0)
    assert merged == [plain[0], better, plain[1], other[3]]
