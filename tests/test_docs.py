"""The pages in docs/ against scripts and tests, and (slow) the built site in a real browser."""
import ast
import collections
import functools
import html.parser
import http.server
import importlib.util
import io
import re
import shutil
import subprocess
import sys
import threading
import tokenize
from urllib.parse import urldefrag

import pytest
from conftest import ROOT, SCRIPTS, load

PAGES = sorted((ROOT / "docs").glob("*.md"))
LABEL = r"\[((?:[A-Z]+-)?\d+)\]"
OTHER_OPTIONS = {"--help", "--logdir", "--no-index", "--strict", "--site-dir"}  # help's, TensorBoard's, git's, MkDocs'
PROGRAMS = {"pip", "python", "pytest", "uv", "git", "tensorboard", "mkdocs"}


def text(page):
    return (ROOT / f"docs/{page}.md").read_text()


def lines(script):
    """{line number: labels in its comment}."""
    tokens = tokenize.generate_tokens(io.StringIO((ROOT / f"{script}.py").read_text()).readline)
    labels = {token.start[0]: re.findall(LABEL, token.string) for token in tokens if token.type == tokenize.COMMENT}
    return {number: found for number, found in labels.items() if found}


def tags(page):
    return [tag.split(", ") for tag in re.findall(r"\\tag\{(.*?)\}", page)]


def options(script):
    source = ast.parse((ROOT / f"{script}.py").read_text())
    fields = next(node for node in source.body if getattr(node, "name", "") == "Args").body
    return {f"--{field.target.id.replace('_', '-')}" for field in fields}


def test_labels_in_docs_are_those_in_code_and_those_in_tests():
    docs = {label for page in PAGES for tag in tags(page.read_text()) for label in tag}
    code = {label for script in SCRIPTS for found in lines(script).values() for label in found}
    names = {node.name for path in (ROOT / "tests").glob("test_*.py") for node in ast.parse(path.read_text()).body
             if isinstance(node, ast.FunctionDef)}
    tests = {f"{family}-{number}" if family != "TD3_step" else number for name in names
             for family, number in re.findall(r"^test_(PG|GAE|AC|PPO|DPG|TD3_step)_(\d+)(?![^_])", name)}
    assert docs == code
    assert tests == code


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_equation_of_a_page_is_a_line_of_its_script(script):
    equations, code = tags(text(script)), list(lines(script).values())
    assert [tag for tag in equations if tag not in code] == []
    elsewhere = [tag for page in SCRIPTS for tag in tags(text(page))]
    assert [found for found in code if found not in elsewhere] == []
    assert len(equations) == len({" ".join(tag) for tag in equations})


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    markdown = pytest.importorskip("markdown")

    def anchors(path):
        headings = re.findall(r' id="(.*?)"', markdown.markdown(path.read_text(), extensions=["toc", "fenced_code"]))
        return {*headings, *(f"eq-{label}" for tag in tags(path.read_text()) for label in tag)}

    for link in re.findall(r"\]\((?!https?://)([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.S)):
        path, anchor = urldefrag(link)
        target = page.parent / path if path else page
        if target != ROOT / "docs/tests.md":  # made when the site is built
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_code_in_prose_stands_in_a_script():
    scripts = "".join((ROOT / f"{script}.py").read_text() for script in SCRIPTS)
    prose = "".join(page.read_text() for page in PAGES if page.stem != "notes")  # the notes quote other code
    quoted = re.findall("`([^`\n]*=[^`\n]*)`", prose)
    assert quoted and [quote for quote in quoted if quote not in scripts] == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda path: path.name)
def test_commands_and_options_are_known(page):
    known = options(page.stem) if page.stem in SCRIPTS else set.union(*map(options, SCRIPTS))
    source = page.read_text()
    assert set(re.findall(r"(?<![\w<!-])--[a-z][a-z-]*", source)) <= known | OTHER_OPTIONS
    for script in re.findall(r"(?:python|uv run) (\S+\.py)", source):
        assert (ROOT / script).exists(), script
    for block in re.findall(r"```bash\n(.*?)```", source, re.S):
        for command in re.split(r"&&|\n", block.strip()):
            assert command.split()[0] in PROGRAMS, command


