"""Where weights are: a folder, or a model of the Hugging Face hub, in its cache or downloaded into it."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import NoReturn

from ivsearch.errors import WeightsError
from ivsearch.models.layout import STEMS, read_index

HUB_ID = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w./-]*))?", re.ASCII)
BESIDE = ("*.json", "*.txt", "*.model")
WEIGHTS = ("*.safetensors", "*.bin")
# For the hub's first answer. The HTTP client starts its timeout anew for each address of a host, for connecting and
# for every read, and looking up a name has none: only a clock of our own holds for all of it.
DEADLINE_S = 6.0
SHOWN = 3


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository of the hub. ``revision`` is a branch, a tag or a commit; None is the main branch."""

    repository: str
    revision: str | None

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}" if self.revision else self.repository


def hub_model(weights: str) -> HubModel | None:
    """``org/name`` or ``org/name@revision``; None for what is not written as a hub id."""
    match = HUB_ID.fullmatch(weights)
    return HubModel(match["repository"], match["revision"]) if match else None


def locate(weights: str) -> Path:
    """The folder of ``weights``: that folder itself, or the snapshot of a hub id, as ``pull`` gives it.

    Raises WeightsError for a folder that is not there, and what ``pull`` raises.
    """
    folder = _folder(weights)
    return pull(_named_model(weights)) if folder is None else folder


def at_hand(weights: str) -> Path:
    """As ``locate``, but asks no network: the snapshot of a hub id is as it is, whole or not."""
    folder = _folder(weights)
    if folder is not None:
        return folder
    model = _named_model(weights)
    snapshot = cached_snapshot(model)
    if snapshot is None:
        raise WeightsError(f"{_state(model, None, [])}: run `ivsearch models pull {model}` first")
    return snapshot


def missing_at_hand(weights: str) -> list[str]:
    """Names of needed files that the snapshot of a hub id lacks. Of a folder nobody knows what belongs there."""
    return [] if _folder(weights) else lacking(_named_model(weights), at_hand(weights))


def pull(model: HubModel) -> Path:
    """The folder of the model's snapshot in the hub's cache, downloaded where it is not whole.

    What is cached whole is answered without the network, whatever the hub holds by now. Otherwise, unless
    ``HF_HUB_OFFLINE`` is set, the files that loading needs are downloaded: ``.json``, ``.txt``, ``.model`` and
    ``.safetensors``, or ``.bin`` where there are no ``.safetensors``. Raises WeightsError: within seconds where the
    hub cannot be reached.
    """
    snapshot = cached_snapshot(model)
    missing = lacking(model, snapshot) if snapshot else []
    if snapshot and not missing:
        return snapshot
    return _download(model, _state(model, snapshot, missing))


def _folder(weights: str) -> Path | None:
    if not weights:
        raise WeightsError("the name of the weights is empty: give a folder or a hub id")
    try:
        folder = Path(weights).expanduser()
    except RuntimeError as error:
        raise WeightsError(f"{weights}: no such folder ({error})") from error
    if folder.is_dir():
        return folder
    if folder.exists():
        raise WeightsError(f"{weights} is a file: name the folder that holds it, {folder.parent}")
    return None


def _named_model(weights: str) -> HubModel:
    model = hub_model(weights)
    if model is None:
        raise WeightsError(f"{weights}: no such folder (a model of the hub is written org/name or org/name@revision)")
    return model


def cached_snapshot(model: HubModel) -> Path | None:
    """The folder of the model in the hub's cache, whole or not."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        # No file is asked for, so that the folder is named even when it is not complete.
        found = snapshot_download(model.repository, revision=model.revision, local_files_only=True, allow_patterns=[])
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise WeightsError(f"{model}: no such folder, and no name of a model on the hub ({error})") from error
    return Path(found)


def needed(names: Iterable[str]) -> list[str]:
    """Of a repository's files, those that loading its model needs."""
    top = sorted(name for name in names if "/" not in name)
    chosen = [name for name in top if any(fnmatch(name, pattern) for pattern in BESIDE)]
    for pattern in WEIGHTS:
        if weights := [name for name in top if fnmatch(name, pattern)]:
            # An index of .bin files is of no use beside .safetensors.
            useless = {f"{stem}.index.json" for stem in STEMS if not fnmatch(stem, pattern)}
            return [name for name in chosen if name not in useless] + weights
    return chosen


