"""The encoder that a Library is indexed and searched with, and the next one when searches are switched to its Space."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from ivsearch.domain import Space
from ivsearch.encode.encoder import Encoder
from ivsearch.encoder_source import check_source, load, source_of
from ivsearch.errors import IvsearchError
from ivsearch.settings import Settings
from ivsearch.store.catalog import Catalog
from ivsearch.store.manifest import EncoderSource, Manifest, manifest_of


class EncoderInUse:
    """Loaded on first use. ``not_followed``: why it is not that of the active Space, in words; empty when it is, or
    was named."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.not_followed = ""
        self._folder = folder
        self._settings = settings
        # The Space that was active when we last looked.
        self._active: Space | None = None

    @cached_property
    def source(self) -> EncoderSource:
        """How it is loaded: as the settings say, and where they say nothing, as it was the last time."""
        return source_of(self._settings, self._manifest())

    @cached_property
    def encoder(self) -> Encoder:
        """Raises WeightsError when its weights cannot be had, UsageError when its name makes no sense."""
        self._active = self._manifest().active
        check_source(self.source, self._settings)
        return load(self.source, self._settings)

    def follow(self, catalog: Catalog) -> None:
        """Another process may have switched to another Space. Its encoder is loaded, unless this one was named; where
        that cannot be done, this one stays while the Catalog has its Space. Raises as ``encoder`` when it has not."""
        space, manifest = self.encoder.space, self._manifest()
        before, self._active = self._active, manifest.active
        is_named = self._settings.encoder or self._settings.weights or self._settings.preprocess
        if is_named or before is None or manifest.active in (None, before, space):
            return
        source = source_of(self._settings, manifest)
        try:
            check_source(source, self._settings)
            encoder = load(source, self._settings)
        except IvsearchError as error:
            if space not in catalog.spaces():
                raise
            self.not_followed = (
                f"this library was switched to {source.name}, which cannot be loaded here: {error}. "
                f"Searching with {self.source.name} meanwhile"
            )
            return
        self.encoder, self.source, self.not_followed = encoder, source, ""

    def _manifest(self) -> Manifest:
        return manifest_of(self._folder)
