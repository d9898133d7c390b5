"""Puts well-known mistakes back into the scripts, one at a time, and requires that a test fails.

    python tests/mutants.py [-j JOBS] [--likely] [words of names ...]

Each mistake goes into a copy of the repository, where the fast tests run, likely ones first; test_source.py does not
count, since its "same text everywhere" would catch anything. Exit status 1 if a mistake survives. Without words,
writes tests/mutants.md."""
import argparse
import contextlib
import io
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]
ON, OFF = ["reinforce", "a2c", "ppo_continuous"], ["ddpg", "td3"]
AC, PPO, ALL = ["a2c", "ppo_continuous"], ["ppo_continuous"], ON + OFF
AUDIT, RUNS, PLUMBING = ([f"test_{name}.py"] for name in ("audit", "runs", "plumbing"))
MATH = ["test_math_on_policy.py", "test_math_off_policy.py"]

# what is wrong, pitfall (of the list that the project keeps) or "", scripts, old text, new text, the likely tests
MUTANTS = [
    # the policy gradient
    ("log-probability: squares not halved", "", ON, "z**2 / 2 +", "z**2 +"),
    ("log-probability: log σ with the wrong sign", "", ON, "+ self.log_std +", "- self.log_std +"),
    ("log-probability: mean over dimensions", "", ON, "/ 2).sum(-1) ", "/ 2).mean(-1)"),
    ("returns run over episode ends", "2", ON, "discount * (1 - done.flip(0))", "discount * (1 - 0 * done)"),
    ("returns run over truncations", "2", ["reinforce"], "(reward, done, self.args", "(reward, terminated, self.args"),
    ("returns are not discounted", "", ["reinforce"], "done, self.args.gamma)", "done, 1)"),
    ("REINFORCE descends the return", "", ["reinforce"], "loss = -(self", "loss = (self"),
    ("baseline of the current batch", "", ["reinforce"], "return_ - self.baseline.mean", "return_ - return_.mean()"),
    ("baseline added", "", ["reinforce"], "return_ - self.baseline.mean", "return_ + self.baseline.mean"),
    ("baseline learns from incomplete episodes", "", ["reinforce"], "return_[first > 0]", "return_"),
    ("incomplete episodes count", "", ["reinforce"], "advantage * first)", "advantage)"),
    ("mean over steps in place of their sum", "", ["reinforce"], ".sum(0).mean()", ".mean()"),
    # advantages
    ("a time limit is death", "1", AC, "(1 - terminated) * next_value", "(1 - done) * next_value"),
    ("death is no end", "1", AC, "(1 - terminated) * next_value", "next_value"),
    ("advantages run over truncations", "2", AC, "(delta, done, gamma", "(delta, terminated, gamma"),
    ("λ forgotten", "", AC, "gamma * gae_lambda)", "gamma)"),
    ("γ forgotten in δ", "", AC, "reward + gamma *", "reward +"),
    ("λ and γ swapped", "", AC, "self.args.gamma, self.args.gae_lambda)", "self.args.gae_lambda, self.args.gamma)"),
    ("critic's aim from the successor's value", "", AC, "advantage + value ", "advantage + next_value "),
    ("critic's aim is the advantage", "", AC, "return advantage, advantage + value", "return advantage, advantage"),
    ("values are not of the successor but of the state", "", AC, "self.obs_norm(next_obs)", "x"),
    # actor and critic
    ("A2C descends the advantage", "", ["a2c"], "actor_loss = -(self", "actor_loss = (self"),
    ("gradient through the critic's aim", "", AC, "value, next_value = self.critic(x).detach()",
     "value, next_value = self.critic(x)"),
    ("gradient through the successor's value", "", ["a2c"], "(next_obs)).detach()", "(next_obs))"),
    ("gradient through the old log-probability", "", PPO, "old_log_prob = self.actor.log_prob(x, action).detach()",
     "old_log_prob = self.actor.log_prob(x, action)"),
    ("critic's loss without the critic", "", AC, "mse_loss(self.critic(x), return_)", "mse_loss(value, return_)"),
    ("critic's weight ignored", "", AC, "self.args.vf_coef * critic_loss", "critic_loss"),
    ("entropy lowered", "", AC, "- self.args.ent_coef * entropy", "+ self.args.ent_coef * entropy"),
    ("entropy without e", "", AC, "2 * math.pi * math.e)", "2 * math.pi)"),
    ("values [T, N, 1]", "19", AC, ", nn.Flatten(-2))", ")"),
    ("gradient's norm unbounded", "", ON, ".clamp(max=1)", ".clamp(min=1, max=1)"),
    ("gradients pile up", "", ALL, "torch.autograd.grad(loss, optimizer.parameters)",
     "(loss.backward(), [p.grad for p in optimizer.parameters])[1]", MATH),
    ("the optimizer steps a copy", "", ALL, "nn.utils.vector_to_parameters(self.vector, self.parameters)",
     "pass", MATH),
    # PPO
    ("ratio upside down", "", PPO, "log_ratio := self.actor.log_prob(x, action) - old_log_prob)",
     "log_ratio := old_log_prob - self.actor.log_prob(x, action))"),
    ("approx_kl from the ratio, which may underflow", "", PPO, "ratio - 1 - log_ratio)", "ratio - 1 - ratio.log())"),
    ("approx_kl without what makes it positive", "", PPO, "(ratio - 1 - log_ratio)", "(-log_ratio)"),
    ("the better of the two", "", PPO, "-torch.min(ratio", "-torch.max(ratio"),
    ("no clip", "", PPO, "torch.min(ratio * advantage, clipped * advantage)", "(ratio * advantage)"),
    ("clip without the minimum", "", PPO, "torch.min(ratio * advantage, clipped * advantage)", "(clipped * advantage)"),
    ("clip above only", "", PPO, "ratio.clamp(1 - self.args.clip_coef,", "ratio.clamp(0,"),
    ("PPO descends the advantage", "", PPO, "actor_loss = -torch", "actor_loss = torch"),
    ("normalizer moves between old and new", "9", PPO, "batch = [column.",
     "self.obs_norm.learn(obs); x = self.obs_norm(obs); batch = [column."),
    ("networks learn from what is not normalised", "", ON, "x = self.obs_norm(obs)\n        done",
     "x = obs\n        done"),
    ("normalizer moves while acting", "9", PPO, "mean = self.actor(obs)",
     "self.obs_norm.learn(obs); mean = self.actor(obs)"),
    ("normalizer learns every pass", "", PPO, "            if self.args.target_kl and",
     "            self.obs_norm.learn(obs)\n            if self.args.target_kl and"),
    ("rows drawn with replacement", "", PPO, "torch.randperm(len(batch[0]))",
     "torch.randint(len(batch[0]), (len(batch[0]),))"),
    ("the same order every pass", "", PPO, "torch.randperm(", "torch.arange("),
    ("one step a pass", "", PPO, "\n                self.optimizer.step()", "\n            self.optimizer.step()"),
    ("only half of the minibatches", "", PPO, ".chunk(self.args.num_minibatches)",
     ".chunk(self.args.num_minibatches)[::2]"),
    ("advantages scaled in each minibatch", "17", PPO, "ratio = (log_", "advantage = (advantage - advantage.mean()) / "
     "(advantage.std() + 1e-8) if self.args.norm_adv else advantage; ratio = (log_"),
    ("advantages not centred", "", PPO, "(advantage - advantage.mean()) /", "advantage /"),
    ("target_kl ends all at once", "", PPO, "approx_kl\"] > self.args.target_kl", "approx_kl\"] < self.args.target_kl"),
    ("compiled is what acts", "31", ["reinforce"], "agent.actor.log_prob = torch.compile(agent.actor.log_prob)",
     "agent.actor.compile()", ["test_compile.py"]),
    ("losses and gradients compiled apart", "31", ["a2c"], "torch._dynamo.config.trace_autograd_ops, agent",
     "_, agent", ["test_compile.py"]),
    ("statistics break the graph", "31", ["a2c"], "self.mean.add_(weight * delta)", "self.mean += weight * delta",
     ["test_compile.py"]),
    ("losses leave the graph with a history", "31", ["a2c"], "actor_loss.detach()", "actor_loss", ["test_compile.py"]),
    # acting and normalising, on-policy
    ("the action that is learned from is clipped", "13", ON,
     "return mean + self.actor.log_std.exp() * torch.randn_like(mean)",
     "return (mean + self.actor.log_std.exp() * torch.randn_like(mean)).clamp(-1, 1)"),
    ("σ² in place of σ", "", ON, "log_std.exp() * torch.randn_like(mean)",
     "log_std.exp() ** 2 * torch.randn_like(mean)"),
    ("one noise for all environments", "10", ON, "torch.randn_like(mean)",
     "torch.randn(self.actor.log_std.shape)"),
    ("statistics are not saved", "7", ON, "= map(nn.Buffer, (",
     "= map(functools.partial(nn.Buffer, persistent=False), ("),
    ("statistics of one environment only", "8", AC, "self.obs_norm.learn(obs)", "self.obs_norm.learn(obs[:, :1])"),
    ("the normalizer learns from whatever it sees", "25", ON, "return ((x - self.mean)",
     "self.learn(x); return ((x - self.mean)"),
    ("variance without the distance of means", "", ON, " + (1 - weight) * delta**2", ""),
    ("normalizer never learns", "", ON, "self.obs_norm.learn(obs)", "pass"),
    ("the reward scale runs over episode ends", "4", ON, "zip(reward, 1 - done)", "zip(reward, 1 - 0 * done)"),
    ("the reward scale runs over truncations", "4", ON, "self.scale_reward(reward, done)",
     "self.scale_reward(reward, terminated)"),
    ("rewards are centred", "", ON, "return reward / (self.var", "return (reward - self.mean) / (self.var"),
    ("rewards are not scaled", "", ON, "return reward / (self.var + 1e-8).sqrt()", "return reward"),
    ("the learning rate does not fall", "", ON, "args.anneal_lr * envs.global_step", "args.anneal_lr * 0"),
    ("the learning rate falls in --num-envs times the time", "14", ON, "envs.global_step / args.total_timesteps",
     "envs.global_step / args.num_envs / args.total_timesteps"),
    ("nothing is trained, nothing said", "18", ON, "yield batch_steps(a) <= a.total_timesteps", "yield True"),
    ("optimizer not saved", "23", ON, "agent=agent, optimizer=agent.optimizer)", "agent=agent)", PLUMBING),
    # DDPG and TD3
    ("a time limit is death", "1", OFF, "_, _, reward, next_obs, terminated, _ = batch",
     "_, _, reward, next_obs, *ends = batch; terminated = torch.maximum(*ends)"),
    ("death is no end", "1", OFF, "(1 - terminated) * next_q", "next_q"),
    ("γ forgotten", "", OFF, "args.gamma * (1 - terminated)", "(1 - terminated)"),
    ("target with the actor that learns", "", OFF, "target_q(self.actor_target,", "target_q(self.actor,"),
    ("target with the critic that learns", "", OFF, ".actor_target, self.critic_target, batch",
     ".actor_target, self.critic, batch"),
    ("target's action at the state", "", OFF, "actor_target(next_obs)", "actor_target(batch.obs)"),
    ("target's value at the state", "", OFF, "critic_target(next_obs,", "critic_target(batch.obs,"),
    ("gradient through the target", "", OFF, "@torch.no_grad()\ndef target_q", "def target_q"),
    ("the larger of the twins", "", ["td3"], "torch.min(next_q1", "torch.max(next_q1"),
    ("mean of the twins", "", ["td3"], "torch.min(next_q1, next_q2)", "(next_q1 + next_q2) / 2"),
    ("minimum of two critics in DDPG", "16", ["ddpg"], "critic_target(next_obs, next_action) ",
     "torch.min(critic_target(next_obs, next_action), critic_target(next_obs, -next_action)) "),
    ("noise not clipped", "", ["td3"], ".clamp(-args.noise_clip, args.noise_clip)", ""),
    ("noise clipped before it is scaled", "", ["td3"],
     "(args.policy_noise * torch.randn_like(next_action)).clamp(-args.noise_clip, args.noise_clip)",
     "args.policy_noise * torch.randn_like(next_action).clamp(-args.noise_clip, args.noise_clip)"),
    ("target's action not clamped", "12", ["td3"], "(next_action + noise).clamp(-1, 1)", "(next_action + noise)"),
    ("target's action clamped before the noise", "12", ["td3"], "(next_action + noise).clamp(-1, 1)",
     "next_action.clamp(-1, 1) + noise"),
    ("noise subtracted", "", ["td3"], "(next_action + noise)", "(next_action - noise)"),
    ("one noise for the batch", "10", ["td3"], "torch.randn_like(next_action)", "torch.randn_like(next_action[:1])"),
    ("noise on the actor's action", "", ["td3"], "self.actor(batch.obs)).mean()",
     "self.actor(batch.obs) + 0.2 * torch.randn_like(batch.action)).mean()"),
    ("only one twin learns", "", ["td3"], " + nn.functional.mse_loss(q2, y)", ""),
    ("half of the squared error", "", ["td3"], "mse_loss(q1, y) + nn.functional.mse_loss(q2, y)",
     "mse_loss(q1, y) / 2 + nn.functional.mse_loss(q2, y) / 2"),
    ("twins that start equal", "", ["td3"], "self.q1, self.q2 = Critic(*sizes), Critic(*sizes)",
     "self.q1 = Critic(*sizes); self.q2 = copy.deepcopy(self.q1)"),
    ("the actor climbs the second twin", "", ["td3"], "-self.critic.q1(batch", "-self.critic.q2(batch"),
    ("critics that never step", "", OFF, "self.critic_optimizer.step()", "pass"),
    ("an actor that never steps", "", OFF, "self.actor_optimizer.step()", "pass"),
    ("the actor descends", "", OFF, "actor_loss = -self", "actor_loss = self"),
    ("the actor climbs the target critic", "", ["ddpg"], "-self.critic(batch", "-self.critic_target(batch"),
    ("the actor climbs the target critic", "", ["td3"], "-self.critic.q1(batch", "-self.critic_target.q1(batch"),
    ("the actor climbs at the successor", "", OFF, "self.actor(batch.obs)).mean()",
     "self.actor(batch.next_obs)).mean()"),
    ("the actor's optimizer holds the critic too", "21", OFF, "Adam(self.actor,",
     "Adam(nn.ModuleList([self.actor, self.critic]),"),
    ("the actor's loss leaves gradients in the critic", "20", OFF, "torch.autograd.grad(loss, optimizer.parameters)",
     "(optimizer.zero_grad(), loss.backward(), [p.grad.clone() for p in optimizer.parameters])[2]"),
    ("τ swapped", "", OFF, "slow.lerp_(new, tau)", "slow.lerp_(new, 1 - tau)"),
    ("the critic's target stays", "", OFF, "polyak(self.critic, self.critic_target, self.args.tau)", "pass"),
    ("the actor's target stays", "", OFF, "polyak(self.actor, self.actor_target, self.args.tau)", "pass"),
    ("averaging the wrong way", "", OFF, "polyak(self.actor, self.actor_target,",
     "polyak(self.actor_target, self.actor,"),
    ("targets are the networks themselves", "", OFF, "copy.deepcopy(self.actor), copy.deepcopy(self.critic)",
     "self.actor, self.critic"),
    ("no delay", "", ["td3"], "if update % self.args.policy_frequency == 0:", "if True:"),
    ("the delay counts environment steps", "15", ["td3"], "range(envs.global_step - args.num_envs, envs.global_step)",
     "[envs.global_step] * args.num_envs"),
    ("the delay leaves the targets out", "", ["td3"], "if update % self.args.policy_frequency == 0:",
     "polyak(self.critic, self.critic_target, self.args.tau)\n        if update % self.args.policy_frequency == 0:"),
    ("DDPG with a delayed actor", "16", ["ddpg"], "self.actor_optimizer.step()",
     "self.n = getattr(self, 'n', 0) + 1; self.n % 2 or self.actor_optimizer.step()"),
    ("one update for all environments", "14", ["td3"], "range(envs.global_step - args.num_envs,",
     "range(envs.global_step - 1,"),
    ("one update for all environments", "14", ["ddpg"], "range(args.num_envs if learning", "range(1 if learning"),
    ("one noise for all environments", "10", OFF, "torch.randn_like(action))", "torch.randn_like(action[:1]))"),
    ("exploration beyond the bounds", "", OFF, "torch.randn_like(action)).clamp(-1, 1)", "torch.randn_like(action))"),
    ("first actions from half of the range", "", OFF, "2 * torch.rand(", "torch.rand("),
    ("no random actions at first", "23", OFF, "envs.global_step >= args.learning_starts", "True"),
    ("batches from rows that were never written", "", OFF, "torch.randint(min(self.total, len(self.rows)),",
     "torch.randint(len(self.rows),"),
    ("the memory stops when full", "", OFF, "device=rows.device) % len(self.rows)] = rows",
     "device=rows.device).clamp(max=len(self.rows) - 1)] = rows"),
    ("values [B, 1]", "19", OFF, "dim=-1)).squeeze(-1)", "dim=-1))"),
    ("rewards [B, 1]", "19", OFF, "reward.squeeze(1)", "reward"),
    ("memory not saved", "23", OFF, "memory=memory, agent=agent", "agent=agent", PLUMBING),
    ("critic's optimizer not saved", "23", OFF, ",\n              critic_optimizer=agent.critic_optimizer)",
     ")", PLUMBING),
    ("the run goes past its end", "14", OFF, "run.goes_on(metrics, args.num_envs)", "run.goes_on(metrics)", PLUMBING),
    ("memory read back in pieces that overlap", "23", OFF, ", 8192, len(self.rows))", ", 8192)", PLUMBING),
    ("the last step is not learned from", "18", OFF, "a.learning_starts <= last",
     "a.learning_starts < last", PLUMBING),
    # what all five share, the same text in each
    ("step counts calls, not environments", "14", ALL, "self.global_step + len(action)", "self.global_step + 1", AUDIT),
    ("the next episode's first observation as successor", "3", ALL, 'autoreset_mode="Disabled"',
     'autoreset_mode="SameStep"', AUDIT),
    ("successor taken after the reset", "6", ALL, "        return transition\n",
     "        return transition._replace(next_obs=self.obs)\n", AUDIT),
    ("truncated told as terminated", "1", ALL, "(obs, reward, terminated, truncated)",
     "(obs, reward, terminated | truncated, truncated)", AUDIT),
    ("terminated hides truncated", "5", ALL, "(obs, reward, terminated, truncated)",
     "(obs, reward, terminated, truncated & ~terminated)", AUDIT),
    ("truncation read off a step counter", "5", ALL, "(obs, reward, terminated, truncated)",
     "(obs, reward, terminated, self.lengths == 999)", AUDIT),
    ("the executed action is stored", "13", ALL, "Transition(self.obs, action,",
     "Transition(self.obs, torch.tensor(self.actions[-1]).float().flatten(1),", AUDIT),
    ("reward of the row before", "6", ALL, "(obs, reward, terminated, truncated)",
     "(obs, np.roll(reward, 1), terminated, truncated)", AUDIT),
    ("the first dimension's bounds for all", "11", ALL, ".astype(self.box.dtype), self.box",
     ".astype(self.box.dtype), gym.spaces.Box(self.box.low.flat[0], self.box.high.flat[0], self.box.shape)", AUDIT),
    ("actions are not rescaled", "11", ALL, "(unit + 1) / 2 * (box", "(unit + 1) * (box", AUDIT),
    ("actions are not clipped", "13", ALL,
     ".clip(box.low, box.high)", "", AUDIT),
    ("environments that nobody seeded", "22", ALL, "seed=self.seeds.tolist(), options", "options", RUNS),
    ("the same seed in all environments", "22", ALL, "generate_state(len(new))[new]", "generate_state(1)[0]", AUDIT),
    ("the same seed for every episode", "22", ALL, "[*self.entropy, self.global_step]", "self.entropy", AUDIT),
    ("evaluation samples", "25", ALL, "envs.step(actor(envs.obs))",
     "envs.step(actor(envs.obs) + 0.1 * torch.randn(envs.action_size))", PLUMBING),
    ("evaluation plays other episodes each time", "25", ALL, "Environments(args, args.eval_episodes, 1, video",
     "Environments(args, args.eval_episodes, step + 1, video", PLUMBING),
    ("evaluation counts long episodes less", "", ALL, "for i, _, *episode in reversed(envs.finished)",
     "for i, (_, _, *episode) in enumerate(envs.finished[:args.eval_episodes])", PLUMBING),
    ("generator not restored", "23", ALL, 'torch.set_rng_state(state["rng"])', "pass", PLUMBING),
    ("schedule starts anew", "23", ALL, 'self.global_step, self.actions = state["global_step"], list(',
     "self.actions = list(", PLUMBING),
    ("episodes under way are forgotten", "24", ALL, "obs, _, terminated, truncated, _ = self.envs.step(action)",
     "obs, _, terminated, truncated, _ = self.envs.step(0 * action)", PLUMBING),
    ("points at the checkpoint's step are hidden", "23", ALL, "purge_step=self.step + 1 or None",
     "purge_step=max(self.step, 0) or None", PLUMBING),
    ("evaluated policy called by the checkpoint's step", "", ALL, 'args, last["step"]',
     'args, state["step"]', PLUMBING),
    ("a run ends where it began, and says that it did not learn", "", ALL, "metrics or self.args.resume", "metrics",
     PLUMBING),
    ("a run cannot leave its device", "", ALL, '"device", "num_threads"', '"num_threads"', ["test_command_line.py"]),
    ("a run cannot change its threads", "", ALL, '"num_threads", "run_dir"', '"run_dir"', ["test_resume.py"]),
    ("no hidden layers, no run", "", ALL, "hidden_sizes, default=0)", "hidden_sizes)", ["test_command_line.py"]),
    ("checkpoint written in place", "26", ALL, 'self.path.with_suffix(".tmp")', "self.path", PLUMBING),
    ("a stranger's code is run", "27", ALL, '"cpu", weights_only=True)', '"cpu", weights_only=False)', PLUMBING),
]


