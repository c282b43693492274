//! Where a capture's filter comes from.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use anyhow::Context;
use bpfdev_core::cbpf::{self, Insn, Program, Rules, code, text};
use bpfdev_core::linktype::Linktype;

/// The program of `--ddd FILE` (any of tcpdump's three forms), or of an expression; `None` without either.
pub(super) fn program(
    file: Option<&Path>,
    expression: &[String],
    linktype: Linktype,
    snaplen: u32,
    rules: &'static Rules,
) -> anyhow::Result<Option<Program>> {
    let insns = match file {
        Some(file) => {
            let name = file.display();
            let text = if file == Path::new("-") {
                let mut text = String::new();
                io::stdin().read_to_string(&mut text).map(|_| text)
            } else {
                fs::read_to_string(file)
            };
            let text = text.with_context(|| format!("cannot read the program {name}"))?;
            text::read(&text).with_context(|| format!("{name} is no program as tcpdump -ddd prints it"))?
        }
        None if expression.is_empty() => return Ok(None),
        None => compile(&expression.join(" "), linktype, snaplen)?,
    };
    cbpf::validate(&insns, rules).map(Some).context("the filter is not valid")
}

/// The program that keeps `snaplen` bytes of every packet.
pub(super) fn keep(snaplen: u32, rules: &'static Rules) -> anyhow::Result<Program> {
    cbpf::validate(&[Insn::stmt(code::RET_K, snaplen)], rules).context("the filter is not valid")
}

/// Compiles an expression by libpcap, for packets of this link type.
#[cfg(feature = "expr")]
fn compile(expression: &str, linktype: Linktype, snaplen: u32) -> anyhow::Result<Vec<Insn>> {
    Ok(crate::expr::compile(expression, linktype, snaplen)?)
}

#[cfg(not(feature = "expr"))]
fn compile(expression: &str, _: Linktype, _: u32) -> anyhow::Result<Vec<Insn>> {
    anyhow::bail!(crate::cli::UsageError(format!(
        "expressions are compiled by libpcap, and this bpfdev is built without the feature expr: give the program \
         instead, tcpdump -ddd '{expression}' | bpfdev capture --ddd - …"
    )))
}

/// Names of link types, without DLT_, and what tcpdump calls them.
const NAMES: &[(&str, Linktype, &str)] = &[
    ("NULL", Linktype::NULL, "BSD loopback"),
    ("EN10MB", Linktype::EN10MB, "Ethernet"),
    ("SLIP", Linktype::SLIP, "SLIP"),
    ("PPP", Linktype::PPP, "PPP"),
    ("FDDI", Linktype::FDDI, "FDDI"),
    ("RAW", Linktype::RAW, "Raw IP"),
    ("LOOP", Linktype::LOOP, "OpenBSD loopback"),
];

/// A link type by its name, with or without DLT_, or its number.
pub(super) fn linktype(name: &str) -> Result<Linktype, String> {
    let upper = name.to_uppercase();
    let short = upper.strip_prefix("DLT_").unwrap_or(&upper);
    let known = NAMES.iter().find(|(name, ..)| *name == short).map(|(_, linktype, _)| *linktype);
    known.or_else(|| name.parse().ok().map(Linktype)).ok_or_else(|| {
        let names: Vec<_> = NAMES.iter().map(|(name, ..)| *name).collect();
        format!("no such link type; there are {}, or the number of any", names.join(", "))
    })
}

/// `EN10MB (Ethernet)`.
pub(super) fn describe(linktype: Linktype) -> String {
    match NAMES.iter().find(|(_, known, _)| *known == linktype) {
        Some((name, _, words)) => format!("{name} ({words})"),
        None => format!("{}", linktype.0),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn link_types_go_by_name_and_number() {
        for (name, number) in [("EN10MB", 1), ("dlt_raw", 12), ("null", 0), ("127", 127)] {
            assert_eq!(linktype(name), Ok(Linktype(number)), "{name}");
        }
        assert!(linktype("ETHER").unwrap_err().contains("EN10MB"));
    }

    #[test]
    #[cfg(not(feature = "expr"))]
    fn without_libpcap_an_expression_is_a_usage_error_that_names_the_way() {
        let error = program(None, &["arp".into()], Linktype::EN10MB, 1, &cbpf::LINUX_ABI).unwrap_err();
        assert!(error.is::<crate::cli::UsageError>(), "exit status 2");
        assert!(error.to_string().contains("tcpdump -ddd 'arp' | bpfdev capture --ddd -"), "{error}");
    }

    #[test]
    #[cfg(feature = "expr")]
    fn an_expression_becomes_the_program_tcpdump_prints() {
        let words = ["tcp".to_owned(), "and dst port 7070".to_owned()];
        let program = program(None, &words, Linktype::EN10MB, 262_144, &cbpf::LINUX_ABI).unwrap().unwrap();
        assert_eq!((program.len(), program.insns()[14].k), (16, 262_144));
        let error = super::program(None, &["tcp and".into()], Linktype::EN10MB, 1, &cbpf::LINUX_ABI);
        let text = format!("{:#}", error.unwrap_err());
        assert!(text.contains("syntax error") && !text.contains('\n'), "{text}");
    }
}
