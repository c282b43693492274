//! Our listing, C and decimal forms against those of the tcpdump that is installed, byte for byte.

use std::process::Command;

use bpfdev_core::cbpf::text::{Form, read, write};
use bpfdev_core::cbpf::{FREEBSD, LINUX, NETBSD, validate};
use expressions::{EXPRESSIONS, loops};

mod expressions;

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
    assert!(EXPRESSIONS.len() >= 60);
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
        let loops = loops(expression);
        for rules in [&FREEBSD, &NETBSD, &LINUX] {
            let verdict = validate(&insns, rules).map(|program| program.len());
            assert_eq!(verdict.is_err(), loops, "'{expression}' on {}: {verdict:?}", rules.name);
        }
    }
}
