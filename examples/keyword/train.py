"""The keyword demo as a script: recordings of words in, a kit that hears them out.

    python examples/keyword/train.py [FILE.npz ...] [KIT]

Without files it takes Google's Speech Commands, or synthetic speech; without a kit the virtual one.
It leaves keyword.tt, the model, and replay.bin, sound for run.py.
"""

import sys
from pathlib import Path

import numpy as np
from tinytorch.export import to_bytes
from tinytorch.keyword import keyword_data, train_keyword
from tinytorch.runtime import Model
from tinytorch.sound import samples_of
from tinytorch.spotting import curve, listening_keyword, steps_of
from tito.deploy import connect

from tinytorch import datasets
from tinytorch.train import evaluate
from tinytorch.utils.data import DataLoader
from tito.keywords import hear
from tito.kits import open_kit

words = sys.argv[1:]
files = [word for word in words if word.endswith(".npz")]
kits = [word for word in words if word not in files]

# Float: a small convolutional network on features that are integers here as on the board.
recordings = datasets.load(files or None, "sound")
print(recordings.source)
trained = train_keyword(recordings, seed=0)
test = keyword_data(recordings, "test", trained.features)
print(f"float      {100 * evaluate(trained.net, DataLoader(test, batch_size=256)).accuracy:.1f} %")

# int8: features and network in one model, which takes sound step by step.
model = Model(to_bytes(*listening_keyword(trained, recordings, tier="lane")))
Path("keyword.tt").write_bytes(model.data)
clips, labels = recordings.clips("test", samples_of(trained.features))
steps = steps_of(clips, trained.features)
expected = model.run_stream(steps)
answers = expected[:, -1].argmax(1)
print(f"int8       {100 * np.mean(answers == labels):.1f} %, {len(model.data)} bytes")
threshold = model.features["detect"]["threshold"]
accepts, rejects = curve(model, recordings, "test", ["test"]).at(threshold)
print(f"detector   {accepts:.0f} made up in an hour, {100 * rejects:.0f} % missed")

# The kit: send the model, let it verify itself, and let it listen to some of the clips.
with open_kit(kits[0] if kits else "virtual") as kit, connect(kit) as device:
    device.put_model(model.data)
    heard = hear(device, model, steps[:50])
same = (heard.outputs == expected[:50]).all((1, 2)).sum()
print(f"{kit.name:10} {same} of 50 clips gave the laptop's bytes after each step")

# Some words with pauses, as run.py would get them from the microphone.
Path("replay.bin").write_bytes(np.pad(clips[:12], ((0, 0), (0, 4000))).astype("<i2").tobytes())
