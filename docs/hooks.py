"""What the site makes of the scripts: equations tied to lines and tests, the code, diffs, defaults.

An equation of a page ends with \\tag{GAE-1}, its line of code with a comment that has [GAE-1].
"""

import ast
import difflib
import html
import re
from pathlib import Path

from mkdocs.structure.files import File
from pygments.lexers import PythonLexer
from pygments.token import STANDARD_TYPES, Comment

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = {  # of each page
    "reinforce": "reinforce.py",
    "a2c": "a2c.py",
    "ppo_continuous": "ppo_continuous.py",
    "ddpg": "ddpg.py",
    "td3": "td3.py",
    "q_learning": "discrete/q_learning.py",
    "dqn": "discrete/dqn.py",
    "double_dqn": "discrete/double_dqn.py",
    "dqn_atari": "discrete/dqn_atari.py",
}
PAGES = list(SCRIPTS)
OTHER_PAGES = ["normalisation", "continuous_actions"]  # with equations of several scripts
EQUATION = re.compile(r"^\$\$\n((?:(?!\$\$).)*?)\n?\\tag\{([^}]+)\}\n\$\$$", re.M | re.S)
LABEL = re.compile(r"\[((?:[A-Z]+-)?\d+)\]")
NOT_PROSE = re.compile(r"^```.*?^```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$", re.M | re.S)
DEFAULT = re.compile(r"`--([a-z-]+)`<!-- default of (\w+) -->")
FIGURES = "../benchmark/figures/"
LABEL_IN_PROSE = re.compile(rf"({NOT_PROSE.pattern})|{LABEL.pattern}(?!\()", re.M | re.S)


def equations(page):
    """[(labels, LaTeX)] of docs/{page}.md, in the order of the text."""
    text = (ROOT / f"docs/{page}.md").read_text()
    return [(tag.split(", "), tex) for tex, tag in EQUATION.findall(text)]


def lines(page):
    """[(line number, labels)] of the lines of a page's script that are a step with a label.

    Where the comment leaves the place of the label empty, the step above goes on to this line,
    unless a blank line is between them.
    """
    found = []
    goes_on = False
    for number, line in enumerate((ROOT / SCRIPTS[page]).read_text().splitlines(), 1):
        comment = line.partition("#")[2]
        labels = LABEL.findall(comment)
        if labels:
            found.append((number, labels))
            goes_on = True
        elif goes_on and comment.startswith("     "):
            last, labels = found[-1]
            found += [(between, labels) for between in range(last + 1, number + 1)]
        elif not line:
            goes_on = False
    return found


def test_name(label):
    if label.isdigit():
        return f"test_TD3_step_{label}"
    return "test_" + label.replace("-", "_")


def tests():
    """{label: [(file, source)]} of the tests that are named after a label."""
    found = {label: [] for page in PAGES for _, labels in lines(page) for label in labels}
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        text = path.read_text()
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef):
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                source = "\n".join(text.splitlines()[first - 1 : node.end_lineno])
                for label in found:
                    if f"{node.name}_".startswith(f"{test_name(label)}_"):
                        found[label].append((path.name, source))
    return {label: its_tests for label, its_tests in found.items() if its_tests}


def home(label, page=None):
    """The page whose equation a label means: this page, TD3's for its steps, or the first."""
    pages = [page] if page in PAGES else []
    if label.isdigit():
        pages.append("td3")
    for name in pages + PAGES + OTHER_PAGES:
        if any(label in labels for labels, _ in equations(name)):
            return name
    raise ValueError(f"[{label}]: no page has an equation of this label")


def equation(labels, tex, page, seen, tested):
    """The HTML of an equation; `seen` are the labels that have a place on the page already."""
    places = []
    for label in labels:
        if label not in seen:
            seen.add(label)
            places.append(f'<span id="eq-{label}"></span>')
    ties = ["<b>" + " ".join(f"[{label}]" for label in labels) + "</b>"]
    if page in PAGES:
        for number, found in lines(page):
            if found == labels:
                ties.append(f'<a href="#L{number}">line {number}</a>')
    else:
        for name in PAGES:
            numbers = [number for number, found in lines(name) if found == labels]
            if numbers:
                ties.append(f'<a href="{name}.html#L{numbers[0]}">{SCRIPTS[name]}</a>')
    for label in labels:
        if label in tested:
            ties.append(f'<a href="tests.html#{test_name(label)}">{test_name(label)}</a>')
    return (
        f'<div class="equation" data-key="{" ".join(labels)}" tabindex="0">{"".join(places)}'
        f'<div class="arithmatex">\\[{html.escape(tex)}\\]</div><p>{" · ".join(ties)}</p></div>'
    )


