"""Gymnasium's eleven MuJoCo v5 tasks as vector environments: the same numbers in less time.

    envs = gym.make_vec(
        "native_mujoco:HalfCheetah-v5", num_envs=64, vectorization_mode="vector_entry_point"
    )

MuJoCo steps all environments on its own threads (mujoco.batch); observations, rewards and
terminations are computed for all of them at once. Spaces, options, seeds, resets, the three
autoreset modes, masked resets, infos and frames are those of gymnasium.vector.SyncVectorEnv, to
the bit.

Options, beside those of the task (ctrl_cost_weight, xml_file and so on, as gym.make takes them):
    max_episode_steps   the time limit; -1: none; the task's own if not given (1000; Reacher 50,
                        Pusher 100)
    autoreset_mode      "NextStep" (as Gymnasium's), "SameStep", or "Disabled": the caller resets,
                        with options={"reset_mask": mask}
    num_threads         threads of the physics; 0: one for each core
    render_mode         None, "rgb_array", "depth_array" or "rgbd_tuple": render() gives a frame of
                        each environment, all taken by one camera

A program that makes its environments one by one, and may have changed them, asks `difference(env)`
whether this module simulates exactly that, and `vectorize(env, num_envs)` for many of them.

Importing this adds a vector entry point to Gymnasium's specs of the tasks: make_vec without a mode
then makes these environments, and refuses `wrappers` and `vector_kwargs`, which need the mode
"sync" or "async". These two modes, and gym.make, stay as they were. Use a vector environment from
one Python thread only.
"""

import abc
import contextlib
import copy
import functools
import inspect
import types

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.humanoid_v5 import HumanoidEnv
from gymnasium.envs.mujoco.humanoidstandup_v5 import HumanoidStandupEnv
from gymnasium.envs.mujoco.inverted_double_pendulum_v5 import InvertedDoublePendulumEnv
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv
from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer
from gymnasium.envs.mujoco.pusher_v5 import PusherEnv
from gymnasium.envs.mujoco.reacher_v5 import ReacherEnv
from gymnasium.envs.mujoco.swimmer_v5 import SwimmerEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from mujoco.batch import Batch

GYMNASIUM = "1.4"  # whose tasks these are; another version may compute other numbers
RENDER_MODES = (None, "rgb_array", "depth_array", "rgbd_tuple")


# ── what the tasks share ─────────────────────────────────────────────────────────────────────────


