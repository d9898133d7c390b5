"""native_mujoco.py gives what Gymnasium's SyncVectorEnv gives, to the bit: that is the oracle of every number here."""
import copy
import ctypes.util
import os

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from conftest import load

native = load("native_mujoco")
mujoco.set_mju_user_warning(lambda text: None)  # of what is deprecated in the models
MODES = "SameStep", "NextStep", "Disabled"


def make(task, num_envs, mode, **options):
    return gym.make_vec(f"native_mujoco:{task}-v5", num_envs=num_envs, vectorization_mode="vector_entry_point",
                        autoreset_mode=mode, **options)


def oracle(task, num_envs, mode, **options):
    return gym.vector.SyncVectorEnv([lambda: gym.make(f"{task}-v5", disable_env_checker=True, **options)] * num_envs,
                                    autoreset_mode=mode)


def assert_same(a, b, where):
    """The same arrays in nested dicts and tuples: types, shapes and every bit, but that any NaN equals any other."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), (where, a.keys() ^ b.keys())
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (tuple, list)) or isinstance(a, np.ndarray) and a.dtype == object:
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}/{i}")
    elif a is None or isinstance(a, (int, str)):
        assert a == b, where
    else:
        assert (a.dtype, a.shape) == (b.dtype, b.shape), where
        assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), (where, a, b)


def lockstep(envs, steps, dtype=np.float32):
    """Steps all of `envs` with the same random actions, and compares each with the first. Returns how many ends."""
    first, *others = envs
    draw, ends, size = np.random.default_rng(0), 0, first.action_space.shape
    low, high = first.action_space.low, first.action_space.high

    def compare(call, where):
        result = call(first)
        for other in others:
            assert_same(call(other), result, where)
        return result

    compare(lambda env: env.reset(seed=3), "reset")
    for t in range(steps):
        action = draw.uniform(1.2 * low, 1.2 * high, size).astype(dtype)  # out of bounds too: Gymnasium lets them pass
        action = np.asfortranarray(action) if t % 2 else action
        _, _, terminated, truncated, _ = compare(lambda env: env.step(action), f"step {t}")  # noqa: B023
        ended = terminated | truncated
        ends += ended.sum()
        if first.metadata["autoreset_mode"].value == "Disabled" and ended.any():
            seeds = [int(seed) if draw.random() < 0.8 else None for seed in draw.integers(0, 1000, len(ended))]
            compare(lambda env: env.reset(seed=seeds, options={"reset_mask": ended.copy()}), f"reset {t}")  # noqa: B023
    return ends


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task", native.TASKS)
def test_equals_gymnasium(task, mode):
    envs = [each(task, 4, mode, max_episode_steps=40) for each in (oracle, make)]
    assert lockstep(envs, 250) >= 24


@pytest.mark.slow
@pytest.mark.parametrize("num_envs", [4, 32])
@pytest.mark.parametrize("task", native.TASKS)
def test_equals_gymnasium_for_long(task, num_envs):
    for mode in MODES[::2]:
        envs = [oracle(task, num_envs, mode, max_episode_steps=150),
                *(make(task, num_envs, mode, max_episode_steps=150, num_threads=threads) for threads in (1, 2))]
        assert lockstep(envs, 2000) >= 12 * num_envs


SHAPED = {"exclude_current_positions_from_observation": False, "reset_noise_scale": 0.2, "frame_skip": 3}
OPTIONS = [
    ("Ant", SHAPED | {"main_body": "front_left_leg", "contact_force_range": (-0.1, 0.3), "healthy_z_range": (0.5, 1)}),
    ("Ant", {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0.1, "terminate_when_unhealthy": False}),
    ("Ant", {"forward_reward_weight": 2, "ctrl_cost_weight": 3.0, "healthy_reward": 0.7}),
    ("HalfCheetah", SHAPED | {"forward_reward_weight": 0.3, "ctrl_cost_weight": 0.7}),
    ("Hopper", SHAPED | {"healthy_state_range": (-1.5, 1.5), "healthy_angle_range": (-0.5, 0.1), "healthy_reward": 3}),
    ("Hopper", {"terminate_when_unhealthy": 1}),
    ("Hopper", {"terminate_when_unhealthy": False, "healthy_z_range": (1.1, 1.4), "ctrl_cost_weight": 0.1}),
    ("Humanoid", SHAPED | {"include_cinert_in_observation": False, "contact_cost_range": (1e-5, 0.1)}),
    ("Humanoid", {"include_cvel_in_observation": False, "include_cfrc_ext_in_observation": False,
                  "contact_cost_weight": 1e-3, "healthy_z_range": (1.2, 1.4), "healthy_reward": 1.5}),
    ("HumanoidStandup", SHAPED | {"include_qfrc_actuator_in_observation": False, "impact_cost_range": (1e-5, 1e-2)}),
    ("HumanoidStandup", {"ctrl_cost_weight": 3.0, "impact_cost_weight": 1e-3}),
    ("InvertedDoublePendulum", {"healthy_reward": 3.5, "reset_noise_scale": 0.01, "frame_skip": 2}),
    ("InvertedPendulum", {"reset_noise_scale": 0.15}),
    ("Pusher", {"reward_near_weight": 0.3, "reward_dist_weight": 2, "reward_control_weight": 0.7, "frame_skip": 2}),
    ("Reacher", {"reward_dist_weight": 0.3, "reward_control_weight": 0.7}),
    ("Swimmer", SHAPED | {"forward_reward_weight": 0.3, "ctrl_cost_weight": 0.7}),
    ("Walker2d", SHAPED | {"healthy_z_range": (1.1, 1.3), "healthy_angle_range": (-0.3, 0.2)}),
    ("Walker2d", {"xml_file": "walker2d.xml", "terminate_when_unhealthy": False}),
]


@pytest.mark.parametrize("task, options", OPTIONS)
def test_options_equal_gymnasium(task, options):
    options = options | {"max_episode_steps": 30}
    assert lockstep([each(task, 3, "SameStep", **options) for each in (oracle, make)], 70, np.float64) >= 6


@pytest.mark.parametrize("num_envs", [1, 5])
def test_physics_that_blows_up(num_envs):
    """MuJoCo resets a simulation that leaves the numbers; what a task makes of it is what Gymnasium makes of it."""
    envs = [each("Ant", num_envs, "Disabled", terminate_when_unhealthy=False) for each in (oracle, make)]
    results = []
    for env in envs:
        env.reset(seed=1)
        actions = np.full(env.action_space.shape, np.nan, np.float32)
        results.append([env.step(action) for action in (actions, 0 * actions, np.zeros_like(actions))])
    assert_same(*results, "")


@pytest.mark.parametrize("task, edges", [
    ("Ant", {2: (0.2, 1.0), 9: ()}), ("Hopper", {1: (0.7,), 2: (-0.2, 0.2), 3: (-100, 100)}),
    ("Humanoid", {2: (1.0, 2.0)}), ("InvertedPendulum", {1: (-0.2, 0.2)}), ("Walker2d", {1: (0.8, 2), 2: (-1, 1)}),
])
def test_ends_on_the_edge(task, edges):
    """At a bound, one bit to either side of it, and where a state is no number."""
    sync, ours = oracle(task, 1, "Disabled"), make(task, 1, "Disabled")
    single = sync.envs[0].unwrapped
    ours.batch.step = single.do_simulation = lambda *args, **kwargs: None  # a step leaves the state as it is
    ends = []
    for i, bounds in edges.items():
        for x in np.nan, np.inf, *(x for bound in bounds for x in (bound, *np.nextafter(bound, [-1e9, 1e9]))):
            sync.reset(seed=1), ours.reset(seed=1)
            single.data.qpos[i] = ours.qpos[0, i] = x
            ended = [env.step(np.zeros(env.action_space.shape))[2].item() for env in (sync, ours)]
            assert ended[0] == ended[1], (i, x)
            ends += ended
    assert {*ends} == {True, False}


@pytest.mark.parametrize("task", native.TASKS)
def test_a_state_that_is_loaded_goes_on_the_same(task):
    def go_on(env):
        draw = np.random.default_rng(1)
        actions = [draw.uniform(-1, 1, env.action_space.shape).astype(np.float32) for _ in range(60)]
        return [env.step(action) for action in actions], env.reset()

    env = make(task, 3, "SameStep", max_episode_steps=25)
    env.reset(seed=7)
    for _ in range(33):
        env.step(env.action_space.sample())
    state = env.state_dict()
    kept, future = copy.deepcopy(state), go_on(env)
    assert_same(state, kept, "what a state holds moved on with the environments")
    for fresh in True, False:
        if fresh:
            env = make(task, 3, "SameStep", max_episode_steps=25)
        env.load_state_dict(state)
        assert_same(go_on(env), future, f"fresh: {fresh}")


def test_a_loaded_state_survives_a_reset_of_some(task="Humanoid"):  # whose observations are not all in the physics
    env, other = make(task, 3, "Disabled"), make(task, 3, "Disabled")
    env.reset(seed=7)
    for _ in range(5):
        env.step(env.action_space.sample())
    other.load_state_dict(env.state_dict())
    some = {"seed": [4, 5, 6], "options": {"reset_mask": np.array([True, False, False])}}
    assert_same(other.reset(**some)[0], env.reset(**some)[0], "")


def test_what_is_given_out_is_the_users():
    env = make("Swimmer", 2, "Disabled")
    env.reset(seed=1)
    results = env.step(np.zeros((2, 2), np.float32))
    first = results[0][0].copy()
    for array in results[:4]:
        array[:] = 1
    some = np.array([False, True])
    observations, infos = env.reset(options={"reset_mask": some})
    assert np.array_equal(observations[0], first)
    observations[:] = 1
    assert np.array_equal(env.reset(options={"reset_mask": some})[0][0], first)
    some[:] = True
    assert infos["_x_position"].tolist() == [False, True]


@pytest.mark.parametrize("task, num_envs", [("Ant", 1), ("Hopper", 2)])  # each Ant of Gymnasium's has its own camera
def test_render_equals_gymnasium(task, num_envs):
    os.environ.setdefault("MUJOCO_GL", "egl" if ctypes.util.find_library("EGL") else "osmesa")
    try:
        make(task, 1, "Disabled", render_mode="rgb_array").render()
    except Exception as error:
        pytest.skip(f"no rendering on this machine: {error}")
    frames = []
    for each in oracle, make:
        env = each(task, num_envs, "Disabled", render_mode="rgb_array", width=64, height=48)
        env.reset(seed=1)
        frames.append(env.render())
        for _ in range(4):
            env.step(np.full(env.action_space.shape, 0.5, np.float32))
        frames[-1] += env.render()
        env.close()
    assert_same(*frames, "")
    assert frames[0][0].shape == (48, 64, 3) and len({frame.tobytes() for frame in frames[0]}) == 2 * num_envs


def test_a_loaded_state_is_drawn_as_it_is():
    """In a fresh environment, before any step."""
    env = make("Hopper", 2, "Disabled", render_mode="rgb_array")
    env.reset(seed=1)
    other = make("Hopper", 2, "Disabled", render_mode="rgb_array")
    other.load_state_dict(env.state_dict())
    for i in range(2):
        found, expected = (each.batch.get_data(i, each.env.data) and each.env.data.geom_xpos.copy()
                           for each in (other, env))
        assert np.array_equal(found, expected) and expected.any()


def test_what_else_a_vector_environment_has():
    env = make("Hopper", 2, "Disabled", disable_env_checker=True, max_episode_steps=-1)
    sync = oracle("Hopper", 2, "Disabled")
    for each in env, sync:
        each.reset(seed=5)
    assert env.np_random_seed == sync.np_random_seed == (5, 6)
    env.step(np.zeros((2, 3), np.float32))
    short = make("Hopper", 2, "Disabled", max_episode_steps=1)
    short.load_state_dict(env.state_dict() | {"steps": np.array([7, 7])})  # of a longer limit
    assert short.step(np.zeros((2, 3), np.float32))[3].all()
    env.close(timeout=1)


def test_importing_leaves_the_other_ways_as_they_were():
    for task in native.TASKS:
        assert gym.spec(f"{task}-v5").entry_point.startswith("gymnasium.envs.mujoco")
    assert type(gym.make_vec("Reacher-v5", num_envs=2, vectorization_mode="sync")) is gym.vector.SyncVectorEnv
    by_default = gym.make_vec("Reacher-v5", num_envs=2)
    assert by_default.max_episode_steps == 50 and by_default.metadata["autoreset_mode"].value == "NextStep"
    assert native.Reacher(2).max_episode_steps == 50 and native.Pusher().max_episode_steps == 100


@pytest.mark.parametrize("options, says", [
    ({"colour": "red"}, "unexpected keyword argument 'colour'"),
    ({"healthy_reward": 2.0}, "unexpected keyword argument 'healthy_reward'"),  # another task's
    ({"render_mode": "human"}, "render_mode is one of .* not 'human'"),
    ({"autoreset_mode": "Sometimes"}, "'Sometimes' is not a valid AutoresetMode"),
    ({"xml_file": "nowhere.xml"}, "nowhere.xml does not exist"),
    ({"max_episode_steps": 0}, "max_episode_steps is at least 1, or -1 for no limit, not 0"),
])
def test_constructor_refuses(options, says):
    with pytest.raises((TypeError, ValueError, OSError), match=says):
        native.HalfCheetah(2, **options)


def test_wrong_use_is_refused():
    env = native.HalfCheetah(3, autoreset_mode="Disabled", max_episode_steps=2)
    zero, some = np.zeros((3, 6), np.float32), np.array([True, False, False])
    with pytest.raises(gym.error.ResetNeeded):
        env.step(zero)
    with pytest.raises(gym.error.ResetNeeded, match="first reset"):
        env.reset(options={"reset_mask": some})
    with pytest.raises(ValueError, match="one for each of the 3"):
        env.reset(seed=[1, 2])
    for mask in [True, False, False], some[:2], some * 1, some & False:
        with pytest.raises(ValueError, match="reset_mask"):
            env.reset(options={"reset_mask": mask})
    env.reset(seed=1)
    with pytest.raises(ValueError, match=r"\(3, 6\), not \(6,\)"):
        env.step(zero[0])
    with pytest.raises(gym.error.Error, match="render_mode"):
        env.render()
    env.step(zero)
    assert env.step(zero)[3].all()
    env.reset(options={"reset_mask": some})
    with pytest.raises(gym.error.ResetNeeded, match="False  True  True"):
        env.step(zero)
