"""native_mujoco.py gives what Gymnasium's SyncVectorEnv gives, to the bit: that is the oracle."""

import ctypes.util
import functools
import os
import runpy
import weakref
from unittest import mock

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.envs.mujoco import humanoid_v5
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

import native_mujoco as native

MODES = ["SameStep", "NextStep", "Disabled"]
TASKS = [task.__name__ for task in native.TASKS]


def ignore_warning(text):
    """Gymnasium's models have parts that MuJoCo calls deprecated."""


mujoco.set_mju_user_warning(ignore_warning)


def make(task, num_envs, mode, **options):
    return gym.make_vec(
        f"native_mujoco:{task}-v5",
        num_envs=num_envs,
        vectorization_mode="vector_entry_point",
        autoreset_mode=mode,
        **options,
    )


def oracle(task, num_envs, mode, **options):
    make_one = functools.partial(gym.make, f"{task}-v5", disable_env_checker=True, **options)
    return gym.vector.SyncVectorEnv([make_one] * num_envs, autoreset_mode=mode)


def both(task, num_envs, mode, **options):
    return [oracle(task, num_envs, mode, **options), make(task, num_envs, mode, **options)]


def assert_same(a, b, where=""):
    """Types, shapes and every bit in nested dicts and tuples; but any NaN equals any other."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), (where, a.keys() ^ b.keys())
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (tuple, list)) or (isinstance(a, np.ndarray) and a.dtype == object):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}/{i}")
    elif a is None or isinstance(a, (int, str)):
        assert a == b, where
    else:
        assert (a.dtype, a.shape) == (b.dtype, b.shape), where
        assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), (where, a, b)


def lockstep(envs, steps, dtype=np.float32):
    """Steps all of `envs` with the same actions, and compares. Returns how many episodes end."""
    first = envs[0]
    others = envs[1:]
    draw = np.random.default_rng(0)
    ends = 0

    def compare(method, where, *args, **options):
        result = getattr(first, method)(*args, **options)
        for other in others:
            assert_same(getattr(other, method)(*args, **options), result, where)
        return result

    compare("reset", "reset", seed=3)
    for t in range(steps):
        # out of bounds too: Gymnasium lets them pass
        action = draw.uniform(1.2 * first.action_space.low, 1.2 * first.action_space.high)
        action = action.astype(dtype)
        if t % 2 == 1:
            action = np.asfortranarray(action)
        _, _, terminated, truncated, _ = compare("step", f"step {t}", action)
        ended = terminated | truncated
        ends += ended.sum()
        if first.autoreset_mode.value == "Disabled" and ended.any():
            seeds = []
            for seed in draw.integers(0, 1000, len(ended)):
                seeds.append(int(seed) if draw.random() < 0.8 else None)
            result = first.reset(seed=seeds, options={"reset_mask": ended.copy()})
            for other in others:  # each with options of its own: SyncVectorEnv empties them
                again = other.reset(seed=seeds, options={"reset_mask": ended.copy()})
                assert_same(again, result, f"reset {t}")
    return ends


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task", TASKS)
def test_equals_gymnasium(task, mode):
    assert lockstep(both(task, 4, mode, max_episode_steps=40), 250) >= 24


@pytest.mark.slow
@pytest.mark.parametrize("num_envs", [4, 32])
@pytest.mark.parametrize("task", TASKS)
def test_equals_gymnasium_for_long(task, num_envs):
    for mode in ("SameStep", "Disabled"):
        envs = [oracle(task, num_envs, mode, max_episode_steps=150)]
        for num_threads in (1, 2):
            env = make(task, num_envs, mode, max_episode_steps=150, num_threads=num_threads)
            envs.append(env)
        assert lockstep(envs, 2000) >= 12 * num_envs


SHAPED = {
    "exclude_current_positions_from_observation": False,
    "reset_noise_scale": 0.2,
    "frame_skip": 3,
}
OPTIONS = [
    (
        "Ant",
        SHAPED
        | {
            "main_body": "front_left_leg",
            "contact_force_range": (-0.1, 0.3),
            "healthy_z_range": (0.5, 1),
        },
    ),
    (
        "Ant",
        {
            "include_cfrc_ext_in_observation": False,
            "contact_cost_weight": 0.1,
            "terminate_when_unhealthy": False,
        },
    ),
    ("Ant", {"forward_reward_weight": 2, "ctrl_cost_weight": 3.0, "healthy_reward": 0.7}),
    ("HalfCheetah", SHAPED | {"forward_reward_weight": 0.3, "ctrl_cost_weight": 0.7}),
    (
        "Hopper",
        SHAPED
        | {
            "healthy_state_range": (-1.5, 1.5),
            "healthy_angle_range": (-0.5, 0.1),
            "healthy_reward": 3,
        },
    ),
    ("Hopper", {"terminate_when_unhealthy": 1}),
    (
        "Hopper",
        {
            "terminate_when_unhealthy": False,
            "healthy_z_range": (1.1, 1.4),
            "ctrl_cost_weight": 0.1,
        },
    ),
    (
        "Humanoid",
        SHAPED | {"include_cinert_in_observation": False, "contact_cost_range": (1e-5, 0.1)},
    ),
    (
        "Humanoid",
        {
            "include_cvel_in_observation": False,
            "include_cfrc_ext_in_observation": False,
            "contact_cost_weight": 1e-3,
            "healthy_z_range": (1.2, 1.4),
            "healthy_reward": 1.5,
        },
    ),
    (
        "HumanoidStandup",
        SHAPED | {"include_qfrc_actuator_in_observation": False, "impact_cost_range": (1e-5, 1e-2)},
    ),
    ("HumanoidStandup", {"ctrl_cost_weight": 3.0, "impact_cost_weight": 1e-3}),
    (
        "InvertedDoublePendulum",
        {"healthy_reward": 3.5, "reset_noise_scale": 0.01, "frame_skip": 2},
    ),
    ("InvertedPendulum", {"reset_noise_scale": 0.15}),
    (
        "Pusher",
        {
            "reward_near_weight": 0.3,
            "reward_dist_weight": 2,
            "reward_control_weight": 0.7,
            "frame_skip": 2,
        },
    ),
    ("Reacher", {"reward_dist_weight": 0.3, "reward_control_weight": 0.7}),
    ("Swimmer", SHAPED | {"forward_reward_weight": 0.3, "ctrl_cost_weight": 0.7}),
    ("Walker2d", SHAPED | {"healthy_z_range": (1.1, 1.3), "healthy_angle_range": (-0.3, 0.2)}),
    ("Walker2d", {"xml_file": "walker2d.xml", "terminate_when_unhealthy": False}),
]


@pytest.mark.parametrize("task, options", OPTIONS)
def test_options_equal_gymnasium(task, options):
    """Through `vectorize`, which takes them from an environment of Gymnasium's."""
    make_one = functools.partial(gym.make, f"{task}-v5", max_episode_steps=30, **options)
    sync = gym.vector.SyncVectorEnv([make_one] * 3, autoreset_mode="SameStep")
    ours = native.vectorize(make_one(), 3, autoreset_mode="SameStep")
    assert lockstep([sync, ours], 70, np.float64) >= 6