class NativeMujoco(gym.vector.VectorEnv, abc.ABC):
    """N environments of one task. All arrays are [N, …], one row for each environment.

    A task defines its observations (`observe`), its rewards (`reward`) and the infos that resets
    and steps have in common (`reset_info`). MuJoCo's derived fields, such as xpos, are one substep
    behind positions and velocities, as Gymnasium's are.
    """

    gymnasium_class = None  # the task as Gymnasium has it
    derived_fields = ()  # of MjData, beside positions and velocities: those that the task reads
    reads_contact_forces = False  # whether it reads cfrc_ext

    def __init__(
        self,
        num_envs=1,
        max_episode_steps=None,
        autoreset_mode="NextStep",
        num_threads=0,
        render_mode=None,
        **options,
    ):
        if render_mode not in RENDER_MODES:
            raise ValueError(f"render_mode is one of {RENDER_MODES}, not {render_mode!r}")
        if num_threads < 0:
            raise ValueError(f"num_threads is at least 1, or 0 for all cores, not {num_threads}")
        if max_episode_steps is None:
            max_episode_steps = gym.spec(f"{type(self).__name__}-v5").max_episode_steps
        if max_episode_steps < 1 and max_episode_steps != -1:
            raise ValueError(
                f"max_episode_steps is at least 1, or -1 for no limit, not {max_episode_steps}"
            )
        if max_episode_steps == -1:
            max_episode_steps = np.inf

        # one of Gymnasium's own: it knows model and spaces, draws the first states, and renders
        self.env = self.gymnasium_class(render_mode=render_mode, **options)
        parameters = inspect.signature(self.gymnasium_class).parameters.values()
        defaults = {parameter.name: parameter.default for parameter in parameters}
        self.options = types.SimpleNamespace(**defaults | options)
        self.num_envs = num_envs
        self.max_episode_steps = max_episode_steps
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.render_mode = render_mode
        self.metadata = self.env.metadata | {
            "autoreset_mode": self.autoreset_mode,
            "render_modes": list(RENDER_MODES[1:]),
        }
        self.single_observation_space = self.env.observation_space
        self.single_action_space = self.env.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

        self.model = self.env.model
        self.body_id = {self.model.body(i).name: i for i in range(self.model.nbody)}
        self.batch = Batch(
            self.model,
            num_envs,
            num_threads,
            persistent=self.reads_contact_forces or render_mode is not None,
        )
        # live arrays: MuJoCo writes to them at each step, and reads the state from them
        for field in ("qpos", "qvel", "ctrl", *self.derived_fields):
            setattr(self, field, self.batch.bind(field))
        if self.reads_contact_forces:
            self.cfrc_ext = np.zeros((num_envs, *self.env.data.cfrc_ext.shape))
            # what mj_forward leaves there: 0, unless a sensor of the model needs the forces
            self.forward_cfrc_ext = self.batch.bind("cfrc_ext")

        self.generators = []
        self.generator_seeds = []
        for _ in range(num_envs):
            generator, seed = seeding.np_random()
            self.generators.append(generator)
            self.generator_seeds.append(seed)
        self.was_reset = False
        self.steps = np.zeros(num_envs, dtype=int)  # of the episode under way
        self.ended = np.zeros(num_envs, dtype=bool)  # whose episode has ended, and not been reset

    def reset(self, *, seed=None, options=None):
        """Begins an episode in each environment, or only where options["reset_mask"], [N] bool.

        `seed` is None, one for each environment, or the first of N in a row. Returns the
        observations [N, O] of all environments, and infos.
        """
        mask = np.ones(self.num_envs, dtype=bool)
        if options is not None and "reset_mask" in options:
            mask = options["reset_mask"]
            self.check_mask(mask)
        if not self.was_reset and not mask.all():
            raise gym.error.ResetNeeded("the first reset is of all environments")
        if seed is None:
            seed = [None] * self.num_envs
        elif isinstance(seed, int):
            seed = [seed + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(
                f"seed: needs one for each of the {self.num_envs} environments, not {len(seed)}"
            )
        for i in np.flatnonzero(mask):
            if seed[i] is not None:
                self.generators[i], self.generator_seeds[i] = seeding.np_random(seed[i])
        self.was_reset = True
        self.begin_episodes(mask)
        return self.observe(), masked(self.reset_info(), mask.copy())

    def check_mask(self, mask):
        is_mask = isinstance(mask, np.ndarray) and mask.dtype == bool
        if not is_mask or mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"options['reset_mask']: needs {self.num_envs} NumPy booleans, one of them True, "
                f"not {mask}"
            )

    def step(self, actions):
        """Actions [N, A] → observations [N, O], rewards, terminated, truncated [N], and infos."""
        # in another order in memory, sums over an action's squares would be rounded differently
        actions = np.ascontiguousarray(actions)
        if actions.shape != self.action_space.shape:
            raise ValueError(f"actions: need shape {self.action_space.shape}, not {actions.shape}")
        if not self.was_reset:
            raise gym.error.ResetNeeded("reset before the first step")
        if self.autoreset_mode is AutoresetMode.DISABLED and self.ended.any():
            raise gym.error.ResetNeeded(
                f"reset where episodes ended, with options={{'reset_mask': mask}}: {self.ended}"
            )
        self.simulate(actions)
        self.steps += 1
        obs = self.observe()
        reward, terminated, info = self.reward(actions)
        truncated = self.steps >= self.max_episode_steps

        # NextStep: the step after an end is the reset; Disabled: none, since the caller resets
        beginning = self.ended
        if beginning.any():
            reward[beginning] = 0
            terminated[beginning] = False
            truncated[beginning] = False
        self.ended = terminated | truncated
        infos = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self.ended.any():
            beginning = self.ended
            infos = final_infos(obs, info | self.reset_info(), beginning)
        if beginning.any():
            self.begin_episodes(beginning)
            obs = self.observe()
        infos |= masked(info, ~beginning)  # a reset gives less than a step
        infos |= masked(self.reset_info(), np.ones(self.num_envs, dtype=bool))
        return obs, reward, terminated, truncated, infos

    def simulate(self, actions):
        self.ctrl[:] = actions
        self.batch.step(nstep=self.env.frame_skip)
        if self.reads_contact_forces:  # mj_step leaves them out, and the batch cannot add them
            for i in range(self.num_envs):
                self.batch.get_data(i, self.env.data)
                mujoco.mj_rnePostConstraint(self.model, self.env.data)
                self.cfrc_ext[i] = self.env.data.cfrc_ext

    def begin_episodes(self, mask):
        """Begins an episode where mask [N], from a state that Gymnasium's own reset draws."""
        self.batch.reset(mask, stage=mujoco.mjtStage.mjSTAGE_NONE)
        for i in np.flatnonzero(mask):
            self.env.np_random = self.generators[i]
            self.env.set_state = functools.partial(self.set_state, i)  # which reset_model calls
            self.env.reset_model()
        del self.env.set_state  # Gymnasium's own again; ours would keep this object alive
        self.batch.forward(mask)
        if self.reads_contact_forces:
            self.cfrc_ext[mask] = self.forward_cfrc_ext[mask]
        self.steps[mask] = 0
        self.ended = self.ended & ~mask  # a new array: the old one may be in infos

    def set_state(self, i, qpos, qvel):
        self.qpos[i] = qpos
        self.qvel[i] = qvel

    @property
    def np_random(self):
        return tuple(self.generators)

    @property
    def np_random_seed(self):
        return tuple(self.generator_seeds)

    def render(self):
        """A frame of each environment, of the kind that render_mode names."""
        if self.render_mode is None:
            raise gym.error.Error(
                f"render: make the environments with a render_mode of {RENDER_MODES[1:]}"
            )
        frames = []
        for i in range(self.num_envs):
            self.batch.get_data(i, self.env.data)
            frames.append(self.env.render())
        return tuple(frames)

    def close_extras(self, **kwargs):
        self.env.close()

    @abc.abstractmethod
    def observe(self):
        """Observations [N, O] of the state as it is, in an array of their own."""

    @abc.abstractmethod
    def reward(self, actions):
        """Reward [N] and terminated [N] of the step just made, and its infos [N] by name."""

    def reset_info(self):
        """Infos that resets and steps have in common."""
        return {}


