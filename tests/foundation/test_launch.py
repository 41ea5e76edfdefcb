"""What a launcher says in the environment, and which network leads to another host."""

import os
import signal

import pytest

from scorescope.cli.main import main
from scorescope.foundation import UserError, launch


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("names", [("WORLD_SIZE", "RANK"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")])
def test_only_the_first_of_several_processes_speaks(monkeypatch, names):
    assert not launch.is_launched()
    assert not launch.is_silent()
    count, rank = names
    monkeypatch.setenv(count, "2")
    monkeypatch.setenv(rank, "0")
    assert launch.is_launched()
    assert not launch.is_silent()
    monkeypatch.setenv(rank, "1")
    assert launch.is_silent()


def test_one_process_of_a_launcher_is_on_its_own(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    launch.join()
    assert launch.recorded(lambda: 3) == 3
    assert launch.may_speak(first_hand=False)
    assert launch.own_name() == ""


def test_a_process_of_a_job_speaks_unless_it_is_told_to_end_first(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(launch, "GRACE", 0.2)
    assert launch.may_speak(first_hand=True)
    with launch.ended_in_order():
        assert launch.may_speak(first_hand=False)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        assert not launch.may_speak(first_hand=False)
    assert launch.own_name().startswith("process 0 of 2 (host ")


def test_numbers_that_are_none_are_refused(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UserError, match="WORLD_SIZE is 'two'"):
        launch.is_launched()
    with pytest.raises(SystemExit) as left:
        main(["list", "data"])
    assert left.value.code == 2
    assert "WORLD_SIZE" in capsys.readouterr().err


def test_a_launcher_that_starts_one_process_of_several_is_pointed_out(monkeypatch, capsys):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(SystemExit) as left:
        main(["list", "data"])
    assert left.value.code == 0
    assert "started one process" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/proc/net"), reason="only Linux tells the address of an interface this way")
def test_interfaces_are_found_by_their_address():
    assert launch._interfaces("127.0.0.1") == ["lo"]
    assert launch._interfaces("192.0.2.77") == []


def test_an_interface_that_is_chosen_stays(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "mine")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    launch._choose_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "mine"
