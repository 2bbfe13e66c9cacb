"""The whole case at full size, on a tiny CLIP and a generated VisA: every stage, every variant, once."""

import json
from dataclasses import replace

import pytest
import torch
from clip_folders import picture, visa
from clip_paper import IMAGE_SIZE, tiny_clip
from safetensors.torch import load_file

from pitprop import PitpropError
from pitprop.cases.clip_anomaly.cross_attention import VARIANTS
from pitprop.cases.clip_anomaly.folders import read_folder
from pitprop.cases.clip_anomaly.loading import load
from pitprop.cases.clip_anomaly.losses import loss, text_loss
from pitprop.cases.clip_anomaly.model import AdaptedCLIP
from pitprop.cases.clip_anomaly.options import PAPER, Options
from pitprop.cases.clip_anomaly.paper import load_clip
from pitprop.cases.clip_anomaly.paper_run import Paper, batches, from_options, run_paper, split
from pitprop.cases.clip_anomaly.population import PARTS
from pitprop.cases.clip_anomaly.run import run
from pitprop.cases.clip_anomaly.sample import collate
from pitprop.cli import main


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("paper")
    return tiny_clip(root / "clip"), visa(root / "data", num=5)


def adapted(places, variant):
    clip, size = load_clip(places[0], IMAGE_SIZE)
    torch.manual_seed(100)
    return AdaptedCLIP(clip, VARIANTS[variant], size=size, class_names=("candle", "pcb1")).eval()


def one_batch(places, model, num=4):
    entries = read_folder(places[1])[3 : 3 + num]
    return collate([load(entry, IMAGE_SIZE) for entry in entries], model.class_names)


@pytest.mark.parametrize("variant", ["none", "A", "C", "D"])
def test_one_step_of_each_stage_trains_its_own_parts_and_nothing_else(places, variant):
    model = adapted(places, variant)
    batch = one_batch(places, model)
    features, context = model.frozen(batch.image)
    assert features.shape == (4, 4, 16, model.size.embed)
    model.set_text(model.stream(batch.image), context)
    assert model.text_context.shape == (2, 16 * 77, model.size.embed)  # 1232 tokens, as in the original
    for stage, value in (
        ("text", text_loss(model, batch._replace(features=features, context=context))),
        ("image", loss(model, batch)),
    ):
        parameters = [p for part in PARTS[stage] if (m := getattr(model, part)) for p in m.parameters()]
        before = [p.detach().clone() for p in model.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=1e-3)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        trained = {id(p) for p in parameters}
        moved = {id(p) for p, old in zip(model.parameters(), before, strict=True) if not torch.equal(p, old)}
        assert moved and moved <= trained
        adapters = getattr(model, PARTS[stage][0])
        assert {id(p) for p in adapters.parameters()} <= moved


@pytest.mark.slow
def test_the_whole_run_writes_logs_weights_and_metrics(places, tmp_path):
    clip, data = places
    settings = Paper(folder=tmp_path, clip=clip, data=data, variants=("A", "C"), steps=1, image_size=IMAGE_SIZE)
    result = run_paper(settings)
    assert [name for name, _ in result.rows] == ["none", "A", "C"]
    assert "switched off" in result.rows[1][1] and "pixel_auroc" in result.rows[0][1]
    assert all(path.is_file() for path in result.files)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(records) == 2 * (1 + 3 + 3)  # both stages; the base, and three loops of two variants
    assert all(record["loss"] > 0 for record in records)
    parts = {part for record in records if record["variant"] == "A" for part in record["gradient_norms"]}
    assert parts == {"text_adapter", "text_cross_attn", "image_adapter", "image_cross_attn"}
    kept = load_file(tmp_path / "A.safetensors")
    assert {name.split(".")[0] for name in kept} == parts  # the towers aren't written
    again = run_paper(Paper(folder=tmp_path, clip=clip, data=data, variants=(), steps=1, image_size=IMAGE_SIZE))
    assert again.rows[0][0] == "none"
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == len(records)  # the base is loaded, not trained
    assert again.rows[0] == result.rows[0]
    for other in (replace(settings, steps=2), replace(settings, seed=1)):
        with pytest.raises(PitpropError, match=r"trained with other settings: (steps 1, now 2|seed 0, now 1)"):
            run_paper(other)


def test_batches_hang_on_their_key_alone(places):
    model, entries = adapted(places, "none"), read_folder(places[1])
    first, second, other = (list(batches(model, entries, 3, 8, (0, 1, key))) for key in (0, 0, 1))
    assert all(torch.equal(a.image, b.image) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0].image, other[0].image)
    assert sum(int(batch.label.sum()) for batch in first) > 0


def test_every_fifth_of_each_kind_is_held_out(places, tmp_path):
    train, held_out = split(read_folder(places[1]))
    assert len(held_out) == 4 and {(e.class_name, e.label) for e in held_out} == {
        (name, label) for name in ("candle", "pcb1") for label in (0, 1)
    }
    assert not {e.image for e in train} & {e.image for e in held_out}
    for i in range(4):
        picture(tmp_path / "bottle" / "test" / "good" / f"{i}.png")
    with pytest.raises(PitpropError, match="4 photographs, too few to hold any out"):
        split(read_folder(tmp_path))


def test_the_command_line_asks_for_what_it_needs(places, tmp_path):
    clip, data = places
    with pytest.raises(PitpropError, match=r"needs a CLIP and a data folder(.|\n)*--preset paper --clip FOLDER"):
        run(tmp_path, Options(preset="paper"))
    options = Options(preset="paper", clip=clip, data=data, variant="C", paper_steps=1)
    with pytest.raises(PitpropError, match="Claims are judged"):
        run(tmp_path, options, claims=True)
    settings = from_options(tmp_path, options, False)
    assert (settings.variants, settings.steps, settings.image_size) == (("C",), 1, 518)
    with pytest.raises(PitpropError, match="518 pixels can't be cut into patches of 8"):
        run(tmp_path, options)  # the tiny CLIP has other patches: it got as far as the real files


@pytest.mark.slow
def test_the_command_itself(places, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pitprop.cases.clip_anomaly.paper_run.PAPER", replace(PAPER, image_size=IMAGE_SIZE))

    def command(clip, *more):
        asked = ["case", "clip_anomaly", "--preset", "paper", "--variant", "C", "--paper-steps", "1"]
        return main([*asked, "--clip", str(clip), "--data", str(places[1]), "--out", str(tmp_path), "--json", *more])

    assert command(places[0]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [name for name, _ in said["rows"]] == ["none", "C"]
    assert "diagnosis" not in said  # the recipe is the laptop's: its cause would say nothing of this run
    assert command(places[0], "--metadata", str(tmp_path / "absent.jsonl")) == 2
    assert "There is no metadata file" in json.loads(capsys.readouterr().out)["error"]["seen"]
    assert command(tmp_path / "absent") == 2
    assert "There is no folder" in json.loads(capsys.readouterr().out)["error"]["seen"]