def test_curves_lists_what_is_logged():
    logged = set()
    for script in SCRIPTS:
        tree = ast.parse((ROOT / f"{script}.py").read_text())
        logged |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)
                   and re.fullmatch(r"(charts|eval|losses)/\w+", str(node.value))}
        logged |= {f"losses/{key.value.removeprefix('losses/')}" for node in ast.walk(tree)
                   if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
                   and getattr(node.targets[0], "id", "") == "metrics" for key in node.value.keys}
    assert set(re.findall(r"^\| `(\w+/\w+)`", text("curves"), re.M)) == logged


def test_figures_are_those_of_the_default_options():
    ppo, ddpg, page = load("ppo_continuous").Args(), load("ddpg").Args(), text("ppo_continuous")
    updates, rows = ppo.update_epochs * ppo.num_minibatches, ppo.num_envs * ppo.num_steps
    assert rf"{ppo.update_epochs} \cdot {ppo.num_minibatches} = {updates}" in page
    assert rf"{ppo.num_envs} \cdot {ppo.num_steps} = {rows}" in page and f"{rows // ppo.num_minibatches} rows" in page
    assert f"is small, {ddpg.tau}" in " ".join(text("ddpg").replace(">", "").split())


def test_diff_of_a_ladder_turns_one_script_into_the_other():
    pytest.importorskip("mkdocs", reason="pip install -r docs/requirements.txt")
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs/hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)

    def count(rows):  # how often there is each line, but for its white space
        return collections.Counter(" ".join(row.split()) for row in rows)

    for left, right in re.findall("<!-- diff (.*) (.*) -->", text("ladders")):
        rows = hooks.diff(left, right).splitlines()[1:-1]
        before, after = (count((ROOT / name).read_text().splitlines()) for name in (left, right))
        before.subtract(count(row[2:] for row in rows if row.startswith("- ")))
        before.update(count(row[2:] for row in rows if row.startswith("+ ")))
        assert +before == after and min(before.values()) == 0


# the built site


