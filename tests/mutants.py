"""Puts mistakes back into the scripts, one at a time, and requires that a test fails.

    python tests/mutants.py [--only SUBSTRING] [--new] [--jobs 2] [--check]

Each mistake goes into a copy of the repository, and there the tests run that must notice it. The
place of a mistake is a function or a method, found by its name in the syntax tree, and within that
the one piece of code that has the same structure as `old`: layout, quotes and comments do not
matter. `...` in `old` stands for any expression, and in `new` for what it was. Where a piece occurs
more than once, a label tells which: "gae [GAE-2]".

tests/mutants.md keeps the outcomes. A test that caught a mistake before is tried first the next
time, so the first run of all takes hours and later ones take minutes. After Ctrl-C what has been
tried is kept, and --new goes on with the rest. Exit status 1 unless all are caught.
"""

import argparse
import ast
import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "tests" / "mutants.md"
NOTHING = "**nothing**"
LONGEST = 900  # seconds of a trial; tests that do not end have noticed nothing

REINFORCE = ("reinforce",)
A2C = ("a2c",)
PPO = ("ppo_continuous",)
DDPG = ("ddpg",)
TD3 = ("td3",)
CRITIC = A2C + PPO  # on-policy, with a critic
ON_POLICY = REINFORCE + CRITIC
OFF_POLICY = DDPG + TD3
ALL = ON_POLICY + OFF_POLICY  # the same text in all

Q_LEARNING = ("discrete/q_learning",)
DQN = ("discrete/dqn",)
DOUBLE_DQN = ("discrete/double_dqn",)
DQN_ATARI = ("discrete/dqn_atari",)
DQNS = DQN + DOUBLE_DQN
DISCRETE = Q_LEARNING + DQNS + DQN_ATARI

MATH_ON = ("test_math_on_policy.py",)
MATH_OFF = ("test_math_off_policy.py",)
AUDIT = ("test_audit.py",)
RUNS = ("test_runs.py",)
RESUME = ("test_resume.py",)
PEOPLE = ("test_people_tasks.py",)
REQUESTS = ("test_resume.py::test_a_request_to_stop_is_granted_at_once_and_saves",)
ENDS = (  # of a run
    "test_resume.py::test_a_second_ctrl_c_quits_at_once",
    "test_resume.py::test_a_second_signal_other_than_ctrl_c_does_not_keep_a_run_from_saving",
    "test_resume.py::test_a_signal_that_comes_while_an_evaluation_begins_interrupts_it",
    "test_resume.py::test_a_full_disk_is_a_line_also_where_logs_are_written",
    "test_resume.py::test_a_part_that_has_something_new_to_load_is_refused",
)
COMMAND_LINE = ("test_command_line.py",)
COPIES = ("test_copied_and_edited.py",)
TABLE_AND_DQN = ("test_discrete.py",)
FRAMES_AND_RUNS = ("test_dqn_atari.py", "test_discrete.py")


class Mutant(NamedTuple):
    scripts: tuple  # that have the mistake, all at once
    place: str
    mistake: str
    old: str
    new: str
    tests: tuple  # files of which one must have a test that fails

    def __str__(self):
        return f"{name_of(self.scripts)}: {self.place}: {self.mistake}"


def name_of(scripts):
    return "all" if scripts == ALL else " ".join(scripts)


def at(scripts, place, tests, *mistakes):
    """The mistakes at one place of some scripts: what is wrong, the code, the wrong code."""
    return [Mutant(scripts, place, *mistake, tests) for mistake in mistakes]


# ── options ──────────────────────────────────────────────────────────────────────────────────────

OPTIONS = [
    *at(
        CRITIC,
        "check_algorithm_args",
        COMMAND_LINE,
        (
            "a run shorter than one rollout trains nothing and succeeds",
            "batch_size > args.total_timesteps",
            "False",
        ),
    ),
    *at(
        OFF_POLICY,
        "check_algorithm_args",
        COMMAND_LINE,
        (
            "a run that ends before learning starts trains nothing and succeeds",
            "first_steps + args.num_envs > args.total_timesteps",
            "False",
        ),
    ),
    *at(
        PPO,
        "check_algorithm_args",
        COMMAND_LINE,
        (
            "a remainder of the rollout may be a minibatch of one row",
            "batch_size % args.num_minibatches != 0",
            "False",
        ),
    ),
]

# ── environments ─────────────────────────────────────────────────────────────────────────────────

ENVIRONMENTS = [
    *at(
        ALL,
        "make_env",
        PEOPLE,
        ("the time limit is ignored", "max_episode_steps=args.max_episode_steps", "**{}"),
        ("the task's options are ignored", "env = ...", "env = gym.make(args.env_id, **options)"),
    ),
    *at(
        ALL,
        "make_vector_env",
        AUDIT,
        (
            "successor is the next episode's first observation",
            "gym.vector.SyncVectorEnv(env_fns, autoreset_mode='Disabled')",
            "gym.vector.SyncVectorEnv(env_fns, autoreset_mode='SameStep')",
        ),
        (
            "the same, in processes",
            "gym.vector.AsyncVectorEnv([env_fn] * num_envs, autoreset_mode='Disabled')",
            "gym.vector.AsyncVectorEnv([env_fn] * num_envs, autoreset_mode='SameStep')",
        ),
        (
            "observations are overwritten by the next step",
            "gym.vector.SyncVectorEnv(env_fns, autoreset_mode='Disabled')",
            "gym.vector.SyncVectorEnv(env_fns, copy=False, autoreset_mode='Disabled')",
        ),
    ),
    *at(
        ALL,
        "Task.reset",
        AUDIT,
        ("every episode has the same seed", "self.env.reset(seed=seed)", "self.env.reset(seed=0)"),
    ),
    *at(
        ALL,
        "Task.reset",
        RUNS,
        ("a task that nobody seeds", "self.env.reset(seed=seed)", "self.env.reset()"),
    ),
    *at(
        ALL,
        "Task.reset",
        PEOPLE,
        ("`random` that nobody seeds", "random.seed(seed)", "pass"),
    ),
    *at(
        ALL,
        "Task.reset",
        RESUME,
        ("np.random that nobody seeds", "np.random.seed(seed)", "pass"),
    ),
    *at(
        ALL,
        "Task.step",
        AUDIT,
        ("time limits are not told", "truncated = ...", "truncated = False"),
    ),
    *at(
        ALL,
        "scale_action",
        AUDIT,
        (
            "the first dimension's bounds for all",
            "space.low + ... * (space.high - space.low)",
            "space.low.flat[0] + ... * (space.high.flat[0] - space.low.flat[0])",
        ),
        ("actions are not rescaled", "scaled = ...", "scaled = unit"),
        ("actions are not clipped", "scaled.clip(space.low, space.high)", "scaled"),
    ),
    *at(
        ALL,
        "Environments.begin_episodes",
        AUDIT,
        (
            "the same seed in all environments",
            "sequence.generate_state(self.num_envs)[where]",
            "sequence.generate_state(1)[0]",
        ),
        (
            "the same seeds for every episode",
            "(self.args.seed, stream, self.global_step)",
            "(self.args.seed, stream)",
        ),
        ("returns run over episode ends", "self.episode_return[where] = 0", "pass"),
        ("lengths run over episode ends", "self.episode_length[where] = 0", "pass"),
        (
            "of no action under way all are kept",
            "self.actions[len(self.actions) - longest :]",
            "self.actions[-longest:]",
        ),
        (
            "actions of the oldest episode are forgotten",
            "self.episode_length.max()",
            "self.episode_length.min()",
        ),
    ),
    *at(
        ALL,
        "Environments.begin_episodes",
        RUNS + RESUME,
        (
            "environments do not depend on --seed",
            "(self.args.seed, stream, self.global_step)",
            "(1, stream, self.global_step)",
        ),
        ("evaluation plays training's episodes", "stream = ...", "stream = 0"),
    ),
    *at(
        ALL,
        "Environments.begin_episodes",
        PEOPLE,
        ("success of an earlier episode counts", "self.episode_success[where] = np.nan", "pass"),
    ),
    *at(
        ALL,
        "Environments.reset",
        PEOPLE,
        (
            "NaN first observations are learned from",
            'self.must_be_finite("task\'s first observation", obs)',
            "pass",
        ),
    ),
    *at(
        ALL,
        "Environments.reset",
        AUDIT,
        ("an end resets all environments", "{'reset_mask': where}", "{}"),
    ),
    *at(
        ALL,
        "Environments.reset",
        RUNS,
        ("environments that nobody seeds", "seed=self.episode_seed.tolist()", "**{}"),
    ),
    *at(
        ALL,
        "Environments.step",
        AUDIT,
        (
            "steps count calls, not environments",
            "self.global_step += self.num_envs",
            "self.global_step += 1",
        ),
        (
            "the next episode's first observation is the successor",
            "return transition",
            "return transition._replace(next_obs=self.obs)",
        ),
        (
            "the observation is the one after the step",
            "return transition",
            "return transition._replace(obs=self.obs)",
        ),
        (
            "the action that was executed is stored",
            "return transition",
            "return transition._replace(action=self.tensor(task_action))",
        ),
        (
            "rewards of another environment",
            "reward=self.tensor(reward)",
            "reward=self.tensor(np.roll(reward, 1))",
        ),
        (
            "a time limit is stored as death",
            "terminated=self.tensor(terminated)",
            "terminated=self.tensor(terminated | truncated)",
        ),
        (
            "death hides the time limit",
            "truncated=self.tensor(truncated)",
            "truncated=self.tensor(truncated & ~terminated)",
        ),
        (
            "truncation is read off a step counter",
            "truncated=self.tensor(truncated)",
            "truncated=self.tensor(self.episode_length == 999)",
        ),
        ("after a time limit no episode begins", "done = ...", "done = terminated"),
        ("after death no episode begins", "done = ...", "done = truncated"),
    ),
    *at(
        ALL,
        "Environments.step",
        PEOPLE,
        ("NaN rewards are learned from", 'self.must_be_finite("task\'s reward", reward)', "pass"),
        (
            "one success in an episode is enough",
            "self.episode_success[reported] = ...",
            "self.episode_success[reported] = np.fmax(self.episode_success, info['is_success'])",
        ),
        (
            "success counts where the task does not tell it",
            "reported = ...",
            "reported = np.ones(self.num_envs, dtype=bool)",
        ),
    ),
    *at(
        ALL,
        "Environments.random_action",
        MATH_OFF,
        ("first actions from half of the range", "2 * ... - 1", "..."),
        (
            "one first action for all environments",
            "torch.rand(self.num_envs, self.action_size, device=self.device)",
            "torch.rand(self.action_size).expand(self.num_envs, -1)",
        ),
    ),
    *at(
        ALL,
        "Environments.load_state_dict",
        RESUME,
        ("a resumed run counts steps anew", "self.global_step = ...", "pass"),
        ("a resumed run forgets returns under way", "self.episode_return = ...", "pass"),
        ("a resumed run forgets lengths under way", "self.episode_length = ...", "pass"),
    ),
    *at(
        ALL,
        "Environments.replay",
        RESUME,
        (
            "an interrupted replay is saved where it stands",
            "obs = self.reset(np.ones(...))",
            "obs = self.reset(np.ones(...))\nself.obs = self.tensor(obs)",
        ),
    ),
    *at(
        ALL,
        "Environments.replay",
        RESUME,
        (
            "other actions are replayed",
            "self.envs.step(action.copy())",
            "self.envs.step(0 * action)",
        ),
        (
            "younger episodes begin a step early",
            "self.episode_length == steps_left",
            "self.episode_length == steps_left + 1",
        ),
        ("younger episodes do not begin anew", "begins = ...", "begins = terminated"),
    ),
]

