"""What the documents say is so: commands parse, links lead somewhere, names exist."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import click
import pytest

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

import edgeprune
from edgeprune.cli.commands import cli
from tests.documents import hooks

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """All code blocks of a language in all documents."""
    texts = [document.read_text(encoding="utf-8") for document in DOCUMENTS]
    return [code for text in texts for kind, code in BLOCK.findall(text) if kind == language]


def lines(program: str) -> list[str]:
    """All calls of a program in shell blocks, each in one line."""
    code = [*blocks("sh"), *blocks("bash"), *blocks("console")]
    found = [line for block in code for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in found if line.startswith(f"{program} ")]


def commands() -> list[str]:
    """All calls of edgeprune in shell blocks."""
    return lines("edgeprune")


INLINE = re.compile(rf"`edgeprune ((?:{'|'.join(cli.commands)})\b[^`]*)`")


def mentions() -> list[tuple[str, str]]:
    """(document, words) of every command within a sentence."""
    texts = [(document.name, BLOCK.sub("", document.read_text(encoding="utf-8"))) for document in DOCUMENTS]
    return sorted({(name, " ".join(words.split())) for name, text in texts for words in INLINE.findall(text)})


KNOWN = {
    *("model.onnx", "net.onnx", "yolov8n.onnx", "tracker.onnx", "mine.onnx", "resnet18.onnx", "vit.onnx"),
    *("images.npz", "labelled.npz", "frames.npz", "scenes.npz", "evaluate.py", "checkpoint.pt", "nets.py"),
    *("old/report.json", "baseline/report.json", "measured.json", "recipe.toml", "sweep.toml"),
}
"""Files that the reader brings, by the names that all documents give them."""
WRITTEN = re.compile(r"(?:[./](?:cpu|orin)|^out|^again|^pruned|^curve)/[\w.]+$")
"""A file in a result's folder."""


@pytest.mark.parametrize("line", commands())
def test_commands_parse(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text('model = "model.onnx"\ntarget = "cpu"\n', encoding="utf-8")
    words = shlex.split(line, comments=True)
    _, name, *arguments = words[: words.index(">")] if ">" in words else words
    command = cli.commands[name]
    with command.make_context(name, arguments, parent=click.Context(cli)) as context:
        assert context.command is command


@pytest.mark.parametrize("line", commands())
def test_commands_read_what_is_there(line: str):
    """What a command reads is a file that the reader brings, one of the repository, or one that a command writes."""
    line = line.partition("#")[0].partition(">")[0]
    read = re.sub(r"(?:-o|--\w*out|--html|--dot|--markdown|--junit) \S+", "", line)
    for file in re.findall(r"[\w./-]+\.(?:onnx|npz|py|pt|json|toml)\b", read):
        assert file in KNOWN or WRITTEN.search(file) or (ROOT / file).exists(), file


@pytest.mark.parametrize(("document", "words"), mentions())
def test_commands_within_sentences_have_their_flags(document: str, words: str):
    name, *rest = words.split()
    command: click.Command = cli.commands[name]
    if isinstance(command, click.Group) and rest:
        command = command.commands[rest[0]]
    flags = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= flags | {"--help"}


@pytest.mark.parametrize("line", lines("python"))
def test_scripts_exist_and_take_their_flags(line: str):
    _, script, *rest = shlex.split(line, comments=True)
    if script.startswith("-"):
        return
    code = (ROOT / script).read_text(encoding="utf-8")
    assert all(f'"{word}"' in code for word in rest if word.startswith("--"))


@pytest.mark.parametrize("line", lines("pip install"))
def test_extras_exist(line: str):
    declared = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    )
    for extras in re.findall(r"\[([\w,]+)\]", line):
        assert set(extras.split(",")) <= declared


def test_every_command_is_shown():
    assert {line.split()[1] for line in commands()} >= set(cli.commands)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_is_valid_and_uses_public_names(code: str):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "edgeprune":
            assert node.attr in edgeprune.__all__


@pytest.mark.parametrize(
    "target", sorted({t for block in blocks("sh") for t in re.findall(r"^make ([\w-]+)", block, re.MULTILINE)})
)
def test_make_targets_exist(target: str):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path):
    for link in LINK.findall(document.read_text(encoding="utf-8")):
        assert (document.parent / link).exists(), link


def test_the_command_reference_has_every_command_and_option():
    text = hooks.command_reference()
    for name, command in cli.commands.items():
        _, _, rest = text.partition(f"\n### edgeprune {name}\n")
        section = rest.partition("\n### ")[0]
        inner = command.commands.values() if isinstance(command, click.Group) else [command]
        for option in (p for c in inner for p in c.params if isinstance(p, click.Option) and not p.hidden):
            assert all(flag in section for flag in option.opts), (name, option.opts)
    assert "UNSET" not in text


def test_the_command_reference_has_its_place():
    page = hooks.PAGE.read_text(encoding="utf-8")
    assert hooks.COMMANDS in page
    assert page == hooks.on_page_markdown(page), "stale: run `python docs/hooks.py`"
    assert hooks.on_page_markdown("nothing") == "nothing"
    assert "### edgeprune compile" in hooks.on_page_markdown(hooks.COMMANDS)


def test_every_page_is_reached():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert pages == set(re.findall(r"[\w./-]+\.md", text.partition("nav:")[2]))
