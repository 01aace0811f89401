"""Masked language modelling: which tokens are hidden, the head that guesses them, and its loss at those places alone.

Importing this module imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyped_seq.geneformer.architecture import Architecture
from hyped_seq.geneformer.encoder import Encoder, Layer

if TYPE_CHECKING:
    from hyped_core.context import RunContext

MASKED, REPLACED = 0.8, 0.1
"""Of the chosen tokens, shares that become ``<mask>`` and another gene; the rest stay (Devlin et al. 2019, 3.1)."""
WORD_SCALE, POSITION_SCALE = 0.3, 0.02
"""Deviation of the word embeddings, and height of the waves that position embeddings start as."""
LOGIT_SCALE = 0.5
"""Deviation of the logits that the decoder starts with: near uniform, though the words are large."""
LINEAR_BIAS = 3.0
"""Of the head's linear map: nearly all is above zero and passes its ReLU; the norm after it takes it off again."""
SMALL = 0.1
"""Size of what sublayers add to the residual at the start, and of queries and keys."""
_DEVIATION = 0.02
"""Of the weights that `Encoder` and the head start with."""


@dataclass(frozen=True, slots=True)
class MaskedTokens:
    """Sequences with hidden tokens, packed one after another.

    Attributes
    ----------
    tokens : (n,) int64, what the model is shown.
    lengths : tokens of each sequence; they sum to n.
    places : (m,) int64, ascending, where it has to guess.
    targets : (m,) int64, the tokens that stood there.
    """

    tokens: npt.NDArray[np.int64]
    lengths: tuple[int, ...]
    places: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]


def mask_tokens(
    sequences: Sequence[npt.NDArray[np.integer]],
    rng: np.random.Generator,
    *,
    share: float,
    mask: int,
    first_gene: int,
    genes: npt.NDArray[np.integer],
    all_masked: bool = False,
) -> MaskedTokens:
    """Hide ``share`` of the genes of each sequence, rounded, at least one.

    Parameters
    ----------
    sequences
        Tokens of each cell; each holds a gene.
    mask
        Token of ``<mask>``.
    first_gene
        Tokens from here on are genes; special tokens, which lie below, are never hidden.
    genes
        Tokens that a replacement is drawn from.
    all_masked
        Every hidden token becomes ``<mask>``. A tenth that stays is right for a model that repeats what it sees, so
        only such losses can be held against those of guesses that see nothing.
    """
    tokens = np.concatenate(sequences).astype(np.int64)
    starts = np.cumsum([0, *map(len, sequences)])
    places = []
    for start, sequence in zip(starts, sequences):
        candidates = start + np.flatnonzero(np.asarray(sequence) >= first_gene)
        count = max(1, round(share * len(candidates)))
        places.append(np.sort(rng.choice(candidates, size=min(count, len(candidates)), replace=False)))
    where = np.concatenate(places)
    targets = tokens[where]
    if all_masked:
        tokens[where] = mask
        return MaskedTokens(tokens, tuple(map(len, sequences)), where, targets)
    drawn = rng.random(len(where))
    others = rng.choice(np.asarray(genes, dtype=np.int64), size=len(where))
    tokens[where] = np.where(drawn < MASKED, mask, np.where(drawn < MASKED + REPLACED, others, targets))
    return MaskedTokens(tokens, tuple(map(len, sequences)), where, targets)


class MaskedLMHead(nn.Module):
    """HuggingFace's ``cls.predictions``: linear map, activation, norm, and a decoder tied to the word embeddings."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        d = architecture.hidden
        self.dense = nn.Linear(d, d)
        self.LayerNorm = nn.LayerNorm(d, eps=architecture.norm_eps)
        self.bias = nn.Parameter(torch.zeros(architecture.vocabulary))
        self._activation = F.relu if architecture.activation == "relu" else F.gelu
        nn.init.normal_(self.dense.weight, std=0.02)
        nn.init.zeros_(self.dense.bias)

    def forward(self, states: Tensor, words: Tensor) -> Tensor:
        """(m, d) last states and the (vocabulary, d) word embeddings -> (m, vocabulary) logits."""
        return F.linear(self.LayerNorm(self._activation(self.dense(states))), words, self.bias)

    def hf_state(self) -> dict[str, Tensor]:
        """The weights under HuggingFace's names; the tied decoder is not among them."""
        return {_HF_NAMES[name]: value.detach() for name, value in self.state_dict().items()}


_HF_NAMES = {
    "bias": "cls.predictions.bias",
    "dense.weight": "cls.predictions.transform.dense.weight",
    "dense.bias": "cls.predictions.transform.dense.bias",
    "LayerNorm.weight": "cls.predictions.transform.LayerNorm.weight",
    "LayerNorm.bias": "cls.predictions.transform.LayerNorm.bias",
}


