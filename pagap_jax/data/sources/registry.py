"""The sources by the name of their seqio task."""

from collections.abc import Callable

from pagap_jax.data.sources.arena import ChatbotArena
from pagap_jax.data.sources.hh import hh_harmless, hh_helpful, hh_transcripts
from pagap_jax.data.sources.preferences import Preferences
from pagap_jax.data.sources.reader import Source
from pagap_jax.data.sources.tldr import SummarizeFromFeedback

# Each makes a source with the settings that gin has for it. gin_configs/jobs/prepare.gin names the
# same ones, and others beside them where somebody has a source of their own.
SOURCES: dict[str, Callable[[], Source]] = {
    "summarize_from_feedback": SummarizeFromFeedback,
    "hh_helpful": hh_helpful,
    "hh_harmless": hh_harmless,
    "hh_transcripts": hh_transcripts,
    "chatbot_arena": ChatbotArena,
    "preferences": Preferences,
    "json_lines": Preferences,  # its name of before
}
