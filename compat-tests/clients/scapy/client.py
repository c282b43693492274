"""What a person does with scapy, by its own functions; on /dev/bpf by the import of scapy_bpf, and otherwise as on a BSD.

usage: client.py sniff INTERFACE [FILTER]       prints each packet: its time, and its octets in hexadecimal
       client.py ask INTERFACE ADDRESS ADDRESS6 TCP UDP CLOSED OCTETS
                                                sends, and prints the answers of the host with these addresses, of which TCP
                                                and UDP are open ports and CLOSED is not
       client.py answer INTERFACE ADDRESS       answers ARP and echo requests for an address that nobody has

The first and the last end with their input; sniff then prints what BIOCGSTATS and BIOCGBLEN say.
"""
import sys

import scapy_bpf
from scapy.all import *

conf.verb = 0
what, interface, *arguments = sys.argv[1:]
conf.iface = interface


def say(*words):
    print(*words, flush=True)


def sniffed():
    packet_filter = arguments[0] if arguments else None
    socket = conf.L2listen(iface=interface, filter=packet_filter)
    sniffer = AsyncSniffer(
        opened_socket=socket, store=False, started_callback=lambda: say("open"),
        prn=lambda packet: say(f"{float(packet.time):.9f}", packet.original.hex()))
    sniffer.start()
    sys.stdin.read()
    sniffer.stop(join=True)
    received, dropped = socket.get_stats()
    say("received", received, "dropped", dropped, "buffer", socket.get_blen())


def asked():
    address, address6, tcp, udp, closed, octets = arguments
    tcp, udp, closed, octets = int(tcp), int(udp), int(closed), bytes.fromhex(octets)
    frame = srp1(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst=address), timeout=10)
    say("arp", frame[ARP].hwsrc)
    reply = srp1(Ether() / IP(dst=address) / ICMP(id=1, seq=2) / octets, timeout=10)
    say("ping", reply[ICMP].type, raw(reply[ICMP].payload).hex())
    reply = sr1(IPv6(dst=address6) / ICMPv6EchoRequest(data=octets), timeout=10)
    say("ping6", reply[ICMPv6EchoReply].type, reply[ICMPv6EchoReply].data.hex())
    reply = sr1(IP(dst=address) / TCP(sport=50_010, dport=tcp, flags="S", seq=1), timeout=10)
    say("open", reply[TCP].flags, reply[TCP].ack)
    reply = sr1(IP(dst=address) / TCP(sport=50_010, dport=closed, flags="S", seq=1), timeout=10)
    say("closed", reply[TCP].flags, reply[TCP].ack)
    reply = sr1(IP(dst=address) / UDP(sport=50_010, dport=closed) / octets, timeout=10)
    say("unreachable", reply[ICMP].type, reply[ICMP].code)
    answered, unanswered = sr(IP(dst=address) / ICMP(id=3, seq=range(50)), timeout=10)
    say("fifty", len(answered), len(unanswered))
    sendp([Ether() / IP(dst=address) / UDP(sport=50_010, dport=udp) / octets] * 20)
    say("sent")


def answered():
    mac = get_if_hwaddr(interface)
    arp = ARP_am(iface=interface, IP_addr=arguments[0], ARP_addr=mac)
    arp(bg=True)
    ICMPEcho_am(iface=interface, filter=f"icmp and dst host {arguments[0]}")(bg=True)
    say("open")
    sys.stdin.read()


{"sniff": sniffed, "ask": asked, "answer": answered}[what]()
