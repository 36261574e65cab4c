"""The description of the HTTP interface, /openapi.json, held against a node: schemathesis makes requests out of it, allowed ones and
forbidden ones, and compares the answers with what the description promises. What it sends and expects stands in schemathesis.toml.
"""

import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.redraft_only

HERE = pathlib.Path(__file__).parent


def test_a_node_answers_as_its_description_says(own_node, tmp_path):
    program = pathlib.Path(sys.executable).with_name("schemathesis")
    url = f"http://127.0.0.1:{own_node.port + 1000}/openapi.json"
    line = [program, "--config-file", HERE / "schemathesis.toml", "run", url, "--no-color"]
    # What is generated must not hang on the seed of Python's hashes.
    done = subprocess.run(line, capture_output=True, text=True, timeout=110, cwd=tmp_path, env=os.environ | {"PYTHONHASHSEED": "0"})
    assert done.returncode == 0, done.stdout + done.stderr