# ── memory ───────────────────────────────────────────────────────────────────────────────────────

MEMORY = [
    *at(
        OFF_POLICY,
        "ReplayBuffer.__init__",
        MATH_OFF,
        ("rewards are [B, 1]", "reward=reward.squeeze(1)", "reward=reward"),
    ),
    *at(
        OFF_POLICY,
        "ReplayBuffer.add",
        MATH_OFF,
        ("counts calls, not transitions", "self.total += len(rows)", "self.total += 1"),
    ),
    *at(
        OFF_POLICY,
        "ReplayBuffer.sample",
        MATH_OFF,
        ("draws rows that were never written", "min(self.total, self.capacity)", "self.capacity"),
        ("the newest transition is never drawn", "size = ...", "size = max(1, (...) - 1)"),
        (
            "columns of different transitions",
            "column[rows]",
            "column[rows[torch.randperm(len(rows))]]",
        ),
    ),
    *at(
        OFF_POLICY,
        "ReplayBuffer.rows_of",
        MATH_OFF,
        ("stops when it is full", "... % self.capacity", "(...).clamp(max=self.capacity - 1)"),
    ),
    *at(
        OFF_POLICY,
        "ReplayBuffer.load_files",
        RESUME,
        ("transitions after the checkpoint come back", "start >= self.total", "False"),
        ("transitions are forgotten", "self.rows[rows] = ...", "pass"),
        ("a file may be missing", "needed < self.total", "False"),
    ),
    *at(
        OFF_POLICY,
        "ReplayBuffer.save_files",
        RESUME,
        (
            "deletes what the checkpoint before needs",
            "self.saved - self.capacity",
            "self.total - self.capacity",
        ),
    ),
    *at(
        CRITIC,
        "RolloutBuffer.is_full",
        MATH_ON,
        ("a rollout is a step longer", "... == self.num_steps", "... > self.num_steps"),
    ),
    *at(
        CRITIC,
        "RolloutBuffer.take",
        MATH_ON + AUDIT,
        ("rollouts overlap", "self.transitions = []", "self.transitions = self.transitions[-1:]"),
    ),
    *at(
        ON_POLICY,
        "RolloutBuffer.take",
        MATH_ON + AUDIT,
        ("environments before steps", "torch.stack(column)", "torch.stack(column, dim=1)"),
    ),
    *at(
        ON_POLICY,
        "RolloutBuffer.load_state_dict",
        RESUME,
        (
            "a resumed run begins with an empty rollout",
            "for columns in state['transitions']: ...",
            "pass",
        ),
    ),
    *at(
        REINFORCE,
        "RolloutBuffer.add",
        MATH_ON + AUDIT,
        ("a time limit ends no episode", "done = ...", "done = transition.terminated"),
    ),
    *at(
        REINFORCE,
        "RolloutBuffer.is_full",
        MATH_ON + AUDIT,
        ("one environment's episode is enough", "self.ended.all()", "self.ended.any()"),
    ),
    *at(
        REINFORCE,
        "RolloutBuffer.take",
        MATH_ON + AUDIT,
        ("earlier episodes count as finished", "self.ended = ...", "pass"),
    ),
    *at(
        REINFORCE,
        "RolloutBuffer.load_state_dict",
        RESUME,
        ("a resumed run forgets which episodes are finished", "self.ended = ...", "pass"),
    ),
]

# ── networks ─────────────────────────────────────────────────────────────────────────────────────

NETWORKS = [
    *at(
        ON_POLICY,
        "RunningStatistics.__init__",
        MATH_ON,
        (
            "the mean is not saved with the policy",
            "nn.Buffer(torch.zeros(size))",
            "nn.Buffer(torch.zeros(size), persistent=False)",
        ),
    ),
    *at(
        ON_POLICY,
        "RunningStatistics.update",
        MATH_ON,
        ("variance without the distance of means", "... + (1 - weight) * delta**2", "..."),
        ("variance of a sample", "x.var(dim=0, correction=0)", "x.var(dim=0)"),
        ("the newest counts as much as all before", "weight = ...", "weight = 0.5"),
    ),
    *at(
        ON_POLICY,
        "RunningStatistics.normalize",
        MATH_ON,
        ("divides by the variance", "torch.sqrt(...)", "(...)"),
        ("does not bound", "(...).clamp(-10, 10)", "..."),
        (
            "learns from whatever it sees",
            "return ...",
            "self.update(x.reshape(-1, *self.mean.shape))\nreturn ...",
        ),
    ),
    *at(
        ON_POLICY,
        "RewardScaler.forward",
        MATH_ON,
        (
            "the discounted return runs over episode ends",
            "running = (1 - done_t) * ...",
            "running = ...",
        ),
        ("the return is not discounted", "self.gamma * ...", "..."),
        ("every rollout begins anew", "self.discounted_return = running", "pass"),
        ("rewards are centred", "return reward / ...", "return (reward - reward.mean()) / ..."),
        ("rewards are not scaled", "return reward / ...", "return reward"),
    ),
    *at(
        ON_POLICY,
        "mlp",
        MATH_ON,
        (
            "the last layer is bounded by a tanh",
            "nn.Sequential(*layers, orthogonal_linear(*output, last_gain))",
            "nn.Sequential(*layers, orthogonal_linear(*output, last_gain), nn.Tanh())",
        ),
        (
            "the first actions are large",
            "orthogonal_linear(*output, last_gain)",
            "orthogonal_linear(*sizes[-2:], 100)",
        ),
    ),
    *at(
        OFF_POLICY,
        "mlp",
        MATH_OFF,
        (
            "the last layer cannot be negative",
            "nn.Sequential(*layers, nn.Linear(*output))",
            "nn.Sequential(*layers, nn.Linear(*output), nn.ReLU())",
        ),
    ),
    *at(
        ON_POLICY,
        "Actor.log_prob",
        MATH_ON,
        ("squares are not halved", "z**2 / 2", "z**2"),
        ("log σ has the wrong sign", "z**2 / 2 + self.log_std", "z**2 / 2 - self.log_std"),
        ("mean over dimensions", "log_density.sum(dim=-1)", "log_density.mean(dim=-1)"),
        ("σ² in place of σ", "self.log_std.exp()", "self.log_std.exp() ** 2"),
        ("the constant is left out", "... + math.log(2 * math.pi) / 2", "..."),
    ),
    *at(
        CRITIC,
        "Actor.entropy",
        MATH_ON,
        ("entropy without e", "2 * math.pi * math.e", "2 * math.pi"),
        ("mean over dimensions", "(...).sum()", "(...).mean()"),
    ),
    *at(CRITIC, "Critic.forward", MATH_ON, ("values are [..., 1]", "(...).squeeze(-1)", "...")),
    *at(
        OFF_POLICY, "Actor.forward", MATH_OFF, ("actions without bounds", "torch.tanh(...)", "...")
    ),
    *at(
        OFF_POLICY,
        "Critic.forward",
        MATH_OFF,
        ("values are [B, 1]", "(...).squeeze(-1)", "..."),
        ("actions do not matter", "[obs, action]", "[obs, 0 * action]"),
    ),
]

# ── the algorithms ───────────────────────────────────────────────────────────────────────────────

