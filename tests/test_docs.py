"""The pages in docs/ and README.md against scripts and tests, and (slow) the site in a browser."""

import collections
import functools
import html.parser
import http.server
import importlib.util
import io
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tokenize
import types
from pathlib import Path
from urllib.parse import urldefrag

import double_dqn
import dqn
import dqn_atari
import gymnasium as gym
import markdown
import numpy as np
import pytest
import q_learning
import torch

import a2c
import ddpg
import ppo_continuous
import reinforce
import td3

ROOT = Path(__file__).resolve().parents[1]
CONTINUOUS = (reinforce, a2c, ppo_continuous, ddpg, td3)
DISCRETE = (q_learning, dqn, double_dqn, dqn_atari)
MODULES = {module.__name__: module for module in (*CONTINUOUS, *DISCRETE)}
SCRIPTS = list(MODULES)
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
LABEL = r"\[((?:[A-Z]+-)?\d+)\]"
PROGRAMS = {"pip", "python", "pytest", "uv", "git", "tensorboard", "mkdocs", "cp"}
OTHER_OPTIONS = {  # of programs other than the scripts
    *("--help", "--logdir", "--no-index"),
    *("--scripts", "--tasks", "--seeds", "--workers", "--options", "--collect"),
}

each_script = pytest.mark.parametrize("script", SCRIPTS)
each_page = pytest.mark.parametrize("page", [*PAGES, README], ids=lambda path: path.name)


def load_hooks():
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs/hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks = load_hooks()


def text(page):
    return (ROOT / f"docs/{page}.md").read_text()


def source(script):
    return Path(MODULES[script].__file__).read_text()


def tags(page_text):
    """The labels of each equation of a page."""
    return [tag.split(", ") for tag in re.findall(r"\\tag\{(.*?)\}", page_text)]


def labels_in_comments(script):
    """The labels of each line of code that has any."""
    code = source(script).partition('"""\n\nimport')[2]
    found = [re.findall(LABEL, line.partition("#")[2]) for line in code.splitlines()]
    return [labels for labels in found if labels]


def options(script):
    fields = MODULES[script].Args.__dataclass_fields__
    return {"--" + name.replace("_", "-") for name in fields}


# the labels


def test_each_label_of_the_derivations_has_its_line_and_its_test():
    in_docs = {label for page in PAGES for tag in tags(page.read_text()) for label in tag}
    in_code = {
        label for script in SCRIPTS for found in labels_in_comments(script) for label in found
    }
    tested = set()
    for path in (ROOT / "tests").glob("test_*.py"):
        for kind, number in re.findall(r"^def test_([A-Z]+)_(\d+)(?:_|\()", path.read_text(), re.M):
            tested.add(f"{kind}-{number}")
        tested |= set(re.findall(r"^def test_TD3_step_(\d+)(?:_|\()", path.read_text(), re.M))
    assert in_docs == in_code
    assert tested == in_code
    assert set(hooks.tests()) == in_code


@each_script
def test_each_equation_of_a_page_is_a_line_of_its_script_and_the_other_way_round(script):
    equations = tags(text(script))
    in_code = labels_in_comments(script)
    anywhere = [tag for page in (*SCRIPTS, *hooks.OTHER_PAGES) for tag in tags(text(page))]
    assert [tag for tag in equations if tag not in in_code] == []
    assert [labels for labels in in_code if labels not in anywhere] == []
    assert len(equations) == len({tuple(tag) for tag in equations})


def labelled_lines(script, label):
    rows = source(script).splitlines()
    return [
        rows[number - 1].split("#")[0].strip()
        for number, labels in hooks.lines(script)
        if labels == [label]
    ]


def test_a_step_of_several_lines_is_all_of_them():
    assert labelled_lines("td3", "6") == [
        "noise = args.policy_noise * torch.randn_like(next_action)",
        "noise = noise.clamp(-args.noise_clip, args.noise_clip)",
        "next_action = (next_action + noise).clamp(-1, 1)",
    ]
    assert labelled_lines("dqn", "DQN-2") == [
        "next_values = self.target_network(batch.next_obs)",
        "next_q = next_values.max(dim=-1).values",
        "return batch.reward + self.args.gamma * (1 - batch.terminated) * next_q",
    ]


@each_script
def test_a_step_ends_with_its_paragraph(script):
    rows = source(script).splitlines()
    for number, labels in hooks.lines(script):
        code = rows[number - 1].split("#")[0].strip()
        assert code and not code.startswith(("def ", "class ", "@", "return {")), labels


# names, commands, links


