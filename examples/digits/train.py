"""Handwritten digits: a convolutional network, trained the way a project does it.

pip install 'tinytorch[digits]'
python examples/digits/train.py
"""

import numpy as np
from tinytorch.datasets import digits
from tinytorch.transforms import Affine

import tinytorch
from tinytorch import nn, optim
from tinytorch.train import Trainer, evaluate
from tinytorch.utils.data import DataLoader, Transformed, random_split

EPOCHS = 15

tinytorch.manual_seed(0)

# Three parts: to learn from, to choose the best epoch by, and to judge by, once, at the end.
data, test = digits()  # images (1, 8, 8) of ink from 0 to 1, and which digit it is
train, valid = random_split(data, [0.9, 0.1])

# A digit that leans is the same digit: each epoch sees every image turned a little differently.
turned = Transformed(train, Affine(degrees=12))

# Small filters, the same ones all over the image; then one score a digit from what they found.
net = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),  # (16, 8, 8)
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.Conv2d(16, 32, 3, padding=1),  # (32, 8, 8)
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.MaxPool2d(2),  # (32, 4, 4)
    nn.Flatten(),  # 512
    nn.Dropout(0.3),
    nn.Linear(512, 10),
)
print(f"{sum(p.numel() for p in net.parameters()):,} weights, {len(train)} images to learn from")

optimizer = optim.Adam(net.parameters(), lr=5e-3)
schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
trainer = Trainer(net, optimizer, schedule=schedule)
trainer.fit(DataLoader(turned, 32, shuffle=True), EPOCHS, validation=DataLoader(valid, 256))
for epoch in trainer.history[::2]:
    print(f"epoch {epoch.epoch:2}  loss {epoch.loss:.3f}  validation {epoch.val_accuracy:.1%}")

score = evaluate(net, DataLoader(test, 256))
print(f"test       {score.accuracy:.1%} of {len(test)} images that it never saw")

# What it still gets wrong.
images, labels = test.tensors
net.eval()
with tinytorch.no_grad():
    answers = net(images).argmax(1).numpy()
for i in np.flatnonzero(answers != labels.numpy())[:2]:
    print(f"\nthis {labels[i].item()} was taken for a {answers[i]}:")
    for row in images[i, 0].tolist():
        print("   ", "".join(2 * " .:*#"[round(4 * ink)] for ink in row))