ADVANTAGES = [
    *at(
        CRITIC,
        "gae [GAE-1]",
        MATH_ON,
        ("a time limit is death", "1 - terminated", "1 - done"),
        ("death is no end", "gamma * (1 - terminated)", "gamma"),
        ("γ is forgotten in δ", "gamma * (1 - terminated)", "(1 - terminated)"),
        ("the successor's value is the state's", "... * next_value", "... * value"),
    ),
    *at(
        CRITIC,
        "gae",
        MATH_ON,
        (
            "advantages run over time limits",
            "gamma * gae_lambda * (1 - done)",
            "gamma * gae_lambda * (1 - terminated)",
        ),
        (
            "advantages run over all ends",
            "gamma * gae_lambda * (1 - done)",
            "gamma * gae_lambda * (0 * done + 1)",
        ),
        ("λ is forgotten", "gamma * gae_lambda", "gamma"),
        ("γ is forgotten", "gamma * gae_lambda", "gae_lambda"),
    ),
    *at(
        CRITIC,
        "gae [GAE-3]",
        MATH_ON,
        ("returns from the successor's value", "advantage + value", "advantage + next_value"),
        ("the critic learns the advantage", "advantage + value", "advantage"),
    ),
    *at(
        CRITIC,
        "Agent.make_batch",
        MATH_ON,
        (
            "λ and γ are swapped",
            "advantage, return_ = ...",
            "advantage, return_ = gae(reward, value, next_value, terminated, done, "
            "args.gae_lambda, args.gamma)",
        ),
        (
            "advantages of rewards that are not scaled",
            "advantage, return_ = ...",
            "advantage, return_ = gae(rollout.reward, value, next_value, terminated, done, "
            "args.gamma, args.gae_lambda)",
        ),
        (
            "values of the state for the successor",
            "self.obs_statistics.normalize(rollout.next_obs)",
            "obs",
        ),
        ("the successor is not normalised", "next_obs = ...", "next_obs = rollout.next_obs"),
        (
            "gradient through what the critic learns towards",
            "torch.no_grad()",
            "torch.enable_grad()",
        ),
    ),
    *at(
        ON_POLICY,
        "Agent.make_batch",
        MATH_ON,
        ("networks learn from what is not normalised", "obs = ...", "obs = rollout.obs"),
        (
            "the normaliser moves between acting and learning",
            "obs = ...",
            "self.obs_statistics.update(rollout.obs.flatten(0, 1))\nobs = ...",
        ),
        ("the normaliser never learns", "self.obs_statistics.update(...)", "None"),
        ("the normaliser learns one environment", "rollout.obs.flatten(0, 1)", "rollout.obs[:, 0]"),
        (
            "rewards' scale runs over time limits",
            "reward_scaler(rollout.reward, done)",
            "reward_scaler(rollout.reward, rollout.terminated)",
        ),
    ),
    *at(
        PPO,
        "Agent.make_batch",
        MATH_ON,
        ("advantages are not centred", "advantage - advantage.mean()", "advantage"),
        ("--norm-adv is ignored", "args.norm_adv", "False"),
        (
            "old log-probabilities of what is not normalised",
            "self.actor.log_prob(obs, rollout.action)",
            "self.actor.log_prob(rollout.obs, rollout.action)",
        ),
    ),
    *at(
        REINFORCE,
        "returns_to_go [PG-2]",
        MATH_ON,
        ("returns run over episode ends", "1 - done[t]", "1"),
        ("returns are not discounted", "gamma * (1 - done[t])", "(1 - done[t])"),
    ),
    *at(
        REINFORCE,
        "Agent.make_batch",
        MATH_ON,
        ("returns run over time limits", "done = ...", "done = rollout.terminated.clone()"),
        ("the baseline is of the current batch", "baseline = ...", "baseline = return_.mean(1)"),
        ("the baseline is one for all steps", "baseline[:, None]", "baseline.mean()"),
        (
            "steps past the last row share no row",
            "t = ...",
            "t = torch.arange(len(return_)) % 4",
        ),
        (
            "the baseline counts rollouts",
            "in_first_episode.sum(dim=1)",
            "in_first_episode.amax(dim=1)",
        ),
        (
            "the baseline takes all of the new returns",
            "advantage.sum(dim=1) / count",
            "advantage.sum(dim=1)",
        ),
        ("the baseline is added", "return_ - baseline[:, None]", "return_ + baseline[:, None]"),
        ("incomplete episodes count", "... * in_first_episode", "..."),
        (
            "the baseline learns from incomplete episodes",
            "advantage.sum(dim=1) / count",
            "(return_ - baseline[:, None]).sum(dim=1) / count",
        ),
        (
            "the last step of an episode does not count",
            "done.cumsum(dim=0) - done",
            "done.cumsum(dim=0)",
        ),
        ("rewards' scale runs into the next rollout", "done[-1] = 1", "pass"),
    ),
]

ON_POLICY_AGENTS = [
    *at(
        ON_POLICY,
        "Agent.__init__",
        MATH_ON,
        (
            "σ does not learn",
            "list(self.parameters())",
            "[p for name, p in self.named_parameters() if 'log_std' not in name]",
        ),
    ),
    *at(
        ON_POLICY,
        "Agent.act",
        MATH_ON,
        (
            "actions are clipped before they are learned from",
            "mean + ...",
            "(mean + ...).clamp(-1, 1)",
        ),
        ("σ² in place of σ", "self.actor.log_std.exp()", "self.actor.log_std.exp() ** 2"),
        ("one noise for all environments", "torch.randn_like(mean)", "torch.randn_like(mean[:1])"),
        ("acts on what is not normalised", "self.obs_statistics.normalize(obs)", "obs"),
        (
            "the normaliser moves while acting",
            "mean = ...",
            "self.obs_statistics.update(obs)\nmean = ...",
        ),
    ),
    *at(ON_POLICY, "Agent.act", MATH_ON + RUNS, ("evaluation samples", "not explore", "False")),
    *at(
        REINFORCE + A2C,
        "Agent.update",
        MATH_ON,
        ("gradients pile up", "self.optimizer.zero_grad()", "pass"),
        ("parameters never step", "self.optimizer.step()", "pass"),
    ),
    *at(
        PPO,
        "Agent.update_minibatch",
        MATH_ON,
        ("gradients pile up", "self.optimizer.zero_grad()", "pass"),
        ("parameters never step", "self.optimizer.step()", "pass"),
    ),
    *at(
        PPO,
        "Agent.update",
        MATH_ON,
        ("the same order every pass", "torch.randperm(...)", "torch.arange(...)"),
        (
            "rows are drawn with replacement",
            "order = ...",
            "order = torch.randint(len(batch.obs), (len(batch.obs),))",
        ),
        (
            "half of the minibatches",
            "order.split(size)",
            "order.split(size)[::2]",
        ),
        ("one pass only", "range(self.args.update_epochs)", "range(1)"),
        (
            "--target-kl ends the passes at once",
            "... > target_kl",
            "... < target_kl",
        ),
        ("--target-kl is ignored", "... > target_kl", "False"),
    ),
    *at(
        ON_POLICY,
        "Agent.backward",
        MATH_ON,
        (
            "the gradient has no bound",
            "nn.utils.clip_grad_norm_(self.all_parameters, args.max_grad_norm)",
            "pass",
        ),
        ("a part of the gradient has no bound", "self.all_parameters", "self.all_parameters[1:]"),
    ),
    *at(
        REINFORCE,
        "Agent.backward [PG-4]",
        MATH_ON,
        ("descends the return", "-(...).sum()", "(...).sum()"),
        ("mean over steps", "-(...).sum() / args.num_envs", "-(...).mean()"),
    ),
    *at(
        A2C,
        "Agent.backward [AC-1]",
        MATH_ON,
        ("descends the advantage", "-(...).mean()", "(...).mean()"),
    ),
    *at(
        CRITIC,
        "Agent.backward",
        MATH_ON,
        ("half of the squared error", "F.mse_loss(...)", "F.mse_loss(...) / 2"),
        ("--vf-coef is ignored", "args.vf_coef * critic_loss", "critic_loss"),
        ("entropy is lowered", "... - args.ent_coef * entropy", "... + args.ent_coef * entropy"),
    ),
    *at(
        PPO,
        "Agent.backward",
        MATH_ON,
        (
            "the ratio is upside down",
            "self.actor.log_prob(...) - batch.log_prob",
            "batch.log_prob - self.actor.log_prob(...)",
        ),
        ("no clip below", "1 - args.clip_coef", "0"),
        ("no clip above", "1 + args.clip_coef", "torch.inf"),
        ("the better of the two", "torch.min(...)", "torch.max(...)"),
        ("no clip", "surrogate = ...", "surrogate = ratio * batch.advantage"),
        ("clip without the minimum", "surrogate = ...", "surrogate = clipped * batch.advantage"),
        ("descends the advantage", "-surrogate.mean()", "surrogate.mean()"),
        (
            "advantages are scaled in each minibatch",
            "log_ratio = ...",
            "if args.norm_adv:\n"
            "    scaled = (batch.advantage - batch.advantage.mean()) / batch.advantage.std()\n"
            "    batch = batch._replace(advantage=scaled)\n"
            "log_ratio = ...",
        ),
        ("approx_kl without what makes it positive", "ratio - 1 - log_ratio", "-log_ratio"),
        (
            "approx_kl from a ratio that underflows",
            "ratio - 1 - log_ratio",
            "ratio - 1 - ratio.log()",
        ),
    ),
    *at(
        REINFORCE,
        "Agent.make_batch",
        MATH_ON,
        ("raw rewards", "reward_scaler(rollout.reward, done)", "rollout.reward"),
    ),
    *at(
        CRITIC,
        "train",
        MATH_ON,
        (
            "the scaler discounts by λ",
            "RewardScaler(args.num_envs, args.gamma)",
            "RewardScaler(args.num_envs, args.gae_lambda)",
        ),
    ),
    *at(
        ON_POLICY,
        "Actor.__init__",
        MATH_ON,
        (
            "log σ is taken for σ",
            "initial_log_std * torch.ones(action_size)",
            "math.exp(initial_log_std) * torch.ones(action_size)",
        ),
    ),
]