@each_page
def test_links_lead_somewhere(page):
    def anchors(path):
        page_text = path.read_text()
        as_html = markdown.markdown(page_text, extensions=["toc", "fenced_code"])
        equations = {f"eq-{label}" for tag in tags(page_text) for label in tag}
        return equations | set(re.findall(r' id="(.*?)"', as_html))

    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for link in re.findall(r"\]\((?!https?://)([^)\s]+)\)", prose):
        path, anchor = urldefrag(link)
        target = page.parent / path if path else page
        if target != ROOT / "docs/tests.md":  # made when the site is built
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@functools.cache
def names(code):
    """The words of a program, but for those in its comments and in what it says."""
    found = set()
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.NAME:
            found.add(token.string)
        if token.type in (tokenize.NUMBER, tokenize.STRING) and " " not in token.string:
            found |= set(re.findall(r"\w+", token.string))
    return found


OTHER_NAMES = {"libegl1", "libosmesa6", "my_task", "py", "kill", "9", "export", "compare"}
NOT_NAMES = {"mean ± standard deviation (seeds)", "grad", "[N, A]"}  # quoted, not from scripts


@each_page
def test_what_a_page_quotes_exists(page):
    if page.stem == "notes":
        return  # they quote other code
    code = "".join(source(script) for script in SCRIPTS)
    code += (ROOT / "native_mujoco.py").read_text()
    known = names(code) | names(" ".join(logged_names())) | OTHER_NAMES
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    prose = re.sub(r"^>.*", "", prose, flags=re.M)  # remarks on the learner's notes
    for quote in re.findall(r"`([^`\n]+)`", prose):
        is_command = quote.split()[0] in PROGRAMS or quote.startswith("--")
        is_label = re.fullmatch(LABEL, quote)
        if not (is_command or is_label or quote in NOT_NAMES or (ROOT / quote).exists()):
            assert set(re.findall(r"\w+", quote.replace("…_", ""))) <= known, quote
            if "=" in quote and page != README:
                assert quote in code


@each_page
def test_commands_and_options_are_known(page):
    known = set.union(*[options(script) for script in SCRIPTS])
    if page.stem in SCRIPTS:
        known = options(page.stem)
    page_text = page.read_text()
    assert set(re.findall(r"(?<![\w<!-])--[a-z][a-z-]*", page_text)) <= known | OTHER_OPTIONS
    for script in re.findall(r"(?:python|uv run) (\S+\.py)", page_text):
        assert (ROOT / script).exists(), script
    for block in re.findall(r"```bash\n(.*?)```", page_text, re.S):
        for command in re.split(r"&&|\n", block.strip()):
            assert command.split()[0] in PROGRAMS, command


# contents


def logged_names():
    names = {f"eval/{name}" for name in td3.summary([td3.Episode(0, 1, 1.0, 1, 1.0)])}
    for script in SCRIPTS:
        names |= set(re.findall(r'"((?:charts|losses)/\w+)"', source(script)))
    return names


def test_curves_describes_what_is_logged_and_nothing_else():
    assert set(re.findall(r"^\| `(\w+/\w+)`", text("curves"), re.M)) == logged_names()


def test_defaults_that_the_pages_show_are_those_of_the_scripts():
    found = hooks.DEFAULT.findall(text("papers") + text("dqn"))
    assert len(found) > 10
    for option, script in found:
        value = getattr(MODULES[script].Args(), option.replace("-", "_"))
        if isinstance(value, tuple):
            value = " ".join(map(str, value))
        assert hooks.default(option, script) == str(value), (script, option)


