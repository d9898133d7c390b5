"""dqn_atari.py: its memory of single frames, its network, its frames, and a task that needs two."""

import copy
import math
import shutil
import sys

import dqn
import dqn_atari
import gymnasium as gym
import numpy as np
import pytest
import scipy.stats
import torch
from conftest import assert_same_run, evaluations
from pixel_tasks import SIZE, WhichWay
from torch import nn

PIXELS = 6  # of a frame in the tests of the memory


# ── the memory, against a list of stacked transitions ────────────────────────────────────────────


class StackedMemory:
    """All transitions as they were, stacks and all, beside the frames in the order they arrived."""

    def __init__(self, capacity, frame_stack, num_envs):
        self.capacity = capacity
        self.arrivals = 0  # frames so far
        self.episodes = [[] for _ in range(num_envs)]  # arrivals of the frames of the episode
        self.transitions = []  # (arrival of the oldest frame, transition)
        self.frame_stack = frame_stack

    def add(self, i, obs, action, reward, next_obs, terminated, truncated):
        episode = self.episodes[i]
        if not episode:
            episode.append(self.arrivals)
            self.arrivals += 1
        episode.append(self.arrivals)
        self.arrivals += 1
        oldest = episode[max(0, len(episode) - 1 - self.frame_stack)]
        numbers = [action, reward, terminated, truncated]
        row = torch.cat([obs, next_obs, torch.tensor(numbers)])
        self.transitions.append((oldest, tuple(row.tolist())))
        if terminated or truncated:
            self.episodes[i] = []

    def usable(self):
        """The transitions whose frames are among the newest `capacity`."""
        first = self.arrivals - self.capacity
        return {row for oldest, row in self.transitions if oldest >= first}


class Player:
    """N environments of random frames, whose episodes end at random, stacked as the task does."""

    def __init__(self, num_envs, frame_stack, seed=0):
        self.rng = np.random.default_rng(seed)
        self.frame_stack = frame_stack
        self.stacks = [self.first() for _ in range(num_envs)]

    def frame(self):
        return torch.as_tensor(self.rng.integers(256, size=PIXELS), dtype=torch.float32)

    def first(self):
        return [self.frame()] * self.frame_stack

    def step(self):
        """The columns of a Transition, as lists, one entry for each environment."""
        columns = [[] for _ in range(6)]
        for i, stack in enumerate(self.stacks):
            next_stack = [*stack[1:], self.frame()]
            numbers = (int(self.rng.integers(5)), float(np.float32(self.rng.normal())))
            ends = self.rng.random() < 0.2
            is_final = bool(ends and self.rng.random() < 0.5)
            flags = (float(is_final), float(ends and not is_final))
            row = (torch.cat(stack), *numbers, torch.cat(next_stack), *flags)
            for column, value in zip(columns, row, strict=True):
                column.append(value)
            self.stacks[i] = self.first() if ends else next_stack
        return columns


def make_memory(capacity, frame_stack, num_envs):
    like = torch.zeros(())
    return dqn_atari.ReplayBuffer(capacity, PIXELS * frame_stack, frame_stack, num_envs, like)


def add_step(memory, oracle, player):
    columns = player.step()
    for i, row in enumerate(zip(*columns, strict=True)):
        oracle.add(i, *row)
    obs, action, reward, next_obs, terminated, truncated = columns
    memory.add(
        dqn_atari.Transition(
            torch.stack(obs),
            torch.tensor(action),
            torch.tensor(reward),
            torch.stack(next_obs),
            torch.tensor(terminated),
            torch.tensor(truncated),
        )
    )


def drawn(memory, count):
    batch = memory.sample(count)
    numbers = [batch.action, batch.reward, batch.terminated, batch.truncated]
    rows = torch.cat([batch.obs, batch.next_obs, torch.stack(numbers, dim=1)], dim=1)
    return [tuple(row) for row in rows.tolist()]


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("frame_stack", [1, 2, 4])
def test_the_memory_gives_the_stacked_transitions_and_all_of_them(frame_stack, num_envs):
    """Before the ring is full, while it wraps, and after: what is drawn is what was stored, stacks
    and successors, and nothing is left out whose frames are there. Of 40 transitions, 900 draws
    miss one with a probability of less than 1 in 10^8, at each of 60 steps; the draws are fixed."""
    torch.manual_seed(0)
    capacity = 40
    memory = make_memory(capacity, frame_stack, num_envs)
    oracle = StackedMemory(capacity, frame_stack, num_envs)
    player = Player(num_envs, frame_stack)
    for _ in range(60):
        add_step(memory, oracle, player)
        assert memory.total == oracle.arrivals
        assert set(drawn(memory, 900)) == oracle.usable()
    assert memory.total > 60 * num_envs  # some episodes ended
    assert memory.total > 1.5 * capacity