OFF_POLICY_AGENTS = [
    *at(
        OFF_POLICY,
        "Agent.__init__",
        MATH_OFF,
        ("the actor's target is the actor", "copy.deepcopy(self.actor)", "self.actor"),
        (
            "the actor's target is another network",
            "copy.deepcopy(self.actor)",
            "Actor(obs_size, action_size, args.hidden_sizes)",
        ),
    ),
    *at(
        DDPG,
        "Agent.__init__",
        MATH_OFF,
        ("the critic's target is the critic", "copy.deepcopy(self.critic)", "self.critic"),
        (
            "the actor's optimizer holds the critic too",
            "list(self.actor.parameters())",
            "[*self.actor.parameters(), *self.critic.parameters()]",
        ),
    ),
    *at(
        TD3,
        "Agent.__init__",
        MATH_OFF,
        ("the first critic's target is the critic", "copy.deepcopy(self.critic1)", "self.critic1"),
        ("the second critic's target is the critic", "copy.deepcopy(self.critic2)", "self.critic2"),
        (
            "the twins start equal",
            "self.critic2 = ...",
            "self.critic2 = copy.deepcopy(self.critic1)",
        ),
        (
            "the second critic never steps",
            "[*self.critic1.parameters(), *self.critic2.parameters()]",
            "[*self.critic1.parameters()]",
        ),
        (
            "the actor's optimizer holds the critic too",
            "list(self.actor.parameters())",
            "[*self.actor.parameters(), *self.critic1.parameters()]",
        ),
    ),
    *at(
        OFF_POLICY,
        "Agent.act",
        MATH_OFF,
        (
            "one noise for all environments",
            "torch.randn_like(action)",
            "torch.randn_like(action[:1])",
        ),
        ("explores beyond the bounds", "action.clamp(-1, 1)", "action"),
    ),
    *at(OFF_POLICY, "Agent.act", MATH_OFF + RUNS, ("evaluation explores", "explore", "True")),
    *at(
        OFF_POLICY,
        "Agent.target",
        MATH_OFF,
        ("gradient through the target", "torch.no_grad()", "torch.enable_grad()"),
        ("target with the actor that learns", "self.actor_target", "self.actor"),
    ),
    *at(
        OFF_POLICY,
        "Agent.target [5]",
        MATH_OFF,
        ("the target's action at the state", "batch.next_obs", "batch.obs"),
    ),
    *at(
        OFF_POLICY,
        "Agent.target [9]",
        MATH_OFF,
        (
            "a time limit is death",
            "1 - batch.terminated",
            "1 - torch.maximum(batch.terminated, batch.truncated)",
        ),
        ("death is no end", "args.gamma * (1 - batch.terminated)", "args.gamma"),
        ("γ is forgotten", "args.gamma * (1 - batch.terminated)", "(1 - batch.terminated)"),
    ),
    *at(
        DDPG,
        "Agent.target [7]",
        MATH_OFF,
        ("target with the critic that learns", "self.critic_target", "self.critic"),
        ("the target's value at the state", "batch.next_obs", "batch.obs"),
        (
            "a minimum of two critics, which is TD3's",
            "next_q = ...",
            "next_q = torch.min(..., self.critic(batch.next_obs, next_action))",
        ),
        (
            "noise on target actions, which is TD3's",
            "next_action",
            "next_action + 0.2 * torch.randn_like(next_action)",
        ),
    ),
    *at(
        TD3,
        "Agent.target",
        MATH_OFF,
        ("target with the first critic that learns", "self.critic1_target", "self.critic1"),
        ("target with the second critic that learns", "self.critic2_target", "self.critic2"),
        ("the first target is asked twice", "self.critic2_target", "self.critic1_target"),
        ("one noise for the batch", "torch.randn_like(...)", "torch.randn_like((...)[:1])"),
        ("noise is not clipped", "noise.clamp(...)", "noise"),
        (
            "noise is clipped before it is scaled",
            "torch.randn_like(next_action)",
            "torch.randn_like(next_action).clamp(-args.noise_clip, args.noise_clip)",
        ),
        (
            "the target's action is not clamped",
            "(next_action + noise).clamp(-1, 1)",
            "next_action + noise",
        ),
        (
            "the target's action is clamped before the noise",
            "(next_action + noise).clamp(-1, 1)",
            "next_action.clamp(-1, 1) + noise",
        ),
        ("no noise on target actions", "next_action + noise", "next_action"),
    ),
    *at(
        TD3,
        "Agent.target [7]",
        MATH_OFF,
        ("the target's value at the state", "batch.next_obs", "batch.obs"),
    ),
    *at(
        TD3,
        "Agent.target [8]",
        MATH_OFF,
        ("the larger of the twins", "torch.min(next_q1, next_q2)", "torch.max(next_q1, next_q2)"),
        ("the mean of the twins", "torch.min(next_q1, next_q2)", "(next_q1 + next_q2) / 2"),
    ),
    *at(
        DDPG,
        "Agent.update_critic",
        MATH_OFF,
        ("gradients pile up", "self.critic_optimizer.zero_grad()", "pass"),
        ("the critic never steps", "self.critic_optimizer.step()", "pass"),
    ),
    *at(
        TD3,
        "Agent.update_critics",
        MATH_OFF,
        ("gradients pile up", "self.critic_optimizer.zero_grad()", "pass"),
        ("critics never step", "self.critic_optimizer.step()", "pass"),
    ),
    *at(
        DDPG,
        "Agent.critic_backward",
        MATH_OFF,
        ("half of the squared error", "F.mse_loss(...)", "F.mse_loss(...) / 2"),
        (
            "the value of what the actor would do",
            "self.critic(batch.obs, batch.action)",
            "self.critic(batch.obs, self.actor(batch.obs))",
        ),
    ),
    *at(
        TD3,
        "Agent.critic_backward",
        MATH_OFF,
        ("only the first twin learns", "q1_loss + q2_loss", "q1_loss"),
        ("half of the squared errors", "q1_loss + q2_loss", "(q1_loss + q2_loss) / 2"),
        (
            "the value of what the actor would do",
            "self.critic1(batch.obs, batch.action)",
            "self.critic1(batch.obs, self.actor(batch.obs))",
        ),
    ),
    *at(
        OFF_POLICY,
        "Agent.update_actor",
        MATH_OFF,
        ("gradients pile up", "self.actor_optimizer.zero_grad()", "pass"),
        ("the actor never steps", "self.actor_optimizer.step()", "pass"),
    ),
    *at(
        OFF_POLICY,
        "Agent.actor_backward",
        MATH_OFF,
        ("the actor descends", "-q.mean()", "q.mean()"),
        (
            "the actor climbs at the successor",
            "self.actor(batch.obs)",
            "self.actor(batch.next_obs)",
        ),
        (
            "the actor's loss leaves gradients in the critic",
            "actor_loss.backward(inputs=self.actor_parameters)",
            "actor_loss.backward()",
        ),
    ),
    *at(
        DDPG,
        "Agent.actor_backward",
        MATH_OFF,
        ("the actor climbs the target critic", "self.critic", "self.critic_target"),
    ),
    *at(
        TD3,
        "Agent.actor_backward",
        MATH_OFF,
        ("the actor climbs the target critic", "self.critic1", "self.critic1_target"),
        ("the actor climbs the second twin", "self.critic1", "self.critic2"),
    ),
    *at(
        OFF_POLICY,
        "Agent.update_targets",
        MATH_OFF,
        ("the actor's target stays", "polyak(self.actor, self.actor_target, ...)", "pass"),
        (
            "averages the wrong way",
            "polyak(self.actor, self.actor_target, ...)",
            "polyak(self.actor_target, self.actor, ...)",
        ),
    ),
    *at(
        DDPG,
        "Agent.update_targets",
        MATH_OFF,
        ("the critic's target stays", "polyak(self.critic, self.critic_target, ...)", "pass"),
    ),
    *at(
        TD3,
        "Agent.update_targets",
        MATH_OFF,
        (
            "the first critic's target stays",
            "polyak(self.critic1, self.critic1_target, ...)",
            "pass",
        ),
        (
            "the second critic's target stays",
            "polyak(self.critic2, self.critic2_target, ...)",
            "pass",
        ),
    ),
    *at(
        OFF_POLICY,
        "polyak",
        MATH_OFF,
        ("τ is upside down", "slow.lerp_(parameter, tau)", "slow.lerp_(parameter, 1 - tau)"),
    ),
    *at(
        OFF_POLICY,
        "Environments.random_action",
        MATH_OFF,
        (
            "one number for all dimensions",
            "torch.rand(self.num_envs, self.action_size, device=self.device)",
            "torch.rand(self.num_envs, 1, device=self.device).expand(-1, self.action_size)",
        ),
    ),
    *at(
        OFF_POLICY,
        "train",
        MATH_OFF,
        ("any batch size", "memory.sample(args.batch_size)", "memory.sample(256)"),
    ),
    *at(
        TD3,
        "train",
        MATH_OFF,
        ("any delay", "step % args.policy_frequency", "step % 2"),
    ),
    *at(
        TD3,
        "Agent.critic_backward",
        MATH_OFF,
        ("the second critic's loss is logged twice", "q1_loss.detach()", "q2_loss.detach()"),
    ),
]

# ── training ─────────────────────────────────────────────────────────────────────────────────────

