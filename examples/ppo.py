"""Balance a pole by reinforcement learning (Schulman and others, Proximal Policy Optimization).

    python examples/ppo.py                       CartPole-v1, of which 500 is the most

Needs gymnasium. Reports the mean return of the last episodes. A loop of its own, without a Trainer:
the update is one compiled program.
"""

import argparse
from collections import deque

import numpy as np

import monograph as mg
from monograph import nn, optim
from monograph.nn import functional as F


def network(inputs, outputs, gain):
    layers = [
        nn.Linear(inputs, 64),
        nn.Tanh(),
        nn.Linear(64, 64),
        nn.Tanh(),
        nn.Linear(64, outputs),
    ]
    for layer in layers[::2]:
        nn.init.orthogonal_(layer.weight, gain if layer is layers[-1] else 2**0.5)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def advantages(rewards, values, ends, last, discount=0.99, trace=0.95):
    """Generalized advantage estimates (T, N), and the returns they imply."""
    found, carried = np.zeros_like(rewards), np.zeros_like(last)
    for t in reversed(range(len(rewards))):
        goes_on = 1.0 - ends[t]
        after = values[t + 1] if t + 1 < len(values) else last
        surprise = rewards[t] + discount * after * goes_on - values[t]
        carried = found[t] = surprise + discount * trace * goes_on * carried
    return found, found + values


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--updates", type=int, default=120)
    parser.add_argument("--envs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=128, help="of each environment per update")
    parser.add_argument("--lr", type=float, default=2.5e-3)
    args = parser.parse_args(words)
    import gymnasium

    mg.manual_seed(0)
    rng = np.random.default_rng(0)
    envs = [gymnasium.make(args.env) for _ in range(args.envs)]
    policy = network(envs[0].observation_space.shape[0], int(envs[0].action_space.n), 0.01)
    critic = network(envs[0].observation_space.shape[0], 1, 1.0)
    params = [*policy.parameters(), *critic.parameters()]
    optimizer = optim.Adam(params, lr=args.lr, eps=1e-5)
    schedule = optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, args.updates)

    @mg.jit
    def judge(seen):
        return policy(seen).softmax(1), critic(seen).squeeze(1)

    @mg.jit
    def update(seen, actions, before, gain, target):
        gain = (gain - gain.mean()) / (gain.std() + 1e-8)
        log = F.log_softmax(policy(seen), 1)
        ratio = (log.gather(1, actions[:, None]).squeeze(1) - before).exp()
        reward = mg.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain).mean()
        entropy = -(log.exp() * log).sum(1).mean()
        loss = 0.5 * F.mse_loss(critic(seen).squeeze(1), target) - reward - 0.01 * entropy
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(params, 0.5)
        optimizer.step()
        return loss

    def look(seen):
        with mg.no_grad():
            chances, values = judge(mg.from_numpy(seen))
        return chances.numpy(), values.numpy().copy()

    seen = np.stack([env.reset(seed=i)[0] for i, env in enumerate(envs)]).astype(np.float32)
    running, done = np.zeros(args.envs), deque(maxlen=40)
    for number in range(1, args.updates + 1):
        kept = {name: [] for name in ("seen", "actions", "before", "rewards", "values", "ends")}
        for _ in range(args.steps):
            chances, values = look(seen)
            drawn = rng.random((args.envs, 1)) > chances.cumsum(1)
            actions = np.minimum(drawn.sum(1), chances.shape[1] - 1)
            rewards, ends, then = (
                np.zeros(args.envs, np.float32),
                np.zeros(args.envs, np.float32),
                [],
            )
            for i, env in enumerate(envs):
                observed, rewards[i], ended, cut, _ = env.step(int(actions[i]))
                running[i] += rewards[i]
                ends[i] = ended or cut
                if ends[i]:
                    done.append(running[i])
                    running[i], observed = 0.0, env.reset()[0]
                then.append(observed)
            chosen = np.log(chances[np.arange(args.envs), actions])
            row = (seen, actions, chosen, rewards, values, ends)
            for part, value in zip(kept.values(), row):
                part.append(value)
            seen = np.stack(then).astype(np.float32)
        rows = {name: np.stack(part) for name, part in kept.items()}
        gain, target = advantages(rows["rewards"], rows["values"], rows["ends"], look(seen)[1])
        columns = [rows["seen"], rows["actions"], rows["before"], gain, target]
        flat = [np.ascontiguousarray(x.reshape(-1, *x.shape[2:])) for x in columns]
        for _ in range(4):
            for part in np.array_split(rng.permutation(len(flat[0])), 4):
                loss = update(*(mg.from_numpy(x[part]) for x in flat))
        schedule.step()
        if number % 10 == 0 or number == args.updates:
            mean = np.mean(done) if done else float("nan")
            print(f"update {number}: loss {float(loss):.3f}, mean return {mean:.1f}", flush=True)
    return float(np.mean(done)) if done else float("nan")


if __name__ == "__main__":
    main()
