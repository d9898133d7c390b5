"""--compile changes how fast the update is, not what it is."""

import functools

import pytest
import test_math_off_policy
import test_math_on_policy
import torch
from conftest import OFF_POLICY, SCRIPTS, SMALL, evaluations, load, run
from toys import make_agent, train


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(
    "dtype, updates, rtol, atol",
    [(torch.float64, 100, 1e-6, 1e-9), (torch.float32, 10, 1e-3, 1e-5)],
)
def test_compiled_equals_eager(name, dtype, updates, rtol, atol):
    """Sums in another order, 100 updates long, and 10 in the scripts' own precision. No noise on TD3's target actions,
    since compiled code draws other numbers. Counts stay float32: torch.compile loses changes of float64 scalars."""
    module, agents = load(name), []
    for compiled in (False, True):
        agent = make_agent(
            module, num_envs=4, update_epochs=2, num_minibatches=5, policy_noise=0.0, dtype=dtype
        )
        for part in agent.modules():
            if hasattr(part, "count"):
                part.count = part.count.float()
        if compiled and name == "reinforce":
            agent.actor.log_prob = torch.compile(agent.actor.log_prob)
        elif compiled and name == "ppo_continuous":
            agent.gradient = torch.compile(agent.gradient, fullgraph=True)
        elif compiled:
            agent.learn = torch.compile(agent.learn)
        torch.manual_seed(0)
        with torch._dynamo.config.patch(
            trace_autograd_ops=name != "reinforce"
        ):  # as the scripts do
            for update in range(updates // (10 if name == "ppo_continuous" else 1)):
                if name in OFF_POLICY:
                    data = test_math_off_policy.batch(module, 8, update)
                    test_math_off_policy.learn(
                        agent, module.Transition(*(x.to(dtype) for x in data)), update
                    )
                else:
                    data = test_math_on_policy.batch(
                        module, 5, 4, update, truncated=0.2, terminated=0.2
                    )
                    agent.learn(module.Transition(*(x.to(dtype) for x in data)))
        agents.append(agent.state_dict())
    start = make_agent(module, dtype=dtype).state_dict()
    assert any(
        (agents[0][key] - start[key]).abs().max() > 1e-4 * updates
        for key in start
        if key.startswith("actor.")
    )
    for key, value in agents[0].items():
        torch.testing.assert_close(agents[1][key], value, rtol=rtol, atol=atol, msg=key)


@pytest.mark.slow
def test_ppo_compiles_one_graph(monkeypatch, tmp_path):
    """As the script itself sets it up: what breaks the graph is an error here, and was half of the speed."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, fullgraph=True))
    with torch._dynamo.config.patch(trace_autograd_ops=False):
        train(
            load("ppo_continuous"),
            monkeypatch,
            tmp_path,
            "Pendulum-v1",
            num_envs=2,
            num_steps=8,
            total_timesteps=32,
            num_minibatches=2,
            compile=True,
        )


@pytest.mark.parametrize("name", ["reinforce", "a2c", *OFF_POLICY])
def test_losses_and_gradients_of_an_update_are_one_graph(name, monkeypatch, tmp_path):
    """As the script itself sets it up: nothing but the optimizers' steps breaks the update, and no graph hands on a
    tensor with a history, whose gradient would be computed apart from its loss, and slower than without compiling.
    But of REINFORCE, whose rollouts differ in length, log π alone is a graph; it has a history, unlike what acts."""
    histories = []

    def backend(graph, inputs):
        def run(*args):
            result = graph(*args)
            histories.extend(x.requires_grad for x in result)
            return result

        return run

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with torch._dynamo.config.patch(trace_autograd_ops=False):
        train(
            load(name),
            monkeypatch,
            tmp_path,
            "toys:LastReward-v0",
            total_timesteps=20,
            num_envs=1,
            num_steps=5,
            learning_starts=10,
            batch_size=4,
            buffer_size=60,
            hidden_sizes=(4,),
            eval_frequency=10,
            compile=True,
        )
    breaks = torch._dynamo.utils.counters["graph_break"]  # torch's optimizers ask for these two:
    assert all(
        "torch._dynamo.graph_break()" in reason or "_fused_adam" in reason for reason in breaks
    ), breaks
    assert histories and set(histories) == {name == "reinforce"}


@pytest.mark.slow
@pytest.mark.parametrize("script", ["reinforce", "a2c", "ppo_continuous", "td3"])
def test_a_compiled_run_can_be_repeated_to_the_bit(script, tmp_path):
    """With the noise that compiled code draws: its generator is the run's."""
    for name in "ab":
        run(
            script,
            *SMALL[script],
            "--env-id",
            "Pendulum-v1",
            "--compile",
            "--run-dir",
            name,
            cwd=tmp_path,
        )
    assert evaluations(tmp_path / "a") == evaluations(tmp_path / "b")
    assert (tmp_path / "a" / "episodes.csv").read_bytes() == (
        tmp_path / "b" / "episodes.csv"
    ).read_bytes()