PAST_THE_END = (
    "a run goes past its end",
    "envs.global_step + args.num_envs <= args.total_timesteps",
    "envs.global_step < args.total_timesteps",
)
TRAINING = [
    *at(ON_POLICY, "train", RUNS, PAST_THE_END),
    *at(OFF_POLICY, "train", RUNS, PAST_THE_END),
    *at(
        OFF_POLICY,
        "train",
        MATH_OFF,
        ("no random actions at first", "envs.global_step >= args.learning_starts", "True"),
        (
            "--learning-starts counts calls",
            "envs.global_step >= ...",
            "envs.global_step // args.num_envs >= ...",
        ),
    ),
    *at(
        DDPG,
        "train",
        MATH_OFF,
        ("one update for all environments", "range(args.num_envs)", "range(1)"),
        (
            "an actor with a delay, which is TD3's",
            "metrics |= agent.update_actor(batch)",
            "if envs.global_step % 2 == 0:\n    metrics |= agent.update_actor(batch)",
        ),
    ),
    *at(
        TD3,
        "train",
        MATH_OFF,
        (
            "one update for all environments",
            "range(envs.global_step - args.num_envs, envs.global_step)",
            "range(envs.global_step - 1, envs.global_step)",
        ),
        (
            "the delay counts environment steps",
            "range(envs.global_step - args.num_envs, envs.global_step)",
            "[envs.global_step] * args.num_envs",
        ),
        (
            "the delay begins anew each step",
            "range(envs.global_step - args.num_envs, envs.global_step)",
            "range(args.num_envs)",
        ),
        ("no delay", "step % args.policy_frequency == 0", "True"),
        (
            "the targets have no delay",
            "if step % args.policy_frequency == 0:\n"
            "    metrics |= agent.update_actor(batch)\n"
            "    agent.update_targets()",
            "if step % args.policy_frequency == 0:\n"
            "    metrics |= agent.update_actor(batch)\n"
            "agent.update_targets()",
        ),
    ),
    *at(
        ON_POLICY,
        "train",
        MATH_ON,
        ("the learning rate does not fall", "args.anneal_lr", "False"),
        (
            "the learning rate begins a step lower",
            "first_step = ...",
            "first_step = envs.global_step",
        ),
        (
            "the learning rate falls in --num-envs times the time",
            "first_step / args.total_timesteps",
            "first_step / args.num_envs / args.total_timesteps",
        ),
    ),
    *at(
        ON_POLICY,
        "train",
        RESUME,
        (
            "a resumed run begins the schedule anew",
            "first_step / args.total_timesteps",
            "(first_step - run.first_step) / args.total_timesteps",
        ),
        ("a resumed run begins with a new scale of rewards", "reward_scaler=reward_scaler", "**{}"),
        ("a resumed run begins with an empty rollout", "rollout=rollout", "**{}"),
    ),
    *at(
        REINFORCE,
        "train",
        MATH_ON + AUDIT,
        ("the next batch begins in the middle of episodes", "envs.begin_all()", "pass"),
    ),
    *at(
        OFF_POLICY,
        "train",
        RESUME,
        ("a resumed run begins with an empty memory", "memory=memory", "**{}"),
        (
            "a resumed run begins with a new optimizer of the critic",
            "critic_optimizer=agent.critic_optimizer",
            "**{}",
        ),
        (
            "a resumed run begins with a new optimizer of the actor",
            "actor_optimizer=agent.actor_optimizer",
            "**{}",
        ),
    ),
]

# ── discrete actions ─────────────────────────────────────────────────────────────────────────────

DISCRETE_MATH = [
    *at(
        DQNS + DQN_ATARI,
        "Agent.anneal_learning_rate",
        TABLE_AND_DQN,
        ("the learning rate never falls", "fraction * group['initial_lr']", "group['initial_lr']"),
    ),
    *at(
        DISCRETE,
        "epsilon_at",
        TABLE_AND_DQN,
        ("ε falls on", "min(1, progress)", "progress"),
    ),
    *at(
        DISCRETE,
        "Agent.act",
        TABLE_AND_DQN,
        ("random with probability 1 - ε", "... < self.epsilon", "... >= self.epsilon"),
        ("one coin for all environments", "torch.rand_like(...)", "torch.rand(1)"),
        ("evaluations explore", "explore", "True"),
    ),
    *at(
        Q_LEARNING,
        "Agent.update",
        TABLE_AND_DQN,
        (
            "a time limit is death",
            "1 - transition.terminated",
            "1 - torch.maximum(transition.terminated, transition.truncated)",
        ),
        ("a final state has a future", "1 - transition.terminated", "1"),
        ("the mean of what may follow", "self.q_table(...).max()", "self.q_table(...).mean()"),
    ),
    *at(
        Q_LEARNING,
        "train",
        TABLE_AND_DQN,
        (
            "the learning rate stays",
            "(1 - envs.global_step / args.total_timesteps) * args.learning_rate",
            "args.learning_rate",
        ),
        ("only the first environment teaches", "range(args.num_envs)", "range(1)"),
    ),
    *at(
        Q_LEARNING,
        "transition_model",
        TABLE_AND_DQN,
        ("a final state has a successor", "not terminated", "True"),
    ),
    *at(
        DQNS,
        "ReplayBuffer.sample",
        TABLE_AND_DQN,
        ("draws rows that were never written", "min(self.total, self.capacity)", "self.capacity"),
    ),
    *at(
        DQNS,
        "ReplayBuffer.load_files",
        TABLE_AND_DQN,
        ("transitions are forgotten", "self.rows[rows] = ...", "pass"),
    ),
    *at(
        DQNS,
        "Agent.target",
        TABLE_AND_DQN,
        (
            "a time limit is death",
            "1 - batch.terminated",
            "1 - torch.maximum(batch.terminated, batch.truncated)",
        ),
        ("a final state has a future", "1 - batch.terminated", "1"),
        (
            "no fixed target",
            "self.target_network(batch.next_obs)",
            "self.q_network(batch.next_obs)",
        ),
    ),
    *at(
        DOUBLE_DQN,
        "Agent.target",
        TABLE_AND_DQN,
        (
            "one network chooses and values",
            "self.q_network(batch.next_obs)",
            "self.target_network(batch.next_obs)",
        ),
    ),
    *at(
        DQNS + DQN_ATARI,
        "Agent.backward",
        TABLE_AND_DQN,
        ("the best action learns", "q = ...", "q = values.max(dim=-1).values"),
        ("Huber's loss", "F.mse_loss(q, target)", "F.smooth_l1_loss(q, target)"),
    ),
    *at(
        DQNS + DQN_ATARI,
        "Agent.update_target_network",
        TABLE_AND_DQN,
        ("it never moves", "self.target_network.load_state_dict(...)", "None"),
    ),
    *at(
        DQNS,
        "train",
        TABLE_AND_DQN,
        ("a copy after each step", "step % args.target_network_frequency == 0", "True"),
        ("learns from an empty memory", "first_step >= args.learning_starts", "True"),
        (
            "one update for all environments",
            "range(first_step, envs.global_step)",
            "range(first_step, first_step + 1)",
        ),
    ),
    *at(
        DISCRETE,
        "Environments.step",
        AUDIT,
        (
            "a time limit is an end",
            "self.tensor(terminated)",
            "self.tensor(terminated | truncated)",
        ),
        (
            "the next observation is of the next episode",
            "return transition",
            "return transition._replace(next_obs=self.obs)",
        ),
        ("rewards of a neighbour", "self.tensor(reward)", "self.tensor(np.roll(reward, 1))"),
    ),
    *at(
        DISCRETE,
        "Environments.begin_episodes",
        AUDIT,
        ("episodes have one seed", "(self.args.seed, stream, ...)", "(1, stream, ...)"),
        ("training plays the evaluation's", "0 if self.purpose == 'training' else 1", "0"),
        ("returns run on", "self.episode_return[where] = 0", "pass"),
    ),
    *at(
        DISCRETE,
        "train",
        TABLE_AND_DQN,
        ("epsilon stays as it was", "agent.epsilon = epsilon_at(envs.global_step, args)", "pass"),
        (
            "epsilon counts calls",
            "epsilon_at(envs.global_step, args)",
            "epsilon_at(envs.global_step // args.num_envs, args)",
        ),
    ),
    *at(
        DQNS + DQN_ATARI,
        "train",
        TABLE_AND_DQN,
        (
            "the learning rate falls too slowly with several environments",
            "1 - first_step / args.total_timesteps",
            "1 - first_step / args.num_envs / args.total_timesteps",
        ),
    ),
    *at(
        DQNS,
        "ReplayBuffer.add",
        TABLE_AND_DQN,
        ("a memory counts calls", "self.total += len(rows)", "self.total += 1"),
    ),
    *at(
        DQNS,
        "Agent.update",
        TABLE_AND_DQN,
        ("gradients pile up", "self.optimizer.zero_grad()", "pass"),
    ),
    *at(
        DQNS,
        "Agent.backward",
        TABLE_AND_DQN,
        ("the least Q is logged", "values.detach().max(dim=-1)", "values.detach().min(dim=-1)"),
    ),
]
FRAMES = [
    *at(
        DQN_ATARI,
        "ReplayBuffer.add",
        FRAMES_AND_RUNS,
        ("frames of the episode before leak into a stack", "self.newest[i] = None", "pass"),
        ("the same, after a time limit", "terminated or truncated", "terminated"),
        (
            "an episode begins with its second frame",
            "self.add_row(i, obs, 0, 0, 0, 0)",
            "self.add_row(i, next_obs, 0, 0, 0, 0)",
        ),
    ),
    *at(
        DQN_ATARI,
        "ReplayBuffer.add_row",
        FRAMES_AND_RUNS,
        ("the oldest frame of a stack", "obs[-self.frame_bytes :]", "obs[: self.frame_bytes]"),
        ("the frame before is another environment's", "self.total - self.newest[env]", "1"),
    ),
    *at(
        DQN_ATARI,
        "ReplayBuffer.oldest",
        FRAMES_AND_RUNS,
        (
            "the row at the write position counts as old",
            "self.total - self.capacity",
            "self.total - self.capacity - 1",
        ),
        (
            "the oldest row is never used",
            "self.total - self.capacity",
            "self.total - self.capacity + 1",
        ),
    ),
    *at(
        DQN_ATARI,
        "ReplayBuffer.unusable",
        FRAMES_AND_RUNS,
        ("a first frame is a transition", "is_first = ...", "is_first = numbers < 0"),
        (
            "reads over the write position",
            "self.way_back(numbers)[:, 0]",
            "numbers",
        ),
        (
            "looks at the frames of s′ only",
            "self.way_back(numbers)[:, 0]",
            "self.way_back(numbers)[:, 1]",
        ),
    ),
    *at(
        DQN_ATARI,
        "ReplayBuffer.way_back",
        FRAMES_AND_RUNS,
        ("the newest frame first", "way.reverse()", "pass"),
    ),
    *at(
        DQN_ATARI,
        "ReplayBuffer.sample",
        FRAMES_AND_RUNS,
        ("s′ is s", "frames[:, 1:]", "frames[:, :-1]"),
    ),
    *at(
        DQN_ATARI,
        "ReplayBuffer.save_files",
        FRAMES_AND_RUNS,
        (
            "deletes what the checkpoint before needs",
            "self.saved - self.capacity",
            "self.total - self.capacity",
        ),
        (
            "the first new row is not written",
            "max(self.saved, self.total - self.capacity)",
            "max(self.saved + 1, self.total - self.capacity)",
        ),
    ),
    *at(
        DQN_ATARI,
        "ReplayBuffer.load_files",
        FRAMES_AND_RUNS,
        ("frames are forgotten", "self.frames[rows] = ...", "pass"),
        ("rows after the checkpoint come back", "start >= self.total", "False"),
    ),
    *at(
        DQN_ATARI,
        "ReplayBuffer.load_state_dict",
        FRAMES_AND_RUNS,
        ("a resumed run begins new episodes", "self.newest = ...", "pass"),
    ),
    *at(
        DQN_ATARI,
        "QNetwork.forward",
        FRAMES_AND_RUNS,
        ("bytes are not scaled", "... / 255", "..."),
    ),
    *at(
        DQN_ATARI,
        "Agent.target",
        FRAMES_AND_RUNS,
        ("rewards are not clipped", "batch.reward.clamp(-1, 1)", "batch.reward"),
        (
            "a time limit is death",
            "1 - batch.terminated",
            "1 - torch.maximum(batch.terminated, batch.truncated)",
        ),
    ),
    *at(
        DQN_ATARI,
        "GreyFrames.observation",
        FRAMES_AND_RUNS,
        ("greys are cut off, not rounded", "frame.round()", "frame"),
        ("all colours are as bright", "image @ ...", "image.mean(dim=-1)"),
    ),
]

