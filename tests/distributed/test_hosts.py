"""Two hosts, as two network namespaces joined by a cable: the example of docs/scaling.md."""

import contextlib
import os
import shutil
import subprocess
import sys

import pytest
from PIL import Image, ImageChops
from tests.distributed.launching import SECONDS, own_lines

from scorescope.cli.main import main

HOSTS = {"scorescope-a": "10.219.0.1", "scorescope-b": "10.219.0.2"}


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts():
    """The names of two network namespaces that reach one another and nothing else."""
    if shutil.which("ip") is None:
        pytest.skip("no ip command (Debian: iproute2), so no network namespaces")
    first, second = HOSTS
    with contextlib.ExitStack() as made:
        try:
            for name in HOSTS:
                ip("netns", "add", name)
                made.callback(ip, "netns", "delete", name)
            ip("link", "add", "cable", "netns", first, "type", "veth", "peer", "name", "cable", "netns", second)
            for name, address in HOSTS.items():
                ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
                for device in ("cable", "lo"):
                    ip("-n", name, "link", "set", device, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces are not permitted here: {error.stderr.decode().strip()}")
        yield list(HOSTS)


@pytest.mark.slow
def test_two_hosts_find_what_one_process_finds(hosts, tmp_path, monkeypatch):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SCORESCOPE_CACHE": str(tmp_path / "cache")}
    monkeypatch.setenv("SCORESCOPE_CACHE", environment["SCORESCOPE_CACHE"])
    words = ["denoise", "--denoiser", "pspc-square", "--data", "digits", "--sigma", "0.5", "--out"]
    with pytest.raises(SystemExit):
        main([*words, str(tmp_path / "one.png")])
    running = []
    for node, name in enumerate(hosts):
        nodes = ["--nnodes", "2", "--node-rank", str(node), "--nproc-per-node", "1"]
        meeting = ["--master-addr", HOSTS[hosts[0]], "--master-port", "29400"]
        launcher = [sys.executable, "-m", "torch.distributed.run", *nodes, *meeting, "-m", "scorescope"]
        running.append(
            subprocess.Popen(
                ["ip", "netns", "exec", name, *launcher, *words, str(tmp_path / f"{name}.png")],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    said = [process.communicate(timeout=SECONDS) for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert "PSNR" in said[0][0]
    assert said[1][0] == ""
    assert own_lines(said[0][1]) == []
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["one.png", "scorescope-a.png"]
    pictures = [Image.open(tmp_path / name).convert("RGB") for name in ("one.png", "scorescope-a.png")]
    difference = ImageChops.difference(*pictures)
    assert max(high for _, high in difference.getextrema()) <= 1  # a grey level, where rounding falls the other way
