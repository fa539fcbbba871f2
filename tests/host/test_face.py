import subprocess
import sys

import tinytorch


def test_every_public_name_is_there():
    for name in dir(tinytorch):
        assert getattr(tinytorch, name) is not None


def test_a_wrong_name_is_an_attribute_error():
    assert not hasattr(tinytorch, "no_such_name")


def test_importing_imports_nothing_heavy():
    code = "import sys, tinytorch; print({'numpy', 'tqdm', 'safetensors'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