def code(page):
    """The HTML of a script as it is, a span for each line."""
    rows = [[]]
    source = (ROOT / SCRIPTS[page]).read_text()
    for kind, text in PythonLexer(stripnl=False, ensurenl=False).get_tokens(source):
        for i, part in enumerate(text.split("\n")):
            if i > 0:
                rows.append([])
            if part:
                part = html.escape(part)
                if kind in Comment:
                    part = LABEL.sub(r'<a href="#eq-\1">[\1]</a>', part)
                rows[-1].append(f'<span class="{STANDARD_TYPES.get(kind, "")}">{part}</span>')
    rows.pop()  # the file ends with a newline, so this row is empty
    tied = dict(lines(page))
    spans = []
    for number, row in enumerate(rows, 1):
        key = f' data-key="{" ".join(tied[number])}"' if number in tied else ""
        spans.append(f'<span class="line" id="L{number}"{key}>{"".join(row)}</span>\n')
    return "".join(spans)


def diff(left, right):
    """A unified diff of two files, with changes of white space left out."""
    left = (ROOT / left).read_text().splitlines()
    right = (ROOT / right).read_text().splitlines()
    squeezed_left = [" ".join(line.split()) for line in left]
    squeezed_right = [" ".join(line.split()) for line in right]
    matcher = difflib.SequenceMatcher(None, squeezed_left, squeezed_right, autojunk=False)
    out = []
    for group in matcher.get_grouped_opcodes(1):
        out.append(f"@@ lines {group[0][3] + 1} to {group[-1][4]} @@")
        for kind, i, i_end, j, j_end in group:
            if kind == "equal":
                out += [f"  {line}" for line in right[j:j_end]]
            else:
                out += [f"- {line}" for line in left[i:i_end]]
                out += [f"+ {line}" for line in right[j:j_end]]
    return "```diff\n" + "\n".join(out) + "\n```"


def carried_equations(page):
    """Markdown of the equations that a script has lines of, and whose derivation is elsewhere."""
    text = []
    here = [labels for labels, _ in equations(page)]
    for _, labels in lines(page):
        if labels not in here:
            here.append(labels)
            source = home(labels[0])
            tex = next(tex for found, tex in equations(source) if found == labels)
            tag = ", ".join(labels)
            text.append(f"From [{SCRIPTS.get(source, source)}]({source}.md#eq-{labels[0]}):")
            text.append(f"$$\n{tex}\n\\tag{{{tag}}}\n$$")
    if text:
        text.insert(0, "## Labels from other pages")
    return "\n\n".join(text)


def default(option, page):
    """The text of an option's default in a script: `--tau` of td3 → "0.005"."""
    for node in ast.walk(ast.parse((ROOT / SCRIPTS[page]).read_text())):
        if isinstance(node, ast.AnnAssign) and node.target.id == option.replace("-", "_"):
            value = ast.literal_eval(node.value)
            return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    raise ValueError(f"{page}: has no option --{option}")


def on_files(files, config):
    for path in sorted((ROOT / "benchmark/figures").glob("*.png")):
        files.append(File.generated(config, f"figures/{path.name}", abs_src_path=str(path)))
    text = [
        "# The tests of the labels",
        "Made from `tests/` when the site is built. Each label of a derivation names a test that "
        "fails when the line is wrong; its expectation does not come from the code.",
    ]
    for label, found in tests().items():
        text.append(f"## {test_name(label)} {{ #{test_name(label)} }}\n\n[{label}]")
        text += [f"`tests/{file}`\n\n```python\n{source}\n```" for file, source in found]
    files.append(File.generated(config, "tests.md", content="\n\n".join(text)))
    return files


def on_page_markdown(markdown, page, config, files):
    name = page.file.src_uri.removesuffix(".md")
    markdown = re.sub(r"<!-- diff (\S+) (\S+) -->", lambda match: diff(*match.groups()), markdown)
    markdown = DEFAULT.sub(lambda match: f"`--{match[1]} {default(*match.groups())}`", markdown)
    markdown = markdown.replace(FIGURES, "figures/")
    if name in PAGES:
        page.meta["hide"] = ["navigation", "toc"]  # they would take the place of the code
    elif not page.parent:
        page.meta["hide"] = ["navigation"]
    if name in PAGES:
        markdown += "\n\n" + carried_equations(name)

    def link(match):
        unchanged, label = match.groups()
        if unchanged:
            return unchanged
        return f"[\\[{label}\\]]({home(label, name)}.md#eq-{label})"

    seen = set()
    tested = tests()

    def replace(match):
        tex, tag = match.groups()
        return equation(tag.split(", "), tex, name, seen, tested)

    return EQUATION.sub(replace, LABEL_IN_PROSE.sub(link, markdown))


def on_page_content(content, page, config, files):
    name = page.file.src_uri.removesuffix(".md")
    if name not in PAGES:
        return content
    return (
        f'<div class="reading"><div>{content}</div>'
        f"<details open data-search-exclude><summary>{SCRIPTS[name]}</summary>"
        f'<div class="highlight"><pre tabindex="0"><code>{code(name)}</code></pre></div></details>'
        "</div>"
    )