def test_DQN_1_each_transition_is_drawn_as_often_as_any_other():
    """Chi-squared over 20,000 draws: a false alarm in 1 of 10,000 seeds; this one is fixed."""
    torch.manual_seed(0)
    memory = make_memory(30, 2, 2)
    oracle = StackedMemory(30, 2, 2)
    player = Player(2, 2)
    for _ in range(25):
        add_step(memory, oracle, player)
    counts = dict.fromkeys(oracle.usable(), 0)
    for row in drawn(memory, 20_000):
        counts[row] += 1
    assert len(counts) > 15
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 1e-4


def test_the_smallest_memory_that_is_allowed_has_something_to_draw():
    """Where each step ends all episodes, each step adds two frames for each environment."""
    num_envs, frame_stack = 3, 4
    memory = make_memory(2 * num_envs * (frame_stack + 1), frame_stack, num_envs)
    obs = torch.zeros(num_envs, frame_stack * PIXELS)
    zeros = torch.zeros(num_envs)
    for ends in [*[zeros] * 20, *[zeros + 1] * 20, torch.tensor([0.0, 1.0, 1.0]), *[zeros] * 9]:
        for _ in range(7):
            memory.add(dqn_atari.Transition(obs, zeros, zeros, obs, ends, zeros))
            memory.sample(50)


def memory_from(folder, state):
    memory = make_memory(40, 4, len(state["newest"]))
    memory.load_state_dict(state)
    memory.load_files(folder)
    return memory


@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_memory_that_is_read_from_files_is_the_same_at_every_checkpoint(num_envs, tmp_path):
    """Files are written at each checkpoint, some rows that a killed run wrote for a checkpoint that
    never came are there too, and old files go. The checkpoint before can be read after the files
    are written, too: a run may be killed between the two.
    """
    memory = make_memory(40, 4, num_envs)
    oracle = StackedMemory(40, 4, num_envs)
    player = Player(num_envs, 4)
    folder = tmp_path / "run"
    folder.mkdir()
    before = None
    usable_before = set()
    most = 0
    for step in range(90):
        add_step(memory, oracle, player)
        if step % 7 != 3:
            continue
        memory.save_files(folder)
        most = max(most, len(list(folder.iterdir())))
        if before is not None:
            shutil.copytree(folder, tmp_path / str(step))
            assert set(drawn(memory_from(tmp_path / str(step), before), 900)) == usable_before
        state = memory.state_dict()
        (folder / f"replay.{memory.total:012d}-{memory.total + 5:012d}.npz").write_bytes(b"half")
        memory = memory_from(folder, state)
        assert set(drawn(memory, 900)) == oracle.usable()
        assert memory.state_dict() == state
        before = state
        usable_before = oracle.usable()
    assert 2 <= most <= 8


def test_a_checkpoint_writes_only_what_is_new(tmp_path):
    memory = make_memory(1000, 2, 1)
    oracle = StackedMemory(1000, 2, 1)
    player = Player(1, 2)
    written = []
    for _ in range(3):
        for _ in range(10):
            add_step(memory, oracle, player)
        memory.save_files(tmp_path)
        written.append(memory.total)
    spans = [(start, end) for start, end, _ in memory.files(tmp_path)]
    assert spans == list(zip([0, *written], written, strict=False))
    for start, end, path in memory.files(tmp_path):
        with np.load(path) as file:
            assert file["frames"].shape == (end - start, PIXELS)
            assert file["frames"].dtype == np.uint8


# ── the network and its update ───────────────────────────────────────────────────────────────────


