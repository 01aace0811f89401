"""The shape of an encoder: the published ones, and ``config.json`` of HuggingFace's `BertForMaskedLM`, in and out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hyped_core.errors import InvalidDataError, UnsupportedDataError

_FIELDS = {
    "num_hidden_layers": "layers",
    "hidden_size": "hidden",
    "num_attention_heads": "heads",
    "intermediate_size": "feed_forward",
    "max_position_embeddings": "positions",
    "vocab_size": "vocabulary",
    "type_vocab_size": "token_types",
    "pad_token_id": "pad",
    "layer_norm_eps": "norm_eps",
    "hidden_act": "activation",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
}
_HF_DEFAULTS = {
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
_ONLY: dict[str, tuple[Any, ...]] = {
    "model_type": ("bert",),
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False, None),
    "is_encoder_decoder": (False, None),
    "add_cross_attention": (False, None),
    "tie_word_embeddings": (True, None),
    "quantization_config": (None,),
    "pruned_heads": ({}, None),
    "chunk_size_feed_forward": (0, None),
}
"""Settings that change what is computed, and the values under which it is what is computed here."""
_IRRELEVANT = frozenset(
    "_attn_implementation_autoset _commit_hash _name_or_path architectures attn_implementation auto_map bos_token_id "
    "classifier_dropout dtype eos_token_id finetuning_task gradient_checkpointing id2label initializer_range label2id "
    "num_labels output_attentions output_hidden_states output_past problem_type return_dict return_dict_in_generate "
    "sep_token_id task_specific_params tokenizer_class torch_dtype torchscript transformers_version use_cache".split()
)
"""Settings that change nothing of the encoder."""
_ACTIVATIONS = ("relu", "gelu")
_MOST_LAYERS, _MOST_PARAMETERS = 1_000, 10_000_000_000
"""What a file may ask for: far above the published models (18 layers, 3e8), far below what hangs or fills a machine."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of a BERT encoder with absolute positions and norms after each sublayer.

    Attributes
    ----------
    layers, hidden, heads, feed_forward : number of layers, width, attention heads, width between the two linear maps.
    positions : longest sequence in tokens, special tokens counted.
    vocabulary : number of tokens.
    pad : token of padding.
    norm_eps : added to the variance in layer norms.
    activation : ``relu`` or ``gelu`` (the exact one).
    dropout, attention_dropout : probabilities in training.
    token_types : rows of the token type table; type 0 is the only one used.
    name : what it is called in messages and records; two architectures that differ in it alone are equal.

    Raises
    ------
    InvalidDataError
        A size is not a positive integer, or two do not go together.
    """

    layers: int
    hidden: int
    heads: int
    feed_forward: int
    positions: int
    vocabulary: int
    pad: int = 0
    norm_eps: float = 1e-12
    activation: str = "relu"
    dropout: float = 0.02
    attention_dropout: float = 0.02
    token_types: int = 2
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for key in ("layers", "hidden", "heads", "feed_forward", "positions", "vocabulary", "token_types"):
            value = getattr(self, key)
            if type(value) is not int or value < 1:
                raise InvalidDataError(f"must be a positive integer, found {value!r}", where=key)
        if self.hidden % self.heads:
            raise InvalidDataError(f"{self.heads} heads do not divide a width of {self.hidden}", where="heads")
        if type(self.pad) is not int or not 0 <= self.pad < self.vocabulary:
            raise InvalidDataError(f"must be a token below {self.vocabulary}, found {self.pad!r}", where="pad")
        if self.activation not in _ACTIVATIONS:
            raise UnsupportedDataError(
                f"must be {' or '.join(_ACTIVATIONS)}, found {self.activation!r}", where="activation"
            )
        for key, top in (("norm_eps", math.inf), ("dropout", 1.0), ("attention_dropout", 1.0)):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < top:
                raise InvalidDataError(f"must be a number from 0 to below {top:g}, found {value!r}", where=key)

    @property
    def label(self) -> str:
        """Its name, or its sizes where it has none."""
        return self.name or f"{self.layers} layers of {self.hidden}, {self.positions} positions"

    def depth(self, layer: int = -1) -> int:
        """Layers to run for ``hidden_states[layers + layer]``: -1 is the one before the last, 0 the last.

        Raises
        ------
        InvalidDataError
            There is no such layer.
        """
        if not -self.layers <= layer <= 0:
            raise InvalidDataError(f"there is no layer {layer}", where=self.label, mend=f"-{self.layers} to 0")
        return self.layers + layer

    def n_parameters(self, *, head: bool = True) -> int:
        """Number of weights, with the language head (its decoder is tied to the word embeddings) or without."""
        d, f = self.hidden, self.feed_forward
        embeddings = (self.vocabulary + self.positions + self.token_types + 2) * d
        layer = 4 * (d * d + d) + 2 * d * f + f + d + 4 * d
        return embeddings + self.layers * layer + ((d * d + 3 * d + self.vocabulary) if head else 0)

    def flops(self, length: int, *, layers: int | None = None, head: bool = False) -> int:
        """Floating point operations (a multiplication and an addition are two) for one sequence of ``length`` tokens.

        Matrix products only: four of the width squared and two with the feed-forward width for each token and layer,
        and two of attention for each pair of tokens.
        """
        d, f, n = self.hidden, self.feed_forward, self.layers if layers is None else layers
        products = n * length * (2 * (4 * d * d + 2 * d * f) + 4 * length * d)
        return products + (length * 2 * (d * d + d * self.vocabulary) if head else 0)

    @classmethod
    def from_hf_config(cls, config: Mapping[str, Any], where: object = "config.json") -> Architecture:
        """The architecture that a ``config.json`` describes.

        Raises
        ------
        UnsupportedDataError
            A setting that makes another computation of it (relative positions, another activation, a decoder, cross
            attention, quantised weights), or one that is not known; sizes far above any Geneformer's.
        InvalidDataError
            A size is missing or impossible.
        """
        for key, allowed in _ONLY.items():
            if key in config and config[key] not in allowed:
                raise UnsupportedDataError(
                    f"{key} is {config[key]!r}; only {allowed[0]!r} is supported", where=where, mend=_MEND
                )
        if "model_type" not in config:
            raise UnsupportedDataError("has no model_type: no model's configuration", where=where, mend=_MEND)
        for kind in config.get("architectures") or ():
            if not str(kind).startswith("BertFor") and kind != "BertModel":
                raise UnsupportedDataError(f"architectures holds {kind!r}, which is no Bert", where=where, mend=_MEND)
        unknown = sorted(set(config) - set(_FIELDS) - set(_ONLY) - _IRRELEVANT)
        if unknown:
            raise UnsupportedDataError(
                f"settings that are not known: {', '.join(unknown)}",
                where=where,
                mend="take them out if they change nothing of the encoder",
            )
        missing = [key for key in _FIELDS if key not in config and key not in _HF_DEFAULTS]
        if missing:
            raise InvalidDataError(f"lacks {', '.join(missing)}", where=where, mend=_MEND)
        values = {name: config.get(key, _HF_DEFAULTS.get(key)) for key, name in _FIELDS.items()}
        try:
            found = cls(**values)
        except InvalidDataError as error:
            key = next((key for key, name in _FIELDS.items() if name == error.where), error.where)
            raise type(error)(f"{key} {error.message}", where=where, mend=_MEND) from None
        if found.layers > _MOST_LAYERS or found.n_parameters() > _MOST_PARAMETERS:
            raise UnsupportedDataError(
                f"describes an encoder of more than {_MOST_LAYERS:,} layers or {_MOST_PARAMETERS:,} parameters",
                where=where,
                mend=_MEND,
            )
        name = next((known.name for known in PUBLISHED if known == found), "")
        return cls(**values, name=name)

    def to_hf_config(self) -> dict[str, Any]:
        """Settings for a ``config.json`` that HuggingFace's ``BertForMaskedLM.from_pretrained`` reads."""
        return {
            "architectures": ["BertForMaskedLM"],
            "initializer_range": 0.02,
            "is_decoder": False,
            "model_type": "bert",
            "tie_word_embeddings": True,
            **{key: getattr(self, name) for key, name in _FIELDS.items()},
        }


_MEND = "give the config.json of a BertForMaskedLM"

V1_10M = Architecture(6, 256, 4, 512, 2048, 25_426, name="V1-10M")
V1_40M = Architecture(12, 512, 8, 1024, 2048, 25_426, name="V1-40M")
V2_104M = Architecture(12, 768, 12, 3072, 4096, 20_275, name="V2-104M")
V2_316M = Architecture(18, 1152, 18, 4608, 4096, 20_275, name="V2-316M")
PUBLISHED = (V1_10M, V1_40M, V2_104M, V2_316M)
"""Shapes of the published weights (https://huggingface.co/ctheodoris/Geneformer)."""
TINY = Architecture(2, 256, 2, 128, 1024, 1_024, name="tiny")
"""Shape of a model that is pretrained here in a minute; vocabulary and positions are set to the data's."""
