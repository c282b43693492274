"""scapy, made to think that it runs on a BSD: prints its constants and walks a buffer with its own code, as JSON.

usage: scapy_as.py WHEEL SHA256 SYSTEM [BUFFER]
"""
import hashlib
import importlib
import json
import sys
import types

wheel, sha256, system = sys.argv[1:4]
with open(wheel, "rb") as file:
    if hashlib.sha256(file.read()).hexdigest() != sha256:
        sys.exit(wheel + ": not the file whose checksum is pinned")
sys.path.insert(0, wheel)

import scapy.arch
import scapy.consts

if not scapy.__file__.startswith(wheel):
    sys.exit("scapy is imported from " + scapy.__file__)
# The interfaces' list comes from sysctl(3), which Linux has not; nothing here uses it.
routes = types.ModuleType("scapy.arch.bpf.pfroute")
routes.read_routes = routes.read_routes6 = routes._get_if_list = dict
sys.modules["scapy.arch.bpf.pfroute"] = routes
names = {"freebsd": "FREEBSD", "netbsd": "NETBSD", "openbsd": "OPENBSD", "macos": "DARWIN"}
for name in ["LINUX", *names.values()]:
    setattr(scapy.consts, name, name == names[system])

from scapy.arch.bpf import consts, supersocket

data = importlib.reload(importlib.import_module("scapy.data"))
socket = supersocket.L2bpfListenSocket.__new__(supersocket.L2bpfListenSocket)
socket.received_frames = []
socket.guessed_cls = None
socket.closed = True
if len(sys.argv) > 4:
    with open(sys.argv[4], "rb") as file:
        socket.extract_frames(file.read())
header = supersocket.bpf_hdr
print(json.dumps({
    "requests": {name: value for name, value in vars(consts).items() if name.startswith("BIOC")},
    "alignment": supersocket.BPF_ALIGNMENT,
    "sizeof": supersocket._bpf_hdr_len,
    "offsets": {name: getattr(header, name).offset for name, _ in header._fields_},
    "dlt": {name: value for name, value in vars(data).items() if name.startswith("DLT_")},
    "frames": [[frame.hex(), time] for _, frame, time in socket.received_frames],
}))