def make_agent(frame_stack=2, num_actions=3, seed=0, **options):
    torch.manual_seed(seed)
    args = dqn_atari.Args(frame_size=36, frame_stack=frame_stack, **options)
    return dqn_atari.Agent(frame_stack * 36 * 36, num_actions, args).double()


def make_batch(frame_stack=2, num_actions=3, size=5, seed=1):
    torch.manual_seed(seed)
    frames = torch.randint(256, (2, size, frame_stack * 36 * 36)).double()
    return dqn_atari.Transition(
        obs=frames[0],
        action=torch.randint(num_actions, (size,)).double(),
        reward=3 * torch.randn(size, dtype=torch.float64),
        next_obs=frames[1],
        terminated=torch.tensor([0.0, 1, 0, 0, 1], dtype=torch.float64),
        truncated=torch.tensor([0.0, 0, 1, 0, 1], dtype=torch.float64),
    )


def convolved(images, layer, stride):
    """A convolution and a ReLU as loops over places, in NumPy: [B, C, H, W]."""
    weight = layer.weight.detach().numpy()
    side = weight.shape[-1]
    places = range(0, images.shape[-1] - side + 1, stride)
    out = np.empty((len(images), len(weight), len(places), len(places)))
    for i, top in enumerate(places):
        for j, left in enumerate(places):
            patch = images[:, :, top : top + side, left : left + side]
            out[:, :, i, j] = np.einsum("bchw,ochw->bo", patch, weight)
    bias = layer.bias.detach().numpy()
    return np.maximum(out + bias[:, None, None], 0)


def values_by_hand(network, obs, frame_stack=2):
    first, second, third, hidden, last = (layer for layer in network.net if hasattr(layer, "bias"))
    images = obs.numpy().reshape(-1, frame_stack, 36, 36) / 255
    features = convolved(convolved(convolved(images, first, 4), second, 2), third, 1)
    weights = [[p.detach().numpy() for p in layer.parameters()] for layer in (hidden, last)]
    flat = features.reshape(len(images), -1)
    units = np.maximum(flat @ weights[0][0].T + weights[0][1], 0)
    return units @ weights[1][0].T + weights[1][1]


def test_the_network_is_that_of_the_paper():
    """Its sizes for 84 x 84: 20, 9, 7, then 3136 units. Its parameters, counted by hand."""
    network = dqn_atari.QNetwork(4 * 84 * 84, 6, 84)
    shapes = []
    values = torch.zeros(2, 4, 84, 84)
    for layer in network.net:
        values = layer(values)
        if hasattr(layer, "bias") or isinstance(layer, nn.Flatten):
            shapes.append(tuple(values.shape[1:]))
    assert shapes == [(32, 20, 20), (64, 9, 9), (64, 7, 7), (3136,), (512,), (6,)]
    counts = [p.numel() for p in network.parameters()]
    assert counts[0::2] == [32 * 4 * 64, 64 * 32 * 16, 64 * 64 * 9, 512 * 3136, 6 * 512]
    assert counts[1::2] == [32, 64, 64, 512, 6]


def test_the_values_are_those_of_the_layers_by_hand():
    agent = make_agent()
    obs = make_batch().obs
    found = agent.q_network(obs).detach().numpy()
    np.testing.assert_allclose(found, values_by_hand(agent.q_network, obs), rtol=1e-10)
    assert agent.act(obs, explore=False).tolist() == found.argmax(axis=1).tolist()


def test_weights_begin_uniform_between_the_bounds_of_their_inputs():
    """PyTorch's: one over the root of a unit's inputs, for the weights and for the biases."""
    agent = make_agent()
    for layer in agent.q_network.net:
        if hasattr(layer, "bias"):
            bound = layer.weight[0].numel() ** -0.5
            assert 0.99 * bound < layer.weight.abs().max() <= bound
            assert layer.bias.abs().max() <= bound
    for p, q in zip(agent.q_network.parameters(), agent.target_network.parameters(), strict=True):
        assert p.equal(q) and p is not q


