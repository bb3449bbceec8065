import platform

import pytest
import torch

from pipeline.models.process import limit_threads, tune


def test_glibc_takes_every_setting_and_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tune() == (platform.libc_ver()[0] == "glibc")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    assert tune() is False


def test_threads_of_a_model_call_can_be_limited() -> None:
    before = torch.get_num_threads()
    try:
        limit_threads(1)
        assert torch.get_num_threads() == 1
    finally:
        limit_threads(before)
