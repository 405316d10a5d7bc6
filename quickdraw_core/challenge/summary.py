"""A submission in a few lines, for the terminal."""

from quickdraw_core.challenge.balance import Balance
from quickdraw_core.challenge.submission import SubmissionResult
from quickdraw_core.errors import and_more


def submission_facts(result: SubmissionResult) -> dict[str, str]:
    """Where the submission is, what balancing did, and which rows could not be read."""
    facts = {"submission": f"{result.rows:,} rows in {result.path}"}
    facts["computed in"] = result.precision
    if result.seconds:
        facts["speed"] = (
            f"{result.rows / result.seconds:,.0f} rows a second, "
            f"{result.waited_seconds / result.seconds:.1%} of the time waiting for data"
        )
    if result.balance is not None:
        facts |= _balance_facts(result.balance)
    if result.notes:
        facts["for Kaggle"] = "; ".join(result.notes)
    if result.probabilities is not None:
        facts["probabilities"] = str(result.probabilities)
    if result.unreadable:
        lines = ", ".join(
            f"line {row.line} ({row.reason}, {row.found})" for row in result.first_unreadable
        )
        facts["unreadable"] = (
            f"{result.unreadable:,} rows answered with the most common words: {lines}"
            + and_more(result.unreadable - len(result.first_unreadable))
            + (f"; all in {result.unreadable_file}" if result.unreadable_file else "")
        )
    return facts


def _balance_facts(balance: Balance) -> dict[str, str]:
    """The least and the most first guesses of a class, before and after balancing."""
    before, after = balance.before, balance.after
    facts = {
        "first guesses": f"{before.min():,} to {before.max():,} a class (spread "
        f"{before.std():,.1f}), balanced {after.min():,} to {after.max():,} "
        f"(spread {after.std():,.1f}); even is {before.mean():,.1f}"
    }
    if not balance.reached:
        facts["note"] = (
            f"the counts did not come within the limit of {balance.limit:,} a class; the nearest "
            "to it were taken"
        )
    return facts