def program(name):
    """A program in docs/, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_errors_on_the_random_walk_are_those_that_its_program_prints(capsys):
    program("random_walk").main()
    assert f"```\n{capsys.readouterr().out}```" in text("q_learning")


def test_the_overestimates_are_those_that_their_program_prints(capsys):
    program("overestimation").main([])
    assert f"```\n{capsys.readouterr().out}```" in text("double_dqn")


class Countdown(gym.Env):
    """Three steps with rewards 1, 2 and 4, whatever one does."""

    observation_space = gym.spaces.Box(0, 3, (1,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        obs = np.full(1, self.steps, np.float32)
        return obs, 2.0 ** (self.steps - 1), self.steps == 3, False, {}


def test_max_q_is_compared_with_the_return_that_follows():
    """Rewards 1, 2, 4 at γ = 0.5: 1 + 2/2 + 4/4, 2 + 4/2, 4. Q is s + 10 for one action."""
    module = program("overestimation")
    agent = types.SimpleNamespace(q_network=lambda obs: torch.cat([obs, obs + 10]))
    values, rewards = module.play(agent, Countdown(), seed=0)
    assert values == [10, 11, 12]
    assert rewards == [1, 2, 4]
    assert module.discounted_returns(rewards, 0.5) == [3, 4, 4]


def test_the_updates_on_the_random_walk_by_hand():
    """The walk 3 4 5 4 5 6, of which TD sees the values change on the way."""
    module = program("random_walk")
    moves = np.diag(np.full(4, 0.5), 1) + np.diag(np.full(4, 0.5), -1)
    solution = np.linalg.solve(np.eye(5) - moves, [0, 0, 0, 0, 0.5])
    np.testing.assert_allclose(module.TRUE_VALUES, solution)
    states = [3, 4, 5, 4, 5, 6]
    values = [0, 0.5, 0.5, 0.5, 0.5, 0.5, 0]
    module.monte_carlo(values, states, 0.5)
    assert values == [0, 0.5, 0.5, 0.75, 0.875, 0.875, 0]
    values = [0, 0.5, 0.5, 0.5, 0.5, 0.5, 0]
    module.td(values, states, 0.5)
    assert values == [0, 0.5, 0.5, 0.5, 0.5, 0.75, 0]
    module.td(values, states, 0.5)
    assert values == [0, 0.5, 0.5, 0.5, 0.65625, 0.84375, 0]


def test_figures_of_the_network_and_the_memory_of_frames():
    args = dqn_atari.Args()
    page = text("dqn_atari")
    pixels = args.frame_size**2
    network = dqn_atari.QNetwork(args.frame_stack * pixels, 6, args.frame_size)
    layers = [layer for layer in network.net if hasattr(layer, "weight")]
    counts = [layer.weight.numel() + layer.bias.numel() for layer in layers]
    for count in [*counts, sum(counts[:3])]:
        assert f"{count:,}" in page
    for side, channels, size in ((20, 32, 12_800), (9, 64, 5_184), (7, 64, 3_136)):
        assert f"= {side} | {channels} · {side} · {side} = {size:,} |" in page
        assert channels * side**2 == size
    stacks = 2 * args.frame_stack * pixels
    for size in (4 * stacks, stacks, pixels):
        row = f"| {size:,} | {size * 1e5 / 1e9:.1f} GB | {size * 1e6 / 1e9:.1f} GB |"
        assert row in page
    memory = dqn_atari.ReplayBuffer(10, stacks // 2, args.frame_stack, 1, torch.zeros(()))
    assert memory.frames.nbytes == 10 * pixels and memory.rows.nbytes == 10 * 20
    assert f"`--buffer-size`, {args.buffer_size:,} by default" in page
    assert f"{args.total_timesteps // 10**6} million by default" in page


def test_the_diff_of_a_ladder_turns_one_script_into_the_other():
    def count(rows):
        return collections.Counter(" ".join(row.split()) for row in rows)

    pairs = re.findall("<!-- diff (.*) (.*) -->", text("ladders"))
    assert len(pairs) == 3
    for left, right in pairs:
        rows = hooks.diff(left, right).splitlines()[1:-1]
        result = count((ROOT / left).read_text().splitlines())
        result.subtract(count(row[2:] for row in rows if row.startswith("- ")))
        assert min(result.values()) >= 0
        result.update(count(row[2:] for row in rows if row.startswith("+ ")))
        assert +result == count((ROOT / right).read_text().splitlines())


# the built site


class Page(html.parser.HTMLParser):
    """What a page is called by and what it refers to."""

    def __init__(self, page_text):
        super().__init__()
        self.ids = {""}
        self.links = set()
        self.loads = set()
        self.feed(page_text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.add(attributes.get("id"))
        if tag == "a":
            self.links.add(attributes.get("href", ""))
        else:
            self.loads |= {attributes[name] for name in ("src", "href") if name in attributes}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_links_of_the_site(site):
    pages = {path.name: Page(path.read_text()) for path in site.glob("*.html")}
    assert len(pages) > len(PAGES)
    del pages["404.html"]
    for name, page in pages.items():
        assert not [url for url in page.loads if re.match(r"(\w+:)?//", url)], name
        for link in page.links | page.loads:
            if re.match(r"\w+:", link):
                continue
            path, anchor = urldefrag(link)
            if path in ("", "."):
                path = name
            assert (site / path).exists(), (name, link)
            if path.endswith(".html"):
                assert anchor in pages[path].ids, (name, link)


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def browser(site):
    """A function that opens a page and returns it with a list of all that went wrong."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("needs chromium: apt-get install chromium")
    handler = functools.partial(Silent, directory=site)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    with playwright.sync_playwright() as p:
        chrome = p.chromium.launch(executable_path=chromium)

        def open_page(name, look):
            page = chrome.new_page(**look)
            wrong = []

            def on_console(message):
                if message.type in ("error", "warning"):
                    wrong.append(message.text)

            def on_request(request):
                if not request.url.startswith(address):
                    wrong.append(request.url)

            def on_response(response):
                if response.status >= 400:
                    wrong.append(response.url)

            page.on("console", on_console)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("request", on_request)
            page.on("response", on_response)
            page.goto(address + name)
            return page, wrong

        yield open_page
        chrome.close()
    server.shutdown()


