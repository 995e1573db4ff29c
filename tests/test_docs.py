"""The documents name what is there: files, anchors, commands, flags, settings, imports."""

import ast
import functools
import importlib
import itertools
import json
import pathlib
import re
import subprocess
import sys
from collections import Counter

import pytest

from mprm_jax.commands.main import COMMANDS
from mprm_jax.config import Config
from mprm_jax.overrides import section_names, setting_names

ROOT = pathlib.Path(__file__).parents[1]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGE_FOLDERS = [path.name for path in (ROOT / "mprm_jax").iterdir() if path.is_dir()]

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}\S.*\n)+")
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"(?<![\w./-])(?:mprm_jax|experiments|benchmarks|tests)/[\w./*-]*")
MODULE = re.compile(rf"(?:{'|'.join(PACKAGE_FOLDERS)})/[\w/]+\.py")
COMMAND = re.compile(
    r"(?:\bmprm (?P<command>[a-z][a-z-]*)|\bpython (?P<script>(?:experiments|benchmarks)/\w+\.py))"
    r"(?P<rest>[^&|;#\n]*)"
)
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
SETTING = re.compile(rf"(?<![\w./-])(?:{'|'.join(section_names())})\.[a-z]\w*(?![\w(/])")
SUFFIXES = (".md", ".json", ".py")  # of files that are named as a section
PLACEHOLDERS = ("experiments/NAME.py",)

ASK_ALL = f"""
import contextlib, io, json, sys
from mprm_jax.commands.main import main
texts = {{}}
for words in {[[name] for name in COMMANDS] + [["weak-labels", "stats"]]}:
    sys.argv, shown = ["mprm", *words, "--help"], io.BytesIO()
    out = io.TextIOWrapper(shown, encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main()
    texts[" ".join(words)] = shown.getvalue().decode()
print(json.dumps(texts))
"""

each_document = pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)


def text_of(path):
    return path.read_text(encoding="utf-8")


def prose(text):
    """A document without its code blocks."""
    return INDENTED.sub("", FENCED.sub("", text))


def code(text):
    """All that is set as code and is not Python, continued lines joined."""
    blocks = [block for language, block in FENCED.findall(text) if language != "python"]
    indented = INDENTED.findall(FENCED.sub("", text))
    pieces = [*blocks, *indented, *(span.replace("\n", " ") for span in SPAN.findall(prose(text)))]
    return "\n".join(pieces).replace("\\\n", " ")


def anchors(text):
    """Those that GitHub makes of headings."""
    titles = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in titles]
    slugs = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in plain]
    seen, found = Counter(), set()
    for slug in slugs:
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def dead_links(path):
    dead = []
    for link in LINK.findall(prose(text_of(path))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors(text_of(target))):
            dead.append(link)
    return dead


def missing_paths(text):
    named = [name.rstrip(".") for name in PATH.findall(text) if name not in PLACEHOLDERS]
    named += [f"mprm_jax/{span}" for span in SPAN.findall(text) if MODULE.fullmatch(span)]
    return [name for name in named if not any(ROOT.glob(name))]


@functools.cache
def help_texts():
    """What every command of mprm says to --help, by its words."""
    asked = [sys.executable, "-c", ASK_ALL]
    return json.loads(subprocess.run(asked, cwd=ROOT, capture_output=True, check=True).stdout)


@functools.cache
def flags_of_benchmark(script):
    asked = [sys.executable, script, "--help"]
    shown = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return usage_flags(shown)


def usage_flags(help_text):
    """The flags that argparse lists in its first paragraph."""
    return {*FLAG.findall(help_text.partition("\n\n")[0]), "--help"}


def known_flags(command, script):
    if command is None and script.startswith("benchmarks/"):
        return flags_of_benchmark(script)
    name = command or re.search(r'main\("(.+)"\)', text_of(ROOT / script))[1]
    texts = [text for words, text in help_texts().items() if words.split()[0] == name]
    return set().union(*map(usage_flags, texts))


def unknown_flags(text):
    unknown = []
    for found in COMMAND.finditer(text):
        flags = set(FLAG.findall(found["rest"]))
        if flags and (found["script"] or found["command"] in COMMANDS):
            spare = flags - known_flags(found["command"], found["script"])
            unknown += [f"{found['command'] or found['script']} {flag}" for flag in sorted(spare)]
    return unknown


def unknown_settings(text):
    known = setting_names(Config())
    named = [name for name in SETTING.findall(text) if not name.endswith(SUFFIXES)]
    return [name for name in named if name not in known]


@each_document
def test_no_link_is_dead(path):
    assert dead_links(path) == []


@each_document
def test_every_path_that_is_named_exists(path):
    assert missing_paths(text_of(path)) == []


@each_document
def test_every_command_exists(path):
    named = {found["command"] for found in COMMAND.finditer(code(text_of(path)))} - {None}
    assert named <= {*COMMANDS}


@each_document
def test_every_flag_is_one_of_its_command(path):
    assert unknown_flags(code(text_of(path))) == []


@pytest.mark.parametrize("words", [*COMMANDS, "weak-labels stats"])
def test_the_examples_of_help_have_flags_of_their_commands(words):
    assert unknown_flags(help_texts()[words].replace("\\\n", " ")) == []


@each_document
def test_every_setting_exists(path):
    assert unknown_settings(code(text_of(path))) == []


@each_document
def test_python_blocks_import_what_exists(path):
    trees = [
        ast.parse(block)
        for language, block in FENCED.findall(text_of(path))
        if language == "python"
    ]
    for node in itertools.chain.from_iterable(map(ast.walk, trees)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "mprm_jax":
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def test_every_document_can_be_reached_from_the_readme():
    reached, new = set(), {DOCS[0]}
    while new:
        reached |= new
        links = {(path, link) for path in new for link in LINK.findall(prose(text_of(path)))}
        targets = {(path.parent / link.partition("#")[0]).resolve() for path, link in links}
        new = {path for path in DOCS if path.resolve() in targets} - reached
    assert reached == {*DOCS}


def test_what_is_not_there_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `b`, c\n## A b c\n[x](page.md#a-b-c) [y](#a-b-c-1) [z](no.md) [w](#a)")
    assert dead_links(page) == ["no.md", "#a"]
    assert missing_paths("`benchmarks/no.py`, `crf/no.py`, `crf/settings.py`, tests/.") == [
        "benchmarks/no.py",
        "mprm_jax/crf/no.py",
    ]
    assert unknown_flags("mprm refine --export X --stage cls\npython benchmarks/crf.py --no") == [
        "refine --stage",
        "benchmarks/crf.py --no",
    ]
    assert unknown_flags("mprm weak-labels stats --labels D && mprm predict --split") == [
        "predict --split"
    ]
    assert unknown_settings("--set data.scale=2 optim.rate=1 data.md") == ["optim.rate"]
