"""The region head: class-agnostic boxes and their quality, classification by cosine to text embeddings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.registry import MODELS
from torch import Tensor, nn

from fgclip2.errors import Fgclip2Error
from fgclip2.scoring import chunked_probabilities

MAX_SCALE = 200.0  # above this the softmax is an argmax and its gradient vanishes
_QUALITY: Final = {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0}


@MODELS.register_module()
class OpenVocabBBoxHead(BBoxHead):
    """Pooled features to a region embedding and box deltas; classes live outside the weights.

    With ``residual`` the embedding is ``normalise(dense region + learned residual)`` and the residual starts at zero:
    an untrained head classifies exactly as the frozen dense map does, and training on base classes corrects it. Without
    it the embedding is learned alone, as in F-ViT. Beside it the head says how good its box is: the IoU that it should
    have with its object, which knows no class, so that it holds for novel ones too (Kim et al. 2022, OLN).

    Args:
        embed_dims: width of the text embeddings, D.
        in_channels: channels of the pooled features.
        roi_feat_size: their side.
        hidden: width of the fully connected layer.
        conv_channels: of one 3x3 convolution before it; 0 leaves it out.
        residual: see above.
        temperature: first value of the learned multiplier of the cosine.
        loss_quality: of logits and IoUs; mmdetection's ``CrossEntropyLoss`` with ``use_sigmoid`` by default.
        **kwargs: mmdetection's ``BBoxHead``: ``bbox_coder``, ``loss_cls``, ``loss_bbox``, ...
    """

    def __init__(
        self,
        embed_dims: int,
        in_channels: int = 128,
        roi_feat_size: int = 7,
        hidden: int = 256,
        conv_channels: int = 0,
        residual: bool = True,
        temperature: float = 50.0,
        loss_quality: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not kwargs.setdefault("reg_class_agnostic", True):
            raise Fgclip2Error("OpenVocabBBoxHead needs reg_class_agnostic=True: classes change after training")
        super().__init__(with_cls=False, in_channels=in_channels, roi_feat_size=roi_feat_size, num_classes=0, **kwargs)
        self.residual = residual
        self.conv = nn.Conv2d(in_channels, conv_channels, 3, padding=1) if conv_channels else None
        self.hidden = nn.Linear((conv_channels or in_channels) * self.roi_feat_area, hidden)
        self.fc_reg = nn.Linear(hidden, self.bbox_coder.encode_size)
        self.fc_embed = nn.Linear(hidden, embed_dims)
        self.fc_quality = nn.Linear(hidden, 1)
        self.loss_quality = MODELS.build(dict(loss_quality or _QUALITY))
        self.log_scale = nn.Parameter(torch.tensor(math.log(temperature)))
        self.background = nn.Parameter(torch.randn(embed_dims) * embed_dims**-0.5)
        self.init_cfg = None
        nn.init.normal_(self.fc_reg.weight, std=0.001)
        nn.init.zeros_(self.fc_reg.bias)
        if residual:
            nn.init.zeros_(self.fc_embed.weight)
            nn.init.zeros_(self.fc_embed.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Look at regions.

        Args:
            pooled: ``(R, C, s, s)``.

        Returns:
            In fp32 raw embeddings ``(R, D)``, before `embed`; box deltas ``(R, 4)``; logits ``(R,)`` of the quality.
        """
        x = pooled if self.conv is None else F.relu(self.conv(pooled))
        x = F.relu(self.hidden(x.flatten(1)))
        return self.fc_embed(x).float(), self.fc_reg(x).float(), self.fc_quality(x).float().flatten()

    def embed(self, raw: Tensor, dense: Tensor) -> Tensor:
        """Unit-length region embeddings ``(R, D)`` from raw ones and the dense map's regions, both ``(R, D)``."""
        return F.normalize(raw + dense if self.residual else raw, dim=-1)

    def classify(self, embeddings: Tensor, texts: Tensor) -> Tensor:
        """Logits ``(R, C + 1)`` in fp32, background last; embeddings ``(R, D)``, texts ``(C, D)`` of unit length."""
        targets = torch.cat((texts.float(), F.normalize(self.background, dim=0)[None]))
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.scale * embeddings.float() @ targets.T

    def probabilities(self, embeddings: Tensor, texts: Tensor) -> Iterator[Tensor]:
        """Softmax of `classify` without the background, ``(R, c)`` for one chunk of classes after the other."""
        background = self.scale * embeddings @ F.normalize(self.background, dim=0)
        return chunked_probabilities(embeddings, texts, self.scale, background)

    @property
    def scale(self) -> Tensor:
        """Multiplier of the cosine, learned."""
        return self.log_scale.exp().clamp(max=MAX_SCALE)
