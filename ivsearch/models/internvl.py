"""InternVL-14B (Chen et al., "InternVL", CVPR 2024): InternVL-C, InternVL-G and captioning in one set of weights.

- InternVL-C: attention pooling over InternViT's tokens.
- InternVL-G: QLLaMA's queries look at those tokens too; both pooled embeddings, each of length 1, are added.
- Text, for both: QLLaMA reads it causally; the state of the last token is projected.

Parameter names are those of the official state dict.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ivsearch.models.attention import Attention
from ivsearch.models.attention_pool import AttentionPool
from ivsearch.models.intern_vit import InternViT
from ivsearch.models.internvl_config import InternVLConfig
from ivsearch.models.qllama import Cache, Qllama, Sight, caption_sight, full_text_sight, text_sight


class InternVL(nn.Module):
    def __init__(self, config: InternVLConfig, attention: Attention = Attention.SDPA) -> None:
        super().__init__()
        width, heads = config.qllama.hidden_size, config.attn_pool_num_heads
        self.config = config
        self.vision_model = InternViT(config.vision, attention)
        self.qllama = Qllama(config.qllama, config.vision.hidden_size, attention)
        self.query_tokens = nn.Parameter(torch.empty(1, config.qllama.num_query_token, width))
        self.text_projection = nn.Parameter(torch.empty(width, config.clip_embed_dim))
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.clip_projector = AttentionPool(config.vision.hidden_size, heads, config.clip_embed_dim)
        self.clip_projector2 = AttentionPool(width, heads, config.clip_embed_dim)
        self.itm_head = nn.Linear(width, 2)

    # ---- pictures ----

    def embed_c(self, pixels: Tensor) -> Tensor:
        """(b, 3, h, w) → (b, dim), not normalised."""
        return _through(self.clip_projector, self.vision_model(pixels))

    def embed_g(self, pixels: Tensor) -> Tensor:
        """(b, 3, h, w) → (b, dim): two embeddings of length 1, added; the sum is not normalised."""
        seen = self.vision_model(pixels)
        looked = self.look(seen)
        first, second = _through(self.clip_projector, seen), _through(self.clip_projector2, looked)
        return _unit(first.float()) + _unit(second.float()).to(first.device)

    def look(self, seen: Tensor) -> Tensor:
        """Picture states (b, tokens, vision width) → the states of the queries, which see each other both ways."""
        states: Tensor = self.qllama(self._queries(len(seen)), Sight(), seen=seen)
        return states

    def _queries(self, n: int) -> Tensor:
        return self.query_tokens.expand(n, -1, -1)

    # ---- texts ----

    def embed_text(self, ids: Tensor) -> Tensor:
        """(b, n) ids, 0 where there is none → (b, dim), not normalised.

        The state that counts is number ``count(ids > 0) - 1``, also when a literal <unk> (id 0) stands before it.
        """
        states = self.qllama(self.qllama.embed(ids), text_sight(ids))
        last = (ids > 0).sum(1).to(states.device) - 1
        ends = states[torch.arange(len(ids), device=states.device), last]
        return ends.to(self.text_projection.device) @ self.text_projection

    def text_states(self, ids: Tensor) -> Tensor:
        """(b, n, width): the states of all places, those without a token too, as the official code has them."""
        states: Tensor = self.qllama(self.qllama.embed(ids), full_text_sight(ids))
        return states

    def logits(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """exp(logit_scale) × cosine, (pictures, texts)."""
        return self.logit_scale.exp() * _unit(pictures) @ _unit(texts).T

    # ---- both ----

    def begin(self, pixels: Tensor, prompt_ids: Tensor, cache: Cache) -> Tensor:
        """The first logits of a caption, (b, vocabulary) float32. ``prompt_ids`` (b, n) hold no padding."""
        seen = self.vision_model(pixels)
        queries = self._queries(len(pixels))
        x = torch.cat([queries, self.qllama.embed(prompt_ids).to(queries)], 1)
        sight = caption_sight(queries.shape[1], prompt_ids.shape[1], x.device)
        return self._last_logits(self.qllama(x, sight, seen=seen, cache=cache))

    def go_on(self, ids: Tensor, start: int, cache: Cache) -> Tensor:
        """The logits after one more id a row, (b,) → (b, vocabulary) float32; ``start`` places came before."""
        return self._last_logits(self.qllama(self.qllama.embed(ids[:, None]), Sight(), start=start, cache=cache))

    def _last_logits(self, states: Tensor) -> Tensor:
        return _through(self.qllama.lm_head, states[:, -1]).float()

    def match(self, pixels: Tensor, ids: Tensor) -> Tensor:
        """(b,) probabilities that picture i shows text i.

        Queries and text see each other both ways, the head judges every query and the mean counts, as in BLIP-2 (Li et
        al., 2023, section 3.1), which InternVL's matching loss follows. The official inference code has no such call:
        nothing pins this one.
        """
        queries = self._queries(len(pixels))
        inside = torch.cat([torch.ones(queries.shape[:2], dtype=torch.bool, device=ids.device), ids > 0], 1)
        x = torch.cat([queries, self.qllama.embed(ids).to(queries)], 1)
        mask = inside[:, None, None, :].expand(-1, 1, x.shape[1], -1).to(x.device)
        states = self.qllama(x, Sight(mask), seen=self.vision_model(pixels))[:, : queries.shape[1]]
        judged = _through(self.itm_head, states).mean(1)
        return judged.float().softmax(-1)[:, 1]


def _through(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)``, wherever the module lies: the parts of one model may be spread over several devices."""
    out: Tensor = module(x.to(next(module.parameters()).device))
    return out


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1)
