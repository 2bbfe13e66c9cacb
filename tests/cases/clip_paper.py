"""A tiny random CLIP, saved as the Hub's are: config.json, model.safetensors, vocab.json and merges.txt."""

import json
import string
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

LAYERS, IMAGE_SIZE, PATCH, WIDTH, EMBED = 4, 32, 8, 24, 16


def tokenizer(folder: Path) -> CLIPTokenizer:
    """Letters and digits, with and without the end of a word, and the two special tokens last, as in CLIP's own."""
    letters = [*string.ascii_lowercase, *string.digits, *".,_"]
    tokens = ["!", *letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    made = CLIPTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    made.save_pretrained(folder)
    return made


def config(vocabulary: int, **text) -> CLIPConfig:
    shared = {"intermediate_size": 48, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "projection_dim": EMBED}
    special = {"bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1}
    words = shared | special | {"hidden_size": EMBED, "vocab_size": vocabulary, "max_position_embeddings": 77} | text
    images = shared | {"hidden_size": WIDTH, "image_size": IMAGE_SIZE, "patch_size": PATCH}
    return CLIPConfig(text_config=words, vision_config=images, projection_dim=EMBED)


def tiny_clip(folder: Path, seed: int = 100, **text) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizer(folder)
    torch.manual_seed(seed)
    CLIPModel(config(len(words), **text)).save_pretrained(folder, safe_serialization=True)
    return folder
