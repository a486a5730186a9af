import numpy as np

from featlift.data.synthetic.scene_cache import SceneCache
from featlift.data.synthetic.scenes import SyntheticScenes


def scene(value):
    return np.full((4, 4, 3), value, np.uint8), np.full((4, 4), 2, np.int32), [1, 2]


def test_a_stored_scene_is_not_rendered_again_and_cannot_be_changed():
    rendered, cache = [], SceneCache(1000)

    def get(key):
        return cache.get(key, lambda: rendered.append(key) or scene(key))

    pixels, instance_map, labels = get(5)
    pixels[:] = 0
    instance_map[:] = 0
    labels.clear()
    again = get(5)
    assert rendered == [5]
    for value, expected in zip(again, scene(5), strict=True):
        np.testing.assert_array_equal(value, expected)
    assert again[1].dtype == np.int32


def test_the_scene_that_was_not_used_for_longest_is_removed():
    rendered, cache = [], SceneCache(2 * (48 + 16))
    for key in (1, 2, 1, 3, 1, 2):
        cache.get(key, lambda key=key: rendered.append(key) or scene(key))
    assert rendered == [1, 2, 3, 2]
    assert cache.num_bytes == 2 * (48 + 16)
    assert SceneCache(10).get(1, lambda: scene(1))[0].sum() == 48  # too large to be stored


def test_datasets_with_equal_settings_share_their_scenes():
    first, other = SyntheticScenes(2, (48, 48), seed=71), SyntheticScenes(1, (48, 48), seed=71, first_index=1)
    np.testing.assert_array_equal(first.render(1)[0], other.render(0)[0])
    assert not np.array_equal(first.render(1)[0], SyntheticScenes(2, (48, 48), seed=72).render(1)[0])