WIDE = {"viewport": {"width": 1440, "height": 900}}
DARK = {**WIDE, "color_scheme": "dark"}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
    "reduced_motion": "reduce",
}


@pytest.mark.slow
@pytest.mark.parametrize("look", [WIDE, DARK, PHONE], ids=["wide", "dark", "phone"])
def test_every_page_in_a_browser(browser, site, look):
    for path in site.glob("*.html"):
        page, wrong = browser(path.name, look)
        page.wait_for_load_state("networkidle")
        assert not wrong, (path.name, wrong)
        formulas = page.locator(".arithmatex").count()
        rendered = page.locator(".arithmatex > :is(.katex, .katex-display)").count()
        unknown = page.locator(".katex-error, .katex [style*='204, 0, 0']").count()  # shown in red
        assert formulas == rendered and unknown == 0, path.name
        width = page.evaluate("document.documentElement.scrollWidth")
        # innerWidth would grow, on a phone, with what does not fit
        assert width <= look["viewport"]["width"], path.name
        page.close()


def lines_of_labels(script):
    """{labels: numbers of their lines}."""
    found = collections.defaultdict(list)
    for number, labels in hooks.lines(script):
        found[" ".join(labels)].append(number)
    return found


def lit(page):
    lines = "[...document.querySelectorAll('.line.lit')]"
    return page.evaluate(f"{lines}.map(line => Number(line.id.slice(1)))")


def wait_for_line(page, number):
    """Until the code shows a line, and no longer moves: a line that moves leaves the mouse."""
    page.wait_for_function(
        """id => {
            const pane = document.querySelector('.reading details pre')
            const is_at_rest = pane.scrollTop === window.last_scroll_top
            window.last_scroll_top = pane.scrollTop
            const line = document.querySelector(id).getBoundingClientRect()
            const view = pane.getBoundingClientRect()
            return is_at_rest && line.top >= view.top && line.bottom <= view.bottom
        }""",
        arg=f"#L{number}",
        polling=200,
    )


def wait_for_equation(page, key):
    page.wait_for_function(
        """key => {
            const equation = document.querySelector(`.equation[data-key="${key}"]`)
            const box = equation.getBoundingClientRect()
            return box.top >= 0 && box.bottom <= innerHeight
        }""",
        arg=key,
    )


@pytest.mark.slow
@each_script
def test_reading_page(browser, script):
    expected = lines_of_labels(script)
    page, wrong = browser(f"{script}.html", WIDE)
    assert page.locator(".reading details pre").text_content() == source(script)
    heading = source(script).partition("# ── 5  the algorithm")[0].count("\n") + 1
    wait_for_line(page, heading)
    equations = page.locator(".equation").all()
    assert sorted(each.get_attribute("data-key") for each in equations) == sorted(expected)
    for key, numbers in expected.items():
        equation = page.locator(f'.equation[data-key="{key}"]')
        tests = [hooks.test_name(label) for label in key.split()]
        line_links = equation.locator("a[href^='#L']").all_inner_texts()
        assert line_links == [f"line {number}" for number in numbers]
        assert equation.locator("a[href^=tests]").all_inner_texts() == tests
        # the mouse, on the equation and on each line
        equation.hover()
        assert lit(page) == numbers
        wait_for_line(page, numbers[0])
        page.mouse.move(0, 0)
        assert lit(page) == []
        for number in numbers:
            page.locator(f"#L{number}").hover()
            assert lit(page) == numbers
            assert "lit" in equation.get_attribute("class")
        # the keyboard
        page.locator(f"#L{numbers[0]} a").first.focus()
        page.keyboard.press("Enter")
        wait_for_equation(page, key)
        page.keyboard.press("Escape")
        page.mouse.move(0, 0)
        equation.focus()
        assert lit(page) == numbers
        page.keyboard.press("Escape")
        assert lit(page) == []
    page.emulate_media(media="print")
    pane = "document.querySelector('.reading details pre')"
    assert page.evaluate(f"{pane}.clientHeight >= {pane}.scrollHeight"), "code is not printed"
    assert page.evaluate(f"{pane}.clientWidth >= {pane}.scrollWidth"), "code is not printed"
    assert not wrong


