"""How long `pagap prepare` takes over data of the real sizes, and how much memory it needs.

`python -m benchmarks.prepare --of=hh` makes 161,000 transcripts, `--of=tldr` 93,000 comparisons of
21,000 posts, of random words and about as long as the real ones, with a vocabulary as T5's, and
prepares them at the paper's lengths.
"""

import argparse
import gzip
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROWS = {"hh": 161_000, "tldr": 93_000}
TASKS = {"hh": "hh_transcripts", "tldr": "summarize_from_feedback"}


def main() -> None:
    """Makes the data, prepares them in a process of its own, and prints what that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--of", choices=ROWS, default="hh")
    parser.add_argument("--rows", type=int, help="instead of as many as the real data have")
    arguments = parser.parse_args()
    num_rows = arguments.rows or ROWS[arguments.of]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = Words(np.random.default_rng(0))
        write_vocabulary(folder / "spiece.model", (words.text(60) for _ in range(4000)), 8000)
        make = {"hh": transcripts, "tldr": comparisons}[arguments.of]
        with gzip.open(folder / "rows.jsonl.gz", "wt", compresslevel=1) as file:
            file.writelines(json.dumps(row) + "\n" for row in make(words, num_rows))
        start = time.monotonic()
        subprocess.run(command(folder, TASKS[arguments.of]), check=True)
        seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    rate = num_rows / seconds
    print(f"{num_rows:,} rows: {seconds:.0f} s, {rate:,.0f} rows a second, {peak:.2f} GiB at most")


def command(folder: Path, task: str) -> list[str]:
    """The job over the folder's files."""
    settings = {
        "MODEL_DIR": str(folder / "pairs"),
        "DATA_FILE": str(folder / "rows.jsonl.gz"),
        "VOCABULARY_PATH": str(folder / "spiece.model"),
        "MIXTURE_OR_TASK_NAME": task,
        "SEED": 0,
    }
    words = [f"--gin.{name}={value!r}" for name, value in settings.items()]
    gin_file = "--gin_file=studies/paper/prepare.gin"
    return [sys.executable, "-m", "pagap_jax.main", "prepare", gin_file, *words]


class Words:
    """Texts of made-up words, the frequent ones short."""

    def __init__(self, rng: np.random.Generator):
        """Makes a list of words."""
        self._rng = rng
        letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
        lengths = np.clip(2 + np.log2(1 + np.arange(20_000)) / 2, 2, 9).astype(int)
        self.words = ["".join(rng.choice(letters, length)) for length in lengths]

    def text(self, mean_words: float) -> str:
        """About so many words, a sentence after another."""
        number = max(int(self._rng.gamma(2, mean_words / 2)), 1)
        ranks = (len(self.words) ** self._rng.random(number)).astype(int) - 1
        return " ".join(self.words[rank] for rank in ranks).capitalize() + "."


def transcripts(words: Words, number: int) -> Iterator[dict[str, Any]]:
    """Transcripts of HH's shape: two or three turns in common, then two answers."""
    for i in range(number):
        turns = (
            f"\n\nHuman: {words.text(25)}\n\nAssistant: {words.text(45)}" for _ in range(i % 3)
        )
        start = "".join(turns) + f"\n\nHuman: {words.text(25)}\n\nAssistant: "
        yield {"chosen": start + words.text(45), "rejected": start + words.text(45)}


def comparisons(words: Words, number: int) -> Iterator[dict[str, Any]]:
    """Comparisons of TL;DR's shape: a post is compared about four times."""
    post: dict[str, Any] = {}
    for i in range(number):
        if i % 9 in (0, 4):
            post = {"post": "\n".join(words.text(50) for _ in range(5)), "title": words.text(8)}
        summaries = [{"text": " " + words.text(26)} for _ in "ab"]
        split = "valid1" if i > 0.95 * number else "train"
        info = post | {"subreddit": "tifu", "id": f"t3_{i}"}
        yield {"info": info, "summaries": summaries, "choice": i % 2, "split": split}


def write_vocabulary(path: Path, texts: Iterator[str], size: int) -> None:
    """A sentencepiece model of at most so many pieces of these texts, with T5's ids."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts,
        model_writer=model,
        vocab_size=size,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())


if __name__ == "__main__":
    main()
