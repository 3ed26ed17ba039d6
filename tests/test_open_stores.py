"""Stores by URL: every scheme, every way to get one wrong, and what the message says then."""

import subprocess
import sys
from pathlib import Path

import pytest

from acme_middleware.errors import StoreMisconfigured
from acme_middleware.stores import open_challenges, open_store
from acme_middleware.stores.challenges import ThumbprintChallengeSource, WebrootChallengeStore
from acme_middleware.stores.memory import MemoryChallengeStore, MemoryStore, shared_challenges, shared_store

THUMBPRINT = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"

both = pytest.mark.parametrize("opener", [open_store, open_challenges])


@pytest.mark.parametrize(
    ("where", "root"),
    [
        pytest.param("webroot:///var/www/site", "/var/www/site", id="a web root"),
        pytest.param("webroot:/var/www/site/", "/var/www/site", id="one slash"),
        pytest.param("WebRoot:///var/www", "/var/www", id="schemes have no case"),
        pytest.param("webroot:///var/www/my%20site", "/var/www/my site", id="percent-encoded"),
        pytest.param("file:///var/lib/acme", "/var/lib/acme/challenges", id="a state folder"),
        pytest.param(Path("/var/lib/acme"), "/var/lib/acme/challenges", id="a Path"),
        pytest.param(Path("/var/lib/100%20"), "/var/lib/100%20/challenges", id="a Path with a percent sign"),
    ],
)
def test_folders_of_tokens(where, root):
    opened = open_challenges(where)
    assert isinstance(opened, WebrootChallengeStore)
    assert str(opened.root) == root


