"""Train the projector between FG-CLIP 2 and a language model, both frozen, on conversations in LLaVA's format.

    python apps/llava_train.py --language-model lmsys/vicuna-7b-v1.5 --data chat.json --image-root images --out llava
    torchrun --nproc-per-node 8 apps/llava_train.py --language-model lmsys/vicuna-7b-v1.5 --data chat.json \\
        --image-root images --out llava --resume

Conversations are a JSON list, or JSON lines, of {"image": "a.jpg", "conversations": [{"from": "human", "value":
"<image>\\nWhat?"}, {"from": "gpt", "value": "A cat."}]}. OUT/model is what apps/llava_answer.py takes. This is
LLaVA-1.5's first stage; its second one, which trains the language model as well, is not here.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from fgclip2.commandline import parse
from fgclip2.console import RESUMABLE, exit_code
from fgclip2.errors import Fgclip2Error
from fgclip2.extras import need
from fgclip2_llava.training import ProjectorConfig

if TYPE_CHECKING:
    from fgclip2_llava.conversations import Conversations

_TRIED = 32  # examples that a dry run reads
_LOOKED_AT = 1000  # pictures that are looked for before the first step


@dataclass
class Arguments:
    """Models, data, and how to train."""

    language_model: str
    """Directory or hub id of a causal language model of transformers."""
    data: Path
    """JSON list, or JSON lines, of conversations."""
    image_root: Path = Path(".")
    """Folder that the pictures' names are relative to."""
    model: str | None = None
    """FG-CLIP 2: tiny, a directory or a hub id; without one $FGCLIP2_MODEL, else the released base model."""
    out: Path = Path("work_dirs/llava")
    """For checkpoints, metrics.jsonl, failures.jsonl and model/."""
    feature_layer: tuple[int, ...] = (-1,)
    """Tokens that the projector gets: -1 the dense head's, -2 the last block's, -3 the one's before; several side by
    side."""
    template: str = "vicuna"
    """How the language model sees a conversation: vicuna (Vicuna, Llama 2) or chatml (Qwen)."""
    max_patches: int = 576
    """Image tokens a picture, at most; 0 takes 128 to 1,024 by the picture's size."""
    dtype: str = "auto"
    """auto is bfloat16 where the hardware has it, else float32; or float32, bfloat16. The projector stays float32."""
    resume: bool = False
    """Continue from the newest checkpoint in OUT."""
    dry_run: bool = False
    """Build the model, read some examples, say what would be trained, and stop."""
    config: tyro.conf.OmitArgPrefixes[ProjectorConfig] = field(default_factory=ProjectorConfig)


def run(arguments: Arguments) -> None:
    """Check everything, then train."""
    need("train", "accelerate")
    from fgclip2_llava.conversations import read_conversations
    from fgclip2_llava.data import LlavaDataset

    config = arguments.config
    world = int(os.environ.get("WORLD_SIZE", "1"))
    accumulation = config.accumulation(world)
    found = read_conversations(arguments.data, arguments.image_root)
    check_examples(found, config.failure_limit, arguments)
    model, processor, half = build_model(arguments)
    dataset = LlavaDataset(found.examples, processor, config.max_tokens)
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"{len(found.examples):,} examples; {found.without:,} entries without a picture are left out")
        for lost in (*found.failures, *found.odd)[:3]:
            print(f"cannot be used: {lost.name}: {lost.reason}")
    if arguments.dry_run:
        describe(model, dataset, config, world, accumulation, half)
        return
    train(arguments, model, dataset, half, found)