def lacking(model: HubModel, snapshot: Path) -> list[str]:
    """Names of the needed files that the snapshot lacks: by the listing kept at download, else by the index."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        listed = [file.path for file in get_cached_repo_tree(model.repository, revision=model.revision)]
        wanted = needed(listed)
    except CachedRepoTreeNotFoundError:
        wanted = needed(path.name for path in snapshot.iterdir())
        for stem in STEMS:
            index = snapshot / f"{stem}.index.json"
            if index.name in wanted and index.exists():
                wanted += sorted(set(read_index(index).values()))
                break
    if not any(fnmatch(name, pattern) for name in wanted for pattern in WEIGHTS):
        return [STEMS[0]]
    return [name for name in wanted if not (snapshot / name).exists()]


def _download(model: HubModel, state: str) -> Path:
    from huggingface_hub import constants, is_offline_mode, snapshot_download

    if is_offline_mode():
        _unreachable(model, state, f"HF_HUB_OFFLINE is set, so {constants.ENDPOINT} is not asked", None)
    names = needed(_listed(model, state))
    if not any(fnmatch(name, pattern) for name in names for pattern in WEIGHTS):
        raise WeightsError(f"{model} on the hub holds neither .safetensors nor .bin files: name another repository")
    try:
        return Path(snapshot_download(model.repository, revision=model.revision, allow_patterns=names))
    except Exception as error:
        # Of the network, of the disk, of the hub: huggingface_hub raises what each of its parts raises.
        raise WeightsError(
            f"the download of {model} stopped ({_reason(error)}): run `ivsearch models pull {model}` again, "
            "it goes on where it stopped"
        ) from error


def _listed(model: HubModel, state: str) -> list[str]:
    """The names of the repository's files, asked of the hub once and without retries."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    answers: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            info = HfApi().model_info(model.repository, revision=model.revision, timeout=DEADLINE_S)
            answers.put([file.rfilename for file in info.siblings or []])
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, name="ivsearch-hub", daemon=True).start()
    try:
        answer = answers.get(timeout=DEADLINE_S)
    except queue.Empty:
        answer = TimeoutError(f"no answer in {DEADLINE_S:.0f} s")
    if isinstance(answer, GatedRepoError):
        raise WeightsError(
            f"{model} is gated: accept its conditions at {constants.ENDPOINT}/{model.repository}, then run "
            "`hf auth login` or set HF_TOKEN"
        ) from answer
    if isinstance(answer, RevisionNotFoundError):
        raise WeightsError(f"{model.repository} has no revision {model.revision!r}: leave @… out for main") from answer
    if isinstance(answer, RepositoryNotFoundError):
        raise WeightsError(
            f"{model} is no folder here and no model at {constants.ENDPOINT}, or a private one: check the name, or "
            "run `hf auth login`"
        ) from answer
    if isinstance(answer, Exception):
        _unreachable(model, state, f"{constants.ENDPOINT} cannot be reached ({_reason(answer)})", answer)
    return list(answer)


def _state(model: HubModel, snapshot: Path | None, missing: Sequence[str]) -> str:
    from huggingface_hub import constants

    if snapshot is None:
        return f"{model} is no folder here and not in the hub's cache ({constants.HF_HUB_CACHE})"
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return f"{model} is only partly downloaded: {snapshot} lacks {', '.join(missing[:SHOWN])}{more}"


def _unreachable(model: HubModel, state: str, obstacle: str, cause: Exception | None) -> NoReturn:
    from huggingface_hub import constants

    revision = f" --revision {model.revision}" if model.revision else ""
    cache = Path(constants.HF_HUB_CACHE) / f"models--{model.repository.replace('/', '--')}"
    offline = "unset HF_HUB_OFFLINE, or " if cause is None else ""
    raise WeightsError(
        f"{state}, and {obstacle}: {offline}where there is a network run `hf download {model.repository}{revision} "
        f"--local-dir FOLDER`, copy the folder here and give it as --weights FOLDER (a chat model's in `ask` as "
        f"--chat-weights; or copy that machine's cache folder to {cache})"
    ) from cause


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else type(error).__name__
