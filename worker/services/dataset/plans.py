"""What a process rule and a form mean for one run: how to clean, where to cut."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from shared.errors import InvalidRequest, Permanent
from shared.models.process_rule import (
    DocForm,
    Mode,
    ParentMode,
    PreProcessing,
    ProcessRule,
    Rules,
    Segmentation,
    parse_process_rule,
    require_form,
)
from worker.services.dataset.claiming import Job
from worker.services.dataset.cleaning import CleaningRule, clean, finish, prepare, storable
from worker.services.dataset.splitting import SplitRule

_PARENTS = SplitRule(max_tokens=900, overlap_tokens=0)
_CHILDREN = SplitRule(max_tokens=150, overlap_tokens=0)
#: A question is one, however long: half of it has no answer.
_QUESTIONS = SplitRule(max_tokens=1_000_000, overlap_tokens=0)


@dataclass(frozen=True, slots=True)
class Plan:
    """How one document is cleaned and cut.

    Attributes:
        form: what of it is embedded.
        cleaning: what the rule takes; ``None`` cleans as Markdown and code can bear it.
        segments: where segments end; of a hierarchical document its parents.
        children: where children end.
        is_whole: whether the parent is the whole document.
    """

    form: DocForm
    cleaning: CleaningRule | None
    segments: SplitRule
    children: SplitRule
    is_whole: bool

    @property
    def embedded(self) -> SplitRule:
        """What bounds a text that is embedded."""
        if self.form is DocForm.HIERARCHICAL:
            return self.children
        return _QUESTIONS if self.form is DocForm.QUESTIONS else self.segments

    def prepare(self, text: str) -> str:
        """Clean a block before it is cut."""
        return clean(text) if self.cleaning is None else prepare(text, self.cleaning)

    def finish(self, text: str) -> str:
        """Clean a piece after it was cut."""
        return text if self.cleaning is None else finish(text, self.cleaning)


def plan_of(job: Job) -> Plan:
    """The plan for a document.

    Raises:
        Permanent: its stored rule says something wrong, or does not go with its form.
    """
    try:
        if job.rules is None:
            return _usual_plan(job.rule_mode or Mode.AUTOMATIC, job.doc_form)
        return _checked_plan(job.rule_mode or Mode.AUTOMATIC, job.rules, job.doc_form)
    except (InvalidRequest, ValueError, ValidationError) as error:
        raise Permanent(f"{job.name} cannot be split: {error}") from error


# Made once: most documents have no rule of their own, and to check one takes 0.1 ms.
@lru_cache(maxsize=16)
def _usual_plan(mode: str, doc_form: str) -> Plan:
    return _checked_plan(mode, None, doc_form)


def _checked_plan(mode: str, rules: dict[str, Any] | None, doc_form: str) -> Plan:
    rule, form = parse_process_rule({"mode": mode, "rules": rules}), DocForm(doc_form)
    require_form(rule, form)
    return _plan(rule, form)


def _plan(rule: ProcessRule, form: DocForm) -> Plan:
    is_hierarchical = form is DocForm.HIERARCHICAL
    if rule.rules is None:
        segments = _PARENTS if is_hierarchical else SplitRule()
        return Plan(form, None, segments, _CHILDREN, is_whole=False)
    return Plan(
        form,
        _cleaning(rule.rules),
        _split_rule(rule.rules.segmentation, SplitRule()),
        _split_rule(rule.rules.subchunk_segmentation, _CHILDREN),
        is_whole=is_hierarchical and rule.rules.parent_mode is ParentMode.FULL_DOC,
    )


def _cleaning(rules: Rules) -> CleaningRule:
    return CleaningRule(
        collapse_spaces=rules.does(PreProcessing.REMOVE_EXTRA_SPACES),
        strip_addresses=rules.does(PreProcessing.REMOVE_URLS_EMAILS),
    )


def _split_rule(segmentation: Segmentation | None, default: SplitRule) -> SplitRule:
    if segmentation is None:
        return default
    separator = segmentation.literal_separator
    return SplitRule(
        segmentation.max_tokens,
        segmentation.chunk_overlap,
        # As the text has it: with the line ends of all cleaned text.
        (storable(separator) or None) if separator is not None else None,
    )
