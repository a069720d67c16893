"""Every kind of mail in every language, with its sample values."""

from worker.services.mail.composing import Composer, Look

LOOK = Look(
    sender="mail@example.com",
    brand="Tide & Sons",
    color="#0a7d4b",
    web_url="https://app.example.com/",
)


def sample_composer(**others: object) -> Composer:
    """A composer of the samples' look."""
    return Composer(Look(**{field: getattr(LOOK, field) for field in LOOK.__slots__} | others))  # type: ignore[arg-type]
