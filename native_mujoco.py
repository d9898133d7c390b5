"""Gymnasium's eleven MuJoCo v5 tasks as vector environments: the same numbers, to the bit, in less time.

    envs = gym.make_vec("native_mujoco:HalfCheetah-v5", num_envs=64, vectorization_mode="vector_entry_point")

MuJoCo steps all environments on its own threads (mujoco.batch, MuJoCo ≥ 3.17); observations, rewards and terminations
are computed for all of them at once. Spaces, options, seeds, resets, the three autoreset modes with `final_obs` and
`final_info`, masked resets, infos and frames are those of gymnasium.vector.SyncVectorEnv.

Options, beside those of the task (`ctrl_cost_weight`, `xml_file`, … as `gym.make` takes them):
    max_episode_steps   the time limit; the task's own where not given (1000; Reacher 50, Pusher 100)
    autoreset_mode      "NextStep" (as Gymnasium's), "SameStep", or "Disabled": reset with options={"reset_mask": mask}
    num_threads         threads of the physics; 0: one a core
    render_mode         None, "rgb_array", "depth_array" or "rgbd_tuple": `render()` has a frame of each environment,
                        all taken by one camera

`state_dict()` is all that the future depends on: load it, in another process too, and the same actions give the same
numbers. Use an environment from one Python thread only.

Importing this adds a vector entry point to Gymnasium's specs of the tasks: `make_vec` without a mode then makes these
environments. `gym.make`, and the modes "sync" and "async", stay as they were.
"""

import functools, inspect, types

import gymnasium as gym, mujoco, numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from mujoco.batch import Batch

TASKS = (
    "Ant",
    "HalfCheetah",
    "Hopper",
    "Humanoid",
    "HumanoidStandup",
    "InvertedDoublePendulum",
    "InvertedPendulum",
    "Pusher",
    "Reacher",
    "Swimmer",
    "Walker2d",
)
RENDER_MODES = (None, "rgb_array", "depth_array", "rgbd_tuple")