def masked(info, mask):
    """`info` as VectorEnv gives it if only the environments where mask [N] have one.

    It is 0 for the others, and each name has a mask, `_name`.
    """
    given = {}
    if mask.all():
        given = dict(info)
    elif mask.any():
        for name, value in info.items():
            given[name] = np.zeros_like(value)
            given[name][mask] = value[mask]
    masks = {f"_{name}": mask for name in given}
    return given | masks


def final_infos(obs, info, ended):
    """The last observations and infos of the episodes that ended, as VectorEnv has them."""
    final_obs = np.full(len(ended), None)
    for i in np.flatnonzero(ended):
        final_obs[i] = obs[i].copy()
    return {
        "final_obs": final_obs,
        "final_info": masked(info, ended),
        "_final_obs": ended,
        "_final_info": ended.copy(),
    }


def distance(vectors):
    """Lengths [N] of vectors [N, K], to the bit those that np.linalg.norm gives one by one."""
    return np.sqrt(np.vecdot(vectors, vectors))


def sum_of_squares(x):
    """[N, …] → [N]. Rows are flat first: np.sum adds the numbers of one array in that order."""
    return np.square(x).reshape(len(x), -1).sum(-1)


# ── the tasks ────────────────────────────────────────────────────────────────────────────────────


class Runner(NativeMujoco):
    """Moves along x: reward is speed and health, less the costs of control and contact.

    A task with can_fall has `healthy` [N], one with reads_contact_forces has `contact_cost` [N].
    """

    hidden_positions = 1  # leading coordinates that observations leave out
    can_fall = False  # whether being healthy is rewarded

    def position(self):
        """Where the runner is: x [N, 1], or x and y [N, 2]."""
        return self.qpos[:, :1].copy()

    def simulate(self, actions):
        before = self.position()
        super().simulate(actions)
        self.velocity = (self.position() - before) / self.env.dt

    def observe(self):
        hidden = 0
        if self.options.exclude_current_positions_from_observation:
            hidden = self.hidden_positions
        return np.concatenate((self.qpos[:, hidden:], *self.senses()), axis=1)

    def senses(self):
        """What is observed beside positions: arrays [N, …]."""
        return [self.qvel]

    def control_cost(self, actions):
        return self.options.ctrl_cost_weight * sum_of_squares(actions)

    def reward(self, actions):
        forward = self.options.forward_reward_weight * self.velocity[:, 0]
        gain = forward
        cost = self.control_cost(actions)
        terminated = np.zeros(self.num_envs, dtype=bool)
        info = {"reward_forward": forward, "reward_ctrl": -cost, "x_velocity": self.velocity[:, 0]}
        if self.velocity.shape[1] == 2:
            info["y_velocity"] = self.velocity[:, 1]
        if self.can_fall:
            healthy = self.healthy()
            info["reward_survive"] = healthy * self.options.healthy_reward
            gain = forward + info["reward_survive"]
            if self.options.terminate_when_unhealthy:
                terminated = ~healthy
        if self.reads_contact_forces:
            contact = self.contact_cost()
            info["reward_contact"] = -contact
            cost = cost + contact
        return gain - cost, terminated, info

    def reset_info(self):
        return {"x_position": self.qpos[:, 0].copy()}


