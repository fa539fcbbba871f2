"""The gesture demo as a script: recordings in, a network on a kit out.

    python examples/gesture/train.py [FILE.npz] [KIT]

Without a file it takes the magic-wand recordings, or simulated ones; without a kit the virtual one.
It leaves gesture.tt, the model, and replay.bin, samples for run.py.
"""

import sys
from pathlib import Path

import numpy as np
from tinytorch.features import quantize_windows
from tinytorch.gesture import gesture_data, quantize_gesture, train_gesture
from tinytorch.runtime import Model
from tito.deploy import connect

from tinytorch import datasets
from tinytorch.train import evaluate
from tinytorch.utils.data import DataLoader
from tito.kits import open_kit

words = sys.argv[1:]
files = [word for word in words if word.endswith(".npz")]
kits = [word for word in words if word not in files]

# Float: a small convolutional network, trained by TinyTorch's own autograd.
recordings = datasets.load(files[0] if files else None)
print(recordings.source)
trained = train_gesture(recordings, seed=0)
test = gesture_data(recordings, "test", trained.features)
print(f"float      {100 * evaluate(trained.net, DataLoader(test, batch_size=256)).accuracy:.1f} %")

# int8: the same network in integers, with everything the board needs in one file.
model = Model(quantize_gesture(trained, recordings))
Path("gesture.tt").write_bytes(model.data)
windows, labels = recordings.windows("test", trained.features["window"])
x = quantize_windows(windows, trained.features)
expected = model.run_batch(x)
print(f"int8       {100 * np.mean(expected.argmax(1) == labels):.1f} %, {len(model.data)} bytes")

# The kit: send the model, let it verify itself, and run every test recording there.
with open_kit(kits[0] if kits else "virtual") as kit, connect(kit) as device:
    device.put_model(model.data)
    outputs = [device.run(sample.tobytes())[0] for sample in x]
same = sum(a == b.tobytes() for a, b in zip(outputs, expected, strict=True))
print(f"{kit.name:10} {same} of {len(x)} outputs have the laptop's bytes")

# One window of each class, one after the other, as run.py would get them from the sensor.
shown = windows[np.unique(labels, return_index=True)[1]]
Path("replay.bin").write_bytes(shown.astype("<i2").tobytes())