class NativeMujoco(gym.vector.VectorEnv):
    """What the tasks share. A task says what it observes (`observe`), earns (`reward`) and tells (`place`).

    All arrays are [N, …], one row an environment. Derived fields (xpos, …) are one substep behind, as Gymnasium's are.
    """

    derived = ()  # MjData's fields, beside positions and velocities, that the task reads
    contact_forces = False  # whether it reads cfrc_ext

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
        spec = gym.spec(f"{type(self).__name__}-v5")
        # one environment of Gymnasium's: it knows model, spaces and options, draws the first states, and renders
        self.env = gym.make(
            spec, render_mode=render_mode, **{"disable_env_checker": True} | options
        ).unwrapped
        defaults = {
            p.name: p.default for p in inspect.signature(type(self.env)).parameters.values()
        }
        self.options = types.SimpleNamespace(**defaults | options)
        self.num_envs, self.render_mode = num_envs, render_mode
        limit = spec.max_episode_steps if max_episode_steps is None else max_episode_steps
        if limit < 1 and limit != -1:
            raise ValueError(f"max_episode_steps is at least 1, or -1 for no limit, not {limit}")
        self.max_episode_steps = np.inf if limit == -1 else limit
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = self.env.metadata | {
            "autoreset_mode": self.autoreset_mode,
            "render_modes": [*RENDER_MODES[1:]],
        }
        self.single_observation_space, self.single_action_space = (
            self.env.observation_space,
            self.env.action_space,
        )
        self.observation_space = gym.vector.utils.batch_space(
            self.single_observation_space, num_envs
        )
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)

        self.model, self.dt, self.frame_skip = self.env.model, self.env.dt, self.env.frame_skip
        self.body = {self.model.body(i).name: i for i in range(self.model.nbody)}
        self.batch = Batch(
            self.model, num_envs, num_threads, persistent=self.contact_forces or bool(render_mode)
        )
        for field in ("qpos", "qvel", "ctrl", *self.derived):
            setattr(self, field, self.batch.bind(field))
        self.cfrc_ext = np.zeros((num_envs, *self.env.data.cfrc_ext.shape))
        self.generators, self.np_random_seeds = map(
            list, zip(*(seeding.np_random() for _ in range(num_envs)))
        )
        self.began, self.ended, self.steps = (
            False,
            np.zeros(num_envs, bool),
            np.zeros(num_envs, int),
        )
        self.obs, self.position = np.zeros(self.observation_space.shape), self.track()

    def reset(self, *, seed=None, options=None):
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        if not (
            isinstance(mask, np.ndarray)
            and mask.dtype == bool
            and mask.shape == (self.num_envs,)
            and mask.any()
        ):
            raise ValueError(
                f"options['reset_mask']: needs {self.num_envs} NumPy booleans, one of them True: {mask}"
            )
        if not (self.began or mask.all()):
            raise gym.error.ResetNeeded("the first reset is of all environments")
        seeds = [None] * self.num_envs if seed is None else seed
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seeds
        if len(seeds) != self.num_envs:
            raise ValueError(
                f"seed: needs one for each of the {self.num_envs} environments, not {len(seeds)}"
            )
        for i in np.flatnonzero(mask):
            if seeds[i] is not None:
                self.generators[i], self.np_random_seeds[i] = seeding.np_random(seeds[i])
        self.began = True
        self.begin(mask)
        return self.obs.copy(), masked(self.place(), mask.copy())

    def step(self, actions):
        actions, new = np.ascontiguousarray(actions), self.ended if self.ended.any() else None
        if actions.shape != self.action_space.shape:
            raise ValueError(f"actions: need shape {self.action_space.shape}, not {actions.shape}")
        if not self.began or new is not None and self.autoreset_mode is AutoresetMode.DISABLED:
            raise gym.error.ResetNeeded(
                f"reset before this step, with options={{'reset_mask': mask}}: {self.ended}"
            )
        self.ctrl[:] = actions
        self.batch.step(nstep=self.frame_skip)
        if self.contact_forces:  # mj_step leaves them out, and the batch has no call for them
            for i in range(self.num_envs):
                self.batch.get_data(i, self.env.data)
                mujoco.mj_rnePostConstraint(self.model, self.env.data)
                self.cfrc_ext[i] = self.env.data.cfrc_ext
        self.steps += 1
        reward, terminated, info = self.reward(actions)
        terminated, truncated = (
            np.full(self.num_envs, terminated),
            self.steps >= self.max_episode_steps,
        )
        self.obs, infos = self.observe(), {}
        if new is not None:  # NextStep: the step after an end is the reset
            reward[new], terminated[new], truncated[new] = 0, False, False
        self.ended = terminated | truncated
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self.ended.any():
            new, final_obs = self.ended, np.full(self.num_envs, None)
            for i in np.flatnonzero(new):
                final_obs[i] = self.obs[i].copy()
            infos = {
                "final_obs": final_obs,
                "final_info": masked(info | self.place(), new),
                "_final_obs": new,
                "_final_info": new.copy(),
            }
        if new is not None:
            self.begin(new)
            infos, info = infos | masked(info, ~new), {}
        infos |= masked(info | self.place(), np.ones(self.num_envs, bool))
        return self.obs.copy(), reward, terminated, truncated, infos

    def begin(self, new):
        """Begins an episode in each environment i where new[i], from a state that Gymnasium's own reset draws."""
        self.batch.reset(new, stage=mujoco.mjtStage.mjSTAGE_NONE)
        for i in np.flatnonzero(new):
            self.env.np_random = self.generators[i]
            self.env.set_state = functools.partial(self.set_state, i)
            self.env.reset_model()
        self.batch.forward(new)
        self.cfrc_ext[new] = self.steps[new] = 0
        self.ended = self.ended & ~new
        self.obs[new], self.position[new] = self.observe()[new], self.track()[new]

    def set_state(self, i, qpos, qvel):
        self.qpos[i], self.qvel[i] = qpos, qvel

    def state_dict(self):
        arrays = {
            name: getattr(self, name).copy() for name in ("steps", "ended", "obs", "position")
        }
        generators = [generator.bit_generator.state for generator in self.generators]
        return arrays | {
            "physics": self.batch.state.copy(),
            "generators": generators,
            "began": self.began,
        }

    def load_state_dict(self, state):
        for name in "steps", "ended", "obs", "position":
            getattr(self, name)[:] = state[name]
        for generator, its in zip(self.generators, state["generators"], strict=True):
            generator.bit_generator.state = its
        self.batch.state[:], self.began = state["physics"], state["began"]
        self.batch.forward(
            np.ones(self.num_envs, bool)
        )  # for render(); the next step computes all of it anew,
        self.batch.state[:] = state["physics"]  # from the state as it was

    @property
    def np_random(self):
        return tuple(self.generators)

    @property
    def np_random_seed(self):
        return tuple(self.np_random_seeds)

    def render(self):
        if self.render_mode is None:
            raise gym.error.Error(
                f"render: make the environments with a render_mode of {RENDER_MODES[1:]}"
            )
        return tuple(
            self.batch.get_data(i, self.env.data) and self.env.render()
            for i in range(self.num_envs)
        )

    def close_extras(self, **kwargs):
        self.env.close()

    def track(self):
        """What the forward reward follows, in x or x and y: kept until the next step, which has its velocity."""
        return self.qpos[:, :1].copy()

    def place(self):
        """Infos that a reset gives as well as a step."""
        return {}


