"""The example runs on a study, and its notebook is the same.

`python -m tests.examples.test_library` writes the notebook anew.
"""

import json
import re
import runpy
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPT, NOTEBOOK = EXAMPLES / "library.py", EXAMPLES / "library.ipynb"


def notebook_of(script: str) -> dict[str, Any]:
    """The script's `# %%` cells as a Jupyter notebook without outputs."""
    cells = []
    for number, cell in enumerate(re.split(r"^# %%", script, flags=re.M)[1:]):
        head, _, body = cell.partition("\n")
        is_text, lines = "[markdown]" in head, body.strip("\n").split("\n")
        if lines[0].startswith('"""'):  # the script's docstring
            lines = "\n".join(lines).strip('"\n').split("\n")
        elif is_text:
            lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
        source = [line + "\n" for line in lines[:-1]] + lines[-1:]
        made = {"cell_type": "markdown" if is_text else "code", "id": f"cell-{number}"}
        made |= {"metadata": {}, "source": source}
        cells.append(made if is_text else made | {"execution_count": None, "outputs": []})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def as_file(notebook: dict[str, Any]) -> str:
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def test_the_notebook_is_the_script():
    assert NOTEBOOK.read_text() == as_file(notebook_of(SCRIPT.read_text())), __doc__


def test_it_runs_on_a_study(study, monkeypatch, capsys):
    monkeypatch.setenv("STUDY_DIR", str(study.directory))
    made = runpy.run_path(str(SCRIPT))
    printed = capsys.readouterr().out
    assert f"KL from π_sft: about {made['shift'].mean():.2f} nats a response" in printed
    assert len(made["samples"]) == 16 and len(made["verdicts"]) == 8
    assert printed.count("  π_sft: ") == 3 and "of 8 prompts" in printed


if __name__ == "__main__":
    NOTEBOOK.write_text(as_file(notebook_of(SCRIPT.read_text())))