@pytest.mark.parametrize("num_envs", [1, 5])
def test_physics_that_blows_up_equals_gymnasium(num_envs):
    """MuJoCo resets a simulation that leaves the numbers."""
    results = []
    for env in both("Ant", num_envs, "Disabled", terminate_when_unhealthy=False):
        env.reset(seed=1)
        zeros = np.zeros(env.action_space.shape, dtype=np.float32)
        results.append([env.step(action) for action in (zeros + np.nan, zeros + np.nan, zeros)])
    assert_same(*results)


@pytest.mark.parametrize(
    "task, edges",
    [
        ("Ant", {2: [0.2, 1.0], 9: []}),
        ("Hopper", {1: [0.7], 2: [-0.2, 0.2], 3: [-100, 100]}),
        ("Humanoid", {2: [1.0, 2.0]}),
        ("InvertedPendulum", {1: [-0.2, 0.2]}),
        ("Walker2d", {1: [0.8, 2], 2: [-1, 1]}),
    ],
)
def test_episodes_end_on_the_same_side_of_an_edge(task, edges):
    """At a bound, one bit to either side of it, and where a position is no number."""
    sync, ours = both(task, 1, "Disabled")
    single = sync.envs[0].unwrapped
    # a step leaves the state as it is
    single.do_simulation = mock.Mock()
    ours.batch.step = mock.Mock()
    ends = set()
    for i, bounds in edges.items():
        positions = [np.nan, np.inf]
        for bound in bounds:
            positions += [bound, np.nextafter(bound, -1e9), np.nextafter(bound, 1e9)]
        for position in positions:
            sync.reset(seed=1)
            ours.reset(seed=1)
            single.data.qpos[i] = position
            ours.qpos[0, i] = position
            zeros = np.zeros(ours.action_space.shape)
            expected = sync.step(zeros)[2].item()
            assert ours.step(zeros)[2].item() == expected, (i, position)
            ends.add(expected)
    assert ends == {True, False}


