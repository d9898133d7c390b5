"""What the site makes of the scripts: labelled equations tied to lines and tests, the code beside them, diffs."""
import ast
import difflib
import html
import re
from pathlib import Path

from mkdocs.structure.files import File
from pygments.lexers import PythonLexer
from pygments.token import STANDARD_TYPES, Comment

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["reinforce", "a2c", "ppo_continuous", "ddpg", "td3"]
EQUATION = re.compile(r"^\$\$\n((?:(?!\$\$).)*?)\n?\\tag\{([^}]+)\}\n\$\$$", re.M | re.S)
LABEL = re.compile(r"\[((?:[A-Z]+-)?\d+)\]")
NOT_PROSE = r"^```.*?^```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$"


def equations(page):
    """[(labels, LaTeX)] of docs/{page}.md, in the order of the text."""
    return [(tag.split(", "), tex) for tex, tag in EQUATION.findall((ROOT / f"docs/{page}.md").read_text())]


def lines(page):
    """[(line number, labels)] of the labelled lines of {page}.py. Labels stand in comments."""
    source = (ROOT / f"{page}.py").read_text().splitlines()
    labels = ((number, LABEL.findall(line.partition("#")[2])) for number, line in enumerate(source, 1))
    return [(number, found) for number, found in labels if found]


def test_name(label):
    return "test_" + ("TD3_step_" + label if label.isdigit() else label.replace("-", "_"))


def tests():
    """{label: [(file, source)]} of the tests that are named after a label."""
    labels, found = dict.fromkeys(label for page in PAGES for _, labels in lines(page) for label in labels), {}
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            for label in labels if isinstance(node, ast.FunctionDef) else ():
                if f"{node.name}_".startswith(f"{test_name(label)}_"):
                    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                    source = "\n".join(path.read_text().splitlines()[first - 1:node.end_lineno])
                    found.setdefault(label, []).append((path.name, source))
    return {label: found[label] for label in labels if label in found}


def home(label, page=None):
    """The page whose equation a label means: this one if it has it, else the first that has; TD3's for its steps."""
    pages = [name for name in [page, *["td3"] * label.isdigit(), *PAGES] if name in PAGES]
    return next(name for name in pages if any(label in tag for tag, _ in equations(name)))


def equation(labels, tex, page, seen, tested):
    key = " ".join(labels)
    new = [label for label in labels if label not in seen and not seen.add(label)]
    ids = [f'id="eq-{label}"' for label in new] or [""]
    ties = [f'<b>[{"] [".join(labels)}]</b>']
    ties += [f'<a href="#L{number}">line {number}</a>' for number, found in lines(page) if found == labels]
    ties += [f'<a href="tests.html#{test_name(label)}">{test_name(label)}</a>' for label in labels if label in tested]
    return (f'<div class="equation" {ids[0]} data-key="{key}" tabindex="0">'
            + "".join(f"<span {other}></span>" for other in ids[1:])
            + f'<div class="arithmatex">\\[{html.escape(tex)}\\]</div><p>{" · ".join(ties)}</p></div>')


def code(page):
    """The script as it is, a span for each line."""
    rows, tied = [[]], dict(lines(page))
    for kind, text in PythonLexer(stripnl=False, ensurenl=False).get_tokens((ROOT / f"{page}.py").read_text()):
        for i, part in enumerate(text.split("\n")):
            if i:
                rows.append([])
            part = html.escape(part)
            if kind in Comment:
                part = LABEL.sub(r'<a href="#eq-\1">[\1]</a>', part)
            rows[-1].append(f'<span class="{STANDARD_TYPES.get(kind, "")}">{part}</span>' if part else "")
    spans = []
    for number, row in enumerate(rows, 1):
        key = f' data-key="{" ".join(tied[number])}"' if number in tied else ""
        spans.append(f'<span class="line" id="L{number}"{key}>{"".join(row)}</span>')
    return "\n".join(spans[:-1]) + "\n"  # the file ends with a newline, so the last row is empty


def diff(left, right):
    """A unified diff, with changes of white space left out."""
    left, right = ((ROOT / name).read_text().splitlines() for name in (left, right))
    squeezed = ([" ".join(line.split()) for line in side] for side in (left, right))
    out = []
    for group in difflib.SequenceMatcher(None, *squeezed, autojunk=False).get_grouped_opcodes(1):
        out.append(f"@@ lines {group[0][3] + 1} to {group[-1][4]} @@")
        for kind, i, i_end, j, j_end in group:
            out += [f"- {line}" for line in left[i:i_end] if kind != "equal"]
            out += [f"{' ' if kind == 'equal' else '+'} {line}" for line in right[j:j_end]]
    return "```diff\n" + "\n".join(out) + "\n```"


def on_files(files, config):
    text = ["# The tests of the labels", "Made from `tests/` when the site is built. Each label of a derivation names "
            "a test that fails when the line is wrong; its expectation does not come from the code."]
    for label, found in tests().items():
        text.append(f"## {test_name(label)} {{ #{test_name(label)} }}\n\n[{label}]")
        text += [f"`tests/{file}`\n\n```python\n{source}\n```" for file, source in found]
    files.append(File.generated(config, "tests.md", content="\n\n".join(text)))
    return files


def on_page_markdown(markdown, page, config, files):
    name = page.file.src_uri.removesuffix(".md")
    markdown = re.sub(r"<!-- diff (\S+) (\S+) -->", lambda match: diff(*match.groups()), markdown)
    if not page.parent:
        page.meta["hide"] = ["navigation", "toc"] if name in PAGES else ["navigation"]
    if name in PAGES:
        here = [labels for labels, _ in equations(name)]
        carried = [(labels, next(tex for other in PAGES for tag, tex in equations(other) if tag == labels))
                   for _, labels in lines(name) if labels not in here]
        if carried:
            markdown += "\n\n## Labels from other pages\n"
        for labels, tex in carried:
            source, tag = home(labels[0]), ", ".join(labels)
            markdown += f"\n\nFrom [{source}.py]({source}.md#eq-{labels[0]}):\n\n$$\n{tex}\n\\tag{{{tag}}}\n$$"
    markdown = re.sub(f"({NOT_PROSE})|{LABEL.pattern}(?!\\()", lambda match: match[1] or (
        f"[\\[{match[2]}\\]]({home(match[2], name)}.md#eq-{match[2]})"), markdown, flags=re.M | re.S)
    seen, tested = set(), tests()
    return EQUATION.sub(lambda match: equation(match[2].split(", "), match[1], name, seen, tested), markdown)


def on_page_content(content, page, config, files):
    name = page.file.src_uri.removesuffix(".md")
    if name in PAGES:
        return (f'<div class="reading"><div>{content}</div>'
                f'<details open data-search-exclude><summary>{name}.py</summary>'
                f'<div class="highlight"><pre tabindex="0"><code>{code(name)}</code></pre></div></details></div>')
