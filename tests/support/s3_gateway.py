"""A real S3 gateway on the loopback for tests: Ceph's radosgw before one monitor and one OSD that keeps its
objects in memory.

The programs are those of Debian's packages ceph-mon, ceph-osd and radosgw (16.2). Everything is below one
directory, whose path must be short (sockets are in it); the daemons are ended by process.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

PACKAGES = "ceph-mon ceph-osd radosgw"
PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
START_S = 90.0
KEYS = {"AWS_ACCESS_KEY_ID": "painter", "AWS_SECRET_ACCESS_KEY": "of-a-test-on-the-loopback"}
ALL_CAPS = ("--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *")
# Every daemon has a key, since radosgw does not start with `auth ... required = none`:
# "get_initial_auth_request returned -13".
CONFIG = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{port}]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = true
keyring = {root}/keyring
mon data = {root}/mon
mon data avail crit = 0
mon allow pool size one = true
osd data = {root}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
run dir = {root}/run
admin socket = {root}/run/$name.sock
log file = {root}/log/$name.log
pid file =
rgw data = {root}/rgw
"""


class Gateway:
    """The gateway; `kill` and `start` take it away and bring it back with its objects."""

    def __init__(self, root: Path) -> None:
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
        assert not missing, f"{', '.join(missing)}: not here; apt-get install {PACKAGES}"
        self._root, self._port = root, _free_port()
        self._conf = root / "ceph.conf"
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._radosgw: subprocess.Popen[bytes] | None = None
        self.variables = KEYS | {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}", "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip
        """What leads s3:// here, as a user sets it."""
        for name in ("mon", "osd", "run", "log", "rgw"):
            (root / name).mkdir(parents=True)
        try:
            self._make_store()
            self.start()
        except BaseException:
            self.end()
            raise

    def _make_store(self) -> None:
        root, fsid, port = self._root, str(uuid.uuid4()), _free_port()
        self._conf.write_text(CONFIG.format(fsid=fsid, port=port, root=root))
        keyring, monmap = root / "keyring", root / "monmap"
        _call(
            "ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"
        )
        for name in ("client.admin", "client.rgw", "osd.0"):
            _call("ceph-authtool", keyring, "--gen-key", "-n", name, *ALL_CAPS)
        _call("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{port}]", monmap)
        self._ceph("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        self._launch("ceph-mon", "-i", "a")
        osd = str(uuid.uuid4())
        self._ceph("ceph", "--connect-timeout", "60", "osd", "new", osd)
        self._ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._launch("ceph-osd", "-i", "0")
        user = ("--uid=test", "--display-name=test", f"--access-key={KEYS['AWS_ACCESS_KEY_ID']}")
        self._ceph("radosgw-admin", "user", "create", *user, f"--secret={KEYS['AWS_SECRET_ACCESS_KEY']}")

    def _ceph(self, program: str, *words: object) -> None:
        _call(program, "-c", self._conf, *words)

    def _launch(self, program: str, *words: str) -> subprocess.Popen[bytes]:
        with open(self._root / "log" / f"{program}.out", "ab") as log:
            process = subprocess.Popen([program, "-f", "-c", self._conf, *words], stdout=log, stderr=log)
        self._daemons.append(process)
        return process

    def start(self) -> None:
        """Until it answers."""
        frontend = f"--rgw-frontends=beast endpoint=127.0.0.1:{self._port}"
        self._radosgw = self._launch("radosgw", "-n", "client.rgw", frontend)
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self._radosgw.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.variables["AWS_ENDPOINT_URL"], timeout=5).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """Nothing listens any more, as when a store's machine is gone."""
        assert self._radosgw is not None
        self._radosgw.kill()
        self._radosgw.wait()

    def freeze(self) -> None:
        """It takes connections and says nothing."""
        assert self._radosgw is not None
        self._radosgw.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        assert self._radosgw is not None
        self._radosgw.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """What the daemons said last."""
        return "\n".join(path.read_text()[-1500:] for path in (self._root / "log").iterdir())

    def end(self) -> None:
        """Ends all daemons."""
        for process in self._daemons:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _call(*words: object) -> None:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=START_S, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