# ── the run, as far as it decides numbers ────────────────────────────────────────────────────────

RUN = [
    *at(
        ALL,
        "evaluate",
        RUNS,
        ("evaluation samples", "agent.act(envs.obs, explore=False)", "agent.act(envs.obs)"),
        (
            "evaluation plays other episodes each time",
            "envs.begin_all()",
            "envs.global_step = torch.seed() % 1000\nenvs.begin_all()",
        ),
        (
            "short episodes count more often",
            "episodes.setdefault(episode.env, episode)",
            "episodes.setdefault(len(episodes), episode)",
        ),
    ),
    *at(
        ALL,
        "Run.evaluate",
        RUNS + PEOPLE,
        ("evaluation draws from training's generators", "set_generators_state(generators)", "pass"),
    ),
    *at(
        ALL,
        "set_generators_state",
        RESUME,
        ("PyTorch's generator is not restored", "torch.set_rng_state(state['torch'])", "pass"),
    ),
    *at(
        ALL,
        "set_generators_state",
        RUNS,
        ("NumPy's generator is not restored", "np.random.set_state(...)", "None"),
    ),
    *at(
        ALL,
        "set_up",
        RUNS,
        ("networks and noise that nobody seeds", "torch.manual_seed(args.seed)", "torch.seed()"),
    ),
    *at(
        ALL,
        "Run.restore",
        RESUME,
        ("episodes under way are not replayed", "self.envs.replay()", "pass"),
        ("the memory's files are not read", "part.load_files(self.folder)", "pass"),
        (
            "optimizers begin anew",
            "load_state(part, state[name], f'--resume {self.folder}')",
            "if 'optimizer' not in name:\n    part.load_state_dict(state[name])",
        ),
    ),
    *at(
        ALL,
        "Run.open_logs",
        RESUME,
        (
            "episodes after the checkpoint are there twice",
            "self.episodes.truncate(size)",
            "pass",
        ),
    ),
    *at(
        ALL,
        "Run.evaluate",
        RUNS,
        ("best.pt is the worst", "... > best", "... < best"),
    ),
    *at(
        ALL,
        "Run.due",
        RUNS,
        (
            "nothing is due where steps pass it by",
            "self.step // every > self.previous_step // every",
            "self.step % every == 0",
        ),
    ),
    *at(
        ALL,
        "replacing",
        RESUME,
        ("a checkpoint is written in place", "new_path = ...", "new_path = path"),
    ),
    *at(
        ALL,
        "load_checkpoint",
        RESUME,
        ("a stranger's checkpoint runs its code", "weights_only=True", "weights_only=False"),
    ),
    *at(
        ALL + DISCRETE,
        "set_up",
        RUNS,
        ("networks have one seed", "torch.manual_seed(args.seed)", "torch.manual_seed(1)"),
    ),
    *at(
        ALL,
        "summary",
        RUNS,
        ("the median", "returns.mean()", "np.median(returns)"),
        ("the deviation of a sample", "returns.std()", "returns.std(ddof=1)"),
        (
            "the longest episode",
            "np.mean([episode.length for episode in episodes])",
            "np.max([episode.length for episode in episodes])",
        ),
        ("a success of all episodes", "np.mean(successes)", "(sum(successes) / np.float64(3))"),
    ),
]

# ── people's tasks and habits ────────────────────────────────────────────────────────────────────

