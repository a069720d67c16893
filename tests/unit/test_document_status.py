"""The document status machine, arrow by arrow."""

from itertools import product

import pytest

from shared.errors import InvalidTransition
from shared.models.document_status import DocumentStatus as S
from shared.models.document_status import require_transition

#: Written out by hand, so that a change of the table has to be meant.
ARROWS = {
    *((S.WAITING, new) for new in (S.PARSING, S.ERROR, S.PAUSED)),
    *((S.PARSING, new) for new in (S.CLEANING, S.ERROR, S.PAUSED, S.WAITING)),
    *((S.CLEANING, new) for new in (S.SPLITTING, S.ERROR, S.PAUSED, S.WAITING)),
    *((S.SPLITTING, new) for new in (S.INDEXING, S.ERROR, S.PAUSED, S.WAITING)),
    *((S.INDEXING, new) for new in (S.COMPLETED, S.ERROR, S.PAUSED, S.WAITING)),
    (S.COMPLETED, S.WAITING),
    (S.ERROR, S.WAITING),
    (S.PAUSED, S.WAITING),
    (S.PAUSED, S.ERROR),
}


@pytest.mark.parametrize(("old", "new"), list(product(S, S)))
def test_every_pair_is_an_arrow_or_refused(old: S, new: S) -> None:
    if (old, new) in ARROWS:
        require_transition(old, new)
        return
    with pytest.raises(InvalidTransition):
        require_transition(old, new)


def test_a_refusal_names_both_ends_and_the_ways_out() -> None:
    with pytest.raises(InvalidTransition) as caught:
        require_transition(S.PAUSED, S.COMPLETED)

    assert str(caught.value) == (
        "a document cannot go from paused to completed, only to: error, waiting"
    )