@pytest.mark.parametrize("clip_rewards", [True, False])
def test_DQN_2_the_target_has_the_clipped_reward(clip_rewards):
    agent = make_agent(gamma=0.7, clip_rewards=clip_rewards)
    for parameter in agent.target_network.parameters():
        parameter.data.mul_(-1.3)
    batch = make_batch()._replace(reward=torch.tensor([-7.0, -0.25, 0.0, 0.5, 3.0]).double())
    reward = batch.reward.numpy()
    if clip_rewards:
        reward = np.array([-1, -0.25, 0, 0.5, 1])
    largest = values_by_hand(agent.target_network, batch.next_obs).max(axis=1)
    follows = np.array([0.7, 0, 0.7, 0.7, 0]) * largest
    np.testing.assert_allclose(agent.target(batch).numpy(), reward + follows, rtol=1e-9)


def test_an_update_is_that_of_dqn_with_this_network():
    agent = make_agent(clip_rewards=False, learning_rate=1e-3)
    other = dqn.Agent(1, 3, dqn.Args(learning_rate=1e-3))
    other.q_network = copy.deepcopy(agent.q_network)
    other.target_network = copy.deepcopy(agent.target_network)
    other.optimizer = torch.optim.Adam(other.q_network.parameters(), 1e-3, fused=True)
    for seed in range(3):
        batch = make_batch(seed=seed)
        before = agent.q_network.net[0].weight.clone()
        ours = agent.update(batch)
        assert ours == other.update(dqn.Transition(*batch))
        assert not agent.q_network.net[0].weight.equal(before)
        values = zip(agent.parameters(), other.parameters(), strict=True)
        assert all(p.equal(q) for p, q in values)


# ── the frames ───────────────────────────────────────────────────────────────────────────────────


class Picture(gym.Env):
    """Shows a picture."""

    action_space = gym.spaces.Discrete(2)
    spec = gym.spec("CartPole-v1")

    def __init__(self, picture):
        self.picture = picture
        self.observation_space = gym.spaces.Box(0, 255, picture.shape, picture.dtype)

    def reset(self, *, seed=None, options=None):
        return self.picture, {}


def means_of_areas(image, size):
    """Each pixel of the result is the mean of the pixels of `image` that it touches."""
    result = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            top = i * image.shape[0] // size
            left = j * image.shape[1] // size
            end = math.ceil((i + 1) * image.shape[0] / size)
            right = math.ceil((j + 1) * image.shape[1] / size)
            result[i, j] = image[top:end, left:right].mean()
    return result


@pytest.mark.parametrize("shape", [(36, 36), (210, 160), (50, 41), (20, 90)])
def test_a_frame_is_the_picture_in_means_of_areas(shape):
    picture = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    frame = dqn_atari.GreyFrames(Picture(picture), 36).reset()[0]
    assert frame.dtype == np.uint8
    if shape == (36, 36):
        assert (frame == picture).all()
    assert np.abs(frame - means_of_areas(picture.astype(float), 36)).max() <= 0.51


@pytest.mark.parametrize("shape", [(3, 64, 64), (64, 64, 4), (4, 64, 64, 3)])
def test_images_that_are_not_grey_or_in_three_colours_are_refused(shape):
    env = gym.Env()
    env.observation_space = gym.spaces.Box(0, 255, shape, np.uint8)
    env.action_space = gym.spaces.Discrete(2)
    env.spec = gym.spec("CartPole-v1")
    with pytest.raises(dqn_atari.UsageError, match="height, width"):
        dqn_atari.GreyFrames(env, 84)


def test_colours_become_grey_as_bright_as_they_look():
    """Television's weights; where there are not three colours, their mean."""
    picture = np.zeros((36, 36, 3), np.uint8)
    picture[:, :, :] = (200, 100, 50)
    frame = dqn_atari.GreyFrames(Picture(picture), 40).reset()[0]
    assert set(frame.flatten()) == {round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)}
    frame = dqn_atari.GreyFrames(Picture(picture[:, :, :2]), 40).reset()[0]
    assert set(frame.flatten()) == {150}
    frame = dqn_atari.GreyFrames(Picture(picture[:, :, 1:2]), 40).reset()[0]
    assert set(frame.flatten()) == {100}


