"""The encoders that judge hits again, each loaded once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ivsearch.domain import Reranking
from ivsearch.encode.encoder import Encoder, Shared
from ivsearch.encode.table import encoder_row
from ivsearch.encoder_in_use import EncoderInUse
from ivsearch.encoder_source import absolute_folder, absolute_name, check_remembered, load
from ivsearch.errors import UsageError
from ivsearch.settings import Settings
from ivsearch.store.manifest import EncoderSource, manifest_of


class Rerankers:
    """Of one Library, whose ``own`` encoder is not loaded twice."""

    def __init__(self, folder: Path, settings: Settings, own: EncoderInUse) -> None:
        self._folder = folder
        self._settings = settings
        self._own = own
        self._loaded: dict[EncoderSource, Encoder] = {}

    def encoder(self, wanted: Reranking) -> Encoder:
        """Raises UsageError for an unknown name or missing weights, WeightsError when they cannot be had."""
        source = self._source_of(wanted)
        if source == self._own.source:
            return self._own.encoder
        if encoder_row(source.name)[0].needs_weights and not source.weights:
            raise UsageError(f"re-ranker {source.name!r} needs weights: give a folder or a hub id (--rerank-weights)")
        if not wanted.weights:
            check_remembered(source.weights, "--rerank-weights DIR")
        if source not in self._loaded:
            self._loaded[source] = self._sibling(source) or load(source, self._settings)
        return self._loaded[source]

    def _source_of(self, wanted: Reranking) -> EncoderSource:
        """As it was asked for, else as the library remembers it, else from the weights of its own encoder where both
        are of one kind."""
        name, own = absolute_name(wanted.encoder), self._own.source
        row = encoder_row(wanted.encoder)[0]
        kin = row.needs_weights and row.module == encoder_row(own.name)[0].module
        manifest = manifest_of(self._folder)
        source = manifest.source_of(name) or (dataclasses.replace(own, name=name) if kin else EncoderSource(name))
        return dataclasses.replace(source, weights=absolute_folder(wanted.weights)) if wanted.weights else source

    def _sibling(self, source: EncoderSource) -> Encoder | None:
        """The encoder out of the weights that the library's own has loaded already, where they are the same."""
        own = self._own
        same = source == dataclasses.replace(own.source, name=source.name)
        return own.encoder.sibling(source.name) if same and isinstance(own.encoder, Shared) else None
