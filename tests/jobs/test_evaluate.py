"""What rows say of where a checkpoint lies."""

import pytest
from etils import epath

from pagap_jax.errors import ConfigError
from pagap_jax.jobs.evaluate import StudyLabels


def test_a_place_is_named_within_the_study_and_as_it_is_without_one():
    place = epath.Path("/s/seed_0/online")
    assert StudyLabels(study_dir="/s").named(place) == "seed_0/online"
    assert StudyLabels().named(place) == "/s/seed_0/online"
    with pytest.raises(ConfigError, match="expected it in /other"):
        StudyLabels(study_dir="/other").named(place)
