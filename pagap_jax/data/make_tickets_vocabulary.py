"""Rebuilds the built-in task's vocabulary: `python -m pagap_jax.data.make_tickets_vocabulary`.

Output: `pagap_jax/data/assets/tickets.model`, the same bytes each time with one version of
sentencepiece; takes a second. Run it when the words of the task change, and then pretrain anew:
ids are given in the order of `word_categories()`.
"""

import io
import itertools

from pagap_jax.data.tickets import word_categories
from pagap_jax.data.vocabulary import END_ID, PAD_ID, TICKETS_MODEL, UNKNOWN_ID


def train_tickets_model() -> bytes:
    """A sentencepiece model with one id a word of the task, after pad, end and unknown."""
    import sentencepiece

    words = list(word_categories())
    # Ids go by frequency: the earlier word is the more frequent one, so that the order is ours.
    sentences = (" ".join(itertools.repeat(w, len(words) - i)) for i, w in enumerate(words))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences,
        model_writer=model,
        model_type="word",
        vocab_size=len(words) + 3,
        pad_id=PAD_ID,
        eos_id=END_ID,
        unk_id=UNKNOWN_ID,
        bos_id=-1,
        hard_vocab_limit=True,
        normalization_rule_name="identity",
        num_threads=1,
        minloglevel=1,
    )
    return model.getvalue()


if __name__ == "__main__":
    TICKETS_MODEL.parent.mkdir(exist_ok=True)
    TICKETS_MODEL.write_bytes(train_tickets_model())
    print(f"wrote {TICKETS_MODEL}")