def test_a_stack_holds_the_last_frames_the_newest_last():
    args = dqn_atari.Args(env_id="pixel_tasks:Numbered-v0", frame_size=36, frame_stack=3)
    env = dqn_atari.make_env(args)
    other = gym.make("pixel_tasks:Numbered-v0")
    obs, _ = env.reset(seed=3)
    frames = [other.reset(seed=3)[0]] * 3
    ended = False
    while not ended:
        assert (obs == np.stack(frames[-3:])).all()
        obs, _, terminated, truncated, _ = env.step(0)
        frames.append(other.step(0)[0])
        ended = terminated or truncated
    assert len(frames) > 5


# ── Atari's games, where ale-py is installed ─────────────────────────────────────────────────────


def atari(**options):
    pytest.importorskip("ale_py", reason="pip install -r discrete/requirements-atari.txt")
    return dqn_atari.make_env(dqn_atari.Args(**options))


def test_a_game_begins_after_1_to_30_frames_and_an_action_lasts_for_four():
    env = atari()
    waited = set()
    for seed in range(40):
        env.reset(seed=seed)
        began = env.unwrapped.ale.getEpisodeFrameNumber()
        waited.add(began)
        env.step(2)
        env.step(0)
        assert env.unwrapped.ale.getEpisodeFrameNumber() == began + 8
    assert len(waited) > 15 and min(waited) >= 1 and max(waited) <= 30
    assert env.unwrapped.spec.kwargs["repeat_action_probability"] == 0.25
    assert env.spec.max_episode_steps == 27_000
    assert atari(max_episode_steps=7).spec.max_episode_steps == 7


def test_a_frame_of_a_game_is_the_larger_of_the_last_two_and_rewards_add_up():
    """Beside the bare game, step by step."""
    env = atari(frame_stack=1)
    game = gym.make("ALE/Pong-v5", frameskip=1)
    env.reset(seed=5)
    game.reset(seed=5)
    for _ in range(game.unwrapped.np_random.integers(1, 31)):
        game.step(0)
    points = 0
    for step in range(150):
        obs, reward, *_ = env.step(step % 6)
        shown = []
        rewards = []
        for _ in range(4):
            rewards.append(game.step(step % 6)[1])
            shown.append(game.unwrapped.ale.getScreenGrayscale())
        assert reward == sum(rewards)
        points += abs(reward)
        if step % 30 == 0:
            expected = means_of_areas(np.maximum(shown[-2], shown[-1]).astype(float), 84)
            assert np.abs(obs[0] - expected).max() <= 0.51
    assert points >= 1


@pytest.mark.parametrize("env_id", ["ALE/Pong-v5", "ale_py:ALE/Pong-v5"])
def test_a_game_without_its_package_is_refused_by_name(env_id, call, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    said = call("dqn_atari", "--env-id", env_id, status=2).err
    assert said.count("\n") == 1
    assert f"--env-id {env_id}" in said and "pip install ale-py" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_of_pong_that_dies_goes_on_to_the_bit(call, monkeypatch, tmp_path):
    pytest.importorskip("ale_py", reason="pip install -r discrete/requirements-atari.txt")
    options = [
        *("--learning-starts", 100, "--buffer-size", 300, "--eval-episodes", 1),
        *("--eval-max-steps", 50, "--eval-frequency", 200, "--checkpoint-frequency", 150),
        *("--total-timesteps", 500),
    ]
    call("dqn_atari", *options, "--run-dir", "whole")
    save = dqn_atari.Run.save

    def save_and_die(self):
        save(self)
        if self.step == 300:
            raise MemoryError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(dqn_atari.Run, "save", save_and_die)
        with pytest.raises(MemoryError):
            call("dqn_atari", *options, "--run-dir", "died")
    call("dqn_atari", "--resume", "died")
    assert_same_run(tmp_path / "whole", tmp_path / "died")


# ── the command line ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "options, named",
    [
        (["--env-id", "CartPole-v1"], ["--env-id CartPole-v1", "images", "dqn.py"]),
        (["--frame-size", "35"], ["--frame-size 35", "at least 36"]),
        (["--frame-stack", "0"], ["--frame-stack 0", "at least 1"]),
        (["--buffer-size", "9", "--num-envs", "2"], ["--buffer-size 9", "at least 12"]),
        (["--learning-starts", "900"], ["--learning-starts 900", "nothing is learned"]),
        (["--env-kwargs", '{"colour": true}'], ["--env-kwargs", "colour"]),
        (["--capture-video"], ["--capture-video", "rgb_array"]),
    ],
)
def test_what_this_script_cannot_do_is_refused_by_name(options, named, call, tmp_path):
    short = ["--total-timesteps", 800, "--learning-starts", 100]
    said = call("dqn_atari", *WHICH_WAY, *short, *options, status=2).err
    for part in named:
        assert part in said
    assert "Traceback" not in said and not list(tmp_path.iterdir())


