"""A request that gets no guesses: the status of its answer, and a sentence."""


class Refused(Exception):  # noqa: N818 — an answer to a client, not a fault of the server
    """Answered as `{"error": sentence}` with a status.

    closes: the connection is closed, since the rest of the request is not read. retry_after:
    seconds after which another try may do.
    """

    def __init__(
        self, status: int, sentence: str, *, closes: bool = False, retry_after: int | None = None
    ) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence
        self.closes, self.retry_after = closes, retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Further headers of the answer."""
        headers = {"connection": "close"} if self.closes else {}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        return headers


def unavailable(sentence: str, retry_after: int = 1) -> Refused:
    """503: not now. retry_after: seconds."""
    return Refused(503, sentence, retry_after=retry_after)
