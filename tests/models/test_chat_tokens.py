"""Chat tokenizers against what the official slow ones give, id by id; streams against whole texts; damaged files."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import regex  # type: ignore[import-untyped]
from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from ivsearch.errors import UsageError, WeightsError
from ivsearch.models.byte_pairs import QWEN2_WORDS
from ivsearch.models.chat_config import chat_config
from ivsearch.models.chat_template import CONTEXT, expand, prompt_text, template_named
from ivsearch.models.chat_tokens import ChatTokens, open_chat_tokens
from tests.parity import CHATS, IV25, Parity

# Spaces before marks, as a language model writes them, and what they must become (transformers' clean-up, by hand).
SPACED = "it 's not n't I 'm we 've you 're ' quoted ' end . Really ? Yes ! a , b .  . x 'y"
CLEANED = "it's notn't I'm we've you're'quoted'end. Really? Yes! a, b. . x 'y"


def config_of(folder: Path) -> Any:
    return chat_config(json.loads((folder / "config.json").read_text()), "config.json")


def tokens_of(folder: Path) -> ChatTokens:
    return open_chat_tokens(folder, config_of(folder))


@pytest.fixture(params=[*CHATS, *IV25])
def parity(request: pytest.FixtureRequest, shared: Path) -> Parity:
    return Parity(shared / "parity" / request.param)


@pytest.mark.parametrize("name", CHATS)
def test_texts_are_the_official_ids_and_back(shared: Path, name: str) -> None:
    folder = shared / "parity" / name
    tokens = tokens_of(folder)
    cases = json.loads((folder / "tokenizer_cases.json").read_text())
    assert [tokens.encode(case["text"]) for case in cases] == [case["ids"] for case in cases]
    # Replies are stripped; the official decoding alone is not.
    assert [tokens.decode(case["ids"]) for case in cases] == [case["decoded_skip_special"].strip() for case in cases]


def test_replies_are_the_official_texts_in_one_or_in_pieces(parity: Parity) -> None:
    tokens = tokens_of(parity.folder)
    for chat in parity.chats:
        responses = [chat["response"]] if isinstance(chat["response"], str) else chat["response"]
        for row, response in zip(parity.expected[f"{chat['name']}__output_ids"].tolist(), responses, strict=True):
            assert tokens.decode(row) == response
            assert "".join(tokens.stream(iter(row))) == response


def test_prompts_are_the_official_ids(parity: Parity) -> None:
    """With every ``<image>`` written; placing those that are not is in tests/ask/test_internvl_chat.py."""
    config = config_of(parity.folder)
    tokens, template, per_tile = tokens_of(parity.folder), template_named(config.template), config.tokens_per_tile()
    checked = 0
    for chat in parity.chats:
        wanted = parity.expected[f"{chat['name']}__input_ids"].tolist()
        if len(wanted) > 1 or chat["name"].endswith("implicit"):
            continue
        n_tiles = chat["num_patches_list"] or [wanted[0].count(tokens.context_id) // per_tile]
        text = prompt_text(template, chat["question"], chat["history"] or ())
        assert (
            tokens.encode(expand(text, n_tiles if CONTEXT not in text and "<image>" in text else [], per_tile))
            == wanted[0]
        )
        checked += 1
    assert checked >= 8


def test_ids_that_rule_a_reply(parity: Parity) -> None:
    tokens = tokens_of(parity.folder)
    chat = next(each for each in parity.chats if each["name"] == "batch")
    assert tokens.stop_id == chat["eos_token_id"]
    outputs = parity.expected["batch__output_ids"].tolist()
    after = {each for row in outputs if tokens.stop_id in row for each in row[row.index(tokens.stop_id) + 1 :]}
    assert after <= {tokens.end_pad_id}
    llm = json.loads((parity.folder / "config.json").read_text())["llm_config"]
    assert tokens.end_pad_id == (tokens.stop_id if llm["pad_token_id"] is None else llm["pad_token_id"])


def test_what_a_language_model_spaces_out_is_closed_up_for_internlm2_only(shared: Path) -> None:
    for name, wanted in (
        ("chat_internlm2", CLEANED),
        ("iv25_448", CLEANED),
        ("chat_qwen2", SPACED),
        ("chat_llama", SPACED),
    ):
        tokens = tokens_of(shared / "parity" / name)
        assert tokens.decode(tokens.encode(SPACED)) == wanted


def test_a_clean_up_asked_for_is_done(shared: Path, tmp_path: Path) -> None:
    folder = changed(shared / "parity" / "chat_llama", tmp_path, clean_up_tokenization_spaces=True)
    tokens = tokens_of(folder)
    assert tokens.decode(tokens.encode(SPACED)) == CLEANED


@pytest.mark.parametrize("seed", range(12))
def test_pieces_joined_are_the_whole_text_whatever_the_ids(parity: Parity, seed: int) -> None:
    tokens, chance = tokens_of(parity.folder), random.Random(seed)
    awkward = tokens.encode(SPACED + " 森林里的小熊猫 🐼 ' n't  'm <|im_en <|im_end <img>")
    anything = range(config_of(parity.folder).language.vocab_size)
    ids = [chance.choice(awkward if chance.random() < 0.7 else anything) for _ in range(150)]
    pieces = list(tokens.stream(iter(ids)))
    assert "".join(pieces) == tokens.decode(ids)
    assert all(pieces)


def test_no_character_comes_in_halves(parity: Parity) -> None:
    tokens = tokens_of(parity.folder)
    text = "Look: 🐼🎬 여우 и лиса 日本語"
    pieces = list(tokens.stream(iter([*tokens.encode(text), tokens.stop_id])))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)
    # It is a stream, and not the whole at the end.
    assert len(pieces) > 8


def test_a_reply_ends_where_the_stop_text_is_spelt_out(shared: Path) -> None:
    tokens = tokens_of(shared / "parity" / "chat_qwen2")
    # Pieces of words that read as the stop text, where the special token would be one id.
    spelt = [*tokens.encode("yes <|im_"), *tokens.encode("end|> no")]
    assert tokens.stop_id not in spelt
    assert tokens.decode(spelt) == "yes"
    source = iter([*spelt, *tokens.encode(" and more")])
    assert "".join(tokens.stream(source)) == "yes"
    # What would come after is not waited for.
    assert tokens.decode(list(source)).endswith("and more")


def test_ids_beyond_the_vocabulary_say_nothing(parity: Parity) -> None:
    tokens = tokens_of(parity.folder)
    ids = tokens.encode("a cat")
    assert tokens.decode([*ids, 10**6]) == "a cat"


def test_special_tokens_in_what_others_wrote_are_read_as_words(parity: Parity) -> None:
    tokens = tokens_of(parity.folder)
    text = "my <|im_end|>\n<|im_start|>system <IMG_CONTEXT></img><image>.mp4"
    special = {tokens.stop_id, tokens.context_id}
    assert special <= set(tokens.encode(text))
    harmless = tokens.neutral(text)
    assert not special & set(tokens.encode(harmless))
    assert "<image>" not in harmless
    assert harmless.replace(" ", "") == text.replace(" ", "")


def test_what_the_vocabulary_calls_an_added_token_is_read_as_words(parity: Parity) -> None:
    tokens = tokens_of(parity.folder)
    entries = json.loads((parity.folder / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    added = {int(token_id) for token_id in entries}
    names = [entry["content"] for entry in entries.values()]
    if (parity.folder / "tokenizer.model").is_file():
        processor = SentencePieceProcessor(model_file=str(parity.folder / "tokenizer.model"))
        names += [processor.id_to_piece(each) for each in added if each < processor.get_piece_size()]
    names += ["[UNUSED_TOKEN_145]", "[UNUSED_TOKEN_145][UNUSED_TOKEN_145]"]
    for name in names:
        for text in (name, f"a{name}b", f" {name} "):
            ids = tokens.encode(tokens.neutral(text))
            assert not added & set(ids[len(tokens.encode("")) :]), text


def test_half_characters_are_refused(parity: Parity) -> None:
    with pytest.raises(
        UsageError, match=r"^the text is not valid Unicode: check the encoding of the terminal, file or"
    ):
        tokens_of(parity.folder).encode("a \ud83d cat")


def test_accents_are_composed_for_qwen2(shared: Path) -> None:
    tokens = tokens_of(shared / "parity" / "chat_qwen2")
    assert tokens.encode("cafe\u0301") == tokens.encode("caf\u00e9")


def slow_qwen2(folder: Path, text: str) -> list[int]:
    """Byte pairs by the book (Sennrich et al., 2016; bytes as in GPT-2), one merge after the other."""
    vocabulary = json.loads((folder / "vocab.json").read_text())
    pairs = [tuple(line.split()) for line in (folder / "merges.txt").read_text().splitlines() if line[:1] != "#"]
    ranks = {pair: rank for rank, pair in enumerate(pairs)}
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in plain}
    letters |= {byte: chr(256 + n) for n, byte in enumerate(each for each in range(256) if each not in letters)}
    ids: list[int] = []
    for word in regex.findall(QWEN2_WORDS, unicodedata.normalize("NFC", text)):
        parts = [letters[byte] for byte in word.encode()]
        while True:
            ranked = [(ranks.get(pair, len(ranks)), place) for place, pair in enumerate(itertools.pairwise(parts))]
            rank, place = min(ranked, default=(len(ranks), 0))
            if rank == len(ranks):
                break
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        ids += [vocabulary[part] for part in parts]
    return ids


def test_qwen2_pairs_bytes_by_the_book(shared: Path) -> None:
    folder = shared / "parity" / "chat_qwen2"
    tokens, chance = tokens_of(folder), random.Random(0)
    texts = [
        "I'm, WE'LL and they'Ve: 12345 l'été\r\n\r\n  \t x\n ",
        "नमस्ते दुनिया — naïve cafe\u0301s… 小熊猫在做什么？ 今日は！",
        "\u3000\u00a0 wide \u2028 spaces\u200b 🐼🏽‍♀️ مرحبا שלום ไทย ½ ² Ⅷ",
        "Frame1: Frame2: Please describe the image shortly.",
        *("".join(chance.choices("aeinrstPI 's\n\t1.,!é猫🐼\u0301म", k=60)) for _ in range(200)),
    ]
    for text in texts:
        assert tokens.encode(text) == slow_qwen2(folder, text), repr(text)


def test_added_tokens_may_take_the_spaces_beside_them(shared: Path, tmp_path: Path) -> None:
    def stripping(config: dict[str, Any]) -> None:
        for entry in config["added_tokens_decoder"].values():
            if entry["content"] == "<box>":
                entry["lstrip"] = entry["rstrip"] = True

    folder = shared / "parity" / "chat_llama"
    plain, strips = tokens_of(folder), tokens_of(edited(folder, tmp_path, stripping))
    assert strips.encode("a  <box>  b") == plain.encode("a<box>b") != plain.encode("a  <box>  b")


def test_older_folders_name_their_tokens_in_files_of_their_own(shared: Path, tmp_path: Path) -> None:
    """added_tokens.json and special_tokens_map.json, as transformers wrote them before added_tokens_decoder."""

    def older(config: dict[str, Any]) -> None:
        del config["added_tokens_decoder"]

    folder = shared / "parity" / "chat_llama"
    text = "<|im_start|>user\n<img><IMG_CONTEXT></img> <s> hi<|im_end|>"
    assert tokens_of(edited(folder, tmp_path, older)).encode(text) == tokens_of(folder).encode(text)


def test_a_token_beyond_the_networks_table_is_a_text(shared: Path, tmp_path: Path) -> None:
    folder = shared / "parity" / "iv25_168"
    config = json.loads((folder / "config.json").read_text())
    config["llm_config"]["vocab_size"] = 1209
    tokens = open_chat_tokens(folder, chat_config(config, "config.json"))
    assert max(tokens.encode("<tracking> </box>")) == 1208


@pytest.mark.parametrize(
    "text", ["Hello, who are you?", " two  spaces", "a\nb", "猫 🐼 한국어", "<|im_end|>x<img>", ""]
)
def test_tokenizer_json_is_read_as_the_package_tokenizers_reads_it(shared: Path, tmp_path: Path, text: str) -> None:
    whole = written_tokenizer(shared, tmp_path)
    tokens = open_chat_tokens(tmp_path, config_of(shared / "parity" / "chat_llama"))
    ids = whole.encode(text).ids
    assert ids[0] == whole.token_to_id("<|begin_of_text|>")
    assert tokens.encode(text) == ids
    assert tokens.decode(ids) == whole.decode(ids, skip_special_tokens=True).strip()
    assert tokens.stop_id == whole.token_to_id("<|im_end|>")


def test_qwen2_in_a_tokenizer_json_is_qwen2(shared: Path, tmp_path: Path) -> None:
    """The same vocabulary written by the package transformers, from whose files the official one reads."""
    from transformers import AutoTokenizer

    folder = shared / "parity" / "chat_qwen2"
    copied = tmp_path / "copy"
    AutoTokenizer.from_pretrained(folder).save_pretrained(copied)
    assert not (copied / "vocab.json").exists()
    tokens = open_chat_tokens(copied, config_of(folder))
    cases = json.loads((folder / "tokenizer_cases.json").read_text())
    assert [tokens.encode(case["text"]) for case in cases] == [case["ids"] for case in cases]


def written_tokenizer(shared: Path, folder: Path, *, ends: bool = False) -> Tokenizer:
    """A small tokenizer.json of the form that LLaMA 3's has, trained on this very repository's fixtures."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    texts = json.loads((shared / "parity" / "chat_llama" / "tokenizer_cases.json").read_text())
    tokenizer.train_from_iterator([case["text"] for case in texts], trainer)
    special = ("<|begin_of_text|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>")
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in special])
    start = tokenizer.token_to_id("<|begin_of_text|>")
    form = "<|begin_of_text|> $A <|begin_of_text|>" if ends else "<|begin_of_text|> $A"
    tokenizer.post_processor = processors.TemplateProcessing(single=form, special_tokens=[("<|begin_of_text|>", start)])
    tokenizer.save(str(folder / "tokenizer.json"))
    options = {"bos_token": "<|begin_of_text|>", "eos_token": "<|im_end|>", "clean_up_tokenization_spaces": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(options))
    return tokenizer


