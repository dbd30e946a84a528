"""Sources as gin knows them: their names, and settings that reach them."""

import gin

from pagap_jax.configuration import load_job, parse
from pagap_jax.data.sources.registry import SOURCES

FILES = ("jobs/prepare.gin", "data/hh_bytes.gin")
GIVEN = ("MODEL_DIR='a'", "SEED=0", "DATA_FILE='b'")


def sources_of(*bindings):
    parse(load_job("prepare"), FILES, [*GIVEN, *bindings])
    return gin.get_bindings("prepare")["sources"]


def test_the_job_s_gin_file_names_all_of_them():
    found = sources_of()
    assert found.keys() == SOURCES.keys()
    assert all(found[name]() == make() for name, make in SOURCES.items())


def test_settings_reach_a_source_and_its_template():
    found = sources_of("ChatbotArena.keep_ties=True", "ChatTemplate.user='You:'")
    source = found["chatbot_arena"]()
    assert source.keep_ties and source.template().user == "You:"
    assert found["preferences"]().template().user == "You:"
    assert sources_of("hh_helpful.parts=('helpful-base',)")["hh_helpful"]().parts == (
        "helpful-base",
    )
