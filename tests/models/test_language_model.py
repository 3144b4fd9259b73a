"""The language models against the official logits, and against themselves read in other pieces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ivsearch.errors import NotFinite, UsageError
from ivsearch.models.chat_config import chat_config
from ivsearch.models.checkpoint import open_checkpoint
from ivsearch.models.features import Features
from ivsearch.models.language_model import LanguageModel
from ivsearch.models.replier import Replier
from tests.parity import Parity

CHATS = ("chat_internlm2", "chat_qwen2", "chat_llama")


def language_model(parity: Parity, config: str = "config.json") -> LanguageModel:
    checkpoint = open_checkpoint(parity.folder)
    with torch.device("meta"):
        model = LanguageModel(chat_config(json.loads((parity.folder / config).read_text()), config).language)
    checkpoint.fill(model, "language_model.", device="cpu", dtype=torch.float32)
    return model.eval().requires_grad_(False)


@pytest.fixture(params=CHATS)
def parity(request: pytest.FixtureRequest, shared: Path) -> Parity:
    return Parity(shared / "parity" / request.param)


def logits(model: LanguageModel, ids: np.ndarray, *pieces: int) -> torch.Tensor:
    """Read in pieces of these lengths and a rest."""
    cache = model.cache(1, ids.shape[1])
    with torch.inference_mode():
        parts = torch.tensor(ids).split([*pieces, ids.shape[1] - sum(pieces)], 1)
        return torch.cat([model.logits(model(model.embed(part), cache)) for part in parts], 1)[0]


@pytest.mark.parametrize("pieces", [(), (3,), (1, 1, 4)])
@pytest.mark.parametrize("joined", ["as stored", "side by side"])
def test_logits_are_the_official_ones(parity: Parity, joined: str, pieces: tuple[int, ...]) -> None:
    model = language_model(parity)
    if joined == "side by side":
        model.join()
    parity.check("lm_logits", logits(model, parity.expected["lm_ids"], *pieces))


def test_positions_beyond_the_length_it_was_made_for_turn_more_slowly(shared: Path) -> None:
    parity = Parity(shared / "parity" / "chat_internlm2")
    model = language_model(parity, "config_rope.json")
    ids = parity.expected["rope_ids"]
    assert ids.shape[1] > model.config.max_position_embeddings
    parity.check("rope_logits_last4", logits(model, ids)[-4:])


def replier(parity: Parity, config: str = "config.json") -> Replier:
    stop = int(parity.notes["generation"]["eos_token_id"])
    added = json.loads((parity.folder / "added_tokens.json").read_text())
    return Replier(
        language_model(parity, config), context_id=added["<IMG_CONTEXT>"], stop_ids=frozenset([stop]), pad_id=0
    )


def ids_of(parity: Parity, chat: str, what: str) -> list[int]:
    found: list[int] = parity.expected[f"{chat}__{what}"][0].tolist()
    return found


def reply(asked: Replier, parity: Parity, chat: str) -> list[int]:
    return list(asked.stream(ids_of(parity, chat, "input_ids"), None, max_new_tokens=20))


def test_a_conversation_reads_what_it_has_read_only_once(parity: Parity) -> None:
    asked = replier(parity)
    assert reply(asked, parity, "text_turn1") == ids_of(parity, "text_turn1", "output_ids")
    assert asked.reused == 0
    assert reply(asked, parity, "text_turn2") == ids_of(parity, "text_turn2", "output_ids")
    assert asked.reused >= len(ids_of(parity, "text_turn1", "input_ids"))
    # Asked the first again: all but the last place of it is there, and the second turn is forgotten.
    assert reply(asked, parity, "text_turn1") == ids_of(parity, "text_turn1", "output_ids")
    assert asked.reused == len(ids_of(parity, "text_turn1", "input_ids")) - 1
    asked.forget()
    assert reply(asked, parity, "text_turn2") == ids_of(parity, "text_turn2", "output_ids")
    assert asked.reused == 0


def test_the_last_token_of_a_reply_is_read_before_it_is_built_upon(parity: Parity) -> None:
    asked, fresh = replier(parity), replier(parity)
    ids = ids_of(parity, "text_turn1", "input_ids")
    longer = [*ids, *reply(asked, parity, "text_turn1"), 3, 4, 5]
    again = list(asked.stream(longer, None, max_new_tokens=20))
    assert asked.reused == len(longer) - 4
    assert again == list(fresh.stream(longer, None, max_new_tokens=20))


def test_a_reply_that_is_broken_off_leaves_nothing_wrong_behind(parity: Parity) -> None:
    asked = replier(parity)
    started = asked.stream(ids_of(parity, "text_turn1", "input_ids"), None, max_new_tokens=20)
    next(started)
    started.close()
    assert reply(asked, parity, "text_turn2") == ids_of(parity, "text_turn2", "output_ids")


def test_rows_of_a_batch_are_what_they_are_alone(parity: Parity) -> None:
    chats = ("text_turn1", "text_turn2")
    rows = replier(parity).batch([ids_of(parity, chat, "input_ids") for chat in chats], [None, None], max_new_tokens=20)
    for chat, row in zip(chats, rows, strict=True):
        alone = ids_of(parity, chat, "output_ids")
        assert row == alone + [0] * (len(row) - len(alone))


def test_other_pictures_behind_the_same_tokens_are_read_anew(shared: Path) -> None:
    parity = Parity(shared / "parity" / "chat_qwen2")
    asked, fresh = replier(parity), replier(parity)
    ids = [5, 6, asked.context_id, asked.context_id, 7, 8, 9]
    width = asked.model.config.hidden_size
    first, second = (Features(torch.randn(1, 2, width, generator=torch.Generator().manual_seed(i))) for i in (1, 2))
    second.tensor[0, 0] = first.tensor[0, 0]
    list(asked.stream(ids, first, max_new_tokens=3))
    again = list(asked.stream(ids, second, max_new_tokens=3))
    assert asked.reused == 3
    assert again == list(fresh.stream(ids, second, max_new_tokens=3))
    list(asked.stream([5, 6, 7, 8], None, max_new_tokens=3))
    assert asked.reused == 2


def test_a_conversation_that_outgrows_its_room_moves_to_a_larger_one(shared: Path) -> None:
    parity = Parity(shared / "parity" / "chat_internlm2")
    asked, fresh = replier(parity), replier(parity)
    long = [3 + i % 200 for i in range(600)]
    list(asked.stream(long[:200], None, max_new_tokens=4))
    moved = list(asked.stream(long, None, max_new_tokens=10))
    assert asked.reused == 200
    assert moved == list(fresh.stream(long, None, max_new_tokens=10))


@pytest.mark.parametrize("lengths", [(30, 110), (110, 30)])
def test_nothing_is_kept_across_the_length_from_which_positions_turn_slower(
    shared: Path, lengths: tuple[int, int]
) -> None:
    parity = Parity(shared / "parity" / "chat_internlm2")
    asked, fresh = replier(parity, "config_rope.json"), replier(parity, "config_rope.json")
    first, second = ([3 + i % 200 for i in range(length)] for length in lengths)
    assert asked.model.config.max_position_embeddings == 48
    list(asked.stream(first, None, max_new_tokens=4))
    again = list(asked.stream(second, None, max_new_tokens=10))
    assert again == list(fresh.stream(second, None, max_new_tokens=10))
    assert asked.reused == 0


def test_a_reply_cannot_go_on_after_another_question(shared: Path) -> None:
    asked = replier(Parity(shared / "parity" / "chat_llama"))
    first = asked.stream([5, 6, 7], None, max_new_tokens=10)
    next(first)
    second = asked.stream([8, 9], None, max_new_tokens=10)
    begun = next(second)
    with pytest.raises(UsageError, match="another question was asked before this reply had ended"):
        next(first)
    fresh = replier(Parity(shared / "parity" / "chat_llama"))
    assert [begun, *second] == list(fresh.stream([8, 9], None, max_new_tokens=10))


def test_a_context_token_that_the_model_itself_said_is_no_picture(shared: Path) -> None:
    parity = Parity(shared / "parity" / "chat_qwen2")
    asked, fresh = replier(parity), replier(parity)
    context, width = asked.context_id, asked.model.config.hidden_size
    row = torch.randn(1, 1, width, generator=torch.Generator().manual_seed(1))
    list(asked.stream([5, context, 6], Features(row), max_new_tokens=1))
    asked._read.append(context)  # as after a reply with it
    both = Features(torch.cat([row, row + 1], 1))
    longer = [*asked._read, 7]
    again = list(asked.stream(longer, both, max_new_tokens=5))
    assert asked.reused == 3
    assert again == list(fresh.stream(longer, both, max_new_tokens=5))


def test_what_cannot_be_read_is_refused(shared: Path) -> None:
    parity = Parity(shared / "parity" / "chat_qwen2")
    asked = replier(parity)
    width = asked.model.config.hidden_size
    with pytest.raises(UsageError, match="an empty prompt has no reply"):
        list(asked.stream([], None, max_new_tokens=3))
    with pytest.raises(UsageError, match=r"1 places for what is seen, but 0 features came: leave <IMG_CONTEXT> out"):
        list(asked.stream([1, asked.context_id], None, max_new_tokens=3))
    with pytest.raises(UsageError, match="0 places for what is seen, but 2 features came"):
        list(asked.stream([1, 2], Features(torch.zeros(1, 2, width)), max_new_tokens=3))
    with pytest.raises(UsageError, match="have 40000 tokens, and the model reads 32768: take fewer frames"):
        list(asked.stream([1] * 39_000, None, max_new_tokens=1000))
    assert list(asked.stream([1, 2], None, max_new_tokens=0)) == []
    assert asked.batch([[1, 2], [3]], [None, None], max_new_tokens=0) == [[], []]
    asked.model.model.norm.weight.fill_(float("inf"))
    with pytest.raises(NotFinite, match="no finite numbers in float32: the weights may be damaged"):
        list(asked.stream([1, 2], None, max_new_tokens=3))
