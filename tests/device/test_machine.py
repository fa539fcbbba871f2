"""Machine code on a board that has none for it: MicroPython's unix port."""

from tests.device.test_kernels import on_the_board
from tests.sections import DAMAGED, made, write


def test_another_processors_code_is_refused(tmp_path):
    cases = [*DAMAGED, (made(), "is for architecture 4 and this board has ")]
    write(tmp_path / "models", cases)
    code = f"import check_machine as m; print(json.dumps(m.refusals({str(tmp_path / 'models')!r})))"
    said = on_the_board(code, "200k")
    assert len(said) == len(cases)
    for (_, sentence), found in zip(cases, said, strict=True):
        assert sentence in found and "send" in found