def fast_tests():
    last = ["test_learning.py", "test_resume.py", "test_runs.py", "test_command_line.py", "test_audit.py",
            "test_plumbing.py", *MATH]
    others = {"test_source.py", "test_benchmark.py", "test_docs.py", "test_sb3.py"}
    files = {path.name for path in (ROOT / "tests").glob("test_*.py")} - others
    return sorted(files, key=lambda name: -last.index(name) if name in last else 0)


def copy(folder):
    ignored = shutil.ignore_patterns(".*", "runs", "benchmark", "__pycache__")
    return Path(shutil.copytree(ROOT, Path(folder, "copy"), ignore=ignored))


class Failures(list):
    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.append(report.nodeid)


def child(where, options):
    sys.path[:] = [path for path in sys.path if Path(path) != ROOT / "tests"]
    os.chdir(where)
    multiprocessing.set_start_method("fork", force=True)  # what the tests have elsewhere
    hypothesis.settings.register_profile("as found", phases=[hypothesis.Phase.generate])  # not made small: faster
    hypothesis.settings.load_profile("as found")
    failures = Failures()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = pytest.main(["-n", "0", "-q", "--tb=no", "-p", "no:cacheprovider", *options], [failures])
    Path(where, "result.json").write_text(json.dumps([status, failures, said.getvalue()]))


