import inspect

from shared import errors


def error_classes():
    return [c for _, c in inspect.getmembers(errors, inspect.isclass)]


def test_every_error_states_its_meaning_without_arguments():
    for error in error_classes():
        assert str(error()).strip(), error


def test_every_error_is_drawn_in_the_tree():
    for error in error_classes():
        assert error.__name__ in (errors.__doc__ or "")


def test_no_error_belongs_to_two_families():
    families = (errors.Transient, errors.Permanent, errors.Superseded, errors.InvalidRequest)
    for error in error_classes():
        assert sum(issubclass(error, family) for family in families) <= 1


def test_a_transient_error_carries_what_the_peer_asked_for():
    assert errors.ServiceUnavailable(retry_after_seconds=7).retry_after_seconds == 7