class Page(html.parser.HTMLParser):
    """What a page is called by and what it refers to."""
    def __init__(self, source):
        super().__init__()
        self.ids, self.links, self.loads = {""}, set(), set()
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.add(attributes.get("id"))
        if tag == "a" and "href" in attributes:
            self.links.add(attributes["href"])
        self.loads |= {attributes[name] for name in ("src", "href") if tag != "a" and name in attributes}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="pip install -r docs/requirements.txt")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def browser(site):
    """A function that opens a page and gives it back with a list of all that went wrong."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("needs chromium: apt-get install chromium")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    with playwright.sync_playwright() as p:
        chrome = p.chromium.launch(executable_path=chromium)

        def open_page(name, **look):
            page, wrong = chrome.new_page(**{"viewport": {"width": 1440, "height": 900}, **look}), []
            page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("request", lambda request: request.url.startswith(address) or wrong.append(request.url))
            page.on("response", lambda response: response.status < 400 or wrong.append(response.url))
            page.goto(address + name)
            return page, wrong

        yield open_page
        chrome.close()
    server.shutdown()


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "reduced_motion": "reduce"}


@pytest.mark.slow
def test_links_of_the_site(site):
    pages = {path.relative_to(site).as_posix(): Page(path.read_text()) for path in site.glob("*.html")}
    assert len(pages) > len(PAGES)
    for name in pages.keys() - {"404.html"}:
        assert not [url for url in pages[name].loads if re.match(r"(\w+:)?//", url)], name
        for link in pages[name].links | pages[name].loads:
            if not re.match(r"\w+:", link):
                path, anchor = urldefrag(link)
                assert (site / (path if path not in ("", ".") else name)).exists(), (name, link)
                if path.endswith(".html") or not path:
                    assert anchor in pages[path or name].ids, (name, link)


@pytest.mark.slow
@pytest.mark.parametrize("look", [{}, {"color_scheme": "dark"}, PHONE], ids=["wide", "dark", "phone"])
def test_every_page_in_a_browser(browser, site, look):
    for path in site.glob("*.html"):
        page, wrong = browser(path.name, **look)
        page.wait_for_load_state("networkidle")
        assert not wrong, (path.name, wrong)
        formulas, rendered, failed = (page.locator(selector).count() for selector in (  # red: what KaTeX does not know
            ".arithmatex", ".arithmatex > :is(.katex, .katex-display)", ".katex-error, .katex [style*='204, 0, 0']"))
        assert formulas == rendered and not failed, path.name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path.name} is too wide"
        page.close()


def equations(script):
    """{labels: numbers of the lines that carry them}."""
    found = collections.defaultdict(list)
    for number, labels in lines(script).items():
        found[" ".join(labels)].append(number)
    return found


def lit(page):
    return page.evaluate("[...document.querySelectorAll('.line.lit')].map(line => +line.id.slice(1))")


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_reading_page(browser, script):
    expected, source = equations(script), (ROOT / f"{script}.py").read_text()
    page, wrong = browser(f"{script}.html")
    assert page.evaluate("document.querySelector('.reading pre').textContent") == source
    keys = page.evaluate("[...document.querySelectorAll('.equation')].map(equation => equation.dataset.key)")
    assert sorted(keys) == sorted(expected)
    for key, numbers in expected.items():
        equation, number = page.locator(f'.equation[data-key="{key}"]'), numbers[0]
        tests = [f"test_{'TD3_step_' if label.isdigit() else ''}{label.replace('-', '_')}" for label in key.split()]
        assert equation.locator("a[href^='#L']").all_inner_texts() == [f"line {number}" for number in numbers]
        assert equation.locator("a[href^=tests]").all_inner_texts() == tests
        equation.hover()
        assert lit(page) == numbers
        page.wait_for_function("""line => {
            const [pane, it] = ['.reading pre', line].map(name => document.querySelector(name).getBoundingClientRect())
            return it.top >= pane.top && it.bottom <= pane.bottom
        }""", arg=f"#L{number}")
        page.mouse.move(0, 0)
        assert lit(page) == []
        for line in numbers:
            page.locator(f"#L{line}").hover()
            assert equation.evaluate("e => e.classList.contains('lit')") and lit(page) == numbers
        page.locator(f"#L{number} a").first.focus()
        page.keyboard.press("Enter")
        page.wait_for_function("""key => {
            const box = document.querySelector(`.equation[data-key="${key}"]`).getBoundingClientRect()
            return box.top >= 0 && box.bottom <= innerHeight
        }""", arg=key)
        page.keyboard.press("Escape")
        page.mouse.move(0, 0)
        equation.focus()
        assert lit(page) == numbers
        page.keyboard.press("Escape")
        assert lit(page) == []
    page.emulate_media(media="print")
    assert page.evaluate("(pre => pre.clientHeight >= pre.scrollHeight && pre.clientWidth >= pre.scrollWidth)"
                         "(document.querySelector('.reading pre'))"), "some of the code is not printed"
    assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_reading_page_on_a_phone(browser, script):
    page, wrong = browser(f"{script}.html", **PHONE)
    for key, numbers in equations(script).items():
        equation = page.locator(f'.equation[data-key="{key}"]')
        equation.locator(".katex-display").tap()
        assert lit(page) == numbers
        page.locator("h1").first.tap()
        assert lit(page) == []
        page.locator(f"#L{numbers[-1]}").tap()
        assert equation.evaluate("e => e.classList.contains('lit')")
    assert not wrong
