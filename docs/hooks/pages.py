"""Pages that mkdocs makes of what stands elsewhere: README's parts, launch/ and the modules.

README.md stays the one text: each of its `##` sections becomes a page, and the first page is what
stands before them. A module's page holds what its docstrings say; nothing is imported for it.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pagap_jax"
GUIDES = {"launch.md": "launch/README.md", "contributing.md": "CONTRIBUTING.md"}

# Single files are the foundations of all rooms.
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The order of the pages."""
    own = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
    config["nav"] = [
        {"pagap_jax": [{"In short": "index.md"}, *({t: p} for t, (p, _) in _parts().items())]},
        {"Guides": [*own, *GUIDES]},
        {"API": [{room: f"api/{room}.md"} for room in ("foundations", *ROOMS)]},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that no file of docs/ holds."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = {"index.md": readme.partition("\n## ")[0] + "\n"}
    pages |= dict(_parts().values())
    pages |= {page: (ROOT / file).read_text(encoding="utf-8") for page, file in GUIDES.items()}
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    for room in ("foundations", *ROOMS):
        files.append(File.generated(config, f"api/{room}.md", content=_api(room)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Makes links within the repository links between pages."""
    return _linked(markdown)


def _parts() -> dict[str, tuple[str, str]]:
    """README's sections: by title, the page's name and its text."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, *sections = re.split(r"^## ", readme, flags=re.M)
    parts = {}
    for section in sections:
        title, _, text = section.partition("\n")
        name = re.sub(r"\W+", "-", title.lower()).strip("-")
        # One level up: the section is a page now.
        raised = re.sub(r"^#(#+ )", r"\1", text, flags=re.M)
        parts[title] = (f"readme/{name}.md", f"# {title}\n{raised}")
    return parts


def _linked(text: str) -> str:
    """Links within the repository as links between pages; to what is no page, its name alone."""

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found.groups()
        name = target.removeprefix("../")
        guides = {file: page for page, file in GUIDES.items()}
        page = guides.get(name) or guides.get(f"{name}README.md") or name.removeprefix("docs/")
        is_page = page in GUIDES or (ROOT / "docs" / page).is_file()
        return f"[{words}](/{page}{anchor})" if is_page else words

    return re.sub(r"\[([^\]]+)\]\((?!https?:|/|#)([^)#\s]+)(#[^)]*|)\)", link, text)


def _api(room: str) -> str:
    """A room's modules, each with what its docstrings say."""
    sources = PACKAGE.glob("*.py") if room == "foundations" else (PACKAGE / room).rglob("*.py")
    lines = [f"# {room}"]
    for path in sorted(sources):
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if module != "pagap_jax":
            lines.append(f"::: {module}")
    return "\n\n".join(lines) + "\n"