def masked(info, mask):
    """Infos of the environments i where mask[i], as VectorEnv has them: a mask beside each, 0 elsewhere."""
    if mask.all():
        return info | {f"_{name}": mask for name in info}
    given = {name: np.zeros_like(value) for name, value in info.items()} if mask.any() else {}
    for name, value in given.items():
        value[mask] = info[name][mask]
    return given | {f"_{name}": mask for name in given}


def distance(vector):
    return np.sqrt(np.vecdot(vector, vector))  # np.linalg.norm of each row, to the bit


def sum_of_squares(x):
    return np.square(x).reshape(len(x), -1).sum(-1)


class Runner(NativeMujoco):
    """Gets on along x: reward is speed and health, less the costs of control and contact."""

    hidden = 1  # leading coordinates that observations leave out
    healthy = contact_cost = None

    def observe(self):
        hidden = self.hidden * self.options.exclude_current_positions_from_observation
        return np.concatenate((self.qpos[:, hidden:], *self.senses()), 1)

    def senses(self):
        return (self.qvel,)

    def control_cost(self, action):
        return self.options.ctrl_cost_weight * sum_of_squares(action)

    def reward(self, action):
        before, self.position = self.position, self.track()
        velocity = (self.position - before) / self.dt
        reward = forward = self.options.forward_reward_weight * velocity[:, 0]
        cost = control = self.control_cost(action)
        unhealthy, info = False, {"reward_forward": forward, "reward_ctrl": -control}
        if self.healthy:
            healthy = self.healthy()
            unhealthy = ~healthy & bool(self.options.terminate_when_unhealthy)
            info["reward_survive"] = healthy * self.options.healthy_reward
            reward = forward + info["reward_survive"]
        if self.contact_cost:
            contact = self.contact_cost()
            info["reward_contact"] = -contact
            cost = control + contact
        return reward - cost, unhealthy, info | dict(zip(("x_velocity", "y_velocity"), velocity.T))

    def inside(self, x, name, strictly=True):
        low, high = getattr(self.options, name)
        return (low < x) & (x < high) if strictly else (low <= x) & (x <= high)

    def place(self):
        return {"x_position": self.qpos[:, 0].copy()}


class HalfCheetah(Runner):
    pass


class Walker2d(Runner):
    def senses(self):
        return (np.clip(self.qvel, -10, 10),)

    def healthy(self):
        return self.inside(self.qpos[:, 1], "healthy_z_range") & self.inside(
            self.qpos[:, 2], "healthy_angle_range"
        )

    def place(self):
        return super().place() | {"z_distance_from_origin": self.qpos[:, 1] - self.env.init_qpos[1]}


class Hopper(Walker2d):
    def healthy(self):
        state = np.concatenate((self.qpos[:, 2:], self.qvel), 1)
        return super().healthy() & self.inside(state, "healthy_state_range").all(1)


class Swimmer(Runner):
    hidden = 2

    def track(self):
        return self.qpos[:, :2].copy()

    def place(self):
        return super().place() | {
            "y_position": self.qpos[:, 1].copy(),
            "distance_from_origin": distance(self.qpos[:, :2]),
        }


class Ant(Swimmer):
    derived, contact_forces = ("xpos",), True

    def track(self):
        return self.xpos[
            :, self.body.get(self.options.main_body, self.options.main_body), :2
        ].copy()

    def clipped_forces(self):
        return np.clip(self.cfrc_ext, *self.options.contact_force_range)

    def senses(self):
        forces = self.clipped_forces()[:, 1:].reshape(self.num_envs, -1)
        return (self.qvel, forces) if self.options.include_cfrc_ext_in_observation else (self.qvel,)

    def contact_cost(self):
        return self.options.contact_cost_weight * sum_of_squares(self.clipped_forces())

    def healthy(self):
        finite = np.isfinite(self.qpos).all(1) & np.isfinite(self.qvel).all(1)
        return finite & self.inside(self.qpos[:, 2], "healthy_z_range", strictly=False)


