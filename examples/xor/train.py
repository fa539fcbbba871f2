"""XOR, the smallest problem that takes a hidden layer, and the whole of training in a few lines.

    python examples/xor/train.py

One line through the plane cannot have (0, 1) and (1, 0) on its one side and (0, 0) and (1, 1) on
the other, so a single layer never gets more than three of the four right.
"""

import tinytorch
from tinytorch import nn, optim

tinytorch.manual_seed(0)
x = tinytorch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])  # inputs (4, 2)
y = tinytorch.tensor([0, 1, 1, 0])  # the class of each

# Each hidden unit draws a line of its own; the second layer puts their sides together.
net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
optimizer = optim.SGD(net.parameters(), lr=0.5)

for step in range(1, 301):
    scores = net(x)  # (4, 2): for each input one score a class
    loss = nn.functional.cross_entropy(scores, y)
    optimizer.zero_grad()  # forget the gradients of the step before
    loss.backward()  # how the loss changes with each weight, into weight.grad
    optimizer.step()  # weight -= lr * weight.grad
    if step in (1, 10, 30, 100, 300):
        print(f"step {step:3}  loss {loss.item():.4f}")

answers = net(x).argmax(1)
for inputs, answer, right in zip(x.tolist(), answers.tolist(), y.tolist(), strict=True):
    print(f"{inputs[0]:.0f} xor {inputs[1]:.0f} = {answer}", "" if answer == right else " (wrong)")
print(f"{(answers == y).sum().item()} of 4 right")
