import functools, os, sys, scapy.all, scapy.consts
from scapy.arch.linux import rtnetlink
system = os.environ.get("SCAPY_BPF", "FREEBSD")  # whose dialect /dev/bpf speaks; or NETBSD, OPENBSD, DARWIN
sys.modules["scapy.arch.bpf.pfroute"] = rtnetlink  # interfaces and routes: by rtnetlink, not by sysctl(3)
scapy.consts.LINUX, scapy.consts.__dict__[system] = False, True
from scapy.arch.bpf import supersocket as bpf
scapy.consts.LINUX, scapy.consts.__dict__[system] = True, False
conf, conf6 = scapy.all.conf, functools.partial(bpf.L3bpfSocket, filter="ip6")
conf.L2listen, conf.L2socket, conf.L3socket, conf.L3socket6 = bpf.L2bpfListenSocket, bpf.L2bpfSocket, bpf.L3bpfSocket, conf6
