"""Monte Carlo and TD updates of a table, on the walk of five states: python docs/random_walk.py

A walk begins in the middle of the states 1 to 5 and goes left or right with probability 1/2 each.
It ends in 0, with reward 0, or in 6, with reward 1. Without discount, the value of state k is the
probability of ending in 6: k/6.
"""

import numpy as np

TRUE_VALUES = np.arange(1, 6) / 6
WALKS = 100  # of one experiment
EXPERIMENTS = 200  # of which the mean error is taken


def walk(rng):
    """The states of one walk, both ends included."""
    states = [3]
    while 0 < states[-1] < 6:
        states.append(states[-1] + rng.choice((-1, 1)))
    return states


def monte_carlo(values, states, alpha):
    """At the end, each value moves towards the return that followed: 1 or 0."""
    return_ = 1.0 if states[-1] == 6 else 0.0
    for state in states[:-1]:
        values[state] += alpha * (return_ - values[state])


def td(values, states, alpha):
    """At each step, a value moves towards the reward and the value of the next state."""
    for state, next_state in zip(states, states[1:], strict=False):
        reward = 1.0 if next_state == 6 else 0.0
        values[state] += alpha * (reward + values[next_state] - values[state])


def learn(update, alpha, rng):
    """The five values after each walk: [WALKS, 5]."""
    values = np.full(7, 0.5)
    values[[0, 6]] = 0  # nothing follows the ends
    history = []
    for _ in range(WALKS):
        update(values, walk(rng), alpha)
        history.append(values[1:6].copy())
    return np.array(history)


def mean_errors(update, alpha):
    """After each walk, the root of the mean squared error over the states; mean of experiments."""
    errors = []
    for experiment in range(EXPERIMENTS):
        values = learn(update, alpha, np.random.default_rng(experiment))
        errors.append(np.sqrt(((values - TRUE_VALUES) ** 2).mean(axis=1)))
    return np.mean(errors, axis=0)


def main():
    print("error after        1       10      100 walks")
    for name, update in (("Monte Carlo", monte_carlo), ("TD", td)):
        for alpha in (0.02, 0.1):
            errors = mean_errors(update, alpha)[[0, 9, 99]]
            print(f"{name:11}  α = {alpha:4} " + "".join(f"{error:8.3f}" for error in errors))


if __name__ == "__main__":
    main()
