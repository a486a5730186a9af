"""Occlusion of the signs of a scene."""

from featlift.data.synthetic.scene_builder import MIN_VISIBLE_BEHIND_OCCLUDER, MIN_VISIBLE_BEHIND_SIGN
from featlift.data.synthetic.scenes import SyntheticScenes


def test_a_crowded_scene_keeps_its_objects_visible():
    """However many objects are requested, none is hidden: the scene contains fewer."""
    _, target = SyntheticScenes(1, image_size=(80, 80), num_objects=(200, 200), object_sizes=(12, 30))[0]
    assert 5 < len(target["labels"]) < 200
    assert MIN_VISIBLE_BEHIND_OCCLUDER < MIN_VISIBLE_BEHIND_SIGN
    assert (target["area"] > 0.4 * 12**2 * MIN_VISIBLE_BEHIND_OCCLUDER / 100).all()