def test_squares_are_rounded_as_gymnasium_rounds_them():
    """x**2 of a NumPy scalar, which Gymnasium computes, is not always x * x to the last bit."""
    sync, ours = both("InvertedDoublePendulum", 1, "Disabled")
    data = sync.envs[0].unwrapped.data
    # a step leaves the state as it is
    sync.envs[0].unwrapped.do_simulation = mock.Mock()
    ours.batch.step = mock.Mock()
    candidates = np.random.default_rng(0).uniform(1, 3, 100_000)
    odd = candidates[np.float_power(candidates, 2) != candidates * candidates]
    for x in (*odd[:20], *candidates[:20]):
        # in turn the tip's x, its height and the two velocities, so that no sum hides a bit
        turns = [((x, 0, 2), 0), ((0, 0, 2 + x), 0), ((0, 0, 2), 1), ((0, 0, 2), 2)]
        for position, velocity in turns:
            sync.reset(seed=1)
            ours.reset(seed=1)
            qvel = np.zeros(3)
            qvel[velocity] = x
            data.site_xpos[0] = position
            ours.site_xpos = data.site_xpos[None].copy()
            data.qvel[:] = qvel
            ours.qvel[0] = qvel
            zeros = np.zeros((1, 1))
            assert_same(ours.step(zeros), sync.step(zeros))


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


@pytest.fixture
def rendering():
    os.environ.setdefault("MUJOCO_GL", "egl" if ctypes.util.find_library("EGL") else "osmesa")
    try:
        env = make("Hopper", 1, "Disabled", render_mode="rgb_array")
        env.render()
    except Exception as error:
        pytest.skip(f"no rendering on this machine: {error}")


# one Ant only: each of Gymnasium's has its own camera, which follows it
@pytest.mark.parametrize("task, num_envs", [("Ant", 1), ("Hopper", 2)])
def test_render_equals_gymnasium(rendering, task, num_envs):
    frames = []
    for env in both(task, num_envs, "Disabled", render_mode="rgb_array", width=64, height=48):
        env.reset(seed=1)
        drawn = list(env.render())
        for _ in range(4):
            env.step(np.full(env.action_space.shape, 0.5, np.float32))
        drawn += env.render()
        frames.append(drawn)
        env.close()
    assert_same(*frames)
    assert frames[0][0].shape == (48, 64, 3)
    assert len({frame.tobytes() for frame in frames[0]}) == 2 * num_envs


def test_generators_are_those_of_gymnasium():
    sync, ours = both("Hopper", 2, "Disabled")
    for env in (sync, ours):
        env.reset(seed=5)
    assert ours.np_random_seed == sync.np_random_seed == (5, 6)
    for mine, its in zip(ours.np_random, sync.np_random, strict=True):
        assert mine.bit_generator.state == its.bit_generator.state
    ours.close(timeout=1)


