"""Where a study's files are read and written, if its folder lies in a bucket too.

Its stages read and write the bucket themselves. What the study looks at (results, rows, samples,
warnings) is copied to this machine's disk as it comes to be, and what the study writes (rows.csv,
figures, report) is uploaded from there.
"""

import hashlib
from pathlib import Path

from pagap_jax.buckets import cache_folder, in_bucket, mirror, upload

# Not checkpoints and data, which are large and which a study doesn't look at.
LOOKED_AT = (".json", ".jsonl", ".csv", "outcomes.npz", "stream_outcomes.npz", ".md")
_LEFT_OUT = ("/checkpoints/", "/d_online/", "/kept/", "/stream/", "features.json")


class StudyPlace:
    """A study's folder.

    Attributes:
        directory: as it was given, and as stages are given theirs.
        here: on this machine's disk: itself, or a copy of what the study looks at.
    """

    def __init__(self, directory: str):
        """Looks at nothing yet."""
        self.directory = directory.rstrip("/")
        self._is_remote = in_bucket(directory)
        self.here = Path(directory)
        if self._is_remote:
            name = hashlib.sha256(self.directory.encode()).hexdigest()[:16]
            self.here = cache_folder() / "studies" / name

    def fetch(self, stage: str = "") -> None:
        """Copies what is new of a stage, or of the whole study."""
        if self._is_remote:
            source, target = f"{self.directory}/{stage}".rstrip("/"), self.here / stage
            mirror(source, target, lambda name: _is_looked_at(f"/{name}"))

    def publish(self) -> None:
        """Uploads what the study itself has written, its report last."""
        if not self._is_remote:
            return
        for path in sorted(self.here.iterdir()):
            if path.is_dir() and path.name in ("figures", "logs"):
                upload(path, f"{self.directory}/{path.name}")
        files = [path for path in self.here.iterdir() if path.is_file() and path.name[0] != "."]
        upload(self.here, self.directory, files=files, last=("report.html",))


def here(path: str) -> Path:
    """A study's folder on this machine's disk, with all that the study looks at."""
    place = StudyPlace(path)
    place.fetch()
    return place.here


def _is_looked_at(name: str) -> bool:
    return name.endswith(LOOKED_AT) and not any(part in name for part in _LEFT_OUT)