class Humanoid(Swimmer):
    contact_forces = True
    derived = "xipos", "cinert", "cvel", "qfrc_actuator", "ten_length", "ten_velocity"

    def track(self):
        mass = self.model.body_mass
        return (np.einsum("b,nbj->nj", mass, self.xipos) / mass.sum())[:, :2]

    def senses(self):
        parts = {
            "cinert": self.cinert[:, 1:],
            "cvel": self.cvel[:, 1:],
            "qfrc_actuator": self.qfrc_actuator[:, 6:],
            "cfrc_ext": self.cfrc_ext[:, 1:],
        }
        return (
            self.qvel,
            *(
                part.reshape(self.num_envs, -1)
                for name, part in parts.items()
                if getattr(self.options, f"include_{name}_in_observation")
            ),
        )

    def control_cost(self, action):
        return super().control_cost(self.ctrl)

    def contact_cost(self):
        cost = self.options.contact_cost_weight * sum_of_squares(self.cfrc_ext)
        return np.clip(cost, *self.options.contact_cost_range)

    def healthy(self):
        return self.inside(self.qpos[:, 2], "healthy_z_range")

    def place(self):
        return super().place() | {
            "tendon_length": self.ten_length.copy(),
            "tendon_velocity": self.ten_velocity.copy(),
        }


class HumanoidStandup(Humanoid):
    def reward(self, action):
        up, control = self.qpos[:, 2] / self.model.opt.timestep, self.control_cost(action)
        impact = self.options.impact_cost_weight * sum_of_squares(self.cfrc_ext)
        impact = np.clip(impact, *self.options.impact_cost_range)
        info = {"reward_linup": up, "reward_quadctrl": -control, "reward_impact": -impact}
        return up - control - impact + 1, False, info

    def place(self):
        place = super().place() | {
            "z_distance_from_origin": self.qpos[:, 2] - self.env.init_qpos[2]
        }
        return {name: value for name, value in place.items() if name != "distance_from_origin"}


class InvertedPendulum(NativeMujoco):
    def observe(self):
        return np.concatenate((self.qpos, self.qvel), 1)

    def reward(self, action):
        terminated = ~np.isfinite(self.observe()).all(1) | (np.abs(self.qpos[:, 1]) > 0.2)
        return (
            (~terminated).astype(float),
            terminated,
            {"reward_survive": (~terminated).astype(int)},
        )


class InvertedDoublePendulum(NativeMujoco):
    derived = "site_xpos", "qfrc_constraint"

    def observe(self):
        angle, force = self.qpos[:, 1:], self.qfrc_constraint[:, :1]
        return np.concatenate(
            (
                self.qpos[:, :1],
                np.sin(angle),
                np.cos(angle),
                np.clip(self.qvel, -10, 10),
                np.clip(force, -10, 10),
            ),
            1,
        )

    def reward(self, action):
        (x, _, y), (_, v1, v2) = self.site_xpos[:, 0].T, self.qvel.T
        terminated = y <= 1
        # float_power: x**2 of a NumPy scalar is the C library's pow, which x * x is not to the last bit
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
    derived = ("xpos",)

    def between(self, a, b):
        return self.xpos[:, self.body[a]] - self.xpos[:, self.body[b]]

    def observe(self):
        angle = self.qpos[:, :2]
        return np.concatenate(
            (
                np.cos(angle),
                np.sin(angle),
                self.qpos[:, 2:],
                self.qvel[:, :2],
                self.between("fingertip", "target")[:, :2],
            ),
            1,
        )

    def reward(self, action):
        far = -distance(self.between("fingertip", "target")) * self.options.reward_dist_weight
        control = -sum_of_squares(action) * self.options.reward_control_weight
        return far + control, False, {"reward_dist": far, "reward_ctrl": control}


class Pusher(Reacher):
    def observe(self):
        bodies = (self.xpos[:, self.body[name]] for name in ("tips_arm", "object", "goal"))
        return np.concatenate((self.qpos[:, :7], self.qvel[:, :7], *bodies), 1)

    def reward(self, action):
        near = -distance(self.between("object", "tips_arm")) * self.options.reward_near_weight
        far = -distance(self.between("object", "goal")) * self.options.reward_dist_weight
        control = -sum_of_squares(action) * self.options.reward_control_weight
        info = {"reward_dist": far, "reward_ctrl": control, "reward_near": near}
        return far + control + near, False, info


for task in TASKS:
    gym.spec(f"{task}-v5").vector_entry_point = f"{__name__}:{task}"