@pytest.mark.slow
@each_script
def test_reading_page_on_a_phone(browser, script):
    page, wrong = browser(f"{script}.html", PHONE)
    for key, numbers in lines_of_labels(script).items():
        equation = page.locator(f'.equation[data-key="{key}"]')
        equation.locator(".katex-display").tap()
        assert lit(page) == numbers
        page.locator("h1").first.tap()
        assert lit(page) == []
        page.locator(f"#L{numbers[-1]}").tap()
        assert "lit" in equation.get_attribute("class")
    assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("look, middle", [(WIDE, 0.5), (PHONE, 0.3)], ids=["wide", "phone"])
def test_the_code_follows_the_text_as_one_scrolls(browser, look, middle):
    page, wrong = browser("td3.html", look)
    expected = lines_of_labels("td3")
    for key in ("6", "12", "15 DPG-4", "4"):
        page.evaluate(
            """([key, middle]) => {
                const equation = document.querySelector(`.equation[data-key="${key}"]`)
                scrollBy(0, equation.getBoundingClientRect().top - middle * innerHeight + 20)
            }""",
            [key, middle],
        )
        wait_for_line(page, expected[key][0])
        here = "[...document.querySelectorAll('.line.here')]"
        assert page.evaluate(f"{here}.map(line => Number(line.id.slice(1)))") == expected[key]
        assert lit(page) == []
    assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("look", [WIDE, PHONE], ids=["wide", "phone"])
@each_script
def test_labels_stay_in_view(browser, script, look):
    page, wrong = browser(f"{script}.html", look)
    boxes = page.evaluate(
        """() => {
            const pane = document.querySelector('.reading details pre').getBoundingClientRect()
            const labels = [...document.querySelectorAll('.line[data-key] a')]
            return labels.map(label => label.getBoundingClientRect()).map(
                box => [box.left - pane.left, pane.right - box.right])
        }"""
    )
    assert len(boxes) >= sum(len(labels) for labels in labels_in_comments(script))
    assert all(left >= 0 and right >= 0 for left, right in boxes)
    assert not wrong


# README.md and recipes.md, done as they say


@pytest.mark.slow
def test_a_newcomer_can_do_what_the_readme_and_the_recipes_say(tmp_path):
    for path in ROOT.glob("*.py"):
        shutil.copy(path, tmp_path)
    readme = README.read_text() + text("recipes")
    blocks = re.findall(r"```python\n(.*?)```", readme, re.S)
    commands = re.findall(r"^(python ppo_continuous.* --.*)$", readme, re.M)
    commands += re.findall(r"\| `(python ppo_continuous[^`]*)` ?[^|]*\|$", readme, re.M)
    if not shutil.which("c++"):
        commands = [command for command in commands if "--compile" not in command]
    (tmp_path / "my_task.py").write_text(next(block for block in blocks if "class Point" in block))
    for command in commands:
        done = run([sys.executable, *shlex.split(command)[1:]], tmp_path)
        if "--capture-video" in command and "cannot render" in done.stderr:
            continue
        assert done.returncode == 0, (command, done.stderr)
    for block in blocks:
        if "class Point" in block:
            continue
        block = block.replace("torch.onnx.export", "# torch.onnx.export")  # needs other packages
        done = run([sys.executable, "-c", block], tmp_path)
        assert done.returncode == 0, (block, done.stderr)


@pytest.mark.slow
def test_the_wrapper_of_the_recipes_is_obeyed(tmp_path):
    diffs = re.findall(r"```diff\n(.*?)```", text("recipes"), re.S)
    (tmp_path / "wrapper.diff").write_text(next(diff for diff in diffs if "FrameStack" in diff))
    shutil.copy(ROOT / "ppo_continuous.py", tmp_path)
    shutil.copy(ROOT / "native_mujoco.py", tmp_path)
    assert run(["git", "apply", "wrapper.diff"], tmp_path).returncode == 0
    options = "--env-id InvertedPendulum-v5 --total-timesteps 4096 --run-dir run --eval-episodes 1"
    done = run([sys.executable, "ppo_continuous.py", *options.split()], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "environments: 8, sync" in done.stdout
    state = ppo_continuous.load_checkpoint(tmp_path / "run/checkpoint.pt")
    assert state["agent"]["actor.net.0.weight"].shape[1] == 3 * 4


def run(command, folder):
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)