def test_the_time_limit_is_the_tasks_own_unless_given():
    assert native.Reacher(2).max_episode_steps == 50
    assert native.Pusher().max_episode_steps == 100
    assert native.Hopper(max_episode_steps=7).max_episode_steps == 7
    assert native.Hopper(max_episode_steps=-1).max_episode_steps == np.inf


def test_importing_leaves_the_other_ways_as_they_were():
    for task in TASKS:
        assert gym.spec(f"{task}-v5").entry_point.startswith("gymnasium.envs.mujoco")
    sync = gym.make_vec("Reacher-v5", num_envs=2, vectorization_mode="sync")
    assert type(sync) is gym.vector.SyncVectorEnv
    by_default = gym.make_vec("Reacher-v5", num_envs=2)
    assert type(by_default) is native.Reacher
    assert by_default.metadata["autoreset_mode"].value == "NextStep"


def test_importing_leaves_a_users_task_of_the_same_name_alone(monkeypatch):
    mine = EnvSpec(id="HalfCheetah-v5", entry_point=f"{__name__}:MyCheetah")
    monkeypatch.setitem(gym.registry, "HalfCheetah-v5", mine)
    runpy.run_path(native.__file__, run_name="native_mujoco")
    assert mine.vector_entry_point is None


@pytest.mark.parametrize(
    "options, says",
    [
        ({"colour": "red"}, "unexpected keyword argument 'colour'"),
        ({"healthy_reward": 2.0}, "unexpected keyword argument 'healthy_reward'"),  # another task's
        ({"render_mode": "human"}, "render_mode is one of .* not 'human'"),
        ({"autoreset_mode": "Sometimes"}, "'Sometimes' is not a valid AutoresetMode"),
        ({"xml_file": "nowhere.xml"}, "nowhere.xml does not exist"),
        ({"max_episode_steps": 0}, "max_episode_steps is at least 1, or -1 for no limit, not 0"),
    ],
)
def test_the_constructor_refuses_what_cannot_work(options, says):
    with pytest.raises((TypeError, ValueError, OSError), match=says):
        native.HalfCheetah(2, **options)


ZERO = np.zeros((3, 6), np.float32)
SOME = np.array([True, False, False])


def test_the_first_call_is_a_reset_of_all_environments():
    env = native.HalfCheetah(3)
    with pytest.raises(gym.error.ResetNeeded, match="before the first step"):
        env.step(ZERO)
    with pytest.raises(gym.error.ResetNeeded, match="first reset"):
        env.reset(options={"reset_mask": SOME})


@pytest.mark.parametrize("mask", [[True, False, False], SOME[:2], SOME * 1, SOME & False])
def test_a_reset_mask_is_a_boolean_array_with_something_to_reset(mask):
    env = native.HalfCheetah(3)
    env.reset()
    with pytest.raises(ValueError, match="reset_mask"):
        env.reset(options={"reset_mask": mask})


def test_threads_are_not_negative():
    with pytest.raises(ValueError, match="num_threads is at least 1, or 0 for all cores, not -1"):
        native.HalfCheetah(3, num_threads=-1)


def test_another_version_of_gymnasium_is_not_simulated(monkeypatch):
    monkeypatch.setattr(gym, "__version__", "1.5.0")
    assert native.difference(cheetah()) == ("it is of Gymnasium 1.5.0, and this module follows 1.4")


def test_a_forgotten_return_is_named():
    with pytest.raises(ValueError, match="NoneType is not one of Gymnasium's MuJoCo v5 tasks"):
        native.vectorize(None, 3)


def test_each_environment_needs_a_seed_and_an_action():
    env = native.HalfCheetah(3)
    with pytest.raises(ValueError, match="one for each of the 3"):
        env.reset(seed=[1, 2])
    env.reset(seed=1)
    with pytest.raises(ValueError, match=r"\(3, 6\), not \(6,\)"):
        env.step(ZERO[0])