def between(x, bounds):
    low, high = bounds
    return (low < x) & (x < high)


class HalfCheetah(Runner):
    gymnasium_class = HalfCheetahEnv


class Walker2d(Runner):
    gymnasium_class = Walker2dEnv
    can_fall = True

    def senses(self):
        return [np.clip(self.qvel, -10, 10)]

    def healthy(self):
        upright = between(self.qpos[:, 1], self.options.healthy_z_range)
        return upright & between(self.qpos[:, 2], self.options.healthy_angle_range)

    def reset_info(self):
        height = self.qpos[:, 1] - self.env.init_qpos[1]
        return super().reset_info() | {"z_distance_from_origin": height}


class Hopper(Walker2d):
    gymnasium_class = HopperEnv

    def healthy(self):
        state = np.concatenate((self.qpos[:, 2:], self.qvel), axis=1)
        return super().healthy() & between(state, self.options.healthy_state_range).all(axis=1)


class Explorer(Runner):
    """Moves in x and y; only x is rewarded."""

    hidden_positions = 2

    def position(self):
        return self.qpos[:, :2].copy()

    def reset_info(self):
        return super().reset_info() | {
            "y_position": self.qpos[:, 1].copy(),
            "distance_from_origin": distance(self.qpos[:, :2]),
        }


class Swimmer(Explorer):
    gymnasium_class = SwimmerEnv


class Ant(Explorer):
    gymnasium_class = AntEnv
    derived_fields = ("xpos",)
    reads_contact_forces = True
    can_fall = True

    def position(self):
        main_body = self.options.main_body  # a name or a number
        main_body = self.body_id.get(main_body, main_body)
        return self.xpos[:, main_body, :2].copy()

    def clipped_forces(self):
        return np.clip(self.cfrc_ext, *self.options.contact_force_range)

    def senses(self):
        if not self.options.include_cfrc_ext_in_observation:
            return [self.qvel]
        forces = self.clipped_forces()[:, 1:]  # without the world's
        return [self.qvel, forces.reshape(self.num_envs, -1)]

    def contact_cost(self):
        return self.options.contact_cost_weight * sum_of_squares(self.clipped_forces())

    def healthy(self):
        finite = np.isfinite(self.qpos).all(axis=1) & np.isfinite(self.qvel).all(axis=1)
        low, high = self.options.healthy_z_range  # these bounds are healthy, other tasks' are not
        z = self.qpos[:, 2]
        return finite & (low <= z) & (z <= high)