def run(where, *options, limit=1800):
    """The tests that fail. In a process that is forked from one which has imported what takes long."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gymnasium", "hypothesis", "mujoco", "pytest", "scipy.stats", "torch",
                                    "torch._dynamo", "torch.utils.tensorboard", "tqdm", "tyro"])
    process = context.Process(target=child, args=(where, options))
    process.start()
    process.join(limit)
    if process.is_alive():  # no end is no failure
        process.kill()
        return []
    status, failures, said = json.loads(Path(where, "result.json").read_text())
    if status not in (0, 1):  # neither all passed nor some failed
        raise RuntimeError(said)
    return failures


def mutated(script, old, new):
    text = (ROOT / f"{script}.py").read_text()
    if text.count(old) != 1:
        raise ValueError(f"{script}.py holds {text.count(old)} times: {old!r}")
    compile(text.replace(old, new), script, "exec")
    return text.replace(old, new)


def catch(scripts, old, new, likely, others):
    """The test that fails, or None. First the likely tests that name the script, then all, if the others too."""
    with tempfile.TemporaryDirectory() as folder:
        where = copy(folder)
        for script in scripts:
            (where / f"{script}.py").write_text(mutated(script, old, new))
        narrow = ["-k", scripts[0]] if len(scripts) == 1 else []
        everything = [[f"tests/{name}" for name in fast_tests()]] if others else []
        for options in ([*(f"tests/{name}" for name in likely), *narrow], *everything):
            if failed := run(where, "-x", *options):
                return failed[0].removeprefix("tests/")


def trials():
    """One for each script; of the text that all five share, one with the mistake in all."""
    for name, pitfall, scripts, old, new, *likely in MUTANTS:
        likely = likely[0] if likely else MATH[:1] if set(scripts) <= set(ON) else MATH[1:]
        for each in [scripts] if scripts == ALL else [[script] for script in scripts]:
            yield name, pitfall, each, old, new, likely


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--likely", action="store_true", help="only the likely tests: survivors may be none")
    parser.add_argument("words", nargs="*")
    args = parser.parse_args()
    chosen = [trial for trial in trials() if all(word in f"{trial[0]} {' '.join(trial[2])}" for word in args.words)]
    for _, _, scripts, old, new, _ in chosen:  # all texts are found, before the first test runs
        for script in scripts:
            mutated(script, old, new)
    start = time.monotonic()
    os.environ["OMP_NUM_THREADS"] = "1"

    def attempt(trial):
        caught = catch(*trial[2:], not args.likely)
        where = "all" if trial[2] == ALL else trial[2][0]
        print(f"{time.monotonic() - start:5.0f} s  {where}: {trial[0]}: {caught or 'SURVIVES'}", flush=True)
        return caught

    with ThreadPoolExecutor(args.jobs) as pool:
        caught = list(pool.map(attempt, chosen))
    with tempfile.TemporaryDirectory() as folder:  # a test that fails anyway has caught nothing
        tests = sorted(set(filter(None, caught)))
        failed = run(copy(folder), *(f"tests/{test}" for test in tests), limit=3600) if tests else []
    failed and print("fail without any mistake:", *failed)
    survivors = caught.count(None)
    summary = f"{len(chosen) - survivors} of {len(chosen)} caught"
    print(f"{summary}, in {time.monotonic() - start:.0f} s")
    if not args.words:
        rows = [f"| {name} | {'all' if scripts == ALL else scripts[0]} | {pitfall} | {test or '**none**'} |"
                for (name, pitfall, scripts, *_), test in zip(chosen, caught, strict=True)]
        (ROOT / "tests" / "mutants.md").write_text(
            "# Mistakes put back, and the tests that catch them\n\nMade by `python tests/mutants.py`: each row is a "
            f"mistake in one script, or in the text that all share. {summary}.\n\n"
            "| mistake | script | pitfall | caught by |\n|---|---|---|---|\n" + "\n".join(rows) + "\n")
    sys.exit(1 if survivors or failed else 0)


if __name__ == "__main__":
    main()
