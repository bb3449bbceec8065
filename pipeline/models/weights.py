"""Loading a model. Weights are only ever loaded as tensors, never unpickled."""

import struct
from collections.abc import Mapping
from typing import Any

import open_clip
import torch
from safetensors import SafetensorError
from torch import nn
from torch._weights_only_unpickler import UnpicklingError  # type: ignore[attr-defined]

from pipeline.errors import InputError
from pipeline.models.spec import RANDOM, ModelSpec, describe, label, refuse_missing_weights

CANNOT_LOAD = (
    RuntimeError, OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, AssertionError, StopIteration,
    UnpicklingError, SafetensorError, EOFError, IndexError, OverflowError, struct.error,
)
"""What open_clip raises for a model that it cannot find, download, load as tensors or fit to its config."""


def load_model(spec: ModelSpec, precision: str, device: str) -> tuple[nn.Module, Mapping[str, Any]]:
    """The model, ready for inference, and its preprocess config. Raises InputError if it cannot be had."""
    describe(spec)
    refuse_missing_weights(spec)   # the client of the hub would try again for half a minute
    random = spec.pretrained == RANDOM
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = open_clip.create_model(
                spec.resolved, pretrained=None if random else spec.pretrained, precision=precision, device=device,
                weights_only=True, pretrained_text=False, require_pretrained=not random,
            )
    except CANNOT_LOAD as error:
        raise InputError(f"model {label(spec)} cannot be loaded: {str(error) or type(error).__name__}") from error
    visual: Any = model.visual
    return model.eval().requires_grad_(False), visual.preprocess_cfg