def check_examples(found: Conversations, limit: float, arguments: Arguments) -> None:
    """Look at entries and their pictures before anything is loaded.

    Raises:
        Fgclip2Error: more of them than the limit cannot be used.
    """
    step = max(1, len(found.examples) // _LOOKED_AT)
    looked = found.examples[::step]
    missing = [example.image for example in looked if not example.image.exists()]
    entries = len(found.examples) + len(found.failures)
    # Where only some pictures are looked at, chance may have put more of the missing among them.
    allowed = limit * len(looked)
    allowed += 0 if step == 1 else 3 * allowed**0.5 + 1
    if len(found.failures) > limit * entries:
        lost = found.failures[0]
        raise Fgclip2Error(
            f"{len(found.failures):,} of the {entries:,} entries with a picture cannot be used, over the limit of "
            f"{limit:.2%}; the first is {lost.name}: {lost.reason}. Mend them, or raise --failure-limit"
        )
    if len(missing) > allowed:
        raise Fgclip2Error(
            f"{len(missing):,} of the {len(looked):,} pictures looked for are not there, over the limit of "
            f"{limit:.2%}; the first is {str(missing[0])!r}. Is --image-root {str(arguments.image_root)!r} right?"
        )


def build_model(arguments: Arguments) -> tuple[Any, Any, bool]:
    """The LLaVA on its device, its processor, and whether it computes in bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import fgclip2_llava
    from fgclip2 import Fgclip2Model
    from fgclip2.predictor import choose_dtype, find_device
    from fgclip2.pretrained import no_progress_bar, resolve

    directory = resolve(arguments.model)
    device = find_device("auto")
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    dtype = choose_dtype(arguments.dtype, device)
    if dtype not in (torch.float32, torch.bfloat16):
        raise Fgclip2Error(
            f"--dtype {arguments.dtype}: choose auto, float32 or bfloat16; float16 overflows in training"
        )
    torch.manual_seed(arguments.config.seed)
    try:
        tokenizer = AutoTokenizer.from_pretrained(arguments.language_model)
        with no_progress_bar():
            language = AutoModelForCausalLM.from_pretrained(arguments.language_model, dtype=dtype)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise Fgclip2Error(
            f"--language-model {arguments.language_model}: transformers cannot load it as a causal language model "
            f"({reason:.200}); give a directory or a hub id"
        ) from error
    processor = fgclip2_llava.LlavaProcessor(tokenizer, arguments.template, arguments.max_patches or None)
    if len(tokenizer) > language.get_input_embeddings().weight.shape[0]:
        language.resize_token_embeddings(len(tokenizer))
    with no_progress_bar():
        vision = Fgclip2Model.from_pretrained(directory, dtype=dtype)
    layers = arguments.feature_layer
    llava = fgclip2_llava.build(
        language.to(device), vision, processor.image_token_id, layers[0] if len(layers) == 1 else layers
    )
    return llava, processor, dtype == torch.bfloat16


def describe(model: Any, dataset: Any, config: ProjectorConfig, world: int, accumulation: int, half: bool) -> None:
    """What a run would do, and how the first examples look."""
    from fgclip2.data.failures import Failure
    from fgclip2_llava import freeze

    trained = sum(item.numel() for item in freeze(model).values())
    total = sum(item.numel() for item in model.parameters())
    tried = [dataset[index] for index in range(min(_TRIED, len(dataset)))]
    failures = [item for item in tried if isinstance(item, Failure)]
    lengths = [len(item.encoded.ids) for item in tried if not isinstance(item, Failure)]
    steps = config.steps or max(1, round(config.epochs * len(dataset) / config.batch_size))
    print(f"parameters trained: {trained:,} of {total:,}, computing in {'bfloat16' if half else 'float32'}")
    print(f"batch: {config.batch_size} = {world} processes x {accumulation} parts x "
          f"{config.batch_size // world // accumulation}; {steps:,} steps")  # fmt: skip
    if lengths:
        mean = sum(lengths) / len(lengths)
        print(f"tokens of the first {len(tried)}: {mean:.0f} on average, {max(lengths)} at most")
    for failure in failures:
        print(f"cannot be used: {failure.name}: {failure.reason}")
    if len(failures) == len(tried):
        raise Fgclip2Error(f"not one of the first {len(tried)} examples can be used; is --image-root right?")


def train(arguments: Arguments, model: Any, dataset: Any, half: bool, found: Conversations) -> None:
    """Train and write the whole model."""
    import fgclip2_llava
    from fgclip2_llava.training import ProjectorTrainer

    arguments.out.mkdir(parents=True, exist_ok=True)
    about = {
        "language_model": arguments.language_model,
        "model": arguments.model,
        "data": found.fingerprint,
        "feature_layer": arguments.feature_layer,
        "template": arguments.template,
        "max_patches": arguments.max_patches,
    }
    trainer = ProjectorTrainer(model, dataset, arguments.config, arguments.out, half, about)
    if trainer.is_world_process_zero() and not arguments.resume:
        trainer.failures.add([], 0, (*found.failures, *found.odd))  # named, and counted before
    trainer.train(resume=arguments.resume)
    if trainer.stopping.received:
        print(f"stopped by SIGTERM at step {trainer.state.global_step}; continue with --resume")
    elif trainer.is_world_process_zero():
        fgclip2_llava.save(trainer.accelerator.unwrap_model(trainer.model), dataset.processor, arguments.out / "model")
        print(f"model: {arguments.out / 'model'}   figures: {arguments.out / 'metrics.jsonl'}")


def main() -> int:
    """Run; 0, 2 after an error that the user can mend, 130 after Ctrl-C."""
    return exit_code(lambda: run(parse(Arguments, description=__doc__)), RESUMABLE)


if __name__ == "__main__":
    sys.exit(main())