PEOPLES_WAYS = [
    *at(
        ALL,
        "make_env",
        PEOPLE,
        (
            "every task must take a render_mode",
            "env = ...",
            "env = gym.make(args.env_id, render_mode='rgb_array', **args.env_kwargs)",
        ),
    ),
    *at(
        ALL,
        "make_vector_env",
        PEOPLE,
        ("an edited make_env is passed by", "env = make_env(args)", "env = gym.make(args.env_id)"),
    ),
    *at(
        ALL,
        "Task.__init__",
        PEOPLE,
        ("wrappers change no space", "env.observation_space", "env.unwrapped.observation_space"),
    ),
    *at(
        ALL,
        "Task.step",
        PEOPLE,
        ("all of info is kept", "kept = {}", "kept = dict(info)"),
        ("a reward that is no number", "to_number('reward', reward)", "reward"),
        (
            "step may return four values",
            "not isinstance(result, tuple) or len(result) != 5",
            "False",
        ),
    ),
    *at(
        ALL,
        "Task.reset",
        PEOPLE,
        (
            "reset may return no info",
            "not isinstance(result, tuple) or len(result) != 2",
            "False",
        ),
    ),
    *at(
        ALL,
        "Task.flat",
        PEOPLE,
        (
            "a Dict is an array",
            "not isinstance(self.task_space, gym.spaces.Box)",
            "False",
        ),
        (
            "an observation outside of its space is an IndexError",
            "(TypeError, ValueError, KeyError, IndexError)",
            "(TypeError, ValueError, KeyError)",
        ),
    ),
    *at(
        ALL,
        "must_fit",
        (
            "test_people_tasks.py::test_an_observation_outside_of_its_space_is_named",
            "test_people_tasks.py::"
            "test_observations_beyond_the_bounds_of_a_box_are_taken_as_they_are",
        ),
        ("observations of another shape than their space", "np.shape(obs) != ...", "False"),
        ("an observation that a discrete space lacks", "not space.contains(obs)", "False"),
        ("the parts of a Dict are not looked at", "must_fit(part, obs[name])", "pass"),
        ("a Tuple may be shorter", "strict=True", "strict=False"),
        ("the bounds of a Box must be kept", "np.shape(obs) != ...", "not space.contains(obs)"),
    ),
    *at(
        ALL,
        "WorkerTask.reset",
        (
            "test_people_tasks.py::"
            "test_tasks_that_draw_from_pytorch_differ_in_processes_of_their_own_and_resume_exactly",
        ),
        (
            "all processes draw the same numbers from PyTorch",
            "torch.manual_seed(options['seed'])",
            "pass",
        ),
    ),
    *at(
        ALL,
        "say",
        ("test_resume.py::test_a_stopped_run_is_saved_also_where_nobody_reads_what_it_says",),
        ("a reader who has gone ends the run", "OSError", "EOFError"),
    ),
    *at(
        ALL,
        "replacing",
        ("test_resume.py::test_dying_while_a_checkpoint_is_written_leaves_the_one_before",),
        ("a full disk is hidden by torch.save's error", "error.__context__", "error"),
    ),
    *at(
        ALL,
        "Environments.naming_the_step",
        ("test_resume.py::test_a_killed_process_of_an_environment_ends_the_run_with_a_line",),
        ("the answer of a killed process is awaited", "self.backend == 'async'", "False"),
    ),
    *at(
        ALL,
        "Environments.step",
        RESUME,
        ("tasks change the actions that are kept", "task_action.copy()", "task_action"),
    ),
    *at(
        ALL,
        "Environments.replay",
        RESUME,
        ("a replay changes the actions that it plays", "action.copy()", "action"),
    ),
    *at(
        ALL,
        "Environments.naming_the_step",
        PEOPLE,
        ("an error of the task says not when", "error.add_note(...)", "pass"),
    ),
    *at(
        ALL,
        "make_rendering_env",
        PEOPLE,
        (
            "the robot leaves the picture",
            "env.unwrapped.mujoco_renderer.camera_id = camera.id",
            "pass",
        ),
        (
            "the user's camera is replaced",
            "any(('camera' in name for name in args.env_kwargs))",
            "False",
        ),
    ),
    *at(
        ALL,
        "evaluate",
        PEOPLE,
        (
            "an evaluation has no end",
            "range(args.eval_max_steps)",
            "range(10 * args.eval_max_steps)",
        ),
    ),
    *at(
        ALL,
        "Run.evaluate",
        PEOPLE,
        ("two instances at a time", "self.envs.close()", "pass"),
        ("evaluations drop units out", "self.agent.eval()", "pass"),
        ("training is in evaluation mode", "self.agent.train()", "pass"),
    ),
    *at(
        ALL,
        "Run.save",
        PEOPLE,
        ("broken weights are saved", "not torch.isfinite(value).all()", "False"),
    ),
    *at(
        OFF_POLICY,
        "train",
        PEOPLE,
        ("--init-from begins at random", "learning or args.init_from", "learning"),
    ),
    *at(
        ALL,
        "Environments.open",
        PEOPLE,
        ("workers outlive one that cannot start", "worker.kill()", "pass"),
    ),
    *at(
        ALL,
        "set_up",
        RESUME,
        ("a resumed run takes any options", "check_unchanged(args)", "pass"),
    ),
    *at(
        ALL,
        "check_task",
        PEOPLE,
        (
            "the task that is looked at stays open",
            "contextlib.closing(env)",
            "contextlib.nullcontext(env)",
        ),
    ),
    *at(
        ALL,
        "check_spaces",
        COMMAND_LINE,
        ("actions need no bounds", "not np.isfinite(widths).all()", "False"),
        ("discrete actions have no home", "(SCRIPT.parent / 'discrete').is_dir()", "False"),
    ),
    *at(
        ALL,
        "check_video",
        COMMAND_LINE,
        (
            "a task without frames is a machine without a renderer",
            "'rgb_array' not in render_modes",
            "False",
        ),
    ),
    *at(
        ALL,
        "load_policy",
        PEOPLE,
        ("actions stay in [-1, 1]", "scale_action(...)", "action.numpy()"),
        ("observations of a Dict are not flattened", "task.flat(obs)", "obs"),
    ),
    *at(
        ALL,
        "load_agent",
        RUNS,
        (
            "the best policy is the last",
            "'best.pt' if best else 'checkpoint.pt'",
            "'checkpoint.pt'",
        ),
        ("the last policy is the best", "'best.pt' if best else 'checkpoint.pt'", "'best.pt'"),
    ),
    *at(
        ALL,
        "initialize",
        PEOPLE,
        ("another run's weights are not taken", "load_state(agent, weights, ...)", "pass"),
    ),
    *at(
        ALL,
        "note_changed_script",
        PEOPLE,
        (
            "a changed script is not noted",
            "original.read_bytes() != SCRIPT.read_bytes()",
            "False",
        ),
    ),
    *at(
        ALL,
        "make_folder",
        COMMAND_LINE,
        (
            "runs of the same second share a folder",
            "folder.mkdir()",
            "folder.mkdir(exist_ok=True)",
        ),
    ),
    *at(
        ALL,
        "command_to",
        COMMAND_LINE,
        (
            "paths with spaces cannot be pasted",
            "shlex.join(...)",
            "' '.join([script, *map(str, arguments)])",
        ),
        (
            "hints say python where uv runs",
            "'UV_RUN_RECURSION_DEPTH' in os.environ",
            "False",
        ),
    ),
    *at(
        ALL,
        "main",
        COMMAND_LINE,
        ("output must be UTF-8", "stream.reconfigure(...)", "pass"),
    ),
    *at(
        ALL,
        "main",
        PEOPLE,
        ("the current folder has no tasks", "sys.path.append(os.getcwd())", "pass"),
    ),
    *at(
        ALL,
        "check_training_args",
        COMMAND_LINE,
        (
            "any folder named wandb will do",
            "wandb is None or wandb.origin is None",
            "wandb is None",
        ),
    ),
    *at(
        ALL,
        "command_line",
        COMMAND_LINE,
        ("the docstring's lines flow together", "textwrap.indent(...)", "__doc__"),
    ),
    *at(
        ALL,
        "Run.__enter__",
        PEOPLE,
        ("handlers of signals stay", "self.to_close.callback(signal.signal, ..., ...)", "pass"),
    ),
    *at(
        ALL,
        "Run.request_stop",
        ENDS,
        (
            "a signal that comes twice ends a run unsaved",
            "signal.signal(each, signal.SIG_IGN)",
            "signal.signal(each, signal.SIG_DFL)",
        ),
        ("a second Ctrl-C is ignored", "signal.signal(signal.SIGINT, signal.SIG_DFL)", "pass"),
    ),
    *at(
        ALL,
        "Run.interruptible",
        ENDS,
        ("a signal as an evaluation begins is not heard", "self.stop_requested()", "False"),
    ),
    *at(
        ALL,
        "load_state",
        ENDS,
        (
            "a part's new entry ends in a KeyError",
            "(RuntimeError, ValueError, KeyError)",
            "(RuntimeError, ValueError)",
        ),
    ),
    *at(
        ALL,
        "main",
        ENDS,
        (
            "a full disk ends in a traceback",
            "error.errno not in (errno.ENOSPC, errno.EDQUOT)",
            "True",
        ),
    ),
    *at(
        ALL,
        "Task.step",
        PEOPLE,
        ("the user's own mistake is taken for a wrong return", "'gymnasium' in raised_in", "True"),
    ),
    *at(
        ALL,
        "Run.interruptible",
        REQUESTS,
        ("evaluations cannot be interrupted", "self.is_interruptible = True", "pass"),
    ),
    *at(
        ALL,
        "Run.restore",
        RESUME,
        (
            "an extended run is silent on its learning rate",
            "state['total_timesteps'] != self.args.total_timesteps",
            "False",
        ),
    ),
    *at(
        ALL,
        "Run.finish",
        RESUME,
        ("a finished run ends again without a word", "self.first_step == self.step", "False"),
        (
            "a request to stop makes an evaluation when the run goes on",
            "last_evaluated != self.step and not self.stop_requested()",
            "last_evaluated != self.step",
        ),
    ),
    *at(
        ALL,
        "Run.evaluate",
        RUNS,
        (
            "evaluations are not on the console",
            "say(f'evaluation at step {self.step}: {describe(result)}')",
            "pass",
        ),
    ),
    *at(
        ALL,
        "Run.log",
        RUNS,
        ("no chart of the learning rate", "optimizers = ...", "optimizers = []"),
    ),
    *at(
        OFF_POLICY,
        "warn_if_larger_than_ram",
        PEOPLE,
        ("a memory may be too large for the machine", "say(...)", "pass"),
    ),
]

# what people change in copies must not break on them
COPIED_AND_EDITED = [
    *at(
        ALL,
        "as_declared",
        RESUME,
        ("several numbers are not restored", "tuple(value)", "value"),
    ),
    *at(
        ALL,
        "as_declared",
        COPIES,
        ("lists come back as tuples", "get_origin(option.type) is tuple", "True"),
        ("paths come back as text", "Path(value)", "value"),
    ),
    *at(
        ALL,
        "Run.evaluate",
        COPIES,
        ("dropout goes on", "self.agent.eval()", "pass"),
    ),
    *at(
        ALL,
        "load_agent",
        COPIES,
        ("dropout goes on after training", "agent.eval()", "agent"),
    ),
    *at(
        ALL,
        "Run.save",
        COPIES,
        ("a part may hold what cannot be loaded", "must_be_loadable(file.name)", "pass"),
    ),
    *at(
        ALL,
        "Run.restore",
        COPIES,
        ("a new part is looked for in an older run", "name not in state", "False"),
    ),
    *at(
        ALL,
        "Run.start",
        COPIES,
        (
            "a scheduler is not saved",
            "{'envs': envs, 'agent': agent, **parts}",
            "{'envs': envs, 'agent': agent} "
            "| {name: parts[name] for name in parts if name != 'scheduler'}",
        ),
    ),
    *at(
        OFF_POLICY,
        "ReplayBuffer.__init__",
        COPIES,
        (
            "the memory has single precision",
            "like.new_empty(...)",
            "torch.empty(capacity, sum(widths))",
        ),
    ),
    *at(
        OFF_POLICY,
        "Agent.act",
        COPIES,
        (
            "observations have single precision",
            "obs.to(self.actor_parameters[0])",
            "obs.to(self.actor_parameters[0].device)",
        ),
    ),
]

MUTANTS = [
    *OPTIONS,
    *ENVIRONMENTS,
    *MEMORY,
    *NETWORKS,
    *ADVANTAGES,
    *ON_POLICY_AGENTS,
    *OFF_POLICY_AGENTS,
    *TRAINING,
    *DISCRETE_MATH,
    *FRAMES,
    *RUN,
    *PEOPLES_WAYS,
    *COPIED_AND_EDITED,
]

# ── finding and changing the code ────────────────────────────────────────────────────────────────


class NotFound(Exception):
    """A mistake that has no place in a script as it is now."""


@functools.cache
def parsed(text):
    return ast.parse(text)


def definition(text, name):
    """The function, class or method of this name, such as "Agent.act"."""
    node = parsed(text)
    for part in name.split("."):
        children = [child for child in node.body if getattr(child, "name", None) == part]
        if len(children) != 1:
            raise NotFound(f"there are {len(children)} definitions of {name}")
        node = children[0]
    return node


def line_of(label, lines, node):
    """The number of the line with the label in its comment."""
    numbers = []
    for number in range(node.lineno, node.end_lineno + 1):
        comment = lines[number - 1].partition("#")[2]
        if f"[{label}]" in comment:
            numbers.append(number)
    if len(numbers) != 1:
        raise NotFound(f"{len(numbers)} lines carry the label [{label}]")
    return numbers[0]


def is_hole(pattern):
    return isinstance(pattern, ast.Constant) and pattern.value is Ellipsis


