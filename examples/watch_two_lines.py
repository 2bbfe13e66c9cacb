"""A PyTorch loop, watched by two more lines (marked). The learning rate is too high; pitprop says what came of it.

python examples/watch_two_lines.py [RUN_FOLDER]
"""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

import pitprop

torch.manual_seed(0)
digits = torch.tensor(load_digits().data / 16, dtype=torch.float32)
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 64))
optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None

# budget=None: steps this small would otherwise be measured rarely, because measuring may take 2 % of the time.
with pitprop.watch(model, optimizer, run=folder, every=5, budget=None) as watch:  # one
    for _ in range(200):
        batch = digits[torch.randint(len(digits), (32,))]
        outputs = model(batch)
        loss = nn.functional.mse_loss(outputs, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watch.log(loss=loss, outputs=outputs, targets=batch)  # two
