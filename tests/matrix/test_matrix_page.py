"""The steps of docs/frameworks/others.md, followed to the letter: only the folder and the address are others."""

import re
import subprocess

from matrix_frameworks import FRAMEWORKS, OTHERS, SHOWN_STORE
from matrix_surfaces import HERE
from serving import gunicorn

FOLDER = "/var/lib/acme-middleware"


def test_a_file_that_is_put_by_hand_is_answered_as_the_page_says(tmp_path):
    console = [text for text in re.findall(r"```console\n(.*?)```", OTHERS.read_text(), re.DOTALL) if "curl" in text]
    (lines,) = [[line.strip() for line in text.splitlines() if line.strip()] for text in console]
    commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    printed = [line for line in lines if not line.startswith("$ ")]
    state = tmp_path / "state"
    framework = FRAMEWORKS["Bottle"]
    framework.write(tmp_path, SHOWN_STORE.replace(FOLDER, str(state)))
    with gunicorn(framework.target, env={"PYTHONPATH": f"{tmp_path}:{HERE.parent.parent}:{HERE / 'apps'}"}) as server:
        script = "\n".join(commands).replace(FOLDER, str(state)).replace("example.com", f"127.0.0.1:{server.port}")
        shown = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=True, timeout=30).stdout
    assert shown.splitlines() == printed == ["it-works"]
