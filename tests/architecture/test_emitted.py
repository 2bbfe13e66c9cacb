"""Every indicator that a rule reads is emitted by some watched run, or comes from the user's own `log`."""

import torch
from torch import nn

import pitprop
from pitprop.rules import RULES
from pitprop.trace import Reader

GIVEN_BY_THE_USER = {
    *("loss", "loss_floor", "condition_gap", "ablation_gap", "gradient_cosine", "steps_to_fit"),
    *("ema_loss", "trained_loss", "ema_drift", "ema_decay"),
}


class Scaler:
    def get_scale(self):
        return 1.0


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2, enable_nested_tensor=False
        )
        self.squash = nn.Tanh()
        self.low = nn.Linear(16, 16, dtype=torch.bfloat16)
        self.low.lora_A, self.low.lora_B = nn.Linear(16, 2, bias=False), nn.Linear(2, 16, bias=False)
        nn.init.zeros_(self.low.lora_B.weight)

    def forward(self, x):
        x = self.blocks(x)
        x = self.low(x.bfloat16()).float() + self.low.lora_B(self.low.lora_A(x))
        return self.squash(x)


def test_what_rules_read_is_what_a_watch_emits(tmp_path):
    torch.manual_seed(0)
    model = Tiny()
    optimizer = torch.optim.AdamW(model.parameters())
    with pitprop.watch(
        model, optimizer, run=tmp_path / "run", every=1, budget=None, quiet=True, scaler=Scaler()
    ) as watch:
        for _ in range(3):
            x = torch.randn(8, 5, 16)
            outputs = model(x)
            loss = (outputs - x).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            table = outputs.mean(1).exp()
            watch.log(loss=loss, outputs=outputs.mean(1), targets=x.mean(1), logits=table, labels=torch.arange(8))
            watch.log(embeddings=table, codes=torch.arange(8), num_codes=8, teacher=table, routing=table)
            watch.log(latent_mean=table, latent_log_variance=table, weights=table[0], losses=table[1])
            watch.log(**dict.fromkeys(GIVEN_BY_THE_USER - {"loss"}, 1.0))
    with Reader(tmp_path / "run") as trace:
        emitted = set(trace.indicators())
    assert GIVEN_BY_THE_USER <= emitted
    for rule in RULES:
        assert set(rule.reads) <= emitted, (rule.name, set(rule.reads) - emitted)