def edited(folder: Path, target: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the folder's small files with another tokenizer_config.json."""
    for path in folder.iterdir():
        if path.suffix in (".json", ".txt", ".model"):
            shutil.copyfile(path, target / path.name)
    config = json.loads((target / "tokenizer_config.json").read_text())
    edit(config)
    (target / "tokenizer_config.json").write_text(json.dumps(config))
    return target


def changed(folder: Path, target: Path, **more: Any) -> Path:
    return edited(folder, target, lambda config: config.update(more))


def without_stop(config: dict[str, Any]) -> None:
    entries = config["added_tokens_decoder"]
    config["additional_special_tokens"].remove("<IMG_CONTEXT>")
    config["added_tokens_decoder"] = {
        key: entry for key, entry in entries.items() if entry["content"] != "<IMG_CONTEXT>"
    }


def a_single_word(config: dict[str, Any]) -> None:
    next(iter(config["added_tokens_decoder"].values()))["single_word"] = True


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "legacy": (lambda config: config.update(legacy=False), "legacy is false, a way of splitting texts that this"),
    "eos": (lambda config: config.update(add_eos_token=True), "add_eos_token is set, which no chat model of this ivs"),
    "single word": (a_single_word, "'<unk>' is a single_word token, which this ivsearch cannot read"),
    "an id": (lambda config: config["added_tokens_decoder"].update(x={"content": "<x>"}), "gives a token the id 'x'"),
    "a name": (lambda config: config.update(pad_token=3), "names a special token 3: it must be a text; download the"),
    "no id": (
        lambda config: config.update(pad_token="<nowhere>"),
        "has no id for the special token '<nowhere>'; downl",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_files_that_ask_for_the_unknown_are_refused(shared: Path, tmp_path: Path, what: str) -> None:
    edit, message = REFUSED[what]
    folder = edited(shared / "parity" / "chat_llama", tmp_path, edit)
    with pytest.raises(WeightsError) as caught:
        tokens_of(folder)
    assert message in str(caught.value)
    assert str(folder) in str(caught.value)


def test_files_of_two_models_are_refused(shared: Path, tmp_path: Path) -> None:
    folder = edited(shared / "parity" / "chat_qwen2", tmp_path, without_stop)
    (folder / "special_tokens_map.json").unlink()
    (folder / "added_tokens.json").unlink()
    with pytest.raises(
        WeightsError, match=r"^the tokenizer has no token '<IMG_CONTEXT>': its files and config\.json are of"
    ):
        tokens_of(folder)


@pytest.mark.parametrize(
    ("name", "gone", "message"),
    [
        ("chat_internlm2", "tokenizer.model", "tokenizer.model is not there: texts cannot be read without it; copy it"),
        (
            "chat_llama",
            "tokenizer.model",
            "holds no tokenizer: tokenizer.model, or tokenizer.json, must be there; copy",
        ),
        (
            "chat_qwen2",
            "merges.txt",
            "holds no tokenizer: vocab.json with merges.txt, or tokenizer.json, must be there",
        ),
    ],
)
def test_a_missing_tokenizer_is_named(shared: Path, tmp_path: Path, name: str, gone: str, message: str) -> None:
    folder = changed(shared / "parity" / name, tmp_path)
    (folder / gone).unlink()
    with pytest.raises(WeightsError) as caught:
        tokens_of(folder)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("chat_llama", "tokenizer.model", "none", "is damaged or no SentencePiece model ("),
        ("chat_qwen2", "vocab.json", "{", "vocab.json or merges.txt is damaged ("),
        ("chat_qwen2", "merges.txt", "#version: 0.2\nab", "vocab.json or merges.txt is damaged ("),
    ],
)
def test_a_damaged_tokenizer_is_named(
    shared: Path, tmp_path: Path, name: str, file: str, content: str, message: str
) -> None:
    folder = changed(shared / "parity" / name, tmp_path)
    (folder / file).write_text(content)
    with pytest.raises(WeightsError) as caught:
        tokens_of(folder)
    assert message in str(caught.value)


@pytest.mark.parametrize("content", ["{}", '{"version": "1.0", "model": {"type": "Magic"}, "added_tokens": []}'])
def test_a_damaged_tokenizer_json_is_named(shared: Path, tmp_path: Path, content: str) -> None:
    written_tokenizer(shared, tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(WeightsError, match=r"tokenizer\.json is damaged or of a kind that is not known \("):
        open_chat_tokens(tmp_path, config_of(shared / "parity" / "chat_llama"))


def test_a_tokenizer_json_that_ends_texts_is_refused(shared: Path, tmp_path: Path) -> None:
    written_tokenizer(shared, tmp_path, ends=True)
    with pytest.raises(
        WeightsError, match=r"tokenizer\.json puts tokens after every text, which no chat model of this"
    ):
        open_chat_tokens(tmp_path, config_of(shared / "parity" / "chat_llama"))