# ── a task that one frame does not show ──────────────────────────────────────────────────────────

WHICH_WAY = [
    *("--env-id", "pixel_tasks:WhichWay-v0", "--frame-size", SIZE, "--eval-episodes", 5),
    *("--gamma", 0.9, "--learning-rate", 5e-4, "--train-frequency", 1, "--frame-stack", 2),
    *("--target-network-frequency", 100, "--exploration-fraction", 0.3),
    *("--learning-starts", 200, "--eval-frequency", 0, "--buffer-size", 2000),
]


def returns_from_all_starts(policy, frame_stack):
    """Of one episode from each place in each direction, which a reset draws alike."""
    task = WhichWay()
    returns = []
    for direction in (0, 1):
        for place in range(SIZE):
            task.start(place, direction)
            frames = [task.frame()] * frame_stack
            total = 0
            ended = False
            while not ended:
                frame, reward, ended, _, _ = task.step(policy(np.stack(frames[-frame_stack:])))
                frames.append(frame)
                total += reward
            returns.append(total)
    return returns


def test_no_policy_of_one_frame_is_better_than_nothing():
    """200 policies drawn at random, and the proof by counting: an answer in a place is right in one
    direction and wrong in the other, and at each moment both are as likely."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        answers = rng.integers(2, size=SIZE)

        def policy(frames, answers=answers):
            return answers[frames[0, 15].argmax()]

        assert sum(returns_from_all_starts(policy, 1)) == 0


def test_two_frames_are_enough_to_be_right_always():
    def policy(frames):
        ball_was, ball_is = (set(np.flatnonzero(frame[15])) for frame in frames)
        ahead = {(place + 3) % SIZE for place in ball_was}
        return int(ball_is == ahead)

    assert set(returns_from_all_starts(policy, 2)) == {9}


def test_two_frames_are_learned_in_a_few_hundred_steps(call, tmp_path):
    call("dqn_atari", *WHICH_WAY, "--total-timesteps", 600, "--run-dir", "run")
    policy = dqn_atari.load_policy(tmp_path / "run")
    assert np.mean(returns_from_all_starts(policy, 2)) > 7
    first, last = (float(row["return_mean"]) for row in evaluations(tmp_path / "run"))
    assert first < 7 < last


@pytest.mark.slow
@pytest.mark.parametrize("seed, colours", [(1, "false"), (2, "true"), (3, "false")])
def test_with_two_frames_the_optimum_is_reached_and_with_one_it_is_not(
    seed, colours, call, tmp_path
):
    """What was learned with one frame is worth exactly nothing, whatever it is."""
    options = ["--seed", seed, "--env-kwargs", f'{{"colours": {colours}}}']
    means = []
    for frame_stack in (1, 2):
        folder = tmp_path / str(frame_stack)
        stack = ["--frame-stack", frame_stack, "--run-dir", folder]
        call("dqn_atari", *WHICH_WAY, *options, *stack, "--total-timesteps", 1500)
        policy = dqn_atari.load_policy(folder)
        means.append(np.mean(returns_from_all_starts(policy, frame_stack)))
    assert means == [0, 9]


def test_an_atari_task_that_skips_frames_by_itself_is_refused(call, tmp_path):
    """Such as ale_py:PongNoFrameskip-v4; this module stands in for ale_py."""
    (tmp_path / "ale_py_like.py").write_text(
        "import gymnasium as gym\n"
        "from pixel_tasks import Numbered\n"
        "class Game(Numbered):\n"
        "    pass\n"
        "gym.register('Pong-v4', Game)\n"
    )
    said = call("dqn_atari", "--env-id", "ale_py_like:Pong-v4", status=2).err
    assert "--env-id ale_py_like:Pong-v4: Atari's tasks are ALE/Pong-v5" in said
