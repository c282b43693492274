//! Our listing, C and decimal forms against those of the tcpdump that is installed, byte for byte.

use std::process::Command;

use bpfdev_core::cbpf::text::{Form, read, write};
use bpfdev_core::cbpf::{FREEBSD, LINUX, NETBSD, validate};

const EXPRESSIONS: &[&str] = &[
    "",
    "ip",
    "ip6",
    "arp",
    "rarp",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "tcp and dst port 7070",
    "port 53",
    "src port 67 or src port 68",
    "portrange 1000-2000",
    "host 10.0.0.1",
    "src host 10.0.0.1 and dst host 10.0.0.2",
    "host 2001:db8::1",
    "net 192.168.0.0/16",
    "net 2001:db8::/32",
    "ether host 00:11:22:33:44:55",
    "ether src 00:11:22:33:44:55",
    "ether proto 0x8033",
    "ether broadcast",
    "ether multicast",
    "ip multicast",
    "ip6 multicast",
    "vlan",
    "vlan 5",
    "vlan and tcp port 80",
    "vlan 5 and vlan 6 and ip",
    "mpls 1000",
    "pppoes",
    "pppoes and ip",
    "less 100",
    "greater 1000",
    "len == 60",
    "ip[8] = 64",
    "ip[6:2] & 0x1fff = 0",
    "ip[2:2] - ((ip[0] & 0xf) << 2) > 40",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)",
    "ether[0] & 1 = 0 and ip[16] >= 224",
    "ether[12:2] * ether[3] = 3",
    "ether[12:2] / ether[3] = 3",
    "ether[12:2] % 7 = 3",
    "ether[12:2] ^ ether[3] = 3",
    "(ether[12:2] | 5) = 7",
    "ip[ip[9]:2] = 0x1234",
    "-ip[0] > 5",
    "ether[ether[0] + ether[1]:4] << 3 >> ether[2] = len",
    "udp[8:4] = 0xffffffff",
    "icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply",
    "not ip and not arp",
    "ip proto 47 or ip6 proto 47",
    "ip protochain 6",
    "isis",
    "stp",
    "atalk",
    "llc",
    "iso and not stp",
    "sctp port 5060",
    "outbound",
    "ifindex 2",
    "geneve",
    "tcp and (host 10.0.0.1 or host 10.0.0.2 or host 10.0.0.3) and not port 22",
];

/// What tcpdump prints for an expression in one of its forms. The README's test command installs tcpdump.
fn tcpdump(form: &str, expression: &str) -> String {
    let output = Command::new("tcpdump")
        .args([form, "-s", "262144", "-y", "EN10MB", "--", expression])
        .output()
        .expect("tcpdump must be installed: apt-get install tcpdump");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tcpdump {form} '{expression}': {stderr}");
    String::from_utf8(output.stdout).expect("tcpdump prints text")
}

#[test]
fn every_form_is_tcpdumps_own() {
    assert!(EXPRESSIONS.len() >= 40);
    for expression in EXPRESSIONS {
        let decimal = tcpdump("-ddd", expression);
        let insns = read(&decimal).unwrap_or_else(|error| panic!("-ddd '{expression}': {error}\n{decimal}"));
        for (option, form) in [("-d", Form::Listing), ("-dd", Form::C), ("-ddd", Form::Decimal)] {
            let theirs = tcpdump(option, expression);
            assert_eq!(write(&insns, form), theirs, "tcpdump {option} '{expression}'");
            // A listing does not show k where it means nothing, and libpcap leaves junk there.
            let back = read(&theirs).map(|back| write(&back, form));
            assert_eq!(back.as_ref(), Ok(&theirs), "tcpdump {option} '{expression}' read back");
            if form != Form::Listing {
                assert_eq!(read(&theirs).as_ref(), Ok(&insns), "tcpdump {option} '{expression}' read");
            }
        }
        // protochain loops backwards: libpcap runs it itself, no kernel takes it.
        let loops = expression.contains("protochain");
        for rules in [&FREEBSD, &NETBSD, &LINUX] {
            let verdict = validate(&insns, rules).map(|program| program.len());
            assert_eq!(verdict.is_err(), loops, "'{expression}' on {}: {verdict:?}", rules.name);
        }
    }
}
