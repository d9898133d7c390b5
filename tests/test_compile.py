"""--compile changes how fast the updates are, not what they are."""

import pytest
import test_math_off_policy
import test_math_on_policy
import torch
from conftest import OFF_POLICY, SCRIPTS, SMALL, assert_same_run, load, run
from toys import learn, make_agent, train


def compile_as_the_script_does(module, agent):
    names = ["backward", "critic_backward", "actor_backward", "update_targets"]
    for name in names:
        if hasattr(agent, name):
            setattr(agent, name, module.compiled(getattr(agent, name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(
    "dtype, updates, rtol, atol",
    [(torch.float64, 100, 1e-6, 1e-9), (torch.float32, 10, 1e-3, 1e-5)],
)
def test_compiled_equals_eager(name, dtype, updates, rtol, atol):
    """Sums in another order, 100 updates long, and 10 in the scripts' own precision.

    No noise on TD3's target actions, since compiled code draws other numbers.
    """
    module = load(name)
    states = []
    for compiled in (False, True):
        agent = make_agent(
            module, num_envs=4, update_epochs=2, num_minibatches=5, policy_noise=0.0, dtype=dtype
        )
        if compiled:
            compile_as_the_script_does(module, agent)
        torch.manual_seed(0)
        for update in range(updates // (10 if name == "ppo_continuous" else 1)):
            if name in OFF_POLICY:
                data = test_math_off_policy.batch(module, 8, update)
            else:
                data = test_math_on_policy.batch(
                    module, 5, 4, update, truncated=0.2, terminated=0.2
                )
            learn(agent, module.Transition(*[column.to(dtype) for column in data]), update)
        states.append(agent.state_dict())
    start = make_agent(module, dtype=dtype).state_dict()
    moved = [(states[0][key] - start[key]).abs().max() for key in start if key.startswith("actor.")]
    assert max(moved) > 5e-4
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=rtol, atol=atol, msg=key)


@pytest.mark.parametrize("name", [pytest.param("a2c"), pytest.param("td3")])
def test_losses_and_gradients_are_one_graph_and_a_falling_rate_compiles_nothing_anew(
    name, monkeypatch, tmp_path
):
    """As the script sets it up, over several updates; a break of a graph would be an error."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    compiler = torch.compile

    def counting(method, fullgraph):
        assert fullgraph
        return compiler(method, fullgraph=True, backend=backend)

    monkeypatch.setattr(torch, "compile", counting)
    torch._dynamo.reset()
    train(
        load(name),
        monkeypatch,
        tmp_path,
        "toys:LastReward-v0",
        total_timesteps=60,
        num_envs=1,
        num_steps=5,
        learning_starts=10,
        batch_size=4,
        buffer_size=60,
        hidden_sizes=(4,),
        eval_frequency=10,
        compile=True,
    )
    assert len(graphs) == (1 if name == "a2c" else 3)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["reinforce", "a2c", "ppo_continuous", "td3"])
def test_a_compiled_run_can_be_repeated_to_the_bit(script, tmp_path):
    """With the noise that compiled code draws: its generator is the run's."""
    for name in ("first", "second"):
        options = [*SMALL[script], "--env-id", "Pendulum-v1", "--compile", "--run-dir", name]
        run(script, *options, cwd=tmp_path)
    assert_same_run(tmp_path / "first", tmp_path / "second")