class Humanoid(Explorer):
    gymnasium_class = HumanoidEnv
    derived_fields = ("xipos", "cinert", "cvel", "qfrc_actuator", "ten_length", "ten_velocity")
    reads_contact_forces = True
    can_fall = True

    def position(self):
        """The centre of mass, in x and y."""
        mass = self.model.body_mass
        return (np.einsum("b,nbj->nj", mass, self.xipos) / mass.sum())[:, :2]

    def senses(self):
        senses = [self.qvel]
        if self.options.include_cinert_in_observation:
            senses.append(self.cinert[:, 1:].reshape(self.num_envs, -1))
        if self.options.include_cvel_in_observation:
            senses.append(self.cvel[:, 1:].reshape(self.num_envs, -1))
        if self.options.include_qfrc_actuator_in_observation:
            senses.append(self.qfrc_actuator[:, 6:])
        if self.options.include_cfrc_ext_in_observation:
            senses.append(self.cfrc_ext[:, 1:].reshape(self.num_envs, -1))
        return senses

    def control_cost(self, actions):
        return super().control_cost(self.ctrl)  # in Gymnasium too: of ctrl, which is float64

    def contact_cost(self):
        cost = self.options.contact_cost_weight * sum_of_squares(self.cfrc_ext)
        return np.clip(cost, *self.options.contact_cost_range)

    def healthy(self):
        return between(self.qpos[:, 2], self.options.healthy_z_range)

    def reset_info(self):
        return super().reset_info() | {
            "tendon_length": self.ten_length.copy(),
            "tendon_velocity": self.ten_velocity.copy(),
        }


class HumanoidStandup(Humanoid):
    """Observes what Humanoid does; its reward is another."""

    gymnasium_class = HumanoidStandupEnv

    def reward(self, actions):
        up = self.qpos[:, 2] / self.model.opt.timestep
        control = self.control_cost(actions)
        impact = self.options.impact_cost_weight * sum_of_squares(self.cfrc_ext)
        impact = np.clip(impact, *self.options.impact_cost_range)
        terminated = np.zeros(self.num_envs, dtype=bool)
        info = {"reward_linup": up, "reward_quadctrl": -control, "reward_impact": -impact}
        return up - control - impact + 1, terminated, info

    def reset_info(self):
        info = super().reset_info()
        info["z_distance_from_origin"] = self.qpos[:, 2] - self.env.init_qpos[2]
        del info["distance_from_origin"]
        return info


class InvertedPendulum(NativeMujoco):
    gymnasium_class = InvertedPendulumEnv

    def observe(self):
        return np.concatenate((self.qpos, self.qvel), axis=1)

    def reward(self, actions):
        tilted = np.abs(self.qpos[:, 1]) > 0.2
        terminated = ~np.isfinite(self.observe()).all(axis=1) | tilted
        info = {"reward_survive": (~terminated).astype(int)}
        return (~terminated).astype(float), terminated, info


class InvertedDoublePendulum(NativeMujoco):
    gymnasium_class = InvertedDoublePendulumEnv
    derived_fields = ("site_xpos", "qfrc_constraint")

    def observe(self):
        position = self.qpos[:, :1]
        angle = self.qpos[:, 1:]
        velocity = np.clip(self.qvel, -10, 10)
        force = np.clip(self.qfrc_constraint[:, :1], -10, 10)
        return np.concatenate((position, np.sin(angle), np.cos(angle), velocity, force), axis=1)

    def reward(self, actions):
        x, _, y = self.site_xpos[:, 0].T
        _, v1, v2 = self.qvel.T
        terminated = y <= 1
        # float_power: x**2 of a NumPy scalar is C's pow, whose last bit can differ from x * x
        distance_penalty = 0.01 * np.float_power(x, 2) + np.float_power(y - 2, 2)
        velocity_penalty = 1e-3 * np.float_power(v1, 2) + 5e-3 * np.float_power(v2, 2)
        alive = self.options.healthy_reward * (~terminated).astype(int)
        info = {
            "reward_survive": alive,
            "distance_penalty": -distance_penalty,
            "velocity_penalty": -velocity_penalty,
        }
        return alive - distance_penalty - velocity_penalty, terminated, info


class Reacher(NativeMujoco):
    gymnasium_class = ReacherEnv
    derived_fields = ("xpos",)

    def body(self, name):
        """Positions [N, 3] of a body."""
        return self.xpos[:, self.body_id[name]]

    def observe(self):
        angle = self.qpos[:, :2]
        target = self.qpos[:, 2:]
        velocity = self.qvel[:, :2]
        to_target = self.body("fingertip") - self.body("target")
        return np.concatenate(
            (np.cos(angle), np.sin(angle), target, velocity, to_target[:, :2]), axis=1
        )

    def reward(self, actions):
        to_target = self.body("fingertip") - self.body("target")
        reward_dist = -distance(to_target) * self.options.reward_dist_weight
        reward_ctrl = -sum_of_squares(actions) * self.options.reward_control_weight
        terminated = np.zeros(self.num_envs, dtype=bool)
        info = {"reward_dist": reward_dist, "reward_ctrl": reward_ctrl}
        return reward_dist + reward_ctrl, terminated, info


