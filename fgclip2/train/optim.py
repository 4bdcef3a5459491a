"""Parameter groups and optimisers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fgclip2.errors import Fgclip2Error
from fgclip2.extras import extras
from fgclip2.train.recipe import OptimConfig

# What FG-CLIP 2 adds to SigLIP 2.
_ADDED = ("longtext_head.", "boxtext_head.", "dense_feature_head.", "position_embedding_ori", "position_embedding_res")
_SCALES = ("logit_scale", "logit_bias", "log_scales.")
_MATRICES = (".layers.", "head.mlp.", "head.attention.")


def parameter_groups(module: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Trainable parameters by rate and weight decay, each group with a ``name`` for logs.

    ``towers``, ``added`` (what FG-CLIP 2 adds to SigLIP 2, and a label head), each apart with and without weight decay;
    ``scales``; and, with ``muon_lr``, ``muon``: the matrices inside blocks and heads.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        if any(part in name for part in _SCALES):
            kind, rate, decay = "scales", config.scale_lr or config.lr, 0.0
        elif config.muon_lr and parameter.ndim == 2 and any(part in name for part in _MATRICES):
            kind, rate, decay = "muon", config.muon_lr, config.weight_decay
        else:
            added = "label_head." in name or any(part in name for part in _ADDED)
            kind, rate = ("added", config.head_lr or config.lr) if added else ("towers", config.lr)
            # Proxies are directions; the tower's norms, biases and the probe are no matrices either.
            decay = config.weight_decay if parameter.ndim == 2 and "label_head." not in name else 0.0
            kind += "" if decay else ", no decay"
        group = groups.setdefault(kind, {"name": kind, "params": [], "lr": rate, "weight_decay": decay})
        group["params"].append(parameter)
    return list(groups.values())


def build_optimizer(groups: list[dict[str, Any]], config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW, or with ``muon_lr`` Muon for the ``muon`` group and AdamW for the others in one optimiser.

    Raises:
        Fgclip2Error: nothing to train, or Muon's package is not installed.
    """
    if not groups:
        raise Fgclip2Error("nothing to train: everything is frozen")
    if config.muon_lr is None:
        fused = all(parameter.device.type in ("cpu", "cuda") for group in groups for parameter in group["params"])
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=fused)
    with extras("train"):
        from fgclip2.train.muon import Muon
    for group in groups:
        group["use_muon"] = group["name"] == "muon"
        if group["use_muon"]:
            group["use_adjusted_lr"] = True  # the update has AdamW's usual size, whatever the matrix's shape
        else:
            group |= {"betas": config.betas, "eps": config.eps}
    optimizer: torch.optim.Optimizer = Muon(groups)
    return optimizer