def test_render_needs_a_render_mode():
    env = native.HalfCheetah(3)
    with pytest.raises(gym.error.Error, match="render_mode"):
        env.render()


def test_without_autoreset_no_step_follows_an_end():
    env = native.HalfCheetah(3, autoreset_mode="Disabled", max_episode_steps=1)
    env.reset(seed=1)
    assert env.step(ZERO)[3].all()
    env.reset(options={"reset_mask": SOME})
    with pytest.raises(gym.error.ResetNeeded, match="False  True  True"):
        env.step(ZERO)


# ── difference(env) and vectorize(env, …) ────────────────────────────────────────────────────────


def cheetah(**options):
    return gym.make("HalfCheetah-v5", **options)


@pytest.mark.parametrize("task", TASKS)
def test_no_difference_to_a_task_as_it_is(task):
    assert native.difference(gym.make(f"{task}-v5")) is None


class MyCheetah(HalfCheetahEnv):
    pass


def make_without_checker():
    return cheetah(disable_env_checker=True)


def make_short():
    return cheetah(max_episode_steps=7)


def make_with_a_limit_of_ones_own():
    return TimeLimit(cheetah(max_episode_steps=-1), 7)


def make_without_limit():
    return cheetah(max_episode_steps=-1)


def make_without_wrappers():
    return cheetah().unwrapped


def make_just_reset():
    env = cheetah(max_episode_steps=7)
    env.reset(seed=5)
    return env


def make_used():
    env = cheetah(max_episode_steps=7)
    env.action_space.seed(5)
    env.reset(seed=5)
    for _ in range(3):
        env.step(env.action_space.sample())
    env.unwrapped.data.qpos[:] = 1
    return env


def make_from_spec():
    return gym.make(cheetah(max_episode_steps=7, frame_skip=2, ctrl_cost_weight=0.5).spec)


def make_registered_as_ones_own():
    mine = EnvSpec(
        id="MyCheetah-v0",
        entry_point="gymnasium.envs.mujoco.half_cheetah_v5:HalfCheetahEnv",
        max_episode_steps=7,
        kwargs={"forward_reward_weight": 0.5},
    )
    return gym.make(mine)


def make_with_pixels_to_draw():
    return cheetah(max_episode_steps=7, render_mode="rgb_array", width=64)


def make_ant_with_options_that_can_be_edited():
    return gym.make("Ant-v5", max_episode_steps=7, healthy_z_range=[0.2, 1.0])


@pytest.mark.parametrize(
    "make_env",
    [
        make_without_checker,
        make_short,
        make_with_a_limit_of_ones_own,
        make_without_limit,
        make_without_wrappers,
        make_just_reset,
        make_used,
        make_from_spec,
        make_registered_as_ones_own,
        make_with_pixels_to_draw,
        make_ant_with_options_that_can_be_edited,
    ],
)
def test_where_there_is_no_difference_vectorize_gives_the_same_numbers(make_env):
    assert native.difference(make_env()) is None
    sync = gym.vector.SyncVectorEnv([make_env] * 3, autoreset_mode="Disabled")
    ends = lockstep([sync, native.vectorize(make_env(), 3)], 30)
    if make_env in (make_without_checker, make_without_limit, make_without_wrappers):
        assert ends == 0
    else:
        assert ends == 12  # of seven steps each


def test_an_environment_without_time_limit_has_none():
    assert native.vectorize(make_without_limit(), 3).max_episode_steps == np.inf


def test_a_users_own_model_gives_the_same_numbers(tmp_path):
    path = tmp_path / "heavy.xml"
    model = mujoco.MjSpec.from_file(cheetah().unwrapped.fullpath)
    model.option.gravity = [0, 0, -20]
    path.write_text(model.to_xml())
    make_env = functools.partial(cheetah, max_episode_steps=7, xml_file=str(path))
    sync = gym.vector.SyncVectorEnv([make_env] * 3, autoreset_mode="Disabled")
    ours = native.vectorize(make_env(), 3)
    assert lockstep([sync, ours], 30) == 12
    assert ours.model.opt.gravity[2] == -20