@pytest.mark.parametrize("where", ["file:state", Path("state"), "file:./state"], ids=str)
def test_relative_folders_are_relative_to_where_we_are(where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_challenges(where).root == tmp_path / "state" / "challenges"
    open_store(where).put("lock/x", b"1")
    assert (tmp_path / "state").is_dir()


def test_a_state_folder_and_its_tokens_by_one_url(tmp_path):
    url = f"file://{tmp_path}/state"
    open_store(url).put("lock/x", b"1")
    open_challenges(url).present("token", "token.thumbprint", ttl=60)
    assert open_store(Path(tmp_path, "state")).get("lock/x").value == b"1"
    assert open_challenges(Path(tmp_path, "state")).key_authorization("token") == "token.thumbprint"


def test_memory_is_one_per_process():
    for url in ("memory:", "memory://"):
        assert open_store(url) is shared_store()
        assert open_challenges(url) is shared_challenges()


def test_objects_are_taken_as_they_are():
    store, challenges = MemoryStore(), MemoryChallengeStore()
    assert open_store(store) is store
    assert open_challenges(challenges) is challenges


def test_a_thumbprint_answers_every_token_and_takes_none():
    source = open_challenges(f"thumbprint:{THUMBPRINT}")
    assert isinstance(source, ThumbprintChallengeSource)
    assert source.key_authorization("any-token") == f"any-token.{THUMBPRINT}"
    assert source.blocking is False
    assert not hasattr(source, "present")


@pytest.mark.parametrize(
    "thumbprint",
    ["", THUMBPRINT[:-1], THUMBPRINT + "=", THUMBPRINT + "\n", THUMBPRINT.replace("_", "/"), "token." + THUMBPRINT],
    ids=["none", "too short", "padded", "with a newline", "plain base64", "a key authorization"],
)
def test_a_wrong_thumbprint_is_refused_at_construction(thumbprint):
    with pytest.raises(StoreMisconfigured, match="is no thumbprint") as caught:
        open_challenges(f"thumbprint:{thumbprint}")
    assert "43 letters" in caught.value.hint


@both
@pytest.mark.parametrize(
    ("where", "message", "hint"),
    [
        pytest.param("mongodb://user:secret@cache/0", "no store for mongodb:", "the known schemes are", id="an unknown scheme"),
        pytest.param("mailto:x", "no store for mailto:", "django:, file:", id="the known schemes are listed"),
        pytest.param("/var/lib/acme", "is a path, not a URL", "write file:/var/lib/acme", id="a path in a string"),
        pytest.param("./state", "is a path, not a URL", "write file:./state", id="a relative path"),
        pytest.param("", "no store for ''", "the known schemes are", id="empty"),
        pytest.param("C:\\acme", "no store for", "the known schemes are", id="a Windows path"),
        pytest.param("file://var/lib/acme", "names a host, 'var'", "file:///var/lib/acme", id="two slashes"),
        pytest.param("file:", "names no folder", "file:///var/lib", id="a scheme alone"),
        pytest.param("file://", "names no folder", "file:///var/lib", id="a scheme and slashes"),
        pytest.param("file:///a%00b", "names no folder", "file:///var/lib", id="a NUL"),
        pytest.param("memory:shared", "nothing may follow memory:", "one per process", id="something after memory:"),
        pytest.param(5, "an object of type int is not a", "pass an instance", id="a number"),
        pytest.param(None, "an object of type NoneType", "pass an instance", id="None"),
        pytest.param(MemoryStore, "the class MemoryStore is not a", "pass an instance", id="a class"),
    ],
)
def test_what_cannot_be_opened_says_why_and_what_to_write(opener, where, message, hint):
    with pytest.raises(StoreMisconfigured) as caught:
        opener(where)
    assert message in str(caught.value)
    assert hint in caught.value.hint
    assert "secret" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize("url", ["webroot:///var/www", f"thumbprint:{THUMBPRINT}"])
def test_tokens_only_is_not_enough_for_state(url):
    with pytest.raises(StoreMisconfigured, match="keeps tokens only") as caught:
        open_store(url)
    assert "ACME_CHALLENGE_STORE" in caught.value.hint


def test_a_store_of_tokens_is_no_store_of_state_and_the_other_way_round():
    with pytest.raises(StoreMisconfigured, match="has no get, put"):
        open_store(MemoryChallengeStore())
    with pytest.raises(StoreMisconfigured, match="has no blocking, key_authorization"):
        open_challenges(MemoryStore())


def test_a_missing_driver_is_named():
    # In a process where Django cannot be imported, whatever is installed here.
    script = """
import sys
sys.modules["django"] = None
from acme_middleware.errors import StoreMisconfigured
from acme_middleware.stores import open_challenges, open_store
for opener in (open_store, open_challenges):
    try:
        opener("django:")
    except StoreMisconfigured as error:
        print(error, "|", error.hint)
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, timeout=30, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("the store django: needs django") for line in lines)
    assert all("pip install 'acme-middleware[django]'" in line for line in lines)


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    """Another package on the path, with entry points for two schemes; one cannot be imported."""
    (tmp_path / "their_store.py").write_text(
        "from acme_middleware.stores.memory import MemoryChallengeStore, MemoryStore\n"
        "def challenges(url):\n    made = MemoryChallengeStore()\n    made.url = url\n    return made\n"
        "def store(url):\n    made = MemoryStore()\n    made.url = url\n    return made\n"
    )
    metadata = tmp_path / "their_store-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-store\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[acme_middleware.challenge_stores]\netcd = their_store:challenges\nbroken = their_missing:challenges\n"
        "[acme_middleware.stores]\netcd = their_store:store\nbroken = their_missing:store\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("their_store", None)


@both
def test_another_package_can_add_a_scheme(opener, third_party):
    assert opener("etcd://user:secret@host/prefix").url == "etcd://user:secret@host/prefix"


@both
def test_added_schemes_are_listed_and_a_broken_one_names_its_package(opener, third_party):
    with pytest.raises(StoreMisconfigured) as caught:
        opener("nothing:")
    assert "etcd:" in caught.value.hint
    with pytest.raises(StoreMisconfigured, match="broken: cannot be loaded: No module named 'their_missing'") as caught:
        opener("broken:")
    assert "their_missing" in caught.value.hint


def test_home_folder_is_the_same_for_state_and_tokens(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store("file:~/acme").path == tmp_path / "acme"
    assert open_challenges("file:~/acme").root == tmp_path / "acme" / "challenges"