def last_layer(layer: Layer, states: Tensor, masked: MaskedTokens) -> Tensor:
    """(n, d) states before the last layer -> (m, d) states after it at the hidden places, which see all tokens."""
    places = torch.from_numpy(masked.places).to(states.device)
    asking, attention = states[places], layer.attention.self
    q, k, v = attention.query(asking), attention.key(states), attention.value(states)
    ends = np.cumsum(masked.lengths)
    hidden = np.diff(np.searchsorted(masked.places, [0, *ends])).tolist()

    def heads(part: Tensor) -> Tensor:
        return part.view(1, len(part), attention.heads, -1).transpose(1, 2)

    mixed = [
        F.scaled_dot_product_attention(heads(a), heads(b), heads(c)).transpose(1, 2).reshape(len(a), -1)
        for a, b, c in zip(q.split(hidden), k.split(masked.lengths), v.split(masked.lengths))
    ]
    x = layer.attention.output(torch.cat(mixed), asking)
    return layer.output(layer.intermediate(x), x)


class MaskedLM(nn.Module):
    """An encoder and its language head."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.encoder = Encoder(architecture)
        self.head = MaskedLMHead(architecture)

    def forward(self, masked: MaskedTokens) -> Tensor:
        """(m, vocabulary) logits at the hidden places; nowhere else are the last layer and they computed."""
        device = self.head.bias.device
        encoder, tokens = self.encoder, torch.from_numpy(masked.tokens).to(device)
        states = encoder.packed(tokens, masked.lengths, layers=encoder.architecture.layers - 1)
        chosen = last_layer(encoder.encoder.layer[-1], states, masked)
        return self.head(chosen, encoder.embeddings.word_embeddings.weight)

    def loss_sum(self, masked: MaskedTokens) -> Tensor:
        """Sum over the hidden places of -ln(probability of the token that stood there)."""
        logits = self(masked)
        return F.cross_entropy(logits, torch.from_numpy(masked.targets).to(logits.device), reduction="sum")


def first_model(architecture: Architecture, context: RunContext) -> MaskedLM:
    """The weights that pretraining starts from: those of `make_model` by the seed of ``context``."""
    return make_model(architecture, int(context.rng("pretrain", "weights").integers(2**63 - 1)))


def make_model(architecture: Architecture, seed: int) -> MaskedLM:
    """A model with seeded weights, from which few cells and steps teach something.

    Which genes a cell shows is the mean of many tokens, a small part of any one of them: from the usual weights it
    stays hidden, and what is learned is how common genes are. So the first layer starts by attending evenly and taking
    the mean away from each token, times the root of the positions: as much as a token at the longest sequence, more at
    shorter ones. Hidden places then hold the reverse of what is shown, and the decoder, which is tied to the words,
    gives genes that are shown less: a gene stands once in a cell. All else starts out of the way of it: later layers,
    feed-forward and the head's ReLU. AdamW moves every weight by about the learning rate, whatever its gradient; words
    start large against it, and positions, of which most are rarely right, small against words. Positions start as
    waves (Vaswani et al. 2017, 3.5), in which neighbouring ranks are alike.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MaskedLM(architecture)
    embeddings, layers, head = model.encoder.embeddings, model.encoder.encoder.layer, model.head
    with torch.no_grad():
        waves = _waves(architecture.positions, architecture.hidden)
        embeddings.position_embeddings.weight.copy_(POSITION_SCALE * waves)
        embeddings.word_embeddings.weight.mul_(WORD_SCALE / _DEVIATION)
        for layer in layers:
            inside = layer.attention.self
            for linear in (inside.value, layer.intermediate.dense):
                linear.weight.mul_(_by_inputs(linear))
            for linear in (inside.query, inside.key, layer.attention.output.dense, layer.output.dense):
                linear.weight.mul_(SMALL * _by_inputs(linear))
        torch.nn.init.eye_(layers[0].attention.self.value.weight)
        torch.nn.init.eye_(layers[0].attention.output.dense.weight).mul_(-math.sqrt(architecture.positions))
        torch.nn.init.eye_(head.dense.weight)
        head.dense.bias.fill_(LINEAR_BIAS)
        head.LayerNorm.weight.fill_(LOGIT_SCALE / (WORD_SCALE * math.sqrt(architecture.hidden)))
    return model


def _by_inputs(linear: nn.Linear) -> float:
    """What makes the deviation of a map that has just started one over the root of its inputs."""
    return 1 / (_DEVIATION * math.sqrt(linear.in_features))


def _waves(positions: int, d: int) -> Tensor:
    """(positions, d) sines and cosines of falling frequency."""
    place = torch.arange(positions, dtype=torch.float64)[:, None]
    angles = place * torch.exp(-math.log(10_000.0) * torch.arange(0, d, 2, dtype=torch.float64) / d)
    return torch.stack([torch.sin(angles), torch.cos(angles)], dim=-1).flatten(1)[:, :d].float()
