"""Train and translate with Stable Diffusion v1.5's architecture at full size; print the cost as Markdown.

The weights are random, made from v1.5's configuration: what is measured is time and memory, not pictures.
Each case is a process of its own, so that its peak memory is its own.

python benchmarks/stable_diffusion_size.py MODEL --output benchmarks/results/stable-diffusion-size

`--only CASE`, which may be repeated, measures some cases and keeps the other figures in the output.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from mrharmony.networks.diffusion.translation import TranslationSettings, translate_slices
from mrharmony.networks.stable.data import SliceSet
from mrharmony.networks.stable.loading import load_stable_diffusion, save_stable_diffusion
from mrharmony.networks.stable.model import StableDiffusion
from mrharmony.networks.stable.settings import DreamBoothSettings
from mrharmony.networks.stable.training import train_dreambooth

SLICE = (160, 160)  # a coronal slice of the canonical grid, 1 mm
TRANSLATION = TranslationSettings(num_inference_steps=5, strength=0.8, guidance_scale=7.5)
SHORT = DreamBoothSettings(steps=3, class_images=1, class_steps=1, validate_every=None)
TRAINING = {
    "lora": SHORT.model_copy(update={"method": "lora"}),
    "full": SHORT,
    "lean": SHORT.model_copy(update={"ema_decay": 0.0}),
}
CASES = ("translate", *TRAINING)
# Weights, gradients, two moments, and of `full` the average, of 860 million parameters, with room to work.
NEEDED_GIB = {"full": 19, "lean": 16}
RESULTS = "stable_diffusion_size.json"


def main() -> None:
    """Run the cases and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path, help="where the random model is kept, 4.3 GB")
    parser.add_argument("--output", type=Path, help="folder of the results")
    parser.add_argument("--only", choices=CASES, action="append", help="measure only this case")
    parser.add_argument("--case", choices=CASES, help="run one case in this process and print its figures")
    arguments = parser.parse_args()
    if not (arguments.model / "model_index.json").is_file():
        save_stable_diffusion(random_model(arguments.model / "vocabulary"), arguments.model)
    if arguments.case:
        print(json.dumps(run_case(arguments.case, arguments.model)))
        return
    record = earlier(arguments.output)
    for case in arguments.only or CASES:
        record[case] = in_a_process(case, arguments.model)
    text = table(record)
    print(text)
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / RESULTS).write_text(json.dumps(record, indent=2) + "\n")
        (arguments.output / "stable_diffusion_size.md").write_text(text)


def earlier(output: Path | None) -> dict[str, dict[str, float | str]]:
    """Return the figures that an output folder holds already."""
    file = output / RESULTS if output else None
    return json.loads(file.read_text()) if file and file.is_file() else {}


def random_model(vocabulary: Path) -> StableDiffusion:
    """Return Stable Diffusion v1.5 with random weights; its tokenizer knows single letters only."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(320, 640, 1280, 1280),
        cross_attention_dim=768,
        attention_head_dim=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
        scaling_factor=0.18215,
    )
    text = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=77,
        hidden_act="quick_gelu",
        projection_dim=768,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", set_alpha_to_one=False
    )
    return StableDiffusion(letter_tokenizer(vocabulary), CLIPTextModel(text), vae, unet, scheduler)


def letter_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write and open a tokenizer of single letters."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789<>-"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True, model_max_length=77)


def in_a_process(case: str, model: Path) -> dict[str, float | str]:
    """Return a case's figures, or why it was not run."""
    free = psutil.virtual_memory().available / 2**30
    if free < (needed := NEEDED_GIB.get(case, 0)):
        return {"not run": f"needs about {needed} GiB, {free:.0f} GiB were free"}
    command = [sys.executable, __file__, str(model), "--case", case]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float | str] = json.loads(done.stdout.splitlines()[-1])
    return figures


def run_case(case: str, directory: Path) -> dict[str, float]:
    """Open the model, do one case, and return seconds and peak memory of this process."""
    start = time.perf_counter()
    model = load_stable_diffusion(directory)
    loading = time.perf_counter() - start
    seconds = translation_seconds(model) if case == "translate" else step_seconds(model, TRAINING[case])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "loading_seconds": loading,
        "seconds": seconds,
        "peak_gib": peak,
        "threads": torch.get_num_threads(),
        "unet_parameters": sum(weight.numel() for weight in model.unet.parameters()),
    }


def translation_seconds(model: StableDiffusion) -> float:
    """Return how long one slice takes."""
    start = time.perf_counter()
    translate_slices(model, torch.from_numpy(slices(1))[:, None], torch.zeros(1), "adni3", TRANSLATION)
    return time.perf_counter() - start


def step_seconds(model: StableDiffusion, settings: DreamBoothSettings) -> float:
    """Return the shortest time between two logged steps, each a slice and a class picture."""
    data = SliceSet({"adni2": slices(2), "adni3": slices(2)})
    with tempfile.TemporaryDirectory() as folder:
        prompts = {name: name for name in data.slices}
        train_dreambooth(model, data, prompts, settings, Path(folder), base="random", only_cpu=True)
        events = EventAccumulator(folder + "/logs").Reload()
        times = [event.wall_time for event in events.Scalars("loss")]
    return float(np.diff(times).min())


def slices(count: int) -> np.ndarray:
    """Return smooth grey slices, canonical units."""
    i, k = np.mgrid[-1 : 1 : 1j * SLICE[0], -1 : 1 : 1j * SLICE[1]]
    disc = (i**2 + k**2 < 0.6) * (0.6 + 0.3 * np.cos(6 * i) * np.cos(5 * k))
    return np.repeat(disc[None].astype(np.float32), count, axis=0)


def table(record: dict[str, dict[str, float | str]]) -> str:
    """Return the figures as Markdown."""
    evaluations = round(TRANSLATION.num_inference_steps * TRANSLATION.strength) * 2
    names = {
        "translate": f"image-to-image, one slice of 160×160, {evaluations} evaluations of the U-Net",
        "lora": "DreamBooth step, LoRA of rank 16, one slice and one class picture",
        "full": "DreamBooth step, all of the U-Net, one slice and one class picture",
        "lean": "the same without the average of the weights (`ema_decay: 0`)",
    }
    lines = ["| | s | peak GiB | threads |", "|---|---:|---:|---:|"]
    for case, figures in sorted(record.items(), key=lambda item: CASES.index(item[0])):
        if "not run" in figures:
            lines.append(f"| {names[case]} | {figures['not run']} | | |")
        else:
            cells = f"{figures['seconds']:.1f} | {figures['peak_gib']:.1f} | {figures['threads']}"
            lines.append(f"| {names[case]} | {cells} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
