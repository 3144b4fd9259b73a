"""What the user of ``search`` typed → the Query that is meant."""

from __future__ import annotations

import click

from ivsearch.commands.options import existing, readable, seconds
from ivsearch.domain import WITHIN_S, Filters, Query, Then
from ivsearch.errors import UsageError

DASHED = (
    "To leave something out, put the minus on its own: `ivsearch search dog - snow`, or `- 5:snow` with a weight. "
    "A text that begins with a dash needs -- before it"
)


class Dashed(click.Command):
    """Says what to write instead where a minus stuck to its word, such as ``-snow``, was taken for an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name.startswith("--"):
                raise
            raise click.UsageError(f"no such option: {error.option_name}. {DASHED}", ctx) from None


def asked(
    words: tuple[str, ...],
    image: str | None,
    clip: int | None,
    region: str | None,
    thens: tuple[str, ...],
    within: tuple[str, ...],
    filters: Filters,
) -> Query:
    """Raises click.UsageError, or UsageError for words that make no sense together."""
    # Here, so that `ivsearch search --help` need not wait for what reads queries.
    from dataclasses import replace

    from ivsearch.search.region import read_region
    from ivsearch.search.terms import query_of, read_terms

    for word in (*words, *thens):
        readable(word)
    said = bool(" ".join(words).strip())
    if sum((said, image is not None, clip is not None)) != 1:
        raise click.UsageError(
            "say what to look for: a text, or --image FILE, or --clip ID (one of them); to look for several at once, "
            "join them: `ivsearch search a dog + beach.jpg + clip:12`"
        )
    if region is not None and image is None:
        raise click.UsageError("--region goes with --image FILE; elsewhere write FILE#x,y,w,h")
    if said:
        query = query_of(read_terms(words))
    else:
        query = Query(image=existing(image) if image is not None else None, clip_id=clip)
    if region is not None:
        query = replace(query, region=read_region(region))
    return replace(query, filters=filters, then=_then(thens, within))


def _then(thens: tuple[str, ...], within: tuple[str, ...]) -> tuple[Then, ...]:
    """One ``--within`` for all steps, or one for each."""
    from ivsearch.search.terms import read_terms

    if within and not thens:
        raise click.UsageError("--within goes with --then: `ivsearch search A --then B --within 30`")
    if len(within) not in (0, 1, len(thens)):
        raise click.UsageError(f"give --within once, or once for each --then: {len(thens)} times, not {len(within)}")
    limits_s = [seconds(each) for each in within] or [WITHIN_S]
    if len(limits_s) == 1:
        limits_s *= len(thens)
    if any(not text.strip() for text in thens):
        raise UsageError("--then needs something to look for: a text, a picture file or clip:ID")
    return tuple(Then(read_terms((text,)), limit_s) for text, limit_s in zip(thens, limits_s, strict=True))