@pytest.mark.parametrize("task", ["Ant", "Humanoid", "HumanoidStandup"])
def test_contact_forces_that_a_sensor_needs_are_there_after_a_reset(task, tmp_path):
    path = tmp_path / "sensing.xml"
    model = mujoco.MjSpec.from_file(gym.make(f"{task}-v5").unwrapped.fullpath)
    model.body("torso").add_site(name="here")
    model.add_sensor(
        name="acceleration",
        type=mujoco.mjtSensor.mjSENS_ACCELEROMETER,
        objtype=mujoco.mjtObj.mjOBJ_SITE,
        objname="here",
    )
    path.write_text(model.to_xml())
    # so far off that a limb touches the ground
    options = {"xml_file": str(path), "reset_noise_scale": 0.3, "max_episode_steps": 5}
    sync, ours = both(task, 4, "Disabled", **options)
    assert lockstep([sync, ours], 40) >= 12
    assert np.abs(ours.forward_cfrc_ext).max() > 0


def test_an_environment_that_is_closed_and_forgotten_is_freed_at_once():
    ours = make("Hopper", 2, "Disabled")
    ours.reset(seed=0)
    ours.close()
    left = weakref.ref(ours)
    del ours
    assert left() is None


def test_vectorize_takes_threads_and_an_autoreset_mode_and_closes_the_environment():
    env = cheetah()
    env.unwrapped.close = mock.Mock()
    with pytest.raises(ValueError, match="does not simulate .*: HalfCheetahEnv.close was changed"):
        native.vectorize(env, 3)
    assert env.unwrapped.close.called
    ours = native.vectorize(cheetah(), 3, num_threads=3, autoreset_mode="NextStep")
    assert ours.batch.nthread == 3
    assert ours.autoreset_mode.value == "NextStep"
    assert native.vectorize(cheetah(), 3).autoreset_mode.value == "Disabled"


def test_difference_leaves_the_programs_randomness_alone():
    before = np.random.get_state()[1].copy()
    native.difference(cheetah())
    assert np.array_equal(np.random.get_state()[1], before)


# wrappers


class LongerTimeLimit(TimeLimit):
    pass


class CountingWrapper(gym.Wrapper):
    pass


@pytest.mark.parametrize(
    "wrap, says",
    [
        (lambda env: gym.wrappers.TransformReward(env, abs), "wrapped in TransformReward"),
        (lambda env: gym.wrappers.RescaleAction(env, -1, 1), "wrapped in RescaleAction"),
        (lambda env: TimeLimit(gym.wrappers.ClipReward(env, 0), 5), "wrapped in ClipReward"),
        (gym.wrappers.RecordEpisodeStatistics, "wrapped in RecordEpisodeStatistics"),
        (gym.wrappers.Autoreset, "wrapped in Autoreset"),
        (lambda env: LongerTimeLimit(env, 2000), "wrapped in LongerTimeLimit"),
        (CountingWrapper, "wrapped in CountingWrapper"),
        (lambda env: TimeLimit(env, 5), "its wrappers are not those of gym.make"),
        (OrderEnforcing, "its wrappers are not those of gym.make"),
        (PassiveEnvChecker, "its wrappers are not those of gym.make"),
        (
            lambda env: PassiveEnvChecker(OrderEnforcing(env.unwrapped)),
            "its wrappers are not those of gym.make",
        ),
    ],
)
def test_a_wrapper_is_a_difference(wrap, says):
    assert says in native.difference(wrap(cheetah()))


def test_a_wrapper_in_the_spec_is_a_difference():
    spec = cheetah().spec
    spec.additional_wrappers = (gym.wrappers.ClipReward.wrapper_spec(min_reward=0),)
    assert "ClipReward" in native.difference(gym.make(spec))


# what may be edited in an environment


