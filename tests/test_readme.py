"""Every command of the README is one that the project understands, every name one that it has."""

import re
import shlex
from pathlib import Path

import pytest

from pagap_jax.aot.job import configure
from pagap_jax.configuration import job_usage, load_job, parse, parse_command_line, usage
from pagap_jax.data.show import run_command as main_of_show
from pagap_jax.errors import ConfigError, DataError
from pagap_jax.jobs import JOBS
from pagap_jax.library.sample import run_command as main_of_sample
from pagap_jax.main import main
from pagap_jax.study.command import run_command as main_of_report

ROOT = Path(__file__).resolve().parents[1]
COMMAND_PAGES = (
    "README.md",
    *(f"docs/{name}.md" for name in ("data", "own_study", "checkpoints", "measures", "results")),
)
PAGES = ("README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))
MADE_BY_RUNS = {"export/", "figures/"}
# Of the shell, of XLA, and instruction sets: capitals that are no macros.
OF_OTHERS = {"XLA_FLAGS", "PYTHONPATH", "JAX_COMPILATION_CACHE_DIR", "WANDB_PROJECT"}
NO_MACROS = {
    *("AVX2", "SSE4_2", "CRC32C", "T5X_PATH", "EPATH_USE_TF", "PAGAP_PROCESSES", "PAGAP_VERIFY"),
    *("PAGAP_CACHE_DIR", "PAGAP_CACHE_GIB", "PAGAP_CLAIM_SECONDS", *OF_OTHERS),
}
NOT_OURS = {"--xla_cpu_max_isa", "--logdir"}


def commands():
    text = "\n".join((ROOT / page).read_text() for page in COMMAND_PAGES)
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_command_is_understood(words, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    program, *arguments = words
    if program == "make":
        (target,) = arguments
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)
    elif arguments[0] == "checkpoint":
        monkeypatch.chdir(tmp_path)
        temporary = [a.replace("/tmp/", f"{tmp_path}/") for a in arguments]
        assert main([str(ROOT / a) if a.startswith("tests/") else a for a in temporary]) == 0
    elif arguments[0] == "compile":
        own = ("--topology", "--search", "--json", "--lengths")
        job = configure([a for a in arguments[1:] if not a.startswith(own)])
        assert job in JOBS
    elif arguments[0] == "report":
        with pytest.raises(ConfigError, match="no study.json"):  # the demo wasn't run here
            main_of_report([str(tmp_path), *arguments[2:]])
    elif arguments[0] == "show":
        with pytest.raises(DataError, match="found no pairs.json"):
            main_of_show([str(tmp_path), *arguments[2:]])
    elif arguments[0] == "sample":
        with pytest.raises(ConfigError, match="no checkpoint at"):
            main_of_sample([f"{tmp_path}/{arguments[1]}", *arguments[2:]])
    elif arguments[-1] == "--help":
        assert (usage() if len(arguments) == 1 else job_usage(arguments[0])).strip()
    else:
        assert program == "pagap"
        command = parse_command_line(arguments)
        configuration = parse(load_job(command.job), command.gin_files, command.gin_bindings)
        assert configuration.operative_config_text()


def test_the_two_commands_are_there():
    assert [["make", "demo"], ["make", "test"]] == list(commands())[:2]


def texts(pattern):
    """The texts of files of ours."""
    return "\n".join(path.read_text() for path in ROOT.glob(pattern))


def quoted(page):
    """What stands between backticks outside of blocks of code."""
    plain = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.M | re.S)
    return re.findall(r"`([^`\n]+)`", plain)


def spelled_out(name):
    """'sizes/{small,base}.gin' as two names."""
    found = re.search(r"\{(.*?)\}", name)
    if not found:
        return [name]
    return [name.replace(found[0], part) for part in found[1].split(",")]


def is_there(name):
    """A file or folder by its path in the project, in the package or among its gin files."""
    roots = (ROOT, ROOT / "pagap_jax", ROOT / "gin_configs")
    if "/" not in name:
        return any(True for root in roots for _ in root.rglob(name))
    return any((root / name).exists() for root in roots)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        assert target.startswith("http") or ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_every_file_is_there(page):
    named = [name for name in quoted(page) if re.fullmatch(r"[\w/{},.]+(\.py|\.gin|/)", name)]
    named = [one for name in named if name not in MADE_BY_RUNS for one in spelled_out(name)]
    assert [name for name in named if not is_there(name)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_macro_is_one(page):
    gin = texts("gin_configs/**/*.gin")
    macros = {*re.findall(r"^([A-Z]\w*) =", gin, re.M), *re.findall(r"%([A-Z]\w*)", gin)}
    named = {
        m[1] for name in quoted(page) if (m := re.match(r"([A-Z][A-Z0-9_]{2,})(\s?=|$)", name))
    }
    assert named - macros - NO_MACROS == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_is_one(page):
    sources = "\n".join(texts(f"{room}/**/*.py") for room in ("pagap_jax", "launch", "benchmarks"))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z_]+", (ROOT / page).read_text())) - NOT_OURS
    known = set(re.findall(r"--[a-z][a-z_]+", sources))
    assert named - known == set()