class Pusher(Reacher):
    gymnasium_class = PusherEnv

    def observe(self):
        arm = self.body("tips_arm")
        return np.concatenate(
            (self.qpos[:, :7], self.qvel[:, :7], arm, self.body("object"), self.body("goal")),
            axis=1,
        )

    def reward(self, actions):
        to_object = self.body("object") - self.body("tips_arm")
        to_goal = self.body("object") - self.body("goal")
        reward_near = -distance(to_object) * self.options.reward_near_weight
        reward_dist = -distance(to_goal) * self.options.reward_dist_weight
        reward_ctrl = -sum_of_squares(actions) * self.options.reward_control_weight
        terminated = np.zeros(self.num_envs, dtype=bool)
        info = {
            "reward_dist": reward_dist,
            "reward_ctrl": reward_ctrl,
            "reward_near": reward_near,
        }
        return reward_dist + reward_ctrl + reward_near, terminated, info


def entry_point(gymnasium_class):
    """As Gymnasium's specs of its tasks have it."""
    return f"{gymnasium_class.__module__}:{gymnasium_class.__name__}"


TASKS = (
    Ant,
    HalfCheetah,
    Hopper,
    Humanoid,
    HumanoidStandup,
    InvertedDoublePendulum,
    InvertedPendulum,
    Pusher,
    Reacher,
    Swimmer,
    Walker2d,
)
for task in TASKS:
    spec = gym.spec(f"{task.__name__}-v5")
    if spec.entry_point == entry_point(task.gymnasium_class):  # and not a user's of the same name
        spec.vector_entry_point = f"{__name__}:{task.__name__}"


# ── in place of a user's environments ────────────────────────────────────────────────────────────

WRAPPERS = (TimeLimit, OrderEnforcing, PassiveEnvChecker)  # those that gym.make adds
NOT_COMPARED = {
    "env",  # of a wrapper: what it wraps is compared by itself
    "spec",  # what the environment to compare with is made from
    "_cached_spec",
    "_np_random",  # an environment's is made by reset(seed), a space's only draws samples
    "_np_random_seed",
    "_elapsed_steps",  # how far an episode has come: reset begins another
    "_has_reset",
    "checked_reset",  # what PassiveEnvChecker has looked at already, and need not warn of again
    "checked_step",
    "checked_data_reuse",
    "_previous_data",
}


def difference(env):
    """Why this module cannot simulate `env`, a single environment, in words.

    None if `env` is one of the eleven tasks just as gym.make makes it from `env.spec`: then
    `vectorize(env, …)` gives the same numbers from the same seeds. Wrappers, other attributes,
    another model, replaced methods are all found. Then two episodes of 20 steps are played, in
    `env` too, which the caller must not use any further than to close it; a replaced function
    outside of the classes is found only if it changes these. Give an environment that was never
    reset: a reset of Reacher or Pusher changes attributes.
    """
    if not gym.__version__.startswith(f"{GYMNASIUM}."):
        return f"it is of Gymnasium {gym.__version__}, and this module follows {GYMNASIUM}"
    layers = layers_of(env)
    if native_class(layers[-1]) is None:
        kind = type(layers[-1])
        return f"{kind.__module__}.{kind.__name__} is not one of Gymnasium's MuJoCo v5 tasks"
    for layer in layers[:-1]:
        if type(layer) not in WRAPPERS:
            return f"it is wrapped in {type(layer).__name__}"
    if env.spec is None or env.spec.entry_point != entry_point(type(layers[-1])):
        return "it was not made by gym.make from Gymnasium's own entry point"
    for layer in layers:
        name = replaced_method(type(layer))
        if name is not None:
            return f"{type(layer).__name__}.{name} was replaced"
    try:
        native = native_copies(env, num_envs=1, num_threads=1, autoreset_mode="Disabled")
        with contextlib.closing(native), gym.make(env.spec) as pristine:
            return first_difference(env, pristine, native)
    except Exception as error:  # the caller makes Gymnasium's own, which shows what is wrong
        return f"it cannot be compared: {type(error).__name__}: {error}"