@pytest.mark.parametrize(
    "name, value",
    [
        ("_forward_reward_weight", 0.0),
        ("_ctrl_cost_weight", 0.1 + 1e-16),
        ("_reset_noise_scale", 0.2),
        ("_exclude_current_positions_from_observation", False),
        ("frame_skip", 10),
        ("render_mode", "human"),
        ("action_space", gym.spaces.Box(-0.5, 0.5, (6,))),
        ("observation_space", gym.spaces.Box(-np.inf, np.inf, (17,), np.float32)),
        ("init_qpos", np.zeros(9, dtype=np.float32)),
        ("init_qvel", np.full(9, -0.0)),
        ("metadata", {}),
        ("step", mock.Mock()),
        ("reset", mock.Mock()),
        ("reset_model", mock.Mock()),
        ("control_cost", lambda action: 0.0),
        ("do_simulation", mock.Mock()),
        ("a_new_one", 1),
    ],
)
def test_a_changed_attribute_is_a_difference(name, value):
    env = cheetah()
    setattr(env.unwrapped, name, value)
    assert native.difference(env) == f"HalfCheetahEnv.{name} was changed"


def test_a_missing_attribute_is_a_difference():
    env = cheetah()
    del env.unwrapped.observation_structure
    assert native.difference(env) == "HalfCheetahEnv.observation_structure was changed"


@pytest.mark.parametrize(
    "name", ["init_qpos", "init_qvel", "action_space.low", "observation_space.high"]
)
def test_one_bit_of_an_array_is_a_difference(name):
    env = cheetah()
    array = env.unwrapped
    for part in name.split("."):
        array = getattr(array, part)
    array[-1] = np.nextafter(array[-1], 0.5, dtype=array.dtype)
    assert native.difference(env) == f"HalfCheetahEnv.{name.split('.')[0]} was changed"


@pytest.mark.parametrize(
    "name, value",
    [
        ("action_space", gym.spaces.Box(-0.5, 0.5, (6,))),
        ("observation_space", gym.spaces.Box(-1, 1, (17,))),
        ("step", mock.Mock()),
        ("reset", mock.Mock()),
    ],
)
def test_a_changed_attribute_of_a_wrapper_is_a_difference(name, value):
    env = cheetah()
    setattr(env, name, value)
    assert native.difference(env).startswith("TimeLimit.")


@pytest.mark.parametrize("its_spec_is_known", [False, True])
def test_a_changed_time_limit_is_a_difference(its_spec_is_known):
    env = cheetah()
    if its_spec_is_known:  # and kept: it has the old limit
        assert env.spec.max_episode_steps == 1000
    env._max_episode_steps = 2000
    assert native.difference(env).startswith("TimeLimit.")


def test_a_step_that_is_wrapped_by_hand_is_a_difference():
    env = cheetah()
    original = env.unwrapped.step

    def step(action):
        obs, reward, terminated, truncated, info = original(action)
        return obs, reward, terminated, truncated, info

    env.unwrapped.step = step
    assert native.difference(env) == "HalfCheetahEnv.step was changed"


def change_mass(model):
    model.body_mass[1] *= 1 + 1e-15


def change_friction(model):
    model.geom_friction[:] *= 2


def change_gravity(model):
    model.opt.gravity[2] = -9.80


def change_timestep(model):
    model.opt.timestep = 0.02


def change_solver(model):
    model.opt.iterations = 7


def change_range_of_control(model):
    model.actuator_ctrlrange[0] = [-0.5, 0.5]


def change_colour(model):  # which no number depends on, but there is no need to tell apart
    model.geom_rgba[0] = 0.5


@pytest.mark.parametrize(
    "change",
    [
        change_mass,
        change_friction,
        change_gravity,
        change_timestep,
        change_solver,
        change_range_of_control,
        change_colour,
    ],
)
def test_a_changed_model_is_a_difference(change):
    env = cheetah()
    change(env.unwrapped.model)
    assert native.difference(env) == "HalfCheetahEnv.model was changed"


def test_another_model_is_a_difference():
    env = cheetah()
    other = mujoco.MjModel.from_xml_path(env.unwrapped.fullpath)
    other.dof_damping[3] += 1
    env.unwrapped.model = other
    env.unwrapped.data = mujoco.MjData(other)
    assert native.difference(env) == "HalfCheetahEnv.model was changed"