def has_structure(pattern, node, holes):
    """Whether the node is what the pattern says. `holes` gets the nodes that each `...` is."""
    if is_hole(pattern):
        holes.append([node])
        return isinstance(node, ast.expr)
    if isinstance(pattern, list):
        if not isinstance(node, list) or len(pattern) != len(node):
            return False
        return all(has_structure(*pair, holes) for pair in zip(pattern, node, strict=True))
    if not isinstance(pattern, ast.AST):
        return pattern == node
    if type(pattern) is not type(node):
        return False
    if isinstance(pattern, ast.Call) and [is_hole(each) for each in pattern.args] == [True]:
        holes.append([*node.args, *node.keywords])  # f(...): all arguments
        return len(holes[-1]) > 0 and has_structure(pattern.func, node.func, holes)
    for name, value in ast.iter_fields(pattern):
        if name not in ("ctx", "kind", "type_comment"):
            if not has_structure(value, getattr(node, name), holes):
                return False
    return True


def patterns_of(old, new):
    """What to look for: an expression, a statement, a keyword argument, in this order."""
    statement = ast.parse(old).body[0]
    patterns = [statement]
    if isinstance(statement, ast.Expr) and is_expression(new):
        patterns = [statement.value]
    elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        patterns.append(ast.keyword(arg=statement.targets[0].id, value=statement.value))
    return patterns


def is_expression(code):
    try:
        ast.parse(code, mode="eval")
    except SyntaxError:
        return False
    return True


class Text:
    """A script's text, from which pieces are cut by the places of nodes, which count bytes."""

    def __init__(self, text):
        self.bytes = text.encode()
        self.starts = [0]
        for line in self.bytes.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def start(self, node):
        return self.starts[node.lineno - 1] + node.col_offset

    def end(self, node):
        return self.starts[node.end_lineno - 1] + node.end_col_offset

    def of(self, nodes):
        text = self.bytes[self.start(nodes[0]) : self.end(nodes[-1])].decode()
        return f"({text})" if len(nodes) == 1 and isinstance(nodes[0], ast.expr) else text

    def replaced(self, node, new):
        new = new.encode()
        return (self.bytes[: self.start(node)] + new + self.bytes[self.end(node) :]).decode()


def mutated(text, mutant):
    """The script's text with the mistake."""
    name, _, label = mutant.place.partition(" ")
    place = definition(text, name)
    nodes = list(ast.walk(place))
    if label:
        number = line_of(label.strip("[]"), text.splitlines(), place)
        nodes = [
            node
            for node in nodes
            if hasattr(node, "lineno") and node.lineno <= number <= node.end_lineno
        ]
    found = []
    for pattern in patterns_of(mutant.old, mutant.new):
        for node in nodes:
            holes = []
            if not found or type(pattern) is type(found[0][0]):
                if has_structure(pattern, node, holes):
                    found.append((node, holes))
    if len(found) != 1:
        raise NotFound(f"{len(found)} times there: {mutant.old}")
    node, holes = found[0]
    source = Text(text)
    new = mutant.new
    for hole in holes:
        new = new.replace("...", source.of(hole), 1)
    if isinstance(node, ast.stmt):
        new = textwrap.indent(new, " " * node.col_offset).strip()
    elif isinstance(node, ast.expr):
        new = f"({new})"
    return source.replaced(node, new)


# ── trials ───────────────────────────────────────────────────────────────────────────────────────


def copy_repository(folder):
    for path in [*ROOT.glob("*.py"), ROOT / "pyproject.toml"]:
        shutil.copy(path, folder)
    for name in ("tests", "discrete"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))


def run_tests(folder, arguments):
    """The tests that failed; an exception where they could not run. None: they did not end."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "--tb=no", "-rfE"]
    process = subprocess.Popen(
        [*command, "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said = process.communicate(timeout=LONGEST)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None
    if process.returncode not in (0, 1):
        raise RuntimeError(f"the tests could not run: {said}")
    return re.findall(r"^(?:FAILED|ERROR) tests/(\S+?::.+?)(?: - .*)?$", said, re.MULTILINE)


def tested(scripts):
    """What the names of tests of these scripts have in them.

    Of text that all share one of each kind is enough, as in the tests themselves.
    """
    if set(scripts) <= set(DISCRETE):
        return ("test_discrete", "dqn")  # all of test_discrete.py and of test_dqn_atari.py too
    return ("a2c", "td3") if scripts == ALL else scripts


def caught_by(mutant, test_before):
    """The test that fails, or "", and what happened. `test_before` caught it before, if any did."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_repository(folder)
        for script in mutant.scripts:
            text = (folder / f"{script}.py").read_text()
            (folder / f"{script}.py").write_text(mutated(text, mutant))
        if test_before not in (None, NOTHING):
            with contextlib.suppress(RuntimeError):  # it may have another name now
                if run_tests(folder, [f"tests/{test_before}"]):
                    return test_before, test_before
        arguments = ["-x", *(f"tests/{test}" for test in mutant.tests)]
        names = [Path(script).name for script in ALL + DISCRETE]
        of_these = " or ".join(tested(mutant.scripts))
        of_none = f"not ({' or '.join(names)})"  # tests that do not say of which script they are
        chosen = f"({of_these} or {of_none})"
        if mutant.tests != REQUESTS:
            # they know nothing of numbers, and fail where the machine is busy
            chosen += " and not request"
        arguments += ["-k", chosen]
        failed = run_tests(folder, arguments)
    if failed is None:
        return "", f"SURVIVES: no end after {LONGEST} s"
    if not failed:
        return "", "SURVIVES"
    return failed[0], failed[0]


def fail_anyway(tests):
    """Those of the tests that fail without any mistake: they have caught nothing."""
    with tempfile.TemporaryDirectory() as name:
        copy_repository(Path(name))
        return run_tests(Path(name), [f"tests/{test}" for test in tests])


def trials(mutants):
    """One for each mistake and script; one for all scripts that have the same text at its place.

    Raises NotFound, with a line for each, where mistakes have no place in the scripts.
    """
    texts = {script: (ROOT / f"{script}.py").read_text() for script in ALL + DISCRETE}
    found = []
    errors = []
    for mutant in mutants:
        groups = {}
        for script in mutant.scripts:
            try:
                place = definition(texts[script], mutant.place.partition(" ")[0])
                groups.setdefault(ast.dump(place), []).append(script)
            except NotFound as error:
                errors.append(f"{script}.py: {mutant}: {error}")
        for scripts in groups.values():
            trial = mutant._replace(scripts=tuple(scripts))
            found.append(trial)
            try:
                compile(mutated(texts[scripts[0]], trial), scripts[0], "exec")
            except (NotFound, SyntaxError) as error:
                errors.append(f"{trial}: {error}")
    if errors:
        raise NotFound("\n".join(errors))
    return found


def try_all(mutants, jobs, known):
    """{mutant: the test that caught it, or ""} of those that were tried before Ctrl-C."""
    began = time.monotonic()
    tests = {}
    pool = ThreadPoolExecutor(jobs)
    futures = {
        pool.submit(caught_by, mutant, known.get(row_of(mutant))): mutant for mutant in mutants
    }
    try:
        for future in as_completed(futures):
            mutant = futures[future]
            tests[mutant], outcome = future.result()
            seconds = time.monotonic() - began
            left = seconds / len(tests) * (len(mutants) - len(tests)) / 60
            progress = f"{len(tests)}/{len(mutants)}, {left:.0f} min left"
            print(f"{progress}: {mutant}: {outcome}", flush=True)
    except KeyboardInterrupt:
        print("stopped; the trials that run now are lost")
    finally:
        pool.shutdown(cancel_futures=True)
    return tests


def row_of(mutant):
    """What names a mistake in the table."""
    return (name_of(mutant.scripts), f"`{mutant.place}`", mutant.mistake)


def read_table():
    """{row: the test that caught the mistake, or NOTHING} of earlier runs."""
    rows = {}
    if TABLE.exists():
        for line in TABLE.read_text().splitlines():
            *row, test = line.strip("| ").split(" | ")
            if "::" in test or test == NOTHING:
                rows[tuple(row)] = test
    return rows


def write_table(known):
    mutants = trials(MUTANTS)
    rows = [row_of(mutant) for mutant in mutants]
    caught = sum("::" in known.get(row, "") for row in rows)
    lines = [
        "# Mistakes put back into the scripts, and the tests that notice them",
        "",
        f"Made by `python tests/mutants.py`: {caught} of {len(mutants)} are caught.",
        "",
        "| script | place | mistake | caught by |",
        "|---|---|---|---|",
    ]
    for row in rows:
        lines.append(f"| {' | '.join(row)} | {known.get(row, 'not tried yet')} |")
    TABLE.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="mistakes whose line of output contains this")
    parser.add_argument("--new", action="store_true", help="those that the table has no test for")
    parser.add_argument("--jobs", type=int, default=2, help="trials side by side")
    parser.add_argument("--check", action="store_true", help="only look whether all are found")
    args = parser.parse_args()
    known = read_table()
    mutants = [trial for trial in trials(MUTANTS) if args.only in str(trial)]
    if args.new:
        mutants = [trial for trial in mutants if "::" not in known.get(row_of(trial), "")]
    print(f"{len(mutants)} mistakes, each with its place in the scripts")
    if args.check:
        return
    tests = try_all(mutants, args.jobs, known)
    survivors = [mutant for mutant, test in tests.items() if not test]
    for mutant in survivors:
        print(f"survives: {mutant}")
    catching = sorted(filter(None, set(tests.values())))
    failed = fail_anyway(catching) if catching else []
    for test in failed:
        print(f"fails without any mistake: {test}")
    for mutant, test in tests.items():
        known[row_of(mutant)] = NOTHING if test in failed else test or NOTHING
    write_table(known)
    print(f"{len(tests) - len(survivors)} of {len(mutants)} caught")
    if survivors or failed or len(tests) < len(mutants):
        sys.exit(1)


if __name__ == "__main__":
    main()
