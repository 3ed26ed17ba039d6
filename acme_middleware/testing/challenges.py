"""The contract of a challenge store, as tests."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from acme_middleware.stores.base import FETCHES_KEPT, ChallengeStore, Fetch, FetchLog
from acme_middleware.testing.threads import together

Reopen = Callable[[], ChallengeStore]

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"  # noqa: S105 - public: anybody may fetch it
OTHER = TOKEN.swapcase()
"""The same letters in the other case: a file system or a collation that folds case mixes them up."""
THUMBPRINT = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
LONG = 3600.0


def answer(token: str) -> str:
    """The key authorization of a token."""
    return f"{token}.{THUMBPRINT}"


class ChallengeStoreContract:
    """
    What every :class:`~acme_middleware.stores.base.ChallengeStore` does.

    A subclass provides the fixtures ``challenges`` (an empty store) and ``reopen`` (a function that opens another handle on
    the same data), and :meth:`held`. A back end whose clock counts in whole seconds raises ``short`` to 1 or 2.
    """

    short = 0.2
    """A time to live, in seconds, that the tests wait for."""
    patience = 5.0
    """How much later than ``short`` a token may vanish."""

    @pytest.fixture
    def challenges(self) -> ChallengeStore:
        """An empty challenge store."""
        raise NotImplementedError("provide a fixture `challenges` that returns an empty challenge store")

    @pytest.fixture
    def reopen(self) -> Reopen:
        """A function that opens another handle on the data of ``challenges``."""
        raise NotImplementedError("provide a fixture `reopen`: a function that opens another handle on the same data")

    def held(self, challenges: ChallengeStore) -> set[str]:
        """The tokens that the back end keeps, the expired ones too: a row or file that is still there."""
        raise NotImplementedError("provide a method `held` that lists every token kept, expired or not")

    def expire(self, challenges: ChallengeStore, token: str) -> None:
        """Wait until a token that was presented for ``short`` seconds is gone."""
        deadline = time.monotonic() + self.short + self.patience
        while challenges.key_authorization(token) is not None:
            assert time.monotonic() < deadline, f"a token with a ttl of {self.short} s is still answered"
            time.sleep(0.02)

    def test_it_says_whether_a_look_up_may_block(self, challenges: ChallengeStore) -> None:
        assert isinstance(challenges.blocking, bool)

    def test_an_unknown_token_is_none(self, challenges: ChallengeStore) -> None:
        assert challenges.key_authorization(TOKEN) is None

    def test_a_presented_token_is_seen_at_once_by_every_handle(self, challenges: ChallengeStore, reopen: Reopen) -> None:
        before = reopen()
        assert before.key_authorization(TOKEN) is None
        challenges.present(TOKEN, answer(TOKEN), ttl=LONG)
        for handle in (challenges, before, reopen()):
            assert handle.key_authorization(TOKEN) == answer(TOKEN)

    def test_a_token_is_answered_again_and_again(self, challenges: ChallengeStore) -> None:
        challenges.present(TOKEN, answer(TOKEN), ttl=LONG)
        assert [challenges.key_authorization(TOKEN) for _ in range(20)] == [answer(TOKEN)] * 20

    def test_tokens_that_differ_in_case_are_two(self, challenges: ChallengeStore) -> None:
        challenges.present(TOKEN, answer(TOKEN), ttl=LONG)
        assert challenges.key_authorization(OTHER) is None
        challenges.present(OTHER, answer(OTHER), ttl=LONG)
        assert challenges.key_authorization(TOKEN) == answer(TOKEN)
        assert challenges.key_authorization(OTHER) == answer(OTHER)
        challenges.remove(TOKEN)
        assert challenges.key_authorization(TOKEN) is None
        assert challenges.key_authorization(OTHER) == answer(OTHER)

    @pytest.mark.parametrize(
        "token",
        [
            pytest.param("a", id="one letter"),
            pytest.param("-_-", id="no letter or digit"),
            pytest.param("-rf", id="a dash first"),
            pytest.param("A" * 128, id="as long as tokens get"),
        ],
    )
    def test_any_well_formed_token_will_do(self, challenges: ChallengeStore, token: str) -> None:
        challenges.present(token, answer(token), ttl=LONG)
        assert challenges.key_authorization(token) == answer(token)
        challenges.remove(token)
        assert challenges.key_authorization(token) is None

    def test_presenting_again_replaces_the_answer(self, challenges: ChallengeStore) -> None:
        challenges.present(TOKEN, TOKEN + ".of-an-older-account", ttl=LONG)
        challenges.present(TOKEN, answer(TOKEN), ttl=LONG)
        assert challenges.key_authorization(TOKEN) == answer(TOKEN)

    def test_presenting_again_renews_the_time_to_live(self, challenges: ChallengeStore) -> None:
        challenges.present(OTHER, answer(OTHER), ttl=self.short)
        challenges.present(TOKEN, answer(TOKEN), ttl=self.short)
        challenges.present(TOKEN, answer(TOKEN), ttl=LONG)
        self.expire(challenges, OTHER)
        assert challenges.key_authorization(TOKEN) == answer(TOKEN)

    def test_removing_takes_one_token_and_is_seen_at_once(self, challenges: ChallengeStore, reopen: Reopen) -> None:
        challenges.present(TOKEN, answer(TOKEN), ttl=LONG)
        challenges.present("another", answer("another"), ttl=LONG)
        reopen().remove(TOKEN)
        for handle in (challenges, reopen()):
            assert handle.key_authorization(TOKEN) is None
            assert handle.key_authorization("another") == answer("another")
        assert self.held(challenges) == {"another"}

    def test_removing_an_absent_token_is_no_error(self, challenges: ChallengeStore) -> None:
        challenges.present("another", answer("another"), ttl=LONG)
        challenges.remove(TOKEN)
        challenges.remove(TOKEN)
        assert challenges.key_authorization("another") == answer("another")

    def test_a_token_past_its_time_to_live_is_unknown(self, challenges: ChallengeStore, reopen: Reopen) -> None:
        challenges.present("another", answer("another"), ttl=LONG)
        start = time.monotonic()
        challenges.present(TOKEN, answer(TOKEN), ttl=self.short)
        self.expire(challenges, TOKEN)
        assert time.monotonic() - start >= self.short * 0.5
        assert reopen().key_authorization(TOKEN) is None
        assert challenges.key_authorization("another") == answer("another")

    def test_presenting_sweeps_what_has_expired_and_nothing_else(self, challenges: ChallengeStore) -> None:
        challenges.present("killed-1", answer("killed-1"), ttl=self.short)
        challenges.present("killed-2", answer("killed-2"), ttl=self.short)
        challenges.present("another", answer("another"), ttl=LONG)
        self.expire(challenges, "killed-1")
        self.expire(challenges, "killed-2")
        challenges.present(TOKEN, answer(TOKEN), ttl=LONG)
        assert self.held(challenges) == {"another", TOKEN}

    def test_a_hundred_names_have_their_tokens_at_once(self, challenges: ChallengeStore, reopen: Reopen) -> None:
        tokens = [f"token-{number:03}" for number in range(100)]
        for token in tokens:
            challenges.present(token, answer(token), ttl=LONG)
        handle = reopen()
        assert [handle.key_authorization(token) for token in tokens] == [answer(token) for token in tokens]
        for token in tokens:
            challenges.remove(token)
        assert [handle.key_authorization(token) for token in tokens] == [None] * 100
        assert self.held(challenges) == set()

    def test_threads_present_fetch_and_remove_without_disturbing_each_other(
        self, challenges: ChallengeStore, reopen: Reopen
    ) -> None:
        challenges.present("steady", answer("steady"), ttl=LONG)

        def issue(worker: int) -> Callable[[], None]:
            def call() -> None:
                handle = reopen()
                for number in range(5):
                    token = f"worker-{worker}-{number}"
                    handle.present(token, answer(token), ttl=LONG)
                    assert handle.key_authorization(token) == answer(token)
                    assert handle.key_authorization("steady") == answer("steady")
                    handle.remove(token)
                    assert handle.key_authorization(token) is None

            return call

        together([issue(worker) for worker in range(4)])
        assert self.held(challenges) == {"steady"}


class FetchLogContract:
    """
    What a challenge store that is also a :class:`~acme_middleware.stores.base.FetchLog` does.

    Inherit it beside :class:`ChallengeStoreContract`, whose fixtures it uses.
    """

    @pytest.fixture
    def log(self, challenges: ChallengeStore) -> FetchLog:
        """The challenge store, as the log that it is."""
        assert isinstance(challenges, FetchLog)
        return challenges

    def test_fetches_are_listed_oldest_first_for_each_token(self, challenges: ChallengeStore, log: FetchLog) -> None:
        challenges.present(TOKEN, answer(TOKEN), ttl=LONG)
        challenges.present("another", answer("another"), ttl=LONG)
        ours = [Fetch(1_700_000_000.25 + at, f"192.0.2.{at}", "a CA") for at in range(3)]
        for fetch in ours:
            log.log_fetch(TOKEN, fetch)
        log.log_fetch("another", Fetch(1_700_000_000.5, "2001:db8::1", ""))
        assert log.fetches(TOKEN) == ours
        assert log.fetches("another") == [Fetch(1_700_000_000.5, "2001:db8::1", "")]

    def test_a_token_that_nobody_fetched_has_none(self, challenges: ChallengeStore, log: FetchLog) -> None:
        challenges.present(TOKEN, answer(TOKEN), ttl=LONG)
        assert log.fetches(TOKEN) == []
        assert log.fetches("never-presented") == []

    def test_a_bot_that_fetches_for_ever_fills_nothing(self, challenges: ChallengeStore, log: FetchLog) -> None:
        challenges.present(TOKEN, answer(TOKEN), ttl=LONG)
        made = [Fetch(1_700_000_000.0 + at, "192.0.2.1", "a bot") for at in range(FETCHES_KEPT + 10)]
        for fetch in made:
            log.log_fetch(TOKEN, fetch)
        kept = log.fetches(TOKEN)
        assert len(kept) == FETCHES_KEPT
        assert kept == [fetch for fetch in made if fetch in kept]

    def test_fetches_go_with_their_token(self, challenges: ChallengeStore, log: FetchLog) -> None:
        challenges.present(TOKEN, answer(TOKEN), ttl=LONG)
        log.log_fetch(TOKEN, Fetch(1_700_000_000.0, "192.0.2.1", "a CA"))
        challenges.remove(TOKEN)
        assert log.fetches(TOKEN) == []

    def test_a_fetch_logged_after_its_token_went_is_not_kept(self, challenges: ChallengeStore, log: FetchLog) -> None:
        challenges.present(TOKEN, answer(TOKEN), ttl=LONG)
        challenges.remove(TOKEN)
        log.log_fetch(TOKEN, Fetch(1_700_000_000.0, "192.0.2.1", "a CA"))
        assert log.fetches(TOKEN) == []