def test_data_of_another_model_is_a_difference():
    env = cheetah()
    env.unwrapped.data = mujoco.MjData(gym.make("Walker2d-v5").unwrapped.model)
    assert native.difference(env) is not None


def test_an_edited_spec_is_a_difference():
    env = cheetah()
    env.spec.max_episode_steps = 5
    assert native.difference(env) is not None
    env = cheetah()
    env.unwrapped.spec.kwargs["ctrl_cost_weight"] = 0.5
    assert native.difference(env) is not None
    env = cheetah()
    env.unwrapped.spec = None
    assert native.difference(env) == "it was not made by gym.make from Gymnasium's own entry point"


# what may be edited in Gymnasium's classes and elsewhere


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("kind", [HalfCheetahEnv, MujocoEnv, TimeLimit, gym.Wrapper])
def test_a_replaced_method_is_a_difference(monkeypatch, kind, wrapped):
    original = kind.step

    def step(self, action):
        return original(self, action)

    if wrapped:
        step = functools.wraps(original)(step)
    monkeypatch.setattr(kind, "step", step)
    assert native.difference(cheetah()).endswith(".step was replaced")


@pytest.mark.parametrize(
    "name, value",
    [
        ("dt", property(lambda self: 0.05)),
        ("reset_model", mock.Mock()),
        ("set_state", staticmethod(lambda qpos, qvel: None)),
        ("__getattribute__", lambda self, name: object.__getattribute__(self, name)),
    ],
)
def test_another_kind_of_replaced_method_is_a_difference(monkeypatch, name, value):
    monkeypatch.setattr(HalfCheetahEnv, name, value, raising=False)
    assert native.difference(cheetah()) == f"HalfCheetahEnv.{name} was replaced"


def test_a_changed_function_that_a_task_calls_is_a_difference(monkeypatch):
    monkeypatch.setattr(humanoid_v5, "mass_center", lambda model, data: np.zeros(2))
    env = gym.make("Humanoid-v5")
    assert native.difference(env) == "it does not play as Gymnasium's does"


def test_a_callback_in_the_physics_is_a_difference():
    env = cheetah()
    mujoco.set_mjcb_control(mock.Mock())
    try:
        assert "cannot be compared" in native.difference(env)
    finally:
        mujoco.set_mjcb_control(None)


# other environments


def make_with_other_mass():
    env = HalfCheetahEnv()
    env.model.body_mass[:] *= 2
    return env


def make_with_class_of_ones_own():
    env = cheetah()
    env.unwrapped.__class__ = MyCheetah
    return env


def register(entry_point, id="HalfCheetah-v5"):
    return gym.make(EnvSpec(id=id, entry_point=entry_point, max_episode_steps=1000))


@pytest.mark.parametrize(
    "make_env, says",
    [
        (lambda: gym.make("HalfCheetah-v4"), "half_cheetah_v4.HalfCheetahEnv is not one of"),
        (lambda: gym.make("CartPole-v1"), "CartPoleEnv is not one of Gymnasium's MuJoCo v5 tasks"),
        (lambda: register(MyCheetah), "MyCheetah is not one of"),
        (make_with_class_of_ones_own, "MyCheetah is not one of"),
        (lambda: register(make_with_other_mass), "not made by gym.make from Gymnasium's own"),
        (lambda: register(lambda: cheetah()), "not made by gym.make from Gymnasium's own"),
        (HalfCheetahEnv, "not made by gym.make from Gymnasium's own"),
        (lambda: native.HalfCheetah(), "native_mujoco.HalfCheetah is not one of"),
        (lambda: None, "NoneType is not one of"),
        (lambda: cheetah(render_mode="rgb_array_list"), "wrapped in RenderCollection"),
        (lambda: cheetah(render_mode="human"), "render_mode is one of"),
    ],
)
def test_another_environment_is_a_difference(make_env, says):
    assert says in native.difference(make_env())