def vectorize(env, num_envs, num_threads=0, autoreset_mode="Disabled"):
    """`num_envs` environments like `env`, a single one as gym.make makes it, stepped together.

    They have its options and its time limit. Closes `env`. Raises ValueError if `env` is
    anything that this module does not simulate: `difference(env)` tells before.
    """
    reason = difference(env)
    if isinstance(env, gym.Env):
        env.close()
    if reason is not None:
        raise ValueError(f"native_mujoco does not simulate this environment: {reason}")
    return native_copies(env, num_envs, num_threads, autoreset_mode)


def native_copies(env, num_envs, num_threads, autoreset_mode):
    max_episode_steps = env.spec.max_episode_steps
    if max_episode_steps is None:
        max_episode_steps = -1
    return native_class(env.unwrapped)(
        num_envs,
        max_episode_steps,
        autoreset_mode,
        num_threads,
        **copy.deepcopy(env.spec.kwargs),
    )


def native_class(env):
    for task in TASKS:
        if type(env) is task.gymnasium_class:
            return task
    return None


def layers_of(env):
    """Wrappers from the outside in, then what they wrap."""
    layers = [env]
    while isinstance(layers[-1], gym.Wrapper):
        layers.append(layers[-1].env)
    return layers


def replaced_method(kind):
    """The name of a method of a Gymnasium class that was not written there, or None."""
    for ancestor in kind.__mro__:
        if not ancestor.__module__.startswith("gymnasium."):
            continue  # object and typing.Generic
        for name, value in vars(ancestor).items():
            accessors = [value]
            if isinstance(value, property):
                accessors = [each for each in (value.fget, value.fset) if each is not None]
            elif isinstance(value, (classmethod, staticmethod)):
                accessors = [value.__func__]
            for function in accessors:
                if callable(function) and not written_in(ancestor, function):
                    return name
    return None


def written_in(kind, function):
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename == inspect.getfile(kind)


def first_difference(env, pristine, native):
    """In words; None if there is none. Plays in `env` only if nothing about it was changed."""
    layers = layers_of(env)
    pristine_layers = layers_of(pristine)
    if [type(layer) for layer in layers] != [type(layer) for layer in pristine_layers]:
        return f"its wrappers are not those of gym.make: {env}"
    for layer, pristine_layer in zip(layers, pristine_layers, strict=True):
        name = changed_attribute(layer, pristine_layer)
        if name is not None:
            return f"{type(layer).__name__}.{name} was changed"
    if play(env) != play(native):
        return "it does not play as Gymnasium's does"
    return None


def play(env):
    """Observations, rewards and flags of two short episodes, as bytes.

    A vector environment of one plays the same episodes.
    """
    given = []
    draw = np.random.default_rng(0)
    for seed in (0, 1):
        obs, _ = env.reset(seed=seed)
        given.append(obs)
        for _ in range(20):
            action = draw.uniform(env.action_space.low, env.action_space.high)
            obs, reward, terminated, truncated, _ = env.step(action.astype(env.action_space.dtype))
            given += [obs, reward, terminated, truncated]
            if terminated or truncated:
                break
    return [np.asarray(each, dtype=np.float64).tobytes() for each in given]


def changed_attribute(layer, pristine_layer):
    """The name of an attribute that differs, is missing or was added; None if there is none."""
    attributes = vars(layer)
    expected = vars(pristine_layer)
    for name in attributes | expected:
        if name in NOT_COMPARED:
            continue
        if name not in attributes or name not in expected:
            return name
        if not same(attributes[name], expected[name]):
            return name
    return None


def same(a, b):
    """Whether two values are of the same type and equal to the bit, with all their contents."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (mujoco.MjData, MujocoRenderer)):
        return True  # a reset makes the one anew; the other only draws
    if isinstance(a, mujoco.MjModel):
        return model_bytes(a) == model_bytes(b)
    if isinstance(a, (float, np.generic, np.ndarray)):
        a = np.asarray(a)
        b = np.asarray(b)
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, gym.Space):
        return changed_attribute(a, b) is None
    return a == b


def model_bytes(model):
    buffer = np.zeros(mujoco.mj_sizeModel(model), dtype=np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer.tobytes()
