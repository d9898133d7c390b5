"""By how much max Q exceeds the return that follows: python docs/overestimation.py [RUN_DIR …]

Each RUN_DIR is the folder of a run of dqn.py or double_dqn.py. The run's policy plays ten episodes
without exploration, of up to 2000 steps. In each of the first 1000 states, the network's max Q is
compared with the discounted return that followed; what a longer episode would have added counts
γ^1000 or less. The means over episodes, each the mean over its states, replace those in
overestimation.csv. Without RUN_DIR, it prints what is there.
"""

import csv
import importlib
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "discrete"))
TABLE = HERE / "overestimation.csv"
EPISODES = 10
LONGEST = 2000  # steps of an episode
COUNTED = 1000  # first states of an episode whose return is known well enough


def discounted_returns(rewards, gamma):
    """The return from each step on."""
    returns = []
    running = 0.0
    for reward in reversed(rewards):
        running = reward + gamma * running
        returns.append(running)
    return returns[::-1]


def play(agent, env, seed):
    """Max Q of each state of an episode, and the rewards that followed."""
    obs, _ = env.reset(seed=seed)
    values = []
    rewards = []
    done = False
    while not done:
        with torch.no_grad():
            q = agent.q_network(torch.as_tensor(obs, dtype=torch.float32))
        values.append(q.max().item())
        action = q.argmax().item() + env.action_space.start
        obs, reward, terminated, truncated, _ = env.step(action)
        rewards.append(reward)
        done = terminated or truncated
    return values, rewards


def measure(run_dir):
    """A row of the table."""
    config = json.loads((run_dir / "config.json").read_text())
    options = config["options"]
    script = config["script"].removesuffix(".py")
    module = importlib.import_module(script)
    agent, step = module.load_agent(run_dir)
    task = {name: options[name] for name in ("env_id", "env_kwargs")}
    args = module.Args(**task, max_episode_steps=LONGEST)
    values = []
    returns = []
    with module.make_task(args) as env:
        for episode in range(EPISODES):
            its_values, rewards = play(agent, env, seed=1000 * options["seed"] + episode)
            its_returns = discounted_returns(rewards, options["gamma"])
            values.append(statistics.mean(its_values[:COUNTED]))
            returns.append(statistics.mean(its_returns[:COUNTED]))
    return {
        "script": script,
        "task": options["env_id"],
        "seed": options["seed"],
        "step": step,
        "max_q": f"{statistics.mean(values):.3f}",
        "discounted_return": f"{statistics.mean(returns):.3f}",
    }


def print_table(rows):
    groups = defaultdict(list)
    for row in rows:
        groups[row["task"], row["script"]].append(row)
    print(f"{'':23}  runs    max Q   return   excess, least to largest")
    for (task, script), its_rows in sorted(groups.items()):
        max_q = [float(row["max_q"]) for row in its_rows]
        returns = [float(row["discounted_return"]) for row in its_rows]
        excess = [q - return_ for q, return_ in zip(max_q, returns, strict=True)]
        means = f"{statistics.mean(max_q):7.2f}  {statistics.mean(returns):7.2f}"
        print(f"{task:12} {script:10}  {len(its_rows):4}  {means}   ", end="")
        print(" ".join(f"{each:.2f}" for each in sorted(excess)))


def main(run_dirs):
    if run_dirs:
        rows = [measure(Path(run_dir)) for run_dir in run_dirs]
        with open(TABLE, "w", newline="") as file:
            table = csv.DictWriter(file, rows[0], lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
    if not TABLE.exists():
        sys.exit(f"there is no {TABLE.name} yet: name the folders of runs")
    with open(TABLE) as file:
        print_table(csv.DictReader(file))


if __name__ == "__main__":
    main(sys.argv[1:])
