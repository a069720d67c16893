import json

import pytest

from shared.errors import InvalidRequest
from shared.models.process_rule import (
    DocForm,
    Mode,
    ParentMode,
    PreProcessing,
    ProcessRule,
    parse_doc_form,
    parse_process_rule,
    require_form,
)

CUSTOM = {
    "mode": "custom",
    "rules": {
        "pre_processing_rules": [
            {"id": "remove_extra_spaces", "enabled": True},
            {"id": "remove_urls_emails", "enabled": False},
        ],
        "segmentation": {"separator": "\\n\\n", "max_tokens": 500, "chunk_overlap": 50},
    },
}
HIERARCHICAL = {
    "mode": "hierarchical",
    "rules": {
        "pre_processing_rules": [],
        "parent_mode": "paragraph",
        "segmentation": {"separator": "\n\n", "max_tokens": 1000},
        "subchunk_segmentation": {"separator": "\n", "max_tokens": 200},
    },
}


def custom(**segmentation):
    return {"mode": "custom", "rules": {"segmentation": {"max_tokens": 500} | segmentation}}


def hierarchical(**rules):
    return {"mode": "hierarchical", "rules": HIERARCHICAL["rules"] | rules}


def test_a_rule_in_difys_shape_means_what_it_says():
    rule = parse_process_rule(CUSTOM)
    assert rule.mode is Mode.CUSTOM
    assert rule.rules.segmentation.literal_separator == "\n\n"
    assert (rule.rules.segmentation.max_tokens, rule.rules.segmentation.chunk_overlap) == (500, 50)
    assert rule.rules.does(PreProcessing.REMOVE_EXTRA_SPACES)
    assert not rule.rules.does(PreProcessing.REMOVE_URLS_EMAILS)


@pytest.mark.parametrize(
    "given", [CUSTOM, HIERARCHICAL, hierarchical(parent_mode="full-doc"), {"mode": "automatic"}]
)
def test_what_is_stored_reads_back_as_the_same_rule(given):
    rule = parse_process_rule(given)
    stored = json.loads(json.dumps({"mode": rule.mode, "rules": rule.as_json()}))
    assert parse_process_rule(stored) == rule


@pytest.mark.parametrize("given", [{}, {"mode": "automatic"}, CUSTOM | {"mode": "automatic"}])
def test_automatic_is_the_default_and_its_rules_do_not_count(given):
    assert parse_process_rule(given) == ProcessRule()


@pytest.mark.parametrize(
    ("written", "literal"),
    [
        ("\\n", "\n"),
        ("\n", "\n"),
        ("\\t|\\t", "\t|\t"),
        ("\\\\n", "\\n"),
        ("。", "。"),
        (r"\d", r"\d"),
        (".*", ".*"),
    ],
)
def test_a_separator_is_literal_but_for_its_escapes(written, literal):
    rule = parse_process_rule(custom(separator=written))
    assert rule.rules.segmentation.literal_separator == literal


def test_difys_other_name_of_the_separator_is_known():
    rule = parse_process_rule(custom(delimiter="###"))
    assert rule.rules.segmentation.literal_separator == "###"


def test_the_limits_that_dify_says_with_a_rule_are_no_part_of_it():
    limits = {"indexing_max_segmentation_tokens_length": 4000}
    assert parse_process_rule(CUSTOM | {"limits": limits}) == parse_process_rule(CUSTOM)


def test_the_whole_document_needs_no_parent_segmentation():
    rules = {"parent_mode": "full-doc", "subchunk_segmentation": {"max_tokens": 200}}
    rule = parse_process_rule({"mode": "hierarchical", "rules": rules})
    assert rule.rules.parent_mode is ParentMode.FULL_DOC


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("custom", r"an object with mode and rules, not str"),
        ([], r"an object with mode and rules, not list"),
        ({"mode": "clever"}, r"mode .*'automatic', 'custom' or 'hierarchical', not 'clever'"),
        ({"mode": "custom"}, r"needs rules\.segmentation"),
        ({"mode": "custom", "rules": {}}, r"needs rules\.segmentation"),
        ({"mode": "custom", "rules": []}, r"rules"),
        ({"mode": "custom", "rule": {}}, r"rule there is no such field"),
        (custom(max_tokens=49), r"segmentation\.max_tokens .*greater than or equal to 50, not 49"),
        (custom(max_tokens=4001), r"segmentation\.max_tokens .*less than or equal to 4000"),
        (custom(max_tokens="500"), r"segmentation\.max_tokens .*valid integer, not '500'"),
        (custom(max_tokens=True), r"segmentation\.max_tokens .*valid integer"),
        (custom(chunk_overlap=500), r"chunk_overlap 500 is not less than max_tokens 500"),
        (custom(chunk_overlap=-1), r"chunk_overlap .*greater than or equal to 0"),
        (custom(separator=""), r"segmentation\.separator is empty: write \\n\\n"),
        (custom(separator="-" * 101), r"separator has more than 100 characters"),
        (custom(separator="a\0"), r"separator holds a character that no text has"),
        (custom(separator="\ud800"), r"separator holds a character that no text has"),
        (custom(overlap=5), r"rules\.segmentation\.overlap there is no such field"),
        (
            {"mode": "custom", "rules": HIERARCHICAL["rules"]},
            r"subchunk_segmentation: only mode hierarchical",
        ),
        (
            custom() | {"rules": {"pre_processing_rules": [{"id": "remove_rude_words"}]}},
            r"pre_processing_rules\.0\.id .*'remove_extra_spaces' or 'remove_urls_emails', not",
        ),
        (hierarchical(parent_mode="page"), r"parent_mode .*'paragraph' or 'full-doc', not 'page'"),
        (hierarchical(subchunk_segmentation=None), r"needs rules\.subchunk_segmentation"),
        (hierarchical(segmentation=None), r"paragraph needs rules\.segmentation"),
        (
            hierarchical(subchunk_segmentation={"max_tokens": 1001}),
            r"max_tokens 1001 is more than the parent's .* 1000",
        ),
    ],
)
def test_a_wrong_rule_is_refused_by_field_and_reason(given, message):
    with pytest.raises(InvalidRequest, match=message):
        parse_process_rule(given)


def test_every_wrong_field_is_named_at_once():
    with pytest.raises(InvalidRequest) as refused:
        parse_process_rule(custom(max_tokens=1, chunk_overlap=-1))
    assert "max_tokens" in str(refused.value)
    assert "chunk_overlap" in str(refused.value)


@pytest.mark.parametrize(
    ("rule", "form", "message"),
    [
        (HIERARCHICAL, DocForm.TEXT, "dataset of form hierarchical_model"),
        (HIERARCHICAL, DocForm.QUESTIONS, "dataset of form hierarchical_model"),
        (CUSTOM, DocForm.HIERARCHICAL, "use mode hierarchical"),
    ],
)
def test_a_rule_and_a_form_that_do_not_go_together(rule, form, message):
    with pytest.raises(InvalidRequest, match=message):
        require_form(parse_process_rule(rule), form)


def test_automatic_goes_with_every_form():
    for form in DocForm:
        require_form(ProcessRule(), form)


def test_a_form_that_does_not_exist_is_refused_with_those_that_do():
    assert parse_doc_form("qa_model") is DocForm.QUESTIONS
    with pytest.raises(InvalidRequest, match="'qa' is none of text_model, hierarchical_model"):
        parse_doc_form("qa")
